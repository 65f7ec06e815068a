"""klock's own files and those of the packages it needs, as they are installed here."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Final

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from klock.digests import Digest, digest_of_bytes, digest_of_json
from klock.errors import EngineError

__all__ = ["distributions", "files_of", "klock_digest", "klock_files", "versions"]

_KLOCK: Final = "klock-env"
_EXTRAS: Final = ("conda", "git", "gpu", "push", "sbom", "sign", "zstd")
"""Without those that talk to engines and clusters, which is done from here."""


def klock_files() -> Iterator[tuple[str, Path]]:
    """Each file of klock, by its path in a folder of packages."""
    folder = Path(__file__).parent.parent
    for path in sorted(folder.rglob("*")):
        if path.suffix in (".py", ".typed"):
            yield path.relative_to(folder.parent).as_posix(), path


def klock_digest() -> Digest:
    return digest_of_json([[name, digest_of_bytes(path.read_bytes())] for name, path in klock_files()])


def distributions() -> Mapping[str, metadata.Distribution]:
    """The installed packages that klock needs, directly or through others, by normalised name.

    Raises EngineError where klock itself is not installed, since then nothing says what it needs.
    """
    found: dict[str, metadata.Distribution] = {}
    waiting = [Requirement(f"{_KLOCK}[{','.join(_EXTRAS)}]")]
    asked: set[str] = set()
    while waiting:
        wanted = waiting.pop()
        try:
            distribution = metadata.distribution(wanted.name)
        except metadata.PackageNotFoundError as error:
            if wanted.name == _KLOCK:
                raise EngineError(
                    "klock is not installed as a package here, so klock cannot tell what it needs in a container",
                    hint="install it: `uv tool install ./klock`, or `pip install -e .` in a clone",
                ) from error
            continue  # of an extra that is not installed
        found[canonicalize_name(wanted.name)] = distribution
        for needed in map(Requirement, distribution.requires or ()):
            if str(needed) not in asked and _is_needed(needed, wanted.extras):
                asked.add(str(needed))
                waiting.append(needed)
    found.pop(_KLOCK, None)
    return dict(sorted(found.items()))


def _is_needed(requirement: Requirement, extras: Iterable[str]) -> bool:
    marker = requirement.marker
    return marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *extras))


def versions() -> list[str]:
    """The packages of `distributions`, as requirements of exactly these versions."""
    return [f"{name}=={distribution.version}" for name, distribution in distributions().items()]


def files_of(distribution: metadata.Distribution) -> Iterator[tuple[str, Path]]:
    """Each file, by its path in a folder of packages; programs are in its `bin`, as `pip install --target` has them."""
    scripts = Path(sys.prefix, "bin")
    for file in distribution.files or ():
        path = Path(os.path.normpath(str(distribution.locate_file(file))))
        if path.suffix == ".pyc" or not path.is_file():
            continue
        if ".." not in file.parts:
            yield file.as_posix(), path
        elif path.parent == scripts:
            yield f"bin/{path.name}", path
