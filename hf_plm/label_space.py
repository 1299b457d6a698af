"""`LabelSpace`: the labels of a task, with their names in the order of the model's outputs, column and form.

They are decided once. `label_order` compares names from other sources with them: the same names in a different order
are reordered, and different names raise an error.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from transformers.utils import logging

from .display import quoted

logger = logging.get_logger(__name__)

SHOWN_NAMES = 8
"""The maximum number of names of a list in a message."""


@dataclass(frozen=True)
class LabelSpace:
    """The labels of a task.

    Args:
        num_labels: the number of labels and of the model's outputs, 1 or more.
        names: the label names in the order of the model's outputs, each once; None if there are none.
        column: the column of a data set that holds the labels.
        form: the form of a row: `multi_hot`, `ids`, `names` or `class_id`; None if it is not known yet.

    Raises:
        ValueError: if `num_labels` is below 1, or there is not exactly one name per label, each once.
    """

    num_labels: int
    names: tuple[str, ...] | None = None
    column: str = "labels"
    form: str | None = None

    def __post_init__(self) -> None:
        if self.num_labels < 1:
            raise ValueError(f"num_labels is {self.num_labels}; it must be 1 or more")
        if self.names is not None:
            check_label_names(self.names, self.num_labels)

    @property
    def shown_names(self) -> list[str]:
        """The names, or `LABEL_0`, `LABEL_1`, ... if there are none."""
        return list(self.names) if self.names is not None else generic_names(self.num_labels)

    def config_arguments(self) -> dict[str, Any]:
        """`num_labels`, `id2label` and `label2id`, for `from_pretrained` or a configuration."""
        names = self.shown_names
        return {
            "num_labels": self.num_labels,
            "id2label": dict(enumerate(names)),
            "label2id": {name: index for index, name in enumerate(names)},
        }

    def order_of(self, names: Sequence[str] | None, source: str) -> np.ndarray | None:
        """The index of each of `names` in this space, see `label_order`; None for the same order, or without names.

        Raises:
            ValueError: if `names` are different names, or a different number of names.
        """
        if names is None or self.names is None:
            if names is not None and len(names) != self.num_labels:
                raise ValueError(f"{source} has {len(names)} label names, but there are {self.num_labels} labels")
            return None
        return label_order(names, source, self.names, "the model and its training data")


def label_order(names: Sequence[str], source: str, wanted: Sequence[str], wanted_source: str) -> np.ndarray | None:
    """The index in `wanted` of each of `names`.

    Args:
        names, wanted: the same names, in any order.
        source, wanted_source: their sources, for the error message.

    Returns:
        int64 `(len(names),)`, `order` with `wanted[order[i]] == names[i]`; None if both have the same order.

    Raises:
        ValueError: if one has a name that the other does not have.
    """
    if list(names) == list(wanted):
        return None
    missing, added = sorted(set(wanted) - set(names)), sorted(set(names) - set(wanted))
    if missing or added:
        differences = [f"{shown_list(missing, None)} missing from {source}"] * bool(missing)
        differences += [f"{shown_list(added, None)} missing from {wanted_source}"] * bool(added)
        raise ValueError(
            f"the label names of {source} are {shown_list(names)}, those of {wanted_source} are {shown_list(wanted)}: "
            f"{', and '.join(differences)}. Give both the same names (for a model in model.config.id2label; for a "
            "column of class ids, cast it to a ClassLabel with more names at its end); their order may differ"
        )
    place = {name: index for index, name in enumerate(wanted)}
    return np.array([place[name] for name in names], np.int64)


def check_label_names(names: Sequence[str], num_labels: int) -> None:
    """Raise a ValueError unless there is one name per label, all of them text and different."""
    for index, name in enumerate(names):
        if not isinstance(name, str):
            raise ValueError(f"label name {index} is {name!r}, a {type(name).__name__}; label names must be text")
    if not len(names) == len(set(names)) == num_labels:
        repeated = [name for name, count in Counter(names).items() if count > 1]
        which = f" (more than once: {shown_list(repeated)})" if repeated else ""
        raise ValueError(
            f"label_names has {len(names)} names, {len(set(names))} of them distinct, for {num_labels} labels; give "
            f"one name per label, each once{which}"
        )


def shown_list(names: Sequence[str], most: int | None = SHOWN_NAMES) -> str:
    """Text that lists the first `most` names in a message; None for all names."""
    rest = f" and {len(names) - most} more" if most is not None and len(names) > most else ""
    return "[" + ", ".join(quoted(name) for name in names[:most]) + "]" + rest


def generic_names(num_labels: int) -> list[str]:
    """`LABEL_0`, `LABEL_1`, ...: the names that a configuration gives to labels without names."""
    return [f"LABEL_{index}" for index in range(num_labels)]


def names_fingerprint(names: Sequence[str] | None) -> str | None:
    """The SHA-256 of names in their order, as a hexadecimal text; None for None."""
    return None if names is None else hashlib.sha256(json.dumps(list(names)).encode()).hexdigest()


def read_id2label(config: Any) -> list[str] | None:
    """The label names of a model's configuration in the order of its outputs; None for none or generic names.

    The keys of `id2label` may be whole numbers, or text as in JSON. If its names are generic, the names of `label2id`
    are used.

    Raises:
        ValueError: if the keys are not 0, 1, 2, ..., a name occurs twice, or `label2id` gives a name a different id.
    """
    id2label = getattr(config, "id2label", None)
    if not id2label:
        return None
    try:
        by_id = {int(key): name for key, name in id2label.items()}
    except ValueError:
        by_id = {}
    if sorted(by_id) != list(range(len(id2label))):
        raise ValueError(
            f"model.config.id2label has the keys {list(id2label)[:SHOWN_NAMES]}; the keys must be the ids from 0 to "
            f"{len(id2label) - 1}"
        )
    names = [by_id[index] for index in range(len(by_id))]
    label2id = getattr(config, "label2id", None) or {}
    if names == generic_names(len(names)):
        if set(label2id) == set(names) or sorted(map(int, label2id.values())) != sorted(by_id):
            return None
        names = sorted(label2id, key=lambda name: int(label2id[name]))
    check_label_names(names, len(names))
    if set(label2id) == set(names):
        other = sorted(label2id, key=lambda name: int(label2id[name]))
        if other != names:
            raise ValueError(
                f"model.config.id2label has the label names {shown_list(names)}, and model.config.label2id has "
                f"{shown_list(other)}; give both the same order, that of the model's outputs"
            )
    return names


def write_id2label(config: Any, names: Sequence[str] | None, num_labels: int) -> None:
    """Set `id2label` and `label2id` of a configuration, with whole numbers as ids; None for generic names."""
    names = names if names is not None else generic_names(num_labels)
    config.id2label = dict(enumerate(names))
    config.label2id = {name: index for index, name in enumerate(names)}
