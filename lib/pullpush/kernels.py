"""Kernels: what one inherits, and papermill on a notebook, tried again where no kernel comes up."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pullpush import records

STARTS = 3  # parallel kernels race for free ports, and the loser dies before its first cell
START_SECONDS = 120  # on a busy machine

# papermill reads notebooks by nbformat, and that by jsonschema, which as it is imported parses the grammar of
# international URIs: two seconds of every run for a check that notebooks do not have. It does without.
sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]


class KernelDied(RuntimeError):
    """The kernel did not come up, or died in a cell; the message is what was said of it."""


def prepare(**variables: str) -> None:
    """Set what a kernel inherits: this interpreter and library, nothing of the user's Jupyter and IPython.

    variables: others to set in the environment.
    """
    cache = records.root() / ".cache"
    kernel = {
        "argv": [
            *(sys.executable, "-Xfrozen_modules=off"),  # or it warns of its debugger in every notebook
            *("-m", "ipykernel_launcher", "-f", "{connection_file}"),
            "--HistoryManager.enabled=False",  # parallel kernels would wait for one history file
            "--log-level=CRITICAL",  # it warns of its own ports, and calls its own end an error
        ],
        "display_name": "Python 3",
        "language": "python",
    }
    records.write_json(cache / "jupyter" / "kernels" / "python3" / "kernel.json", kernel)
    (cache / "ipython").mkdir(exist_ok=True)
    library = str(Path(__file__).resolve().parents[1])
    paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    os.environ |= variables | {
        "JUPYTER_PATH": str(cache / "jupyter"),
        "IPYTHONDIR": str(cache / "ipython"),
        "PYTHONPATH": os.pathsep.join([library, *(path for path in paths if path not in ("", library))]),
    }
    absolute_data_root()


def absolute_data_root() -> None:
    """Make $PULLPUSH_DATA absolute: the kernel has another working folder than the caller."""
    if data := os.environ.get("PULLPUSH_DATA"):
        os.environ["PULLPUSH_DATA"] = str(Path(data).expanduser().absolute())


def execute(
    source: Path,
    output: Path,
    parameters: Mapping[str, Any] | None = None,
    *,
    say: Callable[[str], None] = lambda line: None,
    **options: Any,
) -> None:
    """Execute a notebook by papermill, in the root of the repository.

    output: the notebook as far as it came. say: told of each new start. options: papermill's own. Raises
    papermill's PapermillExecutionError for a cell that fails; KernelDied for a kernel that dies later, or
    before its first cell STARTS times in a row.
    """
    import papermill

    output.unlink(missing_ok=True)  # what an earlier call left there would look like cells that ran
    for attempt in range(1, STARTS + 1):
        try:
            papermill.execute_notebook(
                source,
                output,
                parameters,
                kernel_name="python3",
                cwd=records.root(),
                progress_bar=False,
                start_timeout=START_SECONDS,
                **options,
            )
            return
        except (RuntimeError, OSError) as error:
            if _any_cell_ran(output) or attempt == STARTS:
                raise KernelDied(f"{type(error).__name__}: {error}") from error
            say(f"the kernel did not start ({error}): trying again")
            time.sleep(attempt)


def _any_cell_ran(output: Path) -> bool:
    if not output.is_file():
        return False
    try:
        cells = json.loads(output.read_text(encoding="utf-8"))["cells"]
    except json.JSONDecodeError:  # it died while papermill was writing
        return True
    return any(cell.get("execution_count") for cell in cells)
