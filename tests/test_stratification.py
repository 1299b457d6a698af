"""Rows are assigned to parts as in the paper, checked against a slow version; then the sizes are corrected."""

import numpy as np
import pytest
from scipy.sparse import csr_array

from hf_plm.stratification import stratify


def slow_assignment(positives, sizes, seed):
    """Iterative stratification of a dense matrix, row by row, without the moves that follow."""
    generator = np.random.default_rng(seed)
    num_rows, num_parts = len(positives), len(sizes)
    wanted = np.outer(positives.sum(0), sizes)  # times the number of rows, so that ties are exact
    wanted_rows = np.array(sizes)
    part_of = np.full(num_rows, -1)
    held = [set() for _ in sizes]  # the labels of each part

    def assign(rows, label=None):
        rows, order = generator.permutation(rows), generator.permutation(num_parts)

        def rank(part):
            by_size = (-wanted_rows[part], order[part])
            return by_size if label is None else (label in held[part], -wanted[label, part], *by_size)

        for row in rows:
            part_of[row] = part = min(range(num_parts), key=rank)
            wanted_rows[part] -= 1
            wanted[positives[row], part] -= num_rows
            held[part] |= set(np.flatnonzero(positives[row]))

    while (left := positives[part_of < 0].sum(0)).any():
        label = np.where(left > 0, left, num_rows + 1).argmin()
        assign(np.flatnonzero(positives[:, label] & (part_of < 0)), label)
    assign(np.flatnonzero(part_of < 0))
    return part_of


def random_positives(num_rows, num_labels, seed):
    generator = np.random.default_rng(seed)
    return generator.random((num_rows, num_labels)) < generator.uniform(0.05, 0.3, num_labels)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("sizes", [[360, 40], [280, 80, 40], [80, 80, 80, 80, 80]])
def test_rows_go_to_the_same_parts_as_in_the_slow_version(sizes, seed):
    positives = np.zeros((400, 12), bool)
    positives[:160] = random_positives(160, 12, seed)  # the rows without labels fill each part
    slow = slow_assignment(positives, sizes, seed)
    assert np.bincount(slow).tolist() == sizes  # no row needs to move, for sizes or labels
    assert all(len(set(slow[rows])) == min(rows.sum(), len(sizes)) for rows in positives.T)
    part_of, missing = stratify(csr_array(positives), np.array(sizes), seed)
    assert part_of.tolist() == slow.tolist() and not len(missing)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("sizes", [[900, 100], [800, 150, 50], [334, 333, 333]])
def test_moves_correct_the_sizes_and_take_no_label_further_from_its_share(sizes, seed):
    positives = random_positives(1000, 60, seed)
    slow = slow_assignment(positives, sizes, seed)
    assert np.bincount(slow).tolist() != sizes
    part_of, missing = stratify(csr_array(positives), np.array(sizes), seed)
    assert np.bincount(part_of).tolist() == sizes and not len(missing)
    far, far_before = (
        np.mean(
            [abs(positives[parts == part].sum(0) - positives.sum(0) * size / 1000) for part, size in enumerate(sizes)]
        )
        for parts in (part_of, slow)
    )
    assert far < 1.02 * far_before


def test_a_label_that_is_missing_from_a_part_because_of_another_one_is_moved_there():
    positives = np.array([[1, 1, 0], [1, 1, 0], [0, 1, 1], [0, 0, 1], [0, 0, 0], [0, 0, 0]], bool)
    for seed in range(20):
        part_of, missing = stratify(csr_array(positives), np.array([3, 3]), seed)
        assert not len(missing)
        assert all(len(set(part_of[positives[:, label]])) == 2 for label in range(3))


def test_a_label_that_no_assignment_can_spread_is_returned():
    positives = np.array([[1, 1, 0, 1], [0, 1, 1, 0], [1, 0, 1, 0]], bool)  # the last label has only one row
    _, missing = stratify(csr_array(positives), np.array([2, 1]), 0)
    assert len(missing) == 1 and missing[0] in (0, 1, 2)
