"""The environment is pinned, the tree names no machine, and the modules import each other only downward."""

import ast
import importlib.metadata
import re
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from pullpush import matrix
from pullpush.parameters import code_cells, read_notebook

ROOT = Path(__file__).parents[1]
LIB = ROOT / "lib" / "pullpush"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCK = (ROOT / "requirements.lock").read_text()
PINS = dict(re.findall(r"^([a-z0-9._-]+)==([^\s;]+)", LOCK, flags=re.MULTILINE))


def tracked() -> list[Path]:
    """The files of the repository as git knows them, those not yet committed included."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


# --- what is missing is told, and refused where it is asked for ---


def test_missing_data_skips_or_fails_as_asked(missing, monkeypatch):
    monkeypatch.delenv("PULLPUSH_REQUIRE", raising=False)
    with pytest.raises(pytest.skip.Exception, match=r"no real data: .*, and usps"):
        missing("data", "usps")
    monkeypatch.setenv("PULLPUSH_REQUIRE", "browser,data")
    with pytest.raises(pytest.fail.Exception, match=r"asks for data, but no real data: .*, and usps"):
        missing("data", "usps")


def test_no_test_skips_past_that_for_data_or_a_browser():
    paths = [path for path in (ROOT / "tests").rglob("*.py") if path.name != "conftest.py"]
    told = [
        (path.name, reason)
        for path in paths
        for reason in re.findall(r"pytest\.skip\((.*)\)|skipif\(.*reason=(.*)\)", path.read_text())
        if re.search(r"data root|PULLPUSH_DATA|[Bb]rowser|[Cc]hromium", "".join(reason))
    ]
    assert told == [], "let missing() of conftest.py say it"


# --- the lock and the environments made from it ---


def test_lock_names_no_host():
    assert not re.search(r"://|index-url|find-links|trusted-host", LOCK.replace("--no-emit-index-url", ""))


def test_lock_hashes_every_pin():
    entries = re.split(r"\n(?=[a-z0-9])", LOCK[LOCK.index("\naccessible") :].strip())
    assert len(entries) == len(re.findall(r"^\S+==", LOCK, flags=re.MULTILINE))
    assert [entry.split()[0] for entry in entries if "--hash=sha256:" not in entry] == []


def dependencies() -> list[str]:
    extras = PROJECT["optional-dependencies"].values()
    return [*PROJECT["dependencies"], *(requirement for extra in extras for requirement in extra)]


@pytest.mark.parametrize("wanted", dependencies())
def test_lock_satisfies_what_the_project_asks_for(wanted):
    requirement = Requirement(wanted)
    name = re.sub(r"[-_.]+", "-", requirement.name).lower()
    assert name in PINS, f"{wanted} is not in requirements.lock: make lock"
    assert requirement.specifier.contains(PINS[name], prereleases=True), f"locked: {PINS[name]}"
    assert importlib.metadata.version(name)


def test_environment_yml_installs_the_same_lock():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    pip = [entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict)]
    assert pip == [["-r requirements.lock"]]
    (python,) = (entry for entry in environment["dependencies"] if str(entry).startswith("python="))
    version = python.split("=")[1] + ".0"
    assert version in SpecifierSet(PROJECT["requires-python"])


def test_this_python_is_supported():
    assert ".".join(map(str, sys.version_info[:3])) in SpecifierSet(PROJECT["requires-python"])


def test_citation_states_the_version_and_licence_of_the_project():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == PROJECT["version"]
    assert citation["license"] == PROJECT["license"]
    assert (ROOT / "LICENSE").read_text().startswith(f"{PROJECT['license']} License")


# --- what the files may say ---


# Spelled with brackets, so that this file does not match itself.
MACHINE = re.compile(
    r"(?<![\w.~$}-])/(?:[w]ork|[r]oot|[h]ome|[U]sers|[t]mp|[o]pt|[v]ar)/\w"  # a folder of one machine
    r"|[p]ythonhosted|[p]ypi\.org|[n]pmjs\.|[d]eb\.debian|[i]ndex-url\s*="  # a package registry
)
# What tests of portable notebooks and records feed in, to see it taken out.
EXAMPLE = re.compile(r"/[h]ome/me\b|/[t]mp/ipykernel_4242\b")


def test_no_file_names_a_machine_or_a_registry():
    found = []
    for path in tracked():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:  # images and arrays
            continue
        for number, line in enumerate(text.splitlines(), start=1):
            if match := MACHINE.search(EXAMPLE.sub("", line)):
                found.append(f"{path.relative_to(ROOT)}:{number}: {match.group()}")
    assert found == []


def test_no_file_is_large():
    """Notebooks under 500 kB, arrays under 300 kB, all committed runs together under 30 MB."""
    limits = {".ipynb": 500_000, ".npz": 300_000}
    sizes = {path.relative_to(ROOT): path.stat().st_size for path in tracked()}
    assert {path: size for path, size in sizes.items() if size > limits.get(path.suffix, 1_000_000)} == {}
    assert sum(size for path, size in sizes.items() if path.parts[0] == "papermill_runs") < 30_000_000


def test_a_laptop_study_takes_three_hours_of_two_cores():
    """As its records tell; what goes beyond is marked. No record, no hours."""
    hours = Counter()
    for run in matrix.read_profile("laptop"):
        if run.needs is None and run.record:
            hours[run.study] += sum(run.record.content["seconds"]) / 3600
    assert {study: spent for study, spent in hours.items() if spent > 3 * 2} == {}


# --- the Pythons it is for: 3.11 to 3.13; only the running one is ever tried here ---


@pytest.mark.parametrize("path", sorted([*LIB.rglob("*.py"), *(ROOT / "tests").rglob("*.py")]), ids=str)
def test_sources_are_python_3_11(path):
    ast.parse(path.read_text(), feature_version=(3, 11))  # which refuses newer syntax where it knows of it


def test_notebooks_are_python_3_11():
    for path in sorted((ROOT / "book").rglob("*.ipynb")):
        for cell in code_cells(read_notebook(path)):
            if not re.search(r"^\s*[%!]", cell, flags=re.MULTILINE):
                ast.parse(cell, str(path), feature_version=(3, 11))


def test_project_and_lock_allow_python_3_11_to_3_13():
    allowed = SpecifierSet(PROJECT["requires-python"])
    assert [f"3.{minor}" for minor in range(9, 16) if f"3.{minor}" in allowed] == ["3.11", "3.12", "3.13"]
    assert "--universal" in LOCK.split("\n\n")[0]
    pins = re.findall(r"^([a-z0-9._-]+==[^\s;]+)(?: ; (.*?))?(?: \\)?$", LOCK, flags=re.MULTILINE)
    for minor in (11, 12, 13):
        for system, machine in (("linux", "x86_64"), ("linux", "aarch64"), ("darwin", "arm64")):
            here = {
                "python_version": f"3.{minor}", "python_full_version": f"3.{minor}.0",
                "sys_platform": system, "platform_machine": machine, "implementation_name": "cpython",
                "platform_system": system.capitalize(), "platform_python_implementation": "CPython",
                "os_name": "posix",
            }  # fmt: skip
            kept = [pin.split("==")[0] for pin, marker in pins if not marker or Marker(marker).evaluate(here)]
            assert len(kept) == len(set(kept)), "two versions of one package"
            for wanted in dependencies():
                name = re.sub(r"[-_.]+", "-", Requirement(wanted).name).lower()
                assert name in kept or name not in PINS, f"{name} on {system} {machine}, Python 3.{minor}"


# --- who may import whom (design): never upward ---

MAY_IMPORT: dict[str, set[str]] = {
    "data": set(),
    "losses": set(),
    "models": set(),
    "graph": set(),
    "views": set(),
    "crops": {"views"},  # views of one study, by the rules of all
    "samplers": set(),
    "training": set(),
    "capture": set(),
    "clustering": set(),
    "balanced_start": set(),
    "outliers": set(),
    "evaluation": {"graph", "balanced_start", "clustering", "outliers"},
    "detectors": {"losses", "evaluation"},
    "looks": set(),
    "stills": {"looks"},
    "display": {"looks", "stills"},
    "spheres": {"looks", "stills", "display"},
    "figures": {"looks", "stills", "display", "spheres"},
    "sheets": {"stills"},
    # what lies under `runs`, each importing only those before it
    "parameters": set(),
    "fingerprint": {"parameters"},
    "records": {"parameters", "fingerprint"},
    "matrix": {"parameters", "records"},
    "kernels": {"records"},
    "execution": {"parameters", "records", "matrix", "kernels", "data"},
    "runs": {"parameters", "fingerprint", "records", "matrix"},
    "foundations": {"parameters", "records", "kernels"},
    "exercises": {"records"},
    "grading": {"exercises", "parameters", "records"},
    "printing": {"parameters", "records"},
    "terms": {"pages"},
    "docstrings": set(),
    "api": {"docstrings", "pages", "parameters"},
    "elsewhere": {"records"},
}
# These stay out of what is not named above, too.
METHOD_PARTS = {"losses", "models", "samplers", "views", "crops", "graph"}
TENSORS_ONLY = {"views", "crops", "samplers"}
SLOW = {"torchvision", "umap"}  # 9 and 7 seconds: imported inside the functions that use them


def modules() -> list[Path]:
    return sorted(LIB.rglob("*.py"))


def part_of(path: Path) -> str:
    """`losses` for losses/nt_xent.py, `runs` for runs.py."""
    return path.relative_to(LIB).parts[0].removesuffix(".py")


def imported(tree: ast.AST, package: list[str]) -> set[str]:
    """The dotted names that the statements in `tree` import, relative ones made absolute within `package`."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            names |= {f"{module}.{alias.name}" for alias in node.names}
    return names


def imports_of(path: Path) -> set[str]:
    package = ["pullpush", *path.relative_to(LIB).parent.parts]
    return imported(ast.parse(path.read_text()), package)


def name_of(path: Path) -> str:
    return str(path.relative_to(LIB))


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_imports_never_go_upward(path):
    part = part_of(path)
    ours = {name.split(".")[1] for name in imports_of(path) if name.startswith("pullpush.")} - {part}
    if part in MAY_IMPORT:
        assert ours <= MAY_IMPORT[part], f"{part} may import {MAY_IMPORT[part] or 'no other part'}"
    else:
        assert not ours & METHOD_PARTS, f"{part} knows no method"


@pytest.mark.parametrize("path", [path for path in modules() if part_of(path) in TENSORS_ONLY], ids=name_of)
def test_views_and_samplers_know_tensors_only(path):
    outside = {name.split(".")[0] for name in imports_of(path)} - set(sys.stdlib_module_names)
    assert outside <= {"torch", "pullpush"}


def run_at_import(tree: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    """The import statements outside functions and outside `if TYPE_CHECKING:`."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        elif not isinstance(node, ast.FunctionDef) and not ast.unparse(node).startswith("if TYPE_CHECKING:"):
            yield from run_at_import(node)


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_slow_packages_are_imported_where_they_are_used(path):
    tree = ast.Module([*run_at_import(ast.parse(path.read_text()))], [])
    assert not {name.split(".")[0] for name in imported(tree, [])} & SLOW


def test_nothing_imports_a_notebook():
    for path in [*modules(), *(ROOT / "tests").rglob("*.py")]:
        names = {name.split(".")[0] for name in imported(ast.parse(path.read_text()), ["here"])}
        assert not names & {"book", "import_ipynb", "importnb", "nbimporter"}, path
