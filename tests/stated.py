"""Runs code of a document and compares the results with the code's comments.

- `print(...)  # 2, 1, 1 and 1, 1, 1`: the printed numbers must agree to the last digit that the comment has; after
  `close to` or `about`, to a quarter of their value.
- `trainer.evaluate()  # map, micro_f1, ..., and head_ scores`: the result, or the printed text, must have these names,
  or names that start with them. `# ...: {"label": ..., "score": ...}`: keys of the result, or of its first element.

Every other comment with a number must be in `other`, with a function of the document's names that checks it, or None
if nothing can check it.
"""

import ast
import contextlib
import io
import re
import tokenize
from collections.abc import Mapping, Sequence

NUMBER = re.compile(r"(?<![\w.])-?(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d*)?(?:e[+-]?\d+)?(?![\w])")
CLOSE = re.compile(r"^(close to|about) ")
NAME = re.compile(r"^([a-z][a-z0-9]*(?:_[a-z0-9]*)*)(?: scores)?$")


def comments_of(block):
    """Line number -> the comment on this line."""
    tokens = tokenize.generate_tokens(io.StringIO(block).readline)
    return {token.start[0]: token.string.lstrip("# ") for token in tokens if token.type == tokenize.COMMENT}


def numbers_in(text):
    """The numbers of a text as they are written."""
    return [number.replace(",", "").rstrip(".") for number in NUMBER.findall(text)]


def are_values(comment):
    """Whether a comment holds numbers and nothing else."""
    rest = NUMBER.sub("", CLOSE.sub("", comment))
    return bool(numbers_in(comment)) and not re.sub(r"\band\b|[,;\s\[\](){}]", "", rest)


def names_in(comment):
    """The names that a comment lists; an empty list if it is a sentence."""
    quoted = re.findall(r'"(\w+)": \.\.\.', comment)
    if quoted:
        return quoted
    items = [item.strip().removeprefix("and ") for item in re.split(r",| and ", comment)]
    found = [NAME.match(item) for item in items if item not in ("", "...")]
    return [match[1] for match in found] if len(found) > 1 and all(found) else []


def compare_values(comment, printed):
    """Raises an AssertionError unless the numbers of a comment are those that were printed."""
    stated, found = numbers_in(comment), [float(number) for number in numbers_in(printed)]
    assert len(stated) == len(found), f"stated: {comment}; printed: {printed}"
    for text, value in zip(stated, found, strict=True):
        last_digit = 10.0 ** -len(text.partition("e")[0].partition(".")[2])
        tolerance = abs(float(text)) / 4 if CLOSE.match(comment) else 0.5000001 * last_digit
        assert abs(value - float(text)) <= tolerance, f"stated: {comment}; printed: {printed}"


def compare_names(names, result):
    """Raises an AssertionError unless each name is a key of the result (without `eval_`) or the start of one."""
    if isinstance(result, str):
        keys = re.findall(r"\w+", result)
    else:
        while isinstance(result, Sequence) and not isinstance(result, str) and result:
            result = result[0]
        assert isinstance(result, Mapping), f"{names} stated of {result!r}"
        keys = [str(key).removeprefix("eval_") for key in result]
    for name in names:
        found = any(key.startswith(name) for key in keys) if name.endswith("_") else name in keys
        assert found, f"{name} is stated, and is not among {keys}"


def run_block(block, filename, names, other):
    """Run a block with the names of its document, and check its comments.

    Returns:
        those comments of `other` that are in the block.
    """
    comments, used = comments_of(block), set()
    for statement in ast.parse(block, filename).body:
        own = [comments.pop(line) for line in range(statement.lineno, statement.end_lineno + 1) if line in comments]
        is_expression = isinstance(statement, ast.Expr)
        is_print = is_expression and getattr(getattr(statement.value, "func", None), "id", None) == "print"
        result = None
        with contextlib.redirect_stdout(io.StringIO()) if is_print else contextlib.nullcontext() as printed:
            if is_expression:
                result = eval(compile(ast.Expression(statement.value), filename, "eval"), names)
            else:
                exec(compile(ast.Module([statement], []), filename, "exec"), names)
        for comment in own:
            if comment in other:
                used.add(comment)
                assert other[comment] is None or other[comment](names), comment
            elif is_print and are_values(comment):
                compare_values(comment, printed.getvalue())
            elif is_expression and names_in(comment):
                compare_names(names_in(comment), printed.getvalue() if is_print else result)
            else:
                assert not numbers_in(comment), f"nothing checks what is stated: {comment}"
    for comment in comments.values():  # between the statements
        assert comment in other or not numbers_in(comment), f"nothing checks what is stated: {comment}"
        used |= {comment} & set(other)
    return used
