"""Describes how two states of Partial Label Masking differ, for messages when a run is resumed."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from .display import quoted
from .label_space import shown_list


def number_differences(num_labels: int, earlier: int) -> list[str]:
    return [] if num_labels == earlier else [f"there are {earlier} labels there and {num_labels} here"]


def name_differences(names: Sequence[str] | None, earlier: Sequence[str] | None) -> list[str]:
    """Differences of the label names; empty if one of the two has no names."""
    if names is None or earlier is None or list(names) == list(earlier):
        return []
    orders = f"{shown_list(earlier)} there and {shown_list(names)} here"
    if sorted(names) == sorted(earlier):
        place = next(index for index, pair in enumerate(zip(names, earlier, strict=True)) if pair[0] != pair[1])
        first = f"label {place} is {quoted(earlier[place])} there and {quoted(names[place])} here"
        return [f"the labels are the same in a different order: {orders} ({first})"]
    known, known_earlier = set(names), set(earlier)
    only = [
        f"only {where} is {shown_list(found)}"
        for where, found in (
            ("there", [name for name in earlier if name not in known]),
            ("here", [name for name in names if name not in known_earlier]),
        )
        if found
    ]
    return [f"the label names are {orders}: {', '.join(only)}"]


def setting_differences(settings: Mapping[str, Any], earlier: Mapping[str, Any]) -> list[str]:
    """Differences of the settings of the method, each with the name and both values."""
    return [
        f"{name} is {earlier.get(name)!r} there and {settings.get(name)!r} here"
        for name in {**settings, **earlier}
        if settings.get(name) != earlier.get(name)
    ]


def count_differences(counts: Tensor, earlier: Tensor, names: Sequence[str] | None) -> list[str]:
    """Differences of the positives and negatives of the training data, both int64 `(2, num_labels)`."""
    differ = (counts != earlier).any(0)
    if not differ.any():
        return []
    first = int(differ.int().argmax())
    name = quoted(names[first]) if names is not None else str(first)
    here, there = ("{:,} positives and {:,} negatives".format(*each[:, first].tolist()) for each in (counts, earlier))
    return [
        f"the training data differ: the counts of {int(differ.sum())} of {counts.shape[1]} labels are different, "
        f"first those of label {name}: {there} there, {here} here"
    ]
