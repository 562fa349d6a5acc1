"""Bootstrap intervals against what is known of them."""

from __future__ import annotations

import numpy as np
import pytest

from evaluation import statistics
from evaluation.statistics import FEW, Estimate, estimate, in_words, paired_difference


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


@pytest.mark.parametrize("count", [2, 7, 200])
def test_the_interval_over_files_is_scipys(count: int) -> None:
    from scipy.stats import bootstrap

    values = np.random.default_rng(count).gamma(2, 1, count)
    found = estimate(values.tolist())
    other = bootstrap(
        (values,), np.mean, n_resamples=1000, batch=50, method="percentile", rng=np.random.default_rng(0)
    ).confidence_interval
    assert (found.low, found.high) == pytest.approx((other.low, other.high), abs=1e-12)


# -- over talkers ------------------------------------------------------------------------------------------------------


def of_talkers(rng: np.random.Generator, talkers: int, files: int) -> tuple[list[float], list[int]]:
    """Scores whose mean over all talkers there could be is 0, and their talkers: each has an effect of its own."""
    effects = np.repeat(rng.normal(0, 1, talkers), files)
    return (effects + rng.normal(0, 1, talkers * files)).tolist(), np.repeat(np.arange(talkers), files).tolist()


def covers(found: Estimate) -> bool:
    return found.low <= 0 <= found.high


@pytest.mark.slow
def test_where_talkers_differ_the_interval_over_files_is_too_narrow_and_that_over_talkers_is_not(monkeypatch) -> None:
    monkeypatch.setattr(statistics, "DRAWS", 300)  # for speed
    rng = np.random.default_rng(5)
    drawn = [of_talkers(rng, talkers=30, files=6) for _ in range(120)]
    over_files = np.mean([covers(estimate(scores)) for scores, _ in drawn])
    over_talkers = np.mean([covers(estimate(*both)) for both in drawn])
    assert over_files < 0.8 < 0.9 < over_talkers, (over_files, over_talkers)


@pytest.mark.slow
def test_a_difference_over_talkers_covers_too(monkeypatch) -> None:
    """Of two systems, of which one does better with some talkers and the other with others."""
    monkeypatch.setattr(statistics, "DRAWS", 300)
    rng = np.random.default_rng(6)
    found = []
    for _ in range(120):
        gain, talkers = of_talkers(rng, talkers=30, files=6)
        others = rng.normal(0, 3, len(gain))
        found.append((others + gain, others, talkers))
    over_files = np.mean([covers(paired_difference(ours, others)) for ours, others, _ in found])
    over_talkers = np.mean([covers(paired_difference(*three)) for three in found])
    assert over_files < 0.8 < 0.9 < over_talkers, (over_files, over_talkers)


def test_where_every_file_is_of_another_talker_the_interval_is_that_over_files() -> None:
    rng = np.random.default_rng(7)
    ours, others = rng.random(25).tolist(), rng.random(25).tolist()
    ratios = [(value, 2.0 + place % 3) for place, value in enumerate(ours)]
    names = [f"talker {place}" for place in range(25)]
    for plain, grouped in (
        (estimate(ours), estimate(ours, names)),
        (estimate(ratios), estimate(ratios, names)),
        (paired_difference(ours, others), paired_difference(ours, others, names)),
    ):
        assert (plain.mean, plain.low, plain.high) == (grouped.mean, grouped.low, grouped.high)
        assert plain.talkers is None and "talkers" not in plain.as_dict()
        assert grouped.as_dict()["talkers"] == 25 and grouped.count == 25


def test_over_talkers_a_second_time_gives_the_same_whatever_they_are_called() -> None:
    scores, talkers = of_talkers(np.random.default_rng(8), talkers=12, files=4)
    found = estimate(scores, talkers)
    assert found == estimate(scores, talkers) == estimate(scores, [f"id {talker}" for talker in talkers])
    assert found.low < estimate(scores).low < estimate(scores).high < found.high
    assert found.mean == estimate(scores).mean


def test_talkers_with_more_files_weigh_more_and_one_alone_has_no_interval() -> None:
    found = estimate([0.0, 0.0, 0.0, 4.0], ["a", "a", "a", "b"])
    assert found.mean == 1 and (found.low, found.high) == (0, 4)  # either talker may be drawn twice
    assert estimate([1.0, 2.0, 3.0], "aaa") == Estimate(2.0, None, None, 3, 1)
    with pytest.raises(ValueError, match="a talker is needed of each file, got 2 of 3"):
        estimate([1.0, 2.0, 3.0], "ab")


def test_every_interval_says_what_it_is_over() -> None:
    assert in_words() == "95 % bootstrap interval over files (1,000 draws, fixed seed, percentiles)"
    many = in_words([*range(FEW), 0], paired=True)
    assert many.startswith(f"95 % paired bootstrap interval over {FEW} talkers and the files of each (")
    assert "too narrow" not in many and "of fewer than 10 talkers" in in_words(range(FEW - 1))
