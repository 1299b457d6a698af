"""Finds the label space and the label counts of a training run."""

from collections.abc import Mapping
from typing import Any

import datasets
from transformers.trainer_utils import has_length
from transformers.utils import logging

from .counting import form_of_rows, read_labels
from .data_collator import ClassIdCollator, MultiLabelCollator
from .display import quoted
from .label_columns import check_column, feature_names_of
from .label_counts import LabelCounts
from .label_space import LabelSpace, generic_names, label_order, read_id2label, shown_list, write_id2label
from .loss import MANY_LABELS
from .sampling import ClassAwareDataset

logger = logging.get_logger(__name__)

MODEL = "model.config.id2label"


def settle_labels(
    train_dataset: Any,
    label_counts: LabelCounts | Mapping[str, Any] | None,
    config: Any,
    collator: Any,
    column: str,
    update_steps: int | None,
) -> tuple[LabelSpace, LabelCounts]:
    """The label space of a training run, and the counts of its labels in the order of that space.

    The first source with names sets their order: the model, the column's type, the given counts, the collator. If none
    has names, the names in the rows are sorted. All other sources are compared with these names and reordered.

    Args:
        train_dataset: the training data; None for evaluation or prediction only: then all counts are 0.
        label_counts: the given counts, if any; a mapping as for `LabelCounts.from_mapping`.
        config: the model's configuration, or None.
        collator: the trainer's collator; a `MultiLabelCollator` may declare the form of the rows and the names.
        column: see `LabelSpace`.
        update_steps: `plm_update_steps`; needed for a stream, whose counts are estimated during training.

    Raises:
        ValueError: if the labels cannot be counted, or two sources have different names or numbers of labels.
    """
    # a ClassAwareDataset counts by the rows of the first epoch, which may lack a rare label
    rows = train_dataset.drawn if isinstance(train_dataset, ClassAwareDataset) else train_dataset
    check_column(rows, column, "train_dataset")
    given = _given_counts(rows, label_counts)
    feature_names = feature_names_of(rows, column)
    declared = collator if isinstance(collator, MultiLabelCollator) else None
    typed = f"column '{column}' of the training data"
    sources = {
        MODEL: read_id2label(config),
        typed: feature_names,
        "label_counts": given.label_names if given is not None else None,
        "the data_collator": list(declared.label_names) if declared is not None and declared.label_names else None,
        "train_dataset": getattr(train_dataset, "label_names", None) if rows is not train_dataset else None,
    }
    names, source = next(((names, source) for source, names in sources.items() if names), (None, MODEL))
    if names is not None:
        orders = {each: label_order(others, each, names, source) for each, others in sources.items() if others}
        if given is not None and given.label_names is None and orders.get(typed) is not None:
            raise ValueError(
                f"{typed} has its label names in a different order from {source}, and label_counts has no names: give "
                "label_counts its label_names, or leave it out"
            )
    if given is not None and names is not None and given.label_names is not None:
        given = given.reordered(names, source)
    num_labels = getattr(config, "num_labels", None)
    if given is not None:
        _check_number(num_labels, given)
    label_format = declared.label_format if declared is not None else "auto"
    counts, form = _counts_and_form(rows, given, num_labels, column, label_format, names, source, update_steps)
    _check_number(num_labels, counts)
    if rows is not None and feature_names is None and form != "names" and names is not None:
        unordered = "label_counts" if isinstance(label_counts, Mapping) else None
        _check_order_of_rows({each: sources[each] for each in sources if each != unordered}, names, source, form)
    names = names if names is not None else counts.label_names
    space = LabelSpace(counts.num_labels, tuple(names) if names is not None else None, column, form)
    return space, LabelCounts(counts.positives, counts.negatives, space.names)


def _counts_and_form(
    rows: Any,
    given: LabelCounts | None,
    num_labels: int | None,
    column: str,
    label_format: str,
    names: list[str] | None,
    source: str,
    update_steps: int | None,
) -> tuple[LabelCounts, str | None]:
    """The counts, given or read, and the form of the rows; the form is None if it is not known."""
    declared = None if label_format == "auto" else label_format
    if given is not None:
        if not isinstance(rows, datasets.Dataset) or column not in rows.column_names or not len(rows):
            return given, declared
        found, form = _read(rows, given.num_labels, column, label_format, names, source)
        if form == "names" and names is None:
            raise ValueError(
                "the rows hold label names, but neither label_counts nor the model has any: give label_counts its "
                "label_names, or leave it out"
            )
        _say_other_counts(given, found)
        return given, form
    if rows is None:
        zeros = [0] * (num_labels or len(names or "1"))
        return LabelCounts(zeros, zeros, names), declared
    if not has_length(rows):
        return _counts_to_estimate(num_labels, names, update_steps), declared
    return _read(rows, num_labels, column, label_format, names, source)


def _read(
    rows: Any, num_labels: int | None, column: str, label_format: str, names: list[str] | None, source: str
) -> tuple[LabelCounts, str]:
    """As `read_labels`; the error also says if the data_collator sets the form, and which num_labels fits."""
    try:
        return read_labels(rows, num_labels, column, label_format, names, source)
    except ValueError as error:
        declared = "" if label_format == "auto" else f"read as the data_collator says, {label_format=}: "
        raise ValueError(f"{declared}{error}{_advice(rows, num_labels, column, label_format)}") from None


def _advice(rows: Any, num_labels: int | None, column: str, label_format: str) -> str:
    """The number of labels that the model needs, if the rows can be read with a different number than its own."""
    try:
        found = read_labels(rows, None, column, label_format)[0].num_labels
    except ValueError:
        return ""
    if num_labels in (None, found):
        return ""
    return (
        f". The training data have {found} labels, and the model has num_labels={num_labels}: make the model with "
        f"num_labels={found}, or with **label_space_of(train_set, validation_set).config_arguments()"
    )


def _check_order_of_rows(
    in_order: Mapping[str, list[str] | None], names: list[str], source: str, form: str | None
) -> None:
    """Raise an error for names in a different order than in `source`: rows of ids or vectors do not show the order."""
    for other, others in in_order.items():
        if others and others != names:
            rows = "" if form is not None else ", or, if they are names, MultiLabelCollator(label_format='names')"
            raise ValueError(
                f"{other} has the label names {shown_list(others)}, and {source} has {shown_list(names)}, in a "
                "different order. The rows have no names, so they do not show which is right. Give both the order of "
                f"the rows{rows}, or cast the column to ClassLabel"
            )


def _check_number(num_labels: int | None, counts: LabelCounts) -> None:
    if num_labels not in (None, counts.num_labels):
        raise ValueError(
            f"the model has num_labels={num_labels}, but there are counts of {counts.num_labels} labels; make the "
            f"model with num_labels={counts.num_labels}"
        )


def _given_counts(rows: Any, label_counts: LabelCounts | Mapping[str, Any] | None) -> LabelCounts | None:
    if isinstance(label_counts, Mapping):
        return LabelCounts.from_mapping(label_counts, len(rows) if has_length(rows) else None)
    return label_counts


def _say_other_counts(given: LabelCounts, found: LabelCounts) -> None:
    differ = (given.positives != found.positives) | (given.negatives != found.negatives)
    if differ.any():
        index = int(differ.int().argmax())
        names = given.label_names or generic_names(given.num_labels)
        logger.warning(
            f"label_counts differs from the training data in {int(differ.sum())} labels (label "
            f"{quoted(names[index])}: {given.positives[index]} positives and {given.negatives[index]} negatives "
            f"given, {found.positives[index]} and {found.negatives[index]} found). The given counts are used"
        )


def _counts_to_estimate(num_labels: int | None, names: list[str] | None, update_steps: int | None) -> LabelCounts:
    """Counts for a stream, all 0: `PLMState` estimates them during training."""
    if update_steps is None or num_labels is None:
        raise ValueError(
            "train_dataset has no length, so its labels are not counted before training. Set plm_update_steps and the "
            "model's config.num_labels to estimate the counts during training; or pass "
            "label_counts=count_labels(train_dataset)"
        )
    logger.warning(
        f"The labels of the training stream are counted during training, every {update_steps} steps "
        "(plm_update_steps); no label is masked before the first count. label_counts=count_labels(train_dataset) "
        "counts them before training"
    )
    return LabelCounts([0] * num_labels, [0] * num_labels, names)


def problem_type_for(config: Any, form: str | None) -> str:
    """The problem type of a model: that of its configuration, or if it has none, the one that fits the labels.

    Args:
        config: the model's configuration, or None.
        form: the form of the labels; None if it is not known.

    Raises:
        ValueError: if the problem type of the configuration does not fit labels of this form.
    """
    problem_type = getattr(config, "problem_type", None)
    if problem_type is None:
        problem_type = "single_label_classification" if form == "class_id" else "multi_label_classification"
    single_label = problem_type == "single_label_classification"
    if problem_type == "regression" or (form is not None and single_label != (form == "class_id")):
        raise ValueError(
            f"the model's config.problem_type is '{problem_type}' and the labels have the form '{form}'; set it to "
            "'multi_label_classification' for several labels per row, or to 'single_label_classification' for one "
            "class id"
        )
    return problem_type


def write_labels(config: Any, space: LabelSpace, problem_type: str) -> None:
    """Write the problem type and the label names into a model's configuration; ids are whole numbers."""
    if config is not None:
        config.problem_type = problem_type
    if hasattr(config, "id2label"):
        write_id2label(config, space.names, space.num_labels)


def collator_for(collator: Any, space: LabelSpace, rows: Any) -> Any:
    """A collator that converts the labels of a data set to those of a label space, in the order of the space.

    Args:
        collator: the trainer's collator; if it makes no labels, it is wrapped in a `MultiLabelCollator`.
        rows: the data set; None for rows whose class ids are in the order of the space.
    """
    source = f"column '{space.column}' of the data set"
    order = space.order_of(feature_names_of(rows, space.column), source)
    if space.form == "class_id":
        return collator if order is None else ClassIdCollator(collator, space.column, order)
    if not isinstance(collator, MultiLabelCollator):
        is_sparse = space.form in ("ids", "names") and space.num_labels >= MANY_LABELS
        collator = MultiLabelCollator(space.num_labels, collator, space.column, sparse=is_sparse)
    return collator.fitted(space, order, form_of_rows(rows, space))
