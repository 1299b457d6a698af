"""Small runs that must give the same result however they are run.

The tests and, on each rank, `two_ranks.py` import it.
"""

import math
import os
import re
import signal
from pathlib import Path

import numpy as np
import torch
from datasets import ClassLabel, Dataset, List
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast, TrainerCallback

import hf_plm.eager_loss
import hf_plm.few_passes
from hf_plm import LabelCounts, MultiLabelCollator, PLMTrainer, PLMTrainingArguments, count_labels

NUM_LABELS = 5
WORDS = ["[PAD]", "[UNK]", "a", "small", "editor", "game", "library", "of", "colours"]
OBJECTIVES = {
    "off": {"plm_preset": "off"},
    "paper": {"plm_preset": "paper"},
    "default": {"plm_preset": "default"},
    "focal": {"plm_objective": "focal", "plm_mask": "random"},
    "data": {"plm_mask": "expected", "plm_class_weight": 1.0, "plm_prior": "data"},
}


def make_bert(num_labels=NUM_LABELS, dropout=0.0, **kwargs):
    """A tiny BERT with the same weights every time, without dropout by default."""
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=50,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=16,
        num_labels=num_labels,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
        **kwargs,
    )
    return BertForSequenceClassification(config)


def long_tailed_labels(num_labels):
    """300 rows of multi-hot labels, from frequent to rare; the last of several labels has no positive."""
    generator = np.random.default_rng(0)
    rows = generator.random((300, num_labels)) < 0.5 * np.arange(1, num_labels + 1) ** -0.7
    if num_labels > 1:
        rows[:, -1] = False
    return rows.astype(np.float32)


def named_counts(labels):
    """The counts of multi-hot labels, with the names `topic 0`, `topic 1`, ..."""
    return LabelCounts(labels.sum(0), (1 - labels).sum(0), [f"topic {index}" for index in range(labels.shape[1])])


def make_tokenizer():
    """A tokenizer with the vocabulary `WORDS`."""
    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]")


def make_rows(rows, unknown=0.0):
    """Token sequences with multi-hot labels; label c is positive where token c is high enough."""
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(5, 50, (rows, 8), generator=generator)
    labels = ((tokens[:, :5] - 5) / 45 >= torch.tensor([0.5, 0.6, 0.7, 0.85, 0.95])).float()
    labels[torch.rand(labels.shape, generator=generator) < unknown] = torch.nan
    return Dataset.from_dict({"input_ids": tokens.tolist(), "labels": labels.tolist()})


def with_class_ids(data):
    """The same rows, with lists of the ids of their positive classes as labels."""
    class_ids = [[label for label, value in enumerate(row) if value == 1] for row in data["labels"]]
    return Dataset.from_dict({"input_ids": data["input_ids"], "labels": class_ids})


def named(names):
    """Arguments of a configuration whose outputs have these names."""
    return {"id2label": dict(enumerate(names)), "label2id": {name: index for index, name in enumerate(names)}}


def rows_with(labels, names=None):
    """A row for each of `labels`; its first token is its number. With `names`, labels are ids of a `ClassLabel`."""
    data = Dataset.from_dict({"input_ids": [[row % 50, 6] for row in range(len(labels))], "labels": labels})
    if names is None:
        return data
    feature = ClassLabel(names=list(names))
    return data.cast_column("labels", List(feature) if isinstance(labels[0], list) else feature)


def set_logits(model, logits):
    """Sets the classifier's bias so that the model gives the same logits for every row. Returns the model."""
    with torch.no_grad():
        model.classifier.weight.zero_()
        model.classifier.bias.copy_(torch.tensor(logits))
    return model


def answer_with(model, table):
    """Makes a model return a row of `table` as logits; the first token is the row's number. Returns the model."""

    def answer(module, args, kwargs, outputs):
        outputs.logits = table[kwargs["input_ids"][:, 0].cpu()].to(outputs.logits.device)
        return outputs

    model.register_forward_hook(answer, with_kwargs=True)
    return model


def multi_hot(dataset, num_labels=NUM_LABELS):
    """The class ids of a data set as float32 multi-hot labels."""
    rows = np.zeros((len(dataset), num_labels), np.float32)
    for row, ids in enumerate(dataset["labels"]):
        rows[row, ids] = 1
    return rows


def make_args(output_dir, **kwargs):
    defaults = {
        "use_cpu": True,
        "disable_tqdm": True,
        "report_to": "none",
        "save_strategy": "no",
        "num_train_epochs": 1,
        "train_sampling_strategy": "sequential",
        "dataloader_pin_memory": False,
    }
    return PLMTrainingArguments(str(output_dir), **{**defaults, **kwargs})


class Gradients(TrainerCallback):
    """Keeps the gradients of every optimizer step."""

    def __init__(self):
        self.steps = []

    def on_pre_optimizer_step(self, args, state, control, model, **kwargs):
        self.steps.append({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})


def mask_by_content(labels, keep_positive, keep_negative, generator):
    """A mask that depends only on the row and the label, not on how rows are batched."""
    known = hf_plm.eager_loss.known_labels(labels)
    row = (labels.masked_fill(~known, 2) * 3.0 ** torch.arange(labels.shape[1])).sum(1, keepdim=True)
    draws = torch.frac((row * 12.9898 + torch.arange(labels.shape[1]) * 78.233).sin().abs() * 43758.5453)
    return (draws < torch.where(labels == 1, keep_positive, keep_negative)) & known


def documented_trainer():
    """The subclass of `PLMTrainer` in docs/from-trainer.md, which adds its own losses."""
    document = (Path(__file__).parent.parent / "docs/from-trainer.md").read_text()
    names = {}
    exec(re.search(r"```python\n([^`]*class WithOwnLosses.*?)```", document, re.DOTALL)[1], names)
    return names["WithOwnLosses"]


def run_scale(
    output_dir,
    name,
    batch_size,
    accumulation,
    rows=40,
    unknown=0.2,
    sparse=False,
    stream=lambda data: data,
    eval_stream=None,
    trainer_class=PLMTrainer,
    **kwargs,
):
    """One epoch that does not change the weights: gradients and losses of each step, and the loss in evaluation.

    `stream` and `eval_stream` make streams of the rows; evaluation uses the same rows as training.
    """
    defaults = {"per_device_train_batch_size": batch_size, "per_device_eval_batch_size": batch_size}
    defaults |= {"learning_rate": 0.0, "max_grad_norm": 0.0, "logging_steps": 1}
    args = make_args(
        output_dir, **OBJECTIVES[name], gradient_accumulation_steps=accumulation, **{**defaults, **kwargs}
    )
    originals = hf_plm.eager_loss.sample_mask, hf_plm.few_passes.sample_mask
    hf_plm.eager_loss.sample_mask = hf_plm.few_passes.sample_mask = mask_by_content
    try:
        gradients = Gradients()
        data = make_rows(rows, unknown)
        data = with_class_ids(data) if sparse else data
        trainer = trainer_class(
            make_bert(),
            args,
            MultiLabelCollator(NUM_LABELS, sparse=sparse),
            train_dataset=stream(data),
            eval_dataset=(eval_stream or stream)(data),
            callbacks=[gradients],
            label_counts=count_labels(data, NUM_LABELS),
        )
        output = trainer.train()
        return {
            "gradients": gradients.steps,
            "train_loss": output.training_loss,
            "logged train_loss": trainer.state.log_history[-1]["train_loss"],
            "losses": [log["loss"] for log in trainer.state.log_history if "loss" in log],
            "eval_loss": trainer.evaluate()["eval_loss"],
            "histograms": trainer.plm_state.histograms,
            "ideal_ratio": trainer.plm_state.ideal_ratio,
            "counts": torch.stack([trainer.plm_state.positives, trainer.plm_state.negatives]),
        }
    finally:
        hf_plm.eager_loss.sample_mask, hf_plm.few_passes.sample_mask = originals


CHECKPOINTS = {
    "in the middle of an epoch": ({"save_steps": 3, "plm_rule": "kl"}, 5),  # this rule uses the whole first epoch
    "at the end of an epoch": ({"save_strategy": "epoch"}, 11),
    "on the last step of an epoch, before its end": ({"save_steps": 8}, 10),
    "with accumulation": ({"save_steps": 3, "gradient_accumulation_steps": 2}, 4),
    "with data loader workers": ({"save_steps": 3, "dataloader_num_workers": 2}, 5),
    "with class-aware sampling": ({"save_steps": 12, "plm_class_aware": True}, 13),
}
"""How a run of 3 epochs with 8 steps (4 with accumulation) saves, and after which step it is killed."""


def killed_folder(folder, case, world_size):
    """Where `killed.py` saves the checkpoints of a run."""
    return folder / f"{case}, ranks: {world_size}"


class Kill(TrainerCallback):
    """Ends the process at once, as a power failure would."""

    def __init__(self, step):
        self.step = step

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            os.kill(os.getpid(), signal.SIGKILL)


def run_resumable(output_dir, case, killed=False, resume=False, world_size=1, **kwargs):
    """The results of a run of 3 epochs with dropout and shuffling: uninterrupted, killed, or resumed."""
    saving, kill_at = CHECKPOINTS[case]
    defaults = {
        "num_train_epochs": 3,
        "per_device_train_batch_size": 8 // world_size,
        "learning_rate": 1e-2,
        "logging_steps": 1,
        "save_strategy": "steps",
        "train_sampling_strategy": "random",
        "plm_mask": "random",  # resumed masks must continue
    }
    args = make_args(output_dir, **{**defaults, **saving, **kwargs})
    assert args.world_size == world_size
    callbacks = [Kill(kill_at)] if killed else []
    trainer = PLMTrainer(make_bert(dropout=0.1), args, train_dataset=make_rows(64), callbacks=callbacks)
    trainer.train(resume_from_checkpoint=resume)
    volatile = ("train_runtime", "train_samples_per_second", "train_steps_per_second", "train_loss")
    return {
        "weights": trainer.model.state_dict(),
        "history": trainer.plm_state.history,
        "histograms": trainer.plm_state.histograms,
        "ideal_ratio": trainer.plm_state.ideal_ratio,
        "logs": [log for log in trainer.state.log_history if not set(log) & set(volatile)],
    }


def assert_identical(one, other):
    """Two results of `run_resumable` are the same to the last bit."""
    for name, weight in other["weights"].items():
        assert torch.equal(one["weights"][name], weight), name
    for key in ("history", "histograms", "ideal_ratio"):
        assert torch.equal(one[key], other[key]), key
    assert one["logs"] == other["logs"]


def largest_difference(one, other):
    """The largest difference of two gradients, relative to the largest entry for each parameter (at least 0.01)."""
    assert one.keys() == other.keys()
    return max(
        ((one[name] - other[name]).abs().max() / other[name].abs().max().clamp(min=1e-2)).item() for name in one
    )


def assert_same(one, other, tolerance=1e-6):
    """Two results of `run_scale` agree."""
    assert len(one["gradients"]) == len(other["gradients"])
    assert max(map(largest_difference, one["gradients"], other["gradients"])) <= tolerance
    for key in ("losses", "eval_loss"):
        values = zip(*(result[key] if key == "losses" else [result[key]] for result in (one, other)), strict=True)
        assert all(math.isclose(a, b, rel_tol=tolerance, abs_tol=1e-7) for a, b in values), key
    for key in ("histograms", "ideal_ratio", "counts"):
        assert torch.equal(one[key], other[key]), key
