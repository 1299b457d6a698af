"""Decides in which form to read a label column."""

from collections.abc import Sequence

from .label_formats import LABEL_FORMATS, LabelRows


def check_label_format(label_format: str) -> None:
    """Raise a ValueError unless `label_format` is `auto` or one of `LABEL_FORMATS`."""
    if label_format not in ("auto", *LABEL_FORMATS):
        raise ValueError(f"label_format is {label_format!r}; use 'auto', 'multi_hot', 'ids' or 'names'")


def candidate_forms(
    rows: LabelRows, label_format: str, are_class_ids: bool = False, num_labels: int | None = None
) -> tuple[str, ...]:
    """The forms to try: the declared one, or with `auto` those that the column's type allows.

    Args:
        are_class_ids: whether the column's type says that its integers are class ids.
        num_labels: the number of labels, if it is known. With 1, a number per row is the value of that label.

    Raises:
        ValueError: if `label_format` is neither `auto` nor in `LABEL_FORMATS`.
    """
    check_label_format(label_format)
    if label_format != "auto":
        return (label_format,)
    if are_class_ids and "class_id" not in rows.forms and rows.value_names is None:
        return ("ids",)
    return ("multi_hot",) if rows.forms == ("class_id",) and num_labels == 1 and not are_class_ids else rows.forms


def common_forms(forms_of_each: Sequence[Sequence[str]], column: str) -> list[str]:
    """The forms in which all of several data sets can be read; empty if one of them cannot be read at all.

    Raises:
        ValueError: if each can be read, but not all in the same form.
    """
    forms = [form for form in forms_of_each[0] if all(form in each for each in forms_of_each)]
    if not forms and all(forms_of_each):
        kinds = ", ".join(f"data set {index} as {' or '.join(each)}" for index, each in enumerate(forms_of_each))
        raise ValueError(
            f"column '{column}' has no form that all data sets share: {kinds} can be read. Give lists of names in "
            "all of them, or lists of class ids, or multi-hot vectors"
        )
    return forms


def one_reading(forms: Sequence[str], errors: dict[str, ValueError], column: str) -> str:
    """The only form in which all rows can be read.

    Args:
        forms: the forms that fit all rows.
        errors: form -> error, for the other forms that the column's type allows.

    Raises:
        ValueError: if no form fits, or more than one.
    """
    if len(forms) == 1:
        return forms[0]
    if forms:
        raise ValueError(
            f"column '{column}': the rows can be read in {len(forms)} ways, as {' and as '.join(forms)} ([0, 1] can "
            "be the ids of both classes, or a vector with only the second one). Pass label_format='ids' or "
            "label_format='multi_hot' to count_labels, or to a MultiLabelCollator that PLMTrainer gets as its "
            "data_collator"
        )
    if len(errors) == 1:
        raise next(iter(errors.values()))
    raise ValueError("; ".join(f"read as {form}: {error}" for form, error in errors.items()))
