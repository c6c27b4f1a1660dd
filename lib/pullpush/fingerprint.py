"""The fingerprint of a method: which code made a number, whatever its comments say.

It covers the notebook cells tagged `method` and what the notebook reaches in the modules of `METHOD`, with
all that this reaches in the package. Syntax trees are hashed, so comments, docstrings and layout do not
count, and neither does the Python version. Nothing is executed.

A function, class or import of a module counts if its name is looked up in the module from outside, or occurs
in code of the module that counts, be it as an attribute or in a string. Other statements, such as constants
and tables of functions, always count; so does a definition with a decorator or base class from the package,
which may register it. Everything counts in a module that is used as a whole, as by `getattr(module, name)`.
So a new function, loss or file leaves the fingerprints of older studies alone.

Imports are followed as they are written, so the files of named data sets, which `pullpush.data` finds when it
runs, do not count: what they give is covered by the data digests in each record.
"""

import ast
import functools
import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any

from pullpush.parameters import code_cells, read_notebook

PACKAGE = "pullpush"
ALL = "*"  # stands for every name of a module
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
NAMING = {ast.Name: "id", ast.Attribute: "attr", ast.Constant: "value", ast.alias: "name", ast.keyword: "arg"}
METHOD = {"data", "views", "crops", "samplers", "graph", "losses", "models", "training", "evaluation"}


def method_fingerprint(notebook: Path, library: Path) -> str:
    """sha256 (hex) of the method of the study in `notebook`; `library` is the folder of the package."""
    cells = read_notebook(notebook)
    digest = hashlib.sha256()
    for source in code_cells(cells, "method"):
        digest.update(_canonical(_parse(source)).encode())
    for name, tree in sorted(_reached(_whole(cells), library).items()):
        digest.update(f"\n{name}\n{_canonical(tree)}".encode())
    return digest.hexdigest()


def method_files(notebook: Path, library: Path) -> list[Path]:
    """The files that the fingerprint covers, in whole or in part: the notebook, then modules by name."""
    files = [notebook]
    for name in sorted(_reached(_whole(read_notebook(notebook)), library)):
        module = library.joinpath(*name.split(".")[1:])
        files.append(module / "__init__.py" if module.is_dir() else module.with_suffix(".py"))
    return files


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


def _whole(cells: Mapping[str, Any]) -> ast.Module:
    """The code of all cells of a notebook."""
    return ast.Module([node for source in code_cells(cells) for node in _parse(source).body], [])


def _reached(notebook: ast.Module, library: Path) -> dict[str, ast.Module]:
    """The modules of the method, used by the notebook or by each other: name -> the code that counts."""
    reached: dict[str, ast.Module] = {}
    looked_up: defaultdict[tuple[str, ...], set[str]] = defaultdict(set)
    wanted = [path for path in _uses(notebook, _bindings(notebook, ())) if path[0] in METHOD]
    while wanted:
        module, names = _locate(wanted.pop(), library)
        folder = library.joinpath(*module)
        package = folder.is_dir()
        file = folder / "__init__.py" if package else folder.with_suffix(".py")
        here, name = looked_up[module], names[0] if names else ALL
        if not module or not file.is_file() or name in here:
            continue
        here.add(name)
        tree = _counted(_library_tree(file), here)
        reached[".".join((PACKAGE, *module))] = tree
        bindings = set(_bindings(tree, module if package else module[:-1]))
        wanted += _uses(tree, bindings)
        wanted += [path for bound, path in bindings if path and (bound in here or ALL in here)]
    return reached


def _counted(tree: ast.Module, looked_up: AbstractSet[str]) -> ast.Module:
    """The statements of a module that count if the names in `looked_up` are taken from it."""
    own = {bound.split(".")[0] for bound, _ in _bindings(tree, ())}  # what it defines or has of the package
    for node in tree.body:
        named = (part.id for part in ast.walk(node) if isinstance(part, ast.Name))
        own.update([node.name] if isinstance(node, DOCUMENTED) else named)
    names = {*looked_up, "__getattr__"}  # which Python calls for names that it does not find
    counted: set[ast.stmt] = set()
    while found := [node for node in tree.body if node not in counted and _counts(node, names, own)]:
        counted.update(found)
        names.update(*map(_words, found))
        if "globals" in names:  # from where any name can be taken
            names.add(ALL)
    return ast.Module([node for node in tree.body if node in counted], [])


def _counts(node: ast.stmt, names: AbstractSet[str], own: AbstractSet[str]) -> bool:
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        bound = node.names[0].asname or node.names[0].name.split(".")[0]
        return bound == ALL or bound in names or ALL in names
    if not isinstance(node, DOCUMENTED):
        return True
    above = [*node.decorator_list, *([*node.bases, *node.keywords] if isinstance(node, ast.ClassDef) else [])]
    return node.name in names or ALL in names or any(_words(part) & own for part in above)


@functools.cache
def _words(tree: ast.AST) -> AbstractSet[str]:
    """Every word in `tree` that may name a definition; those in strings too, for `getattr` and its like."""
    held = (getattr(node, NAMING[type(node)]) for node in ast.walk(tree) if type(node) in NAMING)
    return {word for text in held if isinstance(text, str) for word in re.findall(r"\w+", text)}


@functools.cache
def _library_tree(file: Path) -> ast.Module:
    """A module as this process first saw it: an open notebook goes on with the code that it has imported.

    Imports are cut into single names, and `__all__` is left out: a new name in either need not count.
    """
    body: list[ast.stmt] = []
    for node in _undocumented(ast.parse(file.read_text(encoding="utf-8"))).body:
        if isinstance(node, ast.Import):
            body += [ast.Import([alias]) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            body += [ast.ImportFrom(node.module, [alias], node.level) for alias in node.names]
        elif not (isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"):
            body.append(node)
    return ast.Module(body, [])


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


def _uses(tree: ast.AST, bindings: Iterable[tuple[str, tuple[str, ...]]]) -> Iterator[tuple[str, ...]]:
    """What `tree` uses of the package: `losses.nt_xent` for an attribute, else all that a name stands for."""
    named: Counter[str] = Counter()
    taken: defaultdict[str, list[str]] = defaultdict(list)
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            named[node.id] += 1
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            taken[node.value.id].append(node.attr)
    for name, path in bindings:
        yield from ((*path, attribute) for attribute in taken[name])
        if path and (named[name] > len(taken[name]) or name == ALL or "." in name):
            yield path


def _parse(source: str) -> ast.Module:
    """The syntax tree of a cell without IPython's % and ! lines; of one that is not Python, its text."""
    try:
        return _undocumented(ast.parse(re.sub(r"^\s*[%!].*$", "", source, flags=re.MULTILINE)))
    except SyntaxError:
        return ast.Module([ast.Expr(ast.List([ast.Constant(source)]))], [])


def _undocumented(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        if isinstance(node, DOCUMENTED) and ast.get_docstring(node) is not None:
            node.body = node.body[1:]
    return tree


def _canonical(node: object) -> str:
    """A syntax tree as text, without empty fields: ast.dump's differs between Pythons."""
    if isinstance(node, list):
        return "[" + ",".join(_canonical(item) for item in node) + "]"
    if not isinstance(node, ast.AST):
        return repr(node)
    kept = {name: value for name, value in ast.iter_fields(node) if value is not None and value != []}
    return f"{type(node).__name__}({','.join(f'{name}={_canonical(value)}' for name, value in kept.items())})"
