"""Decides in which of its possible forms a label column is read."""

from collections.abc import Sequence

from .label_formats import LABEL_FORMATS, LabelRows


def check_label_format(label_format: str) -> None:
    """Raise a ValueError unless `label_format` is `auto` or one of `LABEL_FORMATS`."""
    if label_format not in ("auto", *LABEL_FORMATS):
        raise ValueError(f"label_format is {label_format!r}; use 'auto', 'multi_hot', 'ids' or 'names'")


def candidate_forms(
    rows: LabelRows, label_format: str, are_class_ids: bool = False, num_labels: int | None = None
) -> tuple[str, ...]:
    """The forms to try: the declared one, or under `auto` those that the column's type admits.

    Args:
        are_class_ids: whether the column's type says that its integers are class ids.
        num_labels: how many labels there are, if it is known; of a single one, a number per row is its value.

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
    """The forms in which the rows of several data sets can all be read; none if one of them can be read in none.

    Raises:
        ValueError: if each can be read, and not all in the same form.
    """
    forms = [form for form in forms_of_each[0] if all(form in each for each in forms_of_each)]
    if not forms and all(forms_of_each):
        kinds = ", ".join(f"data set {index} as {' or '.join(each)}" for index, each in enumerate(forms_of_each))
        raise ValueError(
            f"column '{column}' has no form that all data sets share: {kinds} can be read. Give all of them lists of "
            "names, all lists of class ids, or all multi-hot vectors"
        )
    return forms


def one_reading(forms: Sequence[str], errors: dict[str, ValueError], column: str) -> str:
    """The one form in which all rows can be read.

    Args:
        forms: the forms that no row contradicted.
        errors: for the other forms that the column's type admits, what contradicted them.

    Raises:
        ValueError: if no form fits, or if more than one does: then the data cannot tell them apart.
    """
    if len(forms) == 1:
        return forms[0]
    if forms:
        raise ValueError(
            f"column '{column}': the rows can be read in {len(forms)} ways, as {' and as '.join(forms)} ([0, 1] can "
            "name both of two classes, or be the vector of the second alone). Say which: pass label_format='ids' or "
            "label_format='multi_hot', to count_labels or to MultiLabelCollator, which PLMTrainer takes as its "
            "data_collator"
        )
    if len(errors) == 1:
        raise next(iter(errors.values()))
    raise ValueError("; ".join(f"read as {form}: {error}" for form, error in errors.items()))
