"""The command `hf-plm`: it inspects labels, trains, predicts, and compares methods."""

import sys
import warnings
from collections.abc import Sequence
from importlib.metadata import version

from datasets.exceptions import DatasetsError
from transformers.utils import logging

from . import command_compare, command_inspect, command_predict, command_train
from .command_parser import CommandParser, one_line


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command. If it fails, the process ends with an error message of one line and exit code 2."""
    parser = CommandParser(
        prog="hf-plm",
        description="Multi-label classification with imbalanced labels: inspect the labels of a table, train a model, "
        "label new rows, and compare training methods on your data.",
        epilog="Begin with: hf-plm inspect FILE.csv. Each command has a --help.",
    )
    parser.add_argument(
        "--version", action="version", version=f"%(prog)s {version('hf_plm')}", help="print the version and exit"
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND", dest="command")
    for command in (command_inspect, command_train, command_predict, command_compare):
        command.add_parser(commands)
    args = parser.parse_args(argv)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # for characters that the terminal cannot show
    logging.disable_progress_bar()  # for loading and saving models
    try:
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *_: print(f"! {one_line(message)}", file=sys.stderr)
            args.run(args)
    except FileNotFoundError as error:
        found = f"there is no file or folder '{error.filename}'" if error.filename is not None else one_line(error)
        parser.exit(2, f"hf-plm: {found}\n")
    except (ValueError, OSError, ImportError, DatasetsError) as error:
        parser.exit(2, f"hf-plm: {one_line(error)}\n")
    except KeyboardInterrupt:
        parser.exit(130, "hf-plm: stopped\n")
    finally:
        logging.enable_progress_bar()
