"""One figure as one HTML element: interactive form, stills, caption, and the fold with its origin and
numbers.

On the site `_static/pullpush.js` turns the element's data into a plotly figure; in Jupyter, in print and
without scripts the still stands there instead.
"""

from __future__ import annotations

import base64
import difflib
import gzip
import html
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote

import numpy as np

from pullpush.looks import DARK, THEMES, Theme
from pullpush.stills import BUILT_BYTES, STILL_BYTES, render_still

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

RUNS = "../runs/"  # the pages of records, from a page in a folder of the book
PLAIN_CSV_BYTES = 16_000  # longer tables are offered as .csv.gz


class HasProvenance(Protocol):
    """What a figure needs of a run: see `pullpush.runs`."""

    def provenance(self) -> Mapping[str, Any]: ...


def show(
    name: str,
    *,
    still: Callable[[Theme], Figure],
    alt: str,
    caption: str,
    data: DataFrame,
    run: HasProvenance | None = None,
    interactive: Any = None,
    aspect: float | None = None,
    shrink: bool = False,
) -> None:
    """Display a figure in all its forms.

    name         unique in its page, e.g. "training-curves": the anchor #fig-training-curves and the name of
                 the CSV
    still        draws it with matplotlib for a theme; called for LIGHT and for DARK with matching defaults in
                 force
    alt          what the figure shows, with its numbers, for those who do not see it
    caption      one sentence: what to see; n belongs here. `\\(x\\)` is typeset
    data         the numbers behind it
    run          fills the fold "How this was made"
    interactive  a plotly Figure, or a dict {"data", "layout", "frames"}; frames get a native slider, whose
                 label is layout.meta["slider"]; layout.meta["sprite"] (see `sprite`) shows images on hover,
                 by customdata
    aspect       width / height of the interactive form; the still's own by default
    shrink       the still may become as narrow as a phone; otherwise it scrolls there, so that its lettering
                 stays legible

    Raises ValueError where alt or caption is empty, or the name is not made of a-z, 0-9 and hyphens.
    """
    from IPython.display import HTML, display

    display(HTML(render(name, still, alt, caption, data, run, interactive, aspect, shrink)))


def render(
    name: str,
    still: Callable[[Theme], Figure],
    alt: str,
    caption: str,
    data: DataFrame,
    run: HasProvenance | None = None,
    interactive: Any = None,
    aspect: float | None = None,
    shrink: bool = False,
) -> str:
    """The HTML that `show` displays."""
    check_words(name, alt, caption)
    images, ratio, width = [], 1.0, 0
    built = run is None or run.provenance().get("profile", "quick") == "quick"  # else committed
    for theme in THEMES:
        uri, width, height = render_still(still, theme, BUILT_BYTES if built else STILL_BYTES)
        ratio = width / height
        # Without the site's style sheet (Jupyter, GitHub) only the light still is seen; the sheet swaps them
        # by theme.
        hidden = ' style="display:none"' if theme is DARK else ' style="max-width:100%;height:auto"'
        images.append(
            f'<img class="pp-still pp-{theme.name} dark-light" src="{uri}" width="{width}" height="{height}"'
            f' alt="{html.escape(alt)}"{hidden}>'
        )
    live = ""
    if interactive is not None:
        spec = json.dumps(_compact(_spec(interactive)), separators=(",", ":"), allow_nan=False).replace(
            "</", "<\\/"
        )
        live = (
            f'<div class="pp-live" data-label="{html.escape(alt)}" data-aspect="{aspect or ratio:.3f}"'
            " hidden></div>"
            f'<script type="application/json" class="pp-spec">{spec}</script>'
        )
    box = "pp-stills pp-shrink" if shrink else "pp-stills"
    stills = f'<div class="{box}" style="--pp-width:{width}px">{"".join(images)}</div>'
    return element(name, live + stills, caption, data, run)


def check_words(name: str, alt: str, caption: str) -> None:
    if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name):
        raise ValueError(
            f"Figure name {name!r} must be made of a-z, 0-9 and single hyphens, such as 'training-curves'."
        )
    for label, text in (("alt", alt), ("caption", caption)):
        if not text.strip():
            raise ValueError(f"Figure {name!r} has an empty {label}: say in a sentence what it shows.")


def element(name: str, body: str, caption: str, data: DataFrame, run: HasProvenance | None) -> str:
    caption = caption.replace(" %", "\N{NO-BREAK SPACE}%")  # a line that begins with the sign reads badly
    return (
        f'<figure class="pp-figure mathjax_process" id="fig-{name}">{body}'
        f"<figcaption>{html.escape(caption, quote=False)}</figcaption>{_made(name, data, run)}</figure>"
    )


def _made(name: str, data: DataFrame, run: HasProvenance | None) -> str:
    """The fold under a figure: where it comes from, how to redo it, and its numbers."""
    facts = dict(run.provenance()) if run is not None else {}
    if facts.pop("dirty", False):
        facts["commit"] = f"{facts.get('commit')}, with uncommitted changes"
    if isinstance(facts.get("seconds"), list):
        facts["seconds"] = round(sum(facts["seconds"]), 1)
    rows = []
    for key, value in facts.items():
        if value in (None, "", [], {}, 0.0):
            continue
        if isinstance(value, Mapping):
            text = ", ".join(f"{inner} = {item}" for inner, item in value.items())
        else:
            text = ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
        cell = html.escape(text, quote=False)
        cell = f"<code>{cell}</code>" if key in ("command", "parameters") else cell
        if key == "records" and isinstance(value, list):
            cell = ", ".join(f'<a href="{RUNS}{name}.html">{name}</a>' for name in value)
        rows.append(f"<dt>{html.escape(key).replace('_', ' ')}</dt><dd>{cell}</dd>")
    uri, file = _csv(name, data)
    rows.append(f'<dt>numbers</dt><dd><a download="{file}" href="{uri}">{file}</a>, {len(data)} rows</dd>')
    return f'<details class="pp-made"><summary>How this was made</summary><dl>{"".join(rows)}</dl></details>'


def _csv(name: str, data: DataFrame) -> tuple[str, str]:
    """The table as a data URI and its file name. Six significant digits are more than a figure shows."""
    text = data.to_csv(index=False, float_format="%.6g", lineterminator="\n")
    if len(text) <= PLAIN_CSV_BYTES:
        return "data:text/csv;charset=utf-8," + quote(text, safe=",.:;()[]+ ").replace(
            " ", "%20"
        ), f"{name}.csv"
    packed = gzip.compress(text.encode(), 9, mtime=0)
    return "data:application/gzip;base64," + base64.b64encode(packed).decode(), f"{name}.csv.gz"


def _spec(interactive: Any) -> dict[str, Any]:
    """A plotly Figure, or a dict in its form, as a dict without plotly's 7 kB default template."""
    spec = dict(interactive.to_plotly_json() if hasattr(interactive, "to_plotly_json") else interactive)
    if unknown := set(spec) - {"data", "layout", "frames"}:
        raise ValueError(
            f"An interactive figure holds data, layout and frames, not {', '.join(sorted(unknown))}."
        )
    spec["layout"] = {key: value for key, value in dict(spec.get("layout", {})).items() if key != "template"}
    return spec


def _compact(value: Any) -> Any:
    """Plain JSON with floats at 3 decimals (at least 4 significant digits below 1); missing numbers become
    null.
    """
    if isinstance(value, Mapping):
        return {str(key): _compact(item) for key, item in value.items()}
    if hasattr(value, "tolist"):  # arrays and scalars of numpy, pandas, torch
        value = value.tolist()
    if isinstance(value, (list, tuple)):
        return [_compact(item) for item in value]
    if isinstance(value, (bool, str)) or value is None:
        return value
    if isinstance(value, int):
        return value
    if isinstance(value, float):
        if not np.isfinite(value):
            return None
        rounded = round(value, 3) if abs(value) >= 1 else float(f"{value:.4g}")
        return int(rounded) if rounded == int(rounded) else rounded
    return str(value)


def columns_of(data: DataFrame, wanted: Sequence[str], where: str) -> None:
    for column in wanted:
        if column not in data:
            near = difflib.get_close_matches(column, map(str, data.columns), n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            known = ", ".join(map(str, data.columns))
            raise ValueError(f"No column {column!r} in the data of {where}.{hint} It has: {known}.")
