"""A conda step in an exported Dockerfile: its files as they lie in the image, since they are klock's own work."""

from __future__ import annotations

from typing import TYPE_CHECKING

from klock.lockfile.model import CondaLock
from klock.pages.build_context import ContextFile
from klock.steps.at import StepAt

if TYPE_CHECKING:
    from klock.steps.exporting import Exporting

__all__ = ["write_conda_step"]


def write_conda_step(at: StepAt[CondaLock], exporting: Exporting) -> None:
    """Raises KlockError where its layer is not on this machine."""
    page, context = exporting.page, exporting.context
    page.refuse_for_kubetorch("conda packages")
    layer = at.step.layer.digest
    if not context.workshop.has_layer(layer):
        raise page.error("its files are not on this machine", hint="run `klock sync` first")
    with context.store.temporary_file() as path:
        context.workshop.write_layer(layer, path)
        with path.open("rb") as file:
            digest, _ = context.store.add_blob(iter(lambda: file.read(1 << 20), b""), source="the layer")
    name = f"{at.folder}.tar"
    page.become("")
    page.files.append(ContextFile(path=name, source=context.store.blob_path(digest), digest=digest))
    page.add(f"ADD {name} /")
    for variable in at.step.variables:
        page.env(variable.name, variable.value)
