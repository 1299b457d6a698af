"""The report on a data set's labels is right, in Python and on the command line."""

import json
import math
import os
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, List, Value
from rich.console import Console

from hf_plm import PLMLoss, inspect_labels
from hf_plm.command_line import main
from hf_plm.report_tables import print_report

IDS = [[0], [0, 1], [0, 2], [], [0, 1], [0], [0, 1, 2], [0]]


def slow_measures(rows, num_labels):
    """MeanIR, CVIR and SCUMBLE with loops."""
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
def test_measures_equal_the_slow_reference_in_every_form(form):
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


def test_masked_labels_are_the_mean_number_that_an_epoch_masks():
    report = inspect_labels(Dataset.from_dict({"labels": IDS}))
    labels = torch.tensor([[float(label in row) for label in range(3)] for row in IDS])
    for preset in ("default", "paper", "off"):
        settings = {"mask": "random", "class_weight": 0.0} if preset == "default" else {}
        plm_loss = PLMLoss(report.counts, preset, lambda logits, labels: torch.ones_like(logits), **settings)
        kept = sum(plm_loss(torch.zeros(8, 3), labels).item() for _ in range(2000)) / 2000
        assert report.masked_labels(preset) == pytest.approx(24 * (1 - kept), abs=0.3)


def test_unknown_labels_and_labels_without_positives_are_counted_and_reported():
    rows = [[1.0, math.nan, 0.0, 1.0], [0.0, 1.0, 0.0, 1.0]] * 100
    report = inspect_labels(Dataset.from_dict({"labels": rows}).cast_column("labels", List(Value("float32"))))
    assert report.unknown.tolist() == [0, 100, 0, 0]
    assert report.imbalance_ratios.tolist() == [2, 2, math.inf, 1]
    assert report.mean_ir == pytest.approx(5 / 3)
    text = "\n".join(report.warnings())
    assert "LABEL_2 is never positive: a model cannot learn" in text
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
        (
            [[0]] * 900 + [[1]] * 100 + [[2]] * 15,
            "The labels are imbalanced: the most frequent label occurs 2.7 times as often as an average label. "
            "Its count is on average 23.3 times the count of a label (MeanIR",
        ),
        ([[]] * 60 + [[0], [1]] * 20, "60 of 100 rows have no label"),
        ([[0], [1], [2]] * 20, "Every row has exactly one label"),
    ],
)
def test_unusual_labels_get_warnings(rows, warning):
    found = inspect_labels(Dataset.from_dict({"labels": rows}), 3, label_format="ids").warnings()
    assert any(warning in text for text in found), found


def test_few_positives_are_fewer_than_ten():
    rows = [[0]] * 9 + [[1]] * 10 + [[2]] * 11
    (warning,) = [text for text in inspect_labels(Dataset.from_dict({"labels": rows})).warnings() if "noise" in text]
    assert warning.startswith("LABEL_0 is positive in fewer than 10 rows")


def test_the_most_frequent_label_is_compared_with_the_mean_of_those_that_occur():
    report = inspect_labels(Dataset.from_dict({"labels": [[0]] * 60 + [[1]] * 20 + [[2]] * 10}), 4)
    assert report.max_to_mean == pytest.approx(60 / (90 / 3))
    assert report.mean_ir == pytest.approx((1 + 3 + 6) / 3)
    assert report.to_dict()["max_to_mean"] == report.max_to_mean


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


def test_the_command_prints_a_table_and_draws(files, rendered, capsys):
    main(["inspect", str(files / "data.parquet"), "--plot", str(files / "counts.png")])
    printed = capsys.readouterr().out
    assert "8 rows, 3 labels (given as names)" in printed
    for term in ("IRLbl: the count of", "group: head, the most", "MeanIR", "SCUMBLE"):
        assert term in printed
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
            "there is no column 'tags' in .*, only text, labels; name the label column with",
        ),
        (["data.parquet", "--num-labels", "2"], "the rows hold 3 distinct label names and num_labels is 2"),
        (["none.parquet"], "none.parquet"),
    ],
)
def test_errors_say_why_a_file_cannot_be_inspected(arguments, message, files, capsys):
    with pytest.raises(SystemExit) as exit_info:
        main(["inspect", str(files / arguments[0]), *arguments[1:]])
    assert exit_info.value.code == 2
    assert re.search(message, capsys.readouterr().err)


@pytest.mark.slow
def test_the_module_is_the_command(files):
    command = [sys.executable, "-m", "hf_plm", "inspect", str(files / "data.parquet"), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.splitlines()[-1])["labels"] == 3


ODD = ["$x$", "[bold]b[/bold]", "[/]", "a|b", "line\nbreak", '"q"', "", "😀", "x" * 2000, ":smile:", "\x1b[31mred"]


@pytest.fixture
def odd_file(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    rows = [ODD[: 1 + row % len(ODD)] for row in range(33)] + [ODD] * 2000  # some are never negative
    Dataset.from_dict({"labels": rows}).to_parquet(tmp_path / "odd.parquet")
    return str(tmp_path / "odd.parquet")


def test_names_of_any_text_are_shown_unchanged_or_escaped(odd_file, rendered, capsys, tmp_path):
    main(["inspect", odd_file, "--plot", str(tmp_path / "counts.svg")])
    printed = capsys.readouterr().out
    for name in ("$x$", "[bold]b[/bold]", "[/]", "a|b", r"line\nbreak", '"q"', "''", "😀", ":smile:", r"\x1b[31mred"):
        assert re.search(rf"^ +{re.escape(name)} +(head|medium|tail) ", printed, re.MULTILINE), name
    assert re.search(r"^ +x+", printed, re.MULTILINE) and "\x1b[31m" not in printed
    assert "! $x$ is never negative" in printed
    assert (tmp_path / "counts.svg").stat().st_size > 10_000


def test_warnings_show_names_unchanged():
    report = inspect_labels(Dataset.from_dict({"labels": [["[bold]b[/bold]", "a\nb"]] * 10 + [["c"]] * 2}))
    console = Console(width=200, record=True)
    print_report(report, console)
    assert "! c is positive in fewer than 10 rows" in console.export_text()
    report = inspect_labels(Dataset.from_dict({"labels": [["[bold]b[/bold]", "a\nb", ""]] * 9}))
    console = Console(width=200, record=True)
    print_report(report, console)
    assert r"! '', [bold]b[/bold], a\nb are positive in fewer than 10 rows" in console.export_text()


def test_json_has_the_complete_names(odd_file, capsys):
    main(["inspect", odd_file, "--json"])
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert report["names"] == sorted(ODD)


@pytest.mark.slow
def test_a_terminal_without_these_characters_shows_them_escaped(odd_file):
    command = [sys.executable, "-m", "hf_plm", "inspect", odd_file]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    done = subprocess.run(command, capture_output=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert rb"\U0001f600" in done.stdout


@pytest.mark.parametrize("file", ["counts.nothing", "missing/counts.png"])
def test_an_error_names_a_picture_that_cannot_be_written(file, files, rendered, capsys):
    with pytest.raises(SystemExit) as exit_info:
        main(["inspect", str(files / "data.parquet"), "--plot", str(files / file)])
    assert exit_info.value.code == 2
    captured = capsys.readouterr()
    assert f"hf-plm: --plot {files / file}: " in captured.err and "8 rows, 3 labels" in captured.out


@pytest.mark.parametrize(
    ("cells", "arguments", "names"),
    [
        (["['cat', 'dog']", "[]", "['cow']"], [], ["cat", "cow", "dog"]),
        (["cat|dog", "cow", ""], [], ["cat", "cow", "dog"]),
        (["cat dog", "cow", ""], ["--separator", " "], ["cat", "cow", "dog"]),
        (["cat dog", "cow", ""], ["--separator", ""], ["cat dog", "cow"]),
    ],
)
def test_text_is_split_at_its_separator(cells, arguments, names, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    Dataset.from_dict({"labels": cells * 20}).to_parquet(tmp_path / "data.parquet")
    main(["inspect", str(tmp_path / "data.parquet"), "--json", *arguments])
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["names"] == names


def test_text_without_a_clear_separator_is_refused(tmp_path, capsys):
    Dataset.from_dict({"labels": ["cat dog", "cow"]}).to_parquet(tmp_path / "data.parquet")
    with pytest.raises(SystemExit):
        main(["inspect", str(tmp_path / "data.parquet")])
    assert "'cat dog', with blanks; give the separator" in capsys.readouterr().err


def test_a_group_without_labels_has_an_empty_cell(tmp_path, capsys):
    path = tmp_path / "own.csv"
    path.write_text('text,labels\nx,"a|b"\ny,a\n')
    main(["inspect", str(path)])
    assert "nan" not in capsys.readouterr().out
