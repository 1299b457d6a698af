"""`hf-plm inspect`: how imbalanced the labels of a data set are, before training."""

import argparse
import json
from typing import Any

from .command_parser import FILE_HELP, CommandParser
from .inspection import inspect_labels
from .labeled_data import read_labeled
from .recipes import LabelArguments


def add_parser(commands: Any) -> None:
    """Add the command to `hf-plm`."""
    parser = commands.add_parser(
        "inspect",
        help="show how often each label of a file occurs, with advice",
        description="Show how often each label occurs, how imbalanced the labels are, and how much of each label "
        "the presets keep in the loss. Nothing is trained, and only --plot writes a file.",
        dataclass_types=(LabelArguments,),
    )
    parser.add_argument("file", metavar="FILE", help=FILE_HELP)
    parser.add_argument("--config", metavar="NAME", help="the configuration of a Hub data set, if it has several")
    parser.add_argument("--split", metavar="NAME", default="train", help="the split of a Hub data set; default: train")
    parser.add_argument(
        "--label-format",
        metavar="FORM",
        default="auto",
        help="multi_hot, ids, names or class_id; only needed if the rows can be read in two ways",
    )
    parser.add_argument("--num-labels", type=int, metavar="N", help="the number of labels, if the data do not show it")
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    parser.add_argument("--plot", metavar="PICTURE", help="write a png, svg or pdf file with the label counts")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Read the labels and print the report. Raises a ValueError or OSError if a file cannot be read or written."""
    (labels,) = CommandParser((LabelArguments,)).parse_dict(vars(args), allow_extra_keys=True)
    data = read_labeled(args.file, config=args.config, split=args.split, **labels.columns())
    report = inspect_labels(data[args.split], args.num_labels, label_format=args.label_format)
    if args.json:
        print(json.dumps(report.to_dict()))
    else:
        from .report_tables import print_report  # needs rich

        print_report(report)
    if args.plot is not None:
        from .plots import plot_label_counts  # needs matplotlib

        try:
            plot_label_counts(report).savefig(args.plot, dpi=130)
        except (ValueError, OSError) as error:
            raise ValueError(f"--plot {args.plot}: {error}") from error
