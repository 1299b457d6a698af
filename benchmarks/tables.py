"""Tables and pictures of the results. A document asks for a table by `<!-- table: STUDY TASK -->`."""

import re
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np
from comparisons import DEFAULT, SCORES, is_single_label, mean_ranks, outcomes, paired_difference, scores_of
from results import Results, dev_score, read_results, values_of
from sources import Source
from studies import STUDIES, Study

matplotlib.use("agg")
from matplotlib import pyplot as plt

ROOT = Path(__file__).parent.parent
DOCUMENTS = (ROOT / "README.md", ROOT / "docs" / "choices.md", *sorted((ROOT / "docs" / "results").glob("*.md")))

COLUMNS = {
    "micro_f1": "micro-F1",
    "macro_f1": "macro-F1",
    "tuned_macro_f1": "macro-F1, tuned thresholds",
    "map": "mAP",
    "exact_match": "exact match",
    "head_precision": "head P",
    "head_recall": "head R",
    "medium_f1": "medium F1",
    "tail_precision": "tail P",
    "tail_recall": "tail R",
    "tail_map": "tail AP",
    "calibration_error": "calibration error",
}
SINGLE_LABEL_COLUMNS = {
    "error": "top-1 error",
    "head_error": "head",
    "medium_error": "medium",
    "tail_error": "tail",
    "map": "mAP",
    "calibration_error": "calibration error",
}
TASK_DESCRIPTIONS = {
    "debtags": "365 labels, 16,500 texts, ModernBERT from scratch",
    "clipart": "113 labels, 3,650 pictures, ViT from scratch",
    "multimnist": "10 labels, 10,800 pictures, convolutions",
    "keywords": "10 labels, 1,200 made texts, BERT from scratch",
    "features-debtags-500": "365 labels, 500 texts, MiniLM's features",
    "features-debtags-1500": "365 labels, 1,500 texts, MiniLM's features",
    "features-debtags-5000": "365 labels, 5,000 texts, MiniLM's features",
    "mnist-lt-100": "10 classes, one per row, convolutions: top-1 error",
    "fashion-lt-100": "10 classes, one per row, convolutions: top-1 error",
}
SUMMARY_ROWS = ("BCE", "BCE with pos_weight", "asymmetric", "distribution-balanced", "PLM paper", DEFAULT)


def mean_and_spread(values: Sequence[float]) -> str:
    return f"{statistics.mean(values):.1f} ± {statistics.stdev(values):.1f}"


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """A table; the first row is its head."""
    rows = [rows[0], ["---"] * len(rows[0]), *rows[1:]]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def study_table(study: Study, results: Results) -> str:
    """Percent on `validation`: mean ± standard deviation over the seeds, and the paired difference to the baseline."""
    single_label = is_single_label(results)
    columns = SINGLE_LABEL_COLUMNS if single_label else COLUMNS
    main = next(iter(columns)) if single_label else "macro_f1"
    rows = [["", *columns.values(), f"{columns[main]} minus {study.baseline}'s"]]
    baseline = results.get(study.baseline)
    for name, runs in results.items():
        difference = "-"
        if baseline is not None and name != study.baseline:
            pairs = zip(*(values_of(each, main) for each in (runs, baseline)), strict=True)
            difference = mean_and_spread([one - other for one, other in pairs])
        rows.append([name, *(mean_and_spread(values_of(runs, score)) for score in columns), difference])
    return markdown(rows)


def best_rival(rows: Results) -> str | None:
    """The method besides BCE and the default with the best mean over the scores on `dev`."""
    rivals = {name: runs for name, runs in rows.items() if name not in ("BCE", DEFAULT)}
    return max(rivals, key=lambda name: statistics.mean(map(dev_score, rivals[name])), default=None)


def overview_table(results: Mapping[str, Results]) -> str:
    """A line for each task: BCE, the best rival and the default; micro-F1 / macro-F1 / mAP, or the top-1 error."""
    table = [["task", "what", "BCE", "best rival", "", "default"]]
    for task, rows in results.items():
        rival = best_rival(rows)
        if rival is None or "BCE" not in rows or DEFAULT not in rows:
            continue
        scores = ("error",) if is_single_label(rows) else tuple(SCORES)
        cells = [
            " / ".join(f"{statistics.mean(values_of(rows[name], score)):.1f}" for score in scores)
            for name in ("BCE", rival, DEFAULT)
        ]
        table.append([task, TASK_DESCRIPTIONS[task], cells[0], rival, cells[1], cells[2]])
    return markdown(table)


def wins_table(results: Mapping[str, Results]) -> str:
    """The default against each rival over all tasks: mean rank, and wins, ties and losses on each score."""
    ranks = mean_ranks(results)
    columns = {**SCORES, "accuracy": "accuracy, one label per row"}
    table = [["", "mean rank", *(f"{name}: wins, ties, losses" for name in columns.values())]]
    for name in sorted(ranks, key=lambda name: ranks[name]):
        cells = []
        for score in columns:
            counts = Counter(outcome for _, outcome in outcomes(results, name, score))
            cells.append(", ".join(str(counts[each]) for each in ("win", "tie", "loss")) if counts else "-")
        table.append([name, f"{ranks[name]:.1f}", *(cells if name != DEFAULT else ["-"] * len(columns))])
    return markdown(table)


def losses_table(results: Mapping[str, Results]) -> str:
    """Where a rival is better than the default beyond the interval."""
    table = [["task", "rival", "score", "default minus rival"]]
    for task, rows in results.items():
        for name in rows:
            for score in scores_of(rows):
                if DEFAULT not in rows or name == DEFAULT:
                    continue
                found = paired_difference(*(values_of(rows[each], score) for each in (DEFAULT, name)))
                if found.outcome == "loss":
                    table.append([task, name, SCORES.get(score, score), f"{found.mean:.1f} ± {found.margin:.1f}"])
    return markdown(table)


def draw_summary(results: Mapping[str, Results], path: Path) -> None:
    """Micro-F1, macro-F1 and mAP of the main methods, a panel for each task with several labels per row."""
    pictured = {task: rows for task, rows in results.items() if rows and not is_single_label(rows)}
    figure, axes = plt.subplots(
        1, len(pictured), figsize=(2.6 * len(pictured), 3.6), sharey=True, layout="constrained"
    )
    colours = ["#4c4c4c", "#a6a6a6", "#8c6bb1", "#9ecae1", "#fdae6b", "#d94801"]
    for axis, (task, rows) in zip(axes, pictured.items(), strict=True):
        scores = tuple(SCORES)
        width = 0.85 / len(SUMMARY_ROWS)
        for index, name in enumerate(SUMMARY_ROWS):
            if name not in rows:
                continue
            values = np.array([values_of(rows[name], score) for score in scores])
            places = np.arange(len(scores)) + (index - (len(SUMMARY_ROWS) - 1) / 2) * width
            axis.bar(places, values.mean(1), width, yerr=values.std(1, ddof=1), color=colours[index], label=name)
        axis.set_xticks(range(len(scores)), SCORES.values(), rotation=30)
        axis.set_title(task)
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(axis="y", alpha=0.3)
        axis.set_axisbelow(True)
    axes[0].set_ylabel("percent on validation data")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(SUMMARY_ROWS), frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def method_results() -> dict[str, Results]:
    """The small runs of the study `methods` by task, of the tasks that were run."""
    found = {task: read_results(STUDIES["methods"], task, Source()) for task in STUDIES["methods"].tasks}
    return {task: rows for task, rows in found.items() if rows}


SUMMARIES = {"overview": overview_table, "wins": wins_table, "losses": losses_table}


def table(name: str, task: str | None) -> str | None:
    """A table of the small runs: one of `SUMMARIES`, or of a study and a task; None without results."""
    if name in SUMMARIES:
        results = method_results()
        return SUMMARIES[name](results) if results else None
    results = read_results(STUDIES[name], str(task), Source())
    return study_table(STUDIES[name], results) if results else None


def fill(text: str) -> str:
    """A document with all its tables made anew."""

    def make(match: re.Match) -> str:
        made = table(match["study"], match["task"])
        return f"{match['head']}\n{made}\n<!-- end -->" if made is not None else match[0]

    pattern = r"(?P<head><!-- table: (?P<study>\w+)(?: (?P<task>[\w-]+))? -->)\n.*?<!-- end -->"
    return re.sub(pattern, make, text, flags=re.DOTALL)
