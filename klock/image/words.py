"""How an image's steps and containers run: methods of the builder that are named like a Dockerfile's instructions.

klock expands the image's variables in their arguments as in a Dockerfile: `$NAME`, `${NAME:-default}`, `\\$` for a
plain `$`. Quotes, spaces and other backslashes mean nothing special.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, TypeVar

from klock.errors import ImageError
from klock.image import arguments
from klock.image.call_site import call_site
from klock.image.steps import Argument, Configure, DeclareArguments, SetWorkingDir, Step

__all__ = ["ESCAPE", "ContainerWords"]

Words = TypeVar("Words", bound="ContainerWords")

ESCAPE = "\\"
"""What a Dockerfile's escape character is unless it says otherwise."""


_SPECIAL: Final = re.compile(r"""['" \t]|\\(?!\$)""")


class ContainerWords:
    """For `klock.Image`, which has the list of steps."""

    _steps: list[Step]

    def workdir(self: Words, path: str) -> Words:
        """The folder that later steps and containers begin in; a relative one is below the last. It is made."""
        text = _word(arguments.text("workdir", "path", path))
        self._steps.append(SetWorkingDir(path=text, escape=ESCAPE, location=call_site()))
        return self

    def user(self: Words, user: str) -> Words:
        """Whom later steps and containers run as: `name`, `uid`, each with `:group`."""
        text = _word(arguments.text("user", "user", user))
        self._steps.append(Configure(user=text, escape=ESCAPE, location=call_site()))
        return self

    def arg(self: Words, name: str, value: Any) -> Words:
        """A variable that the commands of later steps see, and the environment does not have."""
        ((name, text),) = arguments.variables("arg", {name: value})
        argument = Argument(name=name, default=_word(text))
        self._steps.append(DeclareArguments(arguments=(argument,), escape=ESCAPE, location=call_site()))
        return self

    def shell(self: Words, words: Iterable[str]) -> Words:
        """The program, with its options, that later commands of `run_bash` are given to: `["/bin/sh", "-c"]`."""
        program = _words("shell", words)
        if not program:
            raise ImageError("shell: no words are named", hint='write shell(["/bin/sh", "-c"])')
        self._steps.append(Configure(shell=program, escape=ESCAPE, location=call_site()))
        return self

    def label(self: Words, labels: Mapping[str, str]) -> Words:
        """Labels of the image of podman and docker."""
        pairs = tuple((_word(name), _word(value)) for name, value in arguments.labels("label", labels))
        self._steps.append(Configure(labels=pairs, escape=ESCAPE, location=call_site()))
        return self

    def entrypoint(self: Words, words: Iterable[str]) -> Words:
        """What containers run, and `klock run` without a command; `cmd` are its arguments."""
        self._steps.append(Configure(entrypoint=_words("entrypoint", words), escape=ESCAPE, location=call_site()))
        return self

    def cmd(self: Words, words: Iterable[str]) -> Words:
        """What containers run unless they are given a command, and `klock run` too."""
        self._steps.append(Configure(command=_words("cmd", words), escape=ESCAPE, location=call_site()))
        return self


def _word(text: str) -> str:
    """A text as a word of a Dockerfile in which only variables mean something."""
    return _SPECIAL.sub(r"\\\g<0>", text)


def _words(method: str, words: object) -> tuple[str, ...]:
    if isinstance(words, str):
        raise ImageError(
            f"{method}: words is a string: {words!r} (expected a list)",
            hint=f'write {method}(["program", "argument"]), or {method}(["/bin/sh", "-c", "..."]) for a line of shell',
        )
    if not isinstance(words, Iterable) or isinstance(words, Mapping):
        raise ImageError(f"{method}: words is {words!r} (expected a list of strings)")
    return tuple(_argument(method, number, word) for number, word in enumerate(words, 1))


def _argument(method: str, number: int, word: object) -> str:
    """The program has a name, and its arguments may be blank."""
    is_blank = number > 1 and isinstance(word, str) and not word.strip()
    return str(word) if is_blank else arguments.text(method, f"word {number}", word)
