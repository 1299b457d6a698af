"""Tables of the results. A document has a table between `<!-- table: STUDY TASK -->` and `<!-- end -->`."""

import math
import re
import statistics
import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from comparisons import (
    DEFAULT,
    SCORES,
    is_single_label,
    is_tuned,
    mean_ranks,
    outcomes,
    scores_of,
    with_post_hoc,
)
from results import Results, dev_score, read_results, values_of
from sources import Source
from studies import STUDIES, Study

from hf_plm.paired_differences import paired_difference

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
    "debtags": "365 labels, 18,391 texts, ModernBERT from scratch",
    "clipart": "113 labels, 4,052 pictures, ViT from scratch",
    "multimnist": "10 labels, 10,800 pictures, convolutions",
    "keywords": "10 labels, 1,200 synthetic texts, BERT from scratch",
    "features-debtags-500": "365 labels, 500 texts, MiniLM's features",
    "features-debtags-1500": "365 labels, 1,500 texts, MiniLM's features",
    "features-debtags-5000": "365 labels, 5,000 texts, MiniLM's features",
    "features-debtags": "365 labels, 18,391 texts, MiniLM's features",
    "features-clipart": "113 labels, 4,052 pictures, EfficientNet-Lite0's features",
    "debtags-small": "40 labels, 1,500 texts, ModernBERT from scratch",
    "minilm-debtags": "365 labels, 6,000 texts, MiniLM fine-tuned",
    "efficientnet-clipart": "113 labels, 4,052 pictures, EfficientNet-Lite0 fine-tuned",
    "mnist-lt-10": "10 classes, one per row, convolutions: top-1 error",
    "mnist-lt-50": "10 classes, one per row, convolutions: top-1 error",
    "mnist-lt-100": "10 classes, one per row, convolutions: top-1 error",
    "fashion-lt-100": "10 classes, one per row, convolutions: top-1 error",
}
"""The numbers of rows are those of `train`, without the rows of `dev`."""

COMPARED = ("methods", "pretrained")
"""The studies that the summaries use; no task is in both."""


def mean_and_spread(values: Sequence[float]) -> str:
    return f"{statistics.mean(values):.1f} ± {statistics.stdev(values):.1f}"


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """A table; the first row has the column names."""
    rows = [rows[0], ["---"] * len(rows[0]), *rows[1:]]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def study_table(study: Study, results: Results) -> str:
    """Percent on `validation`: mean ± standard deviation over the seeds, and the paired difference to the baseline.

    The studies in `COMPARED` also have rows with a step after training, see `with_post_hoc`.
    """
    results = with_post_hoc(results) if study in [STUDIES[name] for name in COMPARED] else results
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
        known = runs[0]["scores"]["validation"]
        cells = [mean_and_spread(values_of(runs, score)) if score in known else "-" for score in columns]
        rows.append([name, *cells, difference])
    return markdown(rows)


def best_rival(rows: Results) -> str | None:
    """The method besides BCE and the default, without tuned thresholds, with the best mean of its scores on `dev`."""
    rivals = {name: runs for name, runs in rows.items() if name not in ("BCE", DEFAULT) and not is_tuned(name)}
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


def headline(results: Mapping[str, Results]) -> str:
    """Two sentences for the README: the default, the rival with the best mean rank, and BCE, over all tasks."""
    ranks = mean_ranks(results)
    rival = min((name for name in ranks if name not in (DEFAULT, "BCE")), key=lambda name: ranks[name])
    tasks = [rows for rows in results.values() if not is_single_label(rows)]

    def means(name: str) -> str:
        each = (statistics.mean(statistics.mean(values_of(rows[name], score)) for rows in tasks) for score in SCORES)
        return " / ".join(f"{mean:.1f}" for mean in each)

    scores = " / ".join(SCORES.values())
    return textwrap.fill(
        f"**Means over {len(tasks)} multi-label tasks, {scores} in percent:** PLM's default preset {means(DEFAULT)}, "
        f"the best other method ({rival}) {means(rival)}, plain BCE {means('BCE')}. Their mean ranks among "
        f"{len(ranks)} methods, over {len(results)} tasks: {ranks[DEFAULT]:.1f}, {ranks[rival]:.1f} and "
        f"{ranks['BCE']:.1f} (1 is best).",
        width=119,
    )


def wins_table(results: Mapping[str, Results]) -> str:
    """The default against each rival over all tasks: mean rank, and wins, ties and losses on each score.

    Rows with a step after training have no rank and come last.
    """
    ranks = mean_ranks(results)
    columns = {**SCORES, "accuracy": "accuracy, one label per row"}
    table = [["", "mean rank", *(f"{name}: wins, ties, losses" for name in columns.values())]]
    names = dict.fromkeys(name for rows in results.values() for name in rows)
    for name in sorted(names, key=lambda name: ranks.get(name, math.inf)):
        cells = []
        for score in columns:
            counts = Counter(outcome for _, outcome in outcomes(results, name, score))
            cells.append(", ".join(str(counts[each]) for each in ("win", "tie", "loss")) if counts else "-")
        rank = f"{ranks[name]:.1f}" if name in ranks else "-"
        table.append([name, rank, *(cells if name != DEFAULT else ["-"] * len(columns))])
    return markdown(table)


def losses_table(results: Mapping[str, Results]) -> str:
    """Where a rival, without tuned thresholds, is better than the default by more than the interval."""
    table = [["task", "rival", "score", "default minus rival"]]
    for task, rows in results.items():
        for name in rows:
            for score in scores_of(rows):
                if DEFAULT not in rows or name == DEFAULT or is_tuned(name):
                    continue
                found = paired_difference(*(values_of(rows[each], score) for each in (DEFAULT, name)))
                if found.outcome == "loss":
                    table.append([task, name, SCORES.get(score, score), f"{found.mean:.1f} ± {found.margin:.1f}"])
    return markdown(table)


def method_results() -> dict[str, Results]:
    """The small runs of the studies in `COMPARED` by task, see `with_post_hoc`; only tasks with the default's runs."""
    found = {task: read_results(STUDIES[name], task, Source()) for name in COMPARED for task in STUDIES[name].tasks}
    return {task: with_post_hoc(rows) for task, rows in found.items() if DEFAULT in rows}


SUMMARIES = {"headline": headline, "overview": overview_table, "wins": wins_table, "losses": losses_table}


def table(name: str, task: str | None) -> str | None:
    """A table of the small runs: one of `SUMMARIES`, or that of a study and a task; None without results."""
    if name in SUMMARIES:
        results = method_results()
        return SUMMARIES[name](results) if results else None
    rows = read_results(STUDIES[name], str(task), Source())
    return study_table(STUDIES[name], rows) if rows else None


def fill(text: str) -> str:
    """A document with all its tables replaced by new ones."""

    def make(match: re.Match) -> str:
        made = table(match["study"], match["task"])
        return f"{match['head']}\n{made}\n<!-- end -->" if made is not None else match[0]

    pattern = r"(?P<head><!-- table: (?P<study>\w+)(?: (?P<task>[\w-]+))? -->)\n.*?<!-- end -->"
    return re.sub(pattern, make, text, flags=re.DOTALL)
