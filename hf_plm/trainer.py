"""`transformers.Trainer` with Partial Label Masking: training and evaluation."""

import os
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers import TrainerCallback, TrainingArguments
from transformers.trainer_utils import TrainOutput, get_last_checkpoint
from transformers.utils import logging

from .callback import SUMMARY_DETAILS, PLMCallback
from .checkpoints import load_checkpoint, save_checkpoint
from .classifier_bias import logits_of
from .decisions import end_decisions
from .evaluation_trainer import EvaluationTrainer
from .label_counts import LabelCounts
from .loss import PLMLoss
from .objectives import Objective
from .presets import SINGLE_LABEL_PRIORS, SettingWithoutEffect
from .reporting import TRACKERS, guard_tracker
from .run_facts import Evaluation, is_adapter
from .short_logs import printers, shorten_logs
from .state import PLMState
from .training_args import PLMTrainingArguments

logger = logging.get_logger(__name__)


class PLMTrainer(EvaluationTrainer):
    """`transformers.Trainer` for imbalanced data: labels are masked out of the loss, at random or by weights, so that
    each class has its ideal ratio of positives to negatives. This ratio adapts as the model learns.

        PLMTrainer(model, args, train_dataset=train_set, eval_dataset=validation_set).train()

    Labels may be multi-hot vectors, lists of class ids or lists of class names: the data collator is wrapped in a
    `MultiLabelCollator`. A model with `config.problem_type="single_label_classification"` takes one class id per row,
    and trains on one-hot labels with the same masks; preset `default` then decides for classes that are equally
    frequent (`plm_prior="balanced"`).

    Args:
        model, ..., preprocess_logits_for_metrics: as for `Trainer`. Plain `TrainingArguments` mean the preset
            `default`.
        objective: a callable that overrides the named objective, see `PLMLoss`.
        label_counts: `LabelCounts` of the training set, or a mapping as for `LabelCounts.from_mapping`. None counts
            the labels of the training set; for a stream with `plm_update_steps`, it estimates them during training.

    Attributes:
        label_space: the `LabelSpace`: names, order, number, column and form of the labels.
        label_counts: the `LabelCounts` in use; all 0 for a stream whose counts `plm_state` estimates.
        plm_loss: the `PLMLoss`.
        plm_state: the current `PLMState`.

    Raises:
        ValueError: if the labels cannot be counted, or two sources disagree about them: the model, the training data,
            an evaluation set, `label_counts`, the collator, the metrics.
    """

    loss_is_scaled_for_ga = True

    def __init__(
        self,
        model: nn.Module | None = None,
        args: TrainingArguments | None = None,
        data_collator: Callable[[list[Any]], dict[str, Any]] | None = None,
        train_dataset: Any = None,
        eval_dataset: Any = None,
        processing_class: Any = None,
        model_init: Callable[..., Any] | None = None,
        compute_loss_func: Callable[..., Any] | None = None,
        compute_metrics: Callable[[Any], dict[str, Any]] | None = None,
        callbacks: list[TrainerCallback] | None = None,
        optimizers: tuple[Any, Any] = (None, None),
        optimizer_cls_and_kwargs: tuple[type[torch.optim.Optimizer], dict[str, Any]] | None = None,
        preprocess_logits_for_metrics: Callable[[Tensor, Tensor], Tensor] | None = None,
        *,
        objective: Objective | None = None,
        label_counts: LabelCounts | Mapping[str, Any] | None = None,
    ):
        if compute_loss_func is not None:
            raise ValueError(
                "compute_loss_func is set; PLMTrainer masks an element-wise objective: pass objective=..."
            )
        super().__init__(
            model=model,
            args=args,
            data_collator=data_collator,
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            processing_class=processing_class,
            model_init=model_init,
            compute_metrics=compute_metrics,
            callbacks=callbacks,
            optimizers=optimizers,
            optimizer_cls_and_kwargs=optimizer_cls_and_kwargs,
            preprocess_logits_for_metrics=preprocess_logits_for_metrics,
        )
        if self.args.label_smoothing_factor != 0:
            raise ValueError(
                f"label_smoothing_factor is {self.args.label_smoothing_factor}; PLMTrainer masks labels and cannot "
                "smooth them: set it to 0"
            )
        if not isinstance(self.args, PLMTrainingArguments):
            logger.info("The arguments are plain TrainingArguments: labels are masked as plm_preset='default' does")
        self.objective: Objective | None = objective
        self._checkpoint: str | os.PathLike[str] | None = None
        self._evaluations: list[Evaluation] = []
        self.settle_labels(train_dataset, label_counts)
        self.plm_loss = self._make_loss()
        self._warn_of_unused_arguments()
        self.add_callback(PLMCallback(self))
        for tracker in TRACKERS:  # after PLMCallback, which sends pictures before the trackers close
            if (callback := self.pop_callback(tracker)) is not None:
                self.add_callback(guard_tracker(callback))
        for printer in printers():
            if (callback := self.pop_callback(printer)) is not None:
                self.add_callback(shorten_logs(callback, self.left_out_of_short_logs))

    @property
    def plm_state(self) -> PLMState:
        """The current counts, measurements and ideal ratios of the labels."""
        return self.plm_loss.state

    def _make_loss(self) -> PLMLoss:
        """A loss with the initial ideal ratios and the current settings of the arguments."""
        settings = self.args.plm_settings() if isinstance(self.args, PLMTrainingArguments) else {}
        if self.objective is not None:
            settings["objective"] = self.objective
        if self._is_single_label and settings.get("prior") is None:
            settings["prior"] = SINGLE_LABEL_PRIORS.get(settings.get("preset", "default"))
        if not self._is_single_label and settings.get("prior") == "balanced":
            raise ValueError(
                "plm_prior is 'balanced', which is for one class per row: use 'ideal' or 'data', or set "
                "model.config.problem_type to 'single_label_classification'"
            )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SettingWithoutEffect)  # plm_settings has warned already
            return PLMLoss(
                self.label_counts,
                **settings,
                seed=self.args.seed,
                fused=self._argument("plm_fused"),
                sparse=self._is_sparse,
            )

    def _warn_of_unused_arguments(self) -> None:
        """Warn of arguments that have no effect in this trainer; `plm_settings` warns of those that never have one."""
        if self.objective is not None and self._argument("plm_objective") is not None:
            logger.warning(f"plm_objective='{self._argument('plm_objective')}' is not used: objective is given")
        settings = self.plm_loss.settings
        if settings.update_steps and not settings.adapts and not self.plm_state.is_estimating:
            reason = "plm_rule is 'fixed'" if settings.rule == "fixed" else "plm_change_rate is 0"
            logger.warning(f"plm_update_steps has no effect: {reason}, and the counts are known")

    def begin_training(self) -> None:
        """Begin with the initial ideal ratios, or with those of the checkpoint that training resumes from.

        Called when training begins. Earlier changes to `plm_state` are lost, and the model's decisions are removed.
        """
        self.settle_changed_labels()
        self._configure_model()
        self.plm_loss = self._make_loss()
        if self._checkpoint is not None and not self._argument("plm_restart"):
            self._resume(self._checkpoint)
        self.plm_state.to(self.args.device)
        self._evaluations = []
        end_decisions(self._config, "training begins")

    def _resume(self, checkpoint: str | os.PathLike[str]) -> None:
        state = load_checkpoint(checkpoint)
        found = self.plm_state.differences(state)
        if found and self._argument("plm_keep_ratios"):
            self.plm_state.adopt_ratios(state)
            return
        if found:
            keep = ", or continue with the old ones (plm_keep_ratios=True)" if self.plm_state.can_adopt(state) else ""
            raise ValueError(
                f"{checkpoint} (there) does not fit this run (here): {'; '.join(found)}. Use the earlier settings and "
                f"data; or start with new ideal ratios (plm_restart=True){keep}"
            )
        self.plm_loss.state = state

    def train(
        self,
        resume_from_checkpoint: str | bool | None = None,
        trial: Any = None,
        ignore_keys_for_eval: list[str] | None = None,
    ) -> TrainOutput:
        """As `Trainer.train`; the ideal ratios start at their initial values, or at those of the checkpoint.

        The model's thresholds and calibration are removed: they do not fit the model after training.

        Raises:
            FileNotFoundError, ValueError: if the PLM state of the checkpoint is missing or damaged, or has different
                labels, settings or label counts.
            ValueError: if a model that is sharded by `distributed_config` is resumed, which `Trainer` cannot do.
        """
        if resume_from_checkpoint and getattr(self.model, "is_distributed_loading_by_transformers", False):
            raise ValueError(
                f"resume_from_checkpoint is {resume_from_checkpoint!r}; a model that distributed_config shards cannot "
                "be resumed: no checkpoint has its optimizer. Load the model from the checkpoint, and train it again"
            )
        if resume_from_checkpoint is True:
            resume_from_checkpoint = get_last_checkpoint(self.args.output_dir) or True
        self._checkpoint = None if isinstance(resume_from_checkpoint, bool | None) else resume_from_checkpoint
        if self._checkpoint is not None:
            self.begin_training()  # a state that does not fit raises before anything else is read
        output = super().train(resume_from_checkpoint, trial, ignore_keys_for_eval)
        self.warn_of_failed_uploads()
        return output._replace(training_loss=output.metrics["train_loss"])

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """As `Trainer.log`; with several ranks, `train_loss` is their mean.

        `Trainer` averages the losses that it logs over the ranks, but for the steps since the last log it takes the
        losses of its own rank.
        """
        if self.args.world_size > 1 and {"train_loss", "train_runtime"} <= logs.keys():  # all ranks log it at the end
            own = torch.tensor(logs["train_loss"], device=self.args.device)
            logs["train_loss"] = self.accelerator.reduce(own, reduction="mean").item()
        super().log(logs, start_time)

    def end_training(self) -> None:
        """With `load_best_model_at_end`, load the state of the best model; then make the pictures of the run."""
        best = self.state.best_model_checkpoint
        if self.args.load_best_model_at_end and best is not None:
            try:
                self._resume(best)
                self.plm_state.to(self.args.device)
            except (OSError, ValueError) as error:
                logger.warning(f"plm_state is that of the last step; that of the best model cannot be loaded: {error}")
        if self.args.should_save:
            self.report_plots()

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor | tuple[Tensor, Any]:
        """The masked or weighted loss in training; the mean of the objective in evaluation.

        The model does not get the labels. `num_items_in_batch`, from `get_batch_samples`, is the number of known
        labels of the whole accumulated batch over all ranks. If it is None, and in evaluation, only this batch counts.

        Returns:
            the loss, float32 scalar; with `return_outputs` also the model's outputs; if they are a tuple, it begins
            with the loss.

        Raises:
            ValueError: if the batch has no labels, or the model's output has no logits.
        """
        labels = self._labels_of(inputs)
        if not model.training:
            labels = self._without_repeated_rows(labels)
        outputs = model(**{name: value for name, value in inputs.items() if name != self.label_names[0]})
        if isinstance(outputs, Tensor):
            outputs = (outputs,)
        num_known = None
        if model.training and num_items_in_batch is not None:
            num_known = num_items_in_batch / self.accelerator.num_processes  # gradients are averaged over the ranks
        loss = self.plm_loss.train(model.training)(logits_of(outputs), labels, num_known)
        if not model.training:
            known = self._count_known(labels)
            self._eval_totals += torch.stack([loss.detach() * known, known])
        if isinstance(outputs, tuple):
            outputs = (loss, *outputs)  # where Trainer expects the loss
        elif isinstance(outputs, Mapping) and next(name for name in outputs if name != "loss") != "logits":
            outputs = {"logits": outputs["logits"], **outputs}  # metrics use the first output
        return (loss, outputs) if return_outputs else loss

    def left_out_of_short_logs(self) -> set[str]:
        """As in `EvaluationTrainer`; also the `SUMMARY_DETAILS` of the ideal ratios."""
        return super().left_out_of_short_logs() | SUMMARY_DETAILS

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """As `Trainer.save_model`; it also saves the `PLMState` as `plm_state.safetensors`.

        Pictures of a run in the same folder are made again, to show the saved model. For an adapter, it also saves the
        model's configuration: label names, problem type and decisions.

        Any rank may call it at any time, with or without the others.
        """
        self.plm_loss.raise_for_wrong_labels()
        folder = output_dir or self.args.output_dir or "."
        os.makedirs(folder, exist_ok=True)
        save_checkpoint(self.plm_state, folder, self.args.should_save)
        if self.args.should_save and is_adapter(self.model):
            self._config.save_pretrained(folder)
        super().save_model(output_dir, _internal_call)
        if not _internal_call:  # push_to_hub makes them with its card
            self.refresh_plots(folder)
