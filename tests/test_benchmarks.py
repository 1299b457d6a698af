"""The benchmarks' data, scores and files; their figures are not tested."""

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
from transformers import ViTImageProcessorPil

from hf_plm import count_labels
from hf_plm.small_models import train_tokenizer

ROOT = Path(__file__).parent.parent
sys.path.append(str(ROOT / "benchmarks"))

import models  # noqa: E402
import sources  # noqa: E402
import tasks  # noqa: E402
import training  # noqa: E402
from multimnist import make_multi_digit  # noqa: E402


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
    """A folder of tiny pictures in the layout of COCO."""
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
    tokenizer = train_tokenizer(["some words to learn"], vocab_size=300)
    tokenizer.save_pretrained(tmp_path / "bert")
    scenarios.make_bert().save_pretrained(tmp_path / "bert")
    monkeypatch.setattr(models, "IMAGE_MODEL", str(tmp_path / "vit"))
    monkeypatch.setattr(tasks, "TEXT_MODEL", str(tmp_path / "bert"))
    rows = Dataset.from_dict({"text": ["some words"] * 20, "labels": [[0], [0, 1, 2]] * 10})
    monkeypatch.setattr(sources, "load_dataset", lambda *args, **kwargs: DatasetDict(train=rows, validation=rows))
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
    assert count_labels(task.dev, 10).positives.tolist() == [400] * 10
    train, dev, validation = (set(part.with_format(None)["row"]) for part in (task.train, task.dev, task.validation))
    assert train.isdisjoint(dev | validation)
    assert dev.isdisjoint(validation)


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


@pytest.mark.parametrize("preset", ["default", "paper", "off"])
def test_the_results_of_the_tables_are_found(preset):
    """File names depend on all settings. A new setting must not change them where it is not set."""
    assert training.Run("debtags", {"plm_preset": preset}, 0).path(tasks.Source()).is_file()
