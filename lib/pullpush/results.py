"""Verdicts on pages: claims as tables, result cards, blocks of plain text pages. Nobody types a score.

`card` opens a chapter; `claims`, `comparisons` and `verdicts` show the ledger on a results page. A text
page, or the README, holds

    <!-- pullpush:NAME -->...<!-- /pullpush -->

and `write` puts what `BLOCKS[NAME]` returns between the two. All of it reads well with no, some or all
records; what is missing is "not run yet".
"""

from __future__ import annotations

import html
import math
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pullpush import records, statistics
from pullpush.ledger import Comparison, Judged, by_chance, judge, reported
from pullpush.parameters import nearest, read_notebook
from pullpush.statistics import Chip, Interval
from pullpush.tables import Ablation, Arm, Origin, ablations, arms, label, run_link, table
from pullpush.thumbnails import THUMBNAILS, thumbnail

if TYPE_CHECKING:
    import pandas as pd
    from IPython.display import HTML

__all__ = [
    "Ablation", "Arm", "Origin", "ablations", "arms", "card", "chip", "claims", "comparisons",
    "headline_sentence", "judge", "label", "linked", "page_blocks", "reported", "table", "tally", "verdicts",
    "write",
]  # fmt: skip

CHIPS: tuple[Chip, ...] = ("reproduced", "partly", "not", "n too small", "not run yet")
WORDS = {"not": "not reproduced"}  # what a chip says, where that is not its name
SOURCES = {"pair_vs_triplet": "the practicum", "cc_vs_rcc": "the report"}  # what sentences call the source
# What is subtracted from what in the headline of a study.
DIFFERENCES = {
    "pair_vs_triplet": "triplet − pair",
    "cc_vs_rcc": "RCC − CC",
    "claws": "CLAWS − SimCLR",
    "lnscc": "LNSCC − another method",
}
# Names of metrics that are no words.
METRICS = {"acc": "accuracy of the clusters", "nmi": "NMI", "nmi_test": "NMI on held-out images"}


# The ledger as tables ---------------------------------------------------------------------------------------


def claims(study: str | None = None) -> pd.DataFrame:
    """The ledger: one row a claim with its chip, and how many of its comparisons are judged and upheld."""
    import pandas as pd

    return pd.DataFrame([
        {name: getattr(one.claim, name) for name in ("id", "study", "profile", "claim", "source", "protocol")}
        | {"chip": one.chip, "upheld": one.upheld, "judged": one.judged, "comparisons": len(one.comparisons)}
        for one in judge(study)
    ])  # fmt: skip


def comparisons(judged: Sequence[Judged]) -> pd.DataFrame:
    """One row a comparison: what `figures.paired` draws, with the chip and the paper's own number."""
    import pandas as pd

    nothing = Interval(math.nan, math.nan, math.nan, ())
    rows: list[dict[str, object]] = [
        {"claim": one.claim.id, "comparison": part.label, "test": part.test, "runs": " ".join(part.runs)}
        | {"difference": ours.mean, "low": ours.low, "high": ours.high, "n": ours.n}
        | {"differences": ours.values, "paper": part.paper}
        | {"chip": part.verdict.chip, "word": part.verdict.word}
        for one in judged
        for part in one.comparisons
        for ours in [part.ours or nothing]
    ]
    return pd.DataFrame(rows)


def chip(verdict: Chip) -> str:
    """The HTML of a verdict chip."""
    kind = "not-run-yet" if verdict == "n too small" else verdict.replace(" ", "-")
    return f'<span class="pp-chip pp-{kind}">{WORDS.get(verdict, verdict)}</span>'


def verdicts(judged: Sequence[Judged], fold: int = 6, whole: bool = False) -> HTML:
    """The claims as a table: each with its chip, its comparisons beside the paper's numbers, linked to runs.

    The comparisons of a claim with more than `fold` of them are folded under their count. whole: also the
    paper's words on its number, and profile, metric, data, runs and seeds, as the ledger of all studies has
    it.
    """
    titles = ("claim and comparisons", "ours", "source", "verdict")
    head = "".join(f'<th scope="col">{title}</th>' for title in titles)
    known = {
        (study, profile): {arm.run: arm for arm in arms(study, profile)}
        for study, profile in {(one.claim.study, one.claim.profile) for one in judged if whole}
    }
    body = "".join(_claim_rows(one, fold, _protocol(one, known) if whole else "") for one in judged)
    return _html(
        '<div class="pp-scroll" tabindex="0" role="region" aria-label="Claims and verdicts">'
        f'<table class="pp-table"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def _claim_rows(one: Judged, fold: int, protocol: str) -> str:
    claim = one.claim
    about = f"{_text(claim.source)}. Tested: {_text(claim.protocol)}. {protocol}".strip()
    rows, count, inner = "".join(map(_comparison_row, one.comparisons)), len(one.comparisons), ""
    if count > fold:
        recorded = any(part.ours for part in one.comparisons)
        told = f"{one.upheld} of {count} comparisons upheld" if recorded else f"{count} comparisons"
        inner = (
            f'<details class="pp-made"><summary>{told}{_range(one) if protocol else ""}</summary>'
            f'<table class="pp-table"><tbody>{rows}</tbody></table></details>'
        )
        rows = ""
    return (
        f'<tr class="pp-claim"><th scope="rowgroup" colspan="3">{_text(claim.claim)}<br>'
        f"<small>{about}</small>{inner}</th><td>{chip(one.chip)}</td></tr>{rows}"
    )


def _protocol(one: Judged, known: Mapping[tuple[str, str], Mapping[str, Arm]]) -> str:
    """Profile, metric, data, runs and seeds of a claim; and what the paper says where it gives no number."""
    claim, planned = one.claim, known[one.claim.study, one.claim.profile]
    runs = list(dict.fromkeys(run for part in one.comparisons for run in part.runs))
    data = dict.fromkeys(label(planned[run].parameters["data"]) for run in runs if run in planned)
    seeds = sorted({part.ours.n for part in one.comparisons if part.ours})
    facts = [
        f"profile {claim.profile}",
        f"metric <code>{claim.metric}</code>",
        *([f"data {_text(', '.join(data))}"] if data else []),
        f"{len(runs)} runs" if len(runs) > 1 else "1 run",
        f"n = {' to '.join(map(str, sorted({seeds[0], seeds[-1]})))} seeds" if seeds else "no record yet",
    ]
    told = f"In the source: {_text(claim.paper)}. " if claim.paper else ""
    return f"{told}P{'; '.join(facts)[1:]}. {_older(one)}".rstrip()


def _range(one: Judged) -> str:
    """', ours +.010 to +.152': the smallest and the largest of the recorded differences."""
    found = [part.ours.mean for part in one.comparisons if part.ours and part.asks != "near the paper"]
    if len(found) < len(one.comparisons):
        return ""
    return f", ours {statistics.difference(min(found))} to {statistics.difference(max(found))}"


def _comparison_row(part: Comparison) -> str:
    agrees = " = paper " in part.test
    ours = "–" if part.ours is None else str(part.ours) if agrees else part.ours.signed
    paper = (statistics.score if agrees else statistics.difference)(part.paper)
    word = part.verdict.word
    if part.ours and "seeds" not in word:
        word = f"{word}, n = {part.ours.n}"
    word = word.replace(" = ", "\u00a0=\u00a0")  # stays on one line
    return (
        f'<tr><td>{linked(part)}</td><td class="pp-number">{ours}</td>'
        f'<td class="pp-number pp-paper">{paper}</td><td>{word}</td></tr>'
    )


def linked(part: Comparison, words: str = "") -> str:
    """`words`, by default its label, linked to the page of its first recorded run, with [2] for another."""
    study, profile = part.claim.study, part.claim.profile
    there = [run for run in part.runs if (records.run_folder(profile, study, run) / "record.json").is_file()]
    texts = [_text(words or part.label), *(f"[{i}]" for i in range(2, len(there) + 1))]
    links = [run_link(profile, study, run, text) for run, text in zip(there, texts, strict=False)]
    return " ".join(links) or texts[0]


def _html(content: str) -> HTML:
    from IPython.display import HTML

    return HTML(content)


def _text(text: str) -> str:
    return html.escape(text, quote=False)


# Cards ----------------------------------------------------------------------------------------------------


def card(study: str) -> HTML:
    """The card at the top of a chapter: headline claim, our number beside the paper's, chip, device."""
    return _html(_card(study))


def _card(study: str) -> str:
    one = _headline(study)
    if one is None:
        return '<div class="pp-card">No claim of this study is listed yet.</div>'
    paper = SOURCES.get(study, "the paper")
    lines = [
        f"<strong>Claim of {paper}.</strong> {_text(one.claim.claim)} {chip(one.chip)}",
        _text(headline_sentence(one)),
        _text(_where(one)),
    ]
    return f'<div class="pp-card">{"".join(f"<p>{line}</p>" for line in lines)}</div>'


def _headline(study: str) -> Judged | None:
    """The claim marked as headline, else the first."""
    judged = judge(study)
    return next((one for one in judged if one.claim.headline), judged[0] if judged else None)


def headline_sentence(one: Judged) -> str:
    """What was found: the mean over the recorded comparisons beside the paper's, and how many are upheld."""
    average, planned = one.average, len(one.comparisons)
    if average is None:
        which = "its comparison has no" if planned == 1 else f"none of the {planned} comparisons has"
        return f"Not run yet: {which} records of the {one.claim.profile} profile."
    recorded = sum(part.ours is not None for part in one.comparisons)
    over = f"{recorded} comparisons" if recorded == planned else f"{recorded} of {planned} comparisons so far"
    averaged = "" if planned == 1 else f", averaged over {over}"
    told = (
        f"{average.signed} {METRICS.get(one.claim.metric, one.claim.metric)}{averaged}, n = {average.n} seeds"
    )
    if math.isfinite(one.paper_average):
        told += f"; {SOURCES.get(one.claim.study, 'the paper')}: {statistics.difference(one.paper_average)}"
    if not one.judged:
        return f"Ours: {told}. A claim needs {statistics.SEEDS_FOR_A_CLAIM} seeds."
    return f"Ours: {told}. {_upheld(one)}"


def _upheld(one: Judged) -> str:
    """How many of the judged comparisons came out as claimed, and what that asks of an interval."""
    asked = {part.asks for part in one.comparisons}
    if len(one.comparisons) == 1 and asked == {"above zero"}:
        return f"The interval {'leaves' if one.upheld else 'does not leave'} out zero on the claimed side."
    if asked == {"above zero"}:
        return f"{one.upheld} of {one.judged} intervals leave out zero on the claimed side."
    if asked == {"at most a point below"}:
        return f"{one.upheld} of {one.judged} intervals lie above zero, or at most a point below."
    return f"{one.upheld} of {one.judged} comparisons are upheld."


def _where(one: Judged) -> str:
    """Profile, devices and minutes of the records behind a claim."""
    found = [record.content for record in _records(one)]
    if not found:
        return f"Profile {one.claim.profile}."
    devices = " and ".join(sorted({str(content["device"]) for content in found}))
    minutes = sum(sum(content["seconds"]) for content in found) / 60
    what = "1 run" if len(found) == 1 else f"{len(found)} runs"
    told = f"Profile {one.claim.profile}, on {devices}, {minutes:.0f} minutes for {what}."
    return f"{told} {_older(one)}".rstrip()


def _records(one: Judged) -> list[records.Record]:
    """The records behind a claim."""
    names = {run for part in one.comparisons for run in part.runs}
    known = [arm for arm in arms(one.claim.study, one.claim.profile) if arm.run in names]
    return [arm.record for arm in known if arm.record]


def _older(one: Judged) -> str:
    """How many records of a claim are stale; "" if none is."""
    found = _records(one)
    stale = sum(record.stale for record in found)
    return f"Older code: {stale} of {_how_many(len(found), 'run')}." if stale else ""


def _verdict(one: Judged) -> str:
    """Chip and headline number beside the source's, for a card of the front page: HTML in one line."""
    average, paper = one.average, one.paper_average
    if average is None:
        known = [part.paper for part in one.comparisons if math.isfinite(part.paper)]
        paper = sum(known) / len(known) if known else math.nan
    ours = "–" if average is None else _bounds(average.signed)
    theirs = statistics.difference(paper) if math.isfinite(paper) else "<small>not available</small>"
    numbers = "".join(
        f"<div><dt>{name}</dt><dd>{number}</dd></div>"
        for name, number in (("ours", ours), (SOURCES.get(one.claim.study, "the paper"), theirs))
    )
    return (
        f'<div class="pp-verdict">{chip(one.chip)}<dl class="pp-beside">{numbers}</dl>'
        f"<p>{_text(_about(one))}</p></div>"
    )


def _bounds(written: str) -> str:
    """'+.144 [+.114, +.174]' with its interval smaller."""
    mean, _, bounds = written.partition(" ")
    return f"{mean} <small>{bounds}</small>" if bounds else mean


def _about(one: Judged) -> str:
    """What the number is, over how many comparisons and seeds, and how many are upheld."""
    metric = METRICS.get(one.claim.metric, one.claim.metric)
    what = ", ".join(filter(None, (metric[0].upper() + metric[1:], DIFFERENCES.get(one.claim.study))))
    planned, recorded = len(one.comparisons), sum(part.ours is not None for part in one.comparisons)
    if planned > 1:
        over = f"{planned}" if recorded in (0, planned) else f"{recorded} of {planned}"
        what += f", mean of {over} comparisons"
    if one.average is None:
        return f"{what}."
    said = _upheld(one) if one.judged else f"A claim needs {statistics.SEEDS_FOR_A_CLAIM} seeds."
    return f"{what}, n = {one.average.n} seeds. {said} {_older(one)}".rstrip()


# Blocks of text pages ---------------------------------------------------------------------------------------


def _glance(on_site: bool) -> str:
    """The headline of the first study as a Markdown table, one row a comparison."""
    one = _headline("pair_vs_triplet")
    if one is None:
        return "No claim is listed yet."
    known = {arm.run: arm for arm in arms(one.claim.study, one.claim.profile)}
    lines = [
        "| data, views | pair | triplet | triplet − pair | the practicum | verdict |",
        "|---|---|---|---|---|---|",
    ]
    for part in one.comparisons:
        triplet, pair = (_cell(known.get(run), one.claim.metric, on_site) for run in part.runs)
        ours = "not run yet" if part.ours is None else part.ours.signed
        paper = statistics.difference(part.paper)
        lines.append(f"| {part.label} | {pair} | {triplet} | {ours} | {paper} | {part.verdict.word} |")
    about = "Accuracy of a linear probe"
    if ns := sorted({part.ours.n for part in one.comparisons if part.ours}):
        n = f"{ns[0]}" if len(ns) == 1 else f"{ns[0]} to {ns[-1]}"
        about += f", mean and 95 % interval over n = {n} seeds, differences paired by seed"
    return "\n".join([*lines, "", f"{about}. {_counts(claims(one.claim.study)['chip'])}"])


def _studies(on_site: bool) -> str:
    """The headline claim of every study as a Markdown table, our number beside the source's."""
    lines = ["| study | its first claim | ours | the source | verdict |", "|---|---|---|---|---|"]
    for study in dict.fromkeys(one.claim.study for one in judge()):
        one = _headline(study)
        if one is None:
            continue
        cells = read_notebook(records.notebook_path(study))["cells"]
        title = "".join(cells[0]["source"]).splitlines()[0].removeprefix("# ")
        page = f"/results/{study}.ipynb" if on_site else f"book/results/{study}.ipynb"
        ours = "not run yet" if one.average is None else f"{one.average.signed}, n = {one.average.n}"
        paper = statistics.difference(one.paper_average) if math.isfinite(one.paper_average) else "–"
        word = WORDS.get(one.chip, one.chip)
        lines.append(f"| [{title}]({page}) | {one.claim.claim} | {ours} | {paper} | {word} |")
    about = (
        "Differences of two methods: mean over the comparisons of the claim and n seeds, with its 95 % "
        "interval. A dash: the source gives no number to set beside it."
    )
    return "\n".join([*lines, "", about])


def _cell(arm: Arm | None, metric: str, on_site: bool) -> str:
    """A score as a Markdown link to the executed notebook that made it."""
    found = arm.interval(metric) if arm else None
    if arm is None or found is None:
        return "not run yet"
    folder = f"{arm.profile}/{arm.study}/{arm.run}"
    return f"[{found}]({f'/runs/{folder}.ipynb' if on_site else f'papermill_runs/{folder}/run.ipynb'})"


def tally(judged: Collection[Judged]) -> str:
    """How the claims came out, how many comparisons they make, and how many chance alone would uphold."""
    parts = [part for one in judged for part in one.comparisons]
    asked = sum(part.asks == "above zero" for part in parts)
    told = (
        f"{_counts([one.chip for one in judged])} They make {_how_many(len(parts), 'comparison')}, each with "
        f"its own interval at 95 %; {'all' if asked == len(parts) else asked} of them ask for a difference "
        "above zero."
    )
    chance = by_chance(judged)
    decided = len(chance.decided)
    if not decided:
        return f"{told} None of these has the seeds to be decided yet."
    told += (
        f" Of these, {decided} {'is' if decided == 1 else 'are'} decided and {chance.upheld} upheld. Were "
        f"all {decided} differences zero in truth, chance alone would uphold one in forty: "
        f"{chance.expected:.1f} on average."
    )
    if chance.upheld:
        stand, verb = len(chance.standing), "stands" if len(chance.standing) == 1 else "stand"
        told += (
            f" Of the {chance.upheld} upheld {stand} {verb} when all {decided} are tested at once "
            "(Holm's correction)."
        )
    return told


def _how_many(count: int, word: str) -> str:
    return f"{count} {word}{'s' * (count != 1)}"


def _counts(chips: Collection[Chip]) -> str:
    """'Of 10 claims, 7 are reproduced, 2 partly, 1 not reproduced.'"""
    counts = [(sum(one == kind for one in chips), WORDS.get(kind, kind)) for kind in CHIPS]
    parts = [
        f"{count} {('is ' if count == 1 else 'are ') if i == 0 else ''}{word}"
        for i, (count, word) in enumerate(filter(lambda c: c[0], counts))
    ]
    return f"Of {len(chips)} claims, {', '.join(parts)}."


def _records_line(on_site: bool) -> str:
    """How many runs and seeds are recorded, by profile."""
    frame = records.load_records()
    frame = frame[frame["profile"] != "quick"]
    if frame.empty:
        return "No laptop or paper run is recorded yet."
    parts = []
    for profile, part in frame.groupby("profile"):
        runs = len(part[["study", "run"]].drop_duplicates())
        parts.append(
            f"{profile}: {runs} runs with {len(part)} seeds on {' and '.join(sorted(set(part['device'])))}"
        )
    return f"Recorded so far, {'; '.join(parts)}; {frame['seconds'].sum() / 3600:.1f} hours in all."


BLOCK = re.compile(
    r"(<!-- pullpush:([\w-]+) -->)((?:(?!<!-- pullpush:).)*?)(<!-- /pullpush(?::\2)? -->)", re.DOTALL
)
BLOCKS: dict[str, Callable[[bool], str]] = {
    "pair_vs_triplet": _glance, "records": _records_line, "studies": _studies,
}  # fmt: skip
STAGED = ("api", "cost", "elsewhere", "idea", "stale", "status", "statusline")  # filled by pullpush.stage


def page_blocks() -> dict[str, str]:
    """The blocks that the stage fills on pages: BLOCKS, and for every study card-STUDY, verdict-STUDY and,
    where one is planned, thumb-STUDY.
    """
    found = {name: make(True) for name, make in BLOCKS.items()}
    for study in dict.fromkeys(one.claim.study for one in judge()):
        one = _headline(study)
        if one is not None:
            found[f"card-{study}"] = _card(study)
            found[f"verdict-{study}"] = _verdict(one)
    found |= {f"thumb-{study}": thumbnail(study) for study in THUMBNAILS}
    return {name.replace("_", "-"): text for name, text in found.items()}


def write(check: bool = False) -> list[Path]:
    """Rewrite the blocks of README.md and book/**/*.md; the pages that changed, or with `check` would change.

    Raises ValueError naming the page and the nearest known name for a block that nobody writes.
    """
    root = records.root()
    changed = []
    for page in [root / "README.md", *sorted((root / "book").rglob("*.md"))]:
        if not page.is_file():
            continue
        old = page.read_text(encoding="utf-8")
        new = BLOCK.sub(lambda found: _filled(found, page.relative_to(root)), old)  # noqa: B023
        if new != old:
            changed.append(page)
            if not check:
                records.write_atomically(page, new.encode())
    return changed


def _filled(found: re.Match[str], page: Path) -> str:
    opening, name, _, closing = found.groups()
    make = BLOCKS.get(name) or BLOCKS.get(name.replace("-", "_"))
    if make:
        return f"{opening}\n{make(page.parts[0] == 'book').strip()}\n{closing}"
    if name in STAGED or name.startswith(("api-", "card-", "verdict-", "thumb-")):
        return found[0]
    raise ValueError(f"{page} has a block '{name}' that nobody writes. {nearest(name, [*BLOCKS, *STAGED])}")
