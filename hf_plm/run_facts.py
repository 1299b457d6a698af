"""Collects the facts about a training run for the model card and the pictures."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import metadata
from numbers import Real
from pathlib import Path
from typing import Any

import accelerate
import datasets
import torch
import transformers
from transformers import TrainerState, TrainingArguments
from transformers.trainer_utils import has_length

from .decisions import Decisions, read_decisions
from .label_counts import LabelCounts
from .label_space import LabelSpace
from .loss import PLMLoss
from .objectives import OBJECTIVES, default_arguments
from .presets import PLMSettings
from .scores import Groups, LabelScores
from .state import PLMState

SPEED = ("runtime", "samples_per_second", "steps_per_second", "model_preparation_time")
"""Suffixes of the names of timings among an evaluation's metrics."""

PROCESSOR_FILES = ("tokenizer_config.json", "preprocessor_config.json")
"""The files in which tokenizers and image processors are saved."""


@dataclass(frozen=True)
class Evaluation:
    """One evaluation of a model.

    Attributes:
        data: the evaluation data, in words for the card: `the split 'test', 4,381 rows`.
        step: the number of training steps before it, see `step_of_model`.
        metrics: the scores by name, without a prefix and without timings, see `scores_alone`.
        label_scores: the scores of each label; None if the metrics do not have them.
        groups: the groups of labels that were scored; None if the metrics do not have them.
        labels_digest: the digest of the evaluation labels; None if unknown.
        decisions: the thresholds and scores that were evaluated; None if unknown.
    """

    data: str
    step: int
    metrics: Mapping[str, float]
    label_scores: LabelScores | None = None
    groups: Groups | None = None
    labels_digest: str | None = None
    decisions: Decisions | None = None


@dataclass(frozen=True)
class RunFacts:
    """A model and its training, at one moment.

    Attributes:
        label_space: the labels' names and order.
        state: counts, measurements and ideal ratios; the object that training changes, not a copy.
        settings, objective: the settings of the loss, and its objective in words.
        decisions: thresholds, and the kind of the model's scores.
        evaluation: the last evaluation of the current model; None if there was none.
        is_single_label, is_adapter: whether each row has one class; whether it is a peft model, which is saved as an
            adapter.
        main_input: the name of the model's main input, such as `input_ids`; None if it has none.
        base_model: the model on the Hub that training started from; None if it was not on the Hub.
        has_processor: whether a tokenizer or an image processor is saved with the model.
        is_class_aware: whether rows were drawn by class.
        train_rows: the number of training rows; None if the data set has no length.
        steps, epochs: the steps and epochs of training so far.
        batch_size: rows in one optimizer step, over all ranks and with accumulation.
        learning_rate, scheduler, optimizer, precision, seed: from the training arguments.
        versions: library -> version.
    """

    label_space: LabelSpace
    state: PLMState
    settings: PLMSettings
    objective: str
    decisions: Decisions
    evaluation: Evaluation | None
    is_single_label: bool
    is_adapter: bool
    main_input: str | None
    base_model: str | None
    has_processor: bool
    is_class_aware: bool
    train_rows: int | None
    steps: int
    epochs: float
    batch_size: int
    learning_rate: float
    scheduler: str
    optimizer: str
    precision: str
    seed: int
    versions: Mapping[str, str]

    @property
    def label_counts(self) -> LabelCounts:
        """The counts of the training data with the labels' names; for a stream, the counts of the rows so far."""
        return LabelCounts(self.state.positives.cpu(), self.state.negatives.cpu(), self.label_space.names)

    @property
    def masks_nothing(self) -> bool:
        """Whether the settings leave every label in the loss."""
        return self.settings.masks_nothing

    @property
    def was_tuned_on_evaluation(self) -> bool:
        """Whether the thresholds were chosen on the data of the evaluation."""
        return (
            self.evaluation is not None
            and self.decisions.tuned_on is not None
            and self.decisions.tuned_on == self.evaluation.labels_digest
        )

    @property
    def was_tuned_elsewhere(self) -> bool:
        """Whether the thresholds of the evaluation were chosen on other data."""
        tuned_on, evaluation = self.decisions.tuned_on, self.evaluation
        if tuned_on is None or evaluation is None or evaluation.labels_digest is None:
            return False
        return tuned_on != evaluation.labels_digest and not self.was_decided_otherwise

    @property
    def was_decided_otherwise(self) -> bool:
        """Whether the evaluation used different thresholds than now, apart from calibrating and folding."""
        then = self.evaluation.decisions if self.evaluation is not None else None
        if then is None:
            return False
        same_scores = then.scores == self.decisions.scores
        return then.tuned_on != self.decisions.tuned_on or (
            same_scores and then.thresholds != self.decisions.thresholds
        )


def gather_facts(
    model: Any,
    args: TrainingArguments,
    trainer_state: TrainerState,
    plm_loss: PLMLoss,
    label_space: LabelSpace,
    evaluations: Iterable[Evaluation] = (),
    train_dataset: Any = None,
    processing_class: Any = None,
) -> RunFacts:
    """Collect the facts of a run.

    Args:
        model: a module, without wrappers for training on several devices.
        evaluations: from old to new; the last one of the current model is used.
        processing_class: the tokenizer or image processor that is saved with the model; if None, its files are
            searched in the output folder.

    Raises:
        ValueError: if the decisions in the model's configuration cannot be read.
    """
    config = getattr(model, "config", None)
    step = step_of_model(args, trainer_state)
    return RunFacts(
        label_space=label_space,
        state=plm_loss.state,
        settings=plm_loss.settings,
        objective=_objective_in_words(plm_loss.settings),
        decisions=read_decisions(config) if config is not None else Decisions(label_space.num_labels),
        evaluation=next((each for each in reversed(list(evaluations)) if each.step == step), None),
        is_single_label=getattr(config, "problem_type", None) == "single_label_classification",
        is_adapter=is_adapter(model),
        main_input=getattr(model, "main_input_name", None),
        base_model=_base_model(model),
        has_processor=processing_class is not None
        or any((Path(args.output_dir or ".") / name).is_file() for name in PROCESSOR_FILES),
        is_class_aware=bool(getattr(args, "plm_class_aware", False)),
        train_rows=len(train_dataset) if has_length(train_dataset) else None,
        steps=trainer_state.global_step,
        epochs=trainer_state.epoch or 0.0,
        batch_size=args.train_batch_size * args.gradient_accumulation_steps * args.world_size,
        learning_rate=args.learning_rate,
        scheduler=_value(args.lr_scheduler_type),
        optimizer=_value(args.optim),
        precision="bfloat16" if args.bf16 else "float16" if args.fp16 else "float32",
        seed=args.seed,
        versions={"hf_plm": metadata.version("hf_plm")}
        | {each.__name__: each.__version__ for each in (transformers, torch, accelerate, datasets)},
    )


def step_of_model(args: TrainingArguments, trainer_state: TrainerState) -> int:
    """The training step of the model's weights.

    With `load_best_model_at_end` this is the best step after training has ended.
    """
    has_ended = any("train_runtime" in log for log in trainer_state.log_history)
    if has_ended and args.load_best_model_at_end and trainer_state.best_model_checkpoint is not None:
        return trainer_state.best_global_step or 0
    return trainer_state.global_step


def scores_alone(metrics: Mapping[str, float], prefix: str) -> dict[str, float]:
    """The numbers in the metrics of an evaluation, without prefix, timings and epoch."""
    scores = {key.removeprefix(f"{prefix}_"): value for key, value in metrics.items() if isinstance(value, Real)}
    return {key: float(value) for key, value in scores.items() if not key.endswith(SPEED) and key != "epoch"}


def is_adapter(model: Any) -> bool:
    """Whether it is a peft model, which is saved as an adapter."""
    return hasattr(model, "active_peft_config")


def _base_model(model: Any) -> str | None:
    """The name of the Hub model from which training started; None if there is none."""
    if is_adapter(model):
        name = model.active_peft_config.base_model_name_or_path
    else:
        name = getattr(getattr(model, "config", None), "name_or_path", "")
    return name if name and not Path(name).exists() else None


def _objective_in_words(settings: PLMSettings) -> str:
    """The name of the objective and its arguments."""
    objective = settings.objective
    if not isinstance(objective, str):
        return getattr(objective, "__name__", type(objective).__name__)
    arguments = default_arguments(OBJECTIVES[objective]) | dict(settings.objective_kwargs)
    listed = ", ".join(f"{name} {value:g}" for name, value in arguments.items())
    return f"{objective} ({listed})" if listed else objective


def _value(setting: Any) -> str:
    """The value of an enumeration member; text is returned unchanged."""
    return str(getattr(setting, "value", setting))
