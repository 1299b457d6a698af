"""Labels are read in the same way everywhere: 1, 0 or unknown, and nothing else."""

import contextlib
import csv
import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scenarios import rows_with

from hf_plm import LabelCounts, PLMLoss, PLMTrainer
from hf_plm.command_line import main as run_hf_plm

EXAMPLES = Path(__file__).parent.parent / "examples"


@pytest.fixture(params=["text", "image"])
def read_csv(request, tmp_path, monkeypatch):
    """A function that writes label texts into a csv file and reads it as an example does."""
    monkeypatch.setattr(sys, "path", [str(EXAMPLES), *sys.path])
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    example = importlib.import_module(f"train_{request.param}")
    Image.new("RGB", (8, 8)).save(tmp_path / "picture.png")
    content = {"text": "a text", "image": str(tmp_path / "picture.png")}[request.param]

    def read(labels):
        for name in ("train", "validation"):
            with open(tmp_path / f"{name}.csv", "w", newline="") as file:
                csv.writer(file).writerows([[request.param, "labels"], *([content, text] for text in labels)])
        files = {f"{name}_file": str(tmp_path / f"{name}.csv") for name in ("train", "validation")}
        train = example.ScriptArguments(**files).read_data(example.DATA)["train"]
        names = getattr(train.features["labels"].feature, "names", None)
        return [row if names is None else [names[index] for index in row] for row in train["labels"]]

    return read


@pytest.mark.parametrize("cat_and_dog", ["['cat', 'dog']", '["cat", "dog"]', "cat, dog", " cat ,dog, "])
def test_lists_that_a_table_holds_as_text_are_lists(cat_and_dog, read_csv):
    is_list = "[" in cat_and_dog
    rows = [cat_and_dog, "['dog']" if is_list else "dog", "[]" if is_list else ""]
    assert read_csv(rows) == [["cat", "dog"], ["dog"], []]


@pytest.mark.parametrize(("cat_and_dog", "dog"), [("('cat', 'dog')", "('dog',)"), ("{'cat', 'dog'}", "{'dog'}")])
def test_tuples_and_sets_that_a_table_holds_as_text_are_lists(cat_and_dog, dog, read_csv):
    assert [sorted(row) for row in read_csv([cat_and_dog, dog, ""])] == [["cat", "dog"], ["dog"], []]


def test_brackets_may_belong_to_a_name(read_csv):
    assert read_csv(["(cat)|{dog}", "{dog}", "(cat)"]) == [["(cat)", "{dog}"], ["{dog}"], ["(cat)"]]


@pytest.mark.parametrize("text", ["['cat' 'dog']", "['cat'\n 'dog']", "['bird', 'cat' 'dog']"])
def test_names_in_arrays_printed_by_numpy_are_separate_labels(text, read_csv):
    with pytest.raises(ValueError, match="is not a list of names"):
        read_csv([text, "['dog']"])


@pytest.mark.parametrize("rows", [["[cat, dog]", "[dog]"], ["['cat', 'dog']", "dog, cat"], ["[1]", "['dog']"]])
def test_lists_that_cannot_be_read_are_refused(rows, read_csv):
    with pytest.raises(ValueError, match="dog|names"):
        read_csv(rows)


def test_vectors_that_a_table_holds_as_text_are_vectors(read_csv):
    assert read_csv(["[0, 1, 1]", "[1, 0, 0]", "[0, 0, 1]"]) == [[0, 1, 1], [1, 0, 0], [0, 0, 1]]


TAGS = [[f"tag{index}", f"tag{(index + 1) % 10}", f"tag{(index + 3) % 10}"] for index in range(10)]


@pytest.mark.parametrize("separator", ["|", ";", " | ", " "])
def test_names_joined_by_a_different_separator_are_split_or_refused(separator, read_csv):
    try:
        rows = read_csv([separator.join(names) for names in TAGS])
    except ValueError as error:
        assert "separat" in str(error) and TAGS[0][0] in str(error)
    else:
        assert [sorted(row) for row in rows] == [sorted(names) for names in TAGS]


@pytest.mark.parametrize("cells", [["cat|dog, owl", "dog"], ["cat;dog", "owl|dog"]])
def test_names_joined_by_two_separators_are_refused(cells, read_csv):
    with pytest.raises(ValueError, match="separat"):
        read_csv(cells)


@pytest.mark.parametrize("labels", ["['cat', 'dog']", "cat|dog"])
def test_the_command_line_does_not_take_brackets_for_names(labels, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    with open(tmp_path / "own.csv", "w", newline="") as file:
        csv.writer(file).writerows([["labels"], *[[labels], ["dog"], ["cat"]] * 5])
    with contextlib.suppress(SystemExit):
        run_hf_plm(["inspect", str(tmp_path / "own.csv"), "--json"])
    shown = capsys.readouterr()
    assert "separat" in shown.err or json.loads(shown.out)["names"] == ["cat", "dog"]


def test_a_table_may_begin_with_rows_without_labels(read_csv):
    rows = read_csv([""] * 1_050 + ["cat, dog", "dog"] * 5)
    assert rows[:1_050] == [[]] * 1_050
    assert rows[1_050:1_052] == [["cat", "dog"], ["dog"]]


def make_loss(num_labels=3, **kwargs):
    counts = LabelCounts([50] * num_labels, [50] * num_labels, [f"label {index}" for index in range(num_labels)])
    return PLMLoss(counts, initial_ratio="dataset", **kwargs)


@pytest.mark.parametrize("value", [0.95, 0.05, 0.5, -1, 2, 255, 1.0001, torch.inf, -torch.inf, -99, -101])
@pytest.mark.parametrize("training", [True, False])
def test_a_label_other_than_1_0_or_unknown_is_refused_and_the_error_shows_its_place(value, training):
    labels = torch.zeros(4, 3)
    labels[2, 1] = value
    with pytest.raises(ValueError) as error:
        make_loss().train(training)(torch.zeros(4, 3), labels)
    shown = str(error.value)
    assert f"{value:g}"[:4] in shown
    assert "row 2" in shown and "label 1" in shown


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int32, torch.int64, torch.float16, torch.bfloat16])
def test_wrong_labels_of_every_dtype_are_refused_and_right_ones_accepted(dtype):
    right = torch.tensor([[1, 0, 1], [0, 0, 1]]).to(dtype)
    expected = make_loss()(torch.ones(2, 3), right.float())
    assert torch.equal(make_loss()(torch.ones(2, 3), right), expected)
    wrong = right.clone()
    wrong[1, 0] = 2
    with pytest.raises(ValueError, match="row 1"):
        make_loss()(torch.ones(2, 3), wrong)


@pytest.mark.parametrize("ids", [[[0, 3]], [[0, -2]], [[-1, 0]], [[0, 999]]])
@pytest.mark.parametrize("training", [True, False])
def test_invalid_class_ids_are_refused(ids, training):
    with pytest.raises(ValueError, match="row 0"):
        make_loss(sparse=True).train(training)(torch.zeros(1, 3), torch.tensor(ids))


def soft_collator(value):
    """A collator that makes the labels itself, as for label smoothing or mixup."""

    def collate(rows):
        labels = torch.zeros(len(rows), 5)
        labels[:, 0] = value
        return {"input_ids": torch.tensor([row["input_ids"] for row in rows]), "labels": labels}

    return collate


class MakesLabels(torch.utils.data.Dataset):
    """Rows that get soft labels from a transform when they are read."""

    def __len__(self):
        return 16

    def __getitem__(self, index):
        return {"input_ids": [5, 6], "labels": np.array([0.95, 0, 0, 0, 0], np.float32)}


@pytest.mark.parametrize("door", ["train", "evaluate"])
def test_soft_labels_of_a_collator_or_a_data_set_are_refused(door, make_bert, make_args):
    counts = LabelCounts([8] * 5, [8] * 5)
    trainer = PLMTrainer(
        make_bert(), make_args(), train_dataset=MakesLabels(), eval_dataset=MakesLabels(), label_counts=counts
    )
    with pytest.raises(ValueError, match=r"0\.9[45]"):
        getattr(trainer, door)()


@pytest.mark.parametrize("value", [0.95, 2.0])
@pytest.mark.parametrize("door", ["train", "evaluate"])
def test_soft_labels_that_a_collator_makes_are_refused(value, door, make_bert, make_args):
    trainer = PLMTrainer(
        make_bert(),
        make_args(remove_unused_columns=False),
        soft_collator(value),
        train_dataset=rows_with([[0], [1], [2], [3], [4]]).rename_column("labels", "soft"),
        eval_dataset=rows_with([[0], [1]]).rename_column("labels", "soft"),
        label_counts=LabelCounts([8] * 5, [8] * 5),
    )
    with pytest.raises(ValueError, match=f"{value:g}"[:4]):
        getattr(trainer, door)()


@pytest.mark.parametrize("wrong", [3, -2])
def test_a_class_id_that_a_single_label_model_lacks_is_refused(wrong, make_bert, make_args):
    data = rows_with([0, 1, 2] * 4)
    trainer = PLMTrainer(make_bert(3), make_args(), train_dataset=data)
    with pytest.raises(ValueError, match=str(wrong)):
        trainer.evaluate(rows_with([0, wrong, -100]))
    assert np.isfinite(trainer.evaluate(rows_with([0, 1, -100]))["eval_loss"])
