"""Prints the report of `hf-plm inspect` as tables in the terminal."""

import torch

from .display import printable
from .extras import needed
from .inspection import LabelReport
from .presets import PRESETS

with needed("rich"):
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

FORMS = {"multi_hot": "1 and 0", "ids": "ids", "names": "names", "class_id": "one class id per row"}
"""The forms of labels, in words."""

SHOWN_LABELS = 30
"""The maximum number of labels in the table: the most frequent and the rarest."""


def print_report(report: LabelReport, console: Console | None = None) -> None:
    """Print a report; to the standard output if `console` is None."""
    console = console or Console()
    counts = report.counts
    console.print(
        f"[bold]{report.num_rows:,}[/] rows, [bold]{counts.num_labels:,}[/] labels (given as {FORMS[report.form]}); "
        f"{report.cardinality:.2f} labels per row (density {report.density:.4f}), "
        f"rows without a label: {report.rows_without_label:,}"
    )
    console.print(
        f"Imbalance: MeanIR {report.mean_ir:.1f} (mean of IRLbl), CVIR {report.cvir:.2f} (its spread, as a share of "
        f"the mean), SCUMBLE {report.scumble:.3f} (how much frequent and rare labels share rows, from 0 to 1)\n"
    )
    console.print(_label_table(report))
    console.print(_preset_table(report))
    for warning in report.warnings():
        console.print(Text.assemble(("! ", "yellow"), warning))


def _label_table(report: LabelReport) -> Table:
    counts = report.counts
    columns = {"positives": counts.positives, "share": 100 * counts.positives / report.num_rows}
    columns |= {"IRLbl": report.imbalance_ratios} | ({"unknown": report.unknown} if report.unknown.any() else {})
    columns |= dict(zip(("keep +", "keep -"), report.keep_probabilities("default"), strict=True))
    formats = {"share": "{:.2f} %", "IRLbl": "{:,.1f}", "keep +": "{:.3f}", "keep -": "{:.3f}"}
    table = Table("label", "group", title="Labels, from frequent to rare", box=SIMPLE)
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    groups = {index: name for name, mask in counts.groups().items() for index in mask.nonzero().flatten().tolist()}
    names = report.names(torch.ones(counts.num_labels, dtype=torch.bool))
    order = torch.sort(counts.positives, descending=True, stable=True).indices.tolist()
    num_hidden = max(0, len(order) - SHOWN_LABELS)
    shown = order[: SHOWN_LABELS // 2] + order[SHOWN_LABELS // 2 + num_hidden :]
    for rank, index in enumerate(shown):
        if num_hidden and rank == SHOWN_LABELS // 2:
            table.add_row(f"... {num_hidden:,} more ...")
        cells = (formats.get(name, "{:,}").format(values[index].item()) for name, values in columns.items())
        table.add_row(Text(printable(names[index])), groups[index], *cells)
    what = {"random": "the probability", "expected": "the weight"}[PRESETS["default"].mask]
    table.caption_justify = "left"
    table.caption = (
        "group: head, the most frequent tenth of the labels; tail, the rarest half. "
        "IRLbl: the count of the most frequent label, divided by the count of this label. "
        f"keep: {what} with which preset default keeps positives and negatives in the loss at first"
    )
    return table


def _preset_table(report: LabelReport) -> Table:
    """How many labels each preset masks in the first epoch, and how much it keeps of each group."""
    groups = report.counts.groups()
    table = Table(
        "preset", title="The share of positives, negatives that the presets keep in the first epoch", box=SIMPLE
    )
    for name in ("labels masked", *groups):
        table.add_column(name, justify="right", no_wrap=True)
    known = (report.counts.positives + report.counts.negatives).sum().item()
    for preset in PRESETS:
        masked, keep = report.masked_labels(preset), report.keep_probabilities(preset)
        means = [
            ", ".join(f"{values[mask].mean():.2f}" for values in keep) if mask.any() else ""
            for mask in groups.values()
        ]
        table.add_row(preset, f"{masked:,.0f} ({masked / known:.1%})", *means)
    return table
