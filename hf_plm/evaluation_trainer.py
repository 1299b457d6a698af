"""The part of the `Trainer` that uses held-out data: evaluations, thresholds, and searches."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers.trainer_utils import BestRun, EvalLoopOutput, PredictionOutput
from transformers.utils import logging

from .decisions import read_decisions, thresholds_of, write_decisions
from .label_report import label_table
from .label_tensors import multi_hot_labels
from .label_trainer import LabelTrainer
from .loss import PLMLoss
from .metrics import EvaluationRecord, evaluating
from .run_facts import SPEED, Evaluation, RunFacts, gather_facts, scores_alone, step_of_model
from .scores import detail_scores, first_array, label_scores, labels_digest
from .thresholds import tune_thresholds

logger = logging.get_logger(__name__)

CHANGED_LOGITS = "preprocess_logits_for_metrics changes the logits, and thresholds need the original logits"


class EvaluationTrainer(LabelTrainer):
    """A `Trainer` whose evaluations use the thresholds of its model, and are kept for model card and pictures."""

    plm_loss: PLMLoss
    _evaluations: list[Evaluation]
    _last_evaluation: tuple[EvaluationRecord, str] | None = None

    def evaluation_loop(
        self,
        dataloader: DataLoader[Any],
        description: str,
        prediction_loss_only: bool | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> EvalLoopOutput:
        """As `Trainer.evaluation_loop`; the loss is the mean over all known labels, for every batch size.

        If the model has thresholds, metrics of `multilabel_compute_metrics` use them.
        """
        self.plm_loss.raise_for_wrong_labels()  # labels of training
        self._eval_totals = torch.zeros(2, device=self.args.device)  # sum of the objective, number of known labels
        thresholds = thresholds_of(self._config)
        with evaluating(self.label_counts, thresholds) as record, self._noting_changed_logits():
            output = super().evaluation_loop(
                dataloader, description, prediction_loss_only, ignore_keys, metric_key_prefix=metric_key_prefix
            )
        self.plm_loss.raise_for_wrong_labels()
        labels = np.concatenate(output.label_ids) if isinstance(output.label_ids, list) else output.label_ids
        if record.labels_digest is None and isinstance(labels, np.ndarray) and labels.ndim == 2:
            record.labels_digest = labels_digest(labels)  # user-defined metrics do not set it
        total, known = self.accelerator.reduce(self._eval_totals, reduction="sum").tolist()
        if known and output.metrics is not None:
            output.metrics[f"{metric_key_prefix}_loss"] = total / known
        self._last_evaluation = (record, metric_key_prefix)
        if thresholds is not None:
            self._warn_of_unused_thresholds()
        if self._has_changed_logits and record.was_scored:
            logger.warning(f"{CHANGED_LOGITS}: the scores are not those of the model's decisions. Remove it")
        return output

    @contextmanager
    def _noting_changed_logits(self) -> Iterator[None]:
        """Note whether `preprocess_logits_for_metrics` changes the logits."""
        self._has_changed_logits, preprocess = False, self.preprocess_logits_for_metrics
        if preprocess is None:
            yield
            return

        def preprocess_and_compare(logits: Any, labels: Any) -> Any:
            result = preprocess(logits, labels)
            before, after = (each[0] if isinstance(each, tuple) else each for each in (logits, result))
            if after is not before and not self._has_changed_logits:
                self._has_changed_logits = not (
                    after.shape == before.shape
                    and torch.equal(after.to(before.dtype).nan_to_num(), before.nan_to_num())
                )
            return result

        self.preprocess_logits_for_metrics = preprocess_and_compare
        try:
            yield
        finally:
            self.preprocess_logits_for_metrics = preprocess

    def _warn_of_unused_thresholds(self) -> None:
        was_scored = self._last_evaluation is not None and self._last_evaluation[0].was_scored
        if self.compute_metrics is not None and not was_scored:
            logger.warning(
                "The model has thresholds (model.config.plm), and compute_metrics does not use them, because it does "
                "not call multilabel_compute_metrics(...). Add your own scores with its argument extra=function"
            )

    def keep_evaluation(self, metrics: Mapping[str, float]) -> None:
        """Keep the results of the last evaluation, for model card and pictures."""
        if self._last_evaluation is None:  # a subclass has its own evaluation_loop
            return
        evaluation = self._evaluation_of(*self._last_evaluation, metrics)
        kept = {evaluation.step, self.state.best_global_step}
        self._evaluations = [each for each in [*self._evaluations, evaluation] if each.step in kept]
        if not self.is_in_train:
            self.refresh_plots()

    def _evaluation_of(self, record: EvaluationRecord, prefix: str, metrics: Mapping[str, float]) -> Evaluation:
        decisions = read_decisions(self._config) if self._config is not None else None
        if decisions is not None and record.metrics_thresholds is not None:
            decisions = replace(decisions, thresholds=tuple(np.nan_to_num(record.metrics_thresholds)))
        return Evaluation(
            data=self._evaluated,
            step=step_of_model(self.args, self.state),
            metrics=scores_alone(metrics, prefix),
            label_scores=record.label_scores,
            groups=record.groups,
            labels_digest=record.labels_digest,
            decisions=decisions,
        )

    def left_out_of_short_logs(self) -> set[str]:
        """The names of the last evaluation's metrics that terminals do not show: `detail_scores` and timings.

        Terminals always show the metric that selects the best model.
        """
        if self._last_evaluation is None:
            return set()
        record, prefix = self._last_evaluation
        names = {*SPEED, *(detail_scores(record.groups) if record.groups is not None else ())}
        best = (self.args.metric_for_best_model or "").removeprefix("eval_")
        return {f"{prefix}_{name}" for name in names} - {f"eval_{best}"}

    def label_report(self, dataset: Any = None) -> pd.DataFrame:
        """The scores of each label, from the most frequent label in training to the rarest.

            report = trainer.label_report(test_set)
            report[report.group == "tail"].sort_values("recall")

        Args:
            dataset: rows with labels to predict now, which is not an evaluation for the model card. None for the last
                evaluation of the current model; with several evaluation sets, that of the last set.

        Returns:
            see `label_table`: a row for each label, with its name as the index.

        Raises:
            ValueError: if the current model was not evaluated, the evaluation has no scores of labels, or the model
                predicts one class per row.
        """
        if self._is_single_label:
            raise ValueError(
                "label_report is for multi-label models, and this one predicts one class per row; "
                "use sklearn.metrics.classification_report instead"
            )
        facts = self.run_facts()
        evaluation = self._score_labels(dataset) if dataset is not None else facts.evaluation
        if evaluation is None:
            raise ValueError(
                "this model has not been evaluated since it was made or trained; call trainer.evaluate() first, or "
                "label_report(dataset)"
            )
        if evaluation.label_scores is None:
            raise ValueError(
                "the last evaluation has no scores for each label; give the trainer "
                "compute_metrics=multilabel_compute_metrics(train_set), or call label_report(dataset)"
            )
        thresholds = evaluation.decisions.thresholds if evaluation.decisions is not None else None
        return label_table(facts.label_counts, evaluation.label_scores, evaluation.groups, thresholds)

    def _score_labels(self, rows: Any) -> Evaluation:
        """The scores of each label on a data set, also without `compute_metrics`."""
        output = self.predict(rows)
        record, prefix = self._last_evaluation or (EvaluationRecord(self.label_counts), "test")
        if not record.was_scored:
            thresholds = record.thresholds if record.thresholds is not None else 0.0
            record.label_scores = label_scores(*self._logits_and_labels(output, "scores of labels"), thresholds)
        return self._evaluation_of(record, prefix, {})

    def run_facts(self) -> RunFacts:
        """The current facts about the model and its training, for the model card and the pictures."""
        return gather_facts(
            self.model,
            self.args,
            self.state,
            self.plm_loss,
            self.label_space,
            self._evaluations,
            self.train_dataset,
            self.processing_class,
        )

    def prediction_step(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        prediction_loss_only: bool,
        ignore_keys: list[str] | None = None,
    ) -> tuple[Tensor | None, Any, Any]:
        """As `Trainer.prediction_step`; it converts class ids to int8 multi-hot labels."""
        loss, logits, labels = super().prediction_step(model, inputs, prediction_loss_only, ignore_keys)
        if labels is not None and self._is_sparse:
            labels = multi_hot_labels(labels, self.label_space.num_labels)
        return loss, logits, labels

    def tune_thresholds(self, dataset: Any = None, **kwargs: Any) -> np.ndarray:
        """Choose thresholds on held-out data and keep them in the model's configuration, `model.config.plm`.

        `hf_plm.predict` then uses them, and so do the metrics of `multilabel_compute_metrics` in `evaluate` and
        `predict` of every `PLMTrainer` of this model. Further training removes them.

        Args:
            dataset: rows with labels that the model was not trained on; None for `eval_dataset`.
            **kwargs: see `hf_plm.tune_thresholds`.

        Returns:
            float64, `(num_labels,)`, as logits.

        Raises:
            ValueError: if there is no data set, or the thresholds cannot be chosen.
        """
        rows: Any = dataset if dataset is not None else self.eval_dataset
        if rows is None or isinstance(rows, dict):
            raise ValueError(f"eval_dataset is {'a dictionary of several sets' if rows else None}; pass dataset=...")
        logits, labels = self._logits_and_labels(self.predict(rows), "thresholds")
        thresholds = tune_thresholds(logits, labels, **{"label_names": self.label_space.shown_names, **kwargs})
        decisions = replace(
            read_decisions(self._config), thresholds=tuple(thresholds.tolist()), tuned_on=labels_digest(labels)
        )
        write_decisions(self._config, decisions)
        self._warn_of_unused_thresholds()
        self.refresh_plots()
        return thresholds

    def _logits_and_labels(self, output: PredictionOutput, what: str) -> tuple[np.ndarray, np.ndarray]:
        """The logits and labels of all rows, both `(rows, num_labels)`. `what` names their use in messages."""
        if self._has_changed_logits:
            raise ValueError(f"{CHANGED_LOGITS}: remove it to get {what}")
        if isinstance(output.label_ids, list) or np.ndim(labels := first_array(output.label_ids)) != 2:
            raise ValueError(
                f"{what} need logits and labels (rows, num_labels) of all rows: a multi-label model, data with "
                "labels, prediction_loss_only=False and eval_do_concat_batches=True"
            )
        return first_array(output.predictions), labels

    def hyperparameter_search(
        self,
        hp_space: Callable[[Any], dict[str, float]] | None = None,
        compute_objective: Callable[[dict[str, float]], float] | None = None,
        n_trials: int = 20,
        direction: str | list[str] | None = None,
        backend: Any = None,
        hp_name: Callable[[Any], str] | None = None,
        **kwargs: Any,
    ) -> BestRun | list[BestRun]:
        """As `Trainer.hyperparameter_search`; without `compute_objective` it maximises macro-F1.

        Without `compute_metrics` it minimises `eval_loss`, which is comparable only between trials of one objective.

        Raises:
            ValueError: if `direction` is the wrong one for this metric, or the evaluations have no macro-F1.
        """
        if compute_objective is None:
            goal, best = ("eval_loss", "minimize") if self.compute_metrics is None else ("eval_macro_f1", "maximize")
            if direction not in (None, best):
                raise ValueError(
                    f"direction is {direction!r}, but without compute_objective a search must {best} {goal}; leave "
                    "out direction, or pass compute_objective"
                )
            direction = best

            def compute_objective(metrics: dict[str, float]) -> float:
                if goal not in metrics:
                    raise ValueError(f"the evaluation has no {goal}, only {sorted(metrics)}; pass compute_objective")
                return metrics[goal]

        space = self._keeping_types(hp_space) if hp_space is not None else None
        return super().hyperparameter_search(
            space, compute_objective, n_trials, direction or "minimize", backend, hp_name, **kwargs
        )

    def _keeping_types(self, hp_space: Callable[[Any], dict[str, float]]) -> Callable[[Any], dict[str, float]]:
        """A search space whose values of `plm_...` fields keep their types.

        `Trainer` casts each value to the type of the previous value: 0.3 after 0 would be 0, and None an error.
        """

        def space(trial: Any) -> dict[str, float]:
            values = hp_space(trial)
            for name in values:
                if name.startswith("plm_") and hasattr(self.args, name):
                    setattr(self.args, name, None)
            return values

        return space
