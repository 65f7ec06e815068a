"""`RUN --mount=type=...`: what a command sees while it runs, and no layer has."""

from __future__ import annotations

import csv
import re
from typing import Final

from klock.errors import ImageError
from klock.image.dockerfile.parsing import Instruction
from klock.image.steps import RunMount

__all__ = ["mode_of", "mount_of", "number_of"]

_KEYS: Final = {
    "bind": {"target", "source", "from", "readonly", "readwrite"},
    "cache": {"id", "target", "source", "from", "sharing", "mode", "uid", "gid", "readonly", "readwrite"},
    "tmpfs": {"target", "size", "readonly", "readwrite"},
    "secret": {"id", "target", "required", "mode", "uid", "gid", "env"},
}
_OTHER_NAMES: Final = {"dst": "target", "destination": "target", "src": "source", "ro": "readonly", "rw": "readwrite"}


def mount_of(text: str, instruction: Instruction) -> RunMount:
    """Raises ImageError for what is no mount, and for an ssh mount, whose answers nobody can lock."""
    values = _values(text, instruction)
    kind = values.pop("type", "bind")
    if kind == "ssh":
        raise instruction.error(
            "klock cannot lock what a step fetches over ssh (--mount=type=ssh)",
            hint="fetch over https, with a token from --mount=type=secret",
        )
    if kind not in _KEYS:
        raise instruction.error(f"--mount: there is no type {kind!r}", hint=f"the types are {', '.join(_KEYS)}")
    if unknown := sorted(values.keys() - _KEYS[kind]):
        raise instruction.error(
            f"--mount: a mount of type {kind} has no {unknown[0]!r}", hint=f"it has {', '.join(sorted(_KEYS[kind]))}"
        )
    if kind == "secret":
        return _secret(values, instruction)
    if not values.get("target"):
        raise instruction.error(f"--mount=type={kind} has no target", hint="add target=/path")
    return RunMount(
        kind=kind,
        target=values["target"],
        source=values.get("source", ""),
        stage=values.get("from"),
        writable="readwrite" in values and values["readwrite"].lower() not in ("false", "0"),
        mode=_checked("mode", values, instruction),
        uid=_checked("uid", values, instruction) or "0",
        gid=_checked("gid", values, instruction) or "0",
    )


def _secret(values: dict[str, str], instruction: Instruction) -> RunMount:
    target, name = values.get("target", ""), values.get("id", "")
    name = name or target.rpartition("/")[2]
    if not name:
        raise instruction.error("--mount=type=secret has neither id nor target", hint="add id=NAME")
    variable = values.get("env")
    return RunMount(
        kind="secret",
        target=target or ("" if variable else f"/run/secrets/{name}"),
        secret=name,
        variable=variable,
        required=values.get("required", "false").lower() in ("", "true", "1"),
        mode=_checked("mode", values, instruction),
        uid=_checked("uid", values, instruction) or "0",
        gid=_checked("gid", values, instruction) or "0",
    )


def _values(text: str, instruction: Instruction) -> dict[str, str]:
    found: dict[str, str] = {}
    for field in next(csv.reader([text])):
        name, _, value = field.partition("=")
        name = name.strip().lower()
        found[_OTHER_NAMES.get(name, name)] = value
    if "" in found:
        raise instruction.error(f"--mount={text} is no list of names and values", hint="write type=cache,target=/path")
    return found


def _checked(name: str, values: dict[str, str], instruction: Instruction) -> str | None:
    """The value as written. With a variable it is read later, when the variable is known."""
    text = values.get(name)
    if text is not None and "$" not in text:
        try:
            mode_of(text) if name == "mode" else number_of(name, text)
        except ImageError as error:
            raise instruction.error(error.message, hint=error.hint) from error
    return text


def mode_of(text: str) -> int:
    """Raises ImageError."""
    if not re.fullmatch(r"0?[0-7]{1,4}", text):
        raise ImageError(f"--mount: mode={text} is no octal mode", hint="write for example mode=0755")
    return int(text, 8)


def number_of(name: str, text: str) -> int:
    """Raises ImageError."""
    if not (text.isascii() and text.isdigit()):
        raise ImageError(f"--mount: {name}={text} is no number", hint=f"write for example {name}=1000")
    return int(text)
