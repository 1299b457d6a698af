"""`hf-plm compare`: every method with the same seeds and rows, and a sentence that the figures bear out."""

import json
import math

import pytest
import scenarios
import torch
from datasets import Dataset
from matplotlib.figure import Figure

from hf_plm import PLMTrainingArguments
from hf_plm.command_line import main
from hf_plm.comparing import METHODS, TUNED, Comparison, compare_methods
from hf_plm.comparison_plot import plot_comparison


def comparison_of(**macro_f1):
    """Of rows with these values of every score."""
    scores = {
        row.replace("_", " "): dict.fromkeys(("macro_f1", "micro_f1", "map", "tail_f1"), values)
        for row, values in macro_f1.items()
    }
    return Comparison([1, 2, 3], scores, {"train": 100, "validation": 10, "test": 10}, 60.0)


def test_the_sentence_says_whether_the_lead_is_more_than_chance():
    sure = comparison_of(bce=[10.0, 20, 30], default=[12.0, 22.1, 32.0])
    assert sure.conclusion() == (
        "By macro-F1, 'default' suits these data best (22.0), and its lead over the next, 'bce' (by 2.0 ± 0.1), is "
        "more than chance."
    )
    unsure = comparison_of(bce=[10.0, 20, 30], default=[11.0, 22, 33])
    assert unsure.conclusion() == (
        "By macro-F1, 'default' suits these data best (22.0), but its lead may be chance over 'bce' (by 2.0 ± 2.5)."
    )
    many = comparison_of(**{f"m{row}": [10.0 + row, 20 - row, 15 + 0.1 * row] for row in range(6)})
    assert "and over 2 more." in many.conclusion()
    assert comparison_of(bce=[1.0, 2, 3]).conclusion().endswith("there is nothing to compare it with.")


def test_the_table_has_means_spreads_and_intervals():
    table = comparison_of(bce=[10.0, 20, 30], default=[11.0, 22, 33]).table()
    assert table.loc["bce"].tolist() == ["20.0 ± 10.0"] * 4 + ["-2.0 ± 2.5"]
    assert table.loc["default"].tolist() == ["22.0 ± 11.0"] * 4 + ["best"]


def test_the_picture_has_a_dot_for_each_training():
    figure = plot_comparison(comparison_of(bce=[10.0, 20, 30], default=[11.0, 22, 33]))
    assert isinstance(figure, Figure)
    for axis in figure.axes:
        dots = [each.get_offsets()[:, 0].tolist() for each in axis.collections if len(each.get_offsets()) == 3]
        assert dots == [[10, 20, 30], [11, 22, 33]]


def test_a_score_that_is_nan_is_null_in_the_json():
    comparison = comparison_of(bce=[10.0, 20, 30], default=[11.0, 22, 33])
    comparison.scores["bce"]["tail_f1"] = [math.nan] * 3
    stored = json.loads(json.dumps(comparison.to_dict(), allow_nan=False))
    assert stored["scores"]["bce"]["tail_f1"] == [None] * 3
    assert stored["comparison"]["macro_f1"]["lead"]["bce"]["mean"] == pytest.approx(2)


def test_methods_begin_alike_and_differ_by_their_loss_alone(text_data, tmp_path):
    made = []

    def make_model():
        model = scenarios.make_bert()
        torch.nn.init.normal_(model.classifier.weight)  # by the seed, unlike the rest
        made.append(model.classifier.weight.detach().clone())
        return model

    args = PLMTrainingArguments(str(tmp_path), use_cpu=True, num_train_epochs=1, learning_rate=1e-2)
    data = {"train": text_data.select(range(40)), "validation": text_data.select(range(40, 52))}
    data["test"] = text_data.select(range(52, 64))
    comparison = compare_methods(make_model, args, data, num_seeds=2)
    assert list(comparison.scores) == [method + kind for method in METHODS for kind in ("", TUNED)]
    assert comparison.seeds == [42, 43]
    first, second = made[:4], made[4:]
    assert all(torch.equal(each, first[0]) for each in first) and all(torch.equal(each, second[0]) for each in second)
    assert not torch.equal(first[0], second[0])
    means = {method: comparison.scores[method]["map"] for method in METHODS}
    assert len({tuple(values) for values in means.values()}) > 1
    assert all(comparison.scores[m]["map"] == comparison.scores[m + TUNED]["map"] for m in METHODS)
    again = compare_methods(make_model, args, data, methods=["default"], num_seeds=2)
    assert again.scores["default"] == comparison.scores["default"]
    assert not list(tmp_path.iterdir())  # no model, no pictures of single runs


def test_the_command_prints_and_writes(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    scenarios.make_bert().save_pretrained("bert")
    scenarios.make_tokenizer().save_pretrained("bert")
    labels = [
        "|".join(name for name, each in zip("abc", (2, 3, 5), strict=True) if row % each == 0) for row in range(80)
    ]
    Dataset.from_dict({"text": ["small game"] * 80, "labels": labels}).to_csv("rows.csv")
    flags = ["--methods", "bce, default", "--seeds", "2", "--num-train-epochs", "1", "--use-cpu"]
    main(["compare", "rows.csv", "--model", "bert", *flags])
    printed = capsys.readouterr().out
    assert "default, tuned thresholds" in printed and "By macro-F1, '" in printed
    stored = json.loads((tmp_path / "outputs/rows-comparison/comparison.json").read_text())
    assert set(stored["scores"]) == {"bce", "bce" + TUNED, "default", "default" + TUNED}
    assert stored["comparison"]["macro_f1"]["conclusion"] in printed
    assert (tmp_path / "outputs/rows-comparison/comparison.png").stat().st_size > 10_000
