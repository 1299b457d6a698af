"""The page of `gpu.py`: its report as Markdown tables."""

import statistics
from collections.abc import Callable, Sequence
from typing import Any

AIMED_AT = {"PLM default, compiled": 1.1, "PLM paper, compiled": 1.1}
"""The target: at most this many times eager BCE, for `MANY` entries or more."""
MANY = 64 * 10_000
SCORES = {"micro_f1": "micro-F1", "macro_f1": "macro-F1", "map": "mAP"}


def make_page(report: dict[str, Any]) -> str:
    """The report as a page: the outcomes, then a section for each part."""
    parts = report["parts"]
    machine = next((part["machine"] for part in parts.values() if "machine" in part), {})
    versions = ", ".join(f"{name} {number}" for name, number in machine.get("versions", {}).items())
    lines = [f"# hf_plm on {machine.get('name', report['device'])}", ""]
    if report["tiny"]:
        lines += ["**Tiny sizes: these figures only show that the parts run.**", ""]
    if "capability" in machine:
        lines += [f"Compute capability {machine['capability']}, {machine['memory_gb']} GB.", ""]
    lines += [f"`{report['command']}`, {report['seconds']:.0f} s, seed 0; {versions}.", ""]
    rows = [["part", "outcome", "seconds", "limit"]]
    rows += [[part["title"], part["outcome"], f"{part['seconds']:.0f}", f"{part['limit']}"] for part in parts.values()]
    lines += [markdown(rows), ""]
    for name, part in parts.items():
        lines += [f"## {part['title']}", ""]
        if part["outcome"] == "left out":
            lines += [f"Left out: {part['error']}", ""]
        elif part["error"] is not None:
            lines += ["Failed:", "", "```", part["error"], "```", ""]
        if part["results"]:
            lines += [SECTIONS[name](part["results"]), ""]
    return "\n".join(lines)


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """A table; the first row has the column names."""
    rows = [rows[0], ["---"] * len(rows[0]), *rows[1:]]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows)


def tests_section(results: list[dict[str, Any]]) -> str:
    shown = [["test", "outcome", "seconds"]]
    shown += [[f"`{each['test']}`", each["outcome"], f"{each['seconds']:.1f}"] for each in results]
    errors = [f"\n\n`{each['test']}`:\n\n```\n{each['error']}\n```" for each in results if "error" in each]
    return markdown(shown) + "".join(errors)


def waits_section(results: list[dict[str, Any]]) -> str:
    places = list(dict.fromkeys(place for each in results for place in each["places"]))
    head = ["line of code", *(f"{each['trainer']}, {each['steps']} steps" for each in results)]
    rows = [[f"`{place}`", *(str(each["places"].get(place, 0)) for each in results)] for place in places]
    return markdown([head, *rows]) if rows else "Nowhere."


def loss_section(results: list[dict[str, Any]]) -> str:
    rows = [
        ["rows x labels", "dtype", "method", "us", "over BCE (quartiles)", "device: us", "over BCE", "over floor", ""]
    ]
    for each in results:
        ratio = f"{each['ratio']:.2f} ({each['ratio_low']:.2f} to {each['ratio_high']:.2f})"
        cells = [f"{each['rows']} x {each['num_labels']:,}", each["dtype"], each["method"]]
        cells += [f"{1e6 * each['seconds']:.0f}", ratio, f"{1e6 * each['device_seconds']:.0f}"]
        rows.append([*cells, f"{each['device_ratio']:.2f}", f"{each['over_floor']:.1f}", verdict(each)])
    return (
        "Loss and gradient: first the time for the host, which sends a step and waits, then that of only the device. "
        "The floor is the time to read logits and labels and write the gradient at the bandwidth of a copy, "
        f"{results[0]['bandwidth'] / 1e9:,.0f} GB/s. Target: at most 1.1 times eager BCE, from 64 x 10,000 on; "
        "`met` if host and device reach it, `device` if only the device does.\n\n" + markdown(rows)
    )


def verdict(result: dict[str, Any]) -> str:
    """Whether a result reaches its target; empty if it has none."""
    limit = AIMED_AT.get(result["method"])
    if limit is None or result["rows"] * result["num_labels"] < MANY:
        return ""
    if result["device_ratio"] > limit:
        return "missed"
    return "met" if result["ratio"] <= limit else "device"


def memory_section(results: list[dict[str, Any]]) -> str:
    (found,) = results
    rows = [["method", "bytes per entry"]]
    rows += [[method, f"{value:.1f}"] for method, value in found["bytes_per_entry"].items()]
    cases = [f"{rows} x {labels:,}, {form}" for rows, labels in found["sparse_shapes"] for form in ("dense", "sparse")]
    peaks = [["labels of a batch", "MB"]]
    peaks += [[case, f"{value / 1e6:.0f}"] for case, value in zip(cases, found["labels"], strict=True)]
    shape = " x ".join(f"{number:,}" for number in found["shape"])
    first = f"In addition to logits and labels, {shape}, float32:\n\n{markdown(rows)}"
    return first + (f"\n\nFrom class ids to loss and gradient, compiled:\n\n{markdown(peaks)}" if cases else "")


def step_section(results: list[dict[str, Any]]) -> str:
    rows = [["model", "labels", "method", "ms", "over the stock Trainer (quartiles)", "peak MB", "update ms"]]
    for each in results:
        ratio = f"{each['ratio']:.3f} ({each['ratio_low']:.3f} to {each['ratio_high']:.3f})"
        cells = [each["model"], f"{each['num_labels']:,}", each["method"], f"{1000 * each['seconds']:.2f}", ratio]
        cells.append(f"{each['peak_mb']:,.0f}" if "peak_mb" in each else "")
        rows.append([*cells, f"{1000 * each['update_seconds']:.1f}" if "update_seconds" in each else ""])
    return markdown(rows)


def quality_section(results: list[dict[str, Any]]) -> str:
    """Mean and standard deviation over the existing seeds, in percent."""
    rows = [["method", "seeds", *SCORES.values(), "seconds"]]
    for method in dict.fromkeys(each["method"] for each in results):
        runs = [each for each in results if each["method"] == method]
        values = [[100 * run["scores"][score] for run in runs] for score in SCORES]
        spread = [f" ± {statistics.stdev(each):.1f}" if len(each) > 1 else "" for each in values]
        cells = [f"{statistics.mean(each):.1f}{deviation}" for each, deviation in zip(values, spread, strict=True)]
        rows.append([method, str(len(runs)), *cells, f"{statistics.mean(run['seconds'] for run in runs):.0f}"])
    return f"Task `{results[0]['task']}`, validation, threshold 0.5, percent:\n\n{markdown(rows)}"


SECTIONS: dict[str, Callable[[list[dict[str, Any]]], str]] = {
    "tests": tests_section,
    "waits": waits_section,
    "loss": loss_section,
    "memory": memory_section,
    "step": step_section,
    "quality": quality_section,
}
