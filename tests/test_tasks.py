"""Tables become tasks: missing parts are split off, and the contents show which columns are texts or pictures."""

import numpy as np
import pytest
import scenarios
from datasets import Dataset, DatasetDict
from PIL import Image

from hf_plm.recipes import text_tokenizer
from hf_plm.tasks import TaskArguments, choose_text_column, load_task, split_parts


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))


def rows_of(size, first=0):
    labels = [["a"] * (row % 2 == 0) + ["b"] * (row % 3 == 0) + ["c"] * (row % 9 == 0) for row in range(size)]
    return Dataset.from_dict({"text": [f"text {first + row}" for row in range(size)], "labels": labels})


@pytest.mark.parametrize("given", [["train"], ["train", "validation"], ["train", "test"]])
def test_missing_parts_are_split_off_train_and_no_row_is_in_two_parts(given):
    parts = DatasetDict({part: rows_of(90, 1000 * number) for number, part in enumerate(given)})
    whole = split_parts(parts)
    assert list(whole) == ["train", "validation", "test"]
    for part in given[1:]:
        assert whole[part]["text"][:] == parts[part]["text"][:]
    texts = [text for rows in whole.values() for text in rows["text"]]
    assert sorted(texts) == sorted(text for rows in parts.values() for text in rows["text"])
    assert all(rows.split == part for part, rows in whole.items())
    for part in set(whole) - set(given):
        assert 8 <= len(whole[part]) <= 10
        assert {name for labels in whole[part]["labels"] for name in labels} == {"a", "b", "c"}
    assert split_parts(parts)["test"]["text"][:] == whole["test"]["text"][:]


@pytest.mark.parametrize(
    ("of_text", "columns", "column", "found"),
    [
        (["comment"], ["id", "comment"], None, "comment"),
        (["package", "text"], ["package", "text"], None, "text"),
        (["package", "text"], ["package", "text"], "package", "package"),
        (["id", "comment_text"], ["id", "comment_text"], None, "comment_text"),  # as in data sets on Kaggle
        (["post_id", "Id", "body"], ["post_id", "Id", "body"], None, "body"),
        (["id"], ["id"], None, "id"),
    ],
)
def test_the_text_column_is_found(of_text, columns, column, found):
    assert choose_text_column(of_text, columns, column) == found


@pytest.mark.parametrize(
    ("of_text", "column", "message"),
    [
        (["title", "body"], None, r"several columns hold texts: \['title', 'body'\].*--text-column"),
        ([], None, "no column holds texts or pictures"),
        (["title"], "body", r"text_column is 'body', but the columns are \['title', 'n'\]"),
    ],
)
def test_an_error_asks_for_the_text_column_if_it_is_not_clear(of_text, column, message):
    with pytest.raises(ValueError, match=message):
        choose_text_column(of_text, ["title", "n"], column)


def test_a_task_has_inputs_labels_and_a_model_with_the_names_of_all_parts(tmp_path):
    rows_of(60).to_parquet(tmp_path / "train.parquet")
    extra = Dataset.from_dict({"text": ["x"] * 4, "labels": [["only in test"]] * 4})
    extra.to_parquet(tmp_path / "test.parquet")
    task = load_task(str(tmp_path / "train.parquet"), TaskArguments(test_file=str(tmp_path / "test.parquet")))
    assert {part: len(rows) for part, rows in task.data.items()} == {"train": 54, "validation": 6, "test": 4}
    assert task.counts.label_names == ["a", "b", "c", "only in test"]
    assert task.counts.positives[3] == 0
    model = task.make_model()
    assert list(model.config.id2label.values()) == task.counts.label_names
    assert task.processor.model_max_length == 48
    assert set(task.data["train"][0]) >= {"input_ids", "attention_mask", "labels"}
    assert "train 54, validation 6, test 4" in task.description


def test_pictures_are_found_by_their_column(tmp_path):
    for row in range(30):
        Image.fromarray(np.full((8, 8), row, np.uint8)).save(tmp_path / f"{row}.png")  # one channel
    labels = ["a|b" if row % 3 else "b" for row in range(30)]
    Dataset.from_dict({"image": [str(tmp_path / f"{row}.png") for row in range(30)], "labels": labels}).to_csv(
        tmp_path / "pictures.csv"
    )
    task = load_task(str(tmp_path / "pictures.csv"), TaskArguments())
    assert task.data["train"][:2]["pixel_values"].shape == (2, 3, 64, 64)
    assert "a small ViT" in task.description


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"validation_split": "dev"}, "is a file, but config, train_split, validation_split and test_split are for"),
        ({"text_column": "labels", "image_column": "image"}, "leave one of them out"),
        ({"max_train_samples": 0}, "max_train_samples is 0; it must be 1 or more"),
        ({"max_length": 0}, "max_length is 0; it must be from 1 to"),
    ],
)
def test_errors_name_flags_that_do_not_fit(flags, message, tmp_path):
    rows_of(30).to_parquet(tmp_path / "data.parquet")
    with pytest.raises(ValueError, match=message):
        load_task(str(tmp_path / "data.parquet"), TaskArguments(**flags))


def test_rows_without_a_text_and_one_class_id_per_row_are_refused(tmp_path):
    rows = rows_of(30).to_pandas()
    rows.loc[3, "text"] = None
    rows.to_parquet(tmp_path / "empty.parquet")
    with pytest.raises(ValueError, match="column 'text': 1 rows of '(train|validation|test)' have no text"):
        load_task(str(tmp_path / "empty.parquet"), TaskArguments())
    Dataset.from_dict({"text": ["x"] * 30, "labels": [0, 1, 2] * 10}).to_parquet(tmp_path / "class.parquet")
    with pytest.raises(ValueError, match="one class id per row"):
        load_task(str(tmp_path / "class.parquet"), TaskArguments())


def test_the_usual_column_is_used_if_it_exists():
    assert choose_text_column(["text", "body"], ["text", "body"], None, "body") == "body"
    assert choose_text_column(["text", "title"], ["text", "title"], None, "body") == "text"
    assert choose_text_column(["text", "body"], ["text", "body"], "text", "body") == "text"


def test_names_of_pictures_are_not_taken_for_texts(tmp_path):
    rows = {"file": [f"{row}.JPG" for row in range(30)], "labels": ["a|b", "b", "a"] * 10}
    Dataset.from_dict(rows).to_csv(tmp_path / "pictures.csv")
    with pytest.raises(
        ValueError, match=r"column 'file' holds file names of pictures, such as '.*--image-column file"
    ):
        load_task(str(tmp_path / "pictures.csv"), TaskArguments())
    assert (
        "texts in 'file'" in load_task(str(tmp_path / "pictures.csv"), TaskArguments(text_column="file")).description
    )


def test_a_message_lists_only_the_columns_of_the_file(tmp_path):
    rows = {"title": ["x"] * 30, "body": ["y"] * 30, "tag_a": [0, 1, 1] * 10, "tag_b": [1, 0, 1] * 10}
    Dataset.from_dict(rows).to_csv(tmp_path / "rows.csv")
    with pytest.raises(ValueError, match=r"\(all columns: \['title', 'body'\]\)"):
        load_task(str(tmp_path / "rows.csv"), TaskArguments(label_columns="tag_*"))


def test_texts_are_cut_to_the_maximum_length_of_the_model(tmp_path):
    scenarios.make_bert().save_pretrained(tmp_path)  # 16 positions
    scenarios.make_tokenizer().save_pretrained(tmp_path)
    assert text_tokenizer(str(tmp_path), []).model_max_length == 16
    assert text_tokenizer(str(tmp_path), [], 9).model_max_length == 9
    with pytest.raises(ValueError, match="max_length is 17; it must be from 1 to 16"):
        text_tokenizer(str(tmp_path), [], 17)
