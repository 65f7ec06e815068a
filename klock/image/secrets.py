"""Credentials by reference: what is written down names the variable that holds a credential, never the credential.

A credential is, in the order they are looked for
1. the user and password of a URL (a user without a password is none for ssh, as in `git+ssh://git@host`);
2. a query parameter such as `token=` or `X-Amz-Signature=`, the value of an `Authorization:` header, a token of a
   well-known shape (`ghp_...`, `hf_...`, a PEM key), or what is assigned to a variable with a secret's name;
3. the value of a variable of this process whose name is a secret's (`REGISTRY_PASS`), wherever it stands as a word of
   6 characters or more (8 if it looks harmless: a number, `$NAME`), or as the whole value of a variable of the image,
   then of any length (a number of 5 digits or more).

If a variable of this process has exactly that value, it is written as `${NAME}`, and NAME is listed beside the text:
only listed names are references, so a `${NAME}` the user wrote stays what it was. A variable counts if its name is a
secret's (or, for the user of a URL, a user's), or else if the value has 4 characters or more and the variable is none
of the host's own, such as HOME. If no variable has it, one that holds the text around it too (a whole URL) is taken,
and all of that is written as its reference; else that is an ImageError. (For an index, a netrc file can supply
user and password as well; the URL has none then.)

In the user and password of a URL a reference stands for the percent-encoded value (RFC 3986).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import quote, unquote

from klock.errors import ImageError, KlockError
from klock.image.secret_names import (
    ASSIGNMENT,
    AUTHORIZATION,
    QUERY,
    TOKEN,
    USERINFO,
    is_host_name,
    is_secret,
    is_secret_name,
    is_user_name,
    may_be_secret,
)

__all__ = ["PrivateUrl", "Redacted", "mask", "redact", "redact_variable", "reveal"]

_SHORTEST_ANYWHERE: Final = 6
_SHORTEST_HARMLESS: Final = 8
_SHORTEST_UNNAMED: Final = 4
_SHORTEST_NUMBER: Final = 5
_KEPT_IN_USERINFO: Final = "!$&'()*+,;="  # RFC 3986: unreserved characters and sub-delims need no encoding
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_WRITTEN_REFERENCE: Final = re.compile(r"\$\w+|\$\{\w+\}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Redacted:
    """A text without credentials: `${NAME}` for a NAME in `names` (sorted) stands for one."""

    text: str
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PrivateUrl:
    """A URL, and apart from it, never shown, the user and password to fetch it with."""

    url: str
    username: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)

    def __str__(self) -> str:
        return self.url

    @classmethod
    def parse(cls, text: str) -> PrivateUrl:
        match = USERINFO.match(text)
        if match is None or _is_ssh_user(match):
            return cls(url=text)
        user, colon, password = match["userinfo"].partition(":")
        url = f"{match['scheme']}://{text[match.end() :]}"
        return cls(url=url, username=unquote(user), password=unquote(password) if colon else None)

    @property
    def with_credentials(self) -> str:
        if self.username is None:
            return self.url
        scheme, _, rest = self.url.partition("://")
        password = "" if self.password is None else f":{_encode(self.password)}"
        return f"{scheme}://{_encode(self.username)}{password}@{rest}"


def redact(text: str, environ: Mapping[str, str], *, what: str) -> Redacted:
    """`text` with every credential by reference. `what` names the text in messages: "the command of run_bash".

    Raises ImageError for a credential that no variable of `environ` holds.
    """
    places = _Places(text, environ, what)
    for match in USERINFO.finditer(text):
        places.add_userinfo(match)
    for pattern in (QUERY, AUTHORIZATION, TOKEN):
        for match in pattern.finditer(text):
            if may_be_secret(match["value"]):
                places.add_literal(match.span("value"))
    for match in ASSIGNMENT.finditer(text):
        named = is_secret(match["name"], match["value"])
        if named and may_be_secret(match["value"]) and "$" not in match["value"]:
            places.add_literal(match.span("value"))
    for name, value in environ.items():
        shortest = _SHORTEST_ANYWHERE if may_be_secret(value) else _SHORTEST_HARMLESS
        if is_secret(name, value) and len(value) >= shortest:
            for match in re.finditer(rf"(?<![A-Za-z0-9_]){re.escape(value)}(?![A-Za-z0-9_])", text):
                places.add_literal(match.span())
    return places.redacted()


def redact_variable(name: str, value: str, environ: Mapping[str, str]) -> Redacted:
    """`redact` for a variable's value: a literal one under a secret's name is a credential too. Raises ImageError."""
    what = f"the value of {name}"
    held_by = _variable_with(value, environ, user=False)
    is_number = value.isdigit() and len(value) >= _SHORTEST_NUMBER
    is_named = is_secret(name, value) and may_be_secret(value)
    if held_by is not None and (is_named or (is_secret_name(held_by) and (may_be_secret(value) or is_number))):
        return Redacted(text=f"${{{held_by}}}", names=(held_by,))
    if is_named:
        redacted = redact(value, environ, what=what)
        if redacted.names or not re.search(r"\w", _WRITTEN_REFERENCE.sub("", value)):
            return redacted
        raise _literal_credential(what, name)
    return redact(value, environ, what=what)


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
    pattern = re.compile(rf"\$\{{({'|'.join(map(re.escape, names))})\}}")
    userinfos = [match.span("userinfo") for match in USERINFO.finditer(text)]

    def value(match: re.Match[str]) -> str:
        in_userinfo = any(start <= match.start() < end for start, end in userinfos)
        return _encode(environ[match[1]]) if in_userinfo else environ[match[1]]

    return pattern.sub(value, text)


def mask(text: str, secrets: Iterable[str] = ()) -> str:
    """`text` fit for a log: `***` for each of `secrets`, the user and password of a URL, and well-known tokens."""
    for secret in sorted(set(secrets), key=len, reverse=True):
        for form in (secret, _encode(secret), quote(secret, safe="")):
            if form:
                text = text.replace(form, "***")
    text = USERINFO.sub(lambda m: m[0] if _is_ssh_user(m) else f"{m['scheme']}://***@", text)
    return TOKEN.sub("***", text)


class _Places:
    """The parts of a text to replace, found one after the other; of two that overlap the first one found stays."""

    def __init__(self, text: str, environ: Mapping[str, str], what: str) -> None:
        self._text = text
        self._environ = environ
        self._what = what
        self._found: list[tuple[int, int, str]] = []
        self._names: set[str] = set()
        self._add_raw_passwords()

    def add_userinfo(self, match: re.Match[str]) -> None:
        if _is_ssh_user(match):
            return
        start, end = match.span("userinfo")
        if self._is_covered(start, end):
            return
        user, colon, password = match["userinfo"].partition(":")
        secret = password if colon else user
        secret_name = self._variable_with(secret, user=False)
        if secret_name is None and (not secret or _WRITTEN_REFERENCE.fullmatch(secret)):
            return  # nothing, or a variable of the container
        if secret_name is None and self._add_around(*match.span()):
            return
        if secret_name is None:
            raise _literal_credential(self._what, "REGISTRY_PASS")
        self._add(end - len(secret), end, secret_name)
        user_name = self._variable_with(user, user=True) if colon else None
        if user_name is not None:
            self._add(start, start + len(user), user_name)

    def add_literal(self, span: tuple[int, int]) -> None:
        if self._is_covered(*span):
            return
        name = _variable_with(self._text[slice(*span)], self._environ, user=False)
        if name is None and self._add_around(*span):
            return
        if name is None:
            raise _literal_credential(self._what, "HF_TOKEN")
        self._add(*span, name)

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

    def _add_raw_passwords(self) -> None:
        """Passwords that were put into a URL without percent-encoding, where `/?#@` hide the end of the userinfo."""
        for name, value in sorted(self._environ.items()):
            if is_secret_name(name) and re.search(r"[/?#@\s]", value):
                for match in re.finditer(rf"://(?P<user>[^\s/?#@:]*):(?P<password>{re.escape(value)})@", self._text):
                    self._add(*match.span("password"), name)
                    user_name = self._variable_with(match["user"], user=True)
                    if user_name is not None:
                        self._add(*match.span("user"), user_name)

    def _add_around(self, start: int, end: int) -> bool:
        """Whether a variable holds more than the credential, such as a whole URL: then all of that is by reference."""
        for name, value in sorted(self._environ.items(), key=lambda item: (len(item[1]), item[0])):
            if len(value) < end - start or is_host_name(name) or not _NAME.fullmatch(name):
                continue
            place = self._text.find(value, max(0, end - len(value)), start + len(value))
            if place >= 0 and not self._is_covered(place, place + len(value)):
                self._add(place, place + len(value), name)
                return True
        return False

    def _variable_with(self, part: str, *, user: bool) -> str | None:
        """For a part of a userinfo, which should be percent-encoded but may have been put in as it is."""
        decoded = _variable_with(unquote(part), self._environ, user=user)
        return decoded or _variable_with(part, self._environ, user=user)

    def _add(self, start: int, end: int, name: str) -> None:
        if not self._is_covered(start, end):
            self._found.append((start, end, f"${{{name}}}"))
            self._names.add(name)

    def _is_covered(self, start: int, end: int) -> bool:
        return any(start < other_end and other_start < end for other_start, other_end, _ in self._found)


def _variable_with(value: str, environ: Mapping[str, str], *, user: bool) -> str | None:
    """The variable that holds `value`: one whose name says so before any other, then by name."""

    def says_so(name: str) -> bool:
        return is_user_name(name) if user else is_secret(name, value)

    if not value:
        return None
    candidates = [
        (not says_so(name), name)
        for name, held in environ.items()
        if held == value
        and _NAME.fullmatch(name)
        and (says_so(name) or (len(value) >= _SHORTEST_UNNAMED and not is_host_name(name)))
    ]
    return min(candidates)[1] if candidates else None


def _literal_credential(what: str, name: str) -> ImageError:
    return ImageError(
        f"{what} has a credential written into it",
        hint=f'take it from the environment, as in os.environ["{name}"]: then the lockfile only names the variable',
    )


def _is_ssh_user(match: re.Match[str]) -> bool:
    return "ssh" in match["scheme"].lower() and ":" not in match["userinfo"]


def _encode(text: str) -> str:
    return quote(text, safe=_KEPT_IN_USERINFO)
