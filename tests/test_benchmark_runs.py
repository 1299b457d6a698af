"""The benchmarks' runs, studies and tables work; their figures are not tested."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import scenarios
import torch
from scipy.special import expit

from hf_plm import count_labels
from hf_plm.decisions import log_odds_shift

ROOT = Path(__file__).parent.parent
sys.path += [str(ROOT / "benchmarks"), str(ROOT / "examples")]

import calibration  # noqa: E402
import quality  # noqa: E402
import results  # noqa: E402
import studies  # noqa: E402
import tables  # noqa: E402
import tasks  # noqa: E402
import training  # noqa: E402


@pytest.fixture
def tiny_task(monkeypatch, tmp_path):
    """A task that takes seconds, with its own folder of results."""
    data = scenarios.make_rows(96)
    labels = [np.flatnonzero(row).tolist() for row in np.asarray(data["labels"])]
    rows = tasks.rows_of({"input_ids": torch.tensor(data["input_ids"][:])}, labels)
    parts = [rows.select(range(first, last)) for first, last in ((0, 64), (64, 80), (80, 96))]
    task = tasks.Task(*parts, count_labels(parts[0], 5), scenarios.make_bert, 1, 16, 1e-2)
    monkeypatch.setitem(tasks.TASKS, "tiny", lambda source: task)
    monkeypatch.setattr(training, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(quality, "OUTPUT", tmp_path / "tables")
    monkeypatch.setattr(quality, "ProcessPoolExecutor", lambda workers, **kwargs: InThisProcess())
    training.load_task.cache_clear()
    return task


class InThisProcess:
    """The methods of an executor that the benchmarks call."""

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def submit(self, function, *args):
        function(*args)
        return self

    def result(self):
        pass


@pytest.mark.slow
def test_every_kind_of_run_is_made_and_scored(tiny_task):
    source = tasks.Source()
    methods = [trials[0] for trials in studies.METHODS.values()]
    for settings in methods:
        run = training.Run("tiny", {**settings, "epochs": 2}, 0)
        training.make_run(run, source)
        result = run.result(source)
        assert set(result["scores"]) == {"dev", "validation"}
        assert all(np.isfinite(value) for value in result["scores"]["validation"].values()), settings
    files = list((training.RESULTS / "small" / "tiny").glob("*.json"))
    assert len({json.dumps(json.loads(path.read_text())["scores"]) for path in files}) == len(methods)  # all different


def test_a_study_chooses_on_dev_continues_where_it_stopped_and_makes_its_table(tiny_task, monkeypatch, capsys):
    trials = [studies.off(rate=rate) for rate in (1, 2)]
    study = studies.Study("Does it?", {"BCE": trials, "masks": [studies.masks()]}, ["tiny"])
    monkeypatch.setitem(quality.STUDIES, "tiny", study)
    source = tasks.Source()
    quality.make_study(study, "tiny", source, 1)
    paths = sorted(training.RESULTS.rglob("*.json"))
    assert len(paths) == 2 + 1 + 2 * 2  # the trials, and two more seeds for each row
    times = [path.stat().st_mtime_ns for path in paths]
    paths[0].unlink()
    quality.make_study(study, "tiny", source, 1)
    assert sorted(training.RESULTS.rglob("*.json")) == paths
    assert [path.stat().st_mtime_ns for path in paths[1:]] == times[1:]

    best = max(trials, key=lambda trial: results.dev_score(training.Run("tiny", trial, 0).result(source)))
    rows = results.read_results(study, "tiny", source)
    assert rows["BCE"][1] == training.Run("tiny", best, 1).result(source)
    quality.report("tiny", "tiny", source)
    table = (quality.OUTPUT / "tiny-tiny-small.md").read_text()
    assert table in capsys.readouterr().out + "\n"
    values = results.values_of(rows["masks"], "macro_f1")
    differences = np.array(values) - results.values_of(rows["BCE"], "macro_f1")
    cells = table.splitlines()[3].split(" | ")
    assert cells[2] == f"{np.mean(values):.1f} ± {np.std(values, ddof=1):.1f}"
    assert cells[-1] == f"{np.mean(differences):.1f} ± {np.std(differences, ddof=1):.1f} |"


def test_all_rows_are_read_with_the_seeds_that_every_one_has(tiny_task, monkeypatch):
    monkeypatch.setattr(studies, "QUICK_TASKS", ("tiny",))
    study = studies.Study("Does it?", {"BCE": [studies.off()], "masks": [studies.masks()]}, ["tiny"])
    source = tasks.Source()
    quality.make_study(study, "tiny", source, 1)
    assert {name: len(runs) for name, runs in results.read_results(study, "tiny", source).items()} == {
        "BCE": 5,
        "masks": 5,
    }
    for seed, found in ((4, {"BCE": 4, "masks": 4}), (2, {"BCE": 5})):  # two seeds are too few for a row
        training.Run("tiny", studies.masks(), seed).path(source).unlink()
        assert {name: len(runs) for name, runs in results.read_results(study, "tiny", source).items()} == found


def test_a_longer_run_has_a_multiple_of_the_task_s_epochs(tiny_task, tmp_path):
    trainer = training.train(tiny_task, training.Run("tiny", studies.off(longer=3), 0), str(tmp_path))
    assert trainer.state.global_step == 3 * 64 // 16


@pytest.mark.parametrize("settings", [studies.off(), studies.masks(), studies.off(class_aware=True)])
def test_a_single_label_run_reports_its_error(tiny_task, monkeypatch, digits, settings):
    images, classes = digits
    rows = tasks.rows_of({"pixel_values": tasks.scaled(images)}, classes.tolist())
    parts = [rows.select(range(first, last)) for first, last in ((0, 400), (400, 500), (500, 600))]
    task = tasks.Task(
        *parts, count_labels(parts[0], 10), lambda: tasks.DigitNet(10), 1, 16, 1e-2, is_single_label=True
    )
    monkeypatch.setitem(tasks.TASKS, "tiny", lambda source: task)
    run = training.Run("tiny", settings, 0)
    training.make_run(run, tasks.Source())
    scores = run.result(tasks.Source())["scores"]["validation"]
    assert scores["error"] == pytest.approx(1 - scores["accuracy"])
    assert scores["error"] < 0.7  # 0.9 by chance


def test_the_calibration_error_is_measured_before_and_after(tiny_task, rendered, monkeypatch, tmp_path):
    monkeypatch.setattr(calibration, "TASK", "tiny")
    monkeypatch.setattr(calibration, "SEEDS", (0, 1))
    monkeypatch.setattr(calibration, "OUTPUT", tmp_path)
    calibration.main()
    found = json.loads((tmp_path / "calibration.json").read_text())["results"]
    assert [(one["method"], one["seed"]) for one in found] == [(m, s) for m in calibration.METHODS for s in (0, 1)]
    assert set(found[0]["before"]) == {"all", "head", "medium", "tail"}
    assert found[0]["before"] == found[0]["after"]  # without masks there is no shift
    assert (tmp_path / "calibration.png").is_file()

    run = training.Run("tiny", studies.masks(plm_objective="bce"), 1)
    trainer = training.train(tiny_task, run, str(tmp_path))
    output = trainer.predict(tiny_task.validation)
    for moment, shift in (("before", 0), ("after", log_odds_shift(trainer.plm_state).numpy())):
        expected = training.calibration_error(expit(output.predictions - shift), output.label_ids)
        assert found[3][moment]["all"] == pytest.approx(100 * expected)
    assert found[3]["before"]["all"] != pytest.approx(found[3]["after"]["all"])


@pytest.mark.parametrize("name", studies.STUDIES)
def test_every_study_names_tasks_and_settings_that_exist(name):
    study = studies.STUDIES[name]
    assert set(study.tasks) <= set(tasks.TASKS)
    assert study.baseline in study.rows
    for row, trials in study.rows.items():
        assert len(
            {json.dumps(training.Run("tiny", settings, 0).resolved(), sort_keys=True) for settings in trials}
        ) == len(trials), row


def test_every_method_has_the_same_number_of_trials():
    assert {len(trials) for trials in studies.METHODS.values()} == {4}


def test_the_tables_of_the_documents_are_those_of_the_results():
    for document in tables.DOCUMENTS:
        assert tables.fill(document.read_text()) == document.read_text(), document
