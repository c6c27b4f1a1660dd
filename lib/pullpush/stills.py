"""Stills and pictures as small data URIs: a drawing as SVG or WebP, many images as one sprite."""

from __future__ import annotations

import base64
import hashlib
import io
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from pullpush.looks import Theme

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike, NDArray

STILL_BYTES = 16_000  # what one still may weigh: a notebook with a dozen figures stays under 500 kB
BUILT_BYTES = 40_000  # and where the notebook is built with the book and never committed
SPRITE_BYTES = 28_000  # what the images in the hovers of one figure may weigh together


@contextmanager
def style(theme: Theme) -> Iterator[None]:
    """matplotlib's defaults for a still of this theme."""
    import matplotlib as mpl

    with mpl.rc_context({
        "figure.facecolor": theme.paper, "axes.facecolor": theme.paper, "savefig.facecolor": theme.paper,
        "text.color": theme.ink, "axes.labelcolor": theme.ink, "axes.titlecolor": theme.ink,
        "xtick.color": theme.muted, "ytick.color": theme.muted, "axes.edgecolor": theme.muted,
        "grid.color": theme.grid, "axes.grid": True, "axes.axisbelow": True, "axes.spines.top": False,
        "axes.spines.right": False, "legend.frameon": False, "font.size": 10, "axes.titlesize": 10,
        "axes.titlelocation": "left", "lines.linewidth": 1.8, "font.sans-serif": ["DejaVu Sans", "Verdana"],
        "svg.fonttype": "none", "svg.hashsalt": "pullpush",
        "figure.constrained_layout.use": True, "image.cmap": "cividis",
    }):  # fmt: skip
        yield


def canvas(
    width: float = 7.0, height: float = 4.0, rows: int = 1, columns: int = 1, **options: Any
) -> tuple[Figure, Any]:
    """A figure and its axes that no global state keeps alive: `fig, ax = figures.canvas()` (inches; 7 fills
    the page).
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, **options)


def render_still(
    draw: Callable[[Theme], Figure], theme: Theme, budget: int = STILL_BYTES
) -> tuple[str, int, int]:
    """The still as a data URI of at most `budget` bytes, with its size in CSS pixels (96 an inch)."""
    with style(theme):
        figure = draw(theme)
        inches = figure.get_size_inches()
        uri = _encode(figure, budget)
    if (
        "matplotlib.pyplot" in sys.modules
    ):  # drawn with plt: or else the figure stays in memory and is shown a second time
        sys.modules["matplotlib.pyplot"].close(figure)
    return uri, round(inches[0] * 96), round(inches[1] * 96)


def _encode(figure: Figure, budget: int) -> str:
    """SVG where it is small, else the best WebP within the budget; a still that holds images takes the
    smaller form.
    """
    from PIL import Image

    stream = io.BytesIO()
    figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    drawing = _slim(stream.getvalue().decode()).encode()
    if len(drawing) > budget or b"<image" in drawing:
        # A drawing has few colours: a palette without loss is smaller than lossy WebP and keeps letters
        # crisp.
        stream = io.BytesIO()
        figure.savefig(stream, format="png", dpi=136)
        image = Image.open(stream).convert("RGB")
        pixels = webp(image.quantize(64, dither=Image.Dither.NONE).convert("RGB"), budget, otherwise=image)
        if len(pixels) < len(drawing):
            return "data:image/webp;base64," + base64.b64encode(pixels).decode()
    return "data:image/svg+xml;base64," + base64.b64encode(drawing).decode()


def _slim(svg: str) -> str:
    """The drawing without metadata, unused ids, repeated fonts, line breaks and digits beyond a hundredth of
    a point.
    """
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.S)
    svg = re.sub(r"\s+", " ", svg).replace("> <", "><")
    svg = re.sub(r' id="[A-Za-z0-9.]+_\d+"', "", svg)
    svg = re.sub(r' transform="rotate\(-?0 [^"]*\)"', "", svg)
    if family := re.search(r"font-family: [^;]*; ", svg):
        svg = svg.replace(family[0], "").replace("<svg ", f'<svg style="{family[0].strip()}" ', 1)
    return re.sub(r"<[^>]+>", lambda tag: re.sub(r"(?<![\w#.])(-?\d+\.\d\d)\d+", r"\1", tag[0]), svg)


def webp(image: Any, budget: int, otherwise: Any = None) -> bytes:
    """A PIL image as WebP: lossless if that fits the budget, else `otherwise` at the highest quality that
    does, else smaller.
    """
    stream = io.BytesIO()
    image.save(stream, "webp", lossless=True, method=4)
    scale, image = 1.0, otherwise or image
    while len(stream.getvalue()) > budget and scale > 0.3:
        size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        smaller = image if scale == 1.0 else image.resize(size)
        for quality in (85, 70, 55, 40):
            stream = io.BytesIO()
            smaller.save(stream, "webp", quality=quality, method=4)
            if len(stream.getvalue()) <= budget:
                break
        scale *= 0.8
    return stream.getvalue()


def sprite(images: ArrayLike, budget: int = SPRITE_BYTES) -> dict[str, Any]:
    """Many small images as one, for hovers: layout.meta["sprite"]. images: (n, c, h, w), uint8 or floats in
    [0, 1].
    """
    from PIL import Image

    pictures = pictures_of(images)
    n, height, width = pictures.shape[:3]
    columns = int(np.ceil(np.sqrt(n)))
    rows = -(-n // columns)
    sheet = np.zeros((rows * columns, height, width, 3), np.uint8)
    sheet[:n] = pictures
    sheet = (
        sheet.reshape(rows, columns, height, width, 3)
        .swapaxes(1, 2)
        .reshape(rows * height, columns * width, 3)
    )
    uri = "data:image/webp;base64," + base64.b64encode(webp(Image.fromarray(sheet), budget)).decode()
    return {"src": uri, "columns": columns, "rows": rows, "count": n}


def pictures_of(images: ArrayLike) -> NDArray[np.uint8]:
    """(n, c, h, w) tensors or arrays, uint8 or in [0, 1], one or three channels -> (n, h, w, 3) uint8."""
    array = np.asarray(images)
    if array.ndim != 4 or array.shape[1] not in (1, 3):
        raise ValueError(f"Images of shape {array.shape} cannot be shown: give (n, 1, h, w) or (n, 3, h, w).")
    if array.dtype != np.uint8:
        array = np.clip(np.round(array.astype(np.float32) * 255), 0, 255).astype(np.uint8)
    if array.shape[1] == 1:
        array = array.repeat(3, axis=1)
    return array.transpose(0, 2, 3, 1)


_sprites: dict[str, str] = {}  # digest of images -> the figure that brought their sprite into this notebook


def sprite_once(name: str, images: ArrayLike) -> dict[str, Any]:
    """The sprite of a figure; its id alone where an earlier figure of the notebook holds the same images."""
    key = hashlib.sha256(np.ascontiguousarray(np.asarray(images)).tobytes()).hexdigest()[:12]
    if _sprites.setdefault(key, name) != name:
        return {"id": key}
    return {"id": key, **sprite(images)}
