"""Deterministic image files: those whose image follows from files and environment variables alone.

Such a file uses the builder, literals, text, `os.environ`, and what it reads from files by paths it names. Nothing in
it can ask for the time, for chance, for what is in a folder or whether something is there. So, while what it read is
the same, running it again gives the same image. What is not known to be harmless counts as not deterministic, which
costs time and nothing else.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Final

__all__ = ["is_deterministic"]

_PATHS: Final = (
    "Path PosixPath PurePath PurePosixPath as_posix joinpath name open parent parents read_bytes read_text relative_to "
    "stem suffix with_name with_suffix"
)
_MODULES: Final = {
    "__future__": {"annotations"},
    "json": {"load", "loads"},
    "os": {"PathLike", "environ", "fspath", "getenv", "path"},
    "os.path": {"basename", "dirname", "join", "normpath"},
    "pathlib": set(_PATHS.split()),
    "tomllib": {"load", "loads"},
    "typing": {"Any", "Final"},
}
_NAMES: Final = (
    "False None True __file__ __name__ all any bool dict enumerate filter float int isinstance len list map max min "
    "open range repr reversed sorted str sum tuple zip"
)
_BUILTINS: Final = frozenset(_NAMES.split())
_METHODS: Final = frozenset(
    name for kind in (str, list, dict, tuple) for name in dir(kind) if not name.startswith("_")
) | {*_PATHS.split(), "read", "readlines"}


def is_deterministic(source: bytes) -> bool:
    """Whether the image file with these bytes is deterministic; False for one that does not compile."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return False
    modules = dict(_imports(tree))
    if not all(name in _MODULES or _is_klock(name) for name in modules.values()):
        return False
    bound = {*modules, *_bound(tree)}
    return all(_is_harmless(node, modules, bound) for node in ast.walk(tree))


def _is_klock(module: str) -> bool:
    return module in ("klock", "klock.images")


def _imports(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """The names by which the file knows modules, or members of them, and the modules."""
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                for alias in names:
                    yield (alias.asname, alias.name) if alias.asname else (alias.name.partition(".")[0], alias.name)
            case ast.ImportFrom(module=module, names=names, level=level):
                for alias in names:
                    yield alias.asname or alias.name, "" if level or alias.name == "*" else module or ""


def _bound(tree: ast.AST) -> Iterator[str]:
    """The names that the file itself gives to something."""
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name, ctx=ast.Store()) | ast.arg(arg=name) | ast.FunctionDef(name=name):
                yield name


def _is_harmless(node: ast.AST, modules: dict[str, str], bound: set[str]) -> bool:
    match node:
        case ast.ImportFrom(module=module, names=names):
            return _is_klock(module or "") or all(alias.name in _MODULES[module or ""] for alias in names)
        case ast.Attribute(value=ast.Name(id=name), attr=attribute) if name in modules:
            return _has(modules[name], attribute)
        case ast.Attribute(value=ast.Attribute(value=ast.Name(id=name), attr="path"), attr=attribute) if modules.get(
            name
        ) in ("os", "os.path"):
            return attribute in _MODULES["os.path"]
        case ast.Attribute(attr=attribute):
            return attribute in _METHODS or _is_builders(attribute)
        case ast.Name(id=name, ctx=ast.Load()):
            return name in bound or name in _BUILTINS
        case ast.Set() | ast.SetComp() | ast.ClassDef() | ast.AsyncFunctionDef():
            return False
        case ast.Try() | ast.TryStar():
            return False  # what is tried may fail for a file that is not there
    return True


def _has(module: str, attribute: str) -> bool:
    if _is_klock(module):
        return not attribute.startswith("_")
    # A member that was imported by name, such as `environ` or `Path`, is looked at like any other value.
    return attribute in _MODULES[module] or attribute in _METHODS


def _is_builders(name: str) -> bool:
    from klock.image import ready
    from klock.image.builder import Image

    return not name.startswith("_") and (hasattr(Image, name) or hasattr(ready, name))
