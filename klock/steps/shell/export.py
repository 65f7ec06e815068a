"""A shell step in a Dockerfile: a command that runs as in klock. What it fetches no Dockerfile can pin."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from klock.lockfile.model import LockedVariable, MountLock, ShellLock
from klock.pages.build_context import ContextFile
from klock.pages.page import Form, Page, continued
from klock.pages.shell_text import command_text, word_of
from klock.steps.exporting import stage_label
from klock.steps.shell.mounts import entries_of
from klock.words import counted

__all__ = ["write_shell_step"]


def write_shell_step(
    page: Page,
    step: ShellLock,
    *,
    variables: Mapping[str, LockedVariable],
    folder: str = "",
    source: Path | None = None,
    stages: Sequence[str] = (),
) -> None:
    """Adds a shell step; `variables` are those with credentials that it sees. `folder` is for its files in the context,
    `source` the build context that it mounts, `stages` the names of the stages whose files it may mount."""
    page.become(page.user)
    if step.requests:
        count = len(step.requests)
        page.comment(f"NOT PINNED HERE: {counted(count, 'answer')} from the network that klock has locked")
    names = sorted({*step.secrets, *(name for variable in variables.values() for name in variable.secrets)})
    if page.form is Form.KUBETORCH:
        if step.shell or step.words:
            page.refuse_for_kubetorch("a command of a Dockerfile")
        page.run(command_text(step.command, step.secrets, build=False))
        return
    page.say_to_klock(_options(step))
    flags = "--network=none " if step.without_network else ""
    flags += "".join(f"--mount=type=secret,id={name},required=true " for name in names)
    flags += "".join(
        _mount(mount, f"{folder}/mount-{number}", step, source, page)
        if mount.stage is None
        else _mount_of_stage(mount, stages.index(mount.stage))
        for number, mount in enumerate(step.mounts)
    )
    exports = [f"export {v.name}={word_of(v.value, v.secrets, build=True)}" for v in variables.values()]
    # podman gives an empty file for a secret that it cannot read.
    tests = [f"test -s /run/secrets/{name}" for name in names]
    if (step.shell or step.words) and not names:
        page.add(f"RUN {flags}{json.dumps(list(_words(step, page)), ensure_ascii=False)}")
        return
    commands = [*(f"{command} &&" for command in (*tests, *exports)), command_text(step.command, step.secrets)]
    page.run(continued(commands), flags=flags)


def _options(step: ShellLock) -> dict[str, Sequence[str]]:
    """What no instruction can say. A step that keeps its layer is not written as a command."""
    found: dict[str, Sequence[str]] = {"leave-out": step.leave_out, "private-urls": step.private_urls}
    return {name: words for name, words in found.items() if words} | ({"force": ()} if step.force else {})


def _words(step: ShellLock, page: Page) -> Iterable[str]:
    if step.words:
        return step.words
    if not step.is_script:
        return (*step.shell, step.command)
    raise page.error(
        f"its command is a script for {step.shell[0]}, which an exported Dockerfile cannot hold",
        hint="put the script into a file, COPY it, and RUN it",
    )


def _mount_of_stage(mount: MountLock, number: int) -> str:
    source = f",source={mount.source}" if mount.source else ""
    rights = ",rw" if mount.writable else ""
    return f"--mount=type=bind,from={stage_label(number)}{source},target={mount.target}{rights} "


def _mount(mount: MountLock, folder: str, step: ShellLock, source: Path | None, page: Page) -> str:
    owner = f",uid={mount.uid},gid={mount.gid}" if (mount.uid, mount.gid) != (0, 0) else ""
    match mount.kind:
        case "cache":
            return f"--mount=type=cache,target={mount.target},mode={mount.mode:04o}{owner} "
        case "secret":
            where = f",env={mount.variable}" if mount.variable else f",target={mount.target},mode={mount.mode:04o}"
            required = ",required=true" if mount.required else ""
            return f"--mount=type=secret,id={mount.secret}{where}{required}{owner} "
        case "bind":
            if source is None:
                raise page.error("the build context is needed to find its files", hint="export without --frozen")
            for entry in entries_of(mount, step):
                page.files.append(
                    ContextFile(
                        path=f"{folder}/{entry.path}",
                        mode=entry.mode,
                        source=source / entry.path if entry.digest else None,
                        digest=entry.digest,
                        target=entry.target,
                    )
                )
            shown = f"{folder}/{mount.source}".removesuffix("/.").rstrip("/")
            return f"--mount=type=bind,source={shown},target={mount.target}{',rw' if mount.writable else ''} "
    return f"--mount=type=tmpfs,target={mount.target} "
