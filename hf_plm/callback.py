"""Updates the ideal ratios while a `PLMTrainer` trains, and logs a summary of them."""

import math
from collections.abc import Mapping
from typing import Any, Protocol

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import IntervalStrategy
from transformers.utils import logging

from .loss import PLMLoss
from .rules import predicted_positives
from .sampling import ClassAwareDataset
from .state import PLMState

logger = logging.get_logger(__name__)

SUMMARY_DETAILS = {
    f"plm/{group}_{value}"
    for group in ("head", "medium", "tail")
    for value in ("ideal_ratio", "shift", "keep_positive", "keep_negative")
}
"""The numbers of `summarize` about the masks. Terminals do not show them, only those about the effects."""


class TrainsWithPLM(Protocol):
    """The attributes and methods of a trainer that the callback uses."""

    plm_loss: PLMLoss
    train_dataset: Any
    is_in_train: bool

    def begin_training(self) -> None: ...

    def end_training(self) -> None: ...

    def keep_evaluation(self, metrics: Mapping[str, float]) -> None: ...

    def log(self, logs: dict[str, float]) -> None: ...

    def warn_of_failed_uploads(self) -> None: ...

    def update_model_card(self) -> None: ...


class PLMCallback(TrainerCallback):
    """Updates the ideal ratios at the end of each epoch, or every `update_steps` optimizer steps, and logs a summary.

    The summary of an epoch is logged at once. With `update_steps`, the latest summary is logged at the next log, at
    the next checkpoint (so that its log is complete), or when training ends.

    Before each push to the Hub during training, it updates the model card.
    """

    def __init__(self, trainer: TrainsWithPLM):
        self.trainer = trainer
        self._unlogged: dict[str, float] = {}

    @property
    def update_steps(self) -> int | None:
        return self.trainer.plm_loss.settings.update_steps

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._unlogged = {}  # may be left from an interrupted run
        self.trainer.begin_training()

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        # A checkpoint at the last step of an epoch is written before on_epoch_end: do its update now.
        at_epoch_end = state.epoch is not None and state.epoch == int(state.epoch)
        if self.update_steps is None and at_epoch_end and self.trainer.plm_loss.state.is_measuring:
            self.update(args)
            self.log(control)
        if isinstance(self.trainer.train_dataset, ClassAwareDataset):
            self.trainer.train_dataset.set_epoch(int(state.epoch or 0))  # accelerate does this only with one process

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if self.update_steps is not None and state.global_step % self.update_steps == 0:
            self.update(args)
        self.log_when_due(control)

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if self.update_steps is None:
            self.update(args)
            self.log(control)
        else:
            self.trainer.plm_loss.raise_for_wrong_labels()  # in the steps since the last update
            self.log_when_due(control)

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        self.trainer.keep_evaluation(metrics or {})
        name = f"eval_{(args.metric_for_best_model or '').removeprefix('eval_')}"
        if self.trainer.is_in_train and math.isnan((metrics or {}).get(name, 0.0)):
            logger.warning(
                f"{name} (metric_for_best_model) is NaN at step {state.global_step}: this evaluation cannot make its "
                "model the best one. Check the evaluation data and the logits"
            )

    def on_push_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.trainer.warn_of_failed_uploads()
        if self.trainer.is_in_train:  # after training, push_to_hub writes the card itself
            self.trainer.update_model_card()

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if self.update_steps is None and self.trainer.plm_loss.state.is_measuring:
            self.update(args)  # resumed from a checkpoint of the last step, written before its update
        self.log(control)
        self.trainer.end_training()

    def update(self, args: TrainingArguments) -> None:
        """Update the ideal ratios, and keep a summary for the log unless `logging_strategy` is `no`."""
        self.trainer.plm_loss.end_epoch()
        if args.logging_strategy != IntervalStrategy.NO:
            self._unlogged = summarize(self.trainer.plm_loss.state)

    def log_when_due(self, control: TrainerControl) -> None:
        """Log the latest summary if this step is logged or saved, or is the last step."""
        if control.should_log or control.should_save or control.should_training_stop:
            self.log(control)

    def log(self, control: TrainerControl) -> None:
        """Log the latest summary, unless it was already logged."""
        if not self._unlogged:
            return
        should_log = control.should_log  # Trainer.log resets it; then the training loss would not be logged
        self.trainer.log(self._unlogged)
        self._unlogged, control.should_log = {}, should_log


def summarize(state: PLMState) -> dict[str, float]:
    """A state in a few numbers, for logs.

    Returns:
        `plm/labels_never_predicted`: how many labels with positives were never predicted in the epoch. For each of
        head, medium and tail (see `LabelCounts.groups`), over its labels that have a ratio: `plm/<group>_ideal_ratio`
        and `plm/<group>_shift` (the medians of I and of I / R), `plm/<group>_keep_positive` and
        `plm/<group>_keep_negative` (the mean keep probabilities), and `plm/<group>_predicted_rate` (the number of
        predicted labels divided by the number of positives).
    """
    positives = state.histograms[0].sum(-1)
    predicted = predicted_positives(state.histograms)
    keep_positive, keep_negative = state.keep_probabilities()
    summary = {"plm/labels_never_predicted": ((predicted == 0) & (positives > 0)).sum()}
    for name, mask in state.groups().items():
        mask = mask.to(state.ideal_ratio.device) & state.has_ratio
        if mask.any():
            summary |= {
                f"plm/{name}_ideal_ratio": state.ideal_ratio[mask].median(),
                f"plm/{name}_shift": (state.ideal_ratio / state.ratio)[mask].median(),
                f"plm/{name}_keep_positive": keep_positive[mask].mean(),
                f"plm/{name}_keep_negative": keep_negative[mask].mean(),
                f"plm/{name}_predicted_rate": predicted[mask].sum() / positives[mask].sum().clamp(min=1),
            }
    values = torch.stack([value.float() for value in summary.values()]).tolist()
    return dict(zip(summary, values, strict=True))
