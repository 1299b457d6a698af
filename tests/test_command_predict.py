"""`hf-plm predict` writes the results of `predict` for files of every kind, in bounded memory."""

import csv
import json

import numpy as np
import pandas as pd
import pytest
import scenarios
from datasets import Dataset
from PIL import Image
from transformers import AutoModelForSequenceClassification, ViTImageProcessorPil

from hf_plm import predict, read_labeled
from hf_plm.command_line import main
from hf_plm.file_predictions import load_classifier, predict_file
from hf_plm.run_record import write_record
from hf_plm.table_streams import CsvTexts

TEXTS = ["a small editor", 'game, of "colours"', "", "small\ngame", "007", "NA", "library of a game"]
NAMES = ["red", "green", "a|b", "round", "square"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    return tmp_path


@pytest.fixture
def model(folder):
    """The folder of a model with thresholds other than 0."""
    save_model(NAMES)
    return "model"


def save_model(names):
    bert = scenarios.make_bert(len(names), **scenarios.named(names))
    bert.config.plm = {"num_labels": len(names), "thresholds": [0.1, -0.1, 0.0, 0.05, -0.05], "scores": "trained"}
    bert.save_pretrained("model")
    scenarios.make_tokenizer().save_pretrained("model")


def read(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("suffix", ["csv", "csv.gz", "tsv", "jsonl", "parquet"])
def test_a_file_of_any_kind_gets_the_results_of_predict(suffix, model, folder):
    table = pd.DataFrame({"number": range(7), "comment": TEXTS})
    path = f"rows.{suffix}"
    if suffix == "jsonl":
        table.to_json(path, orient="records", lines=True)
    elif suffix == "parquet":
        table.to_parquet(path)
    else:
        table.to_csv(path, index=False, sep="\t" if suffix == "tsv" else ",")
    main(["predict", model, path, "--output", "out.csv", "--batch-size", "3", "--text-column", "comment"])
    rows = read("out.csv")
    classifier, tokenizer = load_classifier(model)
    scores = predict(classifier, TEXTS, tokenizer, output="array")
    names = predict(classifier, TEXTS, tokenizer)
    assert [row["comment"] for row in rows] == TEXTS
    assert [int(row["row"]) for row in rows] == list(range(7))
    assert [json.loads(row["labels"]) for row in rows] == names  # a list, because a name holds |
    assert any(names) and any(set(NAMES) - set(each) for each in names)
    np.testing.assert_allclose([[float(row[f"score_{name}"]) for name in NAMES] for row in rows], scores, atol=1e-6)
    assert [[name for name in NAMES if row[f"predicted_{name}"] == "1"] for row in rows] == names


def test_the_column_used_in_training_is_the_default(model, folder):
    pd.DataFrame({"comment": TEXTS, "title": ["x"] * 7, "tags": ["red"] * 7}).to_csv("rows.csv", index=False)
    with pytest.raises(SystemExit):
        main(["predict", model, "rows.csv", "--output", "out.csv"])
    write_record(model, {}, {"text_column": "comment"})
    for path in ("rows.csv", "rows.parquet"):
        read_labeled("rows.csv", label_column="tags")["train"].to_parquet("rows.parquet")
        main(["predict", model, path, "--output", "new/folder/out.csv"])
        assert [row["comment"] for row in read("new/folder/out.csv")] == TEXTS
    main(["predict", model, "rows.csv", "--output", "out.csv", "--text-column", "title"])
    assert [row["title"] for row in read("out.csv")] == ["x"] * 7


def test_labels_are_written_as_read_labeled_reads_them(folder):
    names = ["red", "green", "blue", "round", "square"]
    save_model(names)
    Dataset.from_dict({"text": TEXTS, "labels": ["red"] * 7}).to_csv("rows.csv")
    main(["predict", "model", "rows.csv", "--output", "out.csv"])
    found = read_labeled("out.csv", separator="|")["train"]["labels"][:]
    model = AutoModelForSequenceClassification.from_pretrained("model")
    assert [list(each) for each in found] == predict(model, TEXTS, scenarios.make_tokenizer())


def test_a_csv_file_is_read_block_by_block(folder, monkeypatch):
    monkeypatch.setattr("hf_plm.table_streams.BLOCK_BYTES", 1000)
    texts = [f"text {row}, " + "x" * (row % 50) for row in range(500)]
    pd.DataFrame({"n": [*range(499), "not a number"], "text": texts}).to_csv("rows.csv", index=False)
    rows = CsvTexts("rows.csv", ",")
    assert list(rows.columns()) == ["n", "text"]
    rows.column = "text"
    assert rows.count_rows() == 500
    assert list(rows) == texts
    assert max(len(batch) for batch in rows._batches()) < 100


def test_an_error_says_how_far_it_got(model, folder):
    rows = [{"text": "a small game"}] * 8 + [{"text": "editor"}]
    Dataset.from_list(rows).to_parquet("rows.parquet")
    classifier, tokenizer = load_classifier(model)
    weights = classifier.classifier.weight
    forward, calls = classifier.forward, []

    def forward_until_the_third_batch(**inputs):
        calls.append(1)
        if len(calls) == 3:
            weights.data.fill_(float("nan"))
        return forward(**inputs)

    classifier.forward = forward_until_the_third_batch
    forward_until_the_third_batch.__signature__ = __import__("inspect").signature(forward)
    with pytest.raises(
        ValueError, match=r"row 8 of the inputs has logits that are NaN.* out.csv has the first 8 rows"
    ):
        predict_file(classifier, tokenizer, "rows.parquet", "out.csv", batch_size=4)
    assert len(read("out.csv")) == 8


def test_pictures_are_read_from_their_files(make_vit, folder):
    make_vit(5).save_pretrained("vit")
    ViTImageProcessorPil(size={"height": 8, "width": 8}).save_pretrained("vit")
    (folder / "pictures").mkdir()
    for row in range(5):
        Image.fromarray(np.full((8, 8, 3), 40 * row, np.uint8)).save(f"pictures/{row}.png")
    pd.DataFrame({"file": [f"{row}.png" for row in range(5)]}).to_csv("rows.csv", index=False)
    main(["predict", "vit", "rows.csv", "--output", "o.csv", "--image-column", "file", "--image-folder", "pictures"])
    rows = read("o.csv")
    write_record("vit", {}, {"image_column": "file"})
    main(["predict", "vit", "rows.csv", "--output", "again.csv", "--image-folder", "pictures"])
    assert read("again.csv") == rows
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save("pictures/007.png")
    pd.DataFrame({"image": ["007"], "n": [1]}).to_csv("numbers.csv", index=False)
    main(["predict", "vit", "numbers.csv", "--output", "numbers-out.csv", "--image-folder", "pictures"])
    assert [row["image"] for row in read("numbers-out.csv")] == ["007"]
    expected = predict(
        *load_classifier("vit")[:1], [f"pictures/{row}.png" for row in range(5)], load_classifier("vit")[1]
    )
    assert [row["file"] for row in rows] == [f"{row}.png" for row in range(5)]
    assert [row["labels"].split("|") if row["labels"] else [] for row in rows] == expected


def test_an_error_names_a_broken_line(model, folder, capsys):
    (folder / "rows.csv").write_text("text,n\na,1\nb,2,3\n")
    with pytest.raises(SystemExit):
        main(["predict", model, "rows.csv", "--output", "o.csv"])
    assert "rows.csv cannot be read: CSV parse error: Row #3: Expected 2 columns, got 3" in capsys.readouterr().err
