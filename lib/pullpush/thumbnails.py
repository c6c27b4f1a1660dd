"""Small pictures of the studies for their cards: two spaces side by side, drawn from records.

Each is what its study compares, in two panels, the same images coloured by class: SVGs that take the colours
of the page and stand in print and without scripts. Without records the panels are empty and say so.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from pullpush import idea
from pullpush.looks import class_look
from pullpush.parameters import nearest
from pullpush.tables import Arm, arms, label

if TYPE_CHECKING:
    from numpy.typing import NDArray

POINTS = 300  # of each panel: more would hide each other
ON_A_SPHERE = 200  # where far dots show through
REACH = 100  # a panel goes from -REACH to REACH
INNER = 90  # where the outermost points lie
PROFILES = ("paper", "laptop")  # the first one that has the runs
METRICS = {"acc": "accuracy of the clusters", "nmi": "NMI", "accuracy": "accuracy"}
FIRST, LAST = "first", "last"  # of the moments of a training that a record keeps as flat0, flat500, ...


@dataclass(frozen=True)
class Panel:
    """One space: the run, what it is called, and the array of its places: (n, 2), or principal components.

    None stands for the sphere as `idea` draws it.
    """

    run: str
    title: str
    places: str | None


@dataclass(frozen=True)
class Thumbnail:
    """Two panels, the score that their alternative texts give, and what the panels are made of."""

    left: Panel
    right: Panel
    metric: str
    space: str


THUMBNAILS = {
    "pair_vs_triplet": Thumbnail(
        Panel("mnist-simclr-pair", "pairs", "z"),
        Panel("mnist-simclr-triplet", "triplets", "z"),
        "accuracy",
        "PCA of 32 dimensions",
    ),
    "cc_vs_rcc": Thumbnail(  # the front page shows the spheres of MNIST
        Panel("fashion-cc-k10", "CC", None),
        Panel("fashion-rcc-k10", "RCC", None),
        "acc",
        "on the sphere",
    ),
    "claws": Thumbnail(
        Panel("fields-simclr", "SimCLR", "flat"),
        Panel("fields-claws", "CLAWS", "flat"),
        "nmi",
        "UMAP of 32 dimensions",
    ),
    "lnscc": Thumbnail(
        Panel("mnist-lnscc", "untrained", FIRST),
        Panel("mnist-lnscc", "trained", LAST),
        "acc",
        "PCA of ten dimensions",
    ),
}


def thumbnail(study: str) -> str:
    """The picture of a study as HTML in one line. Raises ValueError for a study that has none."""
    if study not in THUMBNAILS:
        raise ValueError(f"No thumbnail of study '{study}' is planned. {nearest(study, THUMBNAILS)}")
    plan = THUMBNAILS[study]
    panels = (plan.left, plan.right)
    for profile in PROFILES:
        recorded = {arm.run: arm for arm in arms(study, profile) if arm.record}
        if all(panel.run in recorded for panel in panels):
            return _drawn(plan, [recorded[panel.run] for panel in panels])
    frame = f'<circle class="pp-ball" r="{INNER}" stroke-dasharray="5 6"/>'
    empty = [_svg(f"{panel.title}: no record to draw yet", frame) for panel in panels]
    return _two(panels, empty, "not run yet")


def _drawn(plan: Thumbnail, pair: Sequence[Arm]) -> str:
    panels = (plan.left, plan.right)
    held = [arm.record.arrays() for arm in pair if arm.record]
    labels = held[0]["labels"]
    count = min(POINTS if plan.left.places else ON_A_SPHERE, len(labels))
    data = label(pair[0].parameters["data"])
    alts = []
    for panel, arm in zip(panels, pair, strict=True):
        score = arm.interval(plan.metric)
        told = f"; {METRICS[plan.metric]} {score}, n = {score.n}" if score and panel.places != FIRST else ""
        alts.append(f"{panel.title}: {count} images of {data}, {plan.space}, coloured by class{told}.")
    if plan.left.places is None:
        drawings = idea.globes(pair, alts, count)
    else:
        drawn = np.sort(np.random.default_rng(0).permutation(len(labels))[:count])
        drawings = [
            _svg(alt, _dots(_flat(_places(arrays, str(panel.places)))[drawn], labels[drawn]))
            for alt, arrays, panel in zip(alts, held, panels, strict=True)
        ]
    return _two(panels, drawings, f"{data}, {plan.space}")


def _places(arrays: Mapping[str, NDArray[Any]], name: str) -> NDArray[np.float64]:
    """The array of this name; the first or last moment of a training that was kept."""
    if name in (FIRST, LAST):
        moments = sorted(int(key[4:]) for key in arrays if key.startswith("flat"))
        name = f"flat{moments[0 if name == FIRST else -1]}"
    return arrays[name].astype(float)


def _flat(places: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n, d) -> (n, 2): the two principal components, right and down, in one unit, from -INNER to INNER."""
    centred = places - places.mean(0)
    if centred.shape[1] > 2:
        centred = centred @ np.linalg.svd(centred, full_matrices=False)[2][:2].T
    low, high = centred.min(0), centred.max(0)
    extent = float((high - low).max()) or 1.0  # all may lie in one place
    return np.asarray((centred - (low + high) / 2) * (2 * INNER / extent) * (1, -1))


def _dots(places: NDArray[np.float64], labels: NDArray[np.integer[Any]]) -> str:
    """One path a class: a line of no length has round ends."""
    paths = ""
    for k in np.unique(labels):
        dots = "".join(f"M{x} {y}h0" for x, y in np.rint(places[labels == k]).astype(int))
        paths += f'<path stroke="{class_look(k)[0]}" d="{dots}"/>'
    return f'<g class="pp-dots" stroke-width="7" opacity=".85">{paths}</g>'


def _svg(alt: str, inner: str) -> str:
    box = f"{-REACH} {-REACH} {2 * REACH} {2 * REACH}"
    return f'<svg viewBox="{box}" role="img" aria-label="{escape(alt)}">{inner}</svg>'


def _two(panels: Iterable[Panel], drawings: Iterable[str], caption: str) -> str:
    parts = "".join(
        f"<figure>{drawing}<figcaption>{panel.title}</figcaption></figure>"
        for panel, drawing in zip(panels, drawings, strict=True)
    )
    return f'<div class="pp-thumb">{parts}<p>{caption}</p></div>'
