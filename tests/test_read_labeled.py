"""Files, frames and data sets with labels as text, lists or columns become rows with `labels`."""

import gzip
import json
import math
import os

import numpy as np
import pandas as pd
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, List, load_dataset

from hf_plm import (
    PLMTrainer,
    count_labels,
    inspect_labels,
    label_space_of,
    read_labeled,
    train_test_split_multilabel,
)
from hf_plm.command_line import main as run_hf_plm

ROWS = [["cat", "dog"], [], ["dog"]]
FRAME = pd.DataFrame({"text": ["x", "y", "z"], "labels": ["cat|dog", "", "dog|"]})


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))


def write_all_kinds():
    FRAME.to_csv("a.csv", index=False)
    FRAME.to_csv("a.tsv", index=False, sep="\t")
    FRAME.to_json("a.jsonl", orient="records", lines=True)
    FRAME.to_json("a.json", orient="records")
    FRAME.to_parquet("a.parquet")
    with open("a.csv", "rb") as file, gzip.open("b.csv.gz", "wb") as packed:
        packed.write(file.read())
    os.mkdir("folder")
    FRAME.to_csv("folder/train.csv", index=False)


@pytest.mark.parametrize("source", ["a.csv", "a.tsv", "a.jsonl", "a.json", "a.parquet", "b.csv.gz", "folder"])
def test_files_of_every_kind_and_sources_of_load_dataset_are_read(source):
    write_all_kinds()
    data = read_labeled(source)
    assert list(data) == ["train"]
    assert data["train"]["labels"][:] == ROWS
    assert data["train"]["text"][:] == ["x", "y", "z"]


def test_frames_and_data_sets_in_memory():
    rows = Dataset.from_pandas(FRAME)
    for source in (FRAME, rows, rows.with_format("numpy"), DatasetDict(train=rows), {"train": rows}):
        assert [list(row) for row in read_labeled(source)["train"]["labels"][:]] == ROWS
    chosen = read_labeled(rows.select([2, 0]))["train"]
    assert chosen["labels"][:] == [["dog"], ["cat", "dog"]]
    assert chosen["text"][:] == ["z", "x"]


def test_parts_are_read_in_the_same_way_and_share_their_names():
    write_all_kinds()
    one = pd.DataFrame({"text": ["q", "r"], "labels": ["owl", None]})  # shows no separator
    data = read_labeled({"train": "a.csv", "validation": one, "test": "a.tsv"})
    assert data["validation"]["labels"][:] == [["owl"], []]
    assert label_space_of(*data.values()).names == ("cat", "dog", "owl")
    chosen = read_labeled(data, split={"validation": "test"})
    assert {name: len(rows) for name, rows in chosen.items()} == {"validation": 3}
    assert list(read_labeled(data, split="validation")) == ["validation"]
    with pytest.raises(ValueError, match="split is 'dev', but the data have only the parts 'train', 'validation'"):
        read_labeled(data, split="dev")


def test_a_table_may_begin_with_many_rows_without_labels():
    rows = 13_000
    text = pd.DataFrame({"text": "a text " * 120, "labels": [""] * rows + ["a|b"]})
    text.to_csv("late.csv", index=False)
    assert read_labeled("late.csv")["train"][-1]["labels"] == ["a", "b"]
    lists = text.assign(labels=[[]] * rows + [["a", "b"]])
    lists.to_json("late.jsonl", orient="records", lines=True)
    assert os.path.getsize("late.jsonl") > 10 << 20  # more than the block that decides the type
    assert read_labeled("late.jsonl")["train"][-1]["labels"] == ["a", "b"]
    columns = pd.DataFrame({"a": [""] * rows + [1], "b": [1] * rows + [""]}, dtype=str)
    columns.to_csv("late_columns.csv", index=False)
    assert read_labeled("late_columns.csv", label_columns="a,b")["train"][-1]["labels"] == {"a": 1, "b": None}


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["NA|None", "null", "None"], [["NA", "None"], ["null"], ["None"]]),
        (["007|1", "1", ""], [["007", "1"], ["1"], []]),
        (['it\'s|"q"', "it's"], [["it's", '"q"'], ["it's"]]),
        (["'cat', 'dog'", "'dog'"], [["cat", "dog"], ["dog"]]),
        (["猫|犬", "犬"], [["猫", "犬"], ["犬"]]),
        (["2020-01-01", "2020-01-02"], [["2020-01-01"], ["2020-01-02"]]),
        (["a\nb|c", "c"], [["a\nb", "c"], ["c"]]),
        (["3", "", "0"], [3, None, 0]),
        (["3.0", "", "0.0"], [3, None, 0]),
        (["[1, null]", "[0, 1]"], [[1, None], [0, 1]]),
        (["[true, false]", "[false, true]"], [[1, 0], [0, 1]]),
        (["Arts, Crafts|Toys", "Toys|Games", "Games"], [["Arts, Crafts", "Toys"], ["Toys", "Games"], ["Games"]]),
    ],
)
def test_cells_of_a_csv_file_are_read_by_their_form(cells, expected):
    pd.DataFrame({"labels": cells, "x": 1}).to_csv("a.csv", index=False)
    assert read_labeled("a.csv")["train"]["labels"][:] == expected


@pytest.mark.parametrize(
    ("cells", "held"),
    [
        (["Rome, Italy", "Paris", "London"], "','"),
        (["cat/dog", "dog/owl", "owl/cat"], "'/'"),
        (["cat + dog", "dog + owl", "owl"], r"'\+'"),
        (["a|b", "a|c", "b,c"], r"'\|' and ','"),
        (["New York", "Rome"], "blanks"),
    ],
)
def test_an_error_asks_for_a_separator_that_is_not_clear(cells, held):
    with pytest.raises(ValueError, match=rf"with {held}; give the separator .*separator=\.\.\. \(--separator\)"):
        read_labeled(pd.DataFrame({"labels": cells}))
    assert read_labeled(pd.DataFrame({"labels": cells}), separator="")["train"]["labels"][:] == [[c] for c in cells]


def test_repeated_labels_count_once_with_a_warning(messages):
    typed = Dataset.from_dict({"labels": [[0, 0], [1]]}).cast_column("labels", List(ClassLabel(names=["a", "b"])))
    for source, expected in (
        (Dataset.from_dict({"labels": [[1, 1, 3], [3, 1, 3], [2]]}), [[1, 3], [3, 1], [2]]),
        (pd.DataFrame({"labels": ["b|a|b", "a"]}), [["b", "a"], ["a"]]),
        (typed, [[0], [1]]),
    ):
        messages.clear()
        rows = read_labeled(source)["train"]
        assert rows["labels"][:] == expected
        assert "rows list a label more than once, such as row 0 of 'train'" in messages.text
    assert rows.features["labels"] == typed.features["labels"]
    messages.clear()
    vectors = [[1, 1, 0], [0, 1, 1]]
    assert read_labeled(Dataset.from_dict({"labels": vectors}))["train"]["labels"][:] == vectors
    assert not messages.text


def columns_frame(**others):
    return pd.DataFrame(
        {"text": ["x", "y", "z"], "toxic": [1, 0, 0], "obscene": [1, 1, 0], "threat": [0, 0, 0]} | others
    )


@pytest.mark.parametrize("columns", ["toxic, obscene,threat", ["toxic", "obscene", "threat"], "tox*,*e*"])
@pytest.mark.parametrize("kind", [int, float, bool, str])
def test_label_columns_become_ids_with_the_names_of_the_columns(columns, kind):
    frame = columns_frame()
    frame[["toxic", "obscene", "threat"]] = frame[["toxic", "obscene", "threat"]].astype(kind)
    if columns == "tox*,*e*":
        frame = frame.drop(columns="text")
    rows = read_labeled(frame, label_columns=columns)["train"]
    assert rows.features["labels"] == List(ClassLabel(names=["toxic", "obscene", "threat"]))
    assert rows["labels"][:] == [[0, 1], [1], []]
    assert not set(rows.column_names) & {"toxic", "obscene", "threat"}
    counts = count_labels(rows)
    assert counts.label_names == ["toxic", "obscene", "threat"]  # includes the label that no row has
    assert counts.positives.tolist() == [1, 2, 0]


def test_unknown_labels_of_columns_stay_unknown_and_keep_their_names():
    columns_frame(obscene=["", "1", "0"], threat=[0, -1, 1]).to_csv("a.csv", index=False)
    columns_frame().iloc[:, ::-1].to_csv("b.csv", index=False)
    data = read_labeled({"train": "a.csv", "validation": "b.csv"}, label_columns="toxic,obscene,threat")
    assert data["train"]["labels"][:2] == [
        {"toxic": 1, "obscene": None, "threat": 0},
        {"toxic": 0, "obscene": 1, "threat": None},
    ]
    assert label_space_of(*data.values()).names == ("toxic", "obscene", "threat")
    counts = count_labels(data["train"])
    assert counts.positives.tolist() == [1, 1, 1]
    assert counts.negatives.tolist() == [2, 1, 1]
    assert inspect_labels(data["train"]).unknown.tolist() == [0, 1, 1]
    turned = count_labels(data["train"], label_names=["threat", "toxic", "obscene"])
    assert turned.negatives.tolist() == [1, 2, 1]


def test_values_by_name_train_the_outputs_of_their_names(make_bert, make_args):
    train = [{"a": 1, "b": 0, "c": None}, {"a": 0, "b": 1, "c": 0}] * 8
    turned = [{"c": row["c"], "b": row["b"], "a": row["a"]} for row in train]
    parts = [Dataset.from_list([{"input_ids": [5, 6], "labels": row} for row in rows]) for rows in (train, turned)]
    trainer = PLMTrainer(make_bert(3), make_args(), train_dataset=parts[0], eval_dataset=parts[1])
    assert list(trainer.model.config.id2label.values()) == ["a", "b", "c"]
    first = trainer.data_collator([{"input_ids": [5], "labels": train[0]}])["labels"][0]
    assert first[:2].tolist() == [1, 0] and math.isnan(first[2])
    assert next(iter(trainer.get_eval_dataloader()))["labels"][1].tolist() == [0, 1, 0]
    trainer.train()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"label_columns": "toxic,obsc"}, "label_columns names 'obsc', and 'train' has no such column; it has"),
        ({"label_columns": "text,toxic"}, "label column 'text', row 0 of 'train': 'x' is neither 1, 0 nor unknown"),
        ({"label_columns": "toxic", "separator": ","}, "separator=',' is also given"),
        ({"label_columns": "toxic", "label_column": "tags"}, "label_column='tags' is also given"),
        ({}, r"no column 'labels' in 'train', only text, .*label_columns='toxic,obscene,threat' \(--label-columns\)"),
        ({"label_column": "toxic", "separator": ","}, "separator is ',', but column 'labels' is not text"),
        ({"config": "en", "label_columns": "toxic"}, "config is 'en', but only data sets of the Hub have"),
        ({"label_columns": "toxic", "image_folder": "none"}, "image_folder is 'none', but there is no such folder"),
        ({"label_columns": "toxic", "image_column": "file"}, "image_column is 'file', but the columns are"),
    ],
)
def test_errors_name_arguments_that_do_not_fit_the_table(arguments, message):
    with pytest.raises(ValueError, match=message):
        read_labeled(columns_frame(), **arguments)


def test_errors_name_sources_that_cannot_be_read():
    with open("latin.csv", "wb") as file:
        file.write("text,labels\nä,a\n".encode("latin1"))
    with open("other.csv", "w") as file:
        file.write("text;labels\nx;a\n")
    with open("ragged.csv", "w") as file:
        file.write("text,labels\nx,a,b\n")
    with open("twice.csv", "w") as file:
        file.write("labels,labels\nx,a\n")
    with open("notes.txt", "w") as file:
        file.write("a")
    for source, message in (
        ("latin.csv", "latin.csv is not UTF-8"),
        ("other.csv", r"no column 'labels' .*pandas.read_csv\(file, sep=\.\.\.\)"),
        ("ragged.csv", "ragged.csv cannot be read: .*Expected 2 columns, got 3.* with ',' between the columns"),
        ("twice.csv", "has a column name twice"),
        ("notes.txt", "is not a .csv, .tsv"),
        (["a.csv"], "list is not a table: .*several of them in a mapping"),
        (Dataset.from_pandas(FRAME).to_iterable_dataset(), "IterableDataset is not a table"),
        ({"train": FRAME, "test": "organisation/name"}, "organisation/name is not a table"),
    ):
        with pytest.raises(ValueError, match=message):
            read_labeled(source)
    with pytest.raises(FileNotFoundError, match="none.tsv"):
        read_labeled("none.tsv")
    parts = {"train": columns_frame(), "test": columns_frame().drop(columns="toxic")}
    with pytest.raises(ValueError, match=r"'train' has 2 such columns and 'test' has 1; not in both: \['toxic'\]"):
        read_labeled(parts, label_columns="*c*")
    with pytest.raises(ValueError, match="'toxic', and 'test' has no such column"):
        read_labeled(parts, label_columns="toxic")


def test_two_columns_that_might_be_the_labels_are_refused():
    with pytest.raises(ValueError, match="label_column is 'tags', but 'train' also has a column 'labels'"):
        read_labeled(FRAME.assign(tags=["a", "b", "c"]), label_column="tags")
    with pytest.raises(ValueError, match="there is also a column 'labels'"):
        read_labeled(FRAME.assign(a=[1, 0, 1]), label_columns="a")


def test_the_command_line_reads_label_columns(capsys):
    columns_frame(threat=[0, "", 1]).to_csv("a.tsv", index=False, sep="\t")
    run_hf_plm(["inspect", "a.tsv", "--label-columns", "to*,obscene,threat", "--json"])
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert report["names"] == ["toxic", "obscene", "threat"]
    assert report["positives"] == [1, 2, 1]
    with pytest.raises(SystemExit):
        run_hf_plm(["inspect", "a.tsv"])
    assert "--label-columns" in capsys.readouterr().err


def test_the_result_can_be_split_and_selected_like_any_data_set():
    frame = pd.DataFrame(np.eye(3, dtype=int)[np.arange(60) % 3], columns=["a", "b", "c"])
    frame.loc[::7, "c"] = -1
    rows = read_labeled(frame, label_columns="a,b,c")["train"].shuffle(0)
    parts = train_test_split_multilabel(rows, test_size=0.5)
    assert [count_labels(part).label_names for part in parts.values()] == [["a", "b", "c"]] * 2
    parts["train"].to_parquet("again.parquet")
    again = load_dataset("parquet", data_files="again.parquet", split="train")
    assert count_labels(again).negatives.tolist() == count_labels(parts["train"]).negatives.tolist()
