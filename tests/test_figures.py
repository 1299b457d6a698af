"""The figures in README and docs about the code, the data and the results are right.

Figures of speed are measured by hand, with the command that the page names.
"""

import re
import sys
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import test_house

from hf_plm.loss import MANY_LABELS
from hf_plm.objectives import OBJECTIVES, default_arguments
from hf_plm.presets import PRESETS
from hf_plm.rules import DRIFT_BOUND, EPSILON

ROOT = Path(__file__).parent.parent
sys.path += [str(ROOT / "benchmarks"), str(ROOT / "examples")]

DEFAULT, BCE, POS_WEIGHT, RESAMPLED = "PLM default", "BCE", "BCE with pos_weight", "re-sampling"
TUNED = "macro-F1, tuned thresholds"


def text_of(page):
    """A page with spaces instead of line breaks, so that sentences are found however they are wrapped."""
    return " ".join((ROOT / page).read_text().split())


def rows_of(table):
    """Row name -> column name -> cell, of a Markdown table."""
    head, _, *rows = [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in table.splitlines()]
    return {row[0]: dict(zip(head[1:], row[1:], strict=True)) for row in rows}


def results(study, task):
    """Row -> column -> mean, of a table in docs/results; without the cells that hold no value."""
    text = (ROOT / "docs" / "results" / f"{study}.md").read_text()
    table = text.partition(f"<!-- table: {study} {task} -->\n")[2].partition("\n<!-- end -->")[0]
    lines = [re.sub(r"^\|\s+\|", "| - |", line) for line in table.splitlines()]  # the first column has no name
    return {
        row: {column: cell.split(" ± ")[0] for column, cell in cells.items() if " ± " in cell}
        for row, cells in rows_of("\n".join(lines)).items()
    }


def test_the_table_of_presets():
    page = (ROOT / "docs" / "settings.md").read_text()
    table = rows_of("\n".join(line for line in page.splitlines() if line.startswith("|")))
    assert set(table) == {f"`{name}`" for name in PRESETS}
    for name, settings in PRESETS.items():
        row = table[f"`{name}`"]
        assert row["masks"] == ("none" if settings.masks_nothing else settings.mask)
        assert float(row["class weight"]) == settings.class_weight
        starts = {"tempered": f"tempered: `R ** {settings.temper:g}`", "mean": "mean R ", "dataset": "R: nothing"}
        assert row["initial ideal ratio"].startswith(starts[settings.initial_ratio])
        assert row["rule"] == f"`{settings.rule}`"
        assert float(row["rate"]) == settings.change_rate
        assert int(row["bins"]) == settings.num_bins
        assert row["objective"].startswith(
            {"bce": "binary cross-entropy", "asymmetric": "asymmetric"}[settings.objective]
        )
    defaults = default_arguments(OBJECTIVES["asymmetric"])
    stated = "gamma- {gamma_negative:g}, gamma+ {gamma_positive:g}, margin {margin:g}".format_map(defaults)
    assert f"({stated})" in table["`default`"]["objective"]


def test_the_list_of_objectives():
    assert f"every objective ({', '.join(f'`{name}`' for name in OBJECTIVES)})" in text_of("docs/settings.md")


def test_the_constants_of_the_method():
    assert f"from {MANY_LABELS:,} on, the loss is compiled" in text_of("README.md")
    (max_shift,) = {settings.max_shift for settings in PRESETS.values()}
    method = text_of("docs/method.md")
    assert f"within `[R / {max_shift:g}, {max_shift:g} R]`" in method
    assert f"set to {EPSILON:.0e}".replace("e-0", "e-") in method
    assert f"(a factor of {DRIFT_BOUND:g} from the start)" in text_of("docs/results/rule.md")


def test_the_limits_of_files_and_functions():
    stated = f"more than {test_house.LONGEST_FILE} lines and no function more than {test_house.LONGEST_FUNCTION}"
    assert stated in text_of("CONTRIBUTING.md")


def test_the_oldest_versions():
    project = text_of("pyproject.toml")
    python = re.search(r'requires-python = ">=([\d.]+)"', project)[1]
    assert f"Python {python} or later" in text_of("README.md")
    transformers = re.search(r"transformers>=([0-9.]+)", project)[1]
    assert f"Python {python} to 3.13, transformers {transformers} or later" in text_of("CHANGELOG.md")


@pytest.mark.parametrize(("name", "kind"), [("debtags", "texts"), ("clipart", "pictures")])
def test_the_sizes_of_the_example_data(name, kind):
    rows = {
        part: pq.read_metadata(ROOT / f"examples/data/{name}/{part}.parquet").num_rows
        for part in ("train", "validation")
    }
    assert f"{rows['train']:,} / {rows['validation']:,}" in text_of("examples/data/README.md")
    trained = f"{rows['train'] - -(-rows['train'] // 10):,}"  # a tenth is `dev`
    assert f" {trained} rows |" in text_of("docs/choices.md")
    assert f" labels, {trained} {kind}, " in text_of("README.md")
    if name == "debtags":  # two tenths are held out
        assert f"{round(0.8 * rows['train'], -3):,.0f} descriptions" in text_of("README.md")


def test_the_scores_in_sentences_are_those_of_the_tables():
    debtags, keywords, clipart = (results("methods", task) for task in ("debtags", "keywords", "clipart"))
    minilm, pictures = (results("pretrained", task) for task in ("minilm-debtags", "efficientnet-clipart"))
    longer, three_times = (
        {row.removesuffix(end): cells for row, cells in results("epochs", task).items() if row.endswith(end)}
        for task, end in (("features-debtags-1500", ", epochs x 10"), ("keywords", ", epochs x 3"))
    )
    four = (BCE, POS_WEIGHT, "asymmetric", DEFAULT)

    def triple(name, rows=keywords):
        return " / ".join(rows[name][score] for score in ("micro-F1", "macro-F1", "mAP"))

    def span(rows, score, names=four):
        values = sorted((rows[name][score] for name in names), key=float)
        return f"{values[0]} to {values[-1]}"

    def errors(task):
        names = (DEFAULT, BCE, RESAMPLED, "logit adjustment", "BCE, corrected at prediction")
        return [results("methods", task)[name]["top-1 error"] for name in names]

    page = text_of("docs/choices.md")
    for sentence in (
        f"the keywords the default has {triple(DEFAULT)}, BCE {triple(BCE)}, `pos_weight` {triple(POS_WEIGHT)}, "
        f"re-sampling {triple(RESAMPLED)}: ",
        f"default has {triple(DEFAULT, three_times)}, BCE {triple(BCE, three_times)}, `pos_weight` "
        f"{triple(POS_WEIGHT, three_times)}.",
        f"best macro-F1, {minilm[DEFAULT]['macro-F1']} (`pos_weight` {minilm[POS_WEIGHT]['macro-F1']}, BCE "
        f"{minilm[BCE]['macro-F1']}). BCE has the best micro-F1, {minilm[BCE]['micro-F1']} (default "
        f"{minilm[DEFAULT]['micro-F1']}). mAP differs little: {span(minilm, 'mAP')}.",
        f"the asymmetric loss has {triple('asymmetric', pictures)}, the default {triple(DEFAULT, pictures)}, "
        f"`pos_weight` {triple(POS_WEIGHT, pictures)} and BCE {triple(BCE, pictures)}.",
        "mAP is {} for BCE, {} for `pos_weight`, {} for the asymmetric loss and {} for the default.".format(
            *(longer[name]["mAP"] for name in four)
        ),
        "macro-F1 is {}, {}, {} and {}; with tuned thresholds it is {} for all four.".format(
            *(longer[name]["macro-F1"] for name in four), span(longer, TUNED)
        ),
        f"(clipart from scratch: {clipart['asymmetric']['micro-F1']}, default {clipart[DEFAULT]['micro-F1']})",
        "mnist-lt-100 the default has a top-1 error of {} %, BCE {}, re-sampling {}, logit adjustment in the loss {}. "
        "BCE whose probabilities are divided by the class frequencies at prediction has {}.".format(
            *errors("mnist-lt-100")
        ),
        "On mnist-lt-50 these are {} (default), {}, {}, {} and {},".format(*errors("mnist-lt-50")),
        "on mnist-lt-10 {}, {}, {}, {} and {},".format(*errors("mnist-lt-10")),
        "on fashion-lt-100 {}, {}, {}, {} and {}.".format(*errors("fashion-lt-100")),
        f"{span(minilm, 'micro-F1', [f'{name}, tuned thresholds' for name in four])} micro-F1 and "
        f"{span(minilm, TUNED)} macro-F1 with tuned thresholds",
        f"is {debtags[DEFAULT][TUNED]} for the default, {debtags[POS_WEIGHT][TUNED]} for `pos_weight`, "
        f"{debtags['asymmetric'][TUNED]} for the asymmetric loss and {debtags[BCE][TUNED]} for BCE.",
    ):
        assert sentence in page
    limits = text_of("docs/limits.md")
    assert f"head labels is {debtags[DEFAULT]['head P']} %, that of BCE {debtags[BCE]['head P']} %" in limits
    assert f"{debtags[DEFAULT]['exact match']} % of the rows, BCE for {debtags[BCE]['exact match']} %" in limits


@pytest.mark.slow
def test_how_often_the_default_wins_two_scores():
    from comparisons import SCORES, outcomes
    from tables import method_results

    found = method_results()

    def stated(rival):
        wins = Counter()
        for score in SCORES:
            wins.update({task: outcome == "win" for task, outcome in outcomes(found, rival, score)})
        return f"{sum(count >= 2 for count in wins.values())} of {len(wins)}"

    page = text_of("docs/choices.md")
    assert f"(BCE on {stated(BCE)} tasks, `pos_weight` on {stated(POS_WEIGHT)})" in page
