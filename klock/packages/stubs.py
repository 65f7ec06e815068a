"""Stub wheels: real metadata without content, so that a resolver sees distributions no index has.

A base may hold `torch 2.4.0a0+nv`, which only its vendor has. Offered to uv as a wheel in a folder, and preferred, it
is kept when it satisfies every requirement, and its dependencies count. A stub is never installed.
"""

from __future__ import annotations

import base64
import hashlib
import zipfile
from collections.abc import Sequence
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.version import InvalidVersion, Version

__all__ = ["write_stub"]


def write_stub(
    folder: Path, *, name: str, version: str, requires: Sequence[str], extras: Sequence[str] = ()
) -> Path | None:
    """Writes `NAME-VERSION-py3-none-any.whl`; None when the version is none of PEP 440, which no resolver could use.

    Requirements that are none of PEP 508 are left out, as uv could not read them either.
    """
    try:
        module, release = name.replace("-", "_"), str(Version(version))
    except InvalidVersion:
        return None
    info = f"{module}-{release}.dist-info"
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {release}"]
    lines += [f"Provides-Extra: {extra}" for extra in extras]
    lines += [f"Requires-Dist: {requirement}" for requirement in requires if _is_requirement(requirement)]
    contents = {
        f"{info}/METADATA": "\n".join(lines) + "\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: klock\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{path},{_record_hash(text)},{len(text.encode())}\n" for path, text in contents.items())
    contents[f"{info}/RECORD"] = record + f"{info}/RECORD,,\n"
    path = folder / f"{module}-{release}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for member, text in contents.items():
            archive.writestr(zipfile.ZipInfo(member, (1980, 1, 1, 0, 0, 0)), text)
    return path


def _record_hash(text: str) -> str:
    return "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode("ascii")


def _is_requirement(text: str) -> bool:
    try:
        Requirement(text)
    except InvalidRequirement:
        return False
    return True
