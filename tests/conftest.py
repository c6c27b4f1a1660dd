"""What all tests share: one thread, the real data and the browser, or one loud line where one is missing."""

import functools
import itertools
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):  # before torch or numba is imported
    os.environ.setdefault(_name, "1")

import nbformat  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402
from filelock import FileLock  # noqa: E402

ROOT = Path(__file__).parents[1]
MISSING = {
    "data": "no real data: set PULLPUSH_DATA to the folder that holds MNIST/raw and cifar-10-batches-py",
    "browser": "no Chromium: apt install chromium, or playwright install chromium",
}

FIGURES = (
    *("curves", "image_grid", "matrix", "paired", "points3d"),
    *("scatter_frames", "show", "spheres", "table"),
)

torch.set_num_threads(1)


def missing(what: str, which: str = "") -> None:
    """Skip the test, or fail it when PULLPUSH_REQUIRE names `what`; the closing summary says it once more.

    which: the data set, where it is another than those that MISSING names.
    """
    why = f"{MISSING[what]}{f', and {which}' if which else ''}"
    if what in os.environ.get("PULLPUSH_REQUIRE", "").split(","):
        pytest.fail(f"PULLPUSH_REQUIRE asks for {what}, but {why}", pytrace=False)
    pytest.skip(why)


@pytest.fixture(name="missing", scope="session")
def _missing() -> Callable[..., None]:
    """`missing("data", "usps")`: skip the test, or fail it under PULLPUSH_REQUIRE."""
    return missing


class KeptRun:
    """Stands where a run stands: a folder for each seed, and checkpoints where they are asked for."""

    identity = ""

    def __init__(self, folder: Path, checkpoints: bool = False) -> None:
        self.folder, self.checkpoints = folder, checkpoints

    def uses(self, digests: dict[str, str]) -> None: ...

    def scratch(self, seed: int) -> Path:
        path = self.folder / str(seed)
        path.mkdir(parents=True, exist_ok=True)
        return path

    def checkpoint(self, seed: int) -> Path | None:
        return self.folder / f"{seed}.pt" if self.checkpoints else None

    def seed(self, seed: int, one_seed: Callable[[int], Any]) -> Any:
        return one_seed(seed)


@pytest.fixture
def kept_run() -> type[KeptRun]:
    """`kept_run(folder, checkpoints=False)`: what method cells may take for a run."""
    return KeptRun


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of the real data sets, as torchvision lays them out."""
    root = Path(os.environ.get("PULLPUSH_DATA") or ROOT / "data")
    if not ((root / "MNIST" / "raw").is_dir() and (root / "cifar-10-batches-py").is_dir()):
        missing("data")
    return root


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of a Chromium or Chrome, of the system or of playwright."""
    for name in ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"):
        if found := shutil.which(name):
            return found
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        bundled = playwright.chromium.executable_path
    if not Path(bundled).exists():
        missing("browser")
    return bundled


@pytest.fixture(scope="session")
def browse(chromium: str) -> Iterator[Callable[..., Any]]:
    """`browse(check, url, drawn=True, **options)`: what check(page) returns of the page at `url`, in a
    context with these options. A page on which a script fails does not pass.

    drawn: without it, interactive figures stay still.
    In a thread of its own, as Playwright allows one a thread, and tests/test_site.py keeps a session open.
    """
    from playwright.sync_api import sync_playwright

    arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    arguments += ["--enable-unsafe-swiftshader"]

    def begin() -> tuple[Any, Any]:
        playwright = sync_playwright().start()
        return playwright, playwright.chromium.launch(executable_path=chromium, args=arguments)

    def visit(check: Callable[[Any], Any], url: str, drawn: bool, options: dict[str, Any]) -> Any:
        with browser.new_context(**options) as context:
            if not drawn:
                context.route("**/plotly.min.js", lambda route: route.abort())
            page = context.new_page()
            problems: list[str] = []
            page.on("pageerror", lambda error: problems.append(str(error)))
            page.goto(url)
            found = check(page)
        # Browsers fetch nothing from files: the theme's search goes without the extracts of its results.
        assert [problem for problem in problems if problem != "Failed to fetch"] == []
        return found

    def end() -> None:
        browser.close()
        playwright.stop()

    with ThreadPoolExecutor(1) as thread:
        playwright, browser = thread.submit(begin).result()
        yield lambda check, url, *, drawn=True, **options: thread.submit(
            visit, check, url, drawn, options
        ).result()
        thread.submit(end).result()


@pytest.fixture(scope="session")
def site() -> Path:
    """The folder of the site, built now unless it is current; chapters are executed first where they have not
    been. Of several workers one builds.
    """
    from pullpush import stage

    (ROOT / ".cache").mkdir(exist_ok=True)
    with FileLock(ROOT / ".cache" / "site.lock"):
        if not list((ROOT / "_build" / "quick").glob("*/*/record.json")):
            command = [
                sys.executable,
                "-c",
                "from pullpush.cli import app; app()",
                "run",
                "--profile",
                "quick",
            ]
            subprocess.run(command, cwd=ROOT, check=True)
        return stage.build(ROOT).parent


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """One loud line for each thing that was missing, also without -rs."""
    reasons = [str(report.longrepr) for report in terminalreporter.stats.get("skipped", [])]
    for what, why in MISSING.items():
        if count := sum(why in reason for reason in reasons):
            terminalreporter.write_line(f"SKIPPED {count} tests that need {what}: {why}", red=True, bold=True)


@pytest.fixture
def method_cells(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """`method_cells(study, until="", **parameters)`: the names that a chapter's method cells define.

    Its parameters cell, imports and method cells are executed as they stand, at a size of seconds, each time
    with a run that lies in a folder of its own.
    until: stop before the cell that holds this text.
    """
    folders = itertools.count()

    def execute(study: str, until: str = "", **parameters: Any) -> dict[str, Any]:
        chapter = ROOT / "book" / "experiments" / f"{study}.ipynb"
        cells = [cell for cell in nbformat.read(chapter, 4).cells if cell.cell_type == "code"]
        tagged = {
            tag: [cell.source for cell in cells if tag in cell.metadata.get("tags", [])]
            for tag in ("parameters", "method")
        }
        begin = next(cell.source for cell in cells if "runs.begin" in cell.source)
        names: dict[str, Any] = {"run": KeptRun(tmp_path / f"kept-{next(folders)}")}
        exec(tagged["parameters"][0], names)
        small = {"limit": 200, "epochs": 1, "seeds": [0], "splits": 1, "batch_size": 32}
        names |= small | parameters
        for source in (begin.split("run = runs.begin")[0], *tagged["method"]):
            if until and until in source:
                break
            exec(source, names)
        return names

    return execute


class Drawn(NamedTuple):
    """One call of a function of `pullpush.figures`."""

    kind: str
    given: tuple[Any, ...]  # without the figure's name
    told: dict[str, Any]


class Executed(NamedTuple):
    """What the code cells of a notebook leave."""

    names: dict[str, Any]
    drawn: dict[str, Drawn]  # by the figure's name
    said: str  # all that was displayed beside figures


@pytest.fixture
def execute_notebook(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Executed]:
    """`execute_notebook(path, skip="", **parameters)`: its code cells as they are, figures taken, not shown.

    skip: leave out the cells with this tag. parameters: take the place of what the parameters cell says.
    """
    from pullpush import figures

    def execute(path: Path, skip: str = "", **parameters: Any) -> Executed:
        names: dict[str, Any] = {}
        drawn: dict[str, Drawn] = {}
        said: list[str] = []

        def take(kind: str, name: str, *given: Any, **told: Any) -> None:
            assert name not in drawn, f"two figures are called {name}"
            drawn[name] = Drawn(kind, given, told)
            for theme in figures.THEMES if "still" in told else ():  # at once: names may change after it
                told["still"](theme)

        for kind in FIGURES:
            monkeypatch.setattr(figures, kind, functools.partial(take, kind))
        monkeypatch.setattr("IPython.display.display", lambda output: said.append(output.data))
        for cell in nbformat.read(path, 4).cells:
            tags = cell.metadata.get("tags", [])
            if cell.cell_type == "code" and skip not in tags:
                exec(cell.source, names)
                if "parameters" in tags:
                    names |= parameters
        return Executed(names, drawn, "\n".join(said))

    return execute


@pytest.fixture
def read_page(execute_notebook: Callable[..., Executed]) -> Callable[[str], Executed]:
    """`read_page(study)`: its results page, executed; no sentence of it has a nan."""

    def read(study: str) -> Executed:
        page = execute_notebook(ROOT / "book" / "results" / f"{study}.ipynb")
        texts = [figure.told.get(part, "") for figure in page.drawn.values() for part in ("alt", "caption")]
        assert [text for text in (*texts, page.said) if re.search(r"\bnan\b", text)] == []
        return page

    return read


@pytest.fixture
def write_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """`write_record(run, metrics, arrays, **content)`: a made-up record of a planned run.

    It lies in a repository of its own, which the library takes for this one from the start of the test: the
    notebooks and plans are the real ones, and there are no other records. metrics: one row a seed.
    """
    from pullpush import records

    for name in ("experiments", "results"):
        shutil.copytree(ROOT / "book" / name, tmp_path / "book" / name, ignore=shutil.ignore_patterns(".*"))
    (tmp_path / "papermill_runs").mkdir()
    for path in (ROOT / "papermill_runs").glob("*.yaml"):
        shutil.copy(path, tmp_path / "papermill_runs")
    monkeypatch.setenv("PULLPUSH_ROOT", str(tmp_path))

    def write(run: Any, metrics: list[dict[str, float]], arrays: Mapping[str, Any], **content: Any) -> None:
        made = {
            "schema": records.SCHEMA, "study": run.study, "run": run.name, "profile": run.profile,
            "parameters": run.parameters, "metrics": metrics, "seconds": [60.0] * len(metrics),
            "device": "cpu", "device_name": "a processor", "threads": 1, "versions": {}, "commit": "0" * 40,
            "dirty": False, "command": "pullpush", "data": {}, "method": records.fingerprint(run.study),
            "finished": "2026-01-01T00:00:00+00:00",
        }  # fmt: skip
        folder = records.run_folder(run.profile, run.study, run.name)
        folder.mkdir(parents=True)
        records.write_json(folder / "record.json", made | content)
        np.savez_compressed(folder / "arrays.npz", **arrays)

    return write
