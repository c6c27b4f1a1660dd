"""The claim ledger: every claim of book/results/claims.yaml tested against the records.

A claim is a list of comparisons, written as text and judged by the interval over shared seeds:

    mnist-fer-triplet > mnist-none-triplet            two runs, by the claim's metric
    mnist-none-pair > mnist-baseline:pixels_accuracy  another metric of a run
    recall[frog] > recall[bird, cat]                  classes of the claim's run (mean over the named ones)
    spread[8] > spread[others]                        others: the classes that the other side does not name
    mnist-none-pair = paper ± 0.05                    our interval within a band around the paper's number

Quantities of classes, one value a seed, from the arrays of a run:

    recall[...]  share of the class's test images that are told right
    spread[...]  variance of the embeddings within the class over that of all embeddings
    kin[...]     share of the errors of these classes that stay among them, minus what even errors would give
"""

from __future__ import annotations

import functools
import io
import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from pullpush import records, statistics
from pullpush.parameters import nearest, read_yaml
from pullpush.statistics import Chip, Interval, Relation, Verdict

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

TEST = re.compile(r"(?P<left>.+?)\s+(?P<relation>>=|>)\s+(?P<right>.+)")
AGREES = re.compile(r"(?P<run>\S+)\s+=\s+paper\s+±\s+(?P<band>[\d.]+)")
BY_CHANCE = (1 - statistics.CONFIDENCE) / 2  # how often a difference that is zero is upheld
SIDE = re.compile(r"(?:(?P<run>[\w.-]+):)?(?P<quantity>\w+)(?:\[(?P<members>[^\]]+)\])?")


@dataclass(frozen=True)
class Claim:
    """One entry of claims.yaml; its head explains the fields."""

    id: str
    study: str
    profile: str
    claim: str
    source: str
    protocol: str
    compare: dict[str, str]
    paper: str = ""
    metric: str = "accuracy"
    run: str | None = None
    headline: bool = False


@dataclass(frozen=True)
class Comparison:
    """One comparison, judged. Ours and the paper's are differences, or scores where the test is `= paper`."""

    claim: Claim
    label: str
    test: str
    runs: tuple[str, ...]
    by_seed: pd.Series | None  # None without records
    paper: float  # the same number from the paper; nan where it gives none
    verdict: Verdict

    @property
    def ours(self) -> Interval | None:
        return None if self.by_seed is None else statistics.interval(self.by_seed)

    @property
    def asks(self) -> Literal["above zero", "at most a point below", "near the paper"]:
        """What its test asks of our number."""
        if AGREES.fullmatch(self.test):
            return "near the paper"
        return "at most a point below" if " >= " in self.test else "above zero"

    @property
    def decided(self) -> bool:
        """Whether there are enough seeds to judge it."""
        return self.verdict.chip in ("reproduced", "partly", "not")


@dataclass(frozen=True)
class Judged:
    """A claim with its comparisons and its chip."""

    claim: Claim
    comparisons: tuple[Comparison, ...]

    @property
    def chip(self) -> Chip:
        return statistics.combine([one.verdict.chip for one in self.comparisons])

    @property
    def upheld(self) -> int:
        return sum(one.verdict.chip == "reproduced" for one in self.comparisons)

    @property
    def judged(self) -> int:
        """Comparisons with enough seeds."""
        return sum(one.decided for one in self.comparisons)

    @property
    def average(self) -> Interval | None:
        """The mean of the recorded comparisons within each seed that all of them share, with its interval."""
        import pandas as pd

        recorded = [one.by_seed for one in self.comparisons if one.by_seed is not None]
        means = pd.concat(recorded, axis=1, join="inner").mean(axis=1) if recorded else ()
        return statistics.interval(means) if len(means) else None

    @property
    def paper_average(self) -> float:
        """The paper's mean over the same comparisons."""
        numbers = [one.paper for one in self.comparisons if one.by_seed is not None]
        return float(np.mean(numbers)) if numbers else math.nan


def results_folder() -> Path:
    return records.root() / "book" / "results"


def read_claims(study: str | None = None) -> list[Claim]:
    """The claims, of one study or of all. Raises ValueError naming the claim and what is wrong with it."""
    path = results_folder() / "claims.yaml"
    content = read_yaml(path)["claims"]
    known = {field.name for field in fields(Claim)}
    claims = []
    for entry in content:
        where = f"{path.name}, claim '{entry.get('id')}'"
        for key in entry.keys() - known:
            raise ValueError(f"{where}: unknown key '{key}'. {nearest(key, sorted(known))}")
        try:
            claims.append(Claim(**entry))
        except TypeError as error:
            raise ValueError(f"{where}: {str(error).removeprefix('Claim.__init__() ')}.") from None
    ids = [claim.id for claim in claims]
    if twice := {name for name in ids if ids.count(name) > 1}:
        raise ValueError(f"{path.name}: claim '{min(twice)}' is there twice.")
    return [claim for claim in claims if study in (None, claim.study)]


def reported(study: str, document: str = "table") -> pd.DataFrame:
    """The paper's own numbers, by run, from book/results/<study>_reported.csv; empty where there are none."""
    import pandas as pd

    path = results_folder() / f"{study}_reported.csv"
    return _document(path.read_text(encoding="utf-8"), document).copy() if path.is_file() else pd.DataFrame()


@functools.cache  # a page asks for the same numbers once for each comparison
def _document(text: str, document: str) -> pd.DataFrame:
    import pandas as pd

    rows = pd.read_csv(io.StringIO(text), comment="#")
    return rows[rows["document"] == document].set_index("run").drop(columns="document")


def judge(study: str | None = None) -> list[Judged]:
    """Every claim, judged by the records that there are."""
    return [
        Judged(claim, tuple(_compare(claim, *item) for item in claim.compare.items()))
        for claim in read_claims(study)
    ]


# Many tests at once -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Chance:
    """What chance alone may do to the decided comparisons that ask for a difference above zero.

    Each has an interval at 95 %, so a difference that is zero in truth is upheld one time in forty (2.5 %),
    and lies below zero as often. The mean of that count needs no independence: comparisons share runs.
    """

    decided: tuple[Comparison, ...]
    standing: tuple[Comparison, ...]  # of those upheld, the ones that Holm's correction leaves standing

    @property
    def upheld(self) -> int:
        return sum(one.verdict.chip == "reproduced" for one in self.decided)

    @property
    def reversed(self) -> int:
        """Those whose whole interval lies on the other side of zero."""
        return sum(one.verdict.word == "lower" for one in self.decided)

    @property
    def expected(self) -> float:
        """How many would be upheld on average if every one of them were zero in truth."""
        return BY_CHANCE * len(self.decided)


def by_chance(judged: Iterable[Judged]) -> Chance:
    """The decided comparisons that ask for a difference above zero, and which stand if all are tested.

    Holm 1979: with the N probabilities of `by_luck` in rising order, the i-th stands while it and all before
    it are at most 0.025 / (N - i + 1). Then the probability that even one of those standing is luck is 2.5 %.
    """
    parts = [part for one in judged for part in one.comparisons if part.asks == "above zero" and part.decided]
    order = sorted(parts, key=lambda part: by_luck(part.ours))
    standing: list[Comparison] = []
    for i, part in enumerate(order):
        if by_luck(part.ours) > BY_CHANCE / (len(order) - i):
            break
        standing.append(part)
    return Chance(tuple(parts), tuple(standing))


def by_luck(found: Interval | None) -> float:
    """How probable a mean as high as this or higher is if it is zero in truth: Student's t, one-sided.

    It is 0.025 where the interval begins at zero. nan below two seeds.
    """
    from scipy.special import stdtr

    if found is None or found.n < 2:
        return math.nan
    spread = float(np.std(found.values, ddof=1)) / math.sqrt(found.n)
    if spread == 0:
        return 0.0 if found.mean > 0 else 0.5 if found.mean == 0 else 1.0
    return float(stdtr(found.n - 1, -found.mean / spread))


def _compare(claim: Claim, label: str, test: str) -> Comparison:
    if found := AGREES.fullmatch(test):
        run, band = found["run"], float(found["band"])
        scores, paper = _values(claim, run, None), _reported(claim, run)
        verdict = statistics.agreement(None if scores is None else statistics.interval(scores), paper, band)
        if band >= 1:  # of counts, such as groups: there are no points
            verdict = Verdict(verdict.chip, verdict.word.replace(f"{100 * band:g} points", f"{band:g}"))
        return Comparison(claim, label, test, (run,), scores, paper, verdict)
    found = TEST.fullmatch(test)
    if not found:
        raise _wrong(claim, f"'{test}' is no test. Write 'a > b', 'a >= b' or 'run = paper ± 0.03'.")
    left, right = found["left"], found["right"]
    a, b = _values(claim, left, right), _values(claim, right, left)
    shared = None if a is None or b is None else statistics.differences(a, b)
    if shared is not None and shared.empty:
        shared = None
    runs = dict.fromkeys(run for run in (_side(claim, left).run, _side(claim, right).run) if run)
    paper = _reported(claim, left) - _reported(claim, right)
    relation: Relation = ">=" if found["relation"] == ">=" else ">"
    verdict = statistics.verdict(None if shared is None else statistics.interval(shared), relation)
    return Comparison(claim, label, test, tuple(runs), shared, paper, verdict)


class _Side(NamedTuple):
    """One side of a test; the number 0 has no run."""

    run: str | None
    quantity: str
    members: list[str]


def _side(claim: Claim, text: str) -> _Side:
    if text == "0":
        return _Side(None, "0", [])
    found = SIDE.fullmatch(text)
    if found and (found["run"] or found["members"]):
        run = found["run"] or claim.run
        if run is None:
            raise _wrong(claim, f"'{text}' names no run; write RUN:{text}, or give the claim a run.")
        members = [name.strip() for name in (found["members"] or "").split(",")]
        return _Side(run, found["quantity"], [name for name in members if name])
    if re.fullmatch(r"[\w.-]+", text):
        return _Side(text, claim.metric, [])
    raise _wrong(claim, f"'{text}' is no side of a test. Write RUN, RUN:METRIC, QUANTITY[class, ...] or 0.")


def _values(claim: Claim, text: str, other: str | None) -> pd.Series | None:
    """One side of a test, by seed; None where its run has no record."""
    import pandas as pd

    run, quantity, members = _side(claim, text)
    if run is None:  # zero, for every seed of the other side
        against = _values(claim, other or "", None)
        return None if against is None else against * 0.0
    try:
        record = records.open_record(claim.study, claim.profile, run)
    except FileNotFoundError:
        return None
    rows = pd.DataFrame(record.rows())
    if not members:
        if quantity not in rows:
            raise _wrong(
                claim, f"{run} has no metric '{quantity}'. {nearest(quantity, map(str, rows.columns))}"
            )
        return statistics.by_seed(rows, quantity)
    if quantity not in QUANTITIES:
        raise _wrong(claim, f"unknown quantity '{quantity}'. {nearest(quantity, QUANTITIES)}")
    data = record.content["parameters"]["data"]
    classes = class_names(data)
    if members == ["others"]:
        named = _side(claim, other or "").members
        members = [name for name in classes if name not in named]
    for name in members:
        if name not in classes:
            raise _wrong(claim, f"'{name}' is no class of {data}. {nearest(name, classes)}")
    values = QUANTITIES[quantity](record.arrays(), [classes.index(name) for name in members])
    return pd.Series(values, index=pd.Index(rows["seed"], name="seed"))


def _wrong(claim: Claim, sentence: str) -> ValueError:
    return ValueError(f"Claim '{claim.id}': {sentence}")


def class_names(data: str) -> tuple[str, ...]:
    """The classes of a named data set, in the order of their labels; nothing is read or downloaded."""
    from pullpush.data import digits, fields, photographs, torchvision_sets

    known = {"digits": digits.CLASSES, "fields": fields.CLASSES}
    known |= {name: album.classes for name, album in photographs.ALBUMS.items()}
    known |= {name: source.classes for name, source in torchvision_sets.SOURCES.items()}
    if data not in known:
        raise ValueError(f"The classes of '{data}' are not known by its name. {nearest(data, known)}")
    return tuple(known[data])


def recall(arrays: dict[str, NDArray[Any]], classes: Sequence[int] | None = None) -> NDArray[Any]:
    """(seeds,) mean recall of `classes`, or (seeds, k) of each; from confusion counts, true class in rows."""
    confusion = arrays["confusion"].astype(float)
    each = np.diagonal(confusion, axis1=1, axis2=2) / confusion.sum(2)
    return each if classes is None else each[:, list(classes)].mean(1)


def spread(arrays: dict[str, NDArray[Any]], classes: Sequence[int]) -> NDArray[Any]:
    """(seeds,) mean over `classes` of the variance within the class over the total variance."""
    return arrays["spread"][:, list(classes)].astype(float).mean(1)


def kin(arrays: dict[str, NDArray[Any]], classes: Sequence[int]) -> NDArray[Any]:
    """(seeds,) share of the errors of m of k classes that stay among them, minus (m - 1) / (k - 1)."""
    confusion, chosen = arrays["confusion"].astype(float), list(classes)
    wrong = confusion * (1 - np.eye(confusion.shape[1]))
    share = wrong[:, chosen][:, :, chosen].sum((1, 2)) / wrong[:, chosen].sum((1, 2))
    return share - (len(chosen) - 1) / (confusion.shape[1] - 1)


QUANTITIES: dict[str, Callable[[dict[str, NDArray[Any]], Sequence[int]], NDArray[Any]]] = {
    "recall": recall,
    "spread": spread,
    "kin": kin,
}


def _reported(claim: Claim, text: str) -> float:
    """The paper's number of one side; nan where it gives none."""
    run, quantity, members = _side(claim, text)
    table = reported(claim.study)
    if run is None or members or quantity not in table:
        return math.nan
    return float(table[quantity].to_dict().get(run, math.nan))
