"""What is known to make something else each time: told before a step is made, not after it was made twice.

One table for all steps. A command is read as text, so only what is certain counts: a package whose installation makes
keys, and a program that is asked for a new key at a path. What else differs is found by making the step twice.
"""

from __future__ import annotations

import itertools
import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Final

from klock.layers.normalisation import is_left_out, matcher
from klock.steps.shell_text import SEPARATORS, text_that_runs
from klock.values import dataclass

__all__ = ["BROUGHT_BY", "DEBIAN_PACKAGES", "Unrepeatable", "in_command", "in_packages", "not_covered"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Unrepeatable:
    """`cause` makes `what` at `paths` (patterns) each time. Where one of these paths is there, or the Debian package
    `package` is installed, it makes nothing, unless it `overwrites` what is there. `instead` says how to do without;
    by default a container can make it when it starts."""

    cause: str
    what: str
    paths: tuple[str, ...]
    package: str | None = None
    overwrites: bool = False
    instead: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    what: str
    paths: tuple[str, ...]
    samples: tuple[str, ...] = ()


_HOST_KEYS: Final = _Row(
    what="host keys",
    paths=("/etc/ssh/ssh_host_*",),
    samples=("/etc/ssh/ssh_host_rsa_key", "/etc/ssh/ssh_host_ed25519_key.pub"),
)
_SNAKEOIL: Final = _Row(
    what="a certificate and its key",
    paths=("/etc/ssl/certs/ssl-cert-snakeoil.pem", "/etc/ssl/private/ssl-cert-snakeoil.key"),
)
_MUNGE: Final = _Row(what="a key", paths=("/etc/munge/munge.key",))
_PASSWORDS: Final = "/etc/shadow"
_RANDOM: Final = frozenset(("mcookie", "pwgen", "uuidgen"))
"""Programs that print something random."""

DEBIAN_PACKAGES: Final = {
    "bind9": _Row(what="a key", paths=("/etc/bind/rndc.key",)),
    "dropbear": _Row(
        what="host keys", paths=("/etc/dropbear/dropbear_*",), samples=("/etc/dropbear/dropbear_rsa_host_key",)
    ),
    "munge": _MUNGE,
    "openssh-server": _HOST_KEYS,
    "rabbitmq-server": _Row(what="a cookie", paths=("/var/lib/rabbitmq/.erlang.cookie",)),
    "ssl-cert": _SNAKEOIL,
    "xrdp": _Row(what="keys", paths=("/etc/xrdp/rsakeys.ini",)),
}
"""By the name of the package: what its installation makes anew. docs/shell-steps.md shows this table."""

BROUGHT_BY: Final = {
    "openssh-server": ("gitolite3", "ssh", "task-ssh-server", "x2goserver"),
    "munge": ("slurm-client", "slurm-wlm", "slurmctld", "slurmd", "slurmdbd"),
    "ssl-cert": (
        *("cups-daemon", "dovecot-core", "freeradius-config", "ocserv", "postfix", "postgresql", "postgresql-common"),
        *("postgresql-contrib", "prosody", "xrdp"),
    ),
}
"""Packages that depend on one of the table, for lists that apt has not resolved yet."""

_POSTGRESQL: Final = re.compile(r"postgresql-\d.*")
"""The server of one version, and what extends it."""
_SET: Final = re.compile(r"\b([A-Za-z_]\w*)\+?=|\b(?:for|read)\s+(\w+)")
"""A name that a command gives a value of its own."""
_VARIABLE: Final = re.compile(r"\$(?:\{(\w+)\}|(\w+))")
_FIXED: Final = re.compile(r"/[\w./@%+-]+")
_ASSIGNMENT: Final = re.compile(r"[A-Za-z_]\w*=\S*")
_BEFORE: Final = frozenset(("then", "do", "else", "if", "while", "until", "!", "{", "sudo", "exec", "env", "time"))
_APT: Final = frozenset(("apt", "apt-get", "aptitude"))


def in_packages(names: Iterable[str]) -> Iterator[Unrepeatable]:
    """What the installation of these Debian packages makes anew. Names may have a version: `munge=0.5.15-2`."""
    wanted = {_POSTGRESQL.sub("postgresql", re.split(r"[=:/+]", name, maxsplit=1)[0]) for name in names}
    for package, row in DEBIAN_PACKAGES.items():
        if package in wanted or wanted & set(BROUGHT_BY.get(package, ())):
            yield Unrepeatable(cause=package, what=row.what, paths=row.paths, package=package)


def in_command(text: str, variables: Mapping[str, str]) -> Iterator[Unrepeatable]:
    """What a shell command that sees `variables` makes anew and does not remove again."""
    own = {name for names in _SET.findall(text) for name in names}
    known = {name: value for name, value in variables.items() if name not in own}
    commands = list(_simple_commands(_VARIABLE.sub(lambda match: known.get(match[1] or match[2], match[0]), text)))
    removed = [word for words in commands if words[0] in ("rm", "shred", "unlink") for word in words[1:]]
    for words in commands:
        for found in _in_words(words):
            kept = tuple(path for path in found.paths if not _is_removed(path, removed))
            if kept:
                yield found


def not_covered(found: Iterable[Unrepeatable], leave_out: Sequence[str]) -> list[Unrepeatable]:
    """Those of which a path is neither left out of the step's layer nor of all layers."""
    is_covered = matcher(leave_out)
    return [
        each
        for each in found
        if not all(is_covered(sample[1:]) or is_left_out(sample[1:]) for p in each.paths for sample in _samples(p))
    ]


def _samples(pattern: str) -> Sequence[str]:
    """Paths that a pattern of the table stands for."""
    found = (row.samples for row in DEBIAN_PACKAGES.values() if pattern in row.paths and row.samples)
    return next(found, (pattern,))


def _is_removed(pattern: str, removed: Sequence[str]) -> bool:
    samples = _samples(pattern)
    return any(all(fnmatchcase(s, word) or s.startswith(word.rstrip("/") + "/") for s in samples) for word in removed)


def _simple_commands(text: str) -> Iterator[list[str]]:
    """The words of each command in a shell's text, without variables and words of the shell before its program."""
    for command in SEPARATORS.split(text_that_runs(text)):
        words = [word.strip("'\"") for word in command.split()]
        while words and (words[0] in _BEFORE or _ASSIGNMENT.fullmatch(words[0])):
            del words[0]
        if words:
            words[0] = posixpath.basename(words[0])
            yield words


def _in_words(words: Sequence[str]) -> Iterator[Unrepeatable]:
    program, *rest = words
    if program in _APT and "install" in rest:
        yield from in_packages(word for word in rest if not word.startswith("-"))
    elif program == "dpkg-reconfigure":
        yield from (replace(each, package=None) for each in in_packages(rest))
    elif program == "make-ssl-cert" and "generate-default-snakeoil" in rest:
        yield Unrepeatable(cause=program, what=_SNAKEOIL.what, paths=_SNAKEOIL.paths)
    elif program in ("create-munge-key", "mungekey"):
        yield Unrepeatable(cause=program, what=_MUNGE.what, paths=_MUNGE.paths)
    elif program == "ssh-keygen" and "-A" in rest:
        yield Unrepeatable(cause="ssh-keygen -A", what=_HOST_KEYS.what, paths=_HOST_KEYS.paths)
    elif program == "ssh-keygen" and not {"-y", "-l", "-R", "-F", "-e", "-i", "-p", "-s", "-H"} & set(rest):
        if (path := _absolute(rest, "-f")) is not None:
            yield Unrepeatable(cause="ssh-keygen", what="a key", paths=(path, f"{path}.pub"))
    elif program == "openssl" and rest and rest[0] in ("genrsa", "genpkey", "gendsa", "dhparam"):
        if (path := _absolute(rest, "-out")) is not None:
            yield Unrepeatable(cause=f"openssl {rest[0]}", what="a key", paths=(path,))
    elif program == "openssl" and rest and rest[0] == "req" and {"-newkey", "-new", "-x509"} & set(rest):
        paths = [path for option in ("-keyout", "-out") if (path := _absolute(rest, option)) is not None]
        if "-newkey" in rest and paths:
            yield Unrepeatable(cause="openssl req", what="a key and a certificate", paths=tuple(paths))

    elif program == "chpasswd" and not {"-e", "--encrypted"} & set(rest):
        yield _salted("chpasswd", _PASSWORDS, instead="give chpasswd -e a hash, which openssl passwd -6 prints once")
    elif program == "htpasswd" and not any(re.fullmatch(r"-\w*n\w*", word) for word in rest):
        if (path := next((word for word in rest if _FIXED.fullmatch(word)), None)) is not None:
            yield _salted(
                "htpasswd", path, instead="write the line that htpasswd -n prints once into a file, and copy it"
            )
    elif program in _RANDOM or (program == "openssl" and rest[:1] == ["rand"]):
        path = _absolute(rest, ">") or _absolute(rest, ">>") or _absolute(rest, "-out")
        if path is not None and not {"-H", "--md5", "-m", "--sha1", "-s"} & set(rest):
            yield Unrepeatable(cause=program, what="random text", paths=(path,), overwrites=True)


def _salted(cause: str, path: str, *, instead: str) -> Unrepeatable:
    return Unrepeatable(cause=cause, what="a salt", paths=(path,), overwrites=True, instead=instead)


def _absolute(words: Sequence[str], option: str) -> str | None:
    """The path behind an option, if it is one that does not depend on anything."""
    for word, following in itertools.pairwise(words):
        path = f"/root/{following[2:]}" if following.startswith("~/") else following
        if word == option and _FIXED.fullmatch(path):
            return path
    return None
