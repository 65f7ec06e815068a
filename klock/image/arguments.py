"""The arguments of builder calls, checked at the call, so that a mistake shows in `kimage.py` and not hours later."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from typing import Final

from klock.errors import ImageError
from klock.files.modes import is_mode
from klock.image.steps import Base, LayoutBase, Location, RegistryBase
from klock.patterns import regex

__all__ = [
    "absolute_folder",
    "base",
    "command",
    "debian_packages",
    "destination",
    "flag",
    "labels",
    "mode",
    "optional_text",
    "parts",
    "path_patterns",
    "python_version",
    "requirements",
    "text",
    "texts",
    "url_patterns",
    "variables",
    "wait",
    "wait_of",
    "words",
]

_DEBIAN_NAME: Final = regex(r"[a-z0-9][a-z0-9+.-]+(:[a-z0-9-]+)?")  # Debian policy 5.6.1
_DEBIAN_VERSION: Final = regex(r"[A-Za-z0-9][A-Za-z0-9.+~:-]*")  # Debian policy 5.6.12
_SCALARS: Final = (str, int, float, type(None), os.PathLike)


def text(method: str, name: str, value: object) -> str:
    """A string that is not blank and has no NUL byte (which no path, argument or variable can hold)."""
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if not isinstance(value, str):
        raise ImageError(f"{method}: {name} is {_a(value)} (expected a string): {value!r}")
    if not value.strip():
        raise ImageError(f"{method}: {name} is empty")
    if "\0" in value:
        raise ImageError(f"{method}: {name} contains a NUL byte: {value!r}")
    return value


def optional_text(method: str, name: str, value: object) -> str | None:
    return None if value is None else text(method, name, value)


def texts(method: str, name: str, value: object) -> tuple[str, ...]:
    """One text, or several."""
    return _texts(method, name, value)


def absolute_folder(method: str, name: str, value: object) -> str:
    path = text(method, name, value)
    folder = path.rstrip("/")
    if not folder.startswith("/"):
        raise ImageError(f"{method}: {name} is {path!r} (expected an absolute path)", hint='write "/opt/conda"')
    if not re.fullmatch(r"(/(?!\.{1,2}(/|$))[A-Za-z0-9._+-]+)+", folder):
        raise ImageError(
            f"{method}: {name} is {path!r} (expected names of letters, digits and ._+- between slashes)",
            hint='write "/opt/conda"',
        )
    return folder


def python_version(method: str, name: str, value: object) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"3\.\d+(\.\d+)?", value):
        raise ImageError(
            f"{method}: {name} is {value!r} (expected the numbers of a Python 3, as text)", hint='write "3.12"'
        )
    return value


def flag(method: str, name: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise ImageError(f"{method}: {name} is {_a(value)} (expected True or False): {value!r}")
    return value


def mode(method: str, name: str, value: object) -> str:
    """A mode as chmod takes it."""
    hint = 'write mode="755" or mode="u=rwX,go=rX"'
    if not isinstance(value, str):
        raise ImageError(f"{method}: {name} is {_a(value)} (expected a string): {value!r}", hint=hint)
    if not is_mode(value):
        raise ImageError(f"{method}: {name} is {value!r}, which is not a mode", hint=hint)
    return value


def base(method: str, value: object, where: Location, *, name: str = "image_id", keeps_settings: bool = False) -> Base:
    """The base of a reference, or of an OCI layout written `oci:PATH[:TAG]`."""
    reference = text(method, name, value)
    if re.search(r"\s", reference):
        raise ImageError(
            f"{method}: an image reference has no spaces: {reference!r}", hint="write for example 'python:3.12-slim'"
        )
    if not reference.startswith("oci:"):
        return RegistryBase(reference=reference, keeps_settings=keeps_settings, location=where)
    path, _, tag = reference.removeprefix("oci:").partition(":")
    if not path:
        raise ImageError(f"{method}: {reference!r} names no folder", hint="write oci:PATH or oci:PATH:TAG")
    return LayoutBase(path=path, tag=tag or None, keeps_settings=keeps_settings, location=where)


def requirements(method: str, value: object) -> tuple[str, ...]:
    """One requirement or several, without the outer quotes that users of a shell put around `'numpy>=1.20'`."""
    entries = [value] if isinstance(value, str) else _listed(method, "reqs", value)
    return tuple(_unquoted(text(method, f"requirement {number}", entry)) for number, entry in enumerate(entries, 1))


def parts(
    method: str,
    path: object,
    *,
    extras: object,
    groups: object,
    no_dev: object = False,
    package: object = None,
) -> str:
    """A file of a project and what of it is meant, as an entry of `pip_install`."""
    words = ["-r", text(method, "path", path)]
    for option, name, value in (("--extra", "extras", extras), ("--group", "groups", groups)):
        words += [word for entry in _texts(method, name, value) for word in (option, entry)]
    words += ["--no-dev"] if flag(method, "no_dev", no_dev) else []
    words += [] if package is None else ["--package", text(method, "package", package)]
    import shlex

    return shlex.join(words)


def debian_packages(method: str, value: object, *, versions: bool = True) -> tuple[str, ...]:
    """Debian package names, each with `=version` where `versions` allows it."""
    packages = []
    for entry in [value] if isinstance(value, str) else _listed(method, "packages", value):
        name, equals, version = text(method, "a package", entry).partition("=")
        valid_version = _DEBIAN_VERSION.fullmatch(version) if equals else True
        if not _DEBIAN_NAME.fullmatch(name) or not valid_version or (equals and not versions):
            raise ImageError(
                f"{method}: {entry!r} is not the name of a Debian package",
                hint=f"write a list of names, {'each name or name=version' if versions else 'without versions'}",
            )
        packages.append(str(entry))
    return tuple(packages)


def labels(method: str, value: object) -> tuple[tuple[str, str], ...]:
    """Names and values in order; names may be any text."""
    if not isinstance(value, Mapping):
        raise ImageError(f"{method}: labels is {_a(value)} (expected a dict of names and values): {value!r}")
    return tuple((text(method, "a name", name), _variable_value(method, name, v)) for name, v in value.items())


def variables(method: str, value: object, *, name: str = "env_vars") -> tuple[tuple[str, str], ...]:
    """Environment variables in order, their values as `str` writes them (1 is `1`, None is `None`)."""
    if not isinstance(value, Mapping):
        raise ImageError(f"{method}: {name} is {_a(value)} (expected a dict of names and values): {value!r}")
    return tuple((_variable_name(method, name), _variable_value(method, name, v)) for name, v in value.items())


def command(method: str, value: object) -> str:
    return text(method, "command", value)


def wait(method: str, value: object) -> str | None:
    """A port, or a command: when a service is ready."""
    return None if value is None else wait_of(value, what=f"{method}: wait_for")


def wait_of(value: object, *, what: str) -> str:
    """The port, or the command, that `value` is. `what` names it in messages. Raises ImageError."""
    written = str(value).strip()
    if isinstance(value, bool) or not isinstance(value, int | str) or not written or "\0" in written:
        raise ImageError(
            f"{what} is {value!r}",
            hint="write a port such as 8888, or a command that succeeds once the service is ready",
        )
    if isinstance(value, int) or written.isdecimal():
        if not written.isdecimal() or not 0 < int(written) < 1 << 16:
            raise ImageError(f"{what} is {written}, which is not a port", hint="ports are 1 to 65535")
        return str(int(written))
    return written


def words(method: str, name: str, value: object) -> tuple[str, ...]:
    """The words of a command. One string is refused: it may be a program, or a line for a shell."""
    if isinstance(value, str):
        raise ImageError(
            f"{method}: {name} is a string (expected a list of words): {value!r}",
            hint=f"write {value.split()!r}, or {['sh', '-c', value]!r} if a shell should read it",
        )
    listed = _listed(method, name, value)
    found = [os.fspath(word) if isinstance(word, os.PathLike) else word for word in listed]
    for number, word in enumerate(found, 1):
        if not isinstance(word, str):
            raise ImageError(f"{method}: word {number} of {name} is {_a(word)} (expected a string): {word!r}")
        if "\0" in word:
            raise ImageError(f"{method}: word {number} of {name} contains a NUL byte: {word!r}")
    return tuple(str(word) for word in found)


def path_patterns(method: str, name: str, value: object) -> tuple[str, ...]:
    """Patterns of absolute paths in the environment, in which `*` and `?` stop at a slash and `**` crosses it."""
    patterns = _texts(method, name, value)
    for pattern in patterns:
        if not pattern.startswith("/") or set(pattern) <= set("/*?"):
            raise ImageError(
                f"{method}: {name} has {pattern!r}, which is not the pattern of an absolute path",
                hint="write for example '/etc/ssh/ssh_host_*' or '/var/log/**'",
            )
    return patterns


def url_patterns(method: str, name: str, value: object) -> tuple[str, ...]:
    """Patterns of URLs, in which `*` stands for anything."""
    patterns = _texts(method, name, value)
    for pattern in patterns:
        if not re.match(r"(https?|\*)://[^\s/?#@]+", pattern):
            raise ImageError(
                f"{method}: {name} has {pattern!r}, which is not the pattern of a URL without credentials",
                hint="write for example 'https://auth.example.com/token*'",
            )
    return patterns


def _texts(method: str, name: str, value: object) -> tuple[str, ...]:
    entries = [value] if isinstance(value, str) else _listed(method, name, value)
    return tuple(text(method, f"{name}, entry {number},", entry) for number, entry in enumerate(entries, 1))


def destination(method: str, value: object) -> str | None:
    """A path in the environment: absolute, or relative to its working directory (`~/x` is `x`)."""
    dest = optional_text(method, "dest", value)
    if dest is None:
        return None
    if dest == "~" or dest.startswith("~/"):
        dest = dest[2:].lstrip("/") or "."
    if dest.startswith("/"):
        depth = 0
        for part in dest.split("/"):
            depth += {"": 0, ".": 0, "..": -1}.get(part, 1)
            if depth < 0:
                raise ImageError(
                    f"{method}: dest leaves the root of the environment: {dest!r}", hint="write the path without '..'"
                )
    return dest


def _variable_name(method: str, name: object) -> str:
    if not isinstance(name, str):
        raise ImageError(f"{method}: the name of a variable is {_a(name)} (expected a string): {name!r}")
    if not name:
        raise ImageError(f"{method}: the name of a variable is empty")
    if "=" in name or "\0" in name or re.search(r"\s", name):
        raise ImageError(f"{method}: the name of a variable has no '=', NUL byte or white space: {name!r}")
    return name


def _variable_value(method: str, name: str, value: object) -> str:
    if isinstance(value, bytes) or not isinstance(value, _SCALARS):
        raise ImageError(f"{method}: the value of {name} is {_a(value)} (expected a string or a number): {value!r}")
    written = str(value)
    if "\0" in written:
        raise ImageError(f"{method}: the value of {name} contains a NUL byte")
    return written


def _listed(method: str, name: str, value: object) -> list[object]:
    if not isinstance(value, Iterable) or isinstance(value, Mapping | bytes):
        raise ImageError(f"{method}: {name} is {_a(value)} (expected a string or a list of strings): {value!r}")
    return list(value)


def _unquoted(entry: str) -> str:
    entry = entry.strip()
    if len(entry) > 2 and entry[0] in "'\"" and entry[0] == entry[-1] and entry[0] not in entry[1:-1]:
        return entry[1:-1].strip()
    return entry


def _a(value: object) -> str:
    name = type(value).__name__
    return "None" if value is None else f"{'an' if name[0] in 'aeiou' else 'a'} {name}"
