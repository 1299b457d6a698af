"""`TrainingArguments` with the settings of Partial Label Masking."""

import json
import warnings
from dataclasses import dataclass, field
from typing import Any

from transformers import TrainingArguments

from .loss import MANY_LABELS
from .objectives import OBJECTIVES
from .presets import PLMSettings, SettingWithoutEffect, number_or_name, plain_number


@dataclass
class PLMTrainingArguments(TrainingArguments):
    """`TrainingArguments` and the settings of Partial Label Masking. A field that is None has the preset's value.

    Args:
        plm_preset (`str`, defaults to `"default"`):
            `default` (recommended), `paper` (the published method) or `off` (plain BCE through the same code).
        plm_initial_ratio (`float` or `str`, *optional*):
            Where the ideal ratios start: `tempered`, `mean`, `dataset`, or a positive number (positives per negative).
        plm_temper (`float`, *optional*):
            Exponent of a tempered start, in [0, 1]: 0 balances every class, 1 keeps the ratios of the data.
        plm_rule (`str`, *optional*):
            How the ideal ratios adapt: `marginal`, `kl` (the paper's) or `fixed`.
        plm_change_rate (`float`, *optional*):
            How fast the ideal ratios adapt, per update, 0 or more.
        plm_num_bins (`int`, *optional*):
            Bins of the probability histograms, 2 or more; even for the rule `marginal`.
        plm_max_shift (`float`, *optional*):
            The factor by which an ideal ratio may differ from the ratio in the data, 1 or more.
        plm_mask (`str`, *optional*):
            `random` (each label is kept or masked by chance, as published) or `expected` (each label's loss is
            weighted with the probability that it would be kept: the same effective ratio, without noise).
        plm_class_weight (`float`, *optional*):
            The loss of a class is divided by the share of its labels that is kept, to this power; 0 or more.
        plm_prior (`str`, *optional*):
            Which class frequencies the model's logits, and so its decisions, assume: `ideal` (the ideal ratios),
            `balanced` (only for one class per row: all classes equally frequent) or `data` (the training data). None
            for the preset's; with one class per row, preset `default` has `balanced`.
        plm_update_steps (`int`, *optional*):
            Adapt the ideal ratios after this number of optimizer steps, 1 or more; None for every epoch. Their
            summaries are then logged at `logging_steps`.
        plm_class_aware (`bool`, defaults to `False`):
            Draw the training rows by class-aware sampling, see `ClassAwareDataset`; with or without masks.
        plm_fused (`bool`, *optional*):
            Compile the loss, which takes some seconds at the first step and makes it several times as fast; None to
            compile from 5,000 labels on.
        plm_restart (`bool`, defaults to `False`):
            When training resumes from a checkpoint, start with new ideal ratios instead of reading them: for
            checkpoints of a plain `Trainer`, or with different labels, settings or training data.
        plm_keep_ratios (`bool`, defaults to `False`):
            When training resumes from a checkpoint with different settings or label counts, which is an error
            otherwise, continue with its ideal ratios.
        plm_objective (`str`, *optional*):
            `bce`, `focal`, `asymmetric`, `weighted_bce`, `class_balanced`, `distribution_balanced` or
            `logit_adjusted`: see `objectives.py`.
        plm_objective_kwargs (`dict` or `str`, *optional*):
            Arguments of the objective, as a dictionary or as JSON.

    Raises:
        ValueError: if a value is out of range; the message has the name of the field.
    """

    plm_preset: str = field(
        default="default",
        metadata={
            "help": "default (recommended), paper (the published method) or off (plain BCE through the same code)."
        },
    )
    plm_initial_ratio: float | str | None = field(
        default=None,
        metadata={
            "help": "Where the ideal ratios start: tempered, mean, dataset, or a positive number (positives per "
            "negative). Default: the preset's."
        },
    )
    plm_temper: float | None = field(
        default=None,
        metadata={
            "help": "Exponent of a tempered start, in [0, 1]: 0 balances every class, 1 keeps the ratios of the data. "
            "Default: the preset's."
        },
    )
    plm_rule: str | None = field(
        default=None,
        metadata={"help": "How the ideal ratios adapt: marginal, kl (the paper's) or fixed. Default: the preset's."},
    )
    plm_change_rate: float | None = field(
        default=None,
        metadata={"help": "How fast the ideal ratios adapt, per update, 0 or more. Default: the preset's."},
    )
    plm_num_bins: int | None = field(
        default=None,
        metadata={
            "help": "Bins of the probability histograms, 2 or more; even for the rule marginal. Default: the preset's."
        },
    )
    plm_max_shift: float | None = field(
        default=None,
        metadata={
            "help": "The factor by which an ideal ratio may differ from the ratio in the data, 1 or more. Default: "
            "the preset's."
        },
    )
    plm_mask: str | None = field(
        default=None,
        metadata={
            "help": "random (each label is kept or masked by chance) or expected (each label's loss is weighted with "
            "the probability that it would be kept). Default: the preset's."
        },
    )
    plm_class_weight: float | None = field(
        default=None,
        metadata={
            "help": "The loss of a class is divided by the share of its labels that is kept, to this power, 0 or "
            "more. Default: the preset's."
        },
    )
    plm_prior: str | None = field(
        default=None,
        metadata={
            "help": "Which class frequencies the decisions assume: ideal (the ideal ratios), balanced (only for one "
            "class per row) or data. Default: the preset's; with one class per row, balanced for preset default."
        },
    )
    plm_update_steps: int | None = field(
        default=None,
        metadata={
            "help": "Adapt the ideal ratios after this number of optimizer steps, 1 or more (for streaming data). "
            "Default: after every epoch."
        },
    )
    plm_class_aware: bool = field(
        default=False,
        metadata={"help": "Draw the training rows by class-aware sampling: first a class, then one of its rows."},
    )
    plm_fused: bool | None = field(
        default=None,
        metadata={
            "help": "Compile the loss: the first step is slower, all others are several times as fast. Default: from "
            f"{MANY_LABELS:,} labels on."
        },
    )
    plm_restart: bool = field(
        default=False,
        metadata={
            "help": "When training resumes from a checkpoint, start with new ideal ratios instead of reading them."
        },
    )
    plm_keep_ratios: bool = field(
        default=False,
        metadata={
            "help": "When training resumes from a checkpoint with different settings or label counts, continue with "
            "its ideal ratios."
        },
    )
    plm_objective: str | None = field(
        default=None, metadata={"help": f"One of {', '.join(OBJECTIVES)}. Default: the preset's."}
    )
    plm_objective_kwargs: dict[str, Any] | str | None = field(
        default=None,
        metadata={
            "help": "Arguments of the objective as JSON, for example '{\"gamma_negative\": 2}'. Default: the preset's."
        },
    )

    def __post_init__(self) -> None:
        super().__post_init__()  # type: ignore[no-untyped-call]  # transformers gives it no types
        self._warned_of: set[str] = set()
        for name in self.__dataclass_fields__:
            if name.startswith("plm_"):
                setattr(self, name, plain_number(getattr(self, name)))
        self.plm_objective_kwargs = _parsed(self.plm_objective_kwargs)
        if self.plm_restart and self.plm_keep_ratios:
            raise ValueError("plm_restart and plm_keep_ratios are both True; set only one of them")
        self.plm_settings()
        if self.plm_initial_ratio is not None:
            self.plm_initial_ratio = number_or_name(self.plm_initial_ratio)  # the command line gives text

    def __getstate__(self) -> dict[str, Any]:
        """All but `hub_token`: the pickle becomes `training_args.bin`, which is uploaded with the model."""
        return {**self.__dict__, "hub_token": None}

    def plm_settings(self) -> dict[str, Any]:
        """The preset and its changes, as keyword arguments of `PLMLoss` and `PLMSettings.from_preset`.

        Warns once of each change that has no effect with the other settings.

        Raises:
            ValueError: if a value is out of range (a search sets fields without a check); the message has the field.
        """
        settings: dict[str, Any] = {
            "preset": self.plm_preset,
            "initial_ratio": self.plm_initial_ratio,
            "temper": self.plm_temper,
            "rule": self.plm_rule,
            "change_rate": self.plm_change_rate,
            "num_bins": self.plm_num_bins,
            "max_shift": self.plm_max_shift,
            "mask": self.plm_mask,
            "class_weight": self.plm_class_weight,
            "prior": self.plm_prior,
            "objective": self.plm_objective,
            "objective_kwargs": _parsed(self.plm_objective_kwargs),
            "update_steps": self.plm_update_steps,
        }
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", SettingWithoutEffect)  # it would not name the fields
                checked = PLMSettings.from_preset(**settings)
        except ValueError as error:
            raise ValueError(f"plm_{error}") from None
        changed = [name for name, value in settings.items() if value is not None]
        for message in checked.without_effect(changed, "plm_"):
            if message not in self._warned_of:
                self._warned_of.add(message)
                warnings.warn(message, SettingWithoutEffect, stacklevel=4)
        return settings


def _parsed(kwargs: dict[str, Any] | str | None) -> dict[str, Any] | None:
    """The arguments of an objective as a dictionary. Raises a ValueError for text that is not a JSON object."""
    parsed: Any = kwargs
    if isinstance(kwargs, str):
        try:
            parsed = json.loads(kwargs)
        except json.JSONDecodeError as error:
            raise ValueError(f"plm_objective_kwargs is {kwargs!r}, which is not JSON: {error}") from None
    if parsed is not None and not isinstance(parsed, dict):
        raise ValueError(f"plm_objective_kwargs is {parsed!r}; it must be a dictionary")
    return parsed if parsed is None else {name: plain_number(value) for name, value in parsed.items()}
