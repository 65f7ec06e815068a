"""USER, SHELL, CMD, ENTRYPOINT, LABEL and their like: how later steps and containers run. They make no layer."""

from __future__ import annotations

import json
import re
import shlex
import signal
from collections.abc import Iterator
from dataclasses import asdict, fields, replace
from typing import TYPE_CHECKING, Any, Final

from klock.errors import ImageError
from klock.findings import Finding
from klock.image.steps import Configure
from klock.lockfile.model import HealthLock, SettingsLock
from klock.secrets.references import refuse_literals
from klock.steps.at import StepAt
from klock.steps.kind import Kind
from klock.steps.parts import Part, Sort
from klock.steps.staleness import changed
from klock.words import some

if TYPE_CHECKING:
    from klock.steps.drafting import Drafting
    from klock.steps.exporting import Exporting
    from klock.steps.locking import Locking

__all__ = ["KIND"]

_NAMES = {
    "command": "cmd",
    "labels": "label",
    "ports": "expose",
    "volumes": "volume",
    "health": "healthcheck",
    "on_build": "onbuild",
}
_PORTS: Final = re.compile(r"(?P<first>[0-9]{1,5})(?:-(?P<last>[0-9]{1,5}))?")
_REAL_TIME: Final = re.compile(r"RTMIN(?:\+(?:[1-9]|1[0-5]))?|RTMAX(?:-(?:[1-9]|1[0-4]))?")
_NUMBER: Final = re.compile(r"[+-]?0*[1-9][0-9]*")


class SettingsKind(Kind[Configure, SettingsLock]):
    method = "settings"

    def describe(self, step: SettingsLock) -> str:
        """`user app`, `label org.name and 2 more`"""
        said = _said(replace(step, command=None) if step.entrypoint and step.command == () else step)
        return "; ".join(f"{_NAMES.get(name, name.replace('_', ' '))} {_shown(value)}".strip() for name, value in said)

    def draft(self, step: Configure, drafting: Drafting) -> SettingsLock:
        expansion = drafting.expansion(step.escape)
        settings = SettingsLock(
            user=None if step.user is None else expansion.word(step.user),
            shell=step.shell,
            entrypoint=_words(step, "entrypoint", drafting.shell),
            command=_words(step, "command", drafting.shell),
            labels=tuple((expansion.word(name), expansion.word(value)) for name, value in step.labels),
            ports=tuple(port for text in step.ports for word in expansion.words(text) for port in _ports(word)),
            volumes=tuple(_volume(expansion.word(text), text) for text in step.volumes),
            health=None if step.health is None else HealthLock(**asdict(step.health)),
            stop_signal=None if step.stop_signal is None else _signal(expansion.word(step.stop_signal)),
            author=step.author,
            on_build=step.on_build,
        )
        for name, value in _said(settings):
            refuse_literals(_text(value), what=f"{_NAMES.get(name, name)} of the image")
        drafting.user = drafting.user if settings.user is None else settings.user
        drafting.shell = settings.shell or drafting.shell
        drafting.named_shell = settings.shell or drafting.named_shell
        return settings

    def as_draft(self, step: SettingsLock) -> SettingsLock:
        return replace(step, home=None)

    def changes(self, before: SettingsLock, after: SettingsLock) -> Iterator[Finding]:
        for field in fields(SettingsLock):
            old, new = getattr(before, field.name), getattr(after, field.name)
            if old != new:
                yield changed(_NAMES.get(field.name, field.name.replace("_", " ")), _shown(old), _shown(new))

    def parts(self, at: StepAt[SettingsLock]) -> Iterator[Part]:
        for name, value in _said(at.step):
            yield Part(
                sort=Sort.SETTING,
                name=_NAMES.get(name, name.replace("_", " ")),
                value=_shown(value),
                identity=repr(value),
            )

    def complete(self, draft: SettingsLock, locking: Locking) -> SettingsLock:
        """With the home of a user, as the environment knows it at this point."""
        from klock.bases.passwd import home_of, is_root

        if draft.user is None:
            return draft
        if is_root(draft.user):
            return replace(draft, home="/root")
        known = locking.previous_steps[locking.position : locking.position + 1]
        before = locking.previous and replace(locking.previous, steps=locking.previous_steps[: locking.position])
        if known and before and before.layers == locking.lock.layers and before.base == locking.lock.base:
            (step,) = known
            if isinstance(step, SettingsLock) and self.as_draft(step) == draft:
                return step
        with locking.workspace() as workspace:
            return replace(draft, home=home_of(draft.user, workspace.read("/etc/passwd") or b""))

    def export(self, at: StepAt[SettingsLock], exporting: Exporting) -> None:
        """The user and the shell hold for the steps that follow; all of it stands at the end."""
        if at.step.user is not None:
            exporting.page.set_user(at.step.user)


def _said(step: SettingsLock) -> list[tuple[str, Any]]:
    """What a step says, by the name of the field, without what locking added."""
    values = ((field.name, getattr(step, field.name)) for field in fields(SettingsLock) if field.name != "home")
    return [(name, v) for name, v in values if v is not None and (v != () or name in ("entrypoint", "command"))]


def _shown(value: object) -> str:
    if isinstance(value, HealthLock):
        value = value.test
    if isinstance(value, tuple) and value and isinstance(value[0], tuple):
        text = some([f"{name}={text}" for name, text in value])
    elif isinstance(value, tuple):
        text = json.dumps(list(value), ensure_ascii=False)
    else:
        text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _text(value: object) -> str:
    """All of a value, as one would type it: an option and its value stand side by side."""
    if isinstance(value, HealthLock):
        value = value.test
    if isinstance(value, tuple):
        return shlex.join("=".join(each) if isinstance(each, tuple) else each for each in value)
    return str(value)


def _words(step: Configure, name: str, shell: tuple[str, ...]) -> tuple[str, ...] | None:
    words: tuple[str, ...] | None = getattr(step, name)
    return (*shell, *words) if words and name in step.in_shell else words


def _volume(path: str, text: str) -> str:
    """The path of a VOLUME. Raises ImageError for an empty one."""
    if not path:
        raise ImageError(f"VOLUME {text} is empty: its variable is not set", hint="give ARG a default, or remove it")
    return path


def _ports(text: str) -> list[str]:
    """`8080` as `8080/tcp`, as configs have it, and each port of `8000-8002/udp`. What stands before a colon is the
    host's, which no image has. Raises ImageError."""
    numbers, _, protocol = text.lower().partition("/")
    match = _PORTS.fullmatch(numbers.rpartition(":")[2])
    first, last = (int(match["first"]), int(match["last"] or match["first"])) if match else (1, 0)
    protocol = protocol or "tcp"
    if not first <= last < 1 << 16 or protocol not in ("tcp", "udp", "sctp"):
        raise ImageError(f"EXPOSE {text} is not a port", hint="write for example 8080, 53/udp or 8000-8010")
    return [f"{number}/{protocol}" for number in range(first, last + 1)]


def _signal(text: str) -> str:
    """Raises ImageError for what is not a signal of Linux."""
    name = text.upper().removeprefix("SIG")
    is_name = f"SIG{name}" in signal.Signals.__members__ or _REAL_TIME.fullmatch(name)
    if not is_name and not _NUMBER.fullmatch(text):
        raise ImageError(f"STOPSIGNAL {text} is not a signal", hint="write a name, such as SIGTERM, or a number")
    return text


KIND = SettingsKind()
