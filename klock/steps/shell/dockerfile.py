"""A Dockerfile's RUN as the draft of a shell step."""

from __future__ import annotations

import posixpath
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from klock.errors import ImageError
from klock.image.dockerfile.mounts import mode_of, number_of
from klock.image.steps import RunCommand, RunMount
from klock.lockfile.model import FileEntry, MountLock, ShellLock
from klock.secrets.credential_files import CredentialFiles
from klock.secrets.references import redact, refuse_literals
from klock.steps.kind import UNKNOWN_LAYER
from klock.steps.shell.rights import refuse_sudo

if TYPE_CHECKING:
    from klock.steps.drafting import Drafting

__all__ = ["draft_command", "secret_variable"]

_INTERPRETER: Final = re.compile(r"#![ \t]*(?P<program>\S+)(?:[ \t]+(?P<argument>\S.*?))?[ \t]*\r?\n")


def draft_command(step: RunCommand, drafting: Drafting) -> ShellLock:
    """Raises ImageError."""
    refuse_sudo(step.command, user=drafting.user, in_dockerfile=True)
    command = redact(step.command, drafting.environ, what="the command of RUN", used=drafting.used)
    for word in step.words:
        refuse_literals(word, what="the command of RUN")
    for pattern in step.private_urls:
        refuse_literals(pattern, what="private-urls of RUN")
    mounts = [_mount(mount, step, drafting) for mount in step.mounts]
    mounted = {entry.path: entry for _, entries in mounts for entry in entries}
    return ShellLock(
        command=command.text,
        words=step.words,
        shell=() if step.words else _shell_of(step, drafting),
        is_script=step.is_script,
        mounts=tuple(mount for mount, _ in mounts),
        mounted=tuple(mounted[path] for path in sorted(mounted)),
        layer=UNKNOWN_LAYER,
        secrets=command.names,
        force=step.force,
        leave_out=step.leave_out,
        keep_layer=step.keep_layer,
        private_urls=step.private_urls,
        keep=step.keep,
        without_network=step.without_network,
    )


def secret_variable(name: str) -> str:
    """The variable of klock's own process that holds the secret of this id: `hf-token` is in HF_TOKEN."""
    return re.sub(r"[^A-Z0-9]", "_", name.upper())


def _shell_of(step: RunCommand, drafting: Drafting) -> tuple[str, ...]:
    if not step.is_script:
        return drafting.shell
    match = _INTERPRETER.match(step.command)
    if match is None:
        raise ImageError("the first line of the heredoc names no program", hint="write for example #!/bin/sh")
    return (match["program"], *([match["argument"]] if match["argument"] else []))


def _mount(mount: RunMount, step: RunCommand, drafting: Drafting) -> tuple[MountLock, tuple[FileEntry, ...]]:
    """The mount, and the files of the build context that it shows, by their paths in it."""
    expand = drafting.expansion(step.escape).word
    target = expand(mount.target)
    if target or mount.kind != "secret":
        target = "/" + posixpath.normpath(posixpath.join("/", drafting.working_dir, target)).lstrip("/")
    if target == "/":
        raise ImageError(
            f"--mount=type={mount.kind} would hide the whole environment", hint="name another: target=/path"
        )
    source, entries = (expand(mount.source) if mount.stage is not None else ""), tuple[FileEntry, ...]()
    if mount.kind == "bind" and mount.stage is None:
        source, entries = _bound(expand(mount.source), step, drafting)
    locked = MountLock(
        kind=mount.kind,
        target=target,
        source=source,
        stage=mount.stage,
        secret=secret_variable(expand(mount.secret)) if mount.kind == "secret" else "",
        variable=mount.variable,
        required=mount.required,
        writable=mount.writable,
        mode=mode_of(expand(mount.mode)) if mount.mode is not None else (0o400 if mount.kind == "secret" else 0o755),
        uid=number_of("uid", expand(mount.uid) or "0"),
        gid=number_of("gid", expand(mount.gid) or "0"),
    )
    return locked, entries


def _bound(source: str, step: RunCommand, drafting: Drafting) -> tuple[str, tuple[FileEntry, ...]]:
    """The files of the build context that a command sees."""
    from klock.files.build_context import BuildContext

    where = step.location.below(drafting.root) if step.location else "RUN"
    context = BuildContext(
        folder=Path(step.context),
        ignore_file=None if step.ignore_file is None else Path(step.ignore_file),
        where=where,
        store=drafting.store,
        credentials=CredentialFiles(treatment=drafting.credential_files),
    )
    found = context.find(source or ".")
    if len(found) != 1:
        raise ImageError(f"--mount: source={source} names no single file or folder", hint="name one")
    path = found[0].path
    entries = (replace(each, path=posixpath.join(path, each.path).rstrip("/")) for each in found[0].entries)
    return path or ".", tuple(entries)
