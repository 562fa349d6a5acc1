"""Bootstrap intervals against what is known of them."""

from __future__ import annotations

import numpy as np
import pytest

from evaluation.statistics import estimate, paired_difference


def test_the_interval_of_a_mean_is_the_normal_one_for_many_files() -> None:
    scores = np.random.default_rng(1).normal(5, 2, 3000).tolist()
    found = estimate(scores)
    error = 1.96 * np.std(scores) / np.sqrt(3000)
    assert found.mean == pytest.approx(np.mean(scores), abs=1e-12) and found.count == 3000
    assert found.low == pytest.approx(found.mean - error, abs=0.15 * error)
    assert found.high == pytest.approx(found.mean + error, abs=0.15 * error)


def test_a_ratio_is_that_of_the_sums_and_not_the_mean_of_ratios() -> None:
    found = estimate([(1, 2), (9, 10), (0, 4)])
    assert found.mean == 10 / 16
    assert found.low < found.mean < found.high


def test_a_second_time_gives_the_same() -> None:
    scores = np.random.default_rng(2).random(50).tolist()
    assert estimate(scores) == estimate(scores)


@pytest.mark.parametrize(
    ("scores", "interval"), [([], None), ([3.0], (None, None)), ([2.0, 2.0, 2.0], (2.0, 2.0)), ([(3, 0), (1, 0)], None)]
)
def test_few_files_and_equal_ones(scores: list, interval: tuple | None) -> None:
    found = estimate(scores)
    assert found is None if interval is None else (found.low, found.high) == interval


def test_a_paired_difference_sees_what_two_intervals_do_not() -> None:
    rng = np.random.default_rng(3)
    first = rng.normal(0, 10, 200)
    second = first + rng.normal(0.5, 0.5, 200)  # a small gain on every file, beside a large spread
    a, b = estimate(first.tolist()), estimate(second.tolist())
    assert a.high > b.low  # the intervals overlap
    gain = paired_difference(second.tolist(), first.tolist())
    assert 0 < gain.low < 0.5 < gain.high
    assert paired_difference(first.tolist(), first.tolist()).high == 0


def test_a_paired_difference_of_ratios() -> None:
    ours, others = [(1, 10), (2, 10), (0, 10)], [(5, 10), (6, 10), (4, 10)]
    found = paired_difference(ours, others)
    assert found.mean == pytest.approx(0.1 - 0.5) and found.high == pytest.approx(-0.4)
    with pytest.raises(ValueError, match="paired"):
        paired_difference(ours, others[:2])
