"""The files of a conda package as conda lays them in an environment, with the place of that written into them.

conda-build's "Package specification" and CEP 34: `info/paths.json` says which files hold a placeholder for the place,
`info/link.json` which commands a package for any Python (`noarch: python`) has.
"""

from __future__ import annotations

import hashlib
import json
import posixpath
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from klock.conda.archives import Unpacked
from klock.documents import read_json
from klock.errors import FetchError
from klock.lockfile.model import CondaPackage
from klock.values import dataclass

__all__ = ["Laid", "Python", "laid_out", "python_of", "record_of"]

_OLD_PLACEHOLDER: Final = "/opt/anaconda1anaconda2anaconda3"
_SCRIPT: Final = """\
#!{python}
# -*- coding: utf-8 -*-
import re
import sys

from {module} import {first}

if __name__ == '__main__':
    sys.argv[0] = re.sub(r'(-script\\.pyw?|\\.exe)?$', '', sys.argv[0])
    sys.exit({function}())
"""
_ENTRY_POINT: Final = re.compile(r"\s*(?P<name>[\w.-]+)\s*=\s*(?P<module>[\w.]+)\s*:\s*(?P<function>[\w.]+)\s*")
_LINK: Final = 3
"""What conda calls a copy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Python:
    """The Python of an environment: the first two numbers of its version, and where modules go, below the prefix."""

    version: str
    site_packages: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Laid:
    """A path below the prefix: a file, in `source` or `content`, a symlink to `target`, or an empty folder."""

    path: str
    mode: int
    source: Path | None = None
    content: bytes | None = None
    target: str | None = None

    @property
    def is_folder(self) -> bool:
        return self.source is None and self.content is None and self.target is None


def python_of(package: CondaPackage, unpacked: Unpacked) -> Python:
    """What the package `python` says of itself."""
    version = ".".join(package.version.split(".")[:2])
    place = _object(unpacked, "info/index.json").get("python_site_packages_path")
    return Python(version=version, site_packages=str(place) if place else f"lib/python{version}/site-packages")


def laid_out(unpacked: Unpacked, prefix: str, python: Python | None) -> Iterator[Laid]:
    """What the package installs at the absolute path `prefix`, sorted. Raises FetchError."""
    link = _object(unpacked, "info/link.json").get("noarch") or {}
    index = _object(unpacked, "info/index.json")
    is_for_any_python = index.get("noarch") == "python" or link.get("type") == "python"
    if is_for_any_python and python is None:
        raise FetchError(f"{unpacked.name} is for any Python, and the environment has none", hint="add python to it")
    found = [_laid(unpacked, entry, prefix, python if is_for_any_python else None) for entry in _entries(unpacked)]
    for text in link.get("entry_points") or () if is_for_any_python and python else ():
        found.append(_script(str(text), unpacked, prefix, python))
    return iter(sorted(found, key=lambda laid: laid.path))


def record_of(package: CondaPackage, unpacked: Unpacked, laid: Sequence[Laid], *, asked: str | None) -> Laid:
    """The note by which conda, mamba and pixi know the package later: `conda-meta/NAME.json`."""
    channel, subdir, file = package.url.rsplit("/", 2)
    paths = []
    for each in laid:
        content = each.content if each.content is not None else each.source.read_bytes() if each.source else None
        kind = "directory" if each.is_folder else "softlink" if content is None else "hardlink"
        entry: dict[str, Any] = {"_path": each.path, "path_type": kind}
        if content is not None:
            entry |= {"sha256_in_prefix": hashlib.sha256(content).hexdigest(), "size_in_bytes": len(content)}
        paths.append(entry)
    record = {
        **_object(unpacked, "info/index.json"),
        "channel": channel,
        "subdir": subdir,
        "fn": file,
        "url": package.url,
        "sha256": package.sha256,
        "size": package.size,
        "files": [each.path for each in laid],
        "paths_data": {"paths": paths, "paths_version": 1},
        "link": {"source": "", "type": _LINK},
        "extracted_package_dir": "",
        "package_tarball_full_path": "",
        "requested_spec": asked or "",
    }
    name = file.removesuffix(".conda").removesuffix(".tar.bz2")
    text = json.dumps(record, indent=2, sort_keys=True, ensure_ascii=False)
    return Laid(path=f"conda-meta/{name}.json", mode=0o644, content=text.encode("utf-8", "surrogateescape") + b"\n")


def _object(unpacked: Unpacked, name: str) -> Mapping[str, Any]:
    content = unpacked.read(name)
    if content is None:
        return {}
    try:
        found = read_json(content)
    except ValueError as error:
        raise FetchError(f"{unpacked.name}: {name} is broken: {error}", hint="check where it comes from") from error
    if not isinstance(found, dict):
        raise FetchError(f"{unpacked.name}: {name} is not a table", hint="check where it comes from")
    return found


def _entries(unpacked: Unpacked) -> Iterator[Mapping[str, Any]]:
    listed = _object(unpacked, "info/paths.json").get("paths")
    if isinstance(listed, list):
        for entry in listed:
            if not isinstance(entry, dict) or not isinstance(entry.get("_path"), str):
                raise FetchError(f"{unpacked.name}: info/paths.json has no path", hint="check where it comes from")
            yield entry
        return
    # Packages of before 2017.
    placeholders = {}
    for line in (unpacked.read("info/has_prefix") or b"").decode("utf-8", "replace").splitlines():
        words = shlex.split(line)
        placeholder, mode, path = words if len(words) == 3 else (_OLD_PLACEHOLDER, "text", " ".join(words))
        placeholders[path] = {"prefix_placeholder": placeholder, "file_mode": mode}
    for path in (unpacked.read("info/files") or b"").decode("utf-8", "surrogateescape").splitlines():
        if path:
            yield {"_path": path, **placeholders.get(path, {})}


def _laid(unpacked: Unpacked, entry: Mapping[str, Any], prefix: str, python: Python | None) -> Laid:
    name = entry["_path"]
    path = posixpath.normpath(name)
    if path.startswith(("/", "../")) or path == "..":
        raise FetchError(f"{unpacked.name}: {name!r} leads out of the environment", hint="check where it comes from")
    in_archive = path
    if python is not None:
        if path.startswith("site-packages/"):
            path = f"{python.site_packages}/{path.removeprefix('site-packages/')}"
        elif path.startswith("python-scripts/"):
            path = f"bin/{path.removeprefix('python-scripts/')}"
    if entry.get("path_type") == "directory":
        return Laid(path=path, mode=0o755)
    if in_archive in unpacked.links:
        return Laid(path=path, mode=0o777, target=unpacked.links[in_archive])
    if in_archive not in unpacked.files:
        raise FetchError(f"{unpacked.name} has no {name!r}, which it lists", hint="check where it comes from")
    source, mode = unpacked.files[in_archive]
    mode = 0o755 if mode & 0o100 else 0o644
    placeholder = entry.get("prefix_placeholder")
    if not placeholder:
        return Laid(path=path, mode=mode, source=source)
    content = source.read_bytes()
    if entry.get("file_mode") == "binary":
        content = _in_binary(content, str(placeholder).encode(), prefix.encode(), unpacked, name)
    else:
        content = content.replace(str(placeholder).encode(), prefix.encode())
    return Laid(path=path, mode=mode, content=content)


def _in_binary(content: bytes, placeholder: bytes, prefix: bytes, unpacked: Unpacked, name: str) -> bytes:
    """Text that ends in NUL keeps its length: what gets shorter is filled up with NUL."""
    if len(prefix) > len(placeholder):
        raise FetchError(
            f"{unpacked.name}: {name} has no room for the place {prefix.decode()}", hint="choose a shorter prefix"
        )

    def replaced(match: re.Match[bytes]) -> bytes:
        text = match[0].replace(placeholder, prefix)
        return text + bytes(len(match[0]) - len(text))

    return re.sub(re.escape(placeholder) + rb"[^\0]*\0", replaced, content)


def _script(text: str, unpacked: Unpacked, prefix: str, python: Python | None) -> Laid:
    match = _ENTRY_POINT.fullmatch(text)
    if match is None or python is None:
        raise FetchError(f"{unpacked.name}: {text!r} is not a command", hint="check where the package comes from")
    content = _SCRIPT.format(
        python=f"{prefix}/bin/python{python.version}",
        module=match["module"],
        first=match["function"].split(".")[0],
        function=match["function"],
    )
    return Laid(path=f"bin/{match['name']}", mode=0o755, content=content.encode())
