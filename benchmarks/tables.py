"""Tables and pictures of the results. A document asks for a table by `<!-- table: STUDY TASK -->`."""

import re
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np
from results import Results, read_results, values_of
from sources import Source
from studies import STUDIES, Study

matplotlib.use("agg")
from matplotlib import pyplot as plt

ROOT = Path(__file__).parent.parent
DOCUMENTS = (ROOT / "README.md", ROOT / "docs" / "choices.md")

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
SUMMARY_ROWS = (
    "BCE",
    "asymmetric",
    "distribution-balanced",
    "PLM paper",
    "PLM default's masks on BCE",
    "PLM default",
)
SUMMARY_TASKS = {
    "debtags": ("micro_f1", "macro_f1", "map"),
    "clipart": ("micro_f1", "macro_f1", "map"),
    "multimnist": ("micro_f1", "macro_f1", "map"),
    "mnist-lt-100": ("error",),
}


def mean_and_spread(values: Sequence[float]) -> str:
    return f"{statistics.mean(values):.1f} ± {statistics.stdev(values):.1f}"


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """A table; the first row is its head."""
    rows = [rows[0], ["---"] * len(rows[0]), *rows[1:]]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def study_table(study: Study, results: Results) -> str:
    """Percent on `validation`: mean ± standard deviation over the seeds, and the paired difference to the baseline."""
    single_label = "error" in next(iter(results.values()))[0]["scores"]["validation"]
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


def summary_table(results: Mapping[str, Results]) -> str:
    """The main methods on all tasks; `results` by task."""
    header = [
        f"{task} {(COLUMNS | SINGLE_LABEL_COLUMNS)[score]}"
        for task, scores in SUMMARY_TASKS.items()
        for score in scores
    ]
    rows = [["", *header]]
    for name in SUMMARY_ROWS:
        cells = [
            mean_and_spread(values_of(results[task][name], score)) if name in results[task] else "-"
            for task, scores in SUMMARY_TASKS.items()
            for score in scores
        ]
        rows.append([name, *cells])
    return markdown(rows)


def draw_summary(results: Mapping[str, Results], path: Path) -> None:
    """Micro-F1, macro-F1 and mAP (or the top-1 accuracy) of the main methods, a panel for each task."""
    figure, axes = plt.subplots(1, len(SUMMARY_TASKS), figsize=(13, 3.6), sharey=True, layout="constrained")
    colours = ["#4c4c4c", "#a6a6a6", "#8c6bb1", "#9ecae1", "#fdae6b", "#d94801"]
    for axis, (task, scores) in zip(axes, SUMMARY_TASKS.items(), strict=True):
        width = 0.85 / len(SUMMARY_ROWS)
        for index, name in enumerate(SUMMARY_ROWS):
            if name not in results[task]:
                continue
            values = np.array([values_of(results[task][name], score) for score in scores])
            values = 100 - values if scores == ("error",) else values
            places = np.arange(len(scores)) + (index - (len(SUMMARY_ROWS) - 1) / 2) * width
            axis.bar(places, values.mean(1), width, yerr=values.std(1, ddof=1), color=colours[index], label=name)
        names = [COLUMNS.get(score, "top-1 accuracy") for score in scores]
        axis.set_xticks(range(len(scores)), names)
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


def table(name: str, task: str | None) -> str | None:
    """A table of the small runs by the name of its study and task (`summary` needs none); None without results."""
    source = Source()
    if name == "summary":
        results = {task: read_results(STUDIES["methods"], task, source) for task in SUMMARY_TASKS}
        return summary_table(results) if any(results.values()) else None
    results = read_results(STUDIES[name], str(task), source)
    return study_table(STUDIES[name], results) if results else None


def fill(text: str) -> str:
    """A document with all its tables made anew."""

    def make(match: re.Match) -> str:
        made = table(match["study"], match["task"])
        return f"{match['head']}\n{made}\n<!-- end -->" if made is not None else match[0]

    pattern = r"(?P<head><!-- table: (?P<study>\w+)(?: (?P<task>[\w-]+))? -->)\n.*?<!-- end -->"
    return re.sub(pattern, make, text, flags=re.DOTALL)
