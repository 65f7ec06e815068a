"""A base image made of this machine's own Python and some of its packages, where nothing can be fetched.

The layer has the interpreter with its standard library, the distributions asked for with all that they require, a
shell, and every shared library that these load, at the paths where this machine has them. The driver of a GPU is not
among them: it belongs to the machine that runs the image.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

__all__ = ["write_host_layout"]

_PROGRAMS: Final = ("sh", "bash", "env", "cat", "ls", "mkdir", "rm", "cp", "true")
_SYSTEM_FILES: Final = ("/etc/passwd", "/etc/group", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/ld.so.cache")
_NO_MODULES: Final = ("site-packages", "dist-packages", "test", "idlelib", "__pycache__")
_DRIVERS: Final = re.compile(r"/lib(cuda|nvidia-[\w-]+|nvcuvid)\.so")
_LOADED: Final = re.compile(r"(?:=> )?(/\S+) \(0x[0-9a-f]+\)")
_AT_ONCE: Final = 200
_KIND: Final = "application/vnd.oci.image"

# Run by the interpreter that is copied.
_ASK: Final = """\
import importlib.metadata, json, os, re, sys, sysconfig
from packaging.requirements import Requirement

files, waiting, seen = [], sys.argv[1:], set()
while waiting:
    name = waiting.pop()
    key = re.sub(r"[-_.]+", "-", name).lower()
    try:
        found = importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        if name in sys.argv[1:]:
            sys.exit(f"{sys.executable} has no distribution {name}")
        continue
    if key in seen:
        continue
    seen.add(key)
    files += [os.path.normpath(found.locate_file(file)) for file in found.files or ()]
    for text in found.requires or ():
        requirement = Requirement(text)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            waiting.append(requirement.name)
configuration = os.path.join(sys.prefix, "pyvenv.cfg")
print(json.dumps({
    "executable": sys.executable,
    "library": sysconfig.get_path("stdlib"),
    "platform_library": sysconfig.get_path("platstdlib"),
    "files": files + [configuration] * os.path.exists(configuration),
}))
"""


def write_host_layout(layout: Path, python: Path, distributions: Iterable[str], *, tag: str = "host") -> None:
    """Writes an OCI layout folder (image-spec, image-layout.md) with one image, whose layer is not compressed.

    `python` needs `packaging`. Raises CalledProcessError when it cannot say where its files are.
    """
    asked = subprocess.run([python, "-c", _ASK, *distributions], capture_output=True, text=True, check=True)
    facts = json.loads(asked.stdout)
    files = [*map(Path, facts["files"]), *_library(Path(facts["library"])), *_library(Path(facts["platform_library"]))]
    programs = [Path(found) for name in _PROGRAMS if (found := shutil.which(name, path="/bin:/usr/bin"))]
    programs += [Path(facts["executable"])]
    present = {path for path in (*files, *programs, *map(Path, _SYSTEM_FILES)) if path.exists()}
    loaded = _loaded_by([path for path in present if path in programs or ".so" in path.name])
    members = sorted({each for path in (*present, *loaded) for each in _with_links(path)})
    blobs = layout / "blobs/sha256"
    blobs.mkdir(parents=True)
    with tarfile.open(layout / "layer.tar", "w") as archive:
        for path in members:
            archive.add(path, arcname=str(path), recursive=path.is_dir() and not path.is_symlink(), filter=_plain)
    _write_documents(layout, blobs, Path(facts["executable"]).parent, tag)


def _library(folder: Path) -> Iterator[Path]:
    """The modules of a standard library, without others' and without its own tests."""
    for above, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name not in _NO_MODULES]
        yield from (Path(above, name) for name in names)


def _loaded_by(binaries: list[Path]) -> set[Path]:
    """The shared libraries that ldd(1) finds for programs and libraries, but a driver's."""
    found: set[Path] = set()
    for start in range(0, len(binaries), _AT_ONCE):
        command = ["ldd", *map(str, binaries[start : start + _AT_ONCE])]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # it fails for what is not a binary
        found.update(Path(match[1]) for match in _LOADED.finditer(done.stdout) if not _DRIVERS.search(match[1]))
    return found


def _with_links(path: Path) -> Iterator[Path]:
    """A path and, where it leads through symlinks, each of them and what is at their end."""
    here = Path("/")
    parts = list(path.parts[1:])
    while parts:
        part = parts.pop(0)
        here = here.parent if part == ".." else here / part
        if here.is_symlink():
            yield here
            target = here.readlink()
            parts = [*target.parts, *parts]
            here = here.parent
            if target.is_absolute():
                parts, here = parts[1:], Path("/")
    yield here


def _plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = member.mtime = 0
    member.uname = member.gname = ""
    return member


def _write_documents(layout: Path, blobs: Path, programs: Path, tag: str) -> None:
    with open(layout / "layer.tar", "rb") as archive:
        digits = hashlib.file_digest(archive, "sha256").hexdigest()
    size = (layout / "layer.tar").stat().st_size
    (layout / "layer.tar").rename(blobs / digits)
    layer = {"mediaType": f"{_KIND}.layer.v1.tar", "digest": f"sha256:{digits}", "size": size}
    config = {
        "os": "linux",
        "architecture": "amd64",
        "config": {"Env": [f"PATH={programs}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [layer["digest"]]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{_KIND}.manifest.v1+json",
        "config": {"mediaType": f"{_KIND}.config.v1+json", **_write_blob(blobs, config)},
        "layers": [layer],
    }
    top = {"mediaType": f"{_KIND}.manifest.v1+json", **_write_blob(blobs, manifest)}
    entry = {**top, "annotations": {"org.opencontainers.image.ref.name": tag}}
    (layout / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))


def _write_blob(blobs: Path, document: dict[str, Any]) -> dict[str, Any]:
    content = json.dumps(document).encode()
    digits = hashlib.sha256(content).hexdigest()
    (blobs / digits).write_bytes(content)
    return {"digest": f"sha256:{digits}", "size": len(content)}
