"""A Dockerfile while it is written: its lines, the files it copies, and how its readers differ.

Docker's two builders and podman's agree on all that is used here (Dockerfile reference; no heredoc, no BuildKit mount
where there is no secret). kubetorch reads a part of it, line by line: FROM, RUN, ENV, COPY, CMD and ENTRYPOINT, and a
COPY of one file to one absolute path is the only one that means the same to it.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import field
from enum import Enum
from types import MappingProxyType
from typing import Final

from klock.digests import Digest, digest_of_bytes, hex_of
from klock.errors import KlockError
from klock.image.dockerfile.comments import options_text
from klock.pages.build_context import ContextFile
from klock.values import dataclass

__all__ = ["PLACE", "Form", "Page", "checked", "continued"]

PLACE: Final = "/.klock"
"""Where an image being built has the files that its steps need."""

_VERIFIED: Final = f"{PLACE}/verified"
_REFERENCE: Final = re.compile(r"\$(?:\w+|\{[^}]*\})", re.ASCII)  # as os.path.expandvars has it
_ROOT: Final = ("", "root", "0")


class Form(Enum):
    """Who reads the Dockerfile."""

    DOCKER = "docker"
    KUBETORCH = "kubetorch"

    @property
    def keeps_no_secret(self) -> bool:
        """Whether what a variable holds would be in the image, so that a credential must not be."""
        return self is Form.DOCKER


@dataclass(slots=True, kw_only=True)
class Page:
    """`user` is who the base's commands run as. `where` names the step at hand in errors."""

    form: Form
    user: str = ""
    lines: list[str] = field(default_factory=list)
    files: list[ContextFile] = field(default_factory=list)
    where: str = ""
    _now: str | None = None

    @property
    def text(self) -> str:
        return "".join(f"{line}\n" for line in self.lines)

    def error(self, what: str, hint: str | None = None) -> KlockError:
        return KlockError(f"{self.where}: {what}" if self.where else what, hint=hint)

    def comment(self, text: str) -> None:
        for line in text.splitlines():
            self.lines.append(f"# {line}".rstrip())

    def say_to_klock(self, options: Mapping[str, Sequence[str]]) -> None:
        """What klock reads above the RUN that comes next: see `klock.image.dockerfile.comments`."""
        if self.form is Form.KUBETORCH or not options:
            return
        if broken := next((word for words in options.values() for word in words if "\n" in word), None):
            raise self.error(f"a pattern has a line break: {broken!r}", hint="write ? for it")
        # One line, whatever else Python takes for the end of one.
        self.lines.append(f"# klock: {options_text(options)}")

    def blank(self) -> None:
        self.lines.append("")

    def add(self, instruction: str) -> None:
        """Adds an instruction, its continuation lines marked. Raises KlockError for what no line can hold."""
        for line in instruction.split("\n"):
            if line.splitlines() != [line] or "\0" in line:
                raise self.error(
                    "it has a control character that a Dockerfile cannot hold",
                    hint="put the text into a file, and copy the file with rsync()",
                )
            self.lines.append(line)

    def become(self, user: str) -> None:
        """Lets the following RUN be of `user`."""
        if self._now is None:
            self._now = self.user
        if self._now == user or {self._now, user} <= {*_ROOT}:
            return
        if self.form is Form.KUBETORCH:
            raise self.error(
                f"the base's user is {self.user}, and kubetorch has no way to install anything as root",
                hint="export it for docker, build and push that image, and start from it with from_docker()",
            )
        if "\n" in user:
            raise self.error("the user has a line break", hint="name another user")
        self.add(f"USER {user or 'root'}")
        self._now = user

    def set_user(self, user: str) -> None:
        """Lets the commands that follow be of `user`, and containers."""
        if self._now is None:
            self._now = self.user
        self.user = user

    def work_in(self, path: str) -> None:
        """Lets the commands that follow begin in a folder, which is made, and containers."""
        self.refuse_for_kubetorch("a working directory")
        self.become(self.user)
        self.add(f"WORKDIR {self.quoted(path, 'the working directory')}")

    def argument(self, name: str, value: str) -> None:
        """Sets a variable for the commands that follow, which containers do not have."""
        self.refuse_for_kubetorch("an argument of the build")
        self.add(f"ARG {name}={self.quoted(value, f'the value of {name}')}")

    def refuse_for_kubetorch(self, what: str) -> None:
        if self.form is Form.KUBETORCH:
            raise self.error(
                f"kubetorch does not read {what}",
                hint="export it for docker, build and push that image, and start from it with from_docker()",
            )

    def env(self, name: str, value: str, *, defined: Collection[str] = ()) -> None:
        """Sets a variable to exactly this value. `defined` are names that kubetorch would take for a reference."""
        word = self.quoted(value, f"the value of {name}")
        if self.form is Form.DOCKER:
            self.add(f"ENV {name}={word}")
            return
        if clash := next((m for m in _REFERENCE.findall(value) if m.strip("${}") in defined), None):
            raise self.error(
                f"the value of {name} contains {clash}, which kubetorch would replace with that variable's value",
                hint="export it for docker, build and push that image, and start from it with from_docker()",
            )
        if value != value.strip() or value.endswith("\\"):
            raise self.error(
                f"the value of {name} starts or ends with white space, or ends with a backslash: kubetorch drops that",
                hint="export it for docker, build and push that image, and start from it with from_docker()",
            )
        self.add(f"ENV {name} {value}".rstrip())

    def quoted(self, text: str, what: str) -> str:
        """A word of an instruction that stands for exactly this text. Raises KlockError where none does."""
        if "\n" in text:
            raise self.error(
                f"{what} has a line break, which no Dockerfile can hold",
                hint="write the text into a file with a step of the image",
            )
        escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("$", "\\$")
        return f'"{escaped}"'

    def copy_file(self, file: ContextFile, path: str, *, flags: str = "") -> None:
        """Has the image hold a file of the context at an absolute path. `flags` are COPY's own."""
        self.files.append(file)
        self.add(f"COPY {flags}{_paths(file.path, path)}")

    def copy_folder(self, files: Sequence[ContextFile], folder: str, path: str, *, flags: str = "") -> None:
        """Has the image hold, below the absolute `path`, what `folder` of the context has: `files`."""
        if self.form is Form.KUBETORCH:
            for file in files:
                self.copy_file(file, f"{path}{file.path.removeprefix(folder)}")
            return
        self.files += files
        below = path.rstrip("/") + "/"
        self.add(f"COPY {flags}{_paths(f'{folder}/', below)}")

    def run_script(self, file: ContextFile, *, options: Mapping[str, Sequence[str]] = MappingProxyType({})) -> None:
        """Copies a script of the context and runs it with sh, after a look at its hash; then nothing of it is left.

        `options` are for klock.
        """
        path = f"{PLACE}/{file.path}"
        self.copy_file(file, path)
        self.say_to_klock(options)
        cleanup = f" && rm -r {PLACE}" if self.form is Form.DOCKER else ""
        digest = digest_of_bytes(file.content or b"")
        self.run(f"{checked(path, digest)} && sh {shlex.quote(path)}{cleanup}")

    def run(self, command: str, *, flags: str = "") -> None:
        """Adds shell text to run, which fails the build when it fails; `flags` are RUN's own.

        kubetorch's pods go on after a RUN that failed. What they do not forgive is a COPY whose
        destination is not there: so a failure removes the file that the last line names, and nothing runs after it.
        """
        if self.form is Form.DOCKER:
            self.add(f"RUN {flags}{command}")
        else:
            self.add(f"RUN test -e {_VERIFIED} && ( {command} ) || {{ rm -f {_VERIFIED}; exit 1; }}")

    def begin_verifying(self) -> None:
        """For kubetorch: the file that is there as long as nothing failed."""
        if self.form is Form.KUBETORCH:
            self.copy_file(ContextFile(path="verified", content=b"every step so far did what is locked\n"), _VERIFIED)

    def end_verifying(self) -> None:
        if self.form is Form.KUBETORCH:
            self.comment("fails if a step before has failed")
            self.add(f"COPY verified {_VERIFIED}")


def checked(path: str, digest: Digest) -> str:
    """Shell text that fails unless the file at `path` has this digest."""
    return f"echo {shlex.quote(f'{hex_of(digest)}  {path}')} | sha256sum -c - >/dev/null"


def continued(words: Iterable[str]) -> str:
    """Lines of one instruction: each but the last ends with a backslash."""
    return " \\\n".join(words)


def _paths(source: str, dest: str) -> str:
    dest = dest.replace("\\", "\\\\").replace("$", "\\$")
    if any(character.isspace() or character in '"[' for character in source + dest):
        return json.dumps([source, dest], ensure_ascii=False)
    return f"{source} {dest}"
