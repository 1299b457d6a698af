"""`transformers.Trainer` with Partial Label Masking."""

import itertools
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import Trainer
from transformers.trainer_utils import EvalLoopOutput, TrainOutput, get_last_checkpoint
from transformers.utils import logging

from .callback import PLMCallback
from .data_collator import MultiLabelCollator
from .functional import known_labels, multi_hot_labels, one_hot_labels
from .label_counts import LabelCounts
from .label_setup import count_training_labels, fit_config, own_label_names
from .loss import MANY_LABELS, PLMLoss
from .metrics import MultiLabelComputeMetrics, first_array
from .model_card import make_model_card
from .objectives import Objective
from .reporting import TRACKERS
from .sampling import ClassAwareDataset
from .state import PLMState
from .thresholds import tune_thresholds
from .training_args import PLMTrainingArguments

logger = logging.get_logger(__name__)

STATE_NAME = "plm_state.safetensors"
"""The file of a checkpoint that holds the `PLMState`."""


class PLMTrainer(Trainer):
    """`transformers.Trainer` for imbalanced multi-label data: labels are masked out of the loss at random, so that
    the ratio of positives to negatives of each class becomes its ideal ratio, which adapts as the model learns.

        PLMTrainer(model, args, train_dataset=train_set, eval_dataset=validation_set).train()

    Labels may be multi-hot vectors, lists of class ids or lists of class names: the data collator is wrapped in a
    `MultiLabelCollator`. A model with `config.problem_type="single_label_classification"` takes one class id per row,
    and trains on one-hot labels with the same masks.

    Args:
        *args, **kwargs: all arguments of `Trainer`. A plain `TrainingArguments` means the `default` preset.
        objective: a callable that overrides the named objective, see `PLMLoss`.
        label_counts: `LabelCounts` of the training set, or a mapping as for `LabelCounts.from_mapping`; None counts
            the training set; those of a stream are estimated on the way, with `plm_update_steps`.

    Attributes:
        plm_loss: the `PLMLoss`.
        plm_state: the live `PLMState`.
        label_counts: the `LabelCounts` in use; all 0 for a stream whose counts `plm_state` estimates.

    Raises:
        ValueError: if the labels cannot be counted or contradict the model's `num_labels` or `problem_type`.
    """

    loss_is_scaled_for_ga = True

    def __init__(
        self,
        *args: Any,
        objective: Objective | None = None,
        label_counts: LabelCounts | Mapping[str, Any] | None = None,
        **kwargs: Any,
    ):
        super().__init__(*args, **kwargs)
        if self.compute_loss_func is not None:
            raise ValueError(
                "compute_loss_func is set; PLMTrainer masks an element-wise objective: pass objective=..."
            )
        if self.args.label_smoothing_factor != 0:
            raise ValueError(
                f"label_smoothing_factor is {self.args.label_smoothing_factor}; labels are masked here, not smoothed: "
                "set it to 0"
            )
        self.objective: Objective | None = objective
        self.label_names = self.label_names or ["labels"]  # a model without labels in its forward will do, too
        if getattr(self.args, "plm_class_aware", False):
            self._draw_rows_by_class()
        self.label_counts, self._label_form = count_training_labels(
            self.train_dataset,
            label_counts,
            self._config,
            self.label_names[0],
            getattr(self.data_collator, "label_format", "auto"),
            getattr(self.args, "plm_update_steps", None),
        )
        self._checkpoint: str | os.PathLike | None = None
        self._eval_totals = torch.zeros(2, device=self.args.device)  # of the objective, and of known labels
        self.start_plm()
        self._use_thresholds()
        self.add_callback(PLMCallback(self, getattr(self.args, "plm_update_steps", None)))
        for tracker in TRACKERS:  # behind PLMCallback, whose pictures come before they close
            if (callback := self.pop_callback(tracker)) is not None:
                self.add_callback(callback)

    @property
    def plm_state(self) -> PLMState:
        """Counts, measurements and ideal ratios of the labels, live."""
        return self.plm_loss.state

    @property
    def _config(self) -> Any:
        """The model's configuration; None if it has none."""
        return getattr(self.model, "config", None)

    def start_plm(self) -> None:
        """Begin with the initial ideal ratios, or with those of the checkpoint that training resumes from.

        `PLMCallback` calls it when training begins: what was done to `plm_state` before is lost.
        """
        # model_init may have made another model
        self._is_single_label = fit_config(self._config, self._label_form, self.label_counts.label_names)
        settings = self.args.plm_settings() if isinstance(self.args, PLMTrainingArguments) else {}
        if self.objective is not None:
            settings["objective"] = self.objective
        self._wrap_collator()
        self.plm_loss = PLMLoss(
            self.label_counts,
            **settings,
            seed=self.args.seed,
            fused=getattr(self.args, "plm_fused", None),
            sparse=getattr(self.data_collator, "sparse", False),
        )
        restart = isinstance(self.args, PLMTrainingArguments) and self.args.plm_restart
        if self._checkpoint is not None and not restart:
            self._load_state(self._checkpoint)
        self.plm_state.to(self.args.device)

    def load_best_state(self) -> None:
        """With `load_best_model_at_end`, the state that belongs to the best model."""
        if self.args.load_best_model_at_end and self.state.best_model_checkpoint is not None:
            self._load_state(self.state.best_model_checkpoint)

    def _load_state(self, checkpoint: str | os.PathLike) -> None:
        path = os.path.join(checkpoint, STATE_NAME)
        self.plm_loss.state = PLMState.load(path, num_labels=self.label_counts.num_labels)
        self.plm_state.keep_on_rank_zero()

    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any) -> TrainOutput:
        """As `Trainer.train`; the ideal ratios start anew, or resume with the checkpoint.

        Raises:
            FileNotFoundError, ValueError: if the checkpoint has no PLM state, a damaged one, or one of other labels or
                bins.
            ValueError: to resume a model that is sharded by `distributed_config`, which `Trainer` cannot do.
        """
        if resume_from_checkpoint and getattr(self.model, "is_distributed_loading_by_transformers", False):
            raise ValueError(
                f"resume_from_checkpoint is {resume_from_checkpoint!r}; a model that distributed_config shards cannot "
                "be resumed: its optimizer is in no checkpoint. Make the model from the checkpoint, and train it anew"
            )
        if resume_from_checkpoint is True:
            resume_from_checkpoint = get_last_checkpoint(self.args.output_dir) or True
        self._checkpoint = None if isinstance(resume_from_checkpoint, bool | None) else resume_from_checkpoint
        self.start_plm()  # a state that does not fit is named before anything else is read
        output = super().train(resume_from_checkpoint, *args, **kwargs)
        self.warn_of_failed_uploads()
        return output

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor | tuple[Tensor, Any]:
        """The masked loss while the model trains, the plain mean of the objective while it is evaluated.

        The model does not see the labels. `num_items_in_batch` is the number of known labels of the whole accumulated
        batch over all ranks, from `get_batch_samples`; None (and always in evaluation) for this batch alone.

        Returns:
            the loss, float32 scalar; with `return_outputs` also the model's outputs, after the loss if a tuple.

        Raises:
            ValueError: if the batch has no labels, or the model's output no logits.
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
        loss = self.plm_loss.train(model.training)(_logits_of(outputs), labels, num_known)
        if not model.training:
            known = self._count_known(labels)
            self._eval_totals += torch.stack([loss.detach() * known, known])
        if isinstance(outputs, tuple):
            outputs = (loss, *outputs)  # where Trainer expects the loss
        return (loss, outputs) if return_outputs else loss

    def get_batch_samples(
        self, epoch_iterator: Iterator, num_batches: int, device: torch.device
    ) -> tuple[list, Tensor]:
        """The batches of one optimizer step, and how many known labels they hold over all ranks (at least 1)."""
        batches = list(itertools.islice(epoch_iterator, num_batches))
        name = self.label_names[0]
        if batches and name in batches[-1]:  # no other can be the last of the epoch
            batches[-1] = {**batches[-1], name: self._without_repeated_rows(batches[-1][name])}
        num_known = torch.zeros((), dtype=torch.long, device=device)
        for batch in batches:
            num_known += self._count_known(self._labels_of(batch)).to(device)
        return batches, self.accelerator.reduce(num_known, reduction="sum").clamp(min=1)

    def prediction_step(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        prediction_loss_only: bool,
        ignore_keys: list[str] | None = None,
    ) -> tuple[Tensor | None, Any, Any]:
        """As `Trainer.prediction_step`; labels that come as class ids are int8 multi-hot labels from here on."""
        loss, logits, labels = super().prediction_step(model, inputs, prediction_loss_only, ignore_keys)
        if labels is not None and self.plm_loss.sparse:
            labels = multi_hot_labels(labels, self.label_counts.num_labels)
        return loss, logits, labels

    def tune_thresholds(self, dataset: Any = None, **kwargs: Any) -> np.ndarray:
        """Choose thresholds on held-out data and keep them in `model.config.plm_thresholds`.

        From then on, and in every `PLMTrainer` of the saved model, the metrics of `multilabel_compute_metrics` use
        them, in `evaluate` and in `predict`; so does `hf_plm.predict`.

        Args:
            dataset: rows with labels that the model was not trained on; None for `eval_dataset`.
            **kwargs: of `hf_plm.tune_thresholds`.

        Returns:
            float64, `(num_labels,)`, probabilities.

        Raises:
            ValueError: if there is no data set, or the thresholds cannot be chosen.
        """
        rows: Any = dataset if dataset is not None else self.eval_dataset
        if rows is None or isinstance(rows, dict):
            raise ValueError(f"eval_dataset is {'a dictionary of several sets' if rows else None}; pass dataset=...")
        output = self.predict(rows)
        thresholds = tune_thresholds(first_array(output.predictions), first_array(output.label_ids), **kwargs)
        self._config.plm_thresholds = thresholds.tolist()
        self._use_thresholds()
        return thresholds

    def _use_thresholds(self) -> None:
        thresholds = getattr(self._config, "plm_thresholds", None)
        if thresholds is not None and isinstance(self.compute_metrics, MultiLabelComputeMetrics):
            self.compute_metrics.threshold = np.array(thresholds)

    def evaluation_loop(
        self,
        dataloader: DataLoader,
        description: str,
        prediction_loss_only: bool | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> EvalLoopOutput:
        """As `Trainer.evaluation_loop`; the loss is the mean over all known labels, however the rows are batched."""
        self._eval_totals.zero_()
        output = super().evaluation_loop(
            dataloader, description, prediction_loss_only, ignore_keys, metric_key_prefix=metric_key_prefix
        )
        total, known = self.accelerator.reduce(self._eval_totals, reduction="sum").tolist()
        if known and output.metrics is not None:
            output.metrics[f"{metric_key_prefix}_loss"] = total / known
        return output

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """As `Trainer.save_model`, with the `PLMState` as `plm_state.safetensors` beside the model.

        While training runs on several ranks, all of them must call it.
        """
        if self.is_in_train:
            self.plm_state.merge_ranks()
        if self.args.should_save:
            directory = output_dir or self.args.output_dir or "."
            os.makedirs(directory, exist_ok=True)
            self.plm_state.save(os.path.join(directory, STATE_NAME))
        super().save_model(output_dir, _internal_call)

    def create_model_card(
        self,
        language: str | None = None,
        license: str | None = None,
        tags: str | list[str] | None = None,
        model_name: str | None = None,
        finetuned_from: str | None = None,
        tasks: str | list[str] | None = None,
        dataset_tags: str | list[str] | None = None,
        dataset: str | list[str] | None = None,
        dataset_args: str | list[str] | None = None,
    ) -> None:
        """Write the model card, `README.md` in the output folder, on the first rank alone; see `make_model_card`.

        `dataset_tags` are ids of data sets of the Hub, and taken for `dataset` where that is None. `dataset_args` are
        not shown.
        """
        if not self.is_world_process_zero():
            return
        folder = Path(self.args.output_dir or ".")
        card = make_model_card(
            self,
            model_name or folder.absolute().name,
            language,
            license,
            _listed(tags),
            finetuned_from,
            _listed(tasks),
            _listed(dataset or dataset_tags),
        )
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=folder, prefix="_") as temporary:
            card.save(Path(temporary) / "README.md")
            os.replace(Path(temporary) / "README.md", folder / "README.md")

    def push_to_hub(
        self,
        commit_message: str | None = "End of training",
        blocking: bool = True,
        token: str | None = None,
        revision: str | None = None,
        private: bool | None = None,
        **kwargs: Any,
    ) -> Any:
        """As `Trainer.push_to_hub`, with the model card of `create_model_card`.

        Raises:
            RuntimeError: if the upload failed; by then everything is in the output folder.
        """
        try:
            if self.hub_model_id is None:
                try:
                    self.init_hf_repo(token=token, private=private)
                except Exception:
                    self.save_model(_internal_call=True)
                    raise
            return super().push_to_hub(commit_message, blocking, token, revision, private, **kwargs)
        except Exception as error:  # what the client raises changes with its version
            raise RuntimeError(
                f"the model could not be uploaded: {error}\nNothing is lost: it is in '{self.args.output_dir}'. Call "
                "push_to_hub() again when the cause is removed (without a token: `hf auth login`, or hub_token=...)"
            ) from error

    def warn_of_failed_uploads(self) -> None:
        """Warn of each upload during training that failed, once: they run in the background, where nobody sees it."""
        push = getattr(self, "push_in_progress", None)
        for job in push.jobs if push is not None else ():
            if job.done() and not job.cancelled() and job.exception() is not None:
                logger.warning(
                    f"An upload during training failed: {job.exception()}\nNothing is lost: the checkpoints are in "
                    f"'{self.args.output_dir}'. The next save uploads again; after training, push_to_hub() does"
                )
        if push is not None:
            push.jobs = [job for job in push.jobs if not job.done()]

    def _without_repeated_rows(self, labels: Tensor) -> Tensor:
        """The labels of a batch; unknown in the rows that only fill up the last batch of an epoch on several ranks.

        accelerate evens out the ranks' last batches with rows that were there before. So that they enter neither loss
        nor histograms, and several ranks compute what one computes, their labels are taken out.
        """
        gradient_state = self.accelerator.gradient_state
        if self.args.world_size == 1 or not gradient_state.end_of_dataloader or gradient_state.remainder <= 0:
            return labels
        own_rows = max(gradient_state.remainder - self.args.process_index * len(labels), 0)
        labels = labels.clone()
        labels[own_rows:] = -1 if self.plm_loss.sparse else torch.nan if labels.is_floating_point() else -100
        return labels

    def _count_known(self, labels: Tensor) -> Tensor:
        """How many labels of a batch are known, int64 `()`."""
        if self.plm_loss.sparse:
            return (labels[:, 0] != -1).sum() * self.label_counts.num_labels
        return known_labels(labels).sum()

    def _labels_of(self, inputs: Mapping[str, Any]) -> Tensor:
        """The labels of a batch, as `PLMLoss.forward` takes them."""
        name = self.label_names[0]
        if inputs.get(name) is None:
            raise ValueError(f"the batch has no '{name}', only {list(inputs)}; PLMTrainer needs labels for its loss")
        labels = inputs[name]
        return one_hot_labels(labels, self.label_counts.num_labels) if self._is_single_label else labels

    def _draw_rows_by_class(self) -> None:
        if not isinstance(self.train_dataset, Dataset):
            raise ValueError(
                f"plm_class_aware is True and train_dataset a {type(self.train_dataset).__name__}; class-aware "
                "sampling needs a datasets.Dataset"
            )
        config = self._config
        self.train_dataset = ClassAwareDataset(
            self.train_dataset,
            getattr(config, "num_labels", None),
            self.label_names[0],
            getattr(self.data_collator, "label_format", "auto"),
            self.args.seed,
            own_label_names(config),
        )

    def _wrap_collator(self) -> None:
        if not (self._is_single_label or isinstance(self.data_collator, MultiLabelCollator)):
            names = self.label_counts.label_names or own_label_names(self._config)
            self.data_collator = MultiLabelCollator(
                self.label_counts.num_labels,
                self.data_collator,
                self._label_form or "auto",
                names,
                self.label_names[0],
                sparse=self._label_form in ("ids", "names") and self.label_counts.num_labels >= MANY_LABELS,
            )


def _listed(values: str | list[str] | None) -> list[str]:
    return [values] if isinstance(values, str) else list(values or [])


def _logits_of(outputs: Any) -> Tensor:
    """The logits in a model's output: `outputs["logits"]` of a mapping, or the first element of a tuple."""
    if isinstance(outputs, Mapping) and "logits" in outputs:
        return outputs["logits"]
    if isinstance(outputs, tuple) and outputs and isinstance(outputs[0], Tensor):
        return outputs[0]
    shown = list(outputs) if isinstance(outputs, Mapping) else type(outputs).__name__
    raise ValueError(f"the model's output ({shown}) has no logits; return them as 'logits', or first in a tuple")
