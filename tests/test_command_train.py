"""`hf-plm train`: a whole run from a file, errors in one line, and resuming."""

import json
import re

import pytest
import scenarios
import torch
from datasets import Dataset
from safetensors.torch import load_file

from hf_plm import PLMTrainer
from hf_plm.command_line import main

SHORT = ["--use-cpu", "--disable-tqdm", "true", "--report-to", "none", "--per-device-train-batch-size", "16"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Has `rows.csv`, texts with the labels a, b and c, and a tiny model, `bert`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    words = {"a": "editor", "b": "game", "c": "library"}
    labels = [[name for name, each in zip("abc", (2, 3, 7), strict=True) if row % each == 0] for row in range(80)]
    texts = [" ".join(["small", *(words[name] for name in each)]) for each in labels]
    Dataset.from_dict({"text": texts, "labels": ["|".join(each) for each in labels]}).to_csv("rows.csv")
    scenarios.make_bert(dropout=0.1).save_pretrained("bert")
    scenarios.make_tokenizer().save_pretrained("bert")
    return tmp_path


def train(*flags):
    main(["train", "rows.csv", "--model", "bert", *SHORT, *flags])


@pytest.mark.slow
def test_a_file_becomes_a_model_with_thresholds_card_and_pictures(folder, capsys):
    train("--num-train-epochs", "1")
    config = json.loads((folder / "outputs/rows/config.json").read_text())
    assert list(config["id2label"].values()) == ["a", "b", "c"]
    assert len(config["plm"]["thresholds"]) == 3
    card = (folder / "outputs/rows/README.md").read_text()
    origin = "On the split 'test', 8 rows, after 4 steps of training. The thresholds were chosen on other data."
    assert origin in card  # the reported part is not used for training or tuning
    assert (folder / "outputs/rows/plots/label_scores.png").is_file()
    assert "eval_macro_f1" in json.loads((folder / "outputs/rows/eval_results.json").read_text())
    printed = capsys.readouterr().out
    assert "rows: train 64, validation 8, test 8" in printed
    assert printed.endswith("hf-plm predict outputs/rows FILE --output labels.csv\n")
    (line,) = [each for each in printed.splitlines() if each.startswith("Epoch")]
    assert re.fullmatch(r"Epoch 1 of 1: on validation macro-F1 0\.\d{3}, micro-F1 0\.\d{3}, mAP 0\.\d{3}", line)
    assert "{" not in printed and "plm/" not in printed  # no logs as Python dictionaries
    record = json.loads((folder / "outputs/rows/hf_plm_train.json").read_text())
    assert record["columns"] == {"text_column": "text"}


def test_thresholds_are_chosen_on_other_rows_than_those_reported(folder, monkeypatch):
    seen = {}
    tune, evaluate = PLMTrainer.tune_thresholds, PLMTrainer.evaluate
    texts = lambda rows: set(rows.with_format(None)["text"])  # noqa: E731

    def tune_and_keep(self, dataset=None, **kwargs):
        seen["tuned"] = texts(dataset if dataset is not None else self.eval_dataset)
        return tune(self, dataset, **kwargs)

    def evaluate_and_keep(self, eval_dataset=None, *args, **kwargs):
        seen["reported"] = eval_dataset
        return evaluate(self, eval_dataset, *args, **kwargs)

    monkeypatch.setattr(PLMTrainer, "tune_thresholds", tune_and_keep)
    monkeypatch.setattr(PLMTrainer, "evaluate", evaluate_and_keep)
    rows = [{"text": f"editor {row}", "labels": "a" if row % 2 else "b"} for row in range(80)]
    Dataset.from_list(rows).to_csv("rows.csv")
    train("--num-train-epochs", "1", "--save-strategy", "no")
    assert seen["tuned"] and seen["reported"] is not None
    assert not seen["tuned"] & texts(seen["reported"])


@pytest.mark.slow
def test_the_same_command_continues_where_it_was_stopped(folder, monkeypatch, capsys):
    train("--num-train-epochs", "3", "--output-dir", "whole")
    evaluate, calls = PLMTrainer.evaluate, []

    def stop_in_the_second_epoch(self, *args, **kwargs):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return evaluate(self, *args, **kwargs)

    monkeypatch.setattr(PLMTrainer, "evaluate", stop_in_the_second_epoch)
    with pytest.raises(SystemExit) as exit_info:
        train("--num-train-epochs", "3", "--output-dir", "stopped")
    assert exit_info.value.code == 130
    assert "Run the same command again" in capsys.readouterr().out
    monkeypatch.setattr(PLMTrainer, "evaluate", evaluate)
    train("--num-train-epochs", "3", "--output-dir", "stopped")
    assert "Continuing from stopped/checkpoint-4" in capsys.readouterr().out
    whole, stopped = (load_file(folder / name / "model.safetensors") for name in ("whole", "stopped"))
    assert all(torch.equal(whole[name], stopped[name]) for name in whole)
    assert json.loads((folder / "stopped/checkpoint-12/trainer_state.json").read_text())["epoch"] == 3


@pytest.mark.slow
def test_the_folder_of_a_different_run_is_refused(folder, capsys):
    train("--num-train-epochs", "1")
    with pytest.raises(SystemExit):
        train("--num-train-epochs", "2")
    error = capsys.readouterr().err.splitlines()[-1]
    assert "outputs/rows has checkpoints of a run with num_train_epochs 1.0 instead of 2.0" in error
    (folder / "outputs/rows/hf_plm_train.json").unlink()
    with pytest.raises(SystemExit):
        train("--num-train-epochs", "1")
    assert "checkpoints of a run that is not from hf-plm train" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["train", "rows.csv", "--lerning-rate", "1"], "unrecognized arguments: --lerning-rate 1"),
        (["train", "rows.csv", "--learning-rate", "x"], "argument --learning-rate: invalid float value: 'x'"),
        (["train", "rows.csv", "--plm-temper", "3"], "plm_temper is 3.0; it must be a number in [0, 1]"),
        (["train", "rows.csv", "--text-column", "body"], "text_column is 'body', but the columns are"),
        (["train", "none.csv"], "none.csv"),
        (["train"], "the following arguments are required: FILE"),
        (["compare", "rows.csv", "--seeds", "1"], "num_seeds is 1; it must be 2 or more"),
        (["compare", "rows.csv", "--methods", "bce,x"], "methods is ['bce', 'x']; choose some of"),
        (["compare", "rows.csv", "--plm-preset", "off"], "plm_preset: the compared methods set this"),
        (["predict", "bert", "none.csv", "--output", "o.csv"], "there is no file or folder"),
        (["inspect", "none.csv"], "there is no file or folder"),
        (
            ["predict", "none", "rows.csv", "--output", "o.csv"],
            "'none' cannot be loaded from the Hub, and there is no such",
        ),
        (["train", "rows.csv", "--model", "none"], "the model 'none' cannot be loaded"),
        (["predict", "bert", "rows.csv", "--output", "rows.csv"], "which is also the input"),
    ],
)
def test_errors_are_one_line(flags, message, folder, capsys):
    with pytest.raises(SystemExit) as exit_info:
        main([*flags, "--use-cpu"] if flags[0] in ("train", "compare") and len(flags) > 1 else flags)
    assert exit_info.value.code == 2
    error = [line for line in capsys.readouterr().err.splitlines() if line.startswith("hf-plm")]
    assert len(error) == 1 and message in error[0]


def test_help_is_short_and_help_all_is_complete(capsys):
    for flag, has in (("--help", False), ("--help-all", True)):
        with pytest.raises(SystemExit) as exit_info:
            main(["train", flag])
        assert exit_info.value.code == 0
        printed = capsys.readouterr().out
        assert "--num-train-epochs N" in printed and "--plm-preset NAME" in printed
        assert ("--plm-temper" in printed, "--warmup-steps" in printed.replace("such as --warmup-steps", "")) == (
            has,
            has,
        )


def test_the_flags_of_labels_have_the_same_names_and_helps_in_all_commands(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "110")
    helps = {}
    for command in ("inspect", "train", "compare"):
        with pytest.raises(SystemExit):
            main([command, "--help"])
        flags = re.split(r"\n  (?=--)", capsys.readouterr().out)
        helps[command] = {each.split()[0]: " ".join(each.split()) for each in flags if each.startswith("--")}
    for flag in ("--label-column", "--label-columns", "--separator"):
        assert helps["inspect"][flag] == helps["train"][flag] == helps["compare"][flag]
    assert "--max-train-samples" not in helps["inspect"]


@pytest.mark.parametrize("command", ["inspect", "train", "predict", "compare"])
@pytest.mark.parametrize("columns", [60, 200])
def test_helps_fit_the_terminal(command, columns, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    with pytest.raises(SystemExit):
        main([command, "--help"])
    lines = capsys.readouterr().out.splitlines()
    assert max(len(line) for line in lines if not line.startswith("usage:")) <= min(columns, 110)
