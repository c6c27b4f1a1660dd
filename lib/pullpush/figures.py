"""The figures of the book, each in all its forms: interactive, a still for light and one for dark pages, alt
text, and the numbers behind it.

`show` takes a drawing function, a text alternative, a caption and a table of numbers. The helpers (`curves`,
`matrix`, `scatter_frames`, ...) draw the forms that several studies share. Colours are in `looks`, small
files in `stills`, the HTML in `display`.

Nothing heavy is imported here: matplotlib and pandas come in when the first figure is drawn, plotly never has
to.
"""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pullpush.display import HasProvenance, check_words, columns_of, element, render, show
from pullpush.looks import (
    CLASS_COLOURS,
    CLASS_MARKERS,
    DARK,
    LIGHT,
    METHOD_COLOURS,
    METHODS,
    PLOTLY_MARKERS,
    PLOTLY_MARKERS_3D,
    PULL,
    PUSH,
    THEMES,
    Method,
    Theme,
    class_look,
    colour,
    luminance,
    method,
)
from pullpush.spheres import spheres
from pullpush.stills import STILL_BYTES, canvas, pictures_of, sprite, sprite_once, style, webp

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike
    from pandas import DataFrame

__all__ = [
    "CLASS_COLOURS", "CLASS_MARKERS", "DARK", "LIGHT", "METHODS", "METHOD_COLOURS", "PULL", "PUSH", "THEMES",
    "Method", "Theme", "canvas", "colour", "curves", "image_grid", "matrix", "method", "paired", "points3d",
    "render", "scatter_frames", "show", "spheres", "sprite", "style", "table",
]  # fmt: skip

ENLARGED = 110  # CSS pixels: pictures below are shown up to this wide
SQUARES = 40  # pixels: a picture at most this wide shows its pixels as squares, a wider one is smoothed


def image_grid(
    name: str,
    images: ArrayLike,
    *,
    alt: str,
    caption: str,
    rows: Sequence[str] | None = None,
    columns: Sequence[str] | None = None,
    data: DataFrame | None = None,
    budget: int = STILL_BYTES,
    run: HasProvenance | None = None,
) -> None:
    """Images side by side.

    images  (rows, columns, c, h, w), or (n, c, h, w), which wraps after ten; uint8 or in [0, 1]
    rows    a label left of each row      columns: one above each column
    data    the numbers; by default the mean and standard deviation of every image
    budget  bytes that the picture may take; photographs need more of them than digits to be recognised
    """
    import pandas as pd

    array = np.asarray(images)
    if array.ndim == 4:
        wide = min(10, len(array))
        tall = -(-len(array) // wide)
        array = np.concatenate([array, np.zeros((tall * wide - len(array), *array.shape[1:]), array.dtype)])
        count = len(images)  # type: ignore[arg-type]
        array = array.reshape(tall, wide, *array.shape[1:])
    else:
        count = array.shape[0] * array.shape[1]
    tall, wide = array.shape[:2]
    for what, given, wanted in (("rows", rows, tall), ("columns", columns, wide)):
        if given is not None and len(given) != wanted:
            raise ValueError(
                f"{what} has {len(given)} entries for {wanted}; image grid {name!r} is {tall} x {wide}."
            )
    pictures = pictures_of(array.reshape(tall * wide, *array.shape[2:]))
    if data is None:
        pixels = pictures[:count].reshape(count, -1) / 255
        data = pd.DataFrame({
            "row": [i // wide for i in range(count)], "column": [i % wide for i in range(count)],
            "mean": pixels.mean(1), "std": pixels.std(1),
        })  # fmt: skip

    check_words(name, alt, caption)
    from IPython.display import HTML, display

    # One picture for both themes, a pixel a pixel: the gaps are transparent, the lettering is the page's own.
    height, width = pictures.shape[1:3]
    gap = max(1, round(width * 0.06))
    sheet = np.zeros((tall * (height + gap) - gap, wide * (width + gap) - gap, 4), np.uint8)
    for i in range(count):
        top, left = i // wide * (height + gap), i % wide * (width + gap)
        sheet[top : top + height, left : left + width, :3] = pictures[i]
        sheet[top : top + height, left : left + width, 3] = 255
    from PIL import Image

    uri = "data:image/webp;base64," + base64.b64encode(webp(Image.fromarray(sheet), budget)).decode()

    def line(kind: str, texts: Sequence[str]) -> str:
        cells = "".join(f"<span>{html.escape(text)}</span>" for text in texts)
        return f'<div class="pp-{kind}" aria-hidden="true">{cells}</div>' if texts else ""

    # CSS pixels: ten fill the page, a few do not become giants, and no photograph is shown larger than it is.
    shown = min(640, sheet.shape[1] if width > ENLARGED else wide * min(96 * width / 28, ENLARGED))
    scaling = "pixelated" if width <= SQUARES else "auto"
    body = (
        f'<div class="pp-grid" style="--columns:{wide};--rows:{tall};--shown:{shown:.0f}px">'
        f"{line('columns', columns or ())}{line('rows', rows or ())}"
        f'<img class="pp-pixels dark-light" src="{uri}" width="{sheet.shape[1]}" height="{sheet.shape[0]}"'
        f' alt="{html.escape(alt)}"'
        f' style="image-rendering:{scaling};width:100%;max-width:{shown:.0f}px;height:auto"></div>'
    )
    display(HTML(element(name, body, caption, data, run)))


def curves(
    name: str,
    data: DataFrame,
    *,
    y: str | Sequence[str],
    alt: str,
    caption: str,
    x: str = "epoch",
    hue: str | None = "method",
    seed: str = "seed",
    x_label: str | None = None,
    y_label: str | Sequence[str] | None = None,
    y_range: tuple[float, float] | None = None,
    run: HasProvenance | None = None,
) -> None:
    """Lines over training: the mean over seeds, and their whole range as a band.

    data  one row per (hue, seed, x)      y  a column, or several: one panel each
    hue   the column that tells the lines apart; names in METHODS get their colours, others class colours
    """
    panels = [y] if isinstance(y, str) else list(y)
    titles = [y_label] if isinstance(y_label, str) else list(y_label or panels)
    columns_of(data, [x, *panels] + ([hue] if hue else []), f"curves {name!r}")
    keys: list[Any] = list(dict.fromkeys(data[hue])) if hue else [None]

    def still(theme: Theme) -> Figure:
        figure, axes = canvas(7.0, 3.2, columns=len(panels), squeeze=False)
        for ax, column, title in zip(axes[0], panels, titles, strict=True):
            for i, key in enumerate(keys):
                part = data if hue is None else data[data[hue] == key]
                shade, marker = class_look(i)
                look = METHODS.get(str(key)) or Method(str(key), shade if hue else PULL, marker, "-")
                stats = part.groupby(x)[column].agg(["mean", "min", "max"])
                where = stats.index.to_numpy()
                mark = {"marker": look.marker, "markersize": 5} if len(where) <= 15 else {}
                ax.plot(where, stats["mean"], look.dash, color=look.colour, label=look.label, **mark)
                if seed in part and part[seed].nunique() > 1:
                    ax.fill_between(
                        where, stats["min"], stats["max"], color=look.colour, alpha=0.2, linewidth=0
                    )
            ax.set_xlabel(x_label or x)
            ax.set_title(title)
            if y_range is not None:
                ax.set_ylim(*y_range)
        if hue and len(keys) <= 4:
            axes[0][0].legend()
        elif hue:  # more lines leave no room among the curves
            handles, words = axes[0][0].get_legend_handles_labels()
            figure.legend(handles, words, loc="outside lower center", ncols=3)
        return figure

    show(name, still=still, alt=alt, caption=caption, data=data, run=run)


def scatter_frames(
    name: str,
    frames: Mapping[str, ArrayLike],
    labels: ArrayLike,
    classes: Sequence[str],
    *,
    alt: str,
    caption: str,
    slider: str = "perplexity",
    start: str | None = None,
    images: ArrayLike | None = None,
    run: HasProvenance | None = None,
) -> None:
    """Points in the plane with a slider, such as t-SNE at several perplexities; the axes carry no scale.

    frames  {name of the slider's stop: (n, 2)}, in order, the same points in each      labels: (n,) class
            indices
    start   the stop shown first and on the still; the middle one by default
    images  (n, c, h, w): shown when a point is hovered
    """
    _points(name, frames, labels, classes, 2, alt, caption, slider, start, images, run, None)


def points3d(
    name: str,
    points: ArrayLike | Mapping[str, ArrayLike],
    labels: ArrayLike,
    classes: Sequence[str],
    *,
    alt: str,
    caption: str,
    axes: tuple[str, str, str] = ("x", "y", "z"),
    slider: str = "projection",
    start: str | None = None,
    images: ArrayLike | None = None,
    run: HasProvenance | None = None,
) -> None:
    """Points in space, to be turned. points: (n, 3), or {stop: (n, 3)} for a slider; the rest as in
    `scatter_frames`.
    """
    frames = points if isinstance(points, Mapping) else {"": points}
    _points(name, frames, labels, classes, 3, alt, caption, slider, start, images, run, axes)


def _points(
    name: str,
    frames: Mapping[str, ArrayLike],
    labels: ArrayLike,
    classes: Sequence[str],
    dimensions: int,
    alt: str,
    caption: str,
    slider: str,
    start: str | None,
    images: ArrayLike | None,
    run: HasProvenance | None,
    axes: tuple[str, str, str] | None,
) -> None:
    import pandas as pd

    stops = {str(stop): np.asarray(xy, dtype=np.float64) for stop, xy in frames.items()}
    classes_of = np.asarray(labels).astype(int)
    names = list(stops)
    start = names[len(names) // 2] if start is None else str(start)
    if start not in stops:
        raise ValueError(f"start={start!r} is not a frame of {name!r}: {', '.join(names)}.")
    for stop, xy in stops.items():
        if xy.shape != (len(classes_of), dimensions):
            raise ValueError(
                f"Frame {stop!r} of {name!r} has shape {xy.shape}, not {(len(classes_of), dimensions)}."
            )
    if len(classes_of) > 3000:
        raise ValueError(f"{len(classes_of)} points in {name!r}: a page carries at most 3000; give a sample.")
    present = [k for k in range(len(classes)) if (classes_of == k).any()]
    letters = "xyz"[:dimensions]
    table = pd.DataFrame({"point": np.arange(len(classes_of)), "class": [classes[k] for k in classes_of]})
    columns = {
        stop: [f"{letter} at {slider} {stop}" if len(stops) > 1 else letter for letter in letters]
        for stop in stops
    }
    for stop, xy in stops.items():  # to three digits: finer than a dot
        digits = max(0, 2 - int(np.floor(np.log10(max(float(np.abs(xy).max()), 1e-12)))))
        for j, column in enumerate(columns[stop]):
            table[column] = np.round(xy[:, j], digits)

    traces = []
    for k in present:
        shade, marker = class_look(k)
        symbol = PLOTLY_MARKERS[marker] if dimensions == 2 else PLOTLY_MARKERS_3D[k % 8]
        traces.append({
            "type": "scatter" if dimensions == 2 else "scatter3d", "mode": "markers", "name": classes[k],
            "marker": {"color": shade, "symbol": symbol, "size": 7 if dimensions == 2 else 4},
        })  # fmt: skip
    # The coordinates are not repeated here: the script takes them from the CSV, a trace's rows by its name.
    meta: dict[str, Any] = {"slider": slider, "start": start, "columns": columns}
    if images is not None:
        meta["sprite"] = sprite_once(name, images)
    layout: dict[str, Any] = {"meta": meta}
    if axes is None:
        layout |= {"xaxis": {"visible": False}, "yaxis": {"visible": False, "scaleanchor": "x"}}
    else:
        layout["scene"] = {"aspectmode": "cube", "camera": {"eye": {"x": 1.35, "y": 1.35, "z": 0.9}}} | {
            f"{a}axis": {"title": {"text": text}} for a, text in zip("xyz", axes, strict=True)
        }

    def still(theme: Theme) -> Figure:
        figure, ax = canvas(7.0, 4.6, subplot_kw={"projection": "3d"} if dimensions == 3 else None)
        flat = {"depthshade": False} if dimensions == 3 else {}  # one colour a class, as the legend has it
        for k in present:
            xy = stops[start][classes_of == k].T
            shade, marker = class_look(k)
            ax.scatter(*xy, s=16, c=shade, marker=marker, linewidths=0, label=classes[k], **flat)
        beside = 1.0 if dimensions == 2 else 1.08  # the label of the upright axis stands right of its axes
        ax.legend(loc="center left", bbox_to_anchor=(beside, 0.5), handletextpad=0.2)
        if dimensions == 2:
            ax.set_aspect("equal")
            ax.grid(False)
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set_visible(False)
        else:
            assert axes is not None
            for axis in (ax.xaxis, ax.yaxis, ax.zaxis):  # matplotlib's panes are grey on any page
                axis.set_pane_color(theme.paper)
                axis.pane.set_edgecolor(theme.grid)
                axis.line.set_color(theme.muted)
            ax.set(
                xticklabels=[], yticklabels=[], zticklabels=[], xlabel=axes[0], ylabel=axes[1], zlabel=axes[2]
            )
        if len(stops) > 1:
            ax.set_title(f"{slider} {start}")
        return figure

    show(
        name, still=still, alt=alt, caption=caption, data=table, run=run,
        interactive={"data": traces, "layout": layout}, aspect=1.3,
    )  # fmt: skip


def matrix(
    name: str,
    values: ArrayLike,
    *,
    rows: Sequence[str],
    columns: Sequence[str],
    alt: str,
    caption: str,
    x_label: str = "",
    y_label: str = "",
    fmt: str = ".2f",
    diverging: bool = False,
    run: HasProvenance | None = None,
) -> None:
    """A heat map with every number written in its cell: a confusion matrix, or scores by two factors.

    values: (rows, columns); fmt: how a number is written; diverging: differences, coloured around zero.
    """
    import pandas as pd

    array = np.asarray(values)
    if array.shape != (len(rows), len(columns)):
        raise ValueError(
            f"Matrix {name!r} has shape {array.shape} for {len(rows)} row and {len(columns)} column names."
        )

    def still(theme: Theme) -> Figure:
        from matplotlib import colormaps
        from matplotlib.colors import Colormap, LinearSegmentedColormap, Normalize

        if diverging:  # through the page's own background at zero, so that zero looks like nothing
            shade: Colormap = LinearSegmentedColormap.from_list("pullpush", [PUSH, theme.paper, PULL])
            largest = float(np.nanmax(np.abs(array)))
            norm = Normalize(-largest, largest)
        else:
            shade, norm = colormaps["cividis"], Normalize(float(np.nanmin(array)), float(np.nanmax(array)))
        cell = min(0.62, 5.6 / len(columns))
        figure, ax = canvas(min(7.0, cell * len(columns) + 1.6), min(cell, 0.5) * len(rows) + 1.2)
        ax.imshow(array, cmap=shade, norm=norm, aspect="auto", interpolation="none")
        ax.grid(False)
        ax.spines[:].set_visible(False)
        turn = (
            {"rotation": 45, "ha": "right", "rotation_mode": "anchor"} if max(map(len, columns)) > 5 else {}
        )
        ax.set_xticks(range(len(columns)), columns, **turn)
        ax.set_yticks(range(len(rows)), rows)
        ax.tick_params(length=0)
        ax.set(xlabel=x_label, ylabel=y_label)
        for (i, j), value in np.ndenumerate(array):
            dark_cell = luminance(shade(norm(value))[:3]) < 0.179  # where white and black contrast equally
            text = "" if not np.isfinite(value) else f"{value:{fmt}}"
            text = text if text.strip("-0.%") else text and "0"  # a plain 0 leaves the eye to the others
            ax.text(
                j, i, text, ha="center", va="center", fontsize=8, color="#ffffff" if dark_cell else "#000000"
            )
        return figure

    table = pd.DataFrame(array, columns=list(columns))
    table.insert(0, y_label or "row", list(rows))
    show(name, still=still, alt=alt, caption=caption, data=table, run=run)


def paired(
    name: str,
    data: DataFrame,
    *,
    alt: str,
    caption: str,
    label: str = "comparison",
    difference: str = "difference",
    low: str = "low",
    high: str = "high",
    x_label: str = "difference",
    run: HasProvenance | None = None,
) -> None:
    """Paired differences: one row per comparison with its mean and interval; seeds as small dots where
    `differences` lists them.

    An interval that leaves out zero is drawn filled, in the colour of its sign (blue above, orange below);
    others hollow.
    """
    columns_of(data, [label, difference, low, high], f"paired figure {name!r}")

    def still(theme: Theme) -> Figure:
        figure, ax = canvas(7.0, 0.42 * len(data) + 0.9)
        ax.axvline(0, color=theme.muted, linewidth=1)
        for y, row in enumerate(data.to_dict("records")):
            clear = row[low] > 0 or row[high] < 0
            shade = (PULL if row[difference] > 0 else PUSH) if clear else theme.muted
            ax.plot([row[low], row[high]], [y, y], color=shade, linewidth=2.4, solid_capstyle="butt")
            ax.plot(
                row[difference],
                y,
                "o",
                color=shade,
                markersize=8,
                markerfacecolor=shade if clear else theme.paper,
            )
            dots = row.get("differences")
            if isinstance(dots, (list, tuple, np.ndarray)):
                ax.plot(dots, [y + 0.28] * len(dots), ".", color=theme.muted, markersize=5)
        ax.set_yticks(range(len(data)), [str(text) for text in data[label]])
        ax.set_ylim(len(data) - 0.4, -0.6)
        ax.grid(axis="y", visible=False)
        ax.spines["left"].set_visible(False)
        ax.tick_params(axis="y", length=0)
        ax.set_xlabel(x_label)
        return figure

    table = data.copy()
    if "differences" in table:
        table["differences"] = [" ".join(f"{d:.6g}" for d in dots) for dots in table["differences"]]
    show(name, still=still, alt=alt, caption=caption, data=table, run=run)


def table(
    name: str,
    data: DataFrame,
    *,
    scores: Sequence[str],
    caption: str,
    labels: Sequence[str] | None = None,
    headings: Mapping[str, str] | None = None,
    best: str | None = "max",
    group: str | None = None,
    link: str | None = None,
    run: HasProvenance | None = None,
) -> None:
    """A table of scores: mean and interval, the paper's number beside ours, the best value marked.

    data     one row per row; for a score s: its column s, and where known s_low and s_high (interval),
             s_paper
    labels   the columns that name a row; all that belong to no score, `n` or link by default
    best     "max", "min" or None: mark the best of each score, within each value of column `group` if given
    link     a column of addresses, put on the first label: the page of the run that made the row
    """
    from IPython.display import HTML, display

    if best not in ("max", "min", None):
        raise ValueError(f"best={best!r} is not allowed: 'max', 'min' or None.")
    check_words(name, caption, caption)
    parts = {
        score: [f"{score}{end}" for end in ("", "_low", "_high", "_paper") if f"{score}{end}" in data]
        for score in scores
    }
    taken = {column for columns in parts.values() for column in columns} | {"n", link}
    labels = [str(column) for column in data if column not in taken] if labels is None else list(labels)
    columns_of(data, [*scores, *labels] + [column for column in (group, link) if column], f"table {name!r}")
    head = dict(headings or {})
    title = lambda column: html.escape(head.get(column, column.replace("_", " ")))  # noqa: E731
    beside = [score for score in scores if f"{score}_paper" in data]

    counts = {column for column in [*labels[1:], "n"] if column in data and all(map(_is_count, data[column]))}
    kind = {column: ' class="pp-count"' if column in counts else "" for column in [*labels, "n"]}

    top = "".join(
        f'<th scope="col" rowspan="{2 if beside else 1}"{kind[column]}>{title(column)}</th>'
        for column in labels
    )
    for score in scores:
        top += f'<th scope="colgroup" colspan="2">{title(score)}</th>' if score in beside else (
            f'<th scope="col" rowspan="{2 if beside else 1}">{title(score)}</th>'
        )  # fmt: skip
    top += f'<th scope="col" rowspan="{2 if beside else 1}"{kind["n"]}>n</th>' if "n" in data else ""
    under = f"<tr>{'<th scope=col>ours</th><th scope=col>paper</th>' * len(beside)}</tr>" if beside else ""

    groups = data.groupby(group, sort=False) if group else [(None, data)]
    winners = {
        (score, index)
        for _, part in groups
        for score in scores
        if best and part[score].notna().any()
        for index in part.index[part[score] == getattr(part[score], best)()]
    }
    lines = []
    for index, row in data.iterrows():
        cells = []
        for position, column in enumerate(labels):
            text = html.escape(str(row[column]))
            if position == 0 and link and isinstance(row[link], str):
                text = f'<a href="{html.escape(row[link])}">{text}</a>'
            cells.append(f"<td{kind[column]}>{text}</td>" if position else f'<th scope="row">{text}</th>')
        for score in scores:
            text = _number(row[score])
            if (score, index) in winners:
                text = f'<strong>{text}</strong><span class="pp-hear"> (best)</span>'
            if f"{score}_low" in data and np.isfinite(row[f"{score}_low"]):
                text += f" <small>[{_number(row[f'{score}_low'])}, {_number(row[f'{score}_high'])}]</small>"
            cells.append(f'<td class="pp-number">{text}</td>')
            if score in beside:
                cells.append(f'<td class="pp-number pp-paper">{_number(row[f"{score}_paper"])}</td>')
        if "n" in data:
            cells.append(f"<td{kind['n']}>{row['n']}</td>")
        lines.append(f"<tr>{''.join(cells)}</tr>")
    body = (
        f'<div class="pp-scroll" tabindex="0" role="region" aria-label="{html.escape(caption)}">'
        f'<table class="pp-table">'
        f"<thead><tr>{top}</tr>{under}</thead><tbody>{''.join(lines)}</tbody></table></div>"
    )
    display(HTML(element(name, body, caption, data, run)))


def _is_count(value: Any) -> bool:
    """Whether a cell is a number to be set flush right, ones below ones: 7, '1,099', '<1' or the dash '–'."""
    return bool(re.fullmatch(r"[<~−+-]?\d[\d,]*|–", str(value)))


def _number(value: float) -> str:
    """Three decimals without the leading zero, as look.md writes scores: .923; a dash where there is none."""
    if value is None or not np.isfinite(value):
        return "–"
    text = f"{abs(value):.3f}"
    sign = "−" if value < 0 and float(text) else ""
    return sign + (text[1:] if text.startswith("0.") else text)
