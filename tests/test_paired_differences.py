"""Differences between methods are paired by seed, and their intervals are those of Student's t."""

import pytest

from hf_plm.paired_differences import paired_difference


def test_a_difference_is_paired_and_has_an_interval():
    # Differences 1, 2 and 3: mean 2, standard error 1 / sqrt(3), t of 2 degrees of freedom 4.3027.
    found = paired_difference([11, 22, 33], [10, 20, 30])
    assert found.mean == pytest.approx(2)
    assert found.margin == pytest.approx(4.3027 / 3**0.5, rel=1e-4)
    assert found.outcome == "tie"
    assert paired_difference([11, 21, 31.1], [10, 20, 30]).outcome == "win"
    assert paired_difference([10, 20, 30], [11, 21, 31.1]).outcome == "loss"
    with pytest.raises(ValueError, match="two or more"):
        paired_difference([1], [2])
