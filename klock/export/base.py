"""FROM: a registry's image by its digest. Of another base, which no Dockerfile could name, the files are shipped."""

from __future__ import annotations

from klock.bases import fetch_base
from klock.bases.scratch import SCRATCH
from klock.digests import Digest
from klock.lockfile.model import BaseLock, DebianLock, OciLock
from klock.oci.reference import Reference
from klock.pages.build_context import ContextFile
from klock.pages.page import Form, Page
from klock.steps.context import Context

__all__ = ["can_be_named", "write_base"]

_ARCHIVE = "base.tar"


def can_be_named(base: BaseLock) -> bool:
    """Whether FROM can name the base, so that the image inherits its config. Otherwise the export has its files."""
    if not isinstance(base, OciLock) or base.reference.startswith("oci:"):
        return False
    # docker would run the base's triggers (ONBUILD) again, which are among the steps.
    return base.settings is None or not base.settings.on_build


def write_base(page: Page, base: BaseLock, context: Context, *, stage: str = "") -> None:
    """Adds FROM and what belongs to it, as the beginning of a stage of this name.

    Raises KlockError where kubetorch's pods could not have the base.
    """
    name_of_stage = f" AS {stage}" if stage else ""
    archive = f"{context.prefix}{_ARCHIVE}"
    if isinstance(base, OciLock) and base.reference == SCRATCH:
        page.add(f"FROM {SCRATCH}{name_of_stage}")
        return
    if isinstance(base, OciLock) and can_be_named(base):
        reference = Reference.parse(base.reference)
        page.comment(f"the base {base.reference}")
        page.add(f"FROM {reference.registry}/{reference.repository}@{base.manifest.digest}{name_of_stage}")
        return
    name = f"Debian {base.suite}" if isinstance(base, DebianLock) else base.reference
    if page.form is Form.KUBETORCH:
        raise page.error(
            f"the base is {name}, which no registry has, and kubetorch's pods need an image to start from",
            hint="build and push it with the Dockerfile for docker, and start from that with from_docker()",
        )
    page.comment(f"{name}: its files are in {archive}")
    page.add(f"FROM scratch{name_of_stage}")
    blob = _archive(base, context)
    page.files.append(ContextFile(path=archive, source=context.store.blob_path(blob), digest=blob))
    page.add(f"ADD {archive} /")
    says_home = isinstance(base, OciLock) and (base.settings is not None or base.has_home)
    for variable, value in base.environment:
        if variable != "HOME" or says_home:  # without it HOME follows the user
            page.env(variable, value)
    page.add(f"WORKDIR {base.working_dir}")
    if base.user:
        page.add(f"USER {base.user}")


def _archive(base: BaseLock, context: Context) -> Digest:
    """The base's files as a tar archive in the store."""
    if not context.workshop.has_base(base.id):
        fetch_base(
            base,
            workshop=context.workshop,
            store=context.store,
            mirrors=context.mirrors,
            root=context.root,
            offline=context.offline,
            progress=context.progress,
        )
    with context.store.temporary_file() as path:
        context.workshop.write_base(base.id, path)
        with open(path, "rb") as file:
            digest, _ = context.store.add_blob(iter(lambda: file.read(1 << 20), b""), source="the base")
    return digest
