"""The parser of `hf-plm`: short help texts, errors of one line, and a flag for every field of the arguments."""

import argparse
import shutil
from collections.abc import Sequence
from typing import Any, NoReturn

import torch
from transformers import HfArgumentParser

from .recipes import PRETRAINED
from .tasks import Task, TaskArguments, load_task
from .training_args import PLMTrainingArguments

COMMON = {
    "output_dir": ("FOLDER", "The folder for all output. Default: outputs/ and the name of FILE."),
    "num_train_epochs": ("N", "Passes over the training rows. Default: 5; the small models: 4 (texts), 8 (pictures)."),
    "learning_rate": ("RATE", "Default: 5e-5; the small models: 2e-3 (texts), 1e-3 (pictures)."),
    "per_device_train_batch_size": ("N", "Rows in one step of training. Default: 16; 64 for the small models."),
    "seed": ("N", "The seed of the weights, the order of the rows, and the masks. Default: 42."),
    "bf16": ("true", "Train in bfloat16: faster on recent GPUs, with less memory."),
    "use_cpu": ("true", "Train on the CPU even if there is a GPU."),
    "push_to_hub": ("true", "Upload the model and its card; needs `hf auth login`."),
    "plm_preset": ("NAME", "default (recommended), paper (the published method) or off (plain BCE)."),
    "plm_objective": ("NAME", "The loss that is masked: bce, focal, asymmetric, weighted_bce, ..."),
}
"""The training flags in the short help: field -> placeholder for its value, and what it does."""


FILE_HELP = "a csv, tsv, json, jsonl or parquet file, or a data set of the Hub"


class HelpLines(argparse.HelpFormatter):
    """Shows help texts next to their flags, as wide as the terminal, up to 110 characters."""

    def __init__(self, prog: str):
        super().__init__(prog, max_help_position=36, width=min(shutil.get_terminal_size().columns, 112) - 2)


class CommandParser(HfArgumentParser):
    """An `HfArgumentParser` that shows flags with hyphens, and errors in one line (exit code 2)."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **{"allow_abbrev": False, "formatter_class": HelpLines, **kwargs})
        for action in self._actions:
            hyphened = [each for each in action.option_strings if "_" not in each]
            action.option_strings = hyphened or action.option_strings

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {one_line(message)} (see {self.prog} --help)\n")


class ShowAll(argparse.Action):
    """The flag `--help-all`: shows the help with every flag."""

    def __init__(self, option_strings: Sequence[str], dest: str, hidden: dict[argparse.Action, str | None], help: str):
        super().__init__(option_strings, dest, nargs=0, help=help)
        self.hidden = hidden

    def __call__(self, parser: argparse.ArgumentParser, *args: Any) -> None:
        for action, text in self.hidden.items():
            action.help = text
        parser.print_help()
        parser.exit()


def add_training_parser(commands: Any, name: str, help: str, description: str, usage: str) -> CommandParser:
    """The parser of a command that trains: FILE, `TaskArguments`, and every field of `PLMTrainingArguments`."""
    parser: CommandParser = commands.add_parser(
        name,
        help=help,
        description=description,
        usage=usage,
        dataclass_types=(TaskArguments, PLMTrainingArguments),
        epilog="Every other field of PLMTrainingArguments is a flag, too, such as --warmup-steps 100; --help-all "
        "lists all flags.",
    )
    parser.add_argument("file", metavar="FILE", help=FILE_HELP)
    fields = PLMTrainingArguments.__dataclass_fields__
    hidden: dict[argparse.Action, str | None] = {}
    for action in parser._actions:
        if action.dest in COMMON:
            action.metavar, action.help = COMMON[action.dest]
        elif action.dest in fields:
            hidden[action], action.help = action.help, argparse.SUPPRESS
    parser.set_defaults(output_dir=None, dataloader_pin_memory=None, **dict.fromkeys(PRETRAINED))
    parser.add_argument("--help-all", action=ShowAll, dest="help_all", hidden=hidden, help="show every flag and exit")
    return parser


def read_flags(args: argparse.Namespace) -> tuple[Task, PLMTrainingArguments]:
    """The task and the training arguments from the flags of a training command; prints what the task is."""
    (task_args,) = CommandParser((TaskArguments,)).parse_dict(vars(args), allow_extra_keys=True)
    task = load_task(args.file, task_args, args.seed)
    defaults = {**task.training, "dataloader_pin_memory": torch.accelerator.is_available()}  # otherwise torch warns
    given = {name: value for name, value in vars(args).items() if value is not None}
    (training_args,) = CommandParser((PLMTrainingArguments,)).parse_dict({**defaults, **given}, allow_extra_keys=True)
    print(f"{args.file}: {task.description}")
    return task, training_args


def one_line(message: object) -> str:
    """A message without line breaks."""
    return " ".join(str(message).split())
