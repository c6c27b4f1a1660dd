"""Colours, markers and themes: one look for a method, a class, a force through the whole book."""

from __future__ import annotations

import difflib
from dataclasses import dataclass

PULL = "#2f7fc4"  # a cool blue, everywhere in the book
PUSH = "#d9701a"  # a warm orange, everywhere in the book

# Eleven classes at evenly spaced lightness (L* 33 to 82): they stay apart in greyscale, and by at least 20
# CIELAB units for readers with protanopia, deuteranopia or tritanopia (tests/test_figures.py computes it).
# Neighbouring indices differ in lightness.
CLASS_COLOURS = (
    "#3f51af", "#f27300", "#7f6127", "#74beb7", "#c15f73",
    "#adc970", "#726c99", "#c192dd", "#6c7ffe", "#00e8a9",
    "#6900d2",
)  # fmt: skip
CLASS_MARKERS = ("o", "^", "s", "D", "v", "P", "X", "<", "p", "*", ">")


# The same markers by plotly's names; in three dimensions it has eight.
PLOTLY_MARKERS = {
    "o": "circle", "^": "triangle-up", "s": "square", "D": "diamond", "v": "triangle-down",
    "P": "cross", "X": "x", "<": "triangle-left", "p": "pentagon", "*": "star", ">": "triangle-right",
}  # fmt: skip
PLOTLY_MARKERS_3D = (
    "circle",
    "diamond",
    "square",
    "cross",
    "x",
    "circle-open",
    "diamond-open",
    "square-open",
)


@dataclass(frozen=True)
class Theme:
    """The colours of a page: background, text, secondary text, grid lines. `name` is "light" or "dark"."""

    name: str
    paper: str
    ink: str
    muted: str
    grid: str


LIGHT = Theme("light", paper="#ffffff", ink="#222832", muted="#48566b", grid="#dde1e6")
DARK = Theme("dark", paper="#121212", ink="#ced6dd", muted="#9ca4af", grid="#363d47")
THEMES = (LIGHT, DARK)


@dataclass(frozen=True)
class Method:
    """How a method looks in every figure. The colour has a contrast of 3:1 on both backgrounds; marker and
    dash tell it in grey.
    """

    label: str
    colour: str
    marker: str
    dash: str  # matplotlib's: "-", "--", ":", "-."


METHODS = {
    "pair": Method("pair", "#c40094", "o", "--"),
    "triplet": Method("triplet", "#449b7f", "^", "-"),
    "margin": Method("Hadsell", "#9f7e0b", "s", "-."),
    "nt_xent": Method("NT-Xent", "#7860f4", "D", "-"),
    "sup_con": Method("SupCon", "#ab7ae2", "P", "--"),
    "cc": Method("CC", "#d42d57", "<", "--"),
    "rcc": Method("RCC", "#810dff", "p", "-"),
    "claws": Method("CLAWS", "#1b6f48", "*", "-"),
    "simclr": Method("SimCLR", "#f05db7", "h", "--"),
    "lnscc": Method("LNSCC", "#66661f", "d", "-"),
    "pixels": Method("raw pixels", "#6f7681", "X", ":"),
    "untrained": Method("untrained", "#8a8f98", "v", ":"),
}
METHOD_COLOURS = {name: style.colour for name, style in METHODS.items()}


def class_look(k: int) -> tuple[str, str]:
    """Colour and marker of the k-th class; from the twelfth on they come round again."""
    return CLASS_COLOURS[k % len(CLASS_COLOURS)], CLASS_MARKERS[k % len(CLASS_MARKERS)]


def method(name: str) -> Method:
    """The look of a method. Raises ValueError for a name that has none, with the nearest one that has."""
    if name in METHODS:
        return METHODS[name]
    near = difflib.get_close_matches(name, METHODS, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise ValueError(
        f"No colour for method {name!r}.{hint} Known: {', '.join(METHODS)}; add new ones to figures.METHODS."
    )


def colour(name: str) -> str:
    """The colour of a method, as #rrggbb."""
    return method(name).colour


def luminance(rgb: tuple[float, ...]) -> float:
    """Relative luminance of an sRGB colour in [0, 1], as WCAG defines it."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in rgb]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
