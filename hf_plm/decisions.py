"""The decisions of a trained model: thresholds in its configuration, calibration, and folding of thresholds.

The entry `config.plm` is a plain dictionary. Only this file reads and writes it.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers.utils import logging

from .classifier_bias import find_bias
from .label_space import generic_names, label_order, names_fingerprint, read_id2label, shown_list
from .state import PLMState

logger = logging.get_logger(__name__)

SCORES = ("trained", "probabilities", "decisions")
EARLIER = ("plm_thresholds", "plm_calibrated")
"""Entries of configurations that an earlier version wrote; its thresholds were probabilities."""


@dataclass(frozen=True)
class Decisions:
    """The thresholds of a model, and the kind of its scores.

    Attributes:
        num_labels: the model's number of labels; None if its configuration does not have it.
        names: `names_fingerprint` of the model's label names; None for generic names, which fits any names.
        thresholds: logits, one for each label; a label is predicted if its logit is at least this. None for 0.
        scores: the kind of the model's scores: `trained` (as masked training leaves them), `probabilities` (for the
            frequencies of the training data, after `calibrate`), or `decisions` (to compare with 0.5, after
            `fold_thresholds`).
        tuned_on: `labels_digest` of the labels on which the thresholds were chosen.

    Raises:
        ValueError: if the numbers of thresholds and labels differ, a threshold is NaN or infinite, or `scores` is
            unknown.
    """

    num_labels: int | None = None
    names: str | None = None
    thresholds: tuple[float, ...] | None = None
    scores: str = "trained"
    tuned_on: str | None = None

    def __post_init__(self) -> None:
        if self.scores not in SCORES:
            raise ValueError(f"scores is {self.scores!r}; it must be one of {SCORES}")
        if self.thresholds is None:
            return
        object.__setattr__(self, "thresholds", tuple(float(value) for value in self.thresholds))
        if self.num_labels not in (None, len(self.thresholds)):
            raise ValueError(f"there are {len(self.thresholds)} thresholds for {self.num_labels} labels")
        if not np.isfinite(self.thresholds).all():
            raise ValueError("thresholds hold a value that is NaN or infinite; they are logits, one for each label")


def read_decisions(config: Any) -> Decisions:
    """The decisions in a model's configuration; empty ones if it has no entry, or `config` is None.

    An entry for a different number of labels, or for different label names, is removed with a warning.

    Raises:
        ValueError: if the entry is damaged or was written by an earlier version.
    """
    fresh = _fresh(config)
    if earlier := [name for name in EARLIER if getattr(config, name, None)]:
        raise ValueError(
            f"model.config.{earlier[0]} was written by an earlier version, which stored thresholds as probabilities; "
            f"delete it ({'; '.join(f'del model.config.{name}' for name in earlier)}) and choose thresholds again "
            "with trainer.tune_thresholds(...); if the model was calibrated, do not calibrate it again"
        )
    entry = getattr(config, "plm", None)
    if entry is None:
        return fresh
    try:
        decisions = Decisions(**entry)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"model.config.plm is damaged ({error}); restore it from a copy, or delete it (del model.config.plm) and "
            "choose thresholds again"
        ) from None
    if None not in (fresh.num_labels, decisions.num_labels) and fresh.num_labels != decisions.num_labels:
        end_decisions(config, f"they are for {decisions.num_labels} labels, but the model has {fresh.num_labels}")
        return fresh
    if decisions.names is not None and decisions.names != fresh.names:
        names = shown_list(read_id2label(config) or generic_names(fresh.num_labels or 0))
        kept = replace(fresh, scores=decisions.scores)  # the bias does not depend on names
        end_decisions(
            config, f"they are for other label names than {names}, or for the same names in a different order"
        )
        if kept != fresh:
            write_decisions(config, kept)
        return kept
    return decisions


def write_decisions(config: Any, decisions: Decisions) -> None:
    """Store decisions in a model's configuration, which is saved with the model.

    Raises:
        ValueError: if the model has no configuration.
    """
    if not _can_keep(config):
        raise ValueError("the model has no configuration (model.config) to store thresholds in")
    entry = asdict(decisions)
    config.plm = entry | {"thresholds": None if decisions.thresholds is None else list(decisions.thresholds)}


def end_decisions(config: Any, why: str) -> None:
    """Remove the decisions, also those of an earlier version, from a configuration; a warning says why."""
    found = [name for name in ("plm", *EARLIER) if getattr(config, name, None) is not None]
    for name in found:
        delattr(config, name)
    if found:
        logger.warning(f"The model's thresholds and calibration (config.{found[0]}) are removed: {why}")


def thresholds_of(config: Any) -> np.ndarray | None:
    """The thresholds of a model, float64 logits `(num_labels,)`; None if it has none. Raises as `read_decisions`."""
    thresholds = read_decisions(config).thresholds
    return None if thresholds is None else np.array(thresholds, np.float64)


def log_odds_shift(plm_state: PLMState) -> Tensor:
    """The amount by which training raised each label's log-odds: `log(T / R)`, float32 `(num_labels,)`.

    R is the ratio of the data. T is the ratio that the logits assume: the ideal ratio, or the one that `prior` sets.
    Both are those of the last training batch.
    """
    return plm_state.shift_in_force


def calibrate(model: nn.Module, plm_state: PLMState, inputs: Any = None) -> None:
    """Subtract the shift of training (`log_odds_shift`) from the classifier's bias and the thresholds, in place.

    Afterwards the model's probabilities fit the frequencies of the training data. Only the effect of masks and prior
    is removed: an objective other than binary cross-entropy has its own bias. The probabilities are sigmoids of
    the logits, also with one class per row; a softmax would be more confident. No decision changes: a model without
    thresholds gets some. This can be done only once; `config.plm` records it.

    Args:
        model: the trained model. Its classifier's bias is found by its effect on the logits, see `find_bias`. In
            float16 and bfloat16 the bias is rounded, and so is the shift.
        plm_state: `PLMTrainer.plm_state`, or the `PLMState` of a checkpoint.
        inputs: a batch of the model's inputs; None for random inputs.

    Raises:
        ValueError: if the model was calibrated or folded before, the state belongs to other labels, or no bias shifts
            the logits. The model is then unchanged.
    """
    config = getattr(model, "config", None)
    decisions = read_decisions(config)
    if decisions.scores == "probabilities":
        raise ValueError("the model was calibrated before (config.plm): the shift is already removed from its bias")
    if decisions.scores == "decisions":
        raise ValueError(
            "the thresholds were folded into the bias (config.plm), so the scores are no longer probabilities; "
            "calibrate first, then call fold_thresholds"
        )
    shift = _shift_for(config, plm_state, decisions.num_labels)
    bias = find_bias(model, shift, inputs, "subtract log_odds_shift(plm_state) from the logits instead")
    moved = _subtract(bias, shift)
    if _can_keep(config):
        thresholds = np.array(decisions.thresholds or 0.0) - moved
        write_decisions(config, replace(decisions, thresholds=tuple(thresholds), scores="probabilities"))


def fold_thresholds(model: nn.Module, inputs: Any = None) -> None:
    """Subtract the thresholds from the classifier's bias, in place, so that any pipeline can use 0.5 as threshold.

    Afterwards the scores are not probabilities; `config.plm` records it.

    Args:
        model: see `calibrate`. In float16 and bfloat16 the bias is rounded: a decision close to a threshold may
            change.
        inputs: a batch of the model's inputs; None for random inputs.

    Raises:
        ValueError: if the model has no thresholds, or no bias shifts the logits. The model is then unchanged.
    """
    config = getattr(model, "config", None)
    decisions = read_decisions(config)
    if decisions.thresholds is None:
        raise ValueError(
            "the thresholds are already in the classifier's bias (config.plm)"
            if decisions.scores == "decisions"
            else "the model has no thresholds to fold; choose them with trainer.tune_thresholds(held_out)"
        )
    thresholds = torch.tensor(decisions.thresholds, dtype=torch.float64)
    bias = find_bias(model, thresholds, inputs, "keep the thresholds instead: hf_plm.predict uses them")
    _subtract(bias, thresholds)
    write_decisions(config, replace(decisions, thresholds=None, scores="decisions"))


def _shift_for(config: Any, plm_state: PLMState, num_labels: int | None) -> Tensor:
    """`log_odds_shift` in the order of a model's labels, float64 on the CPU."""
    if not plm_state.num_batches:
        logger.warning(
            "plm_state has seen no batch, so it is not the state of a trained model. Use PLMTrainer.plm_state of the "
            "trainer that trained the model, or PLMState.load with its checkpoint"
        )
    shift = log_odds_shift(plm_state).detach().cpu().double()
    if num_labels not in (None, len(shift)):
        raise ValueError(f"plm_state has {len(shift)} labels, and the model has {num_labels}")
    names, own = read_id2label(config), plm_state.label_names
    order = label_order(names, "the model", own, "plm_state") if names is not None and own is not None else None
    return shift if order is None else shift[order]


def _subtract(bias: nn.Parameter, amount: Tensor) -> np.ndarray:
    """Subtract an amount from a bias. Returns the real change of the bias after rounding, float64."""
    before = bias.detach().cpu().double().clone()
    with torch.no_grad():
        bias.copy_(before - amount)
    return (before - bias.detach().cpu().double()).numpy()


def _fresh(config: Any) -> Decisions:
    return Decisions(getattr(config, "num_labels", None), names_fingerprint(read_id2label(config)))


def _can_keep(config: Any) -> bool:
    return config is not None and not isinstance(config, Mapping)  # peft sets a dictionary if the model has none
