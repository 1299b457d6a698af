"""The example notebook runs offline from its first cell to its last, and its model predicts."""

import json
from pathlib import Path

import pytest
from transformers import pipeline

NOTEBOOK = Path(__file__).parent.parent / "examples" / "own_csv.ipynb"


def cells(kind):
    return [cell for cell in json.loads(NOTEBOOK.read_text())["cells"] if cell["cell_type"] == kind]


def test_it_has_ten_numbered_cells_of_code_and_no_outputs():
    code, headings = cells("code"), ["".join(cell["source"]).splitlines()[0] for cell in cells("markdown")[1:]]
    assert len(code) == 10
    assert [heading.split(".")[0] for heading in headings] == [f"**{number}" for number in range(1, 11)]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
    assert "".join(code[0]["source"]).startswith("%pip install")


@pytest.mark.slow
def test_the_cells_run_in_their_order(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    names = {"__name__": "__main__"}
    for number, cell in enumerate(cells("code")[1:], 2):  # the first cell installs
        exec(compile("".join(cell["source"]), f"cell {number}", "exec"), names)

    parts = {part: set(rows["text"]) for part, rows in names["data"].items()}
    assert not parts["train"] & parts["validation"] and not parts["test"] & (parts["train"] | parts["validation"])
    assert names["scores"]["eval_macro_f1"] > 0.8
    assert names["report"].index.tolist() == ["billing", "login", "delivery", "crash", "security"]
    counted = names["count_labels"](names["data"]["test"])
    assert names["report"]["eval_pos"].to_dict() == dict(
        zip(counted.label_names, counted.positives.tolist(), strict=True)
    )
    first, second = names["predictions"]
    assert {"billing", "login"} <= set(first) and "security" in second and "billing" not in second
    assert "'security'" in capsys.readouterr().out

    tagger = pipeline("text-classification", "tickets", top_k=None)
    thresholds = dict(zip(tagger.model.config.id2label.values(), tagger.model.config.plm["thresholds"], strict=True))
    for text, expected in zip(names["texts"], names["predictions"], strict=True):
        (logits,) = tagger([text], function_to_apply="none")
        assert {each["label"] for each in logits if each["score"] >= thresholds[each["label"]]} == set(expected)
    assert "On the evaluation data, 160 rows" in Path("tickets/README.md").read_text()
