"""`RUN --mount=type=...`: what a command sees while it runs, and no layer has."""

from __future__ import annotations

import csv
import re
from typing import Final

from klock.errors import ImageError
from klock.image.dockerfile.parsing import Instruction
from klock.image.steps import RunMount
from klock.words import did_you_mean

__all__ = ["mode_of", "mount_of", "number_of"]

_ALL: Final = {"id", "target", "source", "readonly", "readwrite"}
_KEYS: Final = {
    "bind": {*_ALL, "from"},
    "cache": {*_ALL, "from", "sharing", "mode", "uid", "gid"},
    "tmpfs": {*_ALL, "from", "size"},
    "secret": {*_ALL, "required", "mode", "uid", "gid", "env"},
}
_OTHER_NAMES: Final = {"dst": "target", "destination": "target", "src": "source", "ro": "readonly", "rw": "readwrite"}
_SHARING: Final = ("shared", "private", "locked")
# What Go's strconv.ParseBool takes; a name alone means true.
_TRUE: Final = frozenset({"", "1", "t", "T", "true", "True", "TRUE"})
_FALSE: Final = frozenset({"0", "f", "F", "false", "False", "FALSE"})


def mount_of(text: str, instruction: Instruction) -> RunMount:
    """Raises ImageError for what is not a mount, and for an ssh mount, whose answers nobody can lock."""
    values = _values(text, instruction)
    kind = values.pop("type", "bind").lower()
    if kind == "ssh":
        raise instruction.error(
            "klock cannot lock what a step fetches over ssh (--mount=type=ssh)",
            hint="fetch over https, with a token from --mount=type=secret",
        )
    if kind not in _KEYS:
        hint = did_you_mean(kind, _KEYS) or f"the types are {', '.join(_KEYS)}"
        raise instruction.error(f"--mount: there is no type {kind!r}", hint=hint)
    if unknown := sorted(values.keys() - _KEYS[kind]):
        meant = f"write type={unknown[0]}" if unknown[0] in _KEYS else did_you_mean(unknown[0], _KEYS[kind])
        raise instruction.error(
            f"--mount: a mount of type {kind} has no {unknown[0]!r}",
            hint=meant or f"it has {', '.join(sorted(_KEYS[kind]))}",
        )
    if kind == "secret":
        return _secret(values, instruction)
    if (sharing := values.get("sharing", "shared")).lower() not in _SHARING and "$" not in sharing:
        raise instruction.error(f"--mount: there is no sharing={sharing}", hint=f"it is {', '.join(_SHARING)}")
    return RunMount(
        kind=kind,
        target=values.get("target", ""),
        source=values.get("source", ""),
        stage=values.get("from") if kind != "tmpfs" else None,
        writable=_is_writable(values, instruction),
        mode=_checked("mode", values, instruction),
        uid=_checked("uid", values, instruction) or "0",
        gid=_checked("gid", values, instruction) or "0",
    )


def _secret(values: dict[str, str], instruction: Instruction) -> RunMount:
    if "id" in values and "source" in values:
        raise instruction.error("--mount=type=secret has an id and a source", hint="keep id=NAME")
    target, name = values.get("target", ""), values.get("id", values.get("source", ""))
    name = name or target.rpartition("/")[2]
    if not name:
        raise instruction.error("--mount=type=secret has neither id nor target", hint="add id=NAME")
    variable = values.get("env")
    return RunMount(
        kind="secret",
        target=target or ("" if variable else f"/run/secrets/{name}"),
        secret=name,
        variable=variable,
        required=_is_on("required", values, instruction),
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
        raise instruction.error(
            f"--mount={text} is not a list of name=value pairs", hint="write type=cache,target=/path"
        )
    return found


def _is_writable(values: dict[str, str], instruction: Instruction) -> bool:
    """Of the two names for it the one that is written last decides."""
    writable = False
    for name in values:
        if name in ("readonly", "readwrite"):
            writable = _is_on(name, values, instruction) == (name == "readwrite")
    return writable


def _is_on(name: str, values: dict[str, str], instruction: Instruction) -> bool:
    value = values.get(name, "false")
    if value not in _TRUE | _FALSE:
        raise instruction.error(f"--mount: {name}={value} is neither true nor false", hint=f"write {name}=true")
    return value in _TRUE


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
        raise ImageError(f"--mount: mode={text} is not an octal mode", hint="write for example mode=0755")
    return int(text, 8)


def number_of(name: str, text: str) -> int:
    """Raises ImageError."""
    if not (text.isascii() and text.isdigit()):
        raise ImageError(f"--mount: {name}={text} is not a number", hint=f"write for example {name}=1000")
    return int(text)
