"""The labels of a `Trainer`: one label space, with which every data set is compared."""

import itertools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor
from torch.utils.data import DataLoader
from transformers.trainer_utils import has_length
from transformers.utils import logging

from .counting import check_labels
from .hub import HubTrainer
from .label_columns import feature_names_of
from .label_counts import LabelCounts
from .label_setup import collator_for, problem_type_for, settle_labels, write_labels
from .label_space import LabelSpace, label_order, read_id2label, shown_list
from .label_tensors import known_labels, one_hot_labels
from .metrics import BatchwiseMetrics, PredictionScorer
from .sampling import ClassAwareDataset
from .stream_checks import check_ends_together, check_no_row_is_repeated, check_whole
from .training_args import PLMTrainingArguments

logger = logging.get_logger(__name__)


class LabelTrainer(HubTrainer):
    """A `Trainer` whose data sets all have the labels of one label space, in the order of the model's outputs.

    `settle_labels` determines the label space. Each data loader gets a collator that puts the labels in that order.

    Attributes:
        label_space: the `LabelSpace`.
        label_counts: how often each label occurs in training.
    """

    label_space: LabelSpace
    label_counts: LabelCounts
    _evaluated = "the evaluation data"
    _named_first: tuple[list[str], str] | None = None

    def settle_labels(self, rows: Any, label_counts: LabelCounts | Mapping[str, Any] | None) -> None:
        """Determine the label space, count the labels, and compare all other sources of labels with them.

        Args:
            rows: the training data as given.
            label_counts: the counts as given.

        Raises:
            ValueError: if the labels cannot be counted, or two sources disagree about them.
        """
        self._given_rows, self._given_counts = rows, label_counts
        self.label_names = self.label_names or ["labels"]  # the model's forward may have no argument for labels
        self.train_dataset = self._training_rows()
        self.label_space, self.label_counts = settle_labels(
            self.train_dataset,
            label_counts,
            self._config,
            self.data_collator,
            self.label_names[0],
            self._argument("plm_update_steps"),
        )
        self._configure_model()
        self.data_collator = collator_for(self.data_collator, self.label_space, None)
        self._check_evaluation_sets()
        if isinstance(self.compute_metrics, BatchwiseMetrics):
            self._check_metrics(self.compute_metrics)
        self._settled_for = self._training_data()

    def settle_changed_labels(self) -> None:
        """Call `settle_labels` again if `train_dataset` was replaced, or a search changed how its rows are drawn."""
        rows, is_class_aware, seed = self._training_data()
        if rows is not self._settled_for[0]:
            self._given_rows = rows
        elif (is_class_aware, seed) == self._settled_for[1:]:
            return
        self.settle_labels(self._given_rows, self._given_counts)

    def _training_data(self) -> tuple[Any, bool, int]:
        """The training data as far as the labels depend on them: the rows, and how they are drawn."""
        return self.train_dataset, self._argument("plm_class_aware"), self.args.seed

    def _check_evaluation_sets(self) -> None:
        """Compare each set with the label space; if that has no names, compare the sets with each other."""
        sets = self.eval_dataset if isinstance(self.eval_dataset, dict) else {None: self.eval_dataset}
        self._named_first = None
        for name, each in sets.items():
            self._check_evaluation_set(each, "eval_dataset" if name is None else f"eval_dataset[{name!r}]")

    def _check_evaluation_set(self, rows: Any, source: str) -> None:
        """Compare a set with the label space; if that has no names, with the first set or metrics that have names."""
        check_labels(rows, self.label_space, source)
        if self.label_space.names is not None:
            return
        if isinstance(self.compute_metrics, BatchwiseMetrics):
            self._compare_with_first(self.compute_metrics.label_counts.label_names, "compute_metrics")
        self._compare_with_first(feature_names_of(rows, self.label_space.column), source)

    def _compare_with_first(self, names: list[str] | None, source: str) -> None:
        if names is None:
            return
        self._named_first = first = self._named_first or (names, source)
        if label_order(names, source, *first) is not None:
            raise ValueError(
                f"{source} has the label names {shown_list(names)}, and {first[1]} has {shown_list(first[0])}, in "
                "a different order; the model and its training data have no names that show which order is right: set "
                "model.config.id2label"
            )

    def _check_metrics(self, metrics: BatchwiseMetrics) -> None:
        if self._is_single_label:
            raise ValueError(
                "compute_metrics is for multi-label models, and this one predicts one class per row "
                "(config.problem_type); give it metrics of logits.argmax(-1)"
            )
        metrics.check_fits(self.label_counts)
        if isinstance(metrics, PredictionScorer) and metrics.thresholds.any():
            logger.warning(
                "The metrics have a threshold other than 0.5, but predict and pipelines decide at 0.5 until "
                "tune_thresholds has saved thresholds in the model, which are then used everywhere"
            )
        names = feature_names_of(self.train_dataset, self.label_space.column)
        if metrics.label_counts.label_names is None and self.label_space.order_of(names, "train_dataset") is not None:
            raise ValueError(
                "train_dataset has its label names in a different order than the model, and the metrics were made "
                "from counts without names: make them from counts with names, such as count_labels(train_dataset)"
            )

    @property
    def _config(self) -> Any:
        """The model's configuration; None if it has none."""
        return getattr(self.model, "config", None)

    @property
    def _is_sparse(self) -> bool:
        """Whether the labels of a batch are class ids."""
        return getattr(self.data_collator, "sparse", False)

    def _argument(self, name: str) -> Any:
        """A field of `PLMTrainingArguments`; its default for plain `TrainingArguments`."""
        return getattr(self.args, name, getattr(PLMTrainingArguments, name))

    def _training_rows(self) -> Any:
        """The training data as given; with `plm_class_aware`, rows drawn by class."""
        rows, is_class_aware = self._given_rows, self._argument("plm_class_aware")
        if isinstance(rows, ClassAwareDataset):
            rows.set_epoch(0)  # it may come from an earlier training
            return rows
        if not is_class_aware:
            return rows
        if not isinstance(rows, Dataset):
            raise ValueError(
                f"plm_class_aware is True and train_dataset is a {type(rows).__name__}; class-aware sampling needs a "
                "datasets.Dataset"
            )
        label_format = getattr(self.data_collator, "label_format", "auto")
        num_labels, names = getattr(self._config, "num_labels", None), read_id2label(self._config)
        return ClassAwareDataset(rows, num_labels, self.label_names[0], label_format, names, self.args.seed)

    def _configure_model(self) -> None:
        """Write problem type and label names into the model's configuration; `model_init` may have made a new one."""
        names = read_id2label(self._config)
        if names is not None and names != self.label_space.shown_names:
            label_order(names, "the new model's config.id2label", self.label_space.shown_names, "the training run")
            raise ValueError("the new model's config.id2label has a different order than that of the first model")
        problem_type = problem_type_for(self._config, self.label_space.form)
        self._is_single_label = problem_type == "single_label_classification"
        write_labels(self._config, self.label_space, problem_type)

    def get_train_dataloader(self) -> DataLoader[Any]:
        """As `Trainer.get_train_dataloader`; first compares the labels with the label space."""
        self.settle_changed_labels()
        rows = self.train_dataset
        with self._collating(rows.drawn if isinstance(rows, ClassAwareDataset) else rows):
            loader = super().get_train_dataloader()
        check_no_row_is_repeated(loader, "train_dataset")
        return loader

    def get_eval_dataloader(self, eval_dataset: Any = None) -> DataLoader[Any]:
        """As `Trainer.get_eval_dataloader`; first compares the labels with the label space."""
        rows: Any = eval_dataset if eval_dataset is not None else self.eval_dataset
        source, name = "eval_dataset", None
        if isinstance(rows, str):
            own: Any = self.eval_dataset
            rows, source, name = own[rows], f"eval_dataset[{rows!r}]", rows
        elif rows is not self.eval_dataset:
            source = "the data set given to evaluate()"
        self._evaluated = describe_data(rows, name)
        with self._collating(rows, source):
            loader = super().get_eval_dataloader(eval_dataset)
        check_whole(loader, source)
        return loader

    def get_test_dataloader(self, test_dataset: Any) -> DataLoader[Any]:
        """As `Trainer.get_test_dataloader`; first compares the labels with the label space."""
        source = "the data set to predict"
        with self._collating(test_dataset, source):
            loader = super().get_test_dataloader(test_dataset)
        check_whole(loader, source)
        return loader

    @contextmanager
    def _collating(self, rows: Any, source: str | None = None) -> Iterator[None]:
        """Check the labels of a data set, and use its collator while its data loader is made."""
        if source is not None:
            self._check_evaluation_set(rows, source)
        collator = self.data_collator
        self.data_collator = collator_for(collator, self.label_space, rows)
        try:
            yield
        finally:
            self.data_collator = collator

    def _labels_of(self, inputs: Mapping[str, Any]) -> Tensor:
        """The labels of a batch, as `PLMLoss.forward` takes them."""
        name = self.label_names[0]
        if inputs.get(name) is None:
            raise ValueError(f"the batch has no '{name}', only {list(inputs)}; PLMTrainer needs labels for its loss")
        labels = inputs[name]
        return one_hot_labels(labels, self.label_space.num_labels) if self._is_single_label else labels

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[Any], Tensor]:
        """The batches of one optimizer step, and the number of their known labels over all ranks (at least 1).

        Raises:
            ValueError: if this rank's part of a stream has ended and the part of another rank has not.
        """
        batches = list(itertools.islice(epoch_iterator, num_batches))
        name = self.label_names[0]
        if batches and name in batches[-1]:  # only this batch can be the last of the epoch
            batches[-1] = {**batches[-1], name: self._without_repeated_rows(batches[-1][name])}
        totals = torch.tensor([0, len(batches)], device=device)
        for batch in batches:
            totals[0] += self._count_known(self._labels_of(batch)).to(device)
        num_known, batches_of_all = self.accelerator.reduce(totals, reduction="sum")
        if self.args.world_size > 1 and len(batches) < num_batches:  # once per epoch, so it may wait for the device
            check_ends_together(len(batches), batches_of_all.item())
        return batches, num_known.clamp(min=1)

    def _without_repeated_rows(self, labels: Tensor) -> Tensor:
        """The labels of a batch; unknown in repeated rows at the end of an epoch.

        With several ranks, accelerate repeats rows to make the last batches equally large. Without their labels, these
        rows are in neither the loss nor the histograms, so several ranks give the same result as one.
        """
        gradient_state = self.accelerator.gradient_state
        if self.args.world_size == 1 or not gradient_state.end_of_dataloader or gradient_state.remainder <= 0:
            return labels
        own_rows = max(gradient_state.remainder - self.args.process_index * len(labels), 0)
        holds_no_unknown = labels.dtype in (torch.bool, torch.uint8)
        labels = labels.to(torch.int16) if holds_no_unknown else labels.clone()
        labels[own_rows:] = -1 if self._is_sparse else torch.nan if labels.is_floating_point() else -100
        return labels

    def _count_known(self, labels: Tensor) -> Tensor:
        """How many labels of a batch are known, int64 `()`."""
        if self._is_sparse:
            return (labels[:, 0] != -1).sum() * self.label_space.num_labels
        return known_labels(labels).sum()


def describe_data(rows: Any, name: str | None = None) -> str:
    """A data set in the words of the model card: its name or split, if it has one, and its number of rows.

    Args:
        name: the name of the set, if there are several.
    """
    split = getattr(rows, "split", None)
    what = "the evaluation data"
    if name is not None:
        what += f" '{name}'"
    elif split is not None:
        what = f"the split '{split}'"
    return what + (f", {len(rows):,} rows" if has_length(rows) else "")
