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
        help="how often each label of a file occurs, and what to mind",
        description="How often each label occurs, how imbalanced the labels are, and how much of each the presets "
        "let into the loss. Nothing is trained, and nothing is written unless --plot asks for it.",
        dataclass_types=(LabelArguments,),
    )
    parser.add_argument("file", metavar="FILE", help=FILE_HELP)
    parser.add_argument("--config", metavar="NAME", help="of a data set of the Hub, if it has several")
    parser.add_argument("--split", metavar="NAME", default="train", help="of a data set of the Hub; default: train")
    parser.add_argument(
        "--label-format",
        metavar="FORM",
        default="auto",
        help="multi_hot, ids, names or class_id; only where the rows can be read in two ways",
    )
    parser.add_argument("--num-labels", type=int, metavar="N", help="how many labels, where the data do not tell")
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    parser.add_argument("--plot", metavar="PICTURE", help="draw the label counts into a png, svg or pdf file")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Read, and print the report. Raises a ValueError or OSError for what cannot be read or written."""
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
