"""When does Partial Label Masking help, and which methods does it beat? Makes the missing runs and tables of a study.

    python benchmarks/quality.py methods --quick                  # ten minutes on two cores, with a third of the data
    python benchmarks/quality.py methods --task debtags           # one study on one task: half an hour
    python benchmarks/quality.py all --tables                     # no runs: only the tables of the existing results
    python benchmarks/quality.py methods --task debtags --full    # pretrained models of full size, for a GPU

Every run is a file in `benchmarks/results`. A run that has a file is not repeated, so an interrupted study continues
where it stopped. The tables are printed, written to `outputs/benchmarks/`, and inserted into `README.md` and `docs/`.
MNIST comes from the Hub, or from `--mnist FILE.parquet`. The seeds are 0 to 2, or 0 to 4 for tasks whose runs take
seconds.
"""

import argparse
import json
import multiprocessing
import os
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # two runs in parallel are faster than one on two cores

from pictures import draw_epochs, draw_summary
from results import best_trial, read_results, select_rows
from rich.progress import track
from sources import Source
from studies import STUDIES, TASKS_OF_QUICK, Study, seeds_of
from tables import DOCUMENTS, ROOT, fill, method_results, study_table
from tasks import TASKS
from training import Run, be_quiet, make_run

OUTPUT = Path("outputs/benchmarks")


def make_runs(runs: Iterable[Run], source: Source, workers: int) -> None:
    """Make the runs that have no result yet."""
    missing = {run.path(source): run for run in runs if run.result(source) is None}  # each once
    if not missing:
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=be_quiet) as pool:
        futures = [pool.submit(make_run, run, source) for run in missing.values()]
        for future in track(futures, description=f"{len(missing)} runs"):
            future.result()


def make_study(study: Study, task: str, source: Source, workers: int) -> None:
    """Run every trial with the first seed, then the best trial of each row with the other seeds."""
    rows, (first, *others) = select_rows(study, source), seeds_of(task)
    make_runs((Run(task, settings, first) for trials in rows.values() for settings in trials), source, workers)
    chosen = [best_trial(task, trials, source) for trials in rows.values()]
    make_runs((Run(task, settings, seed) for seed in others for settings in chosen if settings), source, workers)


def report(name: str, task: str, source: Source) -> None:
    """Print the table of a study on a task, and write it and its results to `OUTPUT`."""
    results = read_results(STUDIES[name], task, source)
    if not results:
        return
    table = study_table(STUDIES[name], results)
    num_seeds = len(next(iter(results.values())))
    print(f"\n{STUDIES[name].question} {task}, {source.size} runs, {num_seeds} seeds\n\n{table}\n")
    OUTPUT.mkdir(parents=True, exist_ok=True)
    (OUTPUT / f"{name}-{task}-{source.size}.md").write_text(table + "\n")
    (OUTPUT / f"{name}-{task}-{source.size}.json").write_text(json.dumps(results, indent=1))


def update_documents() -> None:
    """Update the tables and pictures of README and docs from the small runs."""
    for document in DOCUMENTS:
        document.write_text(fill(document.read_text()))
    draw_summary(method_results(), ROOT / "docs" / "images" / "methods.png")
    epochs = STUDIES["epochs"]
    trained_longer = {task: read_results(epochs, task, Source()) for task in epochs.tasks}
    longer = {task: rows for task, rows in trained_longer.items() if len(rows) == len(epochs.rows)}
    draw_epochs(longer, ROOT / "docs" / "images" / "epochs.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", choices=[*STUDIES, "all"])
    parser.add_argument("--task", nargs="+", choices=list(TASKS), help="default: all tasks of the study")
    parser.add_argument("--tables", action="store_true", help="make no runs, only tables")
    parser.add_argument("--quick", action="store_true", help="a third of the data, and five methods without trials")
    parser.add_argument("--full", action="store_true", help="pretrained models of full size")
    parser.add_argument("--mnist", default=Source.mnist, help="a data set of the Hub, or a parquet file")
    parser.add_argument("--fashion", default=Source.fashion, help="a data set of the Hub, or the authors' four files")
    parser.add_argument("--data", help="the folder of COCO")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="number of runs in parallel")
    args = parser.parse_args()
    source = Source(args.mnist, args.fashion, args.data, args.full, args.quick)
    for name, study in STUDIES.items():
        if args.study in (name, "all"):
            for task in args.task or (TASKS_OF_QUICK if args.quick and name == "methods" else study.tasks):
                if not args.tables:
                    make_study(study, task, source, args.workers)
                report(name, task, source)
    if source == Source(args.mnist, args.fashion):
        update_documents()


if __name__ == "__main__":
    main()
