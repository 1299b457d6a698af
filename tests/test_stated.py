"""A wrong comment in a document is found, and every number in a comment is checked."""

import pytest
from stated import run_block

RIGHT = [
    "print([2, 1], 1)  # 2, 1 and 1",
    "import torch\nprint(torch.tensor([2, 1], dtype=torch.int32))  # 2, 1",
    "import torch\nprint(torch.tensor([0.5, 1.0]), 1e-3)  # 0.5, 1 and 0.001",
    "print(0.0277)  # 0.03",
    "print(1234567)  # 1,234,567",
    "print(0.27, 0.21)  # close to 0.25, 0.25",
    "print({'head': 1, 'tail': 2})  # head, tail",
    "{'eval_map': 1, 'eval_head_f1': 2}  # map, ..., and head_ scores",
    "[[{'label': 'a', 'score': 0.1}]]  # of every label: {\"label\": ..., \"score\": ...}",
    "print(['a'])  # the names of the labels",
    "x = 1  # a step",
]
WRONG = [
    "print([2, 1], 1)  # 2, 1 and 2",
    "print([2, 1], 1)  # 2, 1",
    "print(-2)  # 2",
    "print(0.0377)  # 0.03",
    "print(0.4)  # close to 0.25",
    "print({'head': 1})  # head, tail",
    "{'eval_map': 1}  # map, macro_f1",
    "{'eval_map': 1}  # map, ..., and head_ scores",
    "[[{'label': 'a'}]]  # of every label: {\"label\": ..., \"score\": ...}",
    "3  # map, macro_f1",
]
UNCHECKED = [
    "print(0.5)  # half of the 2 rows",
    "x = 0.5  # about 0.5",
    "for x in range(3):  # of 3\n    pass",
    "def f():\n    return 1  # gives 1",
    "f = dict(\n    a=1,  # 2 GB\n)",
    "# 4 labels\nx = 1",
    "3  # 3",
]


@pytest.mark.parametrize("block", RIGHT)
def test_right_comments_pass(block):
    run_block(block, "document", {}, {})


@pytest.mark.parametrize("block", WRONG)
def test_wrong_comments_are_found(block):
    with pytest.raises(AssertionError, match="stated"):
        run_block(block, "document", {}, {})


@pytest.mark.parametrize("block", UNCHECKED)
def test_a_number_that_nothing_checks_is_an_error(block):
    with pytest.raises(AssertionError, match="nothing checks what is stated"):
        run_block(block, "document", {}, {})


def test_a_sentence_with_numbers_has_its_own_check():
    names = {}
    block = "x = 2  # x is 2 here"
    assert run_block(block, "document", names, {"x is 2 here": lambda names: names["x"] == 2}) == {"x is 2 here"}
    assert run_block(block, "document", names, {"x is 2 here": None}) == {"x is 2 here"}
    with pytest.raises(AssertionError, match="x is 2 here"):
        run_block(block, "document", names, {"x is 2 here": lambda names: names["x"] == 3})


def test_blocks_share_their_names():
    names = {}
    run_block("import math\n\n\ndef f():\n    return math.pi", "document", names, {})
    run_block("print(f())  # 3.14", "document", names, {})
