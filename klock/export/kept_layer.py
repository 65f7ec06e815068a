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

__all__ = ["write_kept_layer"]

_WHITEOUT: Final = ".wh."
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
    removed = list(_removed(archive))
    commands = [checked(path, digest)]
    for start in range(0, len(removed), _IN_ONE_LINE):
        commands.append(f" && rm -rf -- {shlex.join(removed[start : start + _IN_ONE_LINE])}")
    options = "--numeric-owner --xattrs '--xattrs-include=*' '--exclude=.wh.*'"
    commands.append(f" && tar -C / {options} -xpf {path}")
    if page.form is Form.DOCKER:
        commands.append(f" && rm -r {PLACE}")
    page.run(continued(commands))


def _removed(archive: Path) -> Iterator[str]:
    """The absolute paths that the layer takes away (OCI image-spec, layer.md, "Whiteouts")."""
    with tarfile.open(archive, "r:") as members:
        for member in members:
            folder, name = posixpath.split(member.name)
            if name.startswith(_WHITEOUT):
                yield posixpath.join("/", folder, name.removeprefix(_WHITEOUT))
