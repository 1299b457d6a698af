"""`hf-plm train`: from a table to a model with thresholds, a card and pictures; goes on where it was stopped."""

import argparse
import json
import math
from pathlib import Path
from typing import Any

from transformers import set_seed
from transformers.trainer_utils import get_last_checkpoint

from .command_parser import add_training_parser, read_flags
from .metrics import multilabel_compute_metrics
from .recipes import EVERY_EPOCH, evaluate_and_save
from .tasks import Task
from .trainer import PLMTrainer
from .training_args import PLMTrainingArguments

RECORD = "hf_plm_train.json"
"""The file of the output folder with the flags of the run."""

SHOWN = {
    "macro_f1": "macro-F1",
    "micro_f1": "micro-F1",
    "map": "mAP",
    "head_f1": "F1 of head labels",
    "medium_f1": "F1 of medium labels",
    "tail_f1": "F1 of tail labels",
}


def add_parser(commands: Any) -> None:
    """Add the command to `hf-plm`."""
    parser = add_training_parser(
        commands,
        "train",
        help="train a model on the texts or pictures of a file",
        description="Train a model on the texts or pictures of a table with several labels per row. A tenth of the "
        "rows is split off to choose\nthresholds on, another tenth to report on, unless there are files or splits for "
        "them. If it is stopped, the same\ncommand goes on from the last checkpoint.",
        usage="hf-plm train FILE [--model NAME] [more flags]",
    )
    parser.set_defaults(run=run, **EVERY_EPOCH)


def run(args: argparse.Namespace) -> None:
    """Train, and say how well the model does and where it is. Raises a ValueError or OSError if it cannot be done."""
    args.output_dir = args.output_dir or f"outputs/{Path(args.file).name.split('.')[0]}"
    flags = flags_of(args)
    checkpoint = args.resume_from_checkpoint or checkpoint_of(args.output_dir, flags)
    task, training_args = read_flags(args)
    if checkpoint is not None:
        print(f"Going on from {checkpoint}")
    record = Path(args.output_dir) / RECORD
    record.parent.mkdir(parents=True, exist_ok=True)
    record.write_text(json.dumps(flags, indent=1))
    try:
        metrics = train_task(task, training_args, checkpoint)
    except KeyboardInterrupt:
        print("Run the same command again to go on from the last checkpoint")
        raise
    print(f"\nOn test, {len(task.data['test']):,} rows on which nothing was chosen; thresholds from validation:")
    scores = {name: metrics[f"eval_{score}"] for score, name in SHOWN.items()}
    print(", ".join(f"{name} {value:.3f}" for name, value in scores.items() if not math.isnan(value)))
    print(f"Model, card (README.md) and pictures (plots/) are in {args.output_dir}. To label other rows:")
    print(f"  hf-plm predict {args.output_dir} FILE --output labels.csv")


def train_task(task: Task, args: PLMTrainingArguments, checkpoint: str | None = None) -> dict[str, float]:
    """Train, choose thresholds on `validation`, evaluate on `test`, and save all.

    Args:
        checkpoint: to go on from; None to begin.

    Returns:
        the metrics on `test`.
    """
    set_seed(args.seed)
    trainer = PLMTrainer(
        task.make_model(),
        args,
        train_dataset=task.data["train"],
        eval_dataset=task.data["validation"],
        processing_class=task.processor,
        compute_metrics=multilabel_compute_metrics(task.counts),
    )
    trainer.train(resume_from_checkpoint=checkpoint)
    trainer.tune_thresholds()
    return evaluate_and_save(trainer, task.data["test"])


def flags_of(args: argparse.Namespace) -> dict[str, Any]:
    """What a run is made with."""
    left_out = ("run", "command", "resume_from_checkpoint")
    return {name: value for name, value in vars(args).items() if name not in left_out}


def checkpoint_of(folder: str, flags: dict[str, Any]) -> str | None:
    """The last checkpoint of a run with the same flags; None if there is none.

    Raises:
        ValueError: if the folder has the checkpoints of another run.
    """
    checkpoint: str | None = get_last_checkpoint(folder) if Path(folder).is_dir() else None
    if checkpoint is None:
        return None
    record = Path(folder) / RECORD
    earlier = json.loads(record.read_text()) if record.is_file() else None
    if earlier == flags:
        return checkpoint
    differences = "a run that hf-plm train did not make"
    if earlier is not None:
        changed = [name for name in {**earlier, **flags} if earlier.get(name) != flags.get(name)]
        differences = "a run with " + ", ".join(
            f"{name} {earlier.get(name)!r} rather than {flags.get(name)!r}" for name in changed
        )
    raise ValueError(
        f"{folder} has checkpoints of {differences}; to go on with that run, give the same flags; for a new one, "
        "choose another --output-dir, or delete the folder"
    )
