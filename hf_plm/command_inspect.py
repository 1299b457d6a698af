"""`hf-plm inspect`: how imbalanced the labels of a data set are, before training."""

import argparse
import json
from typing import Any

from .inspection import inspect_labels
from .labeled_data import read_labeled


def add_parser(commands: Any) -> None:
    """Add the command to `hf-plm`."""
    inspect = commands.add_parser(
        "inspect",
        help="how imbalanced the labels of a data set are, and what the presets would mask",
        description="How imbalanced the labels of a data set are, and what the presets would mask.",
    )
    inspect.add_argument("dataset", help="a data set of the Hub, or a csv, tsv, json, jsonl or parquet file")
    inspect.add_argument("--config", help="the data set's configuration, if it has several")
    inspect.add_argument("--split", default="train", help="default: train")
    inspect.add_argument("--label-column", default="labels", help="default: labels")
    inspect.add_argument(
        "--label-columns",
        metavar="NAMES",
        help="one column per label, with 1, 0, or nothing where it is unknown: a,b,c or a pattern such as 'tag_*'",
    )
    inspect.add_argument(
        "--label-format", default="auto", help="multi_hot, ids, names or class_id, where the rows do not tell"
    )
    inspect.add_argument("--num-labels", type=int, help="how many labels there are, where the data do not tell")
    inspect.add_argument(
        "--separator",
        help="between the names of a label column of text; empty if each cell is one name; default: |, ; or a comma, "
        "where it is plain",
    )
    inspect.add_argument("--json", action="store_true", help="print everything as JSON")
    inspect.add_argument("--plot", metavar="FILE", help="draw the label counts into a file (png, svg or pdf)")
    inspect.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Read, and print the report. Raises a ValueError or OSError for what cannot be read or written."""
    data = read_labeled(
        args.dataset,
        config=args.config,
        split=args.split,
        label_column=args.label_column,
        label_columns=args.label_columns,
        separator=args.separator,
    )
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
