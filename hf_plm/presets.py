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
    """A setting was changed, and changes nothing beside the others."""


@dataclass(frozen=True)
class PLMSettings:
    """Settings of Partial Label Masking, checked. NumPy numbers become plain ones.

    Args:
        initial_ratio: where the ideal ratios start: `tempered` (`R ** temper`), `mean` (the mean R over the classes),
            `dataset` (R itself, nothing is masked), or one positive number for all classes, in positives per negative.
        temper: the exponent of a tempered start, in [0, 1]: 0 balances every class, 1 leaves the data as they are.
        rule: how the ideal ratios adapt: `marginal`, `kl` (the paper's) or `fixed` (not at all).
        change_rate: how fast they adapt, lambda of the paper, 0 or more; 0 is `fixed`.
        num_bins: bins of the probability histograms, at least 2; even for the rule `marginal`.
        max_shift: the ideal ratio stays within `[R / max_shift, R * max_shift]`; 1 or more.
        mask: `random` (each label is kept or masked by chance, as published), or `expected` (each label's loss is
            weighted with the probability that it would be kept).
        class_weight: the loss of a class is divided by the share of its labels that is kept, to this power; 0 or more,
            see `class_weights`.
        prior: which ratio of positives to negatives the model's logits assume, and with them its decisions: `ideal`
            (the ideal ratio), `balanced` (1) or `data` (R).
        objective: the name of one in `OBJECTIVES`, or a callable, see `PLMLoss`.
        objective_kwargs: keyword arguments of a named objective, by name.
        update_steps: the ideal ratios adapt every so many optimizer steps, 1 or more; None for every epoch.

    Raises:
        ValueError: for a value out of range, with its name.
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

    def __post_init__(self):
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
        """The settings of a preset; each of `changes` replaces one, unless it is None.

        An objective that is changed has its own default arguments. Warns of each change that has no effect beside the
        other settings (`SettingWithoutEffect`).
        """
        if preset not in PRESETS:
            raise ValueError(f"preset is {preset!r}; use one of {tuple(PRESETS)}")
        changes = {name: value for name, value in changes.items() if value is not None}
        settings = replace(PRESETS[preset], **changes)
        for message in settings.without_effect(changes):
            warnings.warn(message, SettingWithoutEffect, stacklevel=3)
        return settings

    def without_effect(self, names: Iterable[str], prefix: str = "") -> list[str]:
        """A message for each of these settings that changes nothing beside the others.

        Args:
            prefix: stands before the names of settings in the messages.
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
        """Which settings change nothing beside the others, and why; `prefix` as for `without_effect`."""
        reasons = {}
        if self.initial_ratio != "tempered":
            reasons["temper"] = (
                f"{prefix}initial_ratio is {self.initial_ratio!r}, and it is the exponent of 'tempered'"
            )
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
            reasons |= dict.fromkeys(names, f"{cause}, so the ideal ratios stay the data's own")
        if cause is not None:
            reasons |= dict.fromkeys(("mask", "class_weight"), f"{cause}, so no label is masked")
            if self.prior != "balanced":
                reasons["prior"] = f"{cause}, so the ideal ratios are the data's own"
        return reasons

    @property
    def masks_nothing(self) -> bool:
        """Whether every label stays in the loss, with the same weight."""
        return self.max_shift == 1 or (self.starts_at_data and not self.adapts)

    def bound_objective(self) -> Callable[..., torch.Tensor]:
        """The objective as a callable, `objective_kwargs` bound to it."""
        if callable(self.objective):
            return self.objective
        return functools.partial(OBJECTIVES[self.objective], **self.objective_kwargs)

    def to_dict(self) -> dict[str, Any]:
        """The settings by name, as JSON gives them back; a callable objective by its qualified name."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        values["objective"] = _name_of(self.objective)
        return json.loads(json.dumps(values, default=_name_of))


def _name_of(value: Any) -> Any:
    """A stand-in for what JSON cannot hold: a name that is the same in every process."""
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
    """A number of NumPy as one of Python; everything else as it is."""
    return value.item() if isinstance(value, np.generic) else value


def number_or_name(value: str | float) -> str | float:
    """A number given as text (on the command line) as a number."""
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
"""The `prior` of a preset where each row has one class, if it is another."""
