"""What all tests share: one thread, the real data and the browser, or one loud line where one is missing."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):  # before torch or numba is imported
    os.environ.setdefault(_name, "1")

import nbformat  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402

ROOT = Path(__file__).parents[1]
MISSING = {
    "data": "no real data: set PULLPUSH_DATA to the folder that holds MNIST/raw and cifar-10-batches-py",
    "browser": "no Chromium: apt install chromium, or playwright install chromium",
}

torch.set_num_threads(1)


def missing(what: str) -> None:
    """Skip the test, or fail it when PULLPUSH_REQUIRE names `what`; the closing summary says it once more."""
    if what in os.environ.get("PULLPUSH_REQUIRE", "").split(","):
        pytest.fail(f"PULLPUSH_REQUIRE asks for {what}, but {MISSING[what]}", pytrace=False)
    pytest.skip(MISSING[what])


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


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """One loud line for each thing that was missing, also without -rs."""
    reasons = [str(report.longrepr) for report in terminalreporter.stats.get("skipped", [])]
    for what, why in MISSING.items():
        if count := sum(why in reason for reason in reasons):
            terminalreporter.write_line(f"SKIPPED {count} tests that need {what}: {why}", red=True, bold=True)


class Unkept:
    """Stands where a run stands: keeps nothing, so that every seed is computed here."""

    identity = ""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def uses(self, digests: dict[str, str]) -> None: ...

    def checkpoint(self, seed: int) -> None: ...

    def scratch(self, seed: int) -> Path:
        return self.folder

    def seed(self, seed: int, one_seed: Any) -> Any:
        return one_seed(seed)


@pytest.fixture
def method_cells(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """`method_cells(study, until="", **parameters)`: the names that a chapter's method cells define.

    Its parameters cell, imports and method cells are executed as they stand, at a size of seconds.
    until: stop before the cell that holds this text.
    """

    def execute(study: str, until: str = "", **parameters: Any) -> dict[str, Any]:
        chapter = ROOT / "book" / "experiments" / f"{study}.ipynb"
        cells = [cell for cell in nbformat.read(chapter, 4).cells if cell.cell_type == "code"]
        tagged = {
            tag: [cell.source for cell in cells if tag in cell.metadata.get("tags", [])]
            for tag in ("parameters", "method")
        }
        begin = next(cell.source for cell in cells if "runs.begin" in cell.source)
        names: dict[str, Any] = {"run": Unkept(tmp_path)}
        exec(tagged["parameters"][0], names)
        small = {"limit": 200, "epochs": 1, "seeds": [0], "splits": 1, "batch_size": 32}
        names |= small | parameters
        for source in (begin.split("run = runs.begin")[0], *tagged["method"]):
            if until and until in source:
                break
            exec(source, names)
        return names

    return execute
