"""What grows in the rendered fields: for each plant its size, its colours and its pictures, by growth stage.

A plant is a list of parts (blades, oval leaves, stems, heads). Its pictures are drawn once a process, in
three materials (leaf, organ, dry) and not in colours, so that every image brings its own palette and light.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

STAGES = 5  # pictures and colours are given at growth stages 0, 1/4, 1/2, 3/4 and 1
VARIANTS = 4  # different pictures of one plant at one stage
ROWS, COLUMNS = 128, 80  # pixels of the largest picture
LEVELS = 6  # each level halves the picture before; the last has 4 rows
LIGHT = 160.0  # stored light of a surface that shows its palette colour; 255 is 1.6 times that

Steps = float | tuple[float, float, float, float, float]  # one value, or one for each stage
Colour = tuple[float, float, float]
Colours = tuple[Colour, Colour, Colour, Colour, Colour]

LEAF, ORGAN, DRY = 0, 1, 2


@dataclass(frozen=True)
class Part:
    """Strokes of one kind. Lengths are fractions of the plant's height, angles radians from upright.

    shape: `blade` tapers to its tip, `oval` is a leaf or head, `lobed` a leaf with points, `stem` is even.
    count: strokes of one picture.
    low, high: where strokes begin. spread: how far to the sides they begin, 1 is the picture's half width;
    bush: they begin anywhere in the ellipse that fills the picture instead. lean: angles lie in +-lean.
    droop: further turn to the side from base to tip. light: 1 shows the palette's colour.
    """

    shape: str
    material: int
    count: Steps
    length: Steps
    width: Steps
    low: Steps = 0.0
    high: Steps = 0.0
    spread: Steps = 0.9
    lean: Steps = 0.4
    droop: Steps = 0.5
    light: Steps = 1.0
    bush: bool = False


@dataclass(frozen=True)
class Plant:
    """A crop or weed, by the five stages.

    heights: metres. aspects: width over height of the picture. shade: how dark it is at the foot, 0 to 1.
    leaf, organ, dry: colours of the materials, RGB in [0, 1].
    """

    heights: Steps
    aspects: Steps
    shade: Steps
    leaf: Colours
    organ: Colours
    dry: Colours
    parts: tuple[Part, ...]


def _even(colour: Colour) -> Colours:
    return (colour, colour, colour, colour, colour)


def _cereal(blade: float, heads: tuple[Part, ...]) -> tuple[Part, ...]:
    """Wheat and oats: the same until the heads come out, but for the width of a blade."""
    w = blade
    return (
        Part("blade", LEAF, (9, 26, 34, 20, 0), (0.9, 0.75, 0.6, 0.5, 0), (w * 2.6, w * 1.8, w, w, w), 0,
            (0.05, 0.1, 0.4, 0.5, 0),
             (0.25, 0.6, 1, 1, 1), (0.7, 0.6, 0.45, 0.5, 0.5), (0.9, 0.9, 0.8, 1.0, 1)),
        Part("blade", DRY, (0, 1, 3, 8, 22), 0.45, w, 0, 0.45, 1, 0.6, 1.2, 0.9),
        Part("stem", LEAF, (0, 0, 14, 18, 0), 0.85, 0.012, 0, 0.05, 1, 0.08, 0.05, 0.85),
        Part("stem", DRY, (0, 0, 0, 4, 24), 0.85, 0.013, 0, 0.05, 1, 0.1, 0.08, 0.85),
        *heads,
    )  # fmt: skip


def _tall_grass(heads: tuple[Part, ...], leaves: float, width: float, length: float) -> tuple[Part, ...]:
    """Corn and sorghum: a stem with long arching leaves to both sides."""
    n = leaves
    return (
        Part("stem", LEAF, (1, 1, 2, 2, 1), (0.4, 0.6, 0.8, 0.85, 0.85), 0.03, 0, 0, 0.12, 0.05, 0.02, 0.75),
        Part("blade", LEAF, (6, n * 0.8, n, n, n * 0.2), (0.7, length * 1.25, length, length, length), (0.13,
            width * 1.3, width, width, width),
             (0, 0.05, 0.08, 0.1, 0.3), (0.25, 0.5, 0.8, 0.8, 0.8), (0.08, 0.12, 0.25, 0.25, 0.2), (0.8,
                 0.75, 0.8, 0.85, 0.9), (1.2, 1.6, 1.7, 1.8, 2.0), 1.05),
        Part("blade", DRY, (0, 0, 1, 4, n * 0.9), length * 0.9, width * 0.8, 0.05, (0.2, 0.2, 0.2, 0.3,
            0.75), 0.25, 1.0, 2.2, 0.9),
        *heads,
    )  # fmt: skip


PLANTS: dict[str, Plant] = {
    "wheat": Plant(
        (0.07, 0.22, 0.55, 0.9, 0.85), (1.0, 1.0, 0.6, 0.42, 0.42), (0.35, 0.6, 0.75, 0.7, 0.6),
        ((0.40, 0.56, 0.22), (0.31, 0.49, 0.19), (0.29, 0.46, 0.21), (0.42, 0.52, 0.24), (0.79, 0.66, 0.36)),
        ((0.45, 0.55, 0.26), (0.45, 0.55, 0.26), (0.45, 0.56, 0.28), (0.62, 0.62, 0.33), (0.86, 0.69, 0.36)),
        _even((0.80, 0.68, 0.40)),
        _cereal(0.022, (
            Part("oval", ORGAN, (0, 0, 0, 20, 24), 0.13, 0.034, 0.76, 0.87, 1, 0.15, (0, 0, 0, 0.1, 0.5),
                1.15),
            Part("blade", ORGAN, (0, 0, 0, 26, 30), 0.1, 0.006, 0.84, 0.9, 1, 0.3, 0.1, 1.2),
        )),
    ),
    "cotton": Plant(
        (0.08, 0.30, 0.75, 1.05, 1.0), (1.5, 1.15, 0.9, 0.85, 0.8), (0.2, 0.5, 0.75, 0.75, 0.6),
        ((0.42, 0.54, 0.25), (0.30, 0.47, 0.19), (0.23, 0.42, 0.16), (0.28, 0.42, 0.17), (0.45, 0.38, 0.22)),
        _even((0.98, 0.97, 0.94)),
        _even((0.42, 0.30, 0.21)),
        (
            Part("stem", DRY, (1, 1, 1, 2, 3), 0.85, 0.02, 0, 0, 0.15, 0.12, 0.1, 0.8),
            Part("stem", DRY, (0, 2, 4, 6, 22), 0.4, 0.014, 0.1, 0.6, 0.1, 1.1, -0.5, 0.85),
            Part("oval", LEAF, (6, 0, 0, 0, 0), 0.5, 0.36, 0.25, 0.6, 0.25, 1.5, 0.6),
            Part("lobed", LEAF, (0, 34, 80, 66, 12), (0.3, 0.25, 0.16, 0.14, 0.11), (0.26, 0.22, 0.15, 0.13,
                0.1), lean=2.4, bush=True),
            Part("oval", ORGAN, (0, 0, 2, 16, 46), (0.05, 0.05, 0.05, 0.085, 0.1), (0.05, 0.05, 0.05, 0.085,
                0.1), lean=1.6, droop=0, light=1.05, bush=True),
        ),
    ),
    "sorghum": Plant(
        (0.10, 0.40, 1.0, 1.35, 1.3), (1.1, 0.95, 0.7, 0.6, 0.55), (0.25, 0.5, 0.75, 0.75, 0.7),
        ((0.42, 0.57, 0.21), (0.33, 0.51, 0.19), (0.29, 0.47, 0.18), (0.34, 0.48, 0.20), (0.52, 0.50, 0.27)),
        ((0.5, 0.5, 0.2), (0.5, 0.5, 0.2), (0.62, 0.55, 0.25), (0.66, 0.30, 0.15), (0.52, 0.20, 0.11)),
        _even((0.70, 0.58, 0.36)),
        _tall_grass((
            Part("oval", ORGAN, (0, 0, 2, 3, 3), (0, 0, 0.14, 0.2, 0.22), (0, 0, 0.06, 0.11, 0.13), 0.74,
                0.79, 0.45, 0.12, 0.1, 1.1),
        ), 13, 0.055, 0.42),
    ),
    "corn": Plant(
        (0.12, 0.55, 1.7, 2.5, 2.4), (1.1, 0.95, 0.55, 0.42, 0.40), (0.25, 0.5, 0.75, 0.8, 0.65),
        ((0.44, 0.60, 0.20), (0.31, 0.52, 0.16), (0.25, 0.45, 0.14), (0.29, 0.46, 0.16), (0.60, 0.56, 0.30)),
        _even((0.84, 0.74, 0.44)),
        _even((0.76, 0.62, 0.38)),
        _tall_grass((
            Part("blade", ORGAN, (0, 0, 0, 14, 12), 0.15, 0.012, 0.8, 0.87, 0.2, 0.7, 0.5, 1.15),
            Part("oval", DRY, (0, 0, 0, 1, 2), 0.13, 0.04, 0.38, 0.46, 0.2, 0.5, 0, 1.1),
        ), 15, 0.036, 0.36),
    ),
    "peanuts": Plant(
        (0.05, 0.15, 0.30, 0.40, 0.38), (1.7, 1.9, 2.1, 2.2, 2.2), (0.2, 0.45, 0.6, 0.6, 0.55),
        ((0.44, 0.60, 0.25), (0.38, 0.56, 0.21), (0.31, 0.51, 0.18), (0.34, 0.51, 0.19), (0.45, 0.51, 0.21)),
        _even((0.96, 0.78, 0.12)),
        _even((0.55, 0.45, 0.25)),
        (
            Part("stem", LEAF, (3, 6, 6, 6, 8), 0.5, 0.03, 0, 0.1, 0.2, 1.1, 0.3, 0.7),
            Part("oval", LEAF, (14, 70, 130, 150, 120), (0.34, 0.21, 0.15, 0.13, 0.13), (0.22, 0.13, 0.09,
                0.08, 0.08), lean=1.6, droop=0.3, bush=True),
            Part("oval", ORGAN, (0, 0, 7, 3, 0), 0.07, 0.07, lean=1.5, light=1.1, bush=True),
            Part("oval", DRY, (0, 0, 0, 4, 22), 0.13, 0.07, lean=1.5, bush=True),
        ),
    ),
    "oats": Plant(
        (0.07, 0.24, 0.60, 1.05, 1.0), (1.0, 1.0, 0.6, 0.45, 0.45), (0.35, 0.6, 0.75, 0.65, 0.5),
        ((0.40, 0.56, 0.24), (0.32, 0.50, 0.25), (0.33, 0.50, 0.30), (0.46, 0.57, 0.34), (0.82, 0.74, 0.50)),
        ((0.5, 0.6, 0.3), (0.5, 0.6, 0.3), (0.5, 0.6, 0.35), (0.70, 0.74, 0.48), (0.92, 0.83, 0.60)),
        _even((0.83, 0.75, 0.52)),
        _cereal(0.032, (
            Part("stem", ORGAN, (0, 0, 0, 40, 44), 0.09, 0.005, 0.7, 0.9, 1, 1.1, 1.0, 1.0),
            Part("oval", ORGAN, (0, 0, 0, 95, 110), 0.045, 0.017, 0.68, 0.96, 1, 2.6, 0, 1.15),
        )),
    ),
    "soybeans": Plant(
        (0.07, 0.28, 0.70, 0.95, 0.85), (1.3, 1.05, 0.85, 0.75, 0.6), (0.2, 0.5, 0.75, 0.75, 0.6),
        ((0.47, 0.61, 0.28), (0.35, 0.54, 0.22), (0.26, 0.48, 0.17), (0.50, 0.57, 0.20), (0.66, 0.54, 0.28)),
        _even((0.62, 0.50, 0.28)),
        _even((0.52, 0.40, 0.25)),
        (
            Part("stem", DRY, (1, 1, 2, 2, 4), 0.8, 0.02, 0, 0, 0.2, 0.15, 0.1, 0.8),
            Part("oval", LEAF, (5, 0, 0, 0, 0), 0.42, 0.36, 0.35, 0.6, 0.3, 1.6, 0.4),
            Part("oval", LEAF, (0, 36, 105, 90, 14), (0.24, 0.22, 0.125, 0.11, 0.1), (0.2, 0.17, 0.09, 0.08,
                0.07), lean=1.6, droop=0.4, bush=True),
            Part("oval", ORGAN, (0, 0, 0, 18, 60), 0.08, 0.025, lean=2.6, droop=0.2, light=0.95, bush=True),
        ),
    ),
    "canola": Plant(
        (0.06, 0.22, 0.75, 1.25, 1.15), (1.7, 1.3, 0.65, 0.5, 0.5), (0.2, 0.45, 0.6, 0.5, 0.5),
        ((0.40, 0.56, 0.28), (0.35, 0.51, 0.27), (0.36, 0.52, 0.24), (0.38, 0.52, 0.22), (0.66, 0.59, 0.34)),
        ((0.95, 0.85, 0.10), (0.95, 0.85, 0.10), (0.93, 0.85, 0.11), (0.96, 0.86, 0.09), (0.76, 0.66, 0.40)),
        _even((0.70, 0.60, 0.40)),
        (
            Part("oval", LEAF, (8, 22, 18, 12, 0), (0.6, 0.5, 0.28, 0.2, 0), (0.3, 0.24, 0.13, 0.09, 0),
                0.02, (0.2, 0.3, 0.5, 0.5, 0), (0.15, 0.45, 0.9, 1, 1), 1.3, 0.9),
            Part("stem", LEAF, (0, 0, 14, 20, 4), 0.85, 0.013, 0, 0.1, 0.95, 0.12, 0.08, 0.8),
            Part("stem", DRY, (0, 0, 0, 0, 22), 0.8, 0.012, 0, 0.1, 0.95, 0.15, 0.08, 0.9),
            Part("oval", ORGAN, (0, 0, 60, 260, 0), (0, 0, 0.04, 0.035, 0), (0, 0, 0.045, 0.042, 0),
                (0, 0, 0.66, 0.68, 0), 0.97, 1, 1.6, 0, 1.1),
            Part("blade", ORGAN, (0, 0, 0, 10, 120), 0.11, 0.012, 0.45, 0.9, 1, 1.1, -0.5, 1.0),
        ),
    ),
    "sugar": Plant(
        (0.30, 0.90, 2.0, 3.0, 3.3), (0.9, 0.75, 0.55, 0.45, 0.42), (0.3, 0.6, 0.8, 0.85, 0.85),
        ((0.44, 0.61, 0.23), (0.39, 0.58, 0.21), (0.37, 0.56, 0.21), (0.38, 0.55, 0.22), (0.45, 0.56, 0.27)),
        ((0.5, 0.45, 0.25), (0.5, 0.45, 0.25), (0.55, 0.47, 0.28), (0.52, 0.38, 0.32), (0.56, 0.43, 0.36)),
        _even((0.74, 0.63, 0.41)),
        (
            Part("stem", ORGAN, (0, 1, 5, 7, 8), (0, 0.3, 0.45, 0.6, 0.65), 0.022, 0, 0, 0.8, 0.12, 0.05,
                0.9),
            Part("blade", DRY, (0, 2, 6, 12, 18), 0.28, 0.013, 0.1, 0.5, 0.9, 1.4, 1.4, 0.9),
            Part("blade", LEAF, (16, 30, 38, 42, 42), (0.8, 0.62, 0.42, 0.36, 0.34), (0.05, 0.03, 0.017,
                0.014, 0.013), 0, (0.2, 0.35, 0.6, 0.68, 0.68),
                 (0.5, 0.8, 0.9, 0.9, 0.9), 0.5, 1.3, 1.1),
        ),
    ),
    "wheat stubble": Plant(
        (0.26, 0.22, 0.20, 0.18, 0.14), (0.9, 0.9, 1.0, 1.0, 1.1), (0.4, 0.4, 0.4, 0.4, 0.35),
        ((0.42, 0.55, 0.22), (0.42, 0.55, 0.22), (0.40, 0.53, 0.22), (0.38, 0.52, 0.22), (0.38, 0.5, 0.22)),
        _even((0.85, 0.74, 0.46)),
        ((0.90, 0.77, 0.45), (0.87, 0.75, 0.46), (0.82, 0.72, 0.48), (0.75, 0.67, 0.48), (0.66, 0.60, 0.47)),
        (
            Part("stem", DRY, (34, 32, 30, 26, 20), (0.85, 0.85, 0.8, 0.75, 0.7), 0.032, 0, 0.08, 0.6, 0.16,
                0, 1.1),
            Part("stem", DRY, (8, 8, 10, 12, 14), 0.5, 0.03, 0, 0.35, 0.8, 1.5, 0, 1.05),
            Part("blade", LEAF, (0, 0, 1, 2, 4), 0.5, 0.03, 0, 0.1, 0.7, 0.7, 0.6),
        ),
    ),
    # Not crops. The five stages of a weed are five kinds: rosette, leafy, grass, in flower, dry.
    "weed": Plant(
        (0.10, 0.35, 0.30, 0.50, 0.40), (2.0, 1.0, 1.3, 0.9, 1.0), 0.3,
        ((0.36, 0.52, 0.24), (0.31, 0.49, 0.20), (0.42, 0.55, 0.22), (0.37, 0.50, 0.25), (0.55, 0.48, 0.28)),
        _even((0.88, 0.80, 0.35)),
        _even((0.60, 0.49, 0.32)),
        (
            Part("oval", LEAF, (12, 0, 0, 0, 0), 0.85, 0.24, 0, 0.2, 0.2, 1.5, 0.4),
            Part("oval", LEAF, (0, 34, 0, 26, 5), 0.24, 0.12, lean=1.6, bush=True),
            Part("stem", LEAF, (0, 3, 0, 5, 1), 0.85, 0.022, 0, 0, 0.4, 0.35, 0.1, 0.8),
            Part("blade", LEAF, (0, 0, 40, 0, 4), 0.85, 0.03, 0, 0.1, 0.4, 0.9, 0.9),
            Part("oval", ORGAN, (0, 0, 0, 26, 0), 0.07, 0.07, 0.65, 0.95, 0.8, 1.6, 0, 1.1),
            Part("stem", DRY, (0, 0, 3, 0, 24), 0.6, 0.02, 0, 0.3, 0.5, 0.7, 0.4),
        ),
    ),
    "residue": Plant(
        (0.10, 0.10, 0.10, 0.10, 0.10), 3.0, 0.25,
        _even((0.5, 0.5, 0.25)),
        _even((0.8, 0.7, 0.45)),
        ((0.82, 0.72, 0.47), (0.78, 0.68, 0.46), (0.72, 0.62, 0.43), (0.66, 0.57, 0.41), (0.58, 0.50, 0.38)),
        (
            Part("stem", DRY, 60, 0.7, 0.06, 0, 0.55, 1, 1.9, 0.2, 1.05),
            Part("blade", DRY, 20, 0.8, 0.14, 0, 0.4, 1, 1.7, 0.4, 0.9),
        ),
    ),
}  # fmt: skip

SPECIES = tuple(PLANTS)


class Atlas(NamedTuple):
    """All pictures in one vector, so that one lookup serves a batch in which every image shows another plant.

    texels: (total,) int32, the bytes leaf, organ and dry light, each times coverage, and coverage. A picture
    has a transparent row below the plant and one above it.
    first: (LEVELS,) int32, where a level begins; its picture p begins rows * columns * p later.
    rows, columns: (LEVELS,) int32, the size of a picture with these two rows.
    Picture 0 is transparent; plant s, stage g, variant v is 1 + (s * STAGES + g) * VARIANTS + v.
    """

    texels: Tensor
    first: Tensor
    rows: Tensor
    columns: Tensor


@functools.cache
def atlas() -> Atlas:
    """Draw every plant at every stage in every variant, once a process: two to three seconds."""
    pictures = [np.zeros((4, ROWS, COLUMNS), np.float32)]
    for number, plant in enumerate(PLANTS.values()):
        for stage in range(STAGES):
            for variant in range(VARIANTS):
                # RandomState, because NumPy promises its stream for ever; the newer Generator may change.
                random = np.random.RandomState((number * STAGES + stage) * VARIANTS + variant)
                pictures.append(_draw(plant, stage, random))
    level = np.stack(pictures)
    texels: list[np.ndarray] = []
    first, rows, columns = [], [], []
    for _ in range(LEVELS):
        guarded = np.pad(level, ((0, 0), (0, 0), (1, 1), (0, 0)))
        first.append(sum(len(part) for part in texels))
        rows.append(guarded.shape[2])
        columns.append(guarded.shape[3])
        texels.append(_pack(guarded))
        n, c, h, w = level.shape
        level = level[..., : w // 2 * 2].reshape(n, c, h // 2, 2, w // 2, 2).mean((3, 5))
    as_int = functools.partial(torch.tensor, dtype=torch.int32)
    return Atlas(torch.from_numpy(np.concatenate(texels)), as_int(first), as_int(rows), as_int(columns))


@functools.cache
def crowns() -> Tensor:
    """What a stand shows from afar: leaf, organ and dry light of its upper half, (species, 5, 3)."""
    pictures = atlas()
    size = int(pictures.rows[-1] * pictures.columns[-1])
    smallest = pictures.texels[int(pictures.first[-1]) + size :].view(-1, size)
    columns = int(pictures.columns[-1])
    upper = smallest[:, 3 * columns : 5 * columns]  # two of four rows, and one transparent row on either side
    light = torch.stack([((upper >> shift) & 255).float().mean(1) / LIGHT for shift in (0, 8, 16)], -1)
    cover = ((upper >> 24) & 255).float().mean(1) / 255
    return (light / cover[:, None]).view(len(SPECIES), STAGES, VARIANTS, 3).mean(2)


def at_stage(values: Steps, stage: int) -> float:
    """The value of a table at stage 0 to 4."""
    return float(values[stage]) if isinstance(values, tuple) else float(values)


def _pack(pictures: np.ndarray) -> np.ndarray:
    """(n, 4, h, w) light and coverage in [0, 1.6] and [0, 1] -> (n * h * w,) int32 of four bytes."""
    scale = np.array([LIGHT, LIGHT, LIGHT, 255], np.float32).reshape(4, 1, 1)
    levels = np.clip(np.rint(pictures * scale), 0, 255).astype(np.uint8)
    return np.ascontiguousarray(levels.transpose(0, 2, 3, 1)).view("<i4").reshape(-1)


def _draw(plant: Plant, stage: int, random: np.random.RandomState) -> np.ndarray:
    """One picture, (4, ROWS, COLUMNS) float32, foot in row 0. Nearer strokes hide farther ones."""
    height, width = 2 * ROWS, 2 * COLUMNS  # twice the size, then averaged: smooth edges
    seen = np.zeros(height * width, np.int64)  # depth, light and material of the foremost point in one number
    for part in plant.parts:
        count = round(at_stage(part.count, stage))
        if count:
            x, y, depth, light = _strokes(part, stage, at_stage(plant.aspects, stage), count, random)
            light = light * (1 - at_stage(plant.shade, stage) * (1 - np.clip(y, 0, 1)) ** 1.5)
            key = (depth << 12) | (np.clip(light * LIGHT, 1, 255).astype(np.int64) << 2) | part.material
            inside = (y >= 0) & (y < 1)
            cell = (y * height).astype(np.int64) * width + (x * width).astype(np.int64)
            np.maximum.at(seen, cell[inside], key[inside])
    light = ((seen >> 2) & 255) / LIGHT
    planes = [light * ((seen & 3) == material) for material in (LEAF, ORGAN, DRY)]
    picture = np.stack([*planes, (seen > 0).astype(np.float64)]).reshape(4, ROWS, 2, COLUMNS, 2)
    return picture.mean((2, 4)).astype(np.float32)


def _strokes(
    part: Part, stage: int, aspect: float, count: int, random: np.random.RandomState
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Points of `count` strokes: x in [0, 1) of the picture's width (it wraps round), y in plant heights,
    depth (a whole number, larger is nearer) and light, each (points,)."""
    length = at_stage(part.length, stage) * random.uniform(0.7, 1.15, (count, 1, 1))
    width = at_stage(part.width, stage) * random.uniform(0.75, 1.2, (count, 1, 1))
    if part.bush:
        radius = np.sqrt(random.uniform(0, 1, (count, 1, 1)))
        turn = random.uniform(0, 2 * np.pi, (count, 1, 1))
        x = 0.43 * aspect * radius * np.cos(turn)
        y = 0.5 + 0.42 * radius * np.sin(turn)
    else:
        x = 0.5 * aspect * at_stage(part.spread, stage) * random.uniform(-1, 1, (count, 1, 1))
        y = random.uniform(at_stage(part.low, stage), at_stage(part.high, stage) + 1e-9, (count, 1, 1))
    lean = at_stage(part.lean, stage) * random.uniform(-1, 1, (count, 1, 1))
    droop = np.sign(lean) * at_stage(part.droop, stage) * random.uniform(0.5, 1.3, (count, 1, 1))
    depth = random.permutation(count).reshape(-1, 1, 1)

    along = np.linspace(0, 1, max(6, int(2.6 * ROWS * at_stage(part.length, stage))))[None, :, None]
    across = np.linspace(-1, 1, max(3, int(2.6 * ROWS * at_stage(part.width, stage))))[None, None, :]
    heading = lean + droop * along
    step = length / along.shape[1]
    half = width / 2 * _outline(part.shape, along)
    px = x + np.cumsum(np.sin(heading), 1) * step + across * half * np.cos(heading)
    py = y + np.cumsum(np.cos(heading), 1) * step - across * half * np.sin(heading)
    # Strokes behind are darker. The sun stands on the left: left halves of leaves and bushes shine.
    light = at_stage(part.light, stage) * random.uniform(0.88, 1.12, (count, 1, 1))
    light = light * (0.74 + 0.4 * depth / max(count - 1, 1))
    light = light * (1 - 0.16 * across - (0.35 * x / aspect if part.bush else 0)) + 0.12 * along - 0.06
    light = light * random.uniform(
        0.9, 1.1, (1, along.shape[1], across.shape[2])
    )  # spots, alike on all leaves
    if part.shape in ("oval", "lobed"):
        light = light * (1 + 0.18 * (np.abs(across) < 0.12))  # midrib
    depth = depth * 4096 // count + 1
    full = np.broadcast_shapes(px.shape, light.shape)
    flat = [np.broadcast_to(v, full).reshape(-1) for v in ((px / aspect + 0.5) % 1.0, py, depth, light)]
    return flat[0], flat[1], flat[2], flat[3]


def _outline(shape: str, along: np.ndarray) -> np.ndarray:
    """Width along a stroke from base (0) to tip (1), at most 1."""
    if shape == "blade":
        return np.minimum(1, 0.5 + 3 * along) * (1 - along**2)
    ellipse = 2 * np.sqrt(np.clip(along * (1 - along), 0, None))
    if shape == "oval":
        return ellipse * (1.1 - 0.35 * along)
    if shape == "lobed":
        return ellipse * (0.62 + 0.38 * np.abs(np.cos(2.6 * np.pi * along)))
    return np.ones_like(along)
