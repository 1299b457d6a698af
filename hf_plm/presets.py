"""The settings of the method, their valid ranges, and the presets."""

import functools
import json
import math
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from .objectives import OBJECTIVES, Objective, needs_counts

INITIAL_RATIOS = ("tempered", "mean", "dataset")
RULES = ("marginal", "kl", "fixed")
MASKS = ("random", "expected")
PRIORS = ("ideal", "balanced", "data")


class SettingWithoutEffect(UserWarning):
    """A changed setting has no effect with the other settings."""


@dataclass(frozen=True)
class PLMSettings:
    """The settings of Partial Label Masking; their values are checked, and NumPy numbers become plain ones.

    Args:
        initial_ratio: the start of the ideal ratios: `tempered` (`R ** temper`), `mean` (the mean R over the classes),
            `dataset` (R itself; nothing is masked), or one positive number for all classes, in positives per negative.
        temper: the exponent of a tempered start, in [0, 1]: 0 balances every class, 1 keeps the ratios of the data.
        rule: how the ideal ratios adapt: `marginal`, `kl` (the rule of the paper) or `fixed` (not at all).
        change_rate: how fast they adapt, the paper's lambda, 0 or more; 0 means `fixed`.
        num_bins: the number of bins of the probability histograms, at least 2; even for the rule `marginal`.
        max_shift: the ideal ratio stays within `[R / max_shift, R * max_shift]`; 1 or more.
        mask: `random` (each label is kept or masked at random, as in the paper), or `expected` (the loss of each label
            is multiplied by the probability that it would be kept).
        class_weight: an exponent, 0 or more: the loss of a class is divided by the kept share of its labels to this
            power, see `class_weights`.
        prior: which class frequencies the model's decisions assume: `ideal` (the ideal ratio), `balanced` (only for
            one class per row: all classes equally frequent, see `BALANCED_EXPONENT`) or `data` (R).
        objective: a name in `OBJECTIVES`, or a callable, see `PLMLoss`.
        objective_kwargs: keyword arguments of a named objective.
        update_steps: the number of optimizer steps between two updates of the ideal ratios, 1 or more; None to update
            them after every epoch.

    Raises:
        ValueError: if a value is out of range; the message has its name.
    """

    initial_ratio: str | float
    temper: float
    rule: str
    change_rate: float
    num_bins: int
    max_shift: float
    mask: str
    class_weight: float
    prior: str
    objective: str | Objective
    objective_kwargs: Mapping[str, Any] = field(default_factory=dict)
    update_steps: int | None = None

    def __post_init__(self) -> None:
        for name in self.__dataclass_fields__:
            object.__setattr__(self, name, plain_number(getattr(self, name)))
        if isinstance(self.objective_kwargs, Mapping):
            plain = {name: plain_number(value) for name, value in self.objective_kwargs.items()}
            object.__setattr__(self, "objective_kwargs", plain)
        object.__setattr__(self, "initial_ratio", number_or_name(self.initial_ratio))
        if isinstance(self.initial_ratio, str):
            _require(self.initial_ratio in INITIAL_RATIOS, self, "initial_ratio", f"{INITIAL_RATIOS} or a number")
        else:
            _require(0 < self.initial_ratio < math.inf, self, "initial_ratio", "a positive number")
        for name in ("temper", "change_rate", "max_shift", "class_weight"):
            _require(isinstance(getattr(self, name), int | float), self, name, "a number")
        _require(0 <= self.temper <= 1, self, "temper", "a number in [0, 1]")
        _require(self.rule in RULES, self, "rule", f"one of {RULES}")
        _require(0 <= self.change_rate < math.inf, self, "change_rate", "a number of 0 or more")
        _require(
            isinstance(self.num_bins, int) and self.num_bins >= 2, self, "num_bins", "a whole number of 2 or more"
        )
        _require(
            self.rule != "marginal" or self.num_bins % 2 == 0,
            self,
            "num_bins",
            "even for the rule 'marginal', so that a probability of 0.5 is the edge of a bin",
        )
        _require(1 <= self.max_shift < math.inf, self, "max_shift", "a number of 1 or more")
        _require(self.mask in MASKS, self, "mask", f"one of {MASKS}")
        _require(0 <= self.class_weight < math.inf, self, "class_weight", "a number of 0 or more")
        _require(self.prior in PRIORS, self, "prior", f"one of {PRIORS}")
        steps = self.update_steps
        _require(steps is None or (isinstance(steps, int) and steps >= 1), self, "update_steps", "1 or more, or None")
        self._check_objective()

    def _check_objective(self) -> None:
        if callable(self.objective):
            if self.objective_kwargs:
                raise ValueError(
                    f"objective_kwargs is {self.objective_kwargs!r}, but the objective is a callable; bind its "
                    "arguments with functools.partial"
                )
            return
        _require(self.objective in OBJECTIVES, self, "objective", f"one of {tuple(OBJECTIVES)}")
        try:
            objective = OBJECTIVES[self.objective]
            counts = {"positives": torch.ones(1), "negatives": torch.ones(1)} if needs_counts(objective) else {}
            objective(torch.zeros(1, 1), torch.zeros(1, 1), **counts, **self.objective_kwargs)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"objective_kwargs is {self.objective_kwargs!r}, which the objective '{self.objective}' does not "
                f"take: {error}"
            ) from None

    @classmethod
    def from_preset(cls, preset: str, **changes: Any) -> "PLMSettings":
        """The settings of a preset; each of `changes` that is not None replaces one.

        A changed objective uses its own default arguments. A warning (`SettingWithoutEffect`) names each change that
        has no effect with the other settings.
        """
        if preset not in PRESETS:
            raise ValueError(f"preset is {preset!r}; use one of {tuple(PRESETS)}")
        changes = {name: value for name, value in changes.items() if value is not None}
        settings = replace(PRESETS[preset], **changes)
        for message in settings.without_effect(changes):
            warnings.warn(message, SettingWithoutEffect, stacklevel=3)
        return settings

    def without_effect(self, names: Iterable[str], prefix: str = "") -> list[str]:
        """A message for each of these settings that has no effect with the others.

        Args:
            prefix: put before the names of settings in the messages.
        """
        reasons = self._reasons(prefix)
        return [
            f"{prefix}{name} is {getattr(self, name)!r} and has no effect: {reasons[name]}"
            for name in names
            if name in reasons
        ]

    @property
    def adapts(self) -> bool:
        """Whether the ideal ratios may change in an update."""
        return self.rule != "fixed" and self.change_rate > 0

    @property
    def starts_at_data(self) -> bool:
        """Whether the ideal ratios start at the ratios of the data."""
        return self.initial_ratio == "dataset" or (self.initial_ratio == "tempered" and self.temper == 1)

    def _reasons(self, prefix: str) -> dict[str, str]:
        """The settings that have no effect with the others, and why; `prefix` as for `without_effect`."""
        reasons = {}
        if self.initial_ratio != "tempered":
            reasons["temper"] = f"{prefix}initial_ratio is {self.initial_ratio!r}, and only 'tempered' uses it"
        if self.rule == "fixed":
            reasons["change_rate"] = f"{prefix}rule is 'fixed', so the ideal ratios do not adapt"
        elif not self.adapts:
            reasons["rule"] = f"{prefix}change_rate is 0, so the ideal ratios do not adapt"
        cause = None
        if self.starts_at_data and not self.adapts:
            start = (
                f"{prefix}initial_ratio is 'dataset'" if self.initial_ratio == "dataset" else f"{prefix}temper is 1"
            )
            rest = f"{prefix}rule is 'fixed'" if self.rule == "fixed" else f"{prefix}change_rate is 0"
            cause = f"{start} and {rest}"
            reasons["max_shift"] = f"{cause}, so no ideal ratio moves"
        if self.max_shift == 1:
            cause = f"{prefix}max_shift is 1"
            names = ("initial_ratio", "temper", "rule", "change_rate")
            reasons |= dict.fromkeys(names, f"{cause}, so the ideal ratios stay those of the data")
        if cause is not None:
            reasons |= dict.fromkeys(("mask", "class_weight"), f"{cause}, so no label is masked")
            if self.prior != "balanced":
                reasons["prior"] = f"{cause}, so the ideal ratios are those of the data"
        return reasons

    @property
    def masks_nothing(self) -> bool:
        """Whether every label stays in the loss with the same weight."""
        return self.max_shift == 1 or (self.starts_at_data and not self.adapts)

    def bound_objective(self) -> Callable[..., torch.Tensor]:
        """The objective as a callable with its `objective_kwargs`."""
        if callable(self.objective):
            return self.objective
        return functools.partial(OBJECTIVES[self.objective], **self.objective_kwargs)

    def to_dict(self) -> dict[str, Any]:
        """The settings by name, with values as read back from JSON; a callable objective as its qualified name."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        values["objective"] = _name_of(self.objective)
        as_read: dict[str, Any] = json.loads(json.dumps(values, default=_name_of))
        return as_read


def _name_of(value: Any) -> Any:
    """A replacement for a value that JSON cannot hold, the same in every process; objects become names."""
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        return dict(value)
    if hasattr(value, "tolist"):  # a tensor or a NumPy number
        return value.tolist()
    if isinstance(value, functools.partial):
        arguments = [json.dumps(argument, default=_name_of) for argument in value.args]
        arguments += [f"{name}={json.dumps(each, default=_name_of)}" for name, each in value.keywords.items()]
        return f"{_name_of(value.func)}({', '.join(arguments)})"
    return getattr(value, "__qualname__", type(value).__qualname__)


def plain_number(value: Any) -> Any:
    """A NumPy number as a Python number; other values unchanged."""
    return value.item() if isinstance(value, np.generic) else value


def number_or_name(value: str | float) -> str | float:
    """The value as a number if it is one, also from text (of the command line); else the text."""
    try:
        return float(value)
    except ValueError:
        return value


def _require(condition: bool, settings: PLMSettings, name: str, expected: str) -> None:
    if not condition:
        raise ValueError(f"{name} is {getattr(settings, name)!r}; it must be {expected}")


PRESETS: dict[str, PLMSettings] = {
    "default": PLMSettings(
        initial_ratio="tempered",
        temper=0.5,
        rule="marginal",
        change_rate=0.5,
        num_bins=20,
        max_shift=100.0,
        mask="expected",
        class_weight=0.75,
        prior="ideal",
        objective="asymmetric",
    ),
    "paper": PLMSettings(
        initial_ratio="mean",
        temper=0.6,
        rule="kl",
        change_rate=0.01,
        num_bins=10,
        max_shift=100.0,
        mask="random",
        class_weight=0.0,
        prior="ideal",
        objective="bce",
    ),
    "off": PLMSettings(
        initial_ratio="dataset",
        temper=0.6,
        rule="fixed",
        change_rate=0.0,
        num_bins=20,
        max_shift=100.0,
        mask="random",
        class_weight=0.0,
        prior="ideal",
        objective="bce",
    ),
}

SINGLE_LABEL_PRIORS = {"default": "balanced"}
"""The `prior` of a preset for one class per row, if it differs from that of the preset."""
