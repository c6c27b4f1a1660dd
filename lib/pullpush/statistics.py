"""Intervals over seeds, and the words that they allow.

Every verdict of the book rests on paired differences: two arms that share seeds (same seed: same first
weights, same split, same negatives), one difference a seed, and the 95 % Student-t interval of their mean,

    mean +- t(0.975, n - 1) * s / sqrt(n),        s the standard deviation with n - 1.

The wording follows from the interval alone: "higher" when it leaves out zero, "not separated with n seeds"
when it does not, and "n too small" below five seeds, whatever it says. Taught in "Judging a representation".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

CONFIDENCE = 0.95
SEEDS_FOR_A_CLAIM = 5
A_POINT = 0.01  # what ">=" forgives: the right side may be higher by less than one point

Chip = Literal["reproduced", "partly", "not", "n too small", "not run yet"]
Relation = Literal[">", ">="]


@dataclass(frozen=True)
class Interval:
    """The mean of one value a seed, and its 95 % Student-t interval; the bounds are nan below two seeds."""

    mean: float
    low: float
    high: float
    values: tuple[float, ...]

    @property
    def n(self) -> int:
        return len(self.values)

    def __str__(self) -> str:
        """'.923 [.918, .928]'."""
        return self._written(score)

    @property
    def signed(self) -> str:
        """'+.012 [+.008, +.016]', for differences."""
        return self._written(difference)

    def _written(self, write: Callable[[float], str]) -> str:
        bounds = f" [{write(self.low)}, {write(self.high)}]" if math.isfinite(self.low) else ""
        return write(self.mean) + bounds


@dataclass(frozen=True)
class Verdict:
    """A chip, and the word that the interval allows."""

    chip: Chip
    word: str


NOT_RUN = Verdict("not run yet", "not run yet")
TOO_SMALL = Verdict("n too small", "too few for a claim")


def interval(values: Iterable[float]) -> Interval:
    """The interval of one value a seed; nan where one of them is. Raises ValueError where there is none."""
    from scipy.special import stdtrit  # a tenth of the start-up of scipy.stats, whose t.ppf it is

    x = np.asarray(list(values), dtype=float)
    if not len(x):
        raise ValueError("An interval needs at least one seed.")
    mean = float(x.mean())
    half = math.nan
    if len(x) > 1:
        half = float(stdtrit(len(x) - 1, (1 + CONFIDENCE) / 2) * x.std(ddof=1) / math.sqrt(len(x)))
    return Interval(mean, mean - half, mean + half, tuple(x.tolist()))


def by_seed(rows: pd.DataFrame, metric: str) -> pd.Series:
    """One metric of one run, indexed by seed. Raises ValueError for a seed that is there twice."""
    values = rows.set_index("seed")[metric].astype(float)
    if values.index.has_duplicates:
        twice = sorted(set(values.index[values.index.duplicated()]))
        raise ValueError(
            f"Seeds {', '.join(map(str, twice))} appear twice: give the rows of one run, not of several."
        )
    return values


def differences(a: pd.Series, b: pd.Series) -> pd.Series:
    """a - b for the seeds that both have, in order of seed."""
    shared = a.index.intersection(b.index).sort_values()
    return a.loc[shared] - b.loc[shared]


def paired(a: pd.DataFrame, b: pd.DataFrame, metric: str, other: str | None = None) -> Interval | None:
    """The interval of `metric` of `a` minus that (or `other`) of `b` over shared seeds; None without any.

    a, b: rows of `load_records`, one a seed. `values` of the result are the differences, in order of seed.
    """
    shared = differences(by_seed(a, metric), by_seed(b, other or metric))
    return interval(shared) if len(shared) else None


def verdict(found: Interval | None, relation: Relation = ">") -> Verdict:
    """Whether the interval of left - right upholds "left > right", or "left >= right" within one point."""
    if found is None:
        return NOT_RUN
    if found.n < SEEDS_FOR_A_CLAIM:
        return TOO_SMALL
    if found.low > 0:
        return Verdict("reproduced", "higher")
    if found.high < 0:
        return Verdict("not", "lower")
    if relation == ">=" and found.low > -A_POINT:
        return Verdict("reproduced", "not lower by a point")
    return Verdict("not", f"not separated with {found.n} seeds")


def agreement(found: Interval | None, paper: float, band: float) -> Verdict:
    """Whether our interval lies within `band` of the paper's number: all of it, part of it, or none."""
    if found is None:
        return NOT_RUN
    if found.n < SEEDS_FOR_A_CLAIM:
        return TOO_SMALL
    points = f"{100 * band:g} points"
    if paper - band <= found.low and found.high <= paper + band:
        return Verdict("reproduced", f"within {points}")
    if found.high < paper - band or found.low > paper + band:
        return Verdict("not", f"farther than {points}")
    return Verdict("partly", f"partly within {points}")


def combine(chips: Sequence[Chip]) -> Chip:
    """The chip of a claim from its comparisons': undecided while one is, else all, some or none upheld."""
    if not chips or "not run yet" in chips:
        return "not run yet"
    if "n too small" in chips:
        return "n too small"
    if all(chip == "reproduced" for chip in chips):
        return "reproduced"
    return "not" if all(chip == "not" for chip in chips) else "partly"


# How numbers are written ----------------------------------------------------------------------------------


def score(value: float) -> str:
    """'.923', '1.000', a dash where there is no number."""
    if not math.isfinite(value):
        return "–"
    text = f"{abs(value):.3f}"
    return ("−" if value < 0 and float(text) else "") + (text[1:] if text.startswith("0.") else text)


def difference(value: float) -> str:
    """'+.012', '−.012', '.000'."""
    text = score(value)
    return f"+{text}" if math.isfinite(value) and round(value, 3) > 0 else text
