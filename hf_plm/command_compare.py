"""`hf-plm compare`: which training method suits the data, and whether the difference is more than chance."""

import argparse
import json
import warnings
from pathlib import Path
from typing import Any

from .command_parser import add_training_parser, read_flags
from .tasks import Task

NAMES = "bce, pos_weight, asymmetric, default"


def add_parser(commands: Any) -> None:
    """Add the command to `hf-plm`."""
    parser = add_training_parser(
        commands,
        "compare",
        help="find the training method that suits the rows of a file",
        description="Train models with several methods, the same seeds and the same rows, and compare them on test "
        "rows: plain BCE, BCE with pos_weight, the asymmetric loss and the default preset, each with the threshold "
        "0.5 and with thresholds tuned on validation rows. Prints a table and a conclusion; writes comparison.json "
        "and comparison.png. Try it on a part of the rows first: --max-train-samples 2000. After a stop, the same "
        "command trains only what is missing; so does the same command with more methods or seeds.",
        usage="hf-plm compare FILE [--model NAME] [--methods a,b] [--seeds N] [more flags]",
    )
    parser.add_argument("--methods", default=NAMES, metavar="NAMES", help=f"methods, some of {NAMES}; default: all")
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="the number of seeds, 2 or more; default: 3")
    parser.set_defaults(run=run, per_device_eval_batch_size=256, remove_unused_columns=False)


def run(args: argparse.Namespace) -> None:
    """Compare, print and write the results. Raises a ValueError or OSError if this fails."""
    from .comparing import COMPARED, compare_methods
    from .comparison_runs import ComparisonRuns

    args.output_dir = args.output_dir or f"outputs/{Path(args.file).name.split('.')[0]}-comparison"
    task, training_args = read_flags(args)
    methods = [name.strip() for name in args.methods.split(",")]
    runs = ComparisonRuns(args.output_dir, settings_of(args, task))
    seeds = range(args.seed, args.seed + args.seeds)
    done = sum(runs.read(method, seed) is not None for method in methods for seed in seeds)
    if done:
        total = len(methods) * len(seeds)
        print(f"{done} of {total} trainings are already in {runs.folder}; delete this folder to train them again")
    comparison = compare_methods(
        task.make_model, training_args, task.data, task.processor, methods=methods, num_seeds=args.seeds, runs=runs
    )
    folder = Path(args.output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    written = [folder / "comparison.json"]
    written[0].write_text(json.dumps(comparison.to_dict(), indent=1))
    try:
        from .comparison_plot import plot_comparison  # needs matplotlib

        plot_comparison(comparison).savefig(folder / "comparison.png", dpi=130)
        written.append(folder / "comparison.png")
    except ModuleNotFoundError as error:
        warnings.warn(f"there is no comparison.png: {error}", stacklevel=2)
    print(
        f"\nOn test, {comparison.num_rows['test']:,} rows, in percent: mean ± standard deviation over {args.seeds} "
        f"seeds;\nin the last column the 95 % interval. {comparison.seconds / 60:.1f} minutes.\n"
    )
    print(comparison.table().to_string())
    print()
    for score in COMPARED:
        print(comparison.conclusion(score))
    print("The intervals cover the variation between seeds, not between rows.")
    print(f"Written: {', '.join(str(path) for path in written)}")


def settings_of(args: argparse.Namespace, task: Task) -> dict[str, Any]:
    """Everything that the scores of a training depend on, apart from its method and seed."""
    left_out = ("run", "command", "methods", "seeds", "output_dir")
    flags = {name: value for name, value in vars(args).items() if name not in left_out}
    rows = {f"rows of {part}": len(rows) for part, rows in task.data.items()}
    files = [args.file, args.validation_file, args.test_file]
    changed = {f"time of {file}": Path(file).stat().st_mtime for file in files if file and Path(file).is_file()}
    return {**flags, **rows, **changed}
