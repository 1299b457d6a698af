"""Every code block of README, CONTRIBUTING and docs runs, in order, with small stand-ins for data and models.

The Python blocks of a document share their names. Lines of shell blocks are run if they take only a few seconds.
Otherwise the test checks that their target, files and arguments exist.
"""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import scenarios
import torch
from accelerate.commands.config.config_args import load_config_from_file
from datasets import Dataset
from PIL import Image
from stated import run_block
from torch import nn
from transformers import BertConfig, BertModel, ViTConfig, ViTImageProcessorPil, ViTModel

from hf_plm import PLMLoss, PLMState, PLMTrainer, PLMTrainingArguments
from hf_plm.command_line import main as run_hf_plm

ROOT = Path(__file__).parent.parent
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
SLOW = ["README.md", "sharing.md"]  # trains with 365 labels; exports to ONNX
TEXTS = ["a small editor", "a game of colours", "library", "a small game"]
NAMES = ["use::editing", "use::gaming", "devel::library"]
LABELS = [[0], [1, 2], [], [0, 2]]


def blocks(document, language):
    return re.findall(rf"```{language}\n(.*?)```", document.read_text(), re.DOTALL)


def texts(rows, first=0):
    """This many texts, all different."""
    return [f"{TEXTS[row % len(TEXTS)]} {first + row}" for row in range(rows)]


def commands():
    """(document, command) of every line of a shell block, without its comment."""
    lines = []
    for document in DOCUMENTS:
        for block in blocks(document, "bash"):
            joined = block.replace("\\\n", " ").splitlines()
            lines += [(document.name, line) for line in joined if shlex.split(line, comments=True)]
    return lines


def save_text_model(path):
    scenarios.make_tokenizer().save_pretrained(path)
    config = BertConfig(
        vocab_size=len(scenarios.WORDS),
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=8,
    )
    BertModel(config).save_pretrained(path)


def save_image_model(path):
    config = ViTConfig(
        image_size=8, patch_size=4, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8
    )
    ViTModel(config).save_pretrained(path)
    ViTImageProcessorPil(size={"height": 8, "width": 8}).save_pretrained(path)


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    """`examples/` with only the first rows of its data."""
    folder = tmp_path_factory.mktemp("short") / "examples"
    (folder / "data" / "debtags").mkdir(parents=True)
    for path in (ROOT / "examples").iterdir():
        if path.name != "data":
            (folder / path.name).symlink_to(path)
    for path in (ROOT / "examples" / "data" / "debtags").glob("*.parquet"):
        pq.write_table(pq.read_table(path).slice(0, 300), folder / "data" / "debtags" / path.name)
    return folder


@pytest.fixture
def stand_ins(tmp_path, monkeypatch, examples):
    """A folder with the files that the documents read (few rows of each table), and the Python names that they use."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    (tmp_path / "examples").symlink_to(examples)
    save_text_model("answerdotai/ModernBERT-base")
    save_image_model("google/vit-base-patch16-224-in21k")
    names = [", ".join(NAMES[index] for index in labels) for labels in LABELS]
    Dataset.from_dict({"text": texts(32), "labels": names * 8}).to_csv("packages.csv")
    for name in ("train", "validation"):
        pictures = [f"pictures/{index}.png" for index in range(16)]
        columns = {"comment": TEXTS * 4, "text": TEXTS * 4, "image": pictures, "labels": names * 4}
        Dataset.from_dict(columns).to_csv(f"{name}.csv")
    Path("pictures").mkdir()
    for index in range(32):
        Image.fromarray(np.full((8, 8, 3), 8 * index, np.uint8)).save(f"pictures/{index}.png")
    Dataset.from_dict({"file": [f"{index}.png" for index in range(32)], "tags": names * 8}).to_csv("tags.csv")

    network = nn.Linear(4, 3)
    tokens = {"input_ids": [[2, 3, 4, 0]] * 16, "labels": LABELS * 4}

    def make_model():
        from transformers import AutoModelForSequenceClassification

        return AutoModelForSequenceClassification.from_pretrained("answerdotai/ModernBERT-base", num_labels=3)

    return {
        "train_set": Dataset.from_dict({"text": texts(16), **tokens}),
        "validation_set": Dataset.from_dict({"text": texts(16, first=16), **tokens}),
        "name": "answerdotai/ModernBERT-base",
        "model": make_model(),
        "make_model": make_model,
        "training_args": PLMTrainingArguments("other", use_cpu=True, max_steps=1),
        "network": network,
        "loader": [(torch.randn(8, 4), torch.tensor([[1.0, 0.0, torch.nan]] * 8))],
        "optimizer": torch.optim.SGD(network.parameters(), 0.1),
    }


@pytest.fixture
def reported(monkeypatch):
    """The rows that were used for training, for tuning thresholds, and for reported scores."""
    seen = {"tuned": set(), "trained": set(), "reported": set(), "held out": set()}
    tune, evaluate = PLMTrainer.tune_thresholds, PLMTrainer.evaluate

    def keys(rows):  # texts, or the colours of the pictures: different in each row
        rows = rows.with_format(None)
        return set(rows["text"] if "text" in rows.column_names else (np.asarray(each).max() for each in rows["image"]))

    def tune_and_keep(self, dataset=None, **kwargs):
        seen["tuned"] |= keys(dataset if dataset is not None else self.eval_dataset)
        seen["trained"] |= keys(self.train_dataset)
        seen["held out"] |= keys(self.eval_dataset)
        return tune(self, dataset, **kwargs)

    def evaluate_and_keep(self, eval_dataset=None, *args, **kwargs):
        rows = eval_dataset if eval_dataset is not None else self.eval_dataset
        if seen["tuned"] and not self.is_in_train:
            seen["reported"] |= keys(rows)
        return evaluate(self, eval_dataset, *args, **kwargs)

    monkeypatch.setattr(PLMTrainer, "tune_thresholds", tune_and_keep)
    monkeypatch.setattr(PLMTrainer, "evaluate", evaluate_and_keep)
    return seen


@pytest.mark.parametrize(
    "document",
    [
        pytest.param(each, id=each.name, marks=[pytest.mark.slow] * (each.name in SLOW))
        for each in DOCUMENTS
        if blocks(each, "python")
    ],
)
def test_python_blocks_run_and_agree_with_their_comments(document, stand_ins, reported):
    torch.manual_seed(0)
    names, other, used = dict(stand_ins), STATED.get(document.name, {}), set()
    for block in blocks(document, "python"):
        used |= run_block(block, str(document), names, other)
    assert used == set(other)  # each comment is still in the document
    CHECKS.get(document.name, lambda names: None)(names)
    assert not reported["tuned"] & reported["trained"]
    assert not reported["tuned"] & (reported["reported"] or reported["held out"]), "tuned on what is reported"


def check_filled_class_ids(names):
    """Padding with -100 and a row of -1 (none of its labels is known) do not change the loss."""
    counts, logits = names["counts"], torch.randn(2, names["counts"].num_labels)
    loss = PLMLoss(counts, sparse=True).eval()
    one = loss(logits[:1], torch.tensor([[1]]))
    return torch.isclose(loss(logits[:1], torch.tensor([[1, -100]])), one) and torch.isclose(
        loss(torch.cat([logits[:1], logits[1:]]), torch.tensor([[1, -100], [-1, -1]])), one
    )


STATED = {
    "settings.md": {
        "labels: (batch, 3), 1, 0 or NaN": lambda names: (
            names["labels"].shape[1] == 3
            and bool(((names["labels"] == 1) | (names["labels"] == 0) | names["labels"].isnan()).all())
        ),
    },
    "many-labels.md": {
        "a row is padded with -100; -1 if none of its labels is known": check_filled_class_ids,
    },
    "method.md": {
        "9 positives per negative are too many: one in 36 is kept": lambda names: (
            names["counts"].positives[0] == 9 * names["counts"].negatives[0]
            and np.isclose(names["keep_positive"][0], 1 / 36)
        ),
        "0.04 are too few: a sixth of the negatives is kept": lambda names: (
            np.isclose(names["counts"].positives[1] / names["counts"].negatives[1], 0.04, atol=0.005)
            and np.isclose(names["keep_negative"][1], 1 / 6)
        ),
    },
    "sharing.md": {"True for a model of 2 GB and more": None},
}
"""Document -> comment with numbers in a sentence -> the function that checks it; None if nothing can check it."""


def check_settings(names):
    assert names["trainer"].plm_loss.objective is names["squared_hinge"]
    assert names["trainer"].train().global_step == 1
    assert len(PLMState.load("plm_state.safetensors").history) == 4


def check_method(names):
    kept, labels = names["kept"], names["labels"]
    ratio = (kept & (labels == 1)).sum(0) / (kept & (labels == 0)).sum(0)
    assert torch.allclose(ratio, torch.tensor(0.25), atol=0.15)


def check_text(names):
    assert names["trainer"].model.config.id2label == dict(enumerate(sorted(NAMES)))
    assert len(names["trainer"].model.config.plm["thresholds"]) == 3
    assert Path("packages/plots/label_scores.png").is_file()


def check_images(names):
    assert names["trainer"].model.config.id2label == dict(enumerate(sorted(NAMES)))
    assert len(names["trainer"].model.config.plm["thresholds"]) == 3
    assert Path("tagger/plots/label_scores.png").is_file()


def check_sharing(names):
    assert names["model"].config.plm["scores"] in ("probabilities", "decisions")
    assert set(names["thresholds"]) == set(names["model"].config.id2label.values())
    for texts in (["a small editor", "a game of colours"], ["a library of a small game of colours"] * 3):
        inputs = names["tokenizer"](texts, padding=True, return_tensors="pt")
        (logits,) = names["session"].run(["logits"], {name: tensor.numpy() for name, tensor in inputs.items()})
        with torch.no_grad():
            expected = names["model"](**inputs).logits
        torch.testing.assert_close(torch.tensor(logits), expected, rtol=1e-4, atol=1e-5)
    assert names["probabilities"].shape == (2, 3)
    assert 0 < names["probabilities"].min() < names["probabilities"].max() < 1


CHECKS = {
    "settings.md": check_settings,
    "method.md": check_method,
    "text.md": check_text,
    "images.md": check_images,
    "sharing.md": check_sharing,
}


@pytest.mark.slow
@pytest.mark.parametrize(("document", "command"), commands())
def test_shell_lines_run_or_exist(document, command, stand_ins):
    words = shlex.split(command, comments=True)
    if words[0] == "make":
        subprocess.run([*words, "--dry-run"], cwd=ROOT, check=True, capture_output=True)
    elif words[0] == "hf-plm":
        run_command(words[1:])
    elif words[0] == "python":
        run_example(words[1], words[2:])
    elif words[:2] == ["accelerate", "launch"]:
        script = next(index for index, word in enumerate(words) if word.endswith(".py"))
        assert load_config_from_file(words[words.index("--config_file") + 1]).num_processes >= 2
        run_example(words[script], words[script + 1 :])
    elif words[0] == "pip":
        assert words == ["pip", "install", ".[all]"] and (ROOT / "pyproject.toml").is_file()
    else:
        assert words[0].startswith(".venv/bin/") and shutil.which(
            Path(words[0]).name, path=Path(sys.executable).parent
        )


def run_command(words):
    """Runs `hf-plm` with these words; training takes two steps on the CPU, and prediction uses a tiny model."""
    if words[0] == "predict":
        scenarios.make_bert(3, **scenarios.named(NAMES)).save_pretrained(words[1])
        scenarios.make_tokenizer().save_pretrained(words[1])
    short = ["--max-steps", "2", "--max-train-samples", "64", "--use-cpu"]
    run_hf_plm([*words, *(short if words[0] in ("train", "compare") else [])])


def run_example(script, arguments):
    """Runs an example as on the command line, for three steps, on the CPU."""
    sys.path.insert(0, str(ROOT / Path(script).parent))
    try:
        main = __import__(Path(script).stem).main
    finally:
        sys.path.pop(0)
    short = ["--max_steps", "3", "--max_train_samples", "64", "--eval_strategy", "no", "--save_strategy", "no"]
    trainer = main([*arguments, *short, "--bf16", "false", "--use_cpu", "true", "--output_dir", "output"])
    assert trainer.state.global_step == 3
