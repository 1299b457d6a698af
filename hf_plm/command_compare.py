"""`hf-plm compare`: which training method suits these data, and whether the difference is more than chance."""

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
        help="which training method suits the rows of a file",
        description="Train several methods with the same seeds on the same rows, and compare them on rows that "
        "nothing was chosen on: plain BCE, BCE with pos_weight, the asymmetric loss and the default preset, each with "
        "the threshold 0.5 and with thresholds tuned on other rows. Prints a table and a conclusion; writes "
        "comparison.json and comparison.png. Try it on a part of the rows first: --max-train-samples 2000. If it is "
        "stopped, the same command goes on with the missing trainings, as does one with more methods or seeds.",
        usage="hf-plm compare FILE [--model NAME] [--methods a,b] [--seeds N] [more flags]",
    )
    parser.add_argument("--methods", default=NAMES, metavar="NAMES", help=f"some of {NAMES}; default: all")
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="how many, 2 or more; default: 3")
    parser.set_defaults(run=run, per_device_eval_batch_size=256, remove_unused_columns=False)


def run(args: argparse.Namespace) -> None:
    """Compare, print and write. Raises a ValueError or OSError if it cannot be done."""
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
        print(f"{done} of {total} trainings are there already, in {runs.folder}; delete it to train them again")
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
    print("Chance here is that of the seeds; other rows would add to it.")
    print(f"Written: {', '.join(str(path) for path in written)}")


def settings_of(args: argparse.Namespace, task: Task) -> dict[str, Any]:
    """What the scores of a training depend on, beside its method and seed."""
    left_out = ("run", "command", "methods", "seeds", "output_dir")
    flags = {name: value for name, value in vars(args).items() if name not in left_out}
    rows = {f"rows of {part}": len(rows) for part, rows in task.data.items()}
    files = [args.file, args.validation_file, args.test_file]
    changed = {f"time of {file}": Path(file).stat().st_mtime for file in files if file and Path(file).is_file()}
    return {**flags, **rows, **changed}
