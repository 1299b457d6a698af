"""The forms of label columns, and the checks of their rows, for counting and for collating.

| form | a row | unknown labels |
|---|---|---|
| `multi_hot` | one value per label: 1 or 0, as bool, int or float; also by name, `{"cat": 1}` | NaN, -100 or null |
| `ids` | the ids of its positive classes, in any order | cannot be written |
| `names` | the names of its positive classes, in any order | cannot be written |
| `class_id` | one class id, as in a single-label task | -100 or null |

If there is only one label, a row may be its value, 1 or 0, without a list.
"""

import bisect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from .label_space import label_order, shown_list

LABEL_FORMATS = ("multi_hot", "ids", "names")


@dataclass
class LabelRows:
    """Rows of labels in flat arrays.

    Attributes:
        values (`(lengths.sum(),)`): ids or multi-hot values; for names, indices into `names`.
        lengths (int64, `(rows,)`): how many values each row has.
        forms: the forms that fit the column's type.
        names: the distinct names, if the values are names.
        value_names: the label of each value of a row, if the rows have the values by name.
        column: the column's name, for messages.
        place: the place of a row, for messages, with `{}` for its number.
        first_row: the number of the first of these rows.
        numbers (int64, `(rows,)`): the number of each row, if the numbers are not consecutive.
    """

    values: np.ndarray
    lengths: np.ndarray
    forms: tuple[str, ...]
    names: list[str] | None
    column: str
    place: str
    first_row: int
    value_names: list[str] | None = None
    numbers: np.ndarray | None = None

    def number(self, row: Any) -> Any:
        """The number in the data set of row `row` of these, or of each row in an array."""
        return self.first_row + row if self.numbers is None else self.numbers[row]

    def error(self, row: int, problem: str) -> ValueError:
        """A ValueError about row `row` of these."""
        return ValueError(f"column '{self.column}', {self.place.format(self.number(row))}: {problem}")

    def error_at(self, position: int, problem: str) -> ValueError:
        """A ValueError about the row that holds `values[position]`."""
        return self.error(int(np.searchsorted(np.cumsum(self.lengths), position, side="right")), problem)

    def reordered(self, order: np.ndarray | None) -> "LabelRows":
        """Rows of ids in a different order of the labels: id `i` becomes `order[i]`. None changes nothing."""
        return self if order is None else replace(self, values=order[self.values])

    def require(self, form: str) -> None:
        """Raise a ValueError if the form does not fit the column's type."""
        if form in self.forms:
            return
        if self.forms == ("class_id",):
            raise self.error(
                0,
                f"{self.values[0]} is a single number. Give every row a multi-hot vector, a list of class ids or a "
                "list of class names; if each row has exactly one class, set config.problem_type="
                "'single_label_classification'",
            )
        shown = self.values[0] if self.names is None else repr(self.names[0])
        raise self.error(
            0, f"{shown} cannot be read as label_format='{form}'; it fits {' or '.join(map(repr, self.forms))}"
        )


def arrow_rows(rows: Sequence[Any], column: str, place: str, first_row: int) -> pa.Array:
    """Python rows (lists, tuples, arrays, CPU tensors, or single class ids) as an Arrow array."""
    rows = [_plain(row) for row in rows]
    try:
        return pa.array(rows)
    except pa.ArrowException:
        odd = bisect.bisect_left(range(len(rows)), True, key=lambda index: not _fit_together(rows[: index + 1]))
        raise ValueError(
            f"column '{column}', {place.format(first_row + odd)}: {rows[odd]!r} is not a label row of the same kind "
            "as those before. Give every row a multi-hot vector, every row a list of class ids, or every row a list "
            "of class names"
        ) from None


def _plain(row: Any) -> Any:
    """Arrays and tensors as NumPy arrays, or as Python numbers if they have no dimension; also in a dictionary."""
    if isinstance(row, Mapping):
        return {name: _plain(value) for name, value in row.items()}
    if not hasattr(row, "__array__"):
        return row
    array = np.asarray(row)
    return array if array.ndim else array.item()


def _fit_together(rows: list[Any]) -> bool:
    try:
        pa.array(rows)
    except pa.ArrowException:
        return False
    return True


def flatten(
    array: pa.Array, column: str, place: str, first_row: int = 0, numbers: np.ndarray | None = None
) -> LabelRows:
    """Read an Arrow array of labels into flat arrays, without Python lists.

    Raises:
        ValueError: if the array holds something other than lists of numbers or names, values by name, class ids, or
            the values of one label; or if a row is null.
    """
    rows = LabelRows(np.empty(0, np.int64), np.empty(0, np.int64), (), None, column, place, first_row, None, numbers)
    if pa.types.is_struct(array.type):
        return _flatten_values_by_name(array, rows)
    if pa.types.is_integer(array.type):
        rows.forms = ("class_id",)
        rows.values = array.cast(pa.int64()).fill_null(-100).to_numpy(zero_copy_only=False)
        rows.lengths = np.ones(len(array), np.int64)
        return rows
    if _is_number(array.type):
        values = np.asarray(array.cast(pa.float32()))
        if (np.isnan(values) | np.isin(values, (0, 1, -100))).all():  # the values of one label
            rows.forms, rows.lengths, rows.values = ("multi_hot",), np.ones(len(array), np.int64), values
            return rows
    if not any(
        is_type(array.type) for is_type in (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    ):
        raise rows.error(
            0,
            f"labels of the type {array.type}. Give every row a multi-hot vector, a list of class ids or a list of "
            "class names; or, for one class per row, an integer class id",
        )
    if array.null_count:
        row = pc.index(array.is_null(), True).as_py()
        raise rows.error(row, "the labels are null. Give an empty list (no positive), or drop the row")
    rows.lengths = pc.list_value_length(array).to_numpy().astype(np.int64)
    values = array.flatten()
    if pa.types.is_null(values.type) or len(values) == 0:
        rows.forms = LABEL_FORMATS  # only empty rows
    elif pa.types.is_string(values.type) or pa.types.is_large_string(values.type):
        if values.null_count:
            position = pc.index(values.is_null(), True).as_py()
            raise rows.error_at(position, "a label name is null. Remove it from the row, or give the label a name")
        encoded = values.dictionary_encode()
        rows.forms, rows.names, values = ("names",), encoded.dictionary.to_pylist(), encoded.indices
        rows.values = values.to_numpy(zero_copy_only=False).astype(np.int64)
    elif pa.types.is_integer(values.type) and not values.null_count:
        rows.forms, rows.values = ("ids", "multi_hot"), values.to_numpy().astype(np.int64, copy=False)
    elif _is_number(values.type):
        rows.forms = ("multi_hot",)
        rows.values = values.cast(pa.int8() if pa.types.is_boolean(values.type) else values.type).to_numpy(
            zero_copy_only=False
        )
    else:
        raise rows.error(0, f"labels of the type {array.type}. Give lists of numbers or of class names")
    return rows


def _flatten_values_by_name(array: pa.StructArray, rows: LabelRows) -> LabelRows:
    """Rows with the value of each label by its name, as multi-hot rows."""
    fields = list(array.type)
    if not fields or any(not _is_number(field.type) for field in fields):
        raise rows.error(0, f"labels of the type {array.type}. Give each label 1, 0 or null by its name")
    if array.null_count:
        raise rows.error(pc.index(array.is_null(), True).as_py(), "the labels are null. Drop the row")
    columns = [pc.struct_field(array, [index]).cast(pa.float32()) for index in range(len(fields))]
    rows.forms, rows.value_names = ("multi_hot",), [field.name for field in fields]
    rows.lengths = np.full(len(array), len(fields))
    rows.values = np.stack([np.asarray(column) for column in columns], axis=1).ravel()
    return rows


def _is_number(kind: pa.DataType) -> bool:
    """Whether the values are numbers, booleans, or all null."""
    return any(
        is_type(kind) for is_type in (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean, pa.types.is_null)
    )


def read_ids(rows: LabelRows, num_labels: int | None) -> LabelRows:
    """The rows, if each is a list of distinct ids in `[0, num_labels)`; else a ValueError."""
    rows.require("ids")
    _check_range(rows, rows.values, num_labels)
    _check_distinct(rows)
    return rows


def read_class_ids(rows: LabelRows, num_labels: int | None) -> LabelRows:
    """Rows of one class id, or of none if the class is unknown (-100); else a ValueError."""
    rows.require("class_id")
    known = rows.values != -100
    _check_range(rows, np.where(known, rows.values, 0), num_labels)
    return replace(rows, values=rows.values[known], lengths=known.astype(np.int64))


def read_names(rows: LabelRows, name_to_id: dict[str, int]) -> LabelRows:
    """Rows of names as rows of ids; a ValueError for a name that is not in `name_to_id` or occurs twice in a row."""
    rows.require("names")
    _check_distinct(rows)
    names = rows.names or []
    ids = np.array([name_to_id.get(name, -1) for name in names], np.int64)[rows.values]
    if (ids < 0).any():
        position = int((ids < 0).argmax())
        first, *others = dict.fromkeys(names[index] for index in rows.values[ids < 0])
        raise rows.error_at(
            position,
            f"{first!r} is not among the {len(name_to_id)} label names {shown_list(list(name_to_id))}"
            + (f", and neither are {shown_list(others)} of other rows" if others else "")
            + ". Correct the rows, or add the names: to label_names, or for PLMTrainer to model.config.id2label",
        )
    return replace(rows, values=ids, names=None)


def read_multi_hot(rows: LabelRows, num_labels: int | None, label_names: Sequence[str] | None = None) -> np.ndarray:
    """The values as `(rows, num_labels)`, each 1, 0 or unknown; a ValueError for other widths, values and names.

    Args:
        label_names: the order of the labels, for rows with the values by name.
    """
    if rows.forms != ("class_id",) or num_labels != 1:
        rows.require("multi_hot")
    width = num_labels if num_labels is not None else int(rows.lengths[0])
    wrong_width = rows.lengths != width
    if wrong_width.any():
        row = int(wrong_width.argmax())
        raise rows.error(
            row,
            f"{rows.lengths[row]} values where there are {width} labels. Give one value per label, or, if the values "
            "are class ids, pass label_format='ids'",
        )
    values = rows.values
    wrong = ~((values == 0) | (values == 1) | (values == -100) | np.isnan(values))
    if wrong.any():
        position = int(wrong.argmax())
        raise rows.error_at(
            position,
            f"the value {values[position]} is neither 1, 0 nor unknown (NaN or -100). Correct it, or, if the values "
            "are class ids, pass them as integers with label_format='ids'",
        )
    values = values.reshape(len(rows.lengths), width)
    if rows.value_names is None or label_names is None:
        return values
    order = label_order(label_names, "the model and its training data", rows.value_names, f"column '{rows.column}'")
    return values if order is None else values[:, order]


def _check_range(rows: LabelRows, ids: np.ndarray, num_labels: int | None) -> None:
    wrong = (ids < 0) if num_labels is None else (ids < 0) | (ids >= num_labels)
    if wrong.any():
        position = int(wrong.argmax())
        limit = "0 or more" if num_labels is None else f"in [0, {num_labels})"
        raise rows.error_at(
            position,
            f"the class id {ids[position]} is not {limit}. Correct it, pass the right num_labels, or, if the row has "
            "one value per label, pass label_format='multi_hot'",
        )


def _check_distinct(rows: LabelRows) -> None:
    if rows.values.size == 0:
        return
    width = int(rows.values.max()) + 1
    key_type = np.int32 if len(rows.lengths) * width < 2**31 else np.int64
    keys = np.repeat(np.arange(len(rows.lengths), dtype=key_type) * width, rows.lengths)
    keys += rows.values.astype(key_type, copy=False)
    keys.sort()
    repeated = keys[1:] == keys[:-1]
    if repeated.any():
        row, value = divmod(int(keys[1:][repeated][0]), width)
        shown = value if rows.names is None else repr(rows.names[value])
        raise rows.error(row, f"the class {shown} is listed twice. List every class of a row once")
