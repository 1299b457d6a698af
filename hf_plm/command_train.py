"""`hf-plm train`: from a table to a model with thresholds, a card and pictures; continues after a stop."""

import argparse
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm
from transformers import PrinterCallback, ProgressCallback, TrainerCallback, set_seed

from .command_parser import add_training_parser, read_flags
from .metrics import multilabel_compute_metrics
from .recipes import EVERY_EPOCH, evaluate_and_save
from .run_record import checkpoint_of, write_record
from .tasks import Task
from .trainer import PLMTrainer
from .training_args import PLMTrainingArguments

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
        "rows is split off to choose thresholds, and another tenth to report scores, unless you give files or splits "
        "for them. After a stop, the same command continues from the last checkpoint.",
        usage="hf-plm train FILE [--model NAME] [more flags]",
    )
    parser.set_defaults(run=run, **EVERY_EPOCH)


def run(args: argparse.Namespace) -> None:
    """Train, and print the scores and the folder of the model. Raises a ValueError or OSError if this fails."""
    args.output_dir = args.output_dir or f"outputs/{Path(args.file).name.split('.')[0]}"
    flags = flags_of(args)
    checkpoint = args.resume_from_checkpoint or checkpoint_of(args.output_dir, flags)
    task, training_args = read_flags(args)
    if checkpoint is not None:
        print(f"Continuing from {checkpoint}")
    write_record(args.output_dir, flags, task.columns)
    try:
        metrics = train_task(task, training_args, checkpoint)
    except KeyboardInterrupt:
        print("Run the same command again to continue from the last checkpoint")
        raise
    print(f"\nOn test, {len(task.data['test']):,} rows; thresholds chosen on validation:")
    print(in_words(metrics))
    print(f"Model, card (README.md) and pictures (plots/) are in {args.output_dir}. To label other rows:")
    folder = f" --image-folder {args.image_folder}" if args.image_folder is not None else ""
    print(f"  hf-plm predict {args.output_dir} FILE --output labels.csv{folder}")


def train_task(task: Task, args: PLMTrainingArguments, checkpoint: str | None = None) -> dict[str, float]:
    """Train, choose thresholds on `validation`, evaluate on `test`, and save everything.

    Args:
        checkpoint: the checkpoint to continue from; None to start a new run.

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
    trainer.remove_callback(PrinterCallback)
    if not args.disable_tqdm:
        trainer.remove_callback(ProgressCallback)
        trainer.add_callback(ProgressBar)
    trainer.add_callback(EpochLines)
    trainer.train(resume_from_checkpoint=checkpoint)
    trainer.remove_callback(EpochLines)
    trainer.tune_thresholds()
    return evaluate_and_save(trainer, task.data["test"])


def flags_of(args: argparse.Namespace) -> dict[str, Any]:
    """The flags that determine a run."""
    left_out = ("run", "command", "resume_from_checkpoint")
    return {name: value for name, value in vars(args).items() if name not in left_out}


class EpochLines(TrainerCallback):
    """Prints one line for each evaluation."""

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.is_world_process_zero:
            scores = in_words(kwargs["metrics"], ("macro_f1", "micro_f1", "map"))
            tqdm.write(f"Epoch {state.epoch:.3g} of {state.num_train_epochs:g}: on validation {scores}")


class ProgressBar(ProgressCallback):
    """The progress bar of `Trainer`, without the metrics that it prints above the bar."""

    def on_log(self, *args: Any, **kwargs: Any) -> None:
        pass


def in_words(metrics: dict[str, float], scores: Iterable[str] = tuple(SHOWN)) -> str:
    """Scores with their names; scores that are NaN are left out."""
    values = {name: metrics[f"eval_{name}"] for name in scores}
    return ", ".join(f"{SHOWN[name]} {value:.3f}" for name, value in values.items() if not math.isnan(value))
