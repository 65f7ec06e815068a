"""A locked environment as a Dockerfile, step by step, with the files it copies."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable

from klock.digests import Digest
from klock.errors import KlockError
from klock.export.base import can_be_named, write_base
from klock.export.kept_layer import write_kept_layer
from klock.export.settings import settings_to_write, write_settings
from klock.image.builder import Image
from klock.layers.normalisation import STEP_ENVIRONMENT
from klock.lockfile.model import SettingsLock, TargetLock, kept_layer_of
from klock.pages.build_context import HEADER, ContextFile
from klock.pages.page import Form, Page
from klock.places.containers.image import LOCKED
from klock.secrets.forms import forms_of
from klock.secrets.references import refuse_literals
from klock.secrets.values import SHORTEST_SEARCHED
from klock.steps import kind_of
from klock.steps.context import Context
from klock.steps.exporting import Exporting, stage_label
from klock.steps.service.export import START, start_script
from klock.values import dataclass

__all__ = ["Exported", "export_dockerfile"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """The text of a Dockerfile, and the files of its build context."""

    text: str
    files: tuple[ContextFile, ...]


def export_dockerfile(
    lock: TargetLock, *, image: Image, lock_digest: Digest, form: Form, context: Context, bundle: bool = False
) -> Exported:
    """The Dockerfile of one target. `lock_digest` is the lockfile's; of `image` CMD and ENTRYPOINT are taken.

    `bundle`: all wheels are shipped in the context, and pip needs no network.
    Raises KlockError for what cannot be said in a Dockerfile, FetchError for a file that cannot be had.
    """
    page = Page(form=form, user=lock.base.user)
    page.comment(f"{HEADER.removeprefix('# ')} from {lock.target}, {lock.fingerprint}")
    page.comment(f"lockfile {lock_digest}")
    page.blank()
    for number, (name, stage) in enumerate(lock.locks_of_stages.items()):
        _write_stage(page, stage, name=name, label=stage_label(number), context=context.of_stage(name), bundle=bundle)
    write_base(page, lock.base, context)
    if form is Form.DOCKER:
        _write_environment(page)
    elif image.python_path:
        page.add(f"ENV KT_PYTHON_PATH {image.python_path}")
    page.begin_verifying()
    begin = len(page.text)
    exporting = Exporting(page=page, context=context, bundle=bundle)
    _write_steps(exporting, lock)
    _write_end(exporting, lock, image, lock_digest)
    # What a base image says of itself is no matter of this image.
    _refuse_leaks(page.text[begin:], page, image, context.secret_values(lock))
    return Exported(text=page.text, files=tuple(page.files))


def _write_environment(page: Page) -> None:
    page.blank()
    page.comment("What steps see while they run, and no container does: it makes common tools repeat themselves.")
    for name, value in STEP_ENVIRONMENT.items():
        page.add(f'ARG {name}="{value}"')


def _write_steps(exporting: Exporting, lock: TargetLock) -> None:
    page, context = exporting.page, exporting.context
    for at in context.each(lock):
        page.where = at.name
        page.blank()
        page.comment(at.title)
        if (kept := kept_layer_of(at.step)) is not None:
            write_kept_layer(page, kept, folder=at.folder, context=context)
        else:
            kind_of(at.step).export(at, exporting)
    page.where = ""


def _write_stage(page: Page, lock: TargetLock, *, name: str, label: str, context: Context, bundle: bool) -> None:
    """A stage that steps take files from, with a page of its own: its user is its own."""
    page.refuse_for_kubetorch("a stage")
    own = Page(form=page.form, user=lock.base.user, files=page.files)
    own.comment(f"the stage {name}")
    write_base(own, lock.base, context, stage=label)
    if lock.steps:
        _write_environment(own)
    _write_steps(Exporting(page=own, context=context, bundle=bundle), lock)
    page.lines += [*own.lines, ""]


def _write_end(exporting: Exporting, lock: TargetLock, image: Image, lock_digest: Digest) -> None:
    page, services = exporting.page, exporting.services
    if page.form is Form.KUBETORCH:
        page.blank()
        page.end_verifying()
        for name, text in zip(("ENTRYPOINT", "CMD"), _start_texts(settings_to_write(lock), image), strict=True):
            if text:
                page.add(f"{name} {text}")
        return
    page.blank()
    if services:
        content = start_script(services)
        page.become("")
        page.copy_file(ContextFile(path="start", content=content, mode=0o755), START)
        page.run(f"chmod 0755 {START}")
    page.become(page.user)
    labels = {"lockfile": lock_digest, "fingerprint": lock.fingerprint, "target": str(lock.target)}
    page.add("LABEL " + " \\\n".join(f'      {LOCKED}.{name}="{value}"' for name, value in labels.items()).lstrip())
    settings = settings_to_write(lock)
    write_settings(page, settings)
    entrypoint_text, command_text = _start_texts(settings, image)
    entrypoint = _exec_form(entrypoint_text)
    if services:
        if entrypoint_text and entrypoint is None:
            entrypoint = ["/bin/sh", "-c", entrypoint_text]
        page.add(f"ENTRYPOINT {json.dumps([START, *(entrypoint or [])], ensure_ascii=False)}")
    elif entrypoint_text:
        page.add(f"ENTRYPOINT {_command(entrypoint_text)}")
    elif settings.entrypoint is not None:
        page.add("ENTRYPOINT []")
    if command_text:
        page.add(f"CMD {_command(command_text)}")
    elif not entrypoint_text and (services or settings.entrypoint is not None or not can_be_named(lock.base)):
        # An ENTRYPOINT takes the base's CMD away, and a base that FROM does not name has none.
        page.add(f"CMD {json.dumps(['/bin/sh'])}")
    elif settings.command is not None:
        page.add("CMD []")


def _start_texts(settings: SettingsLock, image: Image) -> tuple[str | None, str | None]:
    """ENTRYPOINT and CMD as shell text: as locked, or else as kubetorch's image had them."""
    if settings.entrypoint is None and settings.command is None:
        return image.start_texts
    return shlex.join(settings.entrypoint or ()) or None, shlex.join(settings.command or ()) or None


def _command(text: str) -> str:
    words = _exec_form(text)
    return text if words is None else json.dumps(words, ensure_ascii=False)


def _exec_form(text: str | None) -> list[str] | None:
    """The words of a command that needs no shell to be understood; None for shell text."""
    try:
        words = shlex.split(text or "")
    except ValueError:
        return None
    return words if words and shlex.join(words) == text else None


def _refuse_leaks(written: str, page: Page, image: Image, secrets: Iterable[str]) -> None:
    """Raises KlockError when a credential is in what was written: a literal one, or one that klock knows."""
    # As a list of words an option and its value stand apart.
    for what, text in zip(("entrypoint", "cmd"), image.start_texts, strict=True):
        refuse_literals(text or "", what=f"{what} of the image")
    files = {file.path: file.content for file in page.files if file.content is not None}
    refuse_literals(written, what="the Dockerfile")
    for path, content in files.items():
        refuse_literals(content.decode("utf-8", "replace"), what=path)
    for value in secrets:
        forms = set(forms_of(value, within_base64=len(value) >= SHORTEST_SEARCHED))
        if any(form in text for form in forms for text in (written.encode(), *files.values())):
            raise KlockError(
                "a credential of this process's environment would be in the Dockerfile; nothing was written",
                hint="take it from a variable in the image, as in os.environ['HF_TOKEN'], and run `klock lock`",
            )
