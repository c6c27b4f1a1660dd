"""The fingerprint of a method: which code made a number, whatever its comments say.

It covers the notebook cells tagged `method` and the modules in `METHOD` that the notebook imports, with all
that these import from the package. Their syntax trees are hashed, so comments, docstrings and layout do not
count, and neither does the Python version. A package such as `pullpush.losses` is followed name by name to
the files that are used: a new loss leaves the fingerprints of other studies alone. Nothing is executed.
"""

import ast
import functools
import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pullpush.parameters import code_cells, read_notebook

PACKAGE = "pullpush"
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
METHOD = {"data", "views", "samplers", "graph", "losses", "models", "training", "evaluation"}


def method_fingerprint(notebook: Path, library: Path) -> str:
    """sha256 (hex) of the method of the study in `notebook`; `library` is the folder of the package."""
    cells = read_notebook(notebook)
    digest = hashlib.sha256()
    for source in code_cells(cells, "method"):
        digest.update(_canonical(_parse(source)).encode())
    whole = ast.Module([node for source in code_cells(cells) for node in _parse(source).body], [])
    for name, tree in sorted(_reached(whole, library).items()):
        digest.update(f"\n{name}\n{_canonical(tree)}".encode())
    return digest.hexdigest()


def edited(notebook: Mapping[str, Any], executed: Sequence[str]) -> str:
    """'' if this cell and the method cells above it ran as `notebook` has them, else a digest of what ran.

    executed: sources of all executed cells, the present one last; none outside IPython. In Jupyter a cell may
    be changed and run without being saved; its results must not be taken for those of the saved one.
    """
    if not executed:
        return ""
    ran = [_canonical(_parse(source)) for source in executed]
    saved = [_canonical(_parse(source)) for source in code_cells(notebook)]
    method = {_canonical(_parse(source)) for source in code_cells(notebook, "method")}
    due = saved[: saved.index(ran[-1])] if ran[-1] in saved else None
    if due is not None and method.intersection(due) <= set(ran):
        return ""
    return hashlib.sha256("\n".join(ran).encode()).hexdigest()


def _reached(notebook: ast.Module, library: Path) -> dict[str, ast.Module]:
    """The modules of the method, used by the notebook or by each other: name -> the code that counts."""
    reached: dict[str, ast.Module] = {}
    wanted = [path for path in _uses(notebook, dict(_bindings(notebook, ()))) if path[0] in METHOD]
    seen = set()
    while wanted:
        path = wanted.pop()
        if path in seen:
            continue
        seen.add(path)
        module, names = _locate(path, library)
        folder = library.joinpath(*module)
        package = folder.is_dir()
        file = folder / "__init__.py" if package else folder.with_suffix(".py")
        if not module or not file.is_file():
            continue
        tree = _library_tree(file)
        bindings = dict(_bindings(tree, module if package else module[:-1]))
        if package:  # an __init__ that only collects names adds the files of those taken from it, not itself
            taken = names[:1] if names else bindings
            wanted += [bindings[name] for name in taken if name in bindings]
            tree = ast.Module([node for node in tree.body if not _is_listing(node)], [])
        if tree.body:
            reached[".".join((PACKAGE, *module))] = tree
            wanted += _uses(tree, bindings)
    return reached


@functools.cache
def _library_tree(file: Path) -> ast.Module:
    """A module as this process first saw it: an open notebook goes on with the code that it has imported."""
    return ast.parse(file.read_text(encoding="utf-8"))


def _locate(path: tuple[str, ...], library: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Split ('losses', 'nt_xent', 'nt_xent') into the module that exists and the names looked up in it."""
    for length in range(len(path), 0, -1):
        file = library.joinpath(*path[:length])
        if file.is_dir() or file.with_suffix(".py").is_file():
            return path[:length], path[length:]
    return (), path


def _bindings(tree: ast.AST, inside: tuple[str, ...]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Names bound by imports from this package, each with the path it stands for."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                parts = tuple(alias.name.split("."))
                if parts[0] == PACKAGE:
                    yield alias.asname or alias.name, parts[1:]
        elif isinstance(node, ast.ImportFrom):
            parts = tuple(node.module.split(".")) if node.module else ()
            if node.level:
                base = inside[: len(inside) - node.level + 1] + parts
            elif parts[:1] == (PACKAGE,):
                base = parts[1:]
            else:
                continue
            for alias in node.names:
                yield alias.asname or alias.name, base if alias.name == "*" else (*base, alias.name)


def _uses(tree: ast.AST, bindings: Mapping[str, tuple[str, ...]]) -> Iterator[tuple[str, ...]]:
    """What `tree` uses of the package: `losses.nt_xent` for an attribute, else all that a name stands for."""
    named: Counter[str] = Counter()
    taken: Counter[str] = Counter()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id in bindings:
            named[node.id] += 1
        elif (
            isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in bindings
        ):
            taken[node.value.id] += 1
            yield (*bindings[node.value.id], node.attr)
    for name, path in bindings.items():
        if path and (named[name] > taken[name] or name == "*" or "." in name):
            yield path


def _is_listing(node: ast.stmt) -> bool:
    """Imports, `__all__` and text: what an `__init__.py` that only collects names is made of."""
    named = isinstance(node, ast.Assign) and all(
        isinstance(target, ast.Name) and target.id == "__all__" for target in node.targets
    )
    text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    return named or text or isinstance(node, (ast.Import, ast.ImportFrom))


def _parse(source: str) -> ast.Module:
    """The syntax tree of a cell without IPython's % and ! lines; of one that is not Python, its text."""
    try:
        return ast.parse(re.sub(r"^\s*[%!].*$", "", source, flags=re.MULTILINE))
    except SyntaxError:
        return ast.Module([ast.Expr(ast.List([ast.Constant(source)]))], [])


def _canonical(node: object) -> str:
    """A syntax tree as text, without docstrings and empty fields: ast.dump's differs between Pythons."""
    if isinstance(node, list):
        return "[" + ",".join(_canonical(item) for item in node) + "]"
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = dict(ast.iter_fields(node))
    if isinstance(node, DOCUMENTED) and ast.get_docstring(node) is not None:
        fields["body"] = node.body[1:]
    kept = {name: value for name, value in fields.items() if value is not None and value != []}
    return f"{type(node).__name__}({','.join(f'{name}={_canonical(value)}' for name, value in kept.items())})"
