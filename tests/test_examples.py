"""Both examples run for a few steps as users start them, on the repository's data and on users' files."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset, load_dataset
from PIL import Image
from transformers import AutoModelForImageClassification, AutoModelForSequenceClassification, pipeline

from hf_plm import PLMState
from hf_plm.small_models import train_tokenizer

EXAMPLES = Path(__file__).parent.parent / "examples"
TWO_CPUS = EXAMPLES / "accelerate" / "two_cpus.yaml"
SHORT = [
    "--max_steps",
    "3",
    "--use_cpu",
    "true",
    "--disable_tqdm",
    "true",
    "--report_to",
    "none",
    "--eval_strategy",
    "no",
]


@pytest.fixture(autouse=True)
def examples_on_the_path(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "path", [str(EXAMPLES), *sys.path])
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))


def run(name, output_dir, *flags):
    return __import__(f"train_{name}").main(["--output_dir", str(output_dir), *SHORT, *flags])


def first_rows(name, rows):
    """The first rows of an example data set, and its label names."""
    data = load_dataset("parquet", data_files=str(EXAMPLES / "data" / name / "train.parquet"), split=f"train[:{rows}]")
    return data, data.features["labels"].feature.names


@pytest.mark.slow
@pytest.mark.parametrize("name", ["text", "image"])
def test_without_arguments_it_trains_on_the_data_of_the_repository(name, tmp_path):
    trainer = run(name, tmp_path, "--max_train_samples", "200", "--save_steps", "2", "--save_strategy", "steps")
    assert trainer.state.global_step == 3
    assert trainer.label_counts.num_labels == {"text": 365, "image": 113}[name]
    assert trainer.plm_state.history.shape[1] == trainer.label_counts.num_labels
    metrics = json.loads((tmp_path / "eval_results.json").read_text())
    assert 0 <= metrics["eval_tail_recall"] <= 1
    assert (tmp_path / "plm_state.safetensors").is_file()
    assert (tmp_path / "checkpoint-3" / "plm_state.safetensors").is_file()


@pytest.mark.parametrize("suffix", ["csv", "json"])
def test_users_texts_come_from_csv_or_json(suffix, tmp_path):
    data, names = first_rows("debtags", 60)
    rows = [{"comment": row["text"], "tags": [names[index] for index in row["labels"]]} for row in data]
    rows[0]["tags"] = []  # no positive label; an empty field in a csv file
    rows[50]["tags"] = ["only in the validation data"]
    for name, part in {"train": rows[:50], "validation": rows[50:]}.items():
        if suffix == "csv":
            Dataset.from_list([{**row, "tags": ", ".join(row["tags"])} for row in part]).to_csv(
                tmp_path / f"{name}.csv"
            )
        else:
            Dataset.from_list(part).to_json(tmp_path / f"{name}.json")
    files = [f"--{name}_file={tmp_path / name}.{suffix}" for name in ("train", "validation")]
    columns = ["--text_column", "comment", "--label_column", "tags"]
    trainer = run("text", tmp_path / "model", *files, *columns)
    used = sorted({name for row in rows for name in row["tags"]})
    assert list(trainer.model.config.id2label.values()) == used
    assert trainer.label_counts.positives[used.index("only in the validation data")] == 0

    # It saved a plain model: it can be loaded, and a pipeline gives every label by its name.
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "model")
    assert model.config.problem_type == "multi_label_classification"
    (scores,) = pipeline("text-classification", str(tmp_path / "model"), top_k=None)(["an editor for LaTeX"])
    assert {score["label"] for score in scores} == set(used)


def test_a_trained_model_and_the_users_pictures_from_csv(tmp_path):
    data, names = first_rows("clipart", 40)
    rows = []
    for index, row in enumerate(data):
        Image.fromarray(np.asarray(row["image"])).save(tmp_path / f"{index}.png")
        rows.append({"image": str(tmp_path / f"{index}.png"), "labels": ",".join(names[i] for i in row["labels"])})
    Dataset.from_list(rows).to_csv(tmp_path / "own.csv")
    flags = ["--train_file", str(tmp_path / "own.csv"), "--validation_file", str(tmp_path / "own.csv")]
    run("image", tmp_path / "first", *flags)
    trainer = run("image", tmp_path / "second", *flags, "--model_name_or_path", str(tmp_path / "first"))
    first = AutoModelForImageClassification.from_pretrained(tmp_path / "first")
    assert trainer.model.config.id2label == first.config.id2label
    assert trainer.model.vit is not None
    assert not torch.equal(trainer.model.classifier.weight, first.classifier.weight)


@pytest.mark.slow
def test_accelerate_launch_runs_the_example_on_two_processes(tmp_path):
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(TWO_CPUS)]
    flags = ["--use_cpu", "true", "--max_train_samples", "256", "--num_train_epochs", "1", "--report_to", "none"]
    flags += ["--eval_strategy", "no", "--plm_rule", "kl"]  # this rule measures the whole first epoch
    script = [str(EXAMPLES / "train_text.py"), "--output_dir", str(tmp_path), *flags]
    subprocess.run([*launch, *script], check=True, capture_output=True)
    state = json.loads((tmp_path / "checkpoint-2" / "trainer_state.json").read_text())
    assert state["global_step"] == 2  # 256 rows: two steps of 2 x 64, not four of 64
    plm_state = PLMState.load(tmp_path / "plm_state.safetensors", num_labels=365)
    assert plm_state.histograms.sum() == 256 * 365
    assert len(plm_state.history) == 2


def test_a_single_file_is_refused(tmp_path):
    with pytest.raises(ValueError, match="give both --train_file and --validation_file"):
        run("text", tmp_path, "--train_file", "own.csv")


def test_the_tokenizer_is_the_same_every_time():
    data, _ = first_rows("debtags", 300)
    vocabularies = [train_tokenizer(data["text"], vocab_size=1000).get_vocab() for _ in range(3)]
    assert vocabularies[0] == vocabularies[1] == vocabularies[2]


def test_label_columns_and_a_folder_of_pictures(tmp_path):
    rows = [{"text": f"text {row}", "file": f"{row % 4}.png", "a": row % 2, "b": row % 3 // 2} for row in range(12)]
    rows[5]["b"] = -1  # unknown
    Dataset.from_list(rows).to_pandas().to_csv(tmp_path / "own.tsv", sep="\t", index=False)
    for index in range(4):
        Image.new("RGB", (8, 8)).save(tmp_path / f"{index}.png")
    files = [f"--{name}_file={tmp_path / 'own.tsv'}" for name in ("train", "validation")]
    pictures = ["--image_folder", str(tmp_path), "--image_column", "file"]
    for name, flags in (("text", []), ("image", pictures)):
        trainer = run(name, tmp_path / name, *files, "--label_columns", "a,b", *flags)
        assert trainer.model.config.id2label == {0: "a", 1: "b"}
        assert trainer.label_counts.negatives.tolist() == [6, 8]
