"""A step that keeps its layer, in a Dockerfile: the layer is shipped, and nothing of the step runs."""

from __future__ import annotations

import posixpath
import shlex
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from klock.lockfile.model import KeptLayer
from klock.pages.build_context import ContextFile
from klock.pages.page import PLACE, Form, Page, checked, continued
from klock.steps.context import Context
from klock.values import dataclass

__all__ = ["write_kept_layer"]

_WHITEOUT: Final = ".wh."
_ATTRIBUTE: Final = "SCHILY.xattr."
_IN_ONE_LINE: Final = 200


def write_kept_layer(page: Page, kept: KeptLayer, *, folder: str, context: Context) -> None:
    """Adds what the step made when it was locked. Raises KlockError when that is not on this machine."""
    digest = f"sha256:{kept.sha256}"
    archive = context.store.find_blob(digest)
    if archive is None:
        raise page.error(
            "its kept layer is not on this machine",
            hint="get the layer from a vault: klock vault pull DIR",
        )
    page.become("")
    path = f"{PLACE}/{folder}.tar"
    page.copy_file(ContextFile(path=f"{folder}.tar", source=archive, digest=digest), path)
    layer = _read(archive)
    removed = [posixpath.join(folder, name.removeprefix(_WHITEOUT)) for folder, name in layer.whiteouts]
    markers = [posixpath.join(folder, name) for folder, name in layer.whiteouts]
    # busybox's tar can neither restore the attributes nor leave out the markers.
    options = "--xattrs '--xattrs-include=*' " * layer.has_attributes
    commands = [checked(path, digest), *_removing(removed), f" && tar -C / {options}-xpf {path}", *_removing(markers)]
    if page.form is Form.DOCKER:
        commands.append(f" && rm -r {PLACE}")
    page.run(continued(commands))


def _removing(paths: list[str]) -> Iterator[str]:
    for start in range(0, len(paths), _IN_ONE_LINE):
        yield f" && rm -rf -- {shlex.join(paths[start : start + _IN_ONE_LINE])}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Layer:
    """`whiteouts` are what the layer removes (OCI image-spec, layer.md): the absolute folder, and the name in it."""

    whiteouts: list[tuple[str, str]]
    has_attributes: bool


def _read(archive: Path) -> _Layer:
    with tarfile.open(archive, "r:") as members:
        every = members.getmembers()
    names = (posixpath.split(posixpath.join("/", member.name)) for member in every)
    return _Layer(
        whiteouts=[(folder, name) for folder, name in names if name.startswith(_WHITEOUT)],
        has_attributes=any(header.startswith(_ATTRIBUTE) for member in every for header in member.pax_headers),
    )
