"""What a trainer finds out about its labels before it trains: their counts, their names, and the problem type."""

from collections.abc import Mapping
from typing import Any

from transformers.trainer_utils import has_length
from transformers.utils import logging

from .label_counts import LabelCounts, feature_names_of, read_labels
from .sampling import ClassAwareDataset

logger = logging.get_logger(__name__)


def count_training_labels(
    train_dataset: Any,
    label_counts: LabelCounts | Mapping[str, Any] | None,
    config: Any,
    column: str,
    label_format: str,
    update_steps: int | None,
) -> tuple[LabelCounts, str | None]:
    """The label counts of a training set, as given or counted, and the form of the labels where the data tell it.

    Args:
        train_dataset: None to evaluate or predict only: then all counts are 0.
        label_counts: those given; a mapping as for `LabelCounts.from_mapping`.
        config: the model's; its `num_labels` and label names count, if it has any.
        column, label_format: see `count_labels`.
        update_steps: `plm_update_steps`, needed for a stream whose counts are estimated on the way.

    Raises:
        ValueError: if the labels cannot be counted, or their number is not the model's.
    """
    num_labels, names, form = getattr(config, "num_labels", None), own_label_names(config), None
    if label_counts is not None:
        counts = _given_counts(train_dataset, label_counts, names)
    elif train_dataset is None:
        counts = LabelCounts([0] * (num_labels or 1), [0] * (num_labels or 1), names)
    elif not has_length(train_dataset):
        counts = _counts_to_estimate(num_labels, names or feature_names_of(train_dataset, column), update_steps)
    else:
        if isinstance(train_dataset, ClassAwareDataset):  # a rare name may be in no row of the first epoch
            train_dataset, names = train_dataset.drawn, names or train_dataset.label_names
        counts, form = read_labels(train_dataset, num_labels, column, label_format, names)
    if num_labels is not None and counts.num_labels != num_labels:
        raise ValueError(
            f"the model has num_labels={num_labels}, there are counts of {counts.num_labels} labels; make the "
            f"model with num_labels={counts.num_labels}"
        )
    return counts, form


def _given_counts(
    train_dataset: Any, label_counts: LabelCounts | Mapping[str, Any], names: list[str] | None
) -> LabelCounts:
    if isinstance(label_counts, Mapping):
        num_rows = len(train_dataset) if has_length(train_dataset) else None
        label_counts = LabelCounts.from_mapping(label_counts, num_rows)
    if names is not None and label_counts.label_names is not None:
        return label_counts.reordered(names)
    return label_counts


def _counts_to_estimate(num_labels: int | None, names: list[str] | None, update_steps: int | None) -> LabelCounts:
    """Counts of a stream, all 0: `PLMState` estimates them on the way."""
    if update_steps is None or num_labels is None:
        raise ValueError(
            "train_dataset has no length, so its labels are not counted beforehand. Set plm_update_steps, and the "
            "model's config.num_labels, to estimate the counts on the way; or pass "
            "label_counts=count_labels(train_dataset)"
        )
    logger.warning(
        f"The training stream's labels are counted on the way, every {update_steps} steps (plm_update_steps); "
        "until the first count no label is masked. label_counts=count_labels(train_dataset) counts beforehand"
    )
    return LabelCounts([0] * num_labels, [0] * num_labels, names)


def own_label_names(config: Any) -> list[str] | None:
    """The label names of a model's configuration in the order of their ids; None for the generic LABEL_0, ..."""
    id2label = getattr(config, "id2label", None)
    if not id2label or all(name == f"LABEL_{index}" for index, name in id2label.items()):
        return None
    return [id2label[index] for index in sorted(id2label)]


def fit_config(config: Any, form: str | None, names: list[str] | None) -> bool:
    """Set a configuration's `problem_type` where it has none, and its label names where they are only generic.

    Args:
        config: the model's, or None.
        form: of the labels, where the data tell it.
        names: of the labels, if they have any.

    Returns:
        whether the model is single-label.

    Raises:
        ValueError: if the `problem_type` is not for labels of this form.
    """
    is_single_label = _set_problem_type(config, form)
    if config is not None and names is not None and own_label_names(config) is None:
        config.id2label = dict(enumerate(names))
        config.label2id = {name: index for index, name in enumerate(names)}
    return is_single_label


def _set_problem_type(config: Any, form: str | None) -> bool:
    """Set `config.problem_type` where it is not set, by the form of the labels. Returns whether it is single-label."""
    problem_type = getattr(config, "problem_type", None)
    if problem_type is None:
        problem_type = "single_label_classification" if form == "class_id" else "multi_label_classification"
    single_label = problem_type == "single_label_classification"
    if problem_type == "regression" or (form is not None and single_label != (form == "class_id")):
        raise ValueError(
            f"the model's config.problem_type is '{problem_type}' and the labels are of the form '{form}'; set it to "
            "'multi_label_classification' for several labels per row, 'single_label_classification' for one class id"
        )
    if config is not None:
        config.problem_type = problem_type
    return single_label
