"""`fields`: rendered drive-by photographs of crop fields, and the truth about each. No file, no network.

Taught in "CLAWS".

    crops = data.load("fields", split="train")                  # 1,650 images of 120 x 190, RGB
    small = fields.render(400, size=(48, 76))                   # any number, in any size
    small.images[small.planted.outlier == fields.OUTLIERS.index("empty")]

The eleven classes are those of CLAWS, whose 227,060 images are private. These pictures are no photographs,
and scores on them say nothing about real fields. What they can do that photographs cannot: growth stage,
close-ups, weedy fields and outliers are planted, so a method that claims to find them can be checked.

How a picture is made: the ground in perspective, then the plants on upright slices from the far end of the
field to the near one (row by row where rows run along the road), then the camera. A block of images is drawn
at once. Image i depends on (seed, i, its label) alone: random numbers are hashes of these, sines and
exponentials are taken per image in double precision, and pixels see only operations that round alike whatever
the batch.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, grid_sample, interpolate

from pullpush.data import _plants
from pullpush.data._plants import PLANTS, SPECIES, STAGES, VARIANTS

NAMES = ("fields",)
CLASSES = (
    "wheat", "cotton", "sorghum", "corn", "peanuts", "no crop", "oats", "soybeans", "canola", "sugar",
    "wheat stubble",
)  # fmt: skip
SUB_CLUSTERS = ("none", "close-up", "weedy")
OUTLIERS = ("none", "empty", "badly planted", "residue", "bad capture")
FAULTS = ("none", "blurred", "over-exposed", "finger", "tilted", "sky only")  # of a bad capture

SIZE = (120, 190)
TRAIN, TEST = 1650, 550  # 150 and 50 of each class
SLICES, LITTER_SLICES = 36, 12
BLOCK = 16  # images drawn at once: their planes stay in a core's cache

# Per class: row spacing in metres (least, most) and the least distance of plants in a row.
ROWS = {
    "wheat": (0.15, 0.25, 0.05), "cotton": (0.76, 1.0, 0.15), "sorghum": (0.5, 0.9, 0.12),
    "corn": (0.65, 0.9, 0.2), "peanuts": (0.76, 0.95, 0.12), "no crop": (0.4, 1.0, 0.2),
    "oats": (0.15, 0.25, 0.05), "soybeans": (0.38, 0.76, 0.07), "canola": (0.2, 0.38, 0.07),
    "sugar": (1.1, 1.5, 0.3), "wheat stubble": (0.18, 0.35, 0.06),
}  # fmt: skip
# Soils, the same for every class: dark loam, brown, red, tan, sand, grey.
SOILS = np.array(
    [
        (0.30, 0.23, 0.18),
        (0.43, 0.33, 0.24),
        (0.50, 0.31, 0.21),
        (0.56, 0.45, 0.33),
        (0.66, 0.57, 0.43),
        (0.46, 0.42, 0.37),
    ]
)


@dataclass(frozen=True, eq=False)
class Planted:
    """The truth about n images, one entry each.

    stage: float32 in [0, 1], growth from seedling to ripe; of stubble how weathered it is; of bare soil 0.
    sub_cluster, outlier, fault: int64 places in SUB_CLUSTERS, OUTLIERS and FAULTS. An outlier is in no
    sub-cluster, and only a bad capture has a fault.
    row_angle: float32 degrees, 0 if rows run away from the camera, 90 along the road.
    row_spacing, plant_height: float32 metres, as sown: an outlier or a bare field may show none of it.
    horizon: float32, its place from the top as a share of the image's height; negative if above the picture.
    sunlight: float32 in [0, 1], 0 under an even cloud.
    """

    stage: Tensor
    sub_cluster: Tensor
    outlier: Tensor
    fault: Tensor
    row_angle: Tensor
    row_spacing: Tensor
    plant_height: Tensor
    horizon: Tensor
    sunlight: Tensor

    def __len__(self) -> int:
        return len(self.stage)

    def __getitem__(self, rows: Tensor | slice) -> Planted:
        return Planted(**{name: column[rows] for name, column in vars(self).items()})


@dataclass(frozen=True, eq=False)
class Fields:
    """Rendered images (n, 3, h, w) uint8, labels (n,) int64 in [0, 11), and the truth about them."""

    images: Tensor
    labels: Tensor
    planted: Planted

    def __len__(self) -> int:
        return len(self.labels)


def render(
    labels: int | Sequence[int] | Tensor,
    seed: int = 0,
    size: tuple[int, int] = SIZE,
    *,
    first: int = 0,
    outliers: float = 0.03,
    close_ups: float = 0.15,
    weedy: float = 0.15,
) -> Fields:
    """Render images in any number and size.

    labels: the class of each image; or how many, the classes taking turns.
    seed: 0 or more; another seed gives other scenes.
    size: (height, width) in pixels. The scenes are the same in every size.
    first: the number of the first image, so that a large set can be made in pieces:
    `render(100)` is `render(60)` followed by `render(40, first=60)`.
    outliers: expected share of outliers, a quarter of each kind. close_ups, weedy: shares among the others.

    Raises ValueError for a label that is no class, no labels, a size below 16 x 16, or a share out of range.
    """
    wanted = _checked_labels(labels, first)
    _check(seed, size, first, outliers, close_ups, weedy)
    scene = _imagine(wanted.numpy(), seed, first, (outliers, close_ups, weedy))
    images = torch.empty(len(wanted), 3, *size, dtype=torch.uint8)

    def draw(start: int) -> None:
        rows = slice(start, start + BLOCK)
        with torch.inference_mode():  # which holds for a thread
            images[rows] = _photograph(SimpleNamespace(**{k: v[rows] for k, v in vars(scene).items()}), size)

    _in_threads(draw, range(0, len(wanted), BLOCK))
    return Fields(images, wanted, Planted(**{k: getattr(scene, k) for k in Planted.__dataclass_fields__}))


def _in_threads(work: Callable[[int], None], starts: range) -> None:
    """Call `work` for every start, as many at once as torch has threads.

    A block is too small to be shared by threads: each draws its own.
    """
    threads = torch.get_num_threads()
    if threads == 1 or len(starts) == 1:
        for start in starts:
            work(start)
        return
    try:
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            for _ in pool.map(work, starts):
                pass
    finally:
        torch.set_num_threads(threads)  # what a thread sets, later threads would start with


def read(name: str, root: Path, split: str) -> tuple[Tensor, Tensor, tuple[str, ...]]:
    """Images (n, 3, 120, 190) uint8, labels (n,) int64, the classes taking turns, and class names.

    train: images 0 to 1,649 of seed 0; test: the next 550; all: both. Each half is rendered once a process.
    """
    halves = [_half(half) for half in _halves(split)]
    return torch.cat([h.images for h in halves]), torch.cat([h.labels for h in halves]), CLASSES


def planted(split: str = "train") -> Planted:
    """The truth about the images of `read`, in their order. Raises ValueError for a split unknown to it."""
    halves = [vars(_half(half).planted) for half in _halves(split)]
    return Planted(**{name: torch.cat([half[name] for half in halves]) for name in halves[0]})


def check(name: str, root: Path) -> None:
    """Do nothing: the set is rendered."""


def download(name: str, root: Path) -> Path:
    """Return `root`: there is nothing to fetch."""
    return root


@functools.cache
def _half(split: str) -> Fields:
    return render(TRAIN) if split == "train" else render(TEST, first=TRAIN)


def _halves(split: str) -> tuple[str, ...]:
    if split not in ("train", "test", "all"):
        raise ValueError(f"Unknown split '{split}'. Allowed: train, test, all.")
    return ("train", "test") if split == "all" else (split,)


def _checked_labels(labels: int | Sequence[int] | Tensor, first: int) -> Tensor:
    """(n,) int64 classes. Raises ValueError unless there is at least one and all are classes."""
    if isinstance(labels, int):
        if labels < 1:
            raise ValueError(
                f"n={labels} images cannot be rendered: give 1 or more, or a label for each image."
            )
        return (torch.arange(labels) + first) % len(CLASSES)
    wanted = torch.as_tensor(labels)
    if wanted.ndim != 1 or len(wanted) == 0 or wanted.is_floating_point():
        raise ValueError(
            f"labels of shape {tuple(wanted.shape)} and {wanted.dtype}: give whole numbers, (n,), n >= 1."
        )
    wanted = wanted.to("cpu", torch.int64)
    for label in wanted[(wanted < 0) | (wanted >= len(CLASSES))][:1].tolist():
        raise ValueError(
            f"Unknown class {label}. Allowed: 0 to {len(CLASSES) - 1}, that is {', '.join(CLASSES)}."
        )
    return wanted


def _check(
    seed: int, size: tuple[int, int], first: int, outliers: float, close_ups: float, weedy: float
) -> None:
    if len(size) != 2 or min(size) < 16:
        raise ValueError(
            f"size={size} is too small to show a field: give (height, width) of at least (16, 16)."
        )
    for name, number in (("seed", seed), ("first", first)):
        if not 0 <= number < 2**63:
            raise ValueError(f"{name}={number} is not possible: give 0 or more, below 2**63.")
    for name, share in (("outliers", outliers), ("close_ups", close_ups), ("weedy", weedy)):
        if not 0 <= share <= 1:
            raise ValueError(f"{name}={share} is a share: give 0 to 1.")
    if close_ups + weedy > 1:
        raise ValueError(
            f"close_ups={close_ups} and weedy={weedy} exclude each other: their sum may be 1 at most."
        )


# --- imagining a scene --------------------------------------------------------------------------------------


class _Chance:
    """Random numbers that depend on (seed, index of the image, how many were drawn before) alone."""

    def __init__(self, seed: int, index: np.ndarray) -> None:
        self.key = _mixed(_mixed(np.full(index.shape, seed, np.uint64)) ^ index.astype(np.uint64))

    def __call__(self, low: float = 0.0, high: float = 1.0) -> np.ndarray:
        """(n,) float64, uniform."""
        self.key = self.key + np.uint64(0x9E3779B97F4A7C15)
        return low + (high - low) * (_mixed(self.key) >> np.uint64(11)) * 2.0**-53

    def below(self, share: float | np.ndarray) -> np.ndarray:
        """(n,) bool, true with probability `share`."""
        return self() < share

    def of(self, *values: float) -> np.ndarray:
        """(n,) float64, one of the values."""
        return np.array(values)[(self() * len(values)).astype(int)]


def _mixed(x: np.ndarray) -> np.ndarray:
    """SplitMix64's output function (Steele, Lea & Flood 2014) on uint64, which wraps."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _imagine(
    labels: np.ndarray, seed: int, first: int, shares: tuple[float, float, float]
) -> SimpleNamespace:
    """Everything that is decided once an image: columns of length n, float32, int64 or bool.

    Lengths are metres, heights in the picture are shares of its height from the top.
    """
    chance = _Chance(seed, first + np.arange(len(labels)))
    s = SimpleNamespace(label=labels)
    _plan(s, chance, shares)
    _sow(s, chance)
    _stand(s, chance)
    _light(s, chance)
    _colour(s, chance)
    columns = {k: torch.from_numpy(np.ascontiguousarray(v)) for k, v in vars(s).items()}
    return SimpleNamespace(**{k: v.float() if v.is_floating_point() else v for k, v in columns.items()})


def _plan(s: SimpleNamespace, chance: _Chance, shares: tuple[float, float, float]) -> None:
    """Growth stage, and which images are outliers or members of a sub-cluster."""
    outliers, close_ups, weedy = shares
    bare = s.label == CLASSES.index("no crop")
    s.stage = np.where(bare, 0.0, chance())
    kind = 1 + (chance() * 4).astype(int)
    kind = np.where(bare & (kind < 3), kind + 2, kind)  # a bare field cannot be emptier, nor badly planted
    s.outlier = np.where(chance.below(outliers), kind, 0)
    fault = 1 + (chance() * 5).astype(int)
    s.fault = np.where(s.outlier == OUTLIERS.index("bad capture"), fault, 0)
    u = chance()
    s.sub_cluster = np.where(
        s.outlier > 0, 0, np.where(u < close_ups, 1, np.where(u < close_ups + weedy, 2, 0))
    )


def _sow(s: SimpleNamespace, chance: _Chance) -> None:
    """What stands in the field: plants, their height and rows, gaps, weeds, straw."""
    table = np.array([ROWS[name] for name in CLASSES])[s.label]
    s.row_spacing = table[:, 0] + (table[:, 1] - table[:, 0]) * chance()
    species = np.array([SPECIES.index(name) if name in PLANTS else -1 for name in CLASSES])[s.label]
    s.bare = species < 0
    s.species = np.maximum(species, 0)
    heights, aspects = (_by_stage(s, name) for name in ("heights", "aspects"))
    s.plant_height = np.where(s.bare, 0.0, heights * chance(0.8, 1.2))
    empty, gappy, residue = (s.outlier == OUTLIERS.index(k) for k in ("empty", "badly planted", "residue"))
    s.gaps = np.where(chance.below(0.25), chance(0.05, 0.2), chance(0.0, 0.05))
    s.gaps = np.select(
        [empty | s.bare | (s.fault == 5), gappy, residue],
        [1.0, chance(0.3, 0.45), chance(0.75, 0.95)],
        s.gaps,
    )
    # Plants are missing where patch noise is above this.
    s.thin = np.where(gappy, chance(-0.9, 0.1), chance(1.5, 3.5))
    s.plant_height = np.where(gappy, s.plant_height * chance(0.5, 0.8), s.plant_height)
    s.width = np.maximum(s.plant_height, 0.02) * aspects
    s.uneven = np.where(s.row_spacing < 0.4, 0.14, 0.34)  # drilled plants blend into one another
    s.distance = np.maximum(table[:, 2], 0.85 * s.width)

    stubble = s.label == CLASSES.index("wheat stubble")
    s.straw = np.where(chance.below(0.25), chance(0.05, 0.4), 0.0)
    s.straw = np.where(stubble, chance(0.35, 0.8), s.straw)
    s.straw = np.where(residue, chance(0.85, 0.97), np.where(empty, 0.0, s.straw))
    weeds = np.where(chance.below(0.3), chance(0.02, 0.1), 0.0)
    weeds = np.where(s.sub_cluster == SUB_CLUSTERS.index("weedy"), chance(0.45, 0.85), weeds)
    s.litter = np.where(residue, 0.95, np.where(empty | (s.fault == 5), 0.0, weeds))
    s.litter_species = np.where(residue, SPECIES.index("residue"), SPECIES.index("weed"))
    s.litter_kind = (chance() * 5).astype(int)
    tall = 0.3 + 0.7 * np.minimum(s.plant_height, 1.0)  # weeds grow up with the crop
    s.litter_height = np.where(residue, 0.12, chance(0.12, 0.3) + tall * chance(0.05, 0.45))


def _by_stage(s: SimpleNamespace, field: str) -> np.ndarray:
    """A plant's table, interpolated at the stage of each image: (n,) or, for colours, (n, 3)."""
    steps = [getattr(PLANTS[name], field) for name in SPECIES]
    table = np.array([v if isinstance(v, tuple) else (v,) * STAGES for v in steps], float)
    at = np.minimum(s.stage * (STAGES - 1), STAGES - 1.001)
    low, part = at.astype(int), at - at.astype(int)
    part = part[:, None] if table.ndim == 3 else part
    return table[s.species, low] * (1 - part) + table[s.species, low + 1] * part


def _stand(s: SimpleNamespace, chance: _Chance) -> None:
    """Where the camera is and how the rows run."""
    close = s.sub_cluster == SUB_CLUSTERS.index("close-up")
    h = s.plant_height
    s.focal = np.where(close, chance(1.2, 1.7), chance(0.8, 1.3))  # in picture heights
    s.camera = np.where(close, 0.35 + 0.6 * np.minimum(h, 1.6) + chance(0.0, 0.3), chance(1.4, 2.5))
    seen = chance.below(0.55) | (h > 1.4)
    horizon = np.where(seen, chance(0.08, 0.36), chance(-0.45, -0.03)) + 0.1 * np.clip(h - 0.8, 0, 1.6)
    s.horizon = np.where(close, chance(-0.9, -0.2) + 0.45 * np.clip(h - 0.3, 0, 1.5), horizon)
    s.horizon = np.where(s.fault == 5, 1.4, s.horizon)  # the camera looks up

    nearest = s.focal * s.camera / np.maximum(1 - s.horizon, 0.1)
    verge = np.where(
        chance.below(0.3) & ~close, s.focal * s.camera / np.maximum(chance(0.72, 0.95) - s.horizon, 0.1), 0
    )
    # Step back until the nearest plants fill no more than about the picture's height.
    back = h * s.focal / np.where(close, chance(0.75, 1.1), chance(0.5, 0.75))
    s.start = np.maximum(np.maximum(nearest * 0.85, verge), back)
    s.edge = np.where(s.start > nearest * 1.02, s.start * 0.97, 0.0)  # in front of it: the roadside
    reach = np.clip(h * s.focal * 110, s.start * 3, s.start * 35)  # where plants are a pixel high
    s.far = np.where(h > s.camera, np.minimum(reach, s.start * 6), reach)

    s.along = chance.below(0.4)  # rows run along the road
    side = np.where(chance.below(0.5), -1.0, 1.0)
    skew = np.deg2rad(np.where(s.along, 12 * chance() ** 1.5, 48 * chance() ** 1.4) * side)
    s.cos, s.tan = np.cos(skew), np.tan(skew)
    s.sin = np.sin(skew)
    s.row_angle = np.where(s.along, 90 - np.abs(np.rad2deg(skew)), np.abs(np.rad2deg(skew)))
    s.phase = chance()
    # A grown cereal hides its rows: one picture covers several of them.
    several = np.where(s.row_spacing < 0.4, np.maximum(np.round(s.width / s.row_spacing), 1), 1)
    s.slip = s.sin / (several * s.row_spacing)
    s.cell = np.where(
        s.along, s.distance, several * s.row_spacing / s.cos
    )  # from plant to plant, across the picture
    s.width = np.minimum(s.width, s.cell * np.where(s.along, 1.18, 1.0))
    ratio = (s.far / s.start) ** (1 / (SLICES - 1))
    depth = s.start[:, None] * ratio[:, None] ** np.arange(SLICES)
    # Along the road a slice is a row; far away, where rows crowd, slices skip some.
    step = (s.row_spacing / s.cos)[:, None]
    s.depth = np.where(s.along[:, None], step * (np.round(depth / step - 0.5) + 0.5), depth)
    s.depth = np.maximum(s.depth, 0.3)
    near = np.where(s.edge > 0, nearest, s.start)[:, None]
    s.litter_depth = near * (np.maximum(s.far, 12)[:, None] / near) ** (
        np.arange(LITTER_SLICES) / (LITTER_SLICES - 1)
    )
    s.gap_between = np.where(s.along, 0.25 * s.row_spacing / s.start, ratio - 1)
    s.ridges = np.where(s.bare, chance(0.05, 0.3), chance(0.0, 0.14))
    s.wheels = np.where(chance.below(0.22), chance(0.4, 1.0), 0.0)
    s.wheel_at = chance(-1.5, 1.5) + np.where(s.along, -s.start - chance(0.8, 3.0), 0)
    s.place = (chance() * 2**18).astype(np.int64)  # where in the noise tiles the image lies
    s.key = (chance() * 2**31).astype(np.int64)


def _light(s: SimpleNamespace, chance: _Chance) -> None:
    """Sun, sky, haze and what the camera does."""
    s.sunlight = np.where(chance.below(0.3), chance(0.0, 0.2), chance(0.45, 1.0))
    s.mirror = chance.below(0.5)  # the sun stands left or right
    s.haze = chance(0.0, 1.0) ** 2 * 0.02 + 0.002  # per metre
    s.exposure = np.exp(0.2 * (chance() + chance() + chance() - 1.5) * 1.5) * (1.0 + 0.15 * s.sunlight)
    s.contrast = 0.85 + 0.33 * s.sunlight + chance(-0.05, 0.1)
    s.saturation = chance(0.75, 1.15)
    warm, tint = chance(-0.09, 0.09) + 0.04 * (s.sunlight - 0.5), chance(-0.025, 0.025)
    s.balance = np.stack([1 + warm, 1 - tint, 1 - warm], 1)
    s.softness = chance(0.02, 0.3)
    s.motion = np.where(
        chance.below(0.3), chance(0.004, 0.02), 0.0
    )  # of the width, sideways, as one drives by
    s.noise = chance(0.0, 1.0) ** 2 * 0.022 + 0.004
    s.vignette = chance(0.0, 0.35)
    s.clouds = chance(0.0, 1.0)
    s.trees = np.where(chance.below(0.7), chance(0.004, 0.05), 0.0)
    s.turn = np.deg2rad(chance(18, 42) * np.where(chance.below(0.5), -1, 1))  # of a tilted camera
    s.turn_cos, s.turn_sin = np.cos(s.turn), np.sin(s.turn)
    s.finger_x, s.finger_y = chance.of(-0.1, 1.1) + chance(-0.05, 0.05), chance(0.1, 1.0)
    s.finger_size = chance(0.35, 0.6)
    overexposed = s.fault == FAULTS.index("over-exposed")
    s.exposure = np.where(overexposed, chance(3.5, 5.0), s.exposure)
    s.contrast = np.where(overexposed, 0.75, s.contrast)


def _colour(s: SimpleNamespace, chance: _Chance) -> None:
    """The palette: (n, 3) RGB of leaf, organ, dry, soil, sky, haze and trees."""

    def vary(colour: np.ndarray, amount: float) -> np.ndarray:
        bright = chance(1 - amount, 1 + amount)
        return colour * np.stack([bright * chance(1 - amount / 2, 1 + amount / 2) for _ in range(3)], 1)

    s.leaf, s.organ, s.dry = (vary(_by_stage(s, name), 0.14) for name in ("leaf", "organ", "dry"))
    s.weed = vary(np.tile([0.37, 0.51, 0.22], (len(s.label), 1)), 0.12)
    s.dry = np.where(
        (s.straw > 0.8)[:, None], vary(np.tile([0.80, 0.70, 0.47], (len(s.label), 1)), 0.12), s.dry
    )
    pick, blend = (chance() * len(SOILS)).astype(int), chance(0, 0.5)[:, None]
    soil = SOILS[pick] * (1 - blend) + SOILS[(chance() * len(SOILS)).astype(int)] * blend
    s.wet = chance(0.0, 1.0) ** 2
    s.soil = vary(soil * (1 - 0.35 * s.wet)[:, None], 0.12)
    s.patches = chance(0.03, 0.16)
    s.clods = chance(0.06, 0.22) * np.where(s.bare, 1.3, 1.0)
    grey = (1 - s.sunlight)[:, None]
    blue = np.array([0.36, 0.56, 0.86]) * (1 - grey) + np.array([0.78, 0.82, 0.87]) * grey
    s.sky = vary(blue, 0.08)
    s.air = np.array([0.80, 0.86, 0.92]) * (1 - grey) + np.array([0.88, 0.89, 0.90]) * grey
    s.tree = vary(np.tile([0.20, 0.28, 0.18], (len(s.label), 1)), 0.15)
    s.roadside = np.where(chance.below(0.6), chance(0.5, 0.95), chance(0.0, 0.2))  # grass or dirt


# --- painting it --------------------------------------------------------------------------------------------

TILE = 512
CLODS, PATCHES, CLOUDS, GRAIN, STRAW = range(5)


@functools.cache
def _tiles() -> Tensor:
    """(5 * 512 * 512,) float32: seamless tiles: noise of mean 0 and deviation 1, straw in [0, 1]."""
    random = np.random.RandomState(0)  # its stream is fixed for ever
    wave = np.hypot(*np.meshgrid(np.fft.fftfreq(TILE), np.fft.fftfreq(TILE)))
    masks = (
        (np.exp(-((wave / 0.28) ** 2)) - np.exp(-((wave / 0.02) ** 2))) / (wave + 0.05),
        np.exp(-((wave / 0.014) ** 2)),
        1 / (wave + 0.004) ** 1.7 * np.exp(-((wave / 0.2) ** 2)),
        np.ones_like(wave),
    )
    tiles = []
    for mask in masks:
        noise = np.fft.ifft2(np.fft.fft2(random.standard_normal((TILE, TILE))) * mask).real
        tiles.append(np.clip((noise - noise.mean()) / noise.std(), -3, 3))
    tiles.append(_straw(random))
    return torch.from_numpy(np.stack(tiles).astype(np.float32)).view(-1)


def _straw(random: np.random.RandomState) -> np.ndarray:
    """Straws strewn on a tile: 0 is bare, up to 1 is the light of a straw on top."""
    count = 3600
    x, y, turn = (random.uniform(0, high, (count, 1)) for high in (TILE, TILE, np.pi))
    along = np.linspace(-1, 1, 60) * random.uniform(8, 22, (count, 1))
    light = np.broadcast_to(random.uniform(0.35, 1, (count, 1)), along.shape)
    tile = np.zeros((TILE, TILE))
    for side in (0, 0.7):
        rows = (y + along * np.sin(turn) + side).astype(int) % TILE
        np.maximum.at(tile, (rows, (x + along * np.cos(turn)).astype(int) % TILE), light)
    return tile


def _photograph(s: SimpleNamespace, size: tuple[int, int]) -> Tensor:
    """Draw a block of b scenes: (b, 3, h, w) uint8."""
    height, width = size
    x = ((torch.arange(width) + 0.5 - width / 2) / height) / s.focal[
        :, None
    ]  # (b, w), sideways per metre of depth
    y = ((torch.arange(height) + 0.5) / height).expand(len(s.label), height)
    canvas = _ground(s, x, y)
    _grow(s, canvas, x, height)
    return _expose(s, canvas, x, y)


def _column(values: Tensor) -> Tensor:
    return values[:, None, None]


def _look_up(tile: int, rows: Tensor, columns: Tensor) -> Tensor:
    """A tile at whole-number places that broadcast to (b, h, w)."""
    at = (rows.to(torch.int32) & (TILE - 1)) * TILE + (columns.to(torch.int32) & (TILE - 1))
    return _tiles()[tile * TILE * TILE :].index_select(0, at.view(-1)).view(at.shape)


def _ground(s: SimpleNamespace, x: Tensor, y: Tensor) -> Tensor:
    """The canvas (b, h, 7, w) before plants stand on it: light on leaf, organ and dry matter and on
    weeds; share of the pixel that is still bare; its depth in metres; light on the soil."""
    height = y.shape[1]
    below = y - s.horizon[:, None]  # (b, h)
    z = s.focal[:, None] * s.camera[:, None] / below.clamp(min=0.4 / height)
    per_row = z * z / (s.focal * s.camera)[:, None] / height  # metres from one row of pixels to the next
    z3, x3 = z[:, :, None], x[:, None, :]
    side = x3 * z3  # (b, h, w) metres sideways

    fine = (0.02 * (s.start / 2.5).clamp(max=1.0))[:, None]
    row, column = s.place // TILE, s.place % TILE
    sharp = (2 * fine / per_row).clamp(max=1.0)[:, :, None]  # texture fades where a pixel holds many clods
    clod_rows = (z / fine + row[:, None]).floor()[:, :, None]
    clods = _look_up(CLODS, clod_rows, (side / fine[:, :, None] + _column(column)).floor())
    patch = _look_up(
        PATCHES, (z / 0.25 + column[:, None]).floor()[:, :, None], (side * 4 + _column(row)).floor()
    )

    # The place across the rows, in row spacings; the wave is -1 on a row and 1 between two rows.
    across = (
        side * _column(torch.where(s.along, s.sin, s.cos))
        - (z * torch.where(s.along, s.cos, s.sin)[:, None])[:, :, None]
    )
    phase = torch.where(s.along, torch.zeros_like(s.phase), s.phase)
    turn = across / _column(s.row_spacing) + _column(phase)
    wave = ((turn - turn.floor()) - 0.5).abs() * 4 - 1
    crossing = z * torch.where(s.along, s.sin, s.cos).abs()[:, None] / (s.focal[:, None] * height)
    crossing = crossing + per_row * torch.where(s.along, s.cos, s.sin.abs())[:, None]
    rows_seen = (1.3 - 1.5 * crossing / s.row_spacing[:, None]).clamp(0, 1)[:, :, None]
    wave = wave * rows_seen

    wheel = ((across - _column(s.wheel_at)).abs() - 0.9).abs()
    wheel = (1 - (wheel - 0.1) * 8).clamp(0, 1) * _column(s.wheels)

    in_field = (z > s.edge[:, None]).float()[:, :, None]
    soil = 1 + clods * sharp * _column(s.clods) * (1 - 0.6 * wheel) + patch * _column(s.patches)
    soil = soil - wave * _column(s.ridges) - 0.28 * wheel * in_field
    plants = (1 - s.gaps) * (0.5 + 0.4 * s.thin).clamp(0, 1)
    half = (s.width / s.row_spacing).clamp(0.1, 1.0)  # share of the ground under leaves
    shadow = _column(plants * (0.25 + 0.3 * s.sunlight) * (0.3 + 0.7 * half))
    soil = soil - shadow * (0.55 - 0.6 * wave).clamp(0, 1) * in_field

    far = (z / (0.8 * s.far)[:, None]).clamp(0, 1)[:, :, None] ** 2
    on_row = ((2 * _column(half) - 1 - wave) / 0.7 + 0.5).clamp(0, 1)
    green = on_row * _column(plants) * (0.15 + 0.85 * far) * in_field * (1 - wheel)
    straw = _look_up(STRAW, clod_rows, (side / fine[:, :, None] + _column(row)).floor())
    straw_sharp = (1.6 * fine / per_row).clamp(max=1.0)[:, :, None]
    straw = (
        (straw * straw_sharp + 0.42 * (1 - straw_sharp))
        * _column(s.straw)
        * (1 + 0.25 * patch).clamp(0, 1.2)
        * in_field
    )

    grass = (1 - in_field) * _column(s.roadside) * (0.75 + 0.3 * clods).clamp(0, 1)
    crown = _plants.crowns()[s.species, (s.stage * (STAGES - 1)).round().long()] * 0.85
    leaf, organ, dry = (
        green * (1 + 0.15 * clods * sharp) * _column(crown[:, material]) for material in range(3)
    )
    weed = grass * (0.6 + 0.15 * clods)
    dry = dry + straw + 0.25 * grass
    covered = (green + grass + straw.clamp(max=1.0) * 0.9).clamp(0, 1)
    ground = (below > 0).float()[:, :, None]
    planes = [plane * ground for plane in (leaf, organ, dry, weed)]
    return torch.stack([*planes, 1 - covered * ground, z3.expand_as(side), soil.clamp(0.15, 1.8)], 2)


def _grow(s: SimpleNamespace, canvas: Tensor, x: Tensor, height: int) -> None:
    """Draw crop and litter on the canvas, from the farthest slice to the nearest."""
    crop, litter = _crop(s, x, height), _litter(s, x, height)
    every = SLICES // LITTER_SLICES
    for k in reversed(range(SLICES)):
        _draw(canvas, crop, k)
        if k % every == 0:
            _draw(canvas, litter, k // every)


def _draw(canvas: Tensor, cut: SimpleNamespace, k: int) -> None:
    """Draw slice k of all images, on those rows of pixels that it touches in each."""
    image, y = cut.touched[k]
    if not len(image):
        return
    foot, rate, texel, tint = (
        table[:, k].index_select(0, image) for table in (cut.foot, cut.rate, cut.texel, cut.tint)
    )
    rows, columns, depth = (
        table[:, k].index_select(0, image)[:, None] for table in (cut.rows, cut.columns, cut.depth)
    )
    row = foot.sub_(y[:, None] + 0.5).mul_(rate).add_(1).clamp_(min=0)
    at = torch.minimum(row, rows - 1).to(torch.int32).mul_(columns).add_(texel)
    texel = _plants.atlas().texels.index_select(0, at.view(-1)).view(at.shape)
    cover = ((texel >> 24) & 255).float().mul_(1 / 255)
    lines = canvas.view(-1, *canvas.shape[2:])  # a line is a row of pixels in seven planes
    at_line = image * canvas.shape[1] + y
    line = lines.index_select(0, at_line)
    line[:, :6].mul_((1 - cover)[:, None])
    for material, plane in enumerate(cut.planes):
        line[:, plane].add_(((texel >> (8 * material)) & 255).float().mul_(tint))
    line[:, 5].add_(cover.mul_(depth))
    lines.index_copy_(0, at_line, line)


def _crop(s: SimpleNamespace, x: Tensor, height: int) -> SimpleNamespace:
    """The slices on which the crop stands."""
    number = torch.arange(SLICES)
    skew = torch.where(s.along, s.tan, torch.zeros_like(s.tan))
    z = s.depth[:, :, None] / (1 - x * skew[:, None])[:, None, :].clamp(min=0.3)
    start = torch.where(
        s.along[:, None],
        _hash(s.key[:, None] + number * 7919).float() / 2**20,
        s.phase[:, None] - s.depth * s.slip[:, None],
    )
    place = x[:, None, :] * z / _column(s.cell) + start[:, :, None]
    cell = place.floor()
    lot = _hash(cell.long() * 668265263 + number[:, None] * 374761393 + _column(s.key))
    z = z * (1 + _column(s.gap_between) * (_bits(lot, 0, 5) - 0.5))
    side = x[:, None, :] * z
    row, column = _column(s.place // TILE), _column(s.place % TILE)
    patch = _look_up(PATCHES, (z * 4 + column).floor(), (side * 4 + row).floor())
    across = side * _column(torch.where(s.along, s.sin, s.cos)) - z * _column(
        torch.where(s.along, s.cos, s.sin)
    )
    wheel = ((across - _column(s.wheel_at)).abs() - 0.9).abs() < 0.17
    size = (1 + _column(s.uneven) * (_bits(lot, 5, 5) - 0.5)) * (1 - 0.08 * patch)
    size = torch.where(wheel, size * (1 - 0.6 * _column(s.wheels)), size)
    room = torch.where(s.along, 0.5 * torch.ones_like(s.cell), (1 - s.width / s.cell).clamp(0.05, 0.25))
    stage = _column(s.stage) * (STAGES - 1) + 0.5 + 0.3 * (_bits(lot, 10, 4) - 0.5)
    stage = stage.clamp(0, STAGES - 1).floor()
    return _upright(
        s, height, z, s.depth, size * _column(s.plant_height), s.plant_height, s.width,
        offset=(place - cell - 0.5 + (_bits(lot, 14, 5) - 0.5) * _column(room)) * _column(s.cell / s.width),
        picture=(_column(s.species) * STAGES + stage.long()) * VARIANTS,
        lot=lot,
        planes=(0, 1, 2),
        present=(_bits(lot, 19, 10) >= _column(s.gaps)) & (patch < _column(s.thin)),
    )  # fmt: skip


def _litter(s: SimpleNamespace, x: Tensor, height: int) -> SimpleNamespace:
    """The slices with weeds or residue, anywhere in the field, and with grass on the roadside."""
    number = torch.arange(LITTER_SLICES)
    depth = s.litter_depth
    cell_width = 0.25 + 0.6 * s.litter_height
    start = _hash(s.key[:, None] + number * 104729).float() / 2**20
    place = x[:, None, :] * depth[:, :, None] / _column(cell_width) + start[:, :, None]
    cell = place.floor()
    lot = _hash(cell.long() * 668265263 + number[:, None] * 374761393 + _column(s.key) + 1)
    ratio = (depth[:, 1] / depth[:, 0] - 1)[:, None, None]
    z = depth[:, :, None] * (1 + ratio * (_bits(lot, 0, 5) - 0.5))
    roadside = z < _column(s.edge)
    share = torch.where(roadside, _column(s.roadside) * 0.9, _column(s.litter))
    kind = (_column(s.litter_kind) + (_bits(lot, 10, 4) * 1.6).floor().long()) % STAGES
    kind = torch.where(roadside, 2, kind)  # grass
    species = torch.where(roadside, SPECIES.index("weed"), _column(s.litter_species))
    size = (0.5 + 0.9 * _bits(lot, 5, 5)) * _column(s.litter_height)
    return _upright(
        s, height, z, depth, size, s.litter_height, cell_width,
        offset=place - cell - 0.5,
        picture=(species * STAGES + kind) * VARIANTS,
        lot=lot,
        planes=(3, 1, 2),
        present=_bits(lot, 19, 10) < share,
    )  # fmt: skip


def _upright(
    s: SimpleNamespace,
    height: int,
    z: Tensor,
    depth: Tensor,
    size: Tensor,
    usual: Tensor,
    wide: Tensor,
    *,
    offset: Tensor,
    picture: Tensor,
    lot: Tensor,
    planes: tuple[int, int, int],
    present: Tensor,
) -> SimpleNamespace:
    """Slices for `_draw`, from what stands at each column of pixels.

    z, size: (b, slices, w) depth and height of a plant, metres. depth: (b, slices), usual: (b,), the
    same of a slice as a whole; wide: (b,) its plants' width. offset: place in the picture, +-0.5.
    picture: its first variant. lot: its hash.
    planes: where leaf, organ and dry light go on the canvas.
    """
    atlas = _plants.atlas()
    scale = s.focal * height
    # The level that has about as many pixels as the plant here, or up to twice as many: sharp, not blocky.
    pixels = (torch.maximum(usual, wide * _plants.ROWS / _plants.COLUMNS) * scale)[:, None] / depth
    level = sum((pixels < _plants.ROWS / 2 ** (n + 0.9)).long() for n in range(_plants.LEVELS - 1))
    rows, columns, first = atlas.rows[level], atlas.columns[level], atlas.first[level]
    offset = torch.where(_column(s.mirror), -offset, offset) + 0.5
    shown = present & (offset >= 0) & (offset < 1)
    picture = torch.where(shown, picture + (_bits(lot, 14, 9) * VARIANTS).long() + 1, 0)
    column = (offset.clamp(0, 1) * columns[:, :, None]).to(torch.int32).clamp(max=columns[:, :, None] - 1)
    foot = (_column(s.horizon) + _column(s.focal * s.camera) / z) * height
    tall = size * _column(scale) / z
    return SimpleNamespace(
        texel=(first[:, :, None] + picture.int() * (rows * columns)[:, :, None] + column),
        foot=foot,
        rate=(rows - 2)[:, :, None] / tall.clamp(min=0.3),
        tint=(1 + 0.3 * (_bits(lot, 9, 6) - 0.5)) / _plants.LIGHT,
        rows=rows,
        columns=columns,
        depth=depth,
        planes=planes,
        touched=_touched(torch.where(shown, foot - tall, height), torch.where(shown, foot, 0.0), height),
    )


def _touched(top: Tensor, bottom: Tensor, height: int) -> list[tuple[Tensor, Tensor]]:
    """For each slice the rows of pixels from the highest top to the lowest bottom in an image, as images (m,)
    and rows (m,). top, bottom: (b, slices, w)."""
    y = torch.arange(height)
    reached = (y >= top.amin(2).T[:, :, None] - 1) & (y <= bottom.amax(2).T[:, :, None])  # (slices, b, h)
    image, row = reached.nonzero()[:, 1:].unbind(1)
    count = reached.sum((1, 2)).tolist()
    return list(zip(image.split(count), row.split(count), strict=True))


def _hash(x: Tensor) -> Tensor:
    """int64 -> 32 mixed bits as int64 in [0, 2**32)."""
    x = x & 0xFFFFFFFF
    x = ((x ^ (x >> 15)) * 0x2C1B3C6D) & 0xFFFFFFFF
    x = ((x ^ (x >> 12)) * 0x297A2D39) & 0xFFFFFFFF
    return x ^ (x >> 15)


def _bits(lot: Tensor, at: int, count: int) -> Tensor:
    """`count` bits of a hash from bit `at`, as float32 in [0, 1)."""
    return ((lot >> at) & (2**count - 1)).float() / 2**count


# --- the camera ---------------------------------------------------------------------------------------------


def _expose(s: SimpleNamespace, canvas: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Canvas (b, h, 7, w), see `_ground`, to (b, 3, h, w) uint8: palette, sky, haze, light, lens, sensor."""
    leaf, organ, dry, weed, bare, z, soil = canvas.unbind(2)
    ground = (y > s.horizon[:, None]).float()[:, :, None]
    soil = soil * bare * ground
    haze = z * _column(s.haze)
    haze = haze / (1 + haze) * (1 - (1 - ground) * bare)
    clear = 1 - haze
    part = torch.empty_like(clear)
    image = torch.empty(len(s.label), 3, *soil.shape[1:])
    for c, plane in enumerate(image.unbind(1)):  # a plane at a time stays in the cache
        torch.mul(leaf, _column(s.leaf[:, c]), out=plane)
        for light, colour in ((organ, s.organ), (dry, s.dry)):
            plane.add_(torch.mul(light, _column(colour[:, c]), out=part))
        torch.mul(weed, _column(s.weed[:, c]), out=part)
        plane.add_(part.add_(soil * _column(s.soil[:, c])))
        plane.mul_(clear).add_(torch.mul(haze, _column(s.air[:, c]), out=part))
    seen = int((ground < 1).any(0).sum())  # rows of pixels that show sky in any of the images
    open_sky = bare[:, :seen] * (1 - ground[:, :seen])
    sky, cloud, tree = _sky(s, x, y[:, :seen], y.shape[1])
    gap = 1 - tree
    for c in range(3):
        over = sky[:, c, :, None] + cloud * (0.97 - sky[:, c, :, None])
        over.mul_(gap).add_(tree * _column(0.75 * s.tree[:, c] + 0.25 * s.air[:, c]))
        image[:, c, :seen] += over.mul_(open_sky)
    grey = soil.new_tensor([0.3, 0.59, 0.11])
    level = image[:, 0] * grey[0] + image[:, 1] * grey[1] + image[:, 2] * grey[2]
    gain = s.balance * s.exposure[:, None]
    r2 = (x[:, None, :] * s.focal[:, None, None]) ** 2 + (y[:, :, None] - 0.5) ** 2
    dim = 1 - _column(s.vignette) * r2
    for c, plane in enumerate(image.unbind(1)):
        plane.sub_(level).mul_(_column(s.saturation)).add_(level)
        plane.mul_(_column(gain[:, c])).sub_(0.42).mul_(_column(s.contrast)).add_(0.42).mul_(dim)
    return _sensor(s, _lens(s, image))


def _sky(s: SimpleNamespace, x: Tensor, y: Tensor, height: int) -> tuple[Tensor, Tensor, Tensor]:
    """At rows y (b, m) of `height` in all: colour of the clear sky (b, 3, m), shares of cloud and of distant
    trees (b, m, w)."""
    up = ((s.horizon[:, None] - y) / 0.5).clamp(min=0)
    blue = up.clamp(max=1)[:, None]
    sky = s.air[:, :, None] * (1 - blue) + s.sky[:, :, None] * blue
    stretch = 1 / (up + 0.12)  # clouds crowd towards the horizon
    row, column = s.place // TILE, s.place % TILE
    rows = (stretch * 24 + row[:, None]).floor()[:, :, None]
    cloud = _look_up(CLOUDS, rows, (x[:, None, :] * stretch[:, :, None] * 60 + _column(column)).floor())
    cloud = ((cloud - 1.4 + 2 * _column(s.clouds)) * 0.6).clamp(0, 0.9) * (0.3 + 0.7 * _column(s.sunlight))
    skyline = _look_up(CLOUDS, row[:, None], (x * 90 + column[:, None]).floor())
    skyline = skyline + 0.3 * _look_up(GRAIN, row[:, None], (x * 70 + column[:, None]).floor())
    skyline = s.trees[:, None] * (0.7 + 0.35 * skyline).clamp(min=0.15)
    above = (s.horizon[:, None] - y)[:, :, None] - skyline[:, None, :]
    tree = (0.5 - above * height).clamp(0, 1) * _column(s.trees > 0)
    return sky, cloud, tree


def _lens(s: SimpleNamespace, image: Tensor) -> Tensor:
    """Softness of every picture, motion of some, and the faults of bad captures."""
    height, width = image.shape[2:]
    soft = _column(s.softness * min(1.0, height / 120))
    for plane in image.unbind(1):
        for inner, before, after in (
            (plane[:, 1:-1], plane[:, :-2], plane[:, 2:]),
            (plane[..., 1:-1], plane[..., :-2], plane[..., 2:]),
        ):
            sides = (before + after).mul_(soft / 2)
            inner.mul_(1 - soft).add_(sides)
    moved = (s.motion > 0).nonzero().squeeze(1)
    if len(moved):
        reach = int(0.01 * width) + 1
        wide = torch.nn.functional.pad(image[moved], (reach, reach, 0, 0), mode="replicate")
        weights = [(s.motion[moved] * width / 2 + 0.5 - abs(j)).clamp(0, 1) for j in range(-reach, reach + 1)]
        total = functools.reduce(torch.add, weights)
        image[moved] = functools.reduce(
            torch.add,
            (wide[..., j : j + width] * _column(w / total)[:, None] for j, w in enumerate(weights)),
        )
    blurred, finger, tilted = (
        (s.fault == FAULTS.index(k)).nonzero().squeeze(1) for k in ("blurred", "finger", "tilted")
    )
    if len(blurred):
        size = max(2, height // 14)
        for _ in range(2):
            small = avg_pool2d(image[blurred], size, ceil_mode=True)
            image[blurred] = interpolate(small, (height, width), mode="bilinear")
    if len(finger):
        image[finger] = _finger(s, image[finger], finger)
    if len(tilted):
        image[tilted] = _tilt(s, image[tilted], tilted)
    return image


def _finger(s: SimpleNamespace, image: Tensor, rows: Tensor) -> Tensor:
    """A finger before the lens, far out of focus."""
    height, width = image.shape[2:]
    x, y = (torch.arange(width) + 0.5) / width, (torch.arange(height) + 0.5) / height
    far = (x - s.finger_x[rows, None])[:, None, :] ** 2 * 1.6 + (y - s.finger_y[rows, None])[:, :, None] ** 2
    far = far / _column(s.finger_size[rows] ** 2)
    share = ((1.25 - far) * 1.8).clamp(0, 1)[:, None]
    skin = torch.tensor([0.78, 0.50, 0.41]) * (s.exposure[rows].clamp(0.6, 1.2) * 0.85)[:, None]
    return image * (1 - share) + share * skin[:, :, None, None] * (1.1 - 0.3 * far.clamp(0, 1.2))[:, None]


def _tilt(s: SimpleNamespace, image: Tensor, rows: Tensor) -> Tensor:
    """Turned by a camera held askew, enlarged so that no corner is empty."""
    height, width = image.shape[2:]
    x = ((torch.arange(width) + 0.5) / width * 2 - 1)[None, None, :] * (width / height)
    y = ((torch.arange(height) + 0.5) / height * 2 - 1)[None, :, None]
    c, d = _column(s.turn_cos[rows]) * 0.62, _column(s.turn_sin[rows]) * 0.62
    grid = torch.stack([(c * x - d * y) * (height / width), d * x + c * y], -1)
    return grid_sample(image, grid, padding_mode="reflection", align_corners=False)


def _sensor(s: SimpleNamespace, image: Tensor) -> Tensor:
    """Noise, and whole numbers."""
    height, width = image.shape[2:]
    y, x = torch.arange(height)[None, :, None], torch.arange(width)[None, None, :]
    for c in range(3):
        shift = s.place + 7919 * c
        grain = _look_up(GRAIN, y + _column(shift // TILE), x + _column(shift % TILE))
        image[:, c] += grain * _column(s.noise)
    over = (image - 0.65).clamp_(0, 0.85)  # film's shoulder: highlights keep some of their colour
    image = image.clamp_(max=1.5) - over * over * 0.59
    return image.mul_(255).add_(0.5).clamp_(0, 255).to(torch.uint8)
