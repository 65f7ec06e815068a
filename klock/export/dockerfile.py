"""A locked environment as a Dockerfile, step by step, with the files it copies."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass

from klock.digests import Digest
from klock.errors import KlockError
from klock.export.apt_steps import write_apt_step
from klock.export.base import write_base
from klock.export.context import HEADER, ContextFile
from klock.export.file_steps import write_file_step
from klock.export.kept_layer import write_kept_layer
from klock.export.page import Form, Page
from klock.export.pip_steps import write_pip_step
from klock.export.shell_steps import START, start_script, write_service, write_shell_step
from klock.image.builder import Image
from klock.layers.normalisation import STEP_ENVIRONMENT
from klock.lockfile.model import (
    AptLock,
    EnvLock,
    FilesLock,
    LockedVariable,
    PipLock,
    ServiceLock,
    ShellLock,
    TargetLock,
)
from klock.replay.plan import describe
from klock.steps.context import Context
from klock.steps.variables import secret_values

__all__ = ["LABEL", "Exported", "export_dockerfile"]

LABEL = "org.klock.locked"
"""What the labels begin with. They say what was locked: what a build makes of it is its own affair."""


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
    write_base(page, lock.base, context)
    if form is Form.DOCKER:
        page.blank()
        page.comment("What steps see while they run, and no container does: it makes common tools repeat themselves.")
        for name, value in STEP_ENVIRONMENT.items():
            page.add(f'ARG {name}="{value}"')
    elif image.python_path:
        page.add(f"ENV KT_PYTHON_PATH {image.python_path}")
    page.begin_verifying()
    secret: dict[str, LockedVariable] = {}
    for position, step in enumerate(lock.steps):
        page.where = f"step {position + 1}{context.where(position)}"
        page.blank()
        page.comment(f"{page.where}: {describe(step)}")
        folder = f"step-{position + 1:02d}"
        match step:
            case EnvLock():
                _write_variables(page, lock, step, secret)
            case PipLock():
                write_pip_step(page, lock, position, folder=folder, bundle=bundle, context=context)
            case AptLock():
                write_apt_step(page, step, folder=folder, context=context)
            case FilesLock():
                source = context.sources.get(position)
                if source is None:
                    raise page.error("the image is needed to find its files", hint="export without --frozen")
                write_file_step(page, step, folder=folder, source=source, store=context.store)
            case ShellLock() if step.kept is not None:
                write_kept_layer(page, step, folder=folder, context=context)
            case ShellLock():
                write_shell_step(page, step, variables=secret)
            case ServiceLock():
                _write_service(page, step)
    page.where = ""
    _write_end(page, lock, image, lock_digest)
    _refuse_leaks(page, lock, context)
    return Exported(text=page.text, files=tuple(page.files))


def _write_variables(page: Page, lock: TargetLock, step: EnvLock, secret: dict[str, LockedVariable]) -> None:
    """A variable with a credential is not kept in an image: whoever runs it gives it, and steps get it for themselves.

    kubetorch's pods put in what their own variables hold, so there it stands as a reference.
    """
    for variable in step.variables:
        secret.pop(variable.name, None)
        if variable.secrets and page.form is Form.DOCKER:
            secret[variable.name] = variable
            names = " and ".join(variable.secrets)
            page.comment(f"{variable.name} holds {names}: give it to the container, it is not kept in the image")
        else:
            page.env(variable.name, variable.value, defined=lock.environment.keys() - set(variable.secrets))


def _write_service(page: Page, step: ServiceLock) -> None:
    if page.form is Form.KUBETORCH:
        write_service(page, step)
    else:
        page.comment("a service: started by the container's entrypoint, see below")


def _write_end(page: Page, lock: TargetLock, image: Image, lock_digest: Digest) -> None:
    services = [step for step in lock.steps if isinstance(step, ServiceLock)]
    if page.form is Form.KUBETORCH:
        page.blank()
        page.end_verifying()
        for name, text in (("ENTRYPOINT", image.entrypoint), ("CMD", image.cmd)):
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
    page.add("LABEL " + " \\\n".join(f'      {LABEL}.{name}="{value}"' for name, value in labels.items()).lstrip())
    entrypoint = _exec_form(image.entrypoint)
    if services:
        if image.entrypoint and entrypoint is None:
            entrypoint = ["/bin/sh", "-c", image.entrypoint]
        page.add(f"ENTRYPOINT {json.dumps([START, *(entrypoint or [])], ensure_ascii=False)}")
    elif image.entrypoint:
        page.add(f"ENTRYPOINT {_command(image.entrypoint)}")
    if image.cmd:
        page.add(f"CMD {_command(image.cmd)}")
    elif services:
        # An ENTRYPOINT takes the base's CMD away.
        page.add(f"CMD {json.dumps(['/bin/sh'])}")


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


def _refuse_leaks(page: Page, lock: TargetLock, context: Context) -> None:
    """Raises KlockError when a credential that klock knows is in what was written."""
    texts = [page.text.encode(), *(file.content for file in page.files if file.content is not None)]
    for value in secret_values(lock, context):
        if any(value.encode() in text for text in texts):
            raise KlockError(
                "a credential of this process's environment would be in the Dockerfile; nothing was written",
                hint="take it from a variable in the image, as in os.environ['HF_TOKEN'], and run `klock lock`",
            )
