"""A draft: the part of the lockfile that follows from the image and the local files alone, without network or engine.

Locking completes drafts with what resolution and replay find out. `klock check` makes them again and compares them with
the lockfile's steps, from which `as_draft` takes away what locking had added. So stale means one thing: drafts differ.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from klock.errors import KlockError
from klock.files.destination import source_path
from klock.files.local import read_local_files
from klock.image.builder import Image
from klock.image.environment import expand_value
from klock.image.steps import (
    AptInstall,
    Base,
    CopyFiles,
    LayoutBase,
    PipInstall,
    RegistryBase,
    RunBash,
    SetEnvVars,
    Step,
    SyncPackage,
)
from klock.lockfile.model import (
    AptLock,
    BaseLock,
    DebianLock,
    EnvLock,
    FilesLock,
    ImageLock,
    LayerLock,
    LockedFile,
    LockedVariable,
    OciLock,
    PipLock,
    ServiceLock,
    ShellLock,
    StepLock,
)
from klock.secrets.references import redact, redact_index, redact_variable, refuse_literals
from klock.store import Store

if TYPE_CHECKING:
    from klock.image.requirement_files import RequirementInputs

__all__ = [
    "UNKNOWN_LAYER",
    "as_draft",
    "base_agrees",
    "check_requirements",
    "draft_image",
    "draft_steps",
    "host_sources",
]

# `-r`, `-c` and their long and short forms, or a variable: what has to be read to know what the step depends on.
_NAMES_INPUTS: Final = re.compile(r"(^|\s)['\"]?(-[rc]|--req|--con)|\$")
UNKNOWN_LAYER: Final = LayerLock(digest="sha256:" + "0" * 64, files=0, size=0)


def draft_image(image: Image, environ: Mapping[str, str]) -> ImageLock:
    """What the image says besides its base and steps. Raises ImageError for a credential written into install_cmd."""
    command = redact(image.install_cmd, environ, what="install_cmd").text if image.install_cmd else None
    return ImageLock(name=image.name, python_path=image.python_path, install_cmd=command)


def draft_steps(
    steps: tuple[Step, ...],
    *,
    root: Path,
    base: BaseLock,
    environ: Mapping[str, str],
    store: Store | None = None,
) -> list[StepLock]:
    """The drafts of an image's steps. `root` is the image file's folder, `environ` where secrets are looked up.

    With a store, local files that did not change since the last time are not read again. Raises ImageError (with the
    step's location) for a source or requirements file that is not there.
    """
    variables = dict(base.environment)
    secrets: set[str] = set()
    drafts: list[StepLock] = []
    for position, step in enumerate(steps):
        with _located(position, step, root):
            draft = _draft(step, base, variables, secrets, root=root, environ=environ, store=store)
        if isinstance(draft, EnvLock):
            variables.update((v.name, v.value) for v in draft.variables)
        drafts.append(draft)
    return drafts


def check_requirements(steps: tuple[Step, ...], *, root: Path, environ: Mapping[str, str]) -> None:
    """Raises RequirementError for a requirement that cannot be read. A draft reads no more than it has to."""
    from klock.image.requirement_files import read_requirements

    for position, step in enumerate(steps):
        if isinstance(step, PipInstall):
            with _located(position, step, root):
                read_requirements(step, root, environ)


@contextlib.contextmanager
def _located(position: int, step: Step, root: Path) -> Iterator[None]:
    """Puts the step and its builder call before the message of an error."""
    try:
        yield
    except KlockError as error:
        place = step.location.below(root) if step.location else "the image"
        message = error.message.removeprefix(f"{place}: ")
        raise type(error)(f"step {position + 1} ({place}): {message}", hint=error.hint or f"mend {place}") from error


def _draft(
    step: Step,
    base: BaseLock,
    variables: Mapping[str, str],
    secrets: set[str],
    *,
    root: Path,
    environ: Mapping[str, str],
    store: Store | None,
) -> StepLock:
    match step:
        case SetEnvVars():
            return _draft_variables(step, variables, secrets, environ)
        case PipInstall():
            inputs = _read_inputs(step, root, environ)
            redacted = [redact_index(line, environ, what="a requirement") for line in step.requirements]
            return PipLock(
                requirements=tuple(r.text for r in redacted),
                packages=(),
                layer=UNKNOWN_LAYER,
                files=tuple(LockedFile(path=f.path, digest=f.digest) for f in (inputs.files if inputs else ())),
                secrets=tuple(sorted({*(inputs.variables if inputs else ()), *(n for r in redacted for n in r.names)})),
                force=step.force,
            )
        case AptInstall():
            return AptLock(packages=step.packages, debs=(), layer=UNKNOWN_LAYER, force=step.force)
        case RunBash():
            command = redact(step.command, environ, what="the command of run_bash")
            for pattern in step.private_urls:
                refuse_literals(pattern, what="private_urls of run_bash")
            if step.is_service:
                return ServiceLock(command=command.text, secrets=command.names)
            return ShellLock(
                command=command.text,
                layer=UNKNOWN_LAYER,
                secrets=command.names,
                force=step.force,
                leave_out=step.leave_out,
                keep_layer=step.keep_layer,
                private_urls=step.private_urls,
            )
        case CopyFiles() | SyncPackage():
            return _draft_files(step, base, root, store)


def _read_inputs(step: PipInstall, root: Path, environ: Mapping[str, str]) -> RequirementInputs | None:
    """The files and variables that a step's requirements name; None when it names none, and nothing need be parsed."""
    if not any(_NAMES_INPUTS.search(line) for line in step.requirements):
        return None
    from klock.image.requirement_files import read_requirements

    return read_requirements(step, root, environ)


def _draft_variables(
    step: SetEnvVars, variables: Mapping[str, str], secrets: set[str], environ: Mapping[str, str]
) -> EnvLock:
    """Expands in order. `secrets` are the names known so far; a value that takes one over from another variable names
    it too, and a `${NAME}` that stands for a credential is not expanded by a container variable of that name."""
    seen = dict(variables)
    locked = []
    for name, written in step.variables:
        redacted = redact_variable(name, written, environ)
        secrets.update(redacted.names)
        visible = {n: v for n, v in seen.items() if n not in redacted.names}
        seen[name] = expand_value(redacted.text, visible)
        used = tuple(sorted(secret for secret in secrets if f"${{{secret}}}" in seen[name]))
        locked.append(LockedVariable(name=name, written=redacted.text, value=seen[name], secrets=used))
    return EnvLock(variables=tuple(locked))


def _draft_files(step: CopyFiles | SyncPackage, base: BaseLock, root: Path, store: Store | None) -> FilesLock:
    where = step.location.below(root) if step.location else "copy"
    files = read_local_files(step, working_dir=base.working_dir, where=where, store=store)
    draft = FilesLock(
        source=step.package if isinstance(step, SyncPackage) else step.source,
        destination=files.destination,
        entries=files.entries,
        tree=files.tree,
        layer=UNKNOWN_LAYER,
        force=step.force,
    )
    if isinstance(step, SyncPackage):
        return dataclasses.replace(draft, package=step.package, import_paths=files.import_paths)
    return dataclasses.replace(draft, dest=step.dest, contents=step.contents, filter_options=step.filter_options)


def host_sources(steps: tuple[Step, ...]) -> dict[int, Path]:
    """The host file or folder that each file step copies, by the step's position."""
    sources: dict[int, Path] = {}
    for position, step in enumerate(steps):
        if isinstance(step, SyncPackage):
            sources[position] = Path(step.path)
        elif isinstance(step, CopyFiles):
            sources[position] = source_path(step)
    return sources


def as_draft(step: StepLock) -> StepLock:
    """The step without what locking added to its draft."""
    match step:
        case PipLock():
            return dataclasses.replace(step, packages=(), projects=(), layer=UNKNOWN_LAYER)
        case AptLock():
            return dataclasses.replace(step, debs=(), layer=UNKNOWN_LAYER)
        case FilesLock():
            return dataclasses.replace(step, path_file=None, layer=UNKNOWN_LAYER)
        case ShellLock():
            return dataclasses.replace(
                step, kept=None, installed=(), unknown_hosts=(), requests=(), layer=UNKNOWN_LAYER
            )
        case EnvLock() | ServiceLock():
            return step


def base_agrees(base: Base, lock: BaseLock) -> bool:
    """Whether `lock` was made for `base`: the same reference, layout or suite as written."""
    if isinstance(base, RegistryBase):
        return isinstance(lock, OciLock) and lock.reference == base.reference
    if isinstance(base, LayoutBase):
        tag = f":{base.tag}" if base.tag else ""
        return isinstance(lock, OciLock) and lock.reference == f"oci:{base.path}{tag}"
    return isinstance(lock, DebianLock) and (lock.suite, lock.packages) == (base.suite, base.packages)
