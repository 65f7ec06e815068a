"""Where `sync_package` finds a local Python package.

A path is looked up from the project's root. A name is looked up among the editable installs of the Pythons the project
uses: the running one, the active virtual environment, and the project's own `.venv`. How they are recorded: PEP 610.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from klock.documents import read_json
from klock.errors import ImageError

__all__ = ["locate_package", "package_root"]

_ROOT_MARKS: Final = (".git", "setup.py", "setup.cfg", "pyproject.toml", "requirements.txt")


def package_root(folder: Path) -> Path:
    """The project that `folder` is in: the nearest one with a mark of a project, else itself. Never the home folder."""
    home = Path.home()
    for candidate in (folder, *folder.parents):
        if candidate in (home, Path("/")):
            break
        if any((candidate / mark).exists() for mark in _ROOT_MARKS):
            return candidate
    return folder


def locate_package(package: str, *, folder: Path) -> Path:
    """The absolute folder of `package`, a name or a path, for an image defined in `folder`. Raises ImageError."""
    root = package_root(folder)
    if "/" in package or "~" in package:
        path = root / Path(package).expanduser()
        hint = f"there is no {path}"
    else:
        path = next(_editable_installs(package, root), None) or Path()
        hint = f"install it with `pip install -e`, or give its path, such as ./{package}"
    if path == Path() or not path.exists():
        raise ImageError(f"Could not locate local package {package}", hint=hint)
    return path.resolve()


def _editable_installs(name: str, root: Path) -> Iterator[Path]:
    from importlib.metadata import distributions

    from packaging.utils import canonicalize_name

    wanted = canonicalize_name(name)
    for distribution in distributions(path=_search_path(root)):
        found = distribution.metadata["Name"]
        if found is None or canonicalize_name(found) != wanted:
            continue
        record = distribution.read_text("direct_url.json")
        if record and (path := _folder_of(record)):
            yield path


def _folder_of(record: str) -> Path | None:
    """The folder in a `direct_url.json`, None for archives and remote URLs."""
    try:
        url = read_json(record)["url"]
    except (ValueError, KeyError, TypeError):
        return None
    parts = urlsplit(url) if isinstance(url, str) else None
    if parts is None or parts.scheme != "file":
        return None
    path = Path(unquote(parts.path))
    return path if path.is_dir() else None


def _search_path(root: Path) -> list[str]:
    environments = [Path(e) for e in (os.environ.get("VIRTUAL_ENV"), root / ".venv") if e]
    others = [str(p) for e in environments for p in sorted(e.glob("lib/python3*/site-packages"))]
    return list(dict.fromkeys([*sys.path, *others]))
