"""Records of finished runs: where they lie, how they are written whole, how they are read as tables."""

import ctypes
import errno
import functools
import json
import math
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from pullpush.fingerprint import method_fingerprint
from pullpush.parameters import Profile, nearest

if TYPE_CHECKING:
    import pandas as pd

SCHEMA = 1
ARRAYS_LIMIT = 300_000  # bytes of one arrays.npz
FILES = ("run.ipynb", "arrays.npz", "record.json")
PROFILES: tuple[str, ...] = get_args(Profile)
COLUMNS = ("study", "run", "profile", "seed", "stale", "device", "seconds")
PROVENANCE = (
    *("study", "run", "profile", "parameters", "seconds", "commit", "dirty"),
    *("device", "device_name", "threads", "versions", "command"),
)
LIBRARIES = ("pullpush", "torch", "torchvision", "numpy", "scipy", "scikit-learn", "umap-learn", "papermill")


def root() -> Path:
    """The repository: $PULLPUSH_ROOT, else the nearest at or above the working folder, else the package's."""
    if named := os.environ.get("PULLPUSH_ROOT"):
        return Path(named).resolve()
    here = Path.cwd()
    for folder in (here, *here.parents, Path(__file__).resolve().parents[2]):
        if (folder / "papermill_runs").is_dir() and (folder / "book").is_dir():
            return folder
    raise FileNotFoundError(
        f"No repository at or above {here}: change into it, or set PULLPUSH_ROOT to its folder."
    )


def notebook_path(study: str) -> Path:
    """Where the notebook of a study lies, whether it is there or not."""
    return root() / "book" / "experiments" / f"{study}.ipynb"


def profile_folder(profile: str) -> Path:
    """Where the finished runs of a profile lie: evidence in `papermill_runs/`, quick runs in `_build/`."""
    return root() / ("_build" if profile == "quick" else "papermill_runs") / profile


def run_folder(profile: str, study: str, run: str) -> Path:
    """Where a finished run lies."""
    return profile_folder(profile) / study / run


def work_folder(profile: str, study: str, run: str) -> Path:
    """Where a run is worked on: kept seeds, checkpoints, the notebook while it executes."""
    return root() / ".cache" / "runs" / profile / study / run


def fingerprint(study: str) -> str:
    """sha256 of the method of `study` as it stands today: see `pullpush.fingerprint`."""
    path = notebook_path(study)
    if not path.is_file():
        raise FileNotFoundError(f"No notebook of study '{study}' in book/experiments.")
    return _fingerprint(path, path.stat().st_mtime_ns)


@functools.cache
def _fingerprint(notebook: Path, changed: int) -> str:
    return method_fingerprint(notebook, Path(__file__).parent)


# Writing


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file that at every moment is absent, the old one or the new one, even through a power cut."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}")
    with part.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Strict JSON, written atomically: nan is null, an infinity 'inf' or '-inf'; `number` reads them back."""
    text = json.dumps(_strict(content), indent=1, ensure_ascii=False, allow_nan=False)
    write_atomically(path, (text + "\n").encode())


def _strict(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _strict(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_strict(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    return value


def number(value: float | str | None) -> float:
    """A metric as it was before `write_json`."""
    return math.nan if value is None else float(value)


def portable(text: str) -> str:
    """`text` without this machine's paths: the repository is '.', the data '$PULLPUSH_DATA', the home '~'."""
    places = {
        str(root()): ".",
        sys.prefix: ".venv",
        os.environ.get("PULLPUSH_DATA", ""): "$PULLPUSH_DATA",
        str(Path.home()): "~",
    }
    for place in sorted(filter(None, places), key=len, reverse=True):
        if Path(place).is_absolute() and len(Path(place).parts) > 1:
            text = re.sub(rf"(?<![\w.\-/])(file://)?{re.escape(place)}(?![\w\-])", places[place], text)
    return re.sub(r"(/[\w.+\-]+)+/ipykernel_\d+/\d+\.py", "<cell>", text)


def publish(whole: Path, target: Path) -> None:
    """Put the folder `whole` in the place of `target` in one step; what stood there is removed.

    Two folders are exchanged by one system call, so no reader and no kill sees the place empty. A file system
    without that call, or another disk, gets the files one by one, record.json last.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        if target.exists():
            _exchange(whole, target)
        else:
            whole.rename(target)
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
            raise
        for name in FILES:
            write_atomically(target / name, (whole / name).read_bytes())
    shutil.rmtree(whole, ignore_errors=True)


def _exchange(left: Path, right: Path) -> None:
    """Swap two folders atomically: renameat2 on Linux, renamex_np on macOS."""
    libc = ctypes.CDLL(None, use_errno=True)
    here, there = os.fsencode(left), os.fsencode(right)
    if hasattr(libc, "renameat2"):
        at_working_folder, exchange = -100, 2
        failed = libc.renameat2(at_working_folder, here, at_working_folder, there, exchange)
    elif hasattr(libc, "renamex_np"):
        swap = 2
        failed = libc.renamex_np(here, there, swap)
    else:
        raise OSError(errno.ENOSYS, "no call that exchanges two folders")
    if failed:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(right))


# Provenance


def source_state() -> dict[str, Any]:
    """The commit ($PULLPUSH_COMMIT where there is no git), and whether lib/ or book/experiments differ."""
    commit = os.environ.get("PULLPUSH_COMMIT") or _git("rev-parse", "HEAD")
    return {"commit": commit, "dirty": differs("lib", "book/experiments")}


def differs(*paths: str) -> bool | None:
    """Whether these files and folders differ from what is committed; None where there is no git."""
    status = _git("status", "--porcelain", "--", *paths)
    return None if status is None else bool(status)


def _git(*arguments: str) -> str | None:
    try:
        result = subprocess.run(["git", *arguments], cwd=root(), capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result.stdout.strip() if result.returncode == 0 else None


def machine(device: str) -> dict[str, Any]:
    """What a run computes on, given its `device` parameter: device, its name, the CPU threads in use."""
    torch = sys.modules.get("torch")  # a study that does not use torch need not pay for importing it
    cuda = torch is not None and device != "cpu" and torch.cuda.is_available()
    threads = torch.get_num_threads() if torch is not None else os.cpu_count()
    name = torch.cuda.get_device_name() if torch is not None and cuda else _processor()
    return {"device": "cuda" if cuda else "cpu", "device_name": name, "threads": threads}


def _processor() -> str:
    try:
        found = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text(encoding="utf-8"))
    except OSError:
        found = None
    return found[1].strip() if found else platform.processor() or platform.machine()


def versions() -> dict[str, str]:
    """Python and the installed libraries that numbers depend on."""
    found = {"python": platform.python_version()}
    for library in LIBRARIES:
        try:
            found[library] = metadata.version(library)
        except metadata.PackageNotFoundError:
            continue
    return found


# Reading


@dataclass(frozen=True)
class Record:
    """One finished run, as its record.json tells it."""

    folder: Path
    content: dict[str, Any]

    @property
    def stale(self) -> bool:
        """Whether the method has changed since it was made or last rechecked (or its notebook is gone)."""
        try:
            today = fingerprint(self.content["study"])
        except FileNotFoundError:
            return True
        return today not in {self.content["method"], *(check["method"] for check in self.rechecks)}

    @property
    def rechecks(self) -> list[dict[str, Any]]:
        """When a seed of it was computed again by changed code, with equal numbers (`execution.recheck`)."""
        return list(self.content.get("rechecks", []))

    def rows(self) -> list[dict[str, Any]]:
        """One row a seed: `COLUMNS`, then the parameters, then the metrics."""
        rows = []
        stale = self.stale
        for metrics, seconds in zip(self.content["metrics"], self.content["seconds"], strict=True):
            known = self.content | {"seed": metrics["seed"], "stale": stale, "seconds": seconds}
            first = {name: known[name] for name in COLUMNS}
            numbers = {name: number(value) for name, value in metrics.items() if name != "seed"}
            # `device` is a parameter too: its column tells what was used, not what was asked for.
            rows.append(first | self.content["parameters"] | first | numbers)
        return rows

    def arrays(self) -> dict[str, np.ndarray]:
        with np.load(self.folder / "arrays.npz", allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}

    def provenance(self) -> dict[str, Any]:
        """What a figure says about its origin."""
        seeds = [row["seed"] for row in self.content["metrics"]]
        return {name: self.content[name] for name in PROVENANCE} | {"seeds": seeds}


def read_record(path: Path) -> Record:
    """The record in one file. Raises ValueError naming a file that is no record of a known schema."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{path} is not JSON ({error}). Restore it from git, or delete its folder to run it again."
        ) from None
    if content.get("schema") != SCHEMA:
        raise ValueError(
            f"{path} has schema {content.get('schema')}; this version reads {SCHEMA}. Update the repository."
        )
    return Record(path.parent, content)


def open_record(study: str, profile: str, run: str) -> Record:
    """One finished run. Raises FileNotFoundError with the runs that there are."""
    folder = run_folder(profile, study, run)
    if not (folder / "record.json").is_file():
        there = sorted(path.parent.name for path in folder.parent.glob("*/record.json"))
        raise FileNotFoundError(
            f"No record of run '{run}' of {study} in profile {profile}. {nearest(run, there)}"
        )
    return read_record(folder / "record.json")


def load_arrays(study: str, profile: str, run: str) -> dict[str, np.ndarray]:
    """The arrays of one finished run: embeddings, snapshots, indices."""
    return open_record(study, profile, run).arrays()


def load_records(study: str | None = None, profile: str | None = None) -> "pd.DataFrame":
    """Every finished run as a table, one row a seed.

    Columns: study, run, profile, seed, stale, device (the one that computed), seconds, then every parameter
    and every metric by its name; nan where a run has none. Raises ValueError for an unknown profile.
    """
    import pandas as pd

    profiles = [name for name in PROFILES if profile in (None, name)]
    if not profiles:
        raise ValueError(f"Unknown profile '{profile}'. {nearest(str(profile), PROFILES)}")
    found = [profile_folder(name).glob(f"{study or '*'}/*/record.json") for name in profiles]
    paths = [path for some in found for path in sorted(some)]
    rows = [row for path in paths for row in read_record(path).rows()]
    return pd.DataFrame(rows, columns=None if rows else list(COLUMNS))
