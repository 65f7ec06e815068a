"""Credentials that are written out in a text: a requirement, a command, a file within a command, what a program prints.

A text is read as whatever it may be, as commands hold files and files hold commands: the query of a URL, a header, an
assignment, JSON, an option, a line of YAML. Each place has a pattern that names the parts; whether it is a credential,
the vocabulary and the value tell. Patterns take linear time, and are compiled when a text may need them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Final
from urllib.parse import unquote

from klock.secrets.encoded import USER_AND_PASSWORD, encoded_words
from klock.secrets.literal import KINDS, Literal, compiled, is_named, literal, matches
from klock.secrets.values import is_secret, looks_random, may_be_secret
from klock.secrets.vocabulary import NO_OPTIONS, PROGRAMS, SCHEMES, TOKEN, TOKENS, credential_name, words_of
from klock.secrets.written_files import in_files
from klock.values import replace

__all__ = ["Literal", "literals_in"]


# -- the query of a URL

_QUERY: Final = r"[?&](?P<name>[^\s=&?#'\"/]{1,200})=(?P<value>[^&\s#'\"]+)"
_ENCODED_QUERY: Final = (
    r"(?i:%(?:25){0,3}(?:3F|26))(?P<name>[\w.-]{1,64})(?i:%(?:25){0,3}3D)(?P<value>(?:(?!%(?:25){0,3}26)[^\s&'\"])+)"
)


def _in_queries(text: str) -> Iterator[Literal]:
    for match in matches(_QUERY, text, "="):
        name = unquote(match["name"])
        is_one = credential_name(name) or (name.isupper() and is_secret(name, match["value"]))
        if is_one and may_be_secret(match["value"]):
            yield literal(match, f"{name} in the query of a URL", name)
    for match in matches(_ENCODED_QUERY, text, "%"):
        if credential_name(match["name"]) and may_be_secret(unquote(match["value"])):
            yield literal(match, f"{match['name']} in the query of a URL", match["name"])


# -- headers

_AUTHORIZATION: Final = (
    r"(?i:\b(?:proxy-)?authorization)\\?[\"']?[ \t]*:[ \t]*\\?[\"']?(?:(?P<scheme>[A-Za-z][\w-]{0,31})[ \t]+)?"
    r"(?P<value>[^\s'\"\\]+)"
)
_HEADER_OPTION: Final = (
    r"(?:(?<=\s)-H|--header|--add-header)[ \t=]*"
    r"(?:\\?[\"'](?P<name>[\w-]{1,64}):[ \t]*(?P<value>[^\"'\r\n\\]+)"
    r"|(?P<bare_name>[\w-]{1,64}):(?P<bare_value>[^\s'\"]+))"
)
_HEADER: Final = (
    r"(?<![\w-])(?:(?P<name>[A-Za-z]\w*(?:-\w+){1,8}):[ \t]{1,4}|(?P<x_name>[Xx](?:-\w+){1,8}):)(?P<value>[^\s'\"\\]+)"
)
_COOKIE: Final = r"(?i:\bcookie)[ \t]*:[ \t]*(?P<value>[^\r\n'\"\\]+)"
_PAIR: Final = r"(?P<name>[^\s=;]{1,64})=(?P<value>[^\s;]+)"


def _in_headers(text: str) -> Iterator[Literal]:
    lowered = text.lower()
    for match in matches(_AUTHORIZATION, text, "authorization", lowered):
        scheme = (match["scheme"] or "").lower()
        is_scheme = match["value"].lower() in SCHEMES
        if not is_scheme and SCHEMES.get(scheme, looks_random(match["value"])) and may_be_secret(match["value"]):
            yield literal(match, "an Authorization header", "API_TOKEN")
    for match in matches(_HEADER_OPTION, text, "-h", lowered):
        name, group = (match["name"], "value") if match["name"] else (match["bare_name"], "bare_value")
        value = _without_scheme(match[group])
        if credential_name(name) and may_be_secret(value):
            end = match.end(group)
            yield replace(literal(match, f"the header {name}", name, group), start=end - len(value))
    for match in matches(_HEADER, text, "-"):
        name = match["name"] or match["x_name"]
        if credential_name(name) and looks_random(match["value"]):
            yield literal(match, f"the header {name}", name)
    for match in matches(_COOKIE, text, "cookie", lowered):
        for pair in compiled(_PAIR).finditer(text, *match.span("value")):
            if is_secret(pair["name"], pair["value"]) and may_be_secret(pair["value"]):
                yield literal(pair, f"the cookie {pair['name']}", "SESSION_COOKIE")


def _without_scheme(value: str) -> str:
    scheme, _, rest = value.partition(" ")
    return rest.lstrip() if scheme.lower() in SCHEMES else value


# -- tokens that say what they are


def _by_their_form(text: str) -> Iterator[Literal]:
    for match in TOKEN.finditer(text):
        form = next(form for form in TOKENS if compiled(form.pattern).match(match["value"]))
        yield literal(match, form.words, form.variable)


# -- assignments

_ASSIGNMENT: Final = (
    r"(?<![\w$?&-])(?P<name>[A-Za-z_][\w.]{0,100})=(?!=)"
    r"(?:\\?\"(?P<double>[^\"\\\r\n]+)\\?\"|\\?'(?P<single>[^'\\\r\n]+)\\?'|(?P<bare>[^\s'\";&|\\]+))"
)
_NO_VALUE: Final = r"(?s)[.\[(^\\*]|.*[(,)]"
"""Code and patterns: `token=get()`, `f(token=token,`, `s/token=.*/`."""


def _in_assignments(text: str) -> Iterator[Literal]:
    for match in matches(_ASSIGNMENT, text, "="):
        name, group = match["name"], str(match.lastgroup)
        value = match[group]
        if "$" in value or not may_be_secret(value):
            continue
        if name.isupper():
            is_one = is_secret(name, value)
        elif group == "bare":
            is_call = text[max(0, match.start() - 2) : match.start()].endswith(("(", ", "))
            is_one = not is_call and not re.match(_NO_VALUE, value) and is_named(name, value)
        else:
            is_one = is_named(name, value) and value.lower() not in KINDS
        if is_one:
            yield literal(match, f"the value of {name}", name, group)


# -- options

_OPTION: Final = (
    r"(?<![\w-])(?:--(?P<long>[A-Za-z][\w.-]{0,64})(?:=|[ \t]+)|-(?P<short>[A-Za-z][\w.-]{2,64})=)"
    r"(?:\\?\"(?P<double>[^\"\\\r\n]+)\\?\"|\\?'(?P<single>[^'\\\r\n]+)\\?'|(?P<bare>[^\s'\";&|\\<>-][^\s'\";&|\\]*))"
)
_BUILD_SECRET: Final = r"(?:id|type|src|source|env)=.*|(?:env|file|fd):.*|stdin"
_CONFIG: Final = (
    r"\bconfig(?:ure)?[ \t]+set[ \t]+(?:--\S+[ \t]+)?(?P<name>[^\s=]{1,100})[ \t]+[\"']?(?P<value>[^\s'\";&|\\]+)"
)


def _in_options(text: str) -> Iterator[Literal]:
    for match in matches(_OPTION, text, "-"):
        name, group = match["long"] or match["short"], str(match.lastgroup)
        value = match[group]
        if (
            not re.fullmatch(NO_OPTIONS, words_of(name)[0])
            and is_named(name, value)
            and may_be_secret(value)
            and not re.fullmatch(_BUILD_SECRET, value)
        ):
            yield literal(match, f"the value of --{name}" if match["long"] else f"the value of -{name}", name, group)
    for match in matches(_CONFIG, text, "set"):
        name = match["name"].rpartition(":")[2]
        if is_named(name, match["value"]) and may_be_secret(match["value"]):
            yield literal(match, f"the value of {name}", name)


_COMMAND: Final = (
    rf"(?<![\w.-])(?P<program>{'|'.join(option.programs for option in PROGRAMS)})(?=\s)"
    r"(?P<arguments>(?:\\\n|[^\n;|&]|&(?!&))*)"
)


def _in_arguments(text: str) -> Iterator[Literal]:
    for command in compiled(_COMMAND).finditer(text):
        for option in PROGRAMS:
            if compiled(option.programs).fullmatch(command["program"]):
                for match in compiled(option.pattern).finditer(text, *command.span("arguments")):
                    if may_be_secret(match["value"]):
                        yield literal(match, f"a password for {command['program']}", "PASSWORD")


_PIPED: Final = (
    r"\b(?:echo|printf)[ \t]+(?:-n[ \t]+)?['\"]?(?P<value>[^\s'\"|$]+)['\"]?[ \t]*\|"
    r"[^\n|;]{0,500}?(?:--password-stdin|--pass-stdin|--with-token|\bpasswd[ \t]+--stdin|\bsudo[ \t]+-S)"
)
_ACCOUNT: Final = (
    r"(?<![^\s'\"])(?P<user>[\w.-]{1,64}):(?P<value>[^\s'\"$:|]+)['\"]?"
    r"[ \t]*\|[ \t]*(?:sudo[ \t]+)?chpasswd(?![ \t]+-e)"
)
_SQL: Final = (
    r"(?i:\bidentified[ \t]+(?:with[ \t]+\S{1,64}[ \t]+)?by|\b(?:user|role)\b[^;\n]{0,200}?\bpassword)"
    r"[ \t]+\\?['\"](?P<value>[^'\"\\\r\n]+)"
)


def _on_their_way(text: str) -> Iterator[Literal]:
    """Passwords that are written into a pipe or into SQL."""
    lowered = text.lower()
    for match in matches(_PIPED, text, "|"):
        if may_be_secret(match["value"]):
            yield literal(match, "a password on standard input", "PASSWORD")
    for match in matches(_ACCOUNT, text, "chpasswd"):
        # `root:root` opens a container to whoever plays with it.
        if looks_random(match["value"]) and match["value"] != match["user"]:
            yield literal(match, "a password for chpasswd", "PASSWORD")
    for sign in ("identified", "password"):
        for match in matches(_SQL, text, sign, lowered):
            if may_be_secret(match["value"]):
                yield literal(match, "a password in SQL", "DB_PASSWORD")


def _encoded(text: str) -> Iterator[Literal]:
    """What base64 or hexadecimal digits hide: a token, a user with a password, a file that holds one."""
    for word in encoded_words(text):
        if USER_AND_PASSWORD.fullmatch(word.plain):
            yield Literal(start=word.start, end=word.end, where="a user and a password, encoded", variable="PASSWORD")
        elif found := next((each for find in _FINDERS for each in find(word.plain)), None):
            yield replace(found, start=word.start, end=word.end, where=f"{found.where}, encoded")


# -- all of them

_FINDERS: Final[tuple[Callable[[str], Iterator[Literal]], ...]] = (
    _in_queries,
    _in_headers,
    _by_their_form,
    _in_assignments,
    in_files,
    _in_options,
    _in_arguments,
    _on_their_way,
)


def literals_in(text: str) -> Iterator[Literal]:
    """The credentials that are written out in a text, place by place; those of two places may overlap.

    The user and password of a URL, which may be right as they are, are the business of `klock.secrets.references`.
    """
    for find in _FINDERS:
        yield from find(text)
    yield from _encoded(text)
