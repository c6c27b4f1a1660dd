"""The picture of the idea: points on a sphere, pulled together and pushed apart.

`html` is computed, not drawn: gradient descent on the two forces, from random places, on the unit sphere.
`front` is what the front page shows: CC and RCC side by side from their records, and `html` until there are
any. Its still is turned and led through training by `_static/idea.js`, which draws it the same way.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from pullpush.display import RUNS, element
from pullpush.ledger import class_names
from pullpush.looks import CLASS_COLOURS, PULL, PUSH, method
from pullpush.tables import Arm, Origin, arms, label

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pandas import DataFrame

    Points = NDArray[np.float64]

RADIUS = 100
TILT = 0.35  # radians from which the sphere is seen from above

# The computed picture.
GROUPS, MEMBERS, STEPS = 5, 9, 240
SHOWN = (2, 4, 5, 7, 9)  # class colours of the groups: none that reads as pull or push
COMPUTED = (
    f"Both spheres are computed: {GROUPS * MEMBERS} points follow the gradient of the two forces. "
    "[The idea](foundations/pull_and_push.md) explains it."
)

# The recorded picture.
STUDY = "cc_vs_rcc"
DIGIT_COLOURS = CLASS_COLOURS[:10]
PAIR = {"mnist-cc-k10": "contrast alone", "mnist-rcc-k10": "contrast and uniformity"}
SCORES = {"acc": "accuracy of the clusters", "occupied": "sphere in use"}
NO_BREAK = "\u00a0"
READ_ON = (
    "[CC against RCC](experiments/cc_vs_rcc.ipynb) asks which of the two sorts images better; "
    "[the idea](foundations/pull_and_push.md) explains the forces."
)
PROFILES = ("paper", "laptop")  # the first one that has both runs
POINTS = 300  # of each sphere: more would hide each other
LEVELS = 127  # a coordinate for the script is a whole number from -LEVELS to LEVELS: one byte
# (width of a dot, opacity) of slices of equal depth, the farthest first, which is also the order of drawing.
DEPTHS = ((3.8, 0.28), (4.3, 0.33), (4.8, 0.42), (5.6, 0.68), (6.3, 0.86), (7.0, 1.0))


def trajectories(seed: int = 4) -> np.ndarray:
    """Places of GROUPS * MEMBERS points on the unit sphere, (STEPS + 1, n, 3), row i belonging to group i //
    MEMBERS.

    Each step goes down the gradient of mean |x_i - x_j|^2 over pairs of one group plus mean exp(-2 |x_i -
    x_j|^2) over pairs of two groups: Wang & Isola's alignment and uniformity (arXiv:2005.10242), before the
    logarithm. A much shorter push between all points keeps those of a group from hiding each other.
    """
    rng = np.random.default_rng(seed)
    n = GROUPS * MEMBERS
    group = np.arange(n) // MEMBERS
    same = (group[:, None] == group) & ~np.eye(n, dtype=bool)
    other = group[:, None] != group
    x = rng.normal(size=(n, 3))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    path = [x]
    for _ in range(STEPS):
        apart = x[:, None] - x
        weight = np.exp(-2 * (apart**2).sum(-1, keepdims=True))
        pull = (same[..., None] * apart).sum(1) / same.sum(1, keepdims=True)
        push = (other[..., None] * weight * apart).sum(1) / other.sum(1, keepdims=True)
        elbow = (np.exp(-40 * (apart**2).sum(-1, keepdims=True)) * apart).sum(1)
        x = x - 0.02 * pull + 0.35 * push + 0.04 * elbow
        x = x / np.linalg.norm(x, axis=1, keepdims=True)
        path.append(x)
    return np.stack(path)


def _seen(places: np.ndarray) -> np.ndarray:
    """Orthographic view from the front, a little from above: x right, y down, z towards the reader."""
    x, y, z = places[..., 0], places[..., 1], places[..., 2]
    return np.stack(
        [x * RADIUS, (-y * np.cos(TILT) + z * np.sin(TILT)) * RADIUS, z * np.cos(TILT) + y * np.sin(TILT)], -1
    )


def html(seed: int = 4) -> str:
    """Two spheres side by side: the forces on one point at the start, and all points on their way (CSS moves
    them).
    """
    path = _seen(trajectories(seed))
    first = (
        "Before training, points of five groups lie mixed on a sphere. Blue arrows pull the others of one "
        "point's group towards it; orange arrows push its neighbours of other groups away."
    )
    second = "After training, the same points form five tight groups, far from each other on the sphere."
    return (
        f'<div class="pp-idea"><figure>{_sphere(first, _forces(path[0]) + _dots(path[:1]))}'
        '<figcaption><span class="pp-pull">Pull</span> what belongs together, <span class="pp-push">push'
        f"</span> what does not</figcaption></figure><figure>{_sphere(second, _dots(path))}"
        "<figcaption>until each group has a place of its own</figcaption></figure></div>"
    )


def _sphere(alt: str, inner: str) -> str:
    rings = "".join(
        f'<ellipse rx="{RADIUS * np.cos(latitude):.1f}" ry="{RADIUS * np.cos(latitude) * np.sin(TILT):.1f}"'
        f' cy="{-RADIUS * np.sin(latitude) * np.cos(TILT):.1f}"/>'
        for latitude in (-0.6, 0.0, 0.6)
    )
    return (
        f'<svg viewBox="-112 -112 224 224" role="img" aria-label="{alt}">'
        f'<g fill="none" stroke="var(--pp-grid)"><circle r="{RADIUS}" stroke-width="1.5"/>{rings}</g>'
        f"{inner}</svg>"
    )


def _dots(path: np.ndarray) -> str:
    """One dot a point, the far side of the sphere paler; with more than one step, each follows its path."""
    dots = []
    for i in np.argsort(path[-1, :, 2]):
        shade = DIGIT_COLOURS[SHOWN[i // MEMBERS]]
        near = path[-1, i, 2] > -0.15
        look = f'r="{5 if near else 3.8}" fill="{shade}" fill-opacity="{1 if near else 0.45}"'
        x, y = path[-1, i, :2]
        if len(path) == 1:
            dots.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" {look}/>')
            continue
        stops = path[np.unique(np.round(np.geomspace(1, len(path), 14)).astype(int) - 1), i, :2]
        way = "M" + "L".join(f"{a:.0f} {b:.0f}" for a, b in stops)
        dots.append(f'<circle class="pp-move" {look} style="offset-path:path(\'{way}\')"/>')
    return "".join(dots)


def _forces(places: np.ndarray) -> str:
    """Arrows on one point of the near side: towards its group, away from the closest points of others."""
    group = np.arange(len(places)) // MEMBERS
    flat, depth = places[:, :2], places[:, 2]
    anchor = int(np.argmax(depth - 0.004 * np.linalg.norm(flat, axis=1)))
    distance = np.linalg.norm(flat - flat[anchor], axis=1)
    near = depth > 0.1
    friends = [i for i in np.argsort(distance) if group[i] == group[anchor] and i != anchor and near[i]][:4]
    others = [i for i in np.argsort(distance) if group[i] != group[anchor] and near[i]][:4]
    lines = [
        _arrow(flat[i], flat[i] + (flat[anchor] - flat[i]) * (1 - 9 / distance[i]) * 0.9, PULL)
        for i in friends
    ]
    lines += [_arrow(flat[i], flat[i] + (flat[i] - flat[anchor]) / distance[i] * 30, PUSH) for i in others]
    x, y = flat[anchor]
    ring = f'<circle cx="{x:.1f}" cy="{y:.1f}" r="9" fill="none" stroke="var(--pp-ink)" stroke-width="1.6"/>'
    return "".join(lines) + ring


def _arrow(start: np.ndarray, end: np.ndarray, shade: str) -> str:
    along = (end - start) / np.linalg.norm(end - start)
    across = np.array([-along[1], along[0]])
    base = end - 7 * along
    head = " ".join(f"{x:.1f},{y:.1f}" for x, y in (end, base + 4 * across, base - 4 * across))
    return (
        f'<path d="M{start[0]:.1f} {start[1]:.1f}L{base[0]:.1f} {base[1]:.1f}"'
        f' stroke="{shade}" stroke-width="2.4"/><polygon points="{head}" fill="{shade}"/>'
    )


# From records ----------------------------------------------------------------------------------------------


def front() -> str:
    """The picture of the front page and the sentence under it, as Markdown: from the records of `PAIR`, and
    computed where a profile with both is missing.
    """
    for profile in PROFILES:
        recorded = {arm.run: arm for arm in arms(STUDY, profile) if arm.record}
        if all(run in recorded for run in PAIR):
            return _recorded([recorded[run] for run in PAIR])
    return f"{html()}\n\n{COMPUTED}"


def _recorded(pair: Sequence[Arm]) -> str:
    """Two spheres as a still, the key of their colours, the data of the script, and where to read on."""
    epochs, labels, paths = _paths(pair)
    start = _start(paths)
    images = f"{len(labels)} {label(_first(pair[0], 'data'))} images"
    stops = ["untrained", *(f"epoch {epoch}" for epoch in epochs[1:])]
    names = [method(arm.run.split("-")[1]).label for arm in pair]
    alts = [
        f"{name}, {stops[-1]}: {images} on the unit sphere, coloured by class; {', '.join(_scores(arm))}."
        for name, arm in zip(names, pair, strict=True)
    ]
    figures = ""
    for name, arm, globe in zip(names, pair, _globes(alts, paths, labels), strict=True):
        figures += (
            f"<figure>{globe}<figcaption><strong>{name}</strong>: "
            f"{PAIR[arm.run]}<br><small>trained: {'<br>'.join(_scores(arm))}</small></figcaption></figure>"
        )
    data = {
        "stops": stops,
        "labels": "".join(map(str, labels)),
        "colours": DIGIT_COLOURS,
        "start": round(start, 3),
        "tilt": TILT,
        "places": [_packed(path) for path in paths],
    }
    body = (
        f'<div class="pp-spheres"><div class="pp-idea">{figures}</div>{_key(pair[0])}'
        f'<script type="application/json">{json.dumps(data, separators=(",", ":"))}</script></div>'
    )
    picture = element("spheres", body, _caption(pair, images), _numbers(pair), _Drawn(pair))
    picture = picture.replace(RUNS, RUNS.removeprefix("../"))  # the front page is in no folder
    return f"{picture}\n\n{READ_ON}"


def _paths(pair: Sequence[Arm], points: int = POINTS) -> tuple[list[int], NDArray[np.uint8], Points]:
    """Recorded epochs; labels (n,); places (2, epochs, n, 3) of the same images, as right, up, towards the
    reader.

    How a sphere is turned means nothing to the losses, and training turns it at random. So that what is seen
    to move, or to differ, does so among the others, each moment is turned onto the one before, and the second
    run's onto the first's too. Raises ValueError where the runs do not hold the same images.
    """
    held = [arm.record.arrays() for arm in pair if arm.record]
    if not np.array_equal(held[0]["labels"], held[1]["labels"]):
        raise ValueError(f"{' and '.join(arm.run for arm in pair)} do not hold the same images.")
    shared = set(held[0]) & set(held[1])
    epochs = sorted(int(name[1:]) for name in shared if name[0] == "h" and name[1:].isdigit())
    drawn = np.sort(np.random.default_rng(0).permutation(len(held[0]["labels"]))[:points])
    paths = np.stack([[arrays[f"h{epoch}"][drawn] for epoch in epochs] for arrays in held]).astype(float)
    paths = paths[..., [0, 2, 1]] * (1, 1, -1)
    cc, rcc = paths
    rcc[0] = rcc[0] @ _rotation(rcc[0], cc[0])
    for i in range(1, len(epochs)):
        cc[i] = cc[i] @ _rotation(cc[i], cc[i - 1])
        rcc[i] = rcc[i] @ _rotation(rcc[i], rcc[i - 1] + cc[i])
    return epochs, held[0]["labels"][drawn], paths / np.linalg.norm(paths, axis=-1, keepdims=True)


def _rotation(x: Points, y: Points) -> Points:
    """The rotation R, (3, 3), with the smallest |x R - y|: Kabsch's. x, y: (n, 3)."""
    u, _, vt = np.linalg.svd(x.T @ y)
    return np.asarray(u * (1, 1, np.linalg.det(u @ vt)) @ vt)


def _start(paths: Points) -> float:
    """The angle by which both are turned at first: it brings the untrained points to the front."""
    x, _, z = paths[:, 0].mean((0, 1))
    return float(np.arctan2(-x, z))


def _turned(places: Points, angle: float) -> Points:
    """Turned about the upright axis; what faces the reader goes to the right."""
    x, y, z = places[..., 0], places[..., 1], places[..., 2]
    return np.stack(
        [x * np.cos(angle) + z * np.sin(angle), y, z * np.cos(angle) - x * np.sin(angle)], axis=-1
    )


def globes(pair: Sequence[Arm], alts: Sequence[str], points: int) -> list[str]:
    """The trained spheres of two runs, seen from the same place, as two SVGs with these alternative texts."""
    _, labels, paths = _paths(pair, points)
    return _globes(alts, paths, labels)


def _globes(alts: Sequence[str], paths: Points, labels: NDArray[np.uint8]) -> list[str]:
    """The last moment of both `paths`."""
    start = _start(paths)
    seen = _seen(_turned(paths[:, -1], start))
    return [_globe(alt, places, labels, start) for alt, places in zip(alts, seen, strict=True)]


def _globe(alt: str, seen: Points, labels: NDArray[np.uint8], angle: float) -> str:
    """A sphere with dots, (n, 3) as `_seen` gives them: what is far is small, pale, and behind its grid."""
    behind, before = _grid(angle)
    slices = [_slice(depth, seen, labels) for depth in range(len(DEPTHS))]
    half = len(DEPTHS) // 2
    return (
        f'<svg viewBox="-104 -104 208 208" role="img" aria-label="{escape(alt)}">'
        f'<circle class="pp-ball" r="{RADIUS}"/><path class="pp-wire" opacity=".45" d="{behind}"/>'
        f'{"".join(slices[:half])}<path class="pp-wire" d="{before}"/>{"".join(slices[half:])}</svg>'
    )


def _slice(depth: int, seen: Points, labels: NDArray[np.uint8]) -> str:
    """The dots of one slice of depth, one path a class: a line of no length has round ends."""
    width, opacity = DEPTHS[depth]
    level = np.clip((seen[:, 2] + 1) / 2 * len(DEPTHS), 0, len(DEPTHS) - 1).astype(int)
    paths = ""
    for k, shade in enumerate(DIGIT_COLOURS):
        dots = "".join(f"M{x:.1f} {y:.1f}h0" for x, y, _ in seen[(level == depth) & (labels % 10 == k)])
        paths += f'<path stroke="{shade}" d="{dots}"/>' if dots else ""
    return f'<g class="pp-dots" stroke-width="{width}" opacity="{opacity}">{paths}</g>'


def _grid(angle: float) -> tuple[str, str]:
    """Three circles of latitude and four of longitude: the parts behind and before."""
    around = np.linspace(0, 2 * np.pi, 49)
    level = [
        np.stack([np.cos(u) * np.cos(around), np.full(49, np.sin(u)), np.cos(u) * np.sin(around)], -1)
        for u in (-0.6, 0.0, 0.6)
    ]
    upright = [
        np.stack([np.cos(around) * np.cos(u), np.sin(around), np.cos(around) * np.sin(u)], -1)
        for u in np.arange(4) * np.pi / 4
    ]
    parts = ["", ""]
    for ring in _seen(_turned(np.stack([*level, *upright]), angle)):
        pen = -1
        for x, y, z in ring:
            side = int(z > 0)
            parts[side] += f"{'L' if side == pen else 'M'}{x:.0f} {y:.0f}"
            pen = side
    return parts[0], parts[1]


def _packed(path: Points) -> str:
    """(epochs, n, 3) unit rows as bytes in base64."""
    return base64.b64encode(np.rint(path * LEVELS).astype(np.int8).tobytes()).decode()


def _first(arm: Arm, name: str) -> Any:
    """A column of a record, as its first seed has it: the seed whose points were kept."""
    return arm.record.rows()[0][name] if arm.record else None


def _scores(arm: Arm) -> list[str]:
    """'accuracy of the clusters .513 [.492, .534], n = 5', then the share of the sphere in use.

    Spaces within numbers do not break.
    """
    found = {words: arm.interval(metric) for metric, words in SCORES.items()}
    return [
        f"{words} {str(interval).replace(' ', NO_BREAK)}, n{NO_BREAK}={NO_BREAK}{interval.n}"
        for words, interval in found.items()
        if interval
    ]


def _key(arm: Arm) -> str:
    """Which colour is which class."""
    marks = "".join(
        f'<span><svg viewBox="-1 -1 2 2" aria-hidden="true"><circle r="1" fill="{shade}"/></svg>{name}</span>'
        for name, shade in zip(class_names(_first(arm, "data")), DIGIT_COLOURS, strict=True)
    )
    return f'<div class="pp-key" role="group" aria-label="Colours of the classes">{marks}</div>'


def _caption(pair: Sequence[Arm], images: str) -> str:
    seeds = " and ".join(sorted({str(_first(arm, "seed")) for arm in pair}))
    return (
        f"The same {images}, each where a network puts it (seed {seeds}, {pair[0].profile} profile). In use: "
        "the share of 1,000 equal cells of the sphere that hold any of up to 10,000 training images."
    )


def _numbers(pair: Sequence[Arm]) -> DataFrame:
    """The scores under the spheres, one row a seed."""
    import pandas as pd

    rows = pd.concat([found for arm in pair if (found := arm.rows) is not None])
    return rows[["run", "seed", *(name for name in SCORES if name in rows)]]


@dataclass(frozen=True)
class _Drawn:
    """The records behind the spheres and what was done to draw them, for the fold under it."""

    pair: Sequence[Arm]

    def provenance(self) -> dict[str, Any]:
        how = (
            f"{POINTS} of a run's images, drawn at random; each sphere turned as a whole so that its points "
            "move least from one recorded epoch to the next and differ least from those of the other sphere; "
            "smooth curves between these epochs"
        )
        return {"drawing": how, **Origin(self.pair).provenance()}
