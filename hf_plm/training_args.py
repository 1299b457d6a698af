"""`TrainingArguments` with the settings of Partial Label Masking."""

import json
from dataclasses import dataclass, field
from typing import Any

from transformers import TrainingArguments

from .loss import MANY_LABELS
from .objectives import OBJECTIVES
from .presets import PLMSettings


@dataclass
class PLMTrainingArguments(TrainingArguments):
    """All of `TrainingArguments`, and how labels are masked. A field that is None has the preset's value.

    Args:
        plm_preset (`str`, defaults to `"default"`):
            `default` (recommended), `paper` (the published method) or `off` (plain BCE through the same code).
        plm_initial_ratio (`float` or `str`, *optional*):
            Where the ideal ratios start: `tempered`, `mean`, `dataset`, or a positive number (positives per negative).
        plm_temper (`float`, *optional*):
            Exponent of a tempered start, in [0, 1]: 0 balances every class, 1 leaves the data as they are.
        plm_rule (`str`, *optional*):
            How the ideal ratios adapt: `marginal`, `kl` (the paper's) or `fixed`.
        plm_change_rate (`float`, *optional*):
            How fast the ideal ratios adapt, per update, 0 or more.
        plm_num_bins (`int`, *optional*):
            Bins of the probability histograms, 2 or more; even for the rule `marginal`.
        plm_max_shift (`float`, *optional*):
            By which factor an ideal ratio may differ from the data's own ratio, 1 or more.
        plm_update_steps (`int`, *optional*):
            Adapt the ideal ratios every so many optimizer steps, 1 or more; None for every epoch.
        plm_class_aware (`bool`, defaults to `False`):
            Draw the training rows by class-aware sampling, see `ClassAwareDataset`; with masks or without.
        plm_fused (`bool`, *optional*):
            Compile the loss, which takes some seconds at the first step and makes it several times as fast; None for
            yes from 5,000 labels on.
        plm_restart (`bool`, defaults to `False`):
            When training resumes from a checkpoint, start the ideal ratios anew instead of reading them from it: for
            checkpoints of a plain `Trainer`, or of other labels.
        plm_objective (`str`, *optional*):
            `bce`, `focal`, `asymmetric`, `weighted_bce`, `class_balanced`, `distribution_balanced` or
            `logit_adjusted`: see `objectives.py`.
        plm_objective_kwargs (`dict` or `str`, *optional*):
            Arguments of the objective, as a dictionary or as JSON.

    Raises:
        ValueError: for a value out of range, with the name of the field.
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
            "help": "Exponent of a tempered start, in [0, 1]: 0 balances every class, 1 leaves the data as they are. "
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
            "help": "By which factor an ideal ratio may differ from the data's own ratio, 1 or more. Default: the "
            "preset's."
        },
    )
    plm_update_steps: int | None = field(
        default=None,
        metadata={
            "help": "Adapt the ideal ratios every so many optimizer steps, 1 or more (for streaming data). Default: "
            "every epoch."
        },
    )
    plm_class_aware: bool = field(
        default=False,
        metadata={"help": "Draw the training rows by class-aware sampling: first a class, then one of its rows."},
    )
    plm_fused: bool | None = field(
        default=None,
        metadata={
            "help": "Compile the loss: slower in the first step, several times as fast then. Default: from "
            f"{MANY_LABELS:,} labels on."
        },
    )
    plm_restart: bool = field(
        default=False,
        metadata={
            "help": "When training resumes from a checkpoint, start the ideal ratios anew instead of reading them."
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

    def __post_init__(self):
        super().__post_init__()
        if isinstance(self.plm_objective_kwargs, str):
            try:
                self.plm_objective_kwargs = json.loads(self.plm_objective_kwargs)
            except json.JSONDecodeError as error:
                raise ValueError(f"plm_objective_kwargs is {self.plm_objective_kwargs!r}, no JSON: {error}") from None
        if self.plm_objective_kwargs is not None and not isinstance(self.plm_objective_kwargs, dict):
            raise ValueError(f"plm_objective_kwargs is {self.plm_objective_kwargs!r}; it must be a dictionary")
        if self.plm_update_steps is not None and self.plm_update_steps < 1:
            raise ValueError(f"plm_update_steps is {self.plm_update_steps}; it must be 1 or more, or None")
        try:
            settings = PLMSettings.from_preset(**self.plm_settings())
        except ValueError as error:
            raise ValueError(f"plm_{error}") from None
        if self.plm_initial_ratio is not None:
            self.plm_initial_ratio = settings.initial_ratio  # a number, if the command line gave one

    def __getstate__(self) -> dict[str, Any]:
        """All but `hub_token`: what is pickled becomes `training_args.bin`, which is uploaded with the model."""
        return {**self.__dict__, "hub_token": None}

    def plm_settings(self) -> dict[str, Any]:
        """The preset and its changes, as keyword arguments of `PLMLoss` and `PLMSettings.from_preset`."""
        return {
            "preset": self.plm_preset,
            "initial_ratio": self.plm_initial_ratio,
            "temper": self.plm_temper,
            "rule": self.plm_rule,
            "change_rate": self.plm_change_rate,
            "num_bins": self.plm_num_bins,
            "max_shift": self.plm_max_shift,
            "objective": self.plm_objective,
            "objective_kwargs": self.plm_objective_kwargs,
        }
