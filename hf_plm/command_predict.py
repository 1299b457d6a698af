"""`hf-plm predict`: writes the labels of all rows of a table into a csv file."""

import argparse
from typing import Any

from .command_parser import FILE_HELP
from .run_record import read_record

AS_TRAINED = "default: the column that hf-plm train used, or "


def add_parser(commands: Any) -> None:
    """Add the command to `hf-plm`."""
    parser = commands.add_parser(
        "predict",
        help="label the rows of a file with a trained model",
        description="Label the rows of a file of any size with a trained model. OUTPUT.csv has one row for each row "
        "of FILE: its number, the text or the file of the picture, the names of its labels (a|b), and for each "
        "label the score (score_NAME, from 0 to 1) and the decision (predicted_NAME, 1 or 0). It is written "
        "batch by batch.",
    )
    parser.add_argument("model", metavar="MODEL", help="a folder written by hf-plm train, or a classifier of the Hub")
    parser.add_argument("file", metavar="FILE", help=FILE_HELP)
    parser.add_argument("--output", required=True, metavar="OUTPUT.csv", help="the file to write")
    parser.add_argument(
        "--batch-size", type=int, default=32, metavar="N", help="rows in one forward pass; default: 32"
    )
    parser.add_argument(
        "--text-column", metavar="NAME", help=f"the column of the texts; {AS_TRAINED}text, or the only one with texts"
    )
    parser.add_argument(
        "--image-column", metavar="NAME", help=f"the column of the pictures or files; {AS_TRAINED}image"
    )
    parser.add_argument("--image-folder", metavar="FOLDER", help="the folder of the files of the pictures")
    parser.add_argument("--config", metavar="NAME", help="the configuration of a Hub data set, if it has several")
    parser.add_argument("--split", metavar="NAME", default="train", help="the split of a Hub data set; default: train")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Predict, and print where the labels are. Raises the errors of `predict_file`."""
    from .file_predictions import load_classifier, predict_file

    record = read_record(args.model)
    rows = predict_file(
        *load_classifier(args.model),
        args.file,
        args.output,
        batch_size=args.batch_size,
        config=args.config,
        split=args.split,
        text_column=args.text_column,
        image_column=args.image_column,
        image_folder=args.image_folder,
        usual_column=next(iter(record["columns"].values())) if record is not None else None,
    )
    print(f"{args.output}: the labels of {rows:,} rows")
