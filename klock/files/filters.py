"""rsync's filter rules (rsync(1), FILTER RULES): in order, the first rule that matches a name decides.

What selects files is understood; every other rsync option is an error, so that none is dropped in silence.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from klock.errors import ImageError
from klock.files.globs import rsync_regex
from klock.values import dataclass

__all__ = ["Filters", "Rule", "parse_filter_options"]

_UNDERSTOOD: Final = "--include, --exclude, --filter (+, -, !), --include-from and --exclude-from"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One include or exclude rule. `text` is as written, for messages; the rest is what rsync's exclude.c makes of
    it."""

    text: str
    include: bool
    regex: re.Pattern[bytes]
    negated: bool = False
    folders_only: bool = False
    basename_only: bool = False
    leading_slash: bool = False
    folder_slash: bool = False

    @classmethod
    def of(cls, text: str, *, include: bool, negated: bool = False) -> Rule:
        pattern = os.fsencode(text)
        folders_only = len(pattern) > 1 and pattern.endswith(b"/")
        if folders_only:
            pattern = pattern[:-1]
        has_wildcard = re.search(rb"[*?[]", pattern) is not None
        crosses_slashes = b"**" in pattern
        leading_slash = pattern.startswith(b"**")
        anchored = pattern.startswith(b"/")
        basename_only = b"/" not in pattern and not crosses_slashes
        pattern_body = pattern[1:] if anchored else pattern
        # A backslash escapes only where there is a wildcard; elsewhere the pattern is plain text.
        regex = rsync_regex(pattern_body) if has_wildcard else re.escape(pattern_body)
        if not (anchored or basename_only or leading_slash):
            regex = b"(?:.*/)?(?:" + regex + b")"
        return cls(
            text=text,
            include=include,
            regex=re.compile(regex, re.DOTALL),
            negated=negated,
            folders_only=folders_only,
            basename_only=basename_only,
            leading_slash=leading_slash,
            folder_slash=pattern.endswith(b"***"),
        )

    def matches(self, path: bytes, *, is_folder: bool) -> bool:
        """`path` begins with the name of the source, or below it if its contents are copied, without a leading
        slash."""
        if self.folders_only and not is_folder:
            return self.negated
        subject = path[path.rfind(b"/") + 1 :] if self.basename_only else path
        if self.leading_slash:
            subject = b"/" + subject
        if self.folder_slash and is_folder:
            subject += b"/"
        return (self.regex.fullmatch(subject) is not None) is not self.negated


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    rules: tuple[Rule, ...] = ()

    def decide(self, path: bytes, *, is_folder: bool) -> Rule | None:
        """The rule that decides over a path, or None when no rule mentions it."""
        for rule in self.rules:
            if rule.matches(path, is_folder=is_folder):
                return rule
        return None


def parse_filter_options(options: str | None, *, root: Path, where: str) -> Filters:
    """Reads `--include='important.log' --exclude='*.log'`, quoted as for a shell. Files are relative to `root`.

    Raises ImageError for anything that is not a filter option klock understands, and for a rules file that cannot be
    read.
    """
    if not options or not options.strip():
        return Filters()
    try:
        words = shlex.split(options)
    except ValueError as error:
        raise ImageError(
            f"{where}: filter options cannot be read: {str(error).lower()}: {options}",
            hint="quote each pattern as for a shell: --exclude='*.log'",
        ) from None
    rules: list[Rule] = []
    for option, value in _options(words, where):
        match option:
            case "--include" | "--exclude":
                parsed = _old_style([value], include=option == "--include", source=f"{where}: {option}={value}")
            case "--filter":
                parsed = [_new_style(value, where)]
            case _:
                lines = _read_lines(root, option, value, where)
                parsed = _old_style(lines, include=option == "--include-from", source=f"{where}: {value}")
        for rule in parsed:
            if rule is None:
                rules.clear()
            else:
                rules.append(rule)
    return Filters(rules=tuple(rules))


def _options(words: Sequence[str], where: str) -> Iterator[tuple[str, str]]:
    rest = iter(words)
    for word in rest:
        if word.startswith("--"):
            option, equals, value = word.partition("=")
        else:
            option, equals, value = word[:2], word[2:3], word[2:]
        if option == "-f":
            option = "--filter"
        if option not in ("--include", "--exclude", "--filter", "--include-from", "--exclude-from"):
            raise ImageError(
                f"{where}: rsync option {word} is not supported in filter_options",
                hint=f"klock understands {_UNDERSTOOD}",
            )
        if not equals:
            following = next(rest, None)
            if following is None:
                raise ImageError(f"{where}: rsync option {word} needs a value", hint=f"write {option}=PATTERN")
            value = following
        yield option, value


def _old_style(texts: Iterable[str], *, include: bool, source: str) -> list[Rule | None]:
    """Patterns that may begin with `+ ` or `- `; None stands for a lone `!`, which clears what came before."""
    rules: list[Rule | None] = []
    for text in texts:
        if text == "!":
            rules.append(None)
            continue
        prefixed = text[:2] in ("+ ", "- ")
        pattern = text[2:] if prefixed else text
        if not pattern:
            raise ImageError(f"{source}: an empty pattern", hint="name what to include or exclude, like '*.log'")
        rules.append(Rule.of(pattern, include=text[0] == "+" if prefixed else include))
    return rules


_NEW_STYLE: Final = re.compile(
    r"(?:(?P<short>[+-]),?|(?P<long>include|exclude)(?:,|(?=[ _])))(?P<modifiers>[^ _]*)[ _](?P<pattern>.+)", re.DOTALL
)


def _new_style(text: str, where: str) -> Rule | None:
    if text in ("!", "clear"):
        return None
    match = _NEW_STYLE.fullmatch(text)
    if match is None or match["modifiers"] not in ("", "!"):
        raise ImageError(
            f"{where}: filter rule {text!r} is not supported",
            hint="write --filter='+ PATTERN', --filter='- PATTERN' or --filter='!'",
        )
    include = (match["short"] or match["long"]) in ("+", "include")
    return Rule.of(match["pattern"], include=include, negated=match["modifiers"] == "!")


def _read_lines(root: Path, option: str, name: str, where: str) -> list[str]:
    """The rules in a file: blank lines and lines that begin with `#` or `;` are none."""
    path = root / Path(name).expanduser()
    try:
        text = os.fsdecode(path.read_bytes())
    except OSError as error:
        raise ImageError(
            f"{where}: cannot read {option}={name}: {error.strerror}: {path}",
            hint="check the path: it starts in the folder of the image file",
        ) from error
    return [line for line in re.split(r"[\r\n]", text) if line and line[0] not in "#;"]
