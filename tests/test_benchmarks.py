"""The benchmarks' data, scores and bookkeeping; no figure of theirs."""

import json
import sys
from pathlib import Path

import datasets
import numpy as np
import pytest
import scenarios
import torch
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value
from PIL import Image
from scipy.special import expit
from sklearn.metrics import f1_score
from transformers import ViTImageProcessorPil

from hf_plm import count_labels
from hf_plm.calibration import log_odds_shift

ROOT = Path(__file__).parent.parent
sys.path += [str(ROOT / "benchmarks"), str(ROOT / "examples")]

import calibration  # noqa: E402
import quality  # noqa: E402
import results  # noqa: E402
import studies  # noqa: E402
import tables  # noqa: E402
import tasks  # noqa: E402
import train_text  # noqa: E402
import training  # noqa: E402
from multimnist import make_multi_digit  # noqa: E402


@pytest.fixture
def digits():
    """600 noise pictures, brighter from class to class."""
    generator = np.random.default_rng(0)
    classes = np.arange(600) % 10
    images = generator.integers(1, 20, (600, 28, 28)) + 20 * classes[:, None, None]
    return images.astype(np.uint8), classes


def save_picture(path, colour):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (50, 40), colour).save(path)


def test_a_canvas_shows_the_digits_that_its_labels_name(digits):
    images, classes = digits
    pictures, labels = make_multi_digit(images, classes, 3000, 100, seed=0)
    assert pictures.shape == (3000, 48, 48)
    counts = np.bincount(np.concatenate(labels), minlength=10)
    assert all(np.diff(counts) < 0)
    assert 20 < counts[0] / counts[9] < 100  # no class twice on a canvas: the frequent ones are a little rarer
    assert {len(row) for row in labels} == {1, 2, 3, 4}
    for picture, row in zip(pictures, labels, strict=True):
        assert (picture.max() - 1) // 20 == max(row)  # the last class is the brightest
    again, _ = make_multi_digit(images, classes, 3000, 100, seed=0)
    assert np.array_equal(pictures, again)


@pytest.fixture
def coco(tmp_path):
    """A folder of tiny pictures as COCO is distributed."""
    for split, count in (("train2017", 20), ("val2017", 4)):
        images = [{"id": 100 + index, "file_name": f"{index:012d}.jpg"} for index in range(count)]
        for image in images:
            save_picture(tmp_path / split / image["file_name"], "red")
        annotations = [{"image_id": 100 + index, "category_id": 90 if index % 2 else 1} for index in range(count - 1)]
        annotations += [{"image_id": 101, "category_id": 1}, {"image_id": 101, "category_id": 1}]
        categories = [{"id": 1, "name": "person"}, {"id": 90, "name": "toothbrush"}]
        path = tmp_path / "annotations" / f"instances_{split}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return str(tmp_path)


def test_coco_is_read_as_it_is_distributed(coco):
    task = tasks.TASKS["coco"](tasks.Source(data=coco))
    assert task.validation[:]["labels"] == [[0], [0, 1], [0], []]
    assert task.counts.label_names == ["person", "toothbrush"]
    assert len(task.train) + len(task.dev) == 20
    assert task.train[:2]["pixel_values"].shape == (2, 3, 64, 64)
    assert task.make_model()(task.train[:2]["pixel_values"]).logits.shape == (2, 2)


def test_coco_needs_its_folder():
    with pytest.raises(ValueError, match="coco needs --data FOLDER, with train2017/, val2017/"):
        tasks.TASKS["coco"](tasks.Source())


def test_full_size_tasks_take_pretrained_models(coco, make_vit, monkeypatch, tmp_path):
    make_vit(3).save_pretrained(tmp_path / "vit")
    ViTImageProcessorPil(size={"height": 8, "width": 8}).save_pretrained(tmp_path / "vit")
    tokenizer = train_text.train_tokenizer(["some words to learn"], vocab_size=300)
    tokenizer.save_pretrained(tmp_path / "bert")
    scenarios.make_bert().save_pretrained(tmp_path / "bert")
    monkeypatch.setattr(tasks, "IMAGE_MODEL", str(tmp_path / "vit"))
    monkeypatch.setattr(tasks, "TEXT_MODEL", str(tmp_path / "bert"))
    rows = Dataset.from_dict({"text": ["some words"] * 20, "labels": [[0], [0, 1, 2]] * 10})
    monkeypatch.setattr(tasks, "load_dataset", lambda *args, **kwargs: DatasetDict(train=rows, validation=rows))
    image, text = (tasks.TASKS[name](tasks.Source(data=coco, full=True)) for name in ("coco", "debtags"))
    assert image.train[:3]["pixel_values"].shape == (3, 3, 8, 8)
    assert image.make_model()(image.train[:3]["pixel_values"]).logits.shape == (3, 2)
    assert text.train[:3]["input_ids"].shape == (3, 128)
    assert text.make_model().config.num_labels == 3


@pytest.mark.parametrize(("name", "column"), [("cifar10-lt", "label"), ("cifar100-lt", "fine_label")])
def test_cifar_is_thinned_to_a_long_tail(name, column, monkeypatch, tmp_path):
    num_labels = int(name[5:-3])
    columns = {"img": datasets.Image(), column: ClassLabel(num_labels)}
    features = Features(columns if num_labels == 10 else {**columns, "coarse_label": Value("int64")})

    def part(count):
        rows = {"img": [Image.new("RGB", (32, 32))] * count, column: [row % num_labels for row in range(count)]}
        return Dataset.from_dict({**rows, **({"coarse_label": [0] * count} if num_labels == 100 else {})}, features)

    per_class = 200 if num_labels == 10 else 20
    hub = DatasetDict(train=part(per_class * num_labels), test=part(2 * num_labels))
    monkeypatch.setattr(tasks, "load_dataset", lambda name: {f"uoft-cs/cifar{num_labels}": hub}[name])
    task = tasks.TASKS[name](tasks.Source())
    assert task.is_single_label
    assert task.counts.positives[-1] == max(1, round(task.counts.positives[0].item() / 100))
    assert torch.equal(task.counts.positives, task.counts.positives.sort(descending=True).values)
    assert count_labels(task.validation, num_labels).positives.tolist() == [2] * num_labels


def test_mnist_is_thinned_and_validated_in_balance(digits, monkeypatch):
    images, classes = digits
    monkeypatch.setattr(tasks, "read_mnist", lambda source: (np.tile(images, (100, 1, 1)), np.tile(classes, 100)))
    task = tasks.TASKS["mnist-lt-50"](tasks.Source())
    positives = task.counts.positives.tolist()
    assert positives[0] == 5000
    assert positives[-1] == 100
    assert count_labels(task.validation, 10).positives.tolist() == [500] * 10
    assert count_labels(task.dev, 10).positives.tolist() == [100] * 10


def test_mnist_comes_from_a_file_or_from_the_hub(digits, monkeypatch, tmp_path):
    images, classes = digits
    flat = Dataset.from_dict({"pixels": images.reshape(600, -1), "label": classes})
    flat.to_parquet(tmp_path / "mnist.parquet")
    pictures = [Image.fromarray(image) for image in images]
    hub = Dataset.from_dict({"image": pictures, "label": classes}).cast_column("image", datasets.Image())
    stored = tasks.read_mnist(str(tmp_path / "mnist.parquet"))
    monkeypatch.setattr(tasks, "load_dataset", lambda name, split: {("ylecun/mnist", "train"): hub}[name, split])
    for found in (stored, tasks.read_mnist(tasks.Source.mnist)):
        assert np.array_equal(found[0], images)
        assert np.array_equal(found[1], classes)


def test_thresholds_are_where_f1_is_highest():
    generator = np.random.default_rng(0)
    labels = (generator.random((200, 4)) < [0.5, 0.2, 0.05, 0.0]).astype(float)
    logits = generator.normal(size=(200, 4)) + labels
    thresholds = training.tune_thresholds(logits, labels)
    for label in range(3):
        cuts = np.sort(logits[:, label]) - 1e-9
        best = max(f1_score(labels[:, label], logits[:, label] >= cut) for cut in cuts)
        assert f1_score(labels[:, label], logits[:, label] >= thresholds[label]) == pytest.approx(best)
    assert thresholds[3] == 0


def test_calibration_error_equals_a_loop_over_the_bins():
    generator = np.random.default_rng(0)
    probabilities = expit(generator.normal(size=(300, 5)) * 3)
    probabilities[0, 0] = 1.0
    labels = (generator.random((300, 5)) < probabilities**2).astype(float)
    expected = 0.0
    for low in np.arange(15) / 15:
        inside = (probabilities >= low) & ((probabilities < low + 1 / 15) | ((low > 0.9) & (probabilities == 1)))
        expected += inside.mean() * abs(probabilities[inside].mean() - labels[inside].mean())
    assert training.calibration_error(probabilities, labels) == pytest.approx(expected, rel=1e-6)


@pytest.fixture
def tiny_task(monkeypatch, tmp_path):
    """A task of seconds, in a folder of its own."""
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
    """What of an executor is needed."""

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
    variants = [studies.masks(**studies.asymmetric(1), variant=variant) for variant in training.VARIANTS]
    for settings in [*methods, *variants]:
        run = training.Run("tiny", {**settings, "epochs": 2}, 0)
        training.make_run(run, source)
        result = run.result(source)
        assert set(result["scores"]) == {"dev", "validation"}
        assert all(np.isfinite(value) for value in result["scores"]["validation"].values()), settings
    files = list((training.RESULTS / "small" / "tiny").glob("*.json"))
    assert len({json.dumps(json.loads(path.read_text())["scores"]) for path in files}) > 15  # they are not the same


def test_a_study_chooses_on_dev_goes_on_where_it_stopped_and_makes_its_table(tiny_task, monkeypatch, capsys):
    trials = [studies.off(rate=rate) for rate in (1, 2)]
    study = studies.Study("Does it?", {"BCE": trials, "masks": [studies.masks()]}, ["tiny"])
    monkeypatch.setitem(quality.STUDIES, "tiny", study)
    source = tasks.Source()
    quality.make_study(study, "tiny", source, 1)
    paths = sorted(training.RESULTS.rglob("*.json"))
    assert len(paths) == 2 + 1 + 2 * 2  # trials, and two more seeds for each row
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
    assert scores["error"] < 0.7  # of 0.9 by chance


def test_the_calibration_error_is_measured_before_and_after(tiny_task, monkeypatch, tmp_path):
    monkeypatch.setattr(calibration, "TASK", "tiny")
    monkeypatch.setattr(calibration, "SEEDS", (0, 1))
    monkeypatch.setattr(calibration, "OUTPUT", tmp_path)
    calibration.main()
    found = json.loads((tmp_path / "calibration.json").read_text())["results"]
    assert [(one["method"], one["seed"]) for one in found] == [(m, s) for m in calibration.METHODS for s in (0, 1)]
    assert set(found[0]["before"]) == {"all", "head", "medium", "tail"}
    assert found[0]["before"] == found[0]["after"]  # without masks nothing is shifted
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
