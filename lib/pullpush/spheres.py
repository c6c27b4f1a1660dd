"""Points on the unit sphere, one or two spheres that turn together, with a slider over training time.

Unlike `figures.points3d`, nothing is centred or stretched: where a point lies is what the figure is about.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pullpush.display import HasProvenance, show
from pullpush.looks import LIGHT, PLOTLY_MARKERS_3D, Theme, class_look
from pullpush.stills import canvas, sprite_once

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike, NDArray
    from pandas import DataFrame

    Panels = Mapping[str, Mapping[str, NDArray[np.float64]]]

REACH = 1.08  # of every axis, from -REACH to REACH
TOLERANCE = 1e-2  # of the length of a row
STILL_POINTS = 480  # in all panels of a still together: more would blur it, see stills.STILL_BYTES
EYE = np.array([1.35, 1.35, 0.9]) * 0.66  # from where the spheres are first seen: they fill their panels


def spheres(
    name: str,
    panels: Mapping[str, Mapping[str, ArrayLike]],
    labels: ArrayLike,
    classes: Sequence[str],
    *,
    alt: str,
    caption: str,
    slider: str = "epoch",
    start: str | None = None,
    images: ArrayLike | None = None,
    run: HasProvenance | None = None,
    axes: tuple[str, str, str] = ("h1", "h2", "h3"),
) -> None:
    """Points on one unit sphere, or on two side by side that turn together.

    panels  {title: {slider's stop: (n, 3)}}, rows of unit length: the same stops in both, in order, and the
            same n points, at most 3000      labels: (n,) class indices
    start   the stop shown first and on the still; the last one by default. A still shows at most 480 points
            in all, drawn at random, and says so
    images  (n, c, h, w): shown when a point is hovered

    Raises ValueError for other shapes or stops, or a row whose length is not 1 within 0.01.
    """
    classes_of = np.asarray(labels).astype(int)
    n = len(classes_of)
    places = _checked(name, panels, n)
    if n and not 0 <= classes_of.min() <= classes_of.max() < len(classes):
        raise ValueError(f"Labels of {name!r} are not all from 0 to {len(classes) - 1}, one for each class.")
    if images is not None and len(np.asarray(images)) != n:
        raise ValueError(f"{len(np.asarray(images))} images for the {n} points of {name!r}.")
    stops = list(next(iter(places.values())))
    start = stops[-1] if start is None else str(start)
    if start not in stops:
        raise ValueError(f"start={start!r} is not a stop of {name!r}: {', '.join(stops)}.")
    table, columns = _numbers(places, [classes[k] for k in classes_of], slider, axes)

    present = [k for k in range(len(classes)) if (classes_of == k).any()]
    scenes = [f"scene{i + 1 if i else ''}" for i in range(len(places))]
    # As in a cloud, the script takes the coordinates from the CSV: those of trace.meta.panel.
    traces: list[dict[str, Any]] = [
        {
            "type": "scatter3d", "mode": "markers", "name": classes[k], "scene": scene, "meta": {"panel": i},
            "marker": {"color": class_look(k)[0], "symbol": PLOTLY_MARKERS_3D[k % 8], "size": 3.5},
            "showlegend": i == 0,
        }
        for i, scene in enumerate(scenes)
        for k in present
    ]  # fmt: skip
    for scene in scenes:
        traces += _sphere_traces(scene, axes)
    meta: dict[str, Any] = {"slider": slider, "start": start, "columns": columns, "unit": True}
    if images is not None:
        meta["sprite"] = sprite_once(name, images)
    flat = {"visible": False, "range": [-REACH, REACH]}
    camera = {"eye": dict(zip("xyz", EYE.tolist(), strict=True))}
    layout: dict[str, Any] = {"meta": meta, "margin": {"t": 24}, "annotations": []}
    for i, (title, scene) in enumerate(zip(places, scenes, strict=True)):
        left, right = i / len(scenes), (i + 1) / len(scenes)
        layout[scene] = {
            "domain": {"x": [left, right]}, "aspectmode": "cube", "camera": camera,
            "xaxis": flat, "yaxis": flat, "zaxis": flat,
        }  # fmt: skip
        layout["annotations"].append({
            "text": title, "x": (left + right) / 2, "y": 1, "xref": "paper", "yref": "paper",
            "xanchor": "center", "yanchor": "bottom", "showarrow": False, "font": {"size": 15},
        })  # fmt: skip

    drawn = np.sort(np.random.default_rng(0).permutation(n)[: STILL_POINTS // len(places)])

    def still(theme: Theme) -> Figure:
        figure, grid = canvas(7.0, 4.1 if len(places) > 1 else 4.6, columns=len(places), squeeze=False)
        for ax, (title, path) in zip(grid[0], places.items(), strict=True):
            _draw(ax, path[start][drawn], classes_of[drawn], axes, theme)
            ax.set_title(f"{title}, {slider} {start}" if len(stops) > 1 else title, loc="center")
        shown = f"{len(drawn)} of {n} points" if len(drawn) < n else ""
        _legend(figure, {k: classes[k] for k in present}, shown)
        return figure

    show(
        name, still=still, alt=alt, caption=caption, data=table, run=run,
        interactive={"data": traces, "layout": layout}, aspect=1.75 if len(places) > 1 else 1.3,
    )  # fmt: skip


def _checked(name: str, panels: Mapping[str, Mapping[str, ArrayLike]], n: int) -> Panels:
    places = {
        str(title): {str(stop): np.asarray(xyz, dtype=np.float64) for stop, xyz in path.items()}
        for title, path in panels.items()
    }
    if len(places) not in (1, 2):
        raise ValueError(f"{len(places)} panels in {name!r}: give one or two.")
    first, *others = places
    if not places[first]:
        raise ValueError(f"Panel {first!r} of {name!r} has no stops.")
    for title in others:
        if list(places[title]) != list(places[first]):
            raise ValueError(
                f"The panels of {name!r} differ in their stops: {first!r} has {', '.join(places[first])}, "
                f"{title!r} has {', '.join(places[title])}."
            )
    for title, path in places.items():
        for stop, xyz in path.items():
            where = f"Stop {stop!r} of panel {title!r} in {name!r}"
            if xyz.shape != (n, 3):
                raise ValueError(f"{where} has shape {xyz.shape}, not {(n, 3)}.")
            length = np.linalg.norm(xyz, axis=1)
            if (off := ~(np.abs(length - 1) <= TOLERANCE)).any():  # nan too
                row = int(off.argmax())
                raise ValueError(
                    f"{where}: row {row} has length {length[row]:.4g}, not 1. Normalise the rows."
                )
    if n > 3000:
        raise ValueError(f"{n} points in {name!r}: a page carries at most 3000; give a sample.")
    return places


def _numbers(
    places: Panels, names: Sequence[str], slider: str, axes: Sequence[str]
) -> tuple[DataFrame, dict[str, list[str]]]:
    """The table under the figure, to three digits, and which of its columns hold a stop, panel by panel."""
    import pandas as pd

    stops = list(next(iter(places.values())))
    held: dict[str, Any] = {"point": np.arange(len(names)), "class": names}
    columns: dict[str, list[str]] = {}
    for stop in stops:
        end = f" at {slider} {stop}" if len(stops) > 1 else ""
        columns[stop] = [f"{title} {axis}{end}" for title in places for axis in axes]
        xyz = np.concatenate([path[stop] for path in places.values()], axis=1)
        held |= dict(zip(columns[stop], xyz.round(3).T + 0.0, strict=True))  # no -0
    return pd.DataFrame(held), columns


def _wire() -> NDArray[np.float64]:
    """Circles on the unit sphere, (5, 49, 3): two meridians, the equator and two parallels."""
    turn = np.linspace(0, 2 * np.pi, 49)
    cos, sin, zero = np.cos(turn), np.sin(turn), np.zeros_like(turn)
    rings = [(cos, zero, sin), (zero, cos, sin)]
    for height in (-0.5, 0.0, 0.5):
        flat = np.sqrt(1 - height**2)
        rings.append((flat * cos, flat * sin, zero + height))
    return np.stack(rings).transpose(0, 2, 1)


def _ball(count: int = 160) -> NDArray[np.float64]:
    """Points spread evenly on the unit sphere (a golden spiral), (count, 3)."""
    turn, height = np.arange(count) * np.pi * (3 - 5**0.5), np.linspace(-1, 1, count)
    flat = np.sqrt(1 - height**2)
    return np.stack([flat * np.cos(turn), flat * np.sin(turn), height], axis=1)


def _sphere_traces(scene: str, axes: Sequence[str]) -> list[dict[str, Any]]:
    """The wire, the names of the axes at their ends, and a translucent ball that dims what lies behind it.

    The script gives wire and ball the colour of the page's theme that meta.tint names.
    """
    gap = np.full((1, 3), np.nan)
    line = np.concatenate([part for ring in _wire() for part in (ring, gap)]).round(2)
    flat = {"ambient": 1, "diffuse": 0, "specular": 0, "fresnel": 0}
    parts: list[tuple[Any, dict[str, Any]]] = [
        (line, {
            "type": "scatter3d", "mode": "lines", "line": {"color": LIGHT.grid, "width": 2},
            "meta": {"tint": "grid"},
        }),
        (np.eye(3) * 1.06, {
            "type": "scatter3d", "mode": "text", "text": list(axes), "textposition": "middle center",
        }),
        (_ball().round(2) * 0.97, {
            "type": "mesh3d", "alphahull": 0, "opacity": 0.4, "color": LIGHT.paper, "lighting": flat,
            "meta": {"tint": "paper"},
        }),
    ]  # fmt: skip
    shared = {"scene": scene, "hoverinfo": "skip", "showlegend": False}
    return [look | shared | dict(zip("xyz", xyz.T, strict=True)) for xyz, look in parts]


def _draw(ax: Any, xyz: Any, labels: Any, axes: Sequence[str], theme: Theme) -> None:
    """A sphere seen from EYE, from so far away that lines stay parallel. Points behind it are faint."""
    from matplotlib.colors import to_rgb
    from matplotlib.patches import Circle

    ahead = EYE / np.linalg.norm(EYE)
    right = np.array([-ahead[1], ahead[0], 0]) / np.hypot(ahead[0], ahead[1])
    screen = np.stack([right, np.cross(ahead, right), ahead], axis=1)  # right, up, towards the reader

    ax.add_patch(Circle((0, 0), 1, fill=False, edgecolor=theme.muted, linewidth=0.8))
    for ring in _wire() @ screen:
        front = np.where(ring[:, 2:] > 0, ring[:, :2], np.nan)
        ax.plot(*front.T, color=theme.grid, linewidth=0.8)
    points = xyz @ screen
    for near, size, weight in ((False, 14, 0.45), (True, 24, 1.0)):
        for k in np.unique(labels):
            x, y = points[(labels == k) & ((points[:, 2] > 0) == near), :2].T
            colour, marker = class_look(k)
            shade = weight * np.array(to_rgb(colour)) + (1 - weight) * np.array(to_rgb(theme.paper))
            ax.scatter(x, y, s=size, color=shade, marker=marker, linewidths=0, zorder=2 + near)
    for letter, (x, y) in zip(axes, 1.06 * screen[:, :2], strict=True):
        ax.text(x, y, letter, ha="center", va="center", fontsize=8, color=theme.ink)
    ax.set(xlim=(-REACH, REACH), ylim=(-REACH, REACH), aspect="equal")
    ax.set_axis_off()


def _legend(figure: Figure, names: Mapping[int, str], title: str) -> None:
    from matplotlib.lines import Line2D

    handles = []
    for k, name in names.items():
        colour, marker = class_look(k)
        handles.append(Line2D([], [], color=colour, marker=marker, ls="", ms=6, label=name))
    figure.legend(
        handles=handles, title=title, title_fontsize=9, loc="outside lower center",
        ncols=10 if sum(map(len, names.values())) < 40 else 5, handletextpad=0.1, columnspacing=1.2,
    )  # fmt: skip
