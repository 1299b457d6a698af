"""What is said of a data set's labels before training is right, in Python and on the command line."""

import json
import math
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, List, Value
from rich.console import Console

from hf_plm import PLMLoss, inspect_labels
from hf_plm.command_line import main, print_report

IDS = [[0], [0, 1], [0, 2], [], [0, 1], [0], [0, 1, 2], [0]]


def slow_measures(rows, num_labels):
    """MeanIR, CVIR and SCUMBLE in loops."""
    positives = [sum(label in row for row in rows) for label in range(num_labels)]
    ratios = [max(positives) / count for count in positives if count]
    mean = sum(ratios) / len(ratios)
    deviation = math.sqrt(sum((ratio - mean) ** 2 for ratio in ratios) / (len(ratios) - 1))
    scumbles = []
    for row in rows:
        own = [max(positives) / positives[label] for label in row]
        if own:
            scumbles.append(1 - math.prod(own) ** (1 / len(own)) / (sum(own) / len(own)))
    return mean, deviation / mean, sum(scumbles) / len(scumbles)


@pytest.mark.parametrize("form", ["ids", "multi_hot", "names"])
def test_measures_equal_the_slow_twin_in_every_form(form):
    generator = np.random.default_rng(0)
    ids = [np.flatnonzero(row).tolist() for row in generator.random((500, 6)) < [0.6, 0.3, 0.2, 0.05, 0.02, 0.01]]
    rows = {
        "ids": ids,
        "multi_hot": [[float(label in row) for label in range(6)] for row in ids],
        "names": [["abcdef"[label] for label in row] for row in ids],
    }[form]
    report = inspect_labels(Dataset.from_dict({"labels": rows}))
    mean, cvir, scumble = slow_measures(ids, 6)
    assert report.mean_ir == pytest.approx(mean)
    assert report.cvir == pytest.approx(cvir)
    assert report.scumble == pytest.approx(scumble)
    assert report.cardinality == pytest.approx(sum(map(len, ids)) / 500)
    assert report.density == pytest.approx(sum(map(len, ids)) / 3000)
    assert report.rows_without_label == sum(not row for row in ids)
    assert report.form == form


def test_masked_labels_are_what_an_epoch_masks_on_average():
    report = inspect_labels(Dataset.from_dict({"labels": IDS}))
    labels = torch.tensor([[float(label in row) for label in range(3)] for row in IDS])
    for preset in ("default", "paper", "off"):
        plm_loss = PLMLoss(report.counts, preset, objective=lambda logits, labels: torch.ones_like(logits))
        kept = sum(plm_loss(torch.zeros(8, 3), labels).item() for _ in range(2000)) / 2000
        assert report.masked_labels(preset) == pytest.approx(24 * (1 - kept), abs=0.3)


def test_unknown_labels_and_labels_without_positives_are_counted_and_said():
    rows = [[1.0, math.nan, 0.0, 1.0], [0.0, 1.0, 0.0, 1.0]] * 100
    report = inspect_labels(Dataset.from_dict({"labels": rows}).cast_column("labels", List(Value("float32"))))
    assert report.unknown.tolist() == [0, 100, 0, 0]
    assert report.imbalance_ratios.tolist() == [2, 2, math.inf, 1]
    assert report.mean_ir == pytest.approx(5 / 3)
    text = "\n".join(report.warnings())
    assert "LABEL_2 is never positive: nothing can be learnt" in text
    assert "LABEL_1, LABEL_3 are never negative" in text
    assert "12.5% of the labels are unknown" in text
    stored = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert stored["imbalance_ratios"][2] is None
    assert stored["presets"]["off"]["masked_labels_in_first_epoch"] == 0


@pytest.mark.parametrize(
    ("rows", "warning"),
    [
        ([[0, 1]] * 200 + [[1]] * 200 + [[2]] * 3, "LABEL_2 is positive in fewer than 10 rows"),
        ([[0], [1]] * 1000 + [[2]] * 12, "1 of 3 labels are positive in less than 1 % of the rows"),
        ([[0]] * 900 + [[1]] * 100 + [[2]] * 15, "The labels are imbalanced: the most frequent one occurs 23.3 times"),
        ([[]] * 60 + [[0], [1]] * 20, "60 of 100 rows have no label at all"),
        ([[0], [1], [2]] * 20, "Every row has one label"),
    ],
)
def test_what_is_odd_is_said(rows, warning):
    found = inspect_labels(Dataset.from_dict({"labels": rows}), 3, label_format="ids").warnings()
    assert any(warning in text for text in found), found


def test_balanced_labels_get_no_warning():
    generator = np.random.default_rng(0)
    rows = [np.flatnonzero(row).tolist() for row in generator.random((300, 4)) < 0.5]
    assert inspect_labels(Dataset.from_dict({"labels": rows})).warnings() == []


def test_a_single_label_data_set_is_read_as_such():
    data = Dataset.from_dict({"labels": [0, 1, 2] * 50}).cast_column("labels", ClassLabel(names=["a", "b", "c"]))
    report = inspect_labels(data)
    assert report.form == "class_id"
    assert report.cardinality == 1
    assert report.scumble == 0
    assert report.warnings() == []


@pytest.fixture
def files(tmp_path):
    data = Dataset.from_dict({"text": ["x"] * 8, "labels": [["abc"[label] for label in row] for row in IDS]})
    data.to_parquet(tmp_path / "data.parquet")
    data.to_json(tmp_path / "data.jsonl")
    joined = data.map(lambda row: {"tags": "; ".join(row["labels"])}, remove_columns="labels")
    joined.to_csv(tmp_path / "data.csv")
    return tmp_path


def test_the_command_reads_files_of_every_kind(files, capsys, monkeypatch):
    monkeypatch.setenv("HF_DATASETS_CACHE", str(files / "cache"))
    for arguments in (["data.parquet"], ["data.jsonl"], ["data.csv", "--label-column", "tags", "--separator", ";"]):
        main(["inspect", str(files / arguments[0]), *arguments[1:], "--json"])
        report = json.loads(capsys.readouterr().out.splitlines()[-1])
        assert report["names"] == ["a", "b", "c"]
        assert report["positives"] == [7, 3, 2]
        assert report["rows"] == 8


def test_the_command_prints_a_table_and_draws(files, capsys):
    main(["inspect", str(files / "data.parquet"), "--plot", str(files / "counts.png")])
    printed = capsys.readouterr().out
    assert "8 rows, 3 labels (names)" in printed
    assert re.search(r"paper +13 \(56.1%\) +0.38, 1.00 +1.00, 0.23", printed)
    assert (files / "counts.png").stat().st_size > 10_000


def test_a_long_list_of_labels_is_cut_in_the_middle():
    console = Console(width=100, record=True)
    rows = [[label for label in range(100) if row % (label + 1) == 0] for row in range(500)]
    print_report(inspect_labels(Dataset.from_dict({"labels": rows})), console)
    text = console.export_text()
    assert "... 70 more ..." in text
    assert "LABEL_14 " in text and "LABEL_15 " not in text and "LABEL_99 " in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["data.parquet", "--label-column", "tags"],
            "there is no column 'tags' in .*, only text, labels; name it with",
        ),
        (["data.parquet", "--num-labels", "2"], "the rows hold 3 distinct label names and num_labels is 2"),
        (["none.parquet"], "none.parquet"),
    ],
)
def test_what_cannot_be_inspected_is_named(arguments, message, files, capsys):
    with pytest.raises(SystemExit) as exit_info:
        main(["inspect", str(files / arguments[0]), *arguments[1:]])
    assert exit_info.value.code == 2
    assert re.search(message, capsys.readouterr().err)


def test_the_module_is_the_command(files):
    command = [sys.executable, "-m", "hf_plm", "inspect", str(files / "data.parquet"), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.splitlines()[-1])["labels"] == 3
