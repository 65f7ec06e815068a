"""A draft: the part of the lockfile that follows from the image and the local files alone, without network or workshop.

Locking completes drafts with what resolution and replay find out. `klock check` makes them again and compares them with
the lockfile's steps, from which `as_draft` takes away what locking had added. So stale means one thing: drafts differ.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from klock.errors import CredentialError, ImageError, KlockError
from klock.image.builder import Image
from klock.image.steps import Base, LayoutBase, RegistryBase, Step
from klock.lockfile.model import BaseLock, DebianLock, ImageLock, LockedVariable, OciLock, StepLock, Triggers
from klock.secrets.credential_files import Treatment
from klock.secrets.references import redact_index, redact_variable
from klock.secrets.values import is_secret, is_user_name
from klock.steps import kind_of, kind_of_image_step
from klock.steps.drafting import Drafting
from klock.store import Store
from klock.targets import Target
from klock.values import replace

if TYPE_CHECKING:
    from klock.steps.context import Context

__all__ = ["as_draft", "base_agrees", "check_steps", "context_of", "draft_image", "draft_steps", "host_sources"]

_FILE: Final = re.compile(r"(?P<place>(?P<file>[^\s:]+)(?::\d+)?): ")


def draft_image(image: Image, environ: Mapping[str, str]) -> ImageLock:
    """What the image says besides its base and steps. Raises ImageError for a credential written into install_cmd."""
    command = redact_index(image.install_cmd, environ, what="install_cmd").text if image.install_cmd else None
    arguments = []
    for name, value in sorted(image.build_args.items()):
        try:
            redacted = redact_variable(name, value, environ)
        except CredentialError as error:
            way_out = f"set the variable {name} of your shell to it, and give --build-arg {name} without a value"
            raise ImageError(f"build argument {name}: {error.message}", hint=way_out) from error
        arguments.append(LockedVariable(name=name, written=redacted.text, value=redacted.text, secrets=redacted.names))
    return ImageLock(
        name=image.name,
        python_path=image.python_path,
        install_cmd=command,
        context=image.context,
        build_args=tuple(arguments),
        triggers=tuple(Triggers(base=base, instructions=texts) for base, texts in sorted(image._triggers.items())),
    )


def draft_steps(
    steps: tuple[Step, ...],
    *,
    root: Path,
    base: BaseLock,
    target: Target | None = None,
    environ: Mapping[str, str],
    store: Store | None = None,
    credential_files: Treatment = Treatment.WARN,
    notes: list[str] | None = None,
) -> list[StepLock]:
    """The drafts of an image's steps. `root` is the image file's folder, `environ` where secrets are looked up.

    With a store, local files that did not change since the last time are not read again. `credential_files` says what
    becomes of files that are credentials; `notes` gets what the user should know of. Raises ImageError (with the
    step's location) for a source or requirements file that is not there.
    """

    failed: KlockError | None = None

    def draft(used: frozenset[str], *, goes_on: bool) -> list[StepLock]:
        nonlocal failed
        drafting = Drafting(
            root=root,
            base=base,
            target=target or Target.of_this_machine(),
            environ=environ,
            store=store,
            used=used,
            credential_files=credential_files,
        )
        drafts: list[StepLock] = []
        for position, step in enumerate(steps):
            try:
                with _located(position, step, root):
                    drafts.append(kind_of_image_step(step).draft(step, drafting))
            except KlockError as error:
                failed = failed or error
                if not goes_on:
                    raise
        if notes is not None:
            notes[:] = drafting.notes
        return drafts

    drafts = draft(frozenset(), goes_on=True)
    # What one step shows to be a credential, another may have within a word.
    named = {name for step in drafts for name in getattr(step, "secrets", ()) if not is_user_name(name)}
    used = frozenset(name for name in named if not is_secret(name, environ.get(name, "")))
    if used:
        return draft(used, goes_on=False)
    if failed is not None:
        raise failed
    return drafts


def check_steps(
    steps: tuple[Step, ...], *, root: Path, base: BaseLock, target: Target, environ: Mapping[str, str]
) -> None:
    """Raises ImageError for what is wrong with a step and its draft does not look at, such as a requirement."""
    drafting = Drafting(root=root, base=base, target=target, environ=environ)
    for position, step in enumerate(steps):
        with _located(position, step, root):
            kind_of_image_step(step).check(step, drafting)


@contextlib.contextmanager
def _located(position: int, step: Step, root: Path) -> Iterator[None]:
    """Puts the step and its builder call before the message of an error."""
    try:
        yield
    except KlockError as error:
        place = step.location.below(root) if step.location else "the image"
        message = error.message.removeprefix(f"{place}: ")
        hint = error.hint
        if isinstance(error, CredentialError) and step.location and not step.location.file.endswith(".py"):
            hint = _instead_of_credential(error.variable)
        hint = hint or f"fix {_file_in(message, root) or place}"
        raise type(error)(f"step {position + 1} ({place}): {message}", hint=hint) from error


def _file_in(message: str, root: Path) -> str | None:
    """The file, and the line, that a message begins with: what is wrong is there, and not in the step that names it."""
    match = _FILE.match(message)
    # Path.is_file() raises OSError for a name that is too long to be there.
    return match["place"] if match and os.path.isfile(root / match["file"]) else None  # noqa: PTH113


def _instead_of_credential(variable: str) -> str:
    """What a Dockerfile can say instead: it has no os.environ."""
    return (
        f"in a RUN use --mount=type=secret,id={variable.lower().replace('_', '-')}; elsewhere write "
        f"ARG {variable}, and lock with --build-arg {variable}: the lockfile then only names your variable"
    )


def host_sources(steps: tuple[Step, ...]) -> dict[int, Path]:
    """The host file or folder that a step copies, by the step's position."""
    found = ((position, kind_of_image_step(step).source(step)) for position, step in enumerate(steps))
    return {position: source for position, source in found if source is not None}


def context_of(image: Image, context: Context) -> Context:
    """The same context for another image of the same file: where its steps are, and what they copy."""
    from klock.steps.context import StagePlaces

    return replace(
        context,
        locations=_locations(image.steps, context.root),
        sources=host_sources(image.steps),
        stages={
            stage.name: StagePlaces(locations=_locations(stage.steps, context.root), sources=host_sources(stage.steps))
            for stage in image.stages
        },
    )


def _locations(steps: tuple[Step, ...], root: Path) -> tuple[str | None, ...]:
    return tuple(step.location.below(root) if step.location else None for step in steps)


def as_draft(step: StepLock) -> StepLock:
    """The step without what locking added to its draft."""
    draft: StepLock = kind_of(step).as_draft(step)
    return draft


def base_agrees(base: Base, lock: BaseLock) -> bool:
    """Whether `lock` was made for `base`: the same reference, layout or suite as written."""
    if isinstance(base, RegistryBase | LayoutBase):
        tag = f":{base.tag}" if isinstance(base, LayoutBase) and base.tag else ""
        reference = base.reference if isinstance(base, RegistryBase) else f"oci:{base.path}{tag}"
        if not isinstance(lock, OciLock) or lock.reference != reference:
            return False
        return (lock.settings is not None) == base.keeps_settings
    return isinstance(lock, DebianLock) and (lock.suite, lock.packages) == (base.suite, base.packages)
