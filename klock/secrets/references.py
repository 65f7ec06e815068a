"""Credentials by reference: what is written down names the variable that holds a credential, never the credential.

A credential is, in the order they are looked for
1. the user and password of a URL (a user without a password is none for ssh, as in `git+ssh://git@host`);
2. what is written out in a place or a form that says so (`klock.secrets.finding`);
3. the value of a variable of this process that holds a credential (`REGISTRY_PASS`): as the whole value of a variable
   of the image, of any length (a number of 5 digits or more), or in a text
   - as a word of 6 characters or more (8 if it looks harmless: a number, `$NAME`), next to others of the kind, and
     behind an option of one letter (`-pVALUE`);
   - anywhere, if it has 12 characters or more, letters and digits.

If a variable of this process has exactly that value, it is written as `${NAME}`, and NAME is listed beside the text:
only listed names are references, so a `${NAME}` the user wrote stays what it was. A variable counts if its name is a
secret's (or, for the user of a URL, a user's), or else if the value has 4 characters or more and the variable is none
of the host's own, such as HOME. If no variable has it, one that holds the text around it too (a whole URL) is taken,
and all of that is written as its reference; else that is an ImageError. (For an index, a netrc file can supply
user and password as well; the URL has none then.)

In the user and password of a URL a reference stands for the percent-encoded value (RFC 3986). In any other form than
these, such as base64, a value cannot be written by reference, and is refused.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Final
from urllib.parse import unquote

from klock.errors import CredentialError, ImageError, KlockError
from klock.patterns import regex
from klock.secrets.finding import Literal, literals_in
from klock.secrets.held import NAME, held_values, is_told_anywhere, variable_with
from klock.secrets.userinfo import USERINFO, in_userinfo, is_ssh_user
from klock.secrets.values import is_host_name, is_secret, looks_random, may_be_secret
from klock.values import dataclass

__all__ = ["Redacted", "redact", "redact_index", "redact_variable", "refuse_literals", "refuse_variable", "reveal"]

_SHORTEST_NUMBER: Final = 5
_SHORTEST_ENCODED: Final = 8
_WRITTEN_REFERENCE: Final = regex(r"\$\w+|\$\{\w+\}")
_INDEX_VARIABLES: Final = regex(r"(?:UV|PIP)_(?:DEFAULT_|EXTRA_)?(?:INDEX|FIND_LINKS)(?:_URL)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Redacted:
    """A text without credentials: `${NAME}` for a NAME in `names` (sorted) stands for one."""

    text: str
    names: tuple[str, ...] = ()


def redact(text: str, environ: Mapping[str, str], *, what: str, used: Collection[str] = ()) -> Redacted:
    """`text` with every credential by reference. `what` names the text in messages: "the command of run_bash".

    `used` names variables that hold a credential although their name does not say so: one stood elsewhere in the image
    where credentials stand. Raises ImageError for a credential that no variable of `environ` holds.
    """
    places = _Places(text, environ, what, used)
    for match in USERINFO.finditer(text):
        places.add_userinfo(match)
    for literal in literals_in(text):
        places.add_literal(literal)
    places.add_values()
    return places.redacted()


def redact_index(text: str, environ: Mapping[str, str], *, what: str, used: Collection[str] = ()) -> Redacted:
    """`redact` for what names a package index. Raises ImageError for a credential in its URL's path or query as well:
    the lockfile names packages by URL, which can be had without user and password, but not without a part."""
    redacted = redact(text, environ, what=what, used=used)
    users = [match.span("userinfo") for match in USERINFO.finditer(redacted.text)]
    for match in _references(redacted.names).finditer(redacted.text):
        word = redacted.text[: match.end()].split()[-1]
        if "://" in word and not any(start <= match.start() < end for start, end in users):
            raise ImageError(
                f"{what} has the credential {match[1]} in the path or the query of a URL, and the lockfile names files "
                "by their whole URL",
                hint="give it as user or password, https://user:password@host, or by netrc",
            )
    return redacted


def redact_variable(name: str, value: str, environ: Mapping[str, str], *, used: Collection[str] = ()) -> Redacted:
    """`redact` for a variable's value: a literal one under a secret's name is a credential too. Raises ImageError."""
    what = f"the value of {name}"
    held_by = variable_with(value, environ, user=False)
    is_number = value.isdigit() and len(value) >= _SHORTEST_NUMBER
    is_named = is_secret(name, value) and may_be_secret(value)
    is_held = held_by is not None and (held_by in used or is_secret(held_by, value))
    if held_by is not None and (is_named or (is_held and (may_be_secret(value) or is_number))):
        return Redacted(text=f"${{{held_by}}}", names=(held_by,))
    if is_named:
        redacted = redact(value, environ, what=what, used=used)
        if redacted.names or not re.search(r"\w", _WRITTEN_REFERENCE.sub("", value)):
            return redacted
        raise _refusal(what, f"a variable named {name} holds one", name)
    if _INDEX_VARIABLES.fullmatch(name):
        return redact_index(value, environ, what=what, used=used)
    return redact(value, environ, what=what, used=used)


def refuse_literals(text: str, *, what: str) -> None:
    """Raises ImageError, as `redact` does, for a credential that is written out in a text which takes no references."""
    redact(text, {}, what=what)


def refuse_variable(name: str, value: str) -> None:
    """Raises ImageError, as `redact_variable` does, for a credential that is written out in a variable's value."""
    redact_variable(name, value, {})


def reveal(text: str, names: Iterable[str], environ: Mapping[str, str]) -> str:
    """The text `redact` was given, with the values `environ` has now. Raises KlockError for one that is not set."""
    names = sorted(set(names))
    if not names:
        return text
    if missing := [name for name in names if not environ.get(name)]:
        raise KlockError(
            f"{' and '.join(missing)} must be set: the lockfile takes a credential from there",
            hint=f"export {missing[0]}=...",
        )
    userinfos = [match.span("userinfo") for match in USERINFO.finditer(text)]

    def value(match: re.Match[str]) -> str:
        inside = any(start <= match.start() < end for start, end in userinfos)
        return in_userinfo(environ[match[1]]) if inside else environ[match[1]]

    return _references(names).sub(value, text)


def _references(names: Iterable[str]) -> re.Pattern[str]:
    """`${NAME}` for each of `names`; group 1 is the name."""
    return re.compile(rf"\$\{{({'|'.join(map(re.escape, sorted(names)))})\}}" if names else r"(?!)")


class _Places:
    """The parts of a text to replace, found one after the other; of two that overlap the first one found stays."""

    def __init__(self, text: str, environ: Mapping[str, str], what: str, used: Collection[str]) -> None:
        self._text = text
        self._environ = environ
        self._what = what
        self._held = held_values(environ, used)
        self._found: list[tuple[int, int, str]] = []
        self._names: set[str] = set()
        self._add_raw_passwords()

    def add_userinfo(self, match: re.Match[str]) -> None:
        if is_ssh_user(match):
            return
        start, end = match.span("userinfo")
        if self._is_covered(start, end):
            return
        user, colon, password = match["userinfo"].partition(":")
        secret = password if colon else user
        secret_name = self._variable_with(secret, user=False)
        if secret_name is None and (not secret or _WRITTEN_REFERENCE.fullmatch(secret)):
            return  # nothing, or a variable of the container
        if secret_name is None and (self._add_around(*match.span()) or self._add_within(end - len(secret), end)):
            return
        if secret_name is None:
            raise _refusal(self._what, "the user and password of a URL", "REGISTRY_PASS")
        self._add(end - len(secret), end, secret_name)
        user_name = self._variable_with(user, user=True) if colon else None
        if user_name is not None:
            self._add(start, start + len(user), user_name)

    def add_literal(self, literal: Literal) -> None:
        start, end = literal.start, literal.end
        if self._is_covered(start, end):
            return
        name = variable_with(self._text[start:end], self._environ, user=False)
        if name is None and (self._add_around(start, end) or self._add_within(start, end)):
            return
        if name is None:
            self._refuse_other_forms()
            raise _refusal(self._what, literal.where, literal.variable)
        self._add(start, end, name)

    def add_values(self) -> None:
        """The values of this process's secrets: anywhere, or as words, in a row and behind an option's letter."""
        if not self._held:
            return
        words = _any_of(self._held)
        row = rf"(?:(?<![A-Za-z0-9_])|(?<=\s-[A-Za-z]))(?:{words.pattern})+(?![A-Za-z0-9_])"
        for match in re.finditer(row, self._text):
            self._add_values_at(words.finditer(self._text, *match.span()))
        self._add_values_at(_any_of(filter(is_told_anywhere, self._held)).finditer(self._text))
        self._refuse_other_forms()

    def redacted(self) -> Redacted:
        text = self._text
        for name in sorted(self._names):
            if f"${{{name}}}" in text:
                raise ImageError(
                    f"{self._what} has both ${{{name}}} as text and a credential that {name} holds",
                    hint=f"take the credential from a variable of another name, or drop the text ${{{name}}}",
                )
        for start, end, replacement in sorted(self._found, reverse=True):
            text = text[:start] + replacement + text[end:]
        return Redacted(text=text, names=tuple(sorted(self._names)))

    def _add_values_at(self, matches: Iterator[re.Match[str]]) -> None:
        for match in matches:
            if match[0]:
                self._add(*match.span(), self._held[match[0]])

    def _refuse_other_forms(self) -> None:
        """Raises ImageError for a value that stands there as base64, JSON or a URL writes it."""
        from klock.secrets.forms import forms_of

        rest = self._text
        for start, end, _ in self._found:
            rest = rest[:start] + " " * (end - start) + rest[end:]
        content = rest.encode("utf-8", "surrogatepass")
        for value in sorted(self._held):
            if not may_be_secret(value) or len(value) < _SHORTEST_ENCODED:
                continue
            plain = value.encode("utf-8", "surrogatepass")
            if any(form in content for form in forms_of(value, within_base64=True) if form != plain):
                name = self._held[value]
                raise ImageError(
                    f"{self._what} has a credential written into it: the value of {name}, encoded",
                    hint=f'take it as it is, os.environ["{name}"], and encode it in the command: the lockfile can only '
                    f"name it, ${{{name}}}",
                )

    def _add_raw_passwords(self) -> None:
        """Passwords that were put into a URL without percent-encoding, where `/?#@` hide the end of the userinfo."""
        for name, value in sorted(self._environ.items()):
            if is_secret(name, value) and re.search(r"[/?#@\s]", value):
                for match in re.finditer(rf"://(?P<user>[^\s/?#@:]*):(?P<password>{re.escape(value)})@", self._text):
                    self._add(*match.span("password"), name)
                    user_name = self._variable_with(match["user"], user=True)
                    if user_name is not None:
                        self._add(*match.span("user"), user_name)

    def _add_around(self, start: int, end: int) -> bool:
        """Whether a variable holds more than the credential, such as a whole URL: then all of that is by reference."""
        for name, value in sorted(self._environ.items(), key=lambda item: (len(item[1]), item[0])):
            if len(value) < end - start or is_host_name(name) or not NAME.fullmatch(name):
                continue
            place = self._text.find(value, max(0, end - len(value)), start + len(value))
            if place >= 0 and not self._is_covered(place, place + len(value)):
                self._add(place, place + len(value), name)
                return True
        return False

    def _add_within(self, start: int, end: int) -> bool:
        """Whether what stands there is made of values that variables hold, side by side or with a few letters more."""
        matches = [m for m in _any_of(self._held).finditer(self._text) if m[0] and m.start() < end and start < m.end()]
        rest = self._text[start:end]
        for match in matches:
            first, last = max(match.start(), start) - start, min(match.end(), end) - start
            rest = rest[:first] + " " * (last - first) + rest[last:]
        if not matches or any(looks_random(word) for word in rest.split()):
            return False
        self._add_values_at(iter(matches))
        return True

    def _variable_with(self, part: str, *, user: bool) -> str | None:
        """For a part of a userinfo, which should be percent-encoded but may have been put in as it is."""
        decoded = variable_with(unquote(part), self._environ, user=user)
        return decoded or variable_with(part, self._environ, user=user)

    def _add(self, start: int, end: int, name: str) -> None:
        if not self._is_covered(start, end):
            self._found.append((start, end, f"${{{name}}}"))
            self._names.add(name)

    def _is_covered(self, start: int, end: int) -> bool:
        return any(start < other_end and other_start < end for other_start, other_end, _ in self._found)


def _any_of(values: Iterable[str]) -> re.Pattern[str]:
    """Of two that begin alike the longer one."""
    return re.compile("|".join(map(re.escape, sorted(values, key=lambda value: (-len(value), value)))) or r"(?!)")


def _refusal(what: str, where: str, name: str) -> CredentialError:
    """The one sentence about a credential that is written out: in what, where in it, and what to write instead."""
    return CredentialError(
        f"{what} has a credential written into it: {where}",
        variable=name,
        hint=f'take it from a variable of your shell, as in os.environ["{name}"]: the lockfile then only names it, '
        f"${{{name}}}",
    )
