"""A small, real conda channel: packages in both formats and the lists of them, made by hand as by conda-build."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import zstandard

__all__ = ["PLACEHOLDER", "CondaPackage", "write_channel"]

PLACEHOLDER = "/home/builder/feedstock_root/build_artifacts/x_1700000000000/_h_env" + "_placehold" * 12
"""As conda-build fills it up, so that any place fits in."""


@dataclass(frozen=True, kw_only=True)
class CondaPackage:
    """`files` by path: text and bytes that hold PLACEHOLDER are listed as files that do; `-> x` is a symlink, and what
    begins with `#!` or ELF's magic can be executed. `form` is `.conda` or `.tar.bz2`."""

    name: str
    version: str = "1.0"
    build: str = "0"
    depends: Sequence[str] = ()
    subdir: str = "linux-64"
    files: dict[str, str | bytes] = field(default_factory=dict)
    entry_points: Sequence[str] = ()
    form: str = ".conda"
    old: bool = False

    @property
    def stem(self) -> str:
        return f"{self.name}-{self.version}-{self.build}"


def write_channel(folder: Path, packages: Sequence[CondaPackage], *, compressed: bool = True) -> None:
    """Writes the packages, and for each platform its list."""
    for subdir in ("linux-64", "linux-aarch64", "noarch"):
        (folder / subdir).mkdir(parents=True, exist_ok=True)
        listed: dict[str, dict[str, Any]] = {"packages": {}, "packages.conda": {}}
        for package in (each for each in packages if each.subdir == subdir):
            content = _conda(package) if package.form == ".conda" else _tar_bz2(package)
            name = package.stem + package.form
            (folder / subdir / name).write_bytes(content)
            digests = {"sha256": hashlib.sha256(content).hexdigest(), "md5": hashlib.md5(content).hexdigest()}
            key = "packages.conda" if package.form == ".conda" else "packages"
            listed[key][name] = {**_index(package), **digests, "size": len(content)}
        text = json.dumps({"info": {"subdir": subdir}, "repodata_version": 1, **listed}).encode()
        if compressed:
            # Several frames are one file, as programs that compress with all cores write them.
            frames = [zstandard.compress(part) for part in (text[:100], text[100:])]
            (folder / subdir / "repodata.json.zst").write_bytes(b"".join(frames))
        else:
            (folder / subdir / "repodata.json").write_bytes(text)


def _index(package: CondaPackage) -> dict[str, Any]:
    index: dict[str, Any] = {
        "name": package.name,
        "version": package.version,
        "build": package.build,
        "build_number": int(package.build.rpartition("_")[2]),
        "depends": list(package.depends),
        "subdir": package.subdir,
        "timestamp": 1700000000000,
    }
    return {**index, "noarch": "python"} if package.entry_points or package.subdir == "noarch" else index


def _info(package: CondaPackage) -> dict[str, bytes]:
    info = {"info/index.json": json.dumps(_index(package)).encode()}
    if package.entry_points:
        link = {"noarch": {"type": "python", "entry_points": list(package.entry_points)}, "package_metadata_version": 1}
        info["info/link.json"] = json.dumps(link).encode()
    if package.old:
        info["info/files"] = "".join(f"{path}\n" for path in package.files).encode()
        lines = [f"{PLACEHOLDER} {_mode(c)} {path}\n" for path, c in package.files.items() if _holds(c)]
        info["info/has_prefix"] = "".join(lines).encode()
        return info
    paths = []
    for path, content in package.files.items():
        is_link = isinstance(content, str) and content.startswith("-> ")
        entry = {"_path": path, "path_type": "softlink" if is_link else "hardlink"}
        if _holds(content):
            entry |= {"prefix_placeholder": PLACEHOLDER, "file_mode": _mode(content)}
        paths.append(entry)
    info["info/paths.json"] = json.dumps({"paths": paths, "paths_version": 1}).encode()
    return info


def _holds(content: str | bytes) -> bool:
    return PLACEHOLDER.encode() in content if isinstance(content, bytes) else PLACEHOLDER in content


def _mode(content: str | bytes) -> str:
    return "binary" if isinstance(content, bytes) else "text"


def _tar(files: dict[str, str | bytes] | dict[str, bytes]) -> bytes:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as tar:
        for path, content in files.items():
            member = tarfile.TarInfo(path)
            if isinstance(content, str) and content.startswith("-> "):
                member.type, member.linkname = tarfile.SYMTYPE, content[3:]
                tar.addfile(member)
                continue
            data = content.encode() if isinstance(content, str) else content
            member.mode = 0o775 if data.startswith((b"#!", b"\x7fELF")) else 0o664
            member.size, member.mtime = len(data), 1700000000
            tar.addfile(member, io.BytesIO(data))
    return raw.getvalue()


def _tar_bz2(package: CondaPackage) -> bytes:
    import bz2

    return bz2.compress(_tar({**package.files, **_info(package)}))


def _conda(package: CondaPackage) -> bytes:
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w", zipfile.ZIP_STORED) as zipped:
        zipped.writestr(_member("metadata.json"), '{"conda_pkg_format_version": 2}')
        zipped.writestr(_member(f"pkg-{package.stem}.tar.zst"), zstandard.compress(_tar(package.files)))
        zipped.writestr(_member(f"info-{package.stem}.tar.zst"), zstandard.compress(_tar(_info(package))))
    return raw.getvalue()


def _member(name: str) -> zipfile.ZipInfo:
    """Equal packages have equal bytes, whenever they are written."""
    return zipfile.ZipInfo(name, date_time=(2024, 1, 1, 0, 0, 0))
