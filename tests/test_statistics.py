"""Intervals against scipy's own, how often they hold what they should, and where the wording turns."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from pullpush import statistics
from pullpush.statistics import Interval, agreement, combine, interval, paired, verdict


def rows(values, seeds=None, metric="accuracy"):
    return pd.DataFrame({"seed": range(len(values)) if seeds is None else seeds, metric: values})


def of(low, high, n=5):
    """An interval with these bounds."""
    mean = (low + high) / 2
    return Interval(mean, low, high, (mean,) * n)


@pytest.mark.parametrize("n", [2, 3, 5, 20])
def test_paired_is_the_interval_of_scipys_paired_t_test(n):
    a, b = np.random.default_rng(n).normal(0.8, 0.05, (2, n))
    ours = paired(rows(a), rows(b), "accuracy")
    theirs = stats.ttest_rel(a, b).confidence_interval(0.95)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), rel=1e-12)
    assert ours.mean == pytest.approx((a - b).mean())
    assert ours.values == pytest.approx(a - b)
    assert ours.n == n


def test_interval_is_scipys_for_one_sample():
    x = np.random.default_rng(0).normal(0.9, 0.01, 5)
    theirs = stats.ttest_1samp(x, 0).confidence_interval(0.95)
    assert (interval(x).low, interval(x).high) == pytest.approx((theirs.low, theirs.high), rel=1e-12)


def test_only_shared_seeds_count_and_their_order_does_not():
    a = rows([0.9, 0.5, 0.7, 0.6], seeds=[3, 0, 2, 9])
    b = rows([0.1, 0.2, 0.3], seeds=[0, 2, 3])
    assert paired(a, b, "accuracy").values == pytest.approx((0.4, 0.5, 0.6))


def test_without_shared_seeds_there_is_no_interval():
    assert paired(rows([0.9], seeds=[0]), rows([0.8], seeds=[1]), "accuracy") is None


def test_another_metric_of_the_other_run():
    a, b = rows([0.9, 0.8]), rows([0.3, 0.4], metric="pixels_accuracy")
    assert paired(a, b, "accuracy", "pixels_accuracy").values == pytest.approx((0.6, 0.4))


def test_mixed_runs_are_refused():
    with pytest.raises(ValueError, match=r"Seeds 1 appear twice"):
        paired(rows([0.9, 0.8, 0.7], seeds=[0, 1, 1]), rows([0.5, 0.5]), "accuracy")


def test_one_seed_has_a_mean_and_no_bounds():
    one = interval([0.5])
    assert one.mean == 0.5
    assert math.isnan(one.low) and math.isnan(one.high)
    assert str(one) == ".500"
    assert verdict(one).chip == "n too small"


def test_no_seed_is_an_error():
    with pytest.raises(ValueError, match="at least one seed"):
        interval([])


def test_a_missing_value_is_not_hidden():
    assert math.isnan(interval([0.5, math.nan, 0.6]).mean)
    assert verdict(interval([0.1] * 4 + [math.nan])).chip == "not"


@pytest.mark.parametrize("truth", [0.0, 0.03])
def test_intervals_hold_the_truth_nineteen_times_in_twenty(truth):
    """Pairing counts: seeds differ far more than arms, yet five differences cover at 95 %."""
    random = np.random.default_rng(1)
    seed_effect = random.normal(0, 0.1, (4000, 5))
    a, b = (seed_effect + shift + random.normal(0, 0.01, (4000, 5)) for shift in (truth, 0))
    found = [interval(x - y) for x, y in zip(a, b, strict=True)]
    covered = np.mean([one.low <= truth <= one.high for one in found])
    assert abs(covered - 0.95) < 4 * math.sqrt(0.95 * 0.05 / 4000)
    if truth == 0:
        assert np.mean([verdict(one).word == "higher" for one in found]) == pytest.approx(0.025, abs=0.01)


@pytest.mark.parametrize(
    ("found", "chip", "word"),
    [
        (of(0.001, 0.02), "reproduced", "higher"),
        (of(0.0, 0.02), "not", "not separated with 5 seeds"),  # an interval that touches zero holds it
        (of(-0.02, 0.0), "not", "not separated with 5 seeds"),
        (of(-0.02, -0.001), "not", "lower"),
        (of(0.1, 0.2, n=4), "n too small", "too few for a claim"),
        (None, "not run yet", "not run yet"),
    ],
)
def test_wording_follows_the_interval(found, chip, word):
    assert verdict(found) == statistics.Verdict(chip, word)


@pytest.mark.parametrize(
    ("found", "chip", "word"),
    [
        (of(-0.009, 0.02), "reproduced", "not lower by a point"),
        (of(-0.010, 0.02), "not", "not separated with 5 seeds"),
        (of(-0.009, -0.001), "not", "lower"),  # clearly lower, if by little
        (of(0.001, 0.02), "reproduced", "higher"),
        (of(-0.001, 0.02, n=3), "n too small", "too few for a claim"),
    ],
)
def test_at_least_forgives_less_than_a_point(found, chip, word):
    assert verdict(found, ">=") == statistics.Verdict(chip, word)


@pytest.mark.parametrize(
    ("found", "chip"),
    [
        (of(0.90, 0.94), "reproduced"),
        (of(0.89, 0.95), "reproduced"),
        (of(0.88, 0.91), "partly"),
        (of(0.80, 0.99), "partly"),
        (of(0.80, 0.88), "not"),
        (of(0.96, 0.97), "not"),
        (of(0.90, 0.94, n=3), "n too small"),
        (None, "not run yet"),
    ],
)
def test_agreement_asks_for_the_whole_interval(found, chip):
    assert agreement(found, paper=0.92, band=0.03 + 1e-12).chip == chip


@pytest.mark.parametrize(
    ("chips", "together"),
    [
        (["reproduced"] * 6, "reproduced"),
        (["reproduced"] * 5 + ["not"], "partly"),
        (["not", "not"], "not"),
        (["partly", "not"], "partly"),
        (["reproduced", "n too small"], "n too small"),
        (["n too small", "not run yet"], "not run yet"),
        ([], "not run yet"),
    ],
)
def test_a_claim_is_as_good_as_its_comparisons(chips, together):
    assert combine(chips) == together


@pytest.mark.parametrize(
    ("value", "score", "signed"),
    [(0.9234, ".923", "+.923"), (1.0, "1.000", "+1.000"), (-0.0124, "−.012", "−.012"), (0.0, ".000", ".000"),
     (-0.0001, ".000", ".000"), (0.0001, ".000", ".000"), (0.9996, "1.000", "+1.000"), (math.nan, "–", "–")],
)  # fmt: skip
def test_numbers_are_written_as_the_book_writes_them(value, score, signed):
    assert statistics.score(value) == score
    assert statistics.difference(value) == signed


def test_intervals_are_written_as_the_book_writes_them():
    assert str(of(0.918, 0.928)) == ".923 [.918, .928]"
    assert of(-0.004, 0.012).signed == "+.004 [−.004, +.012]"
