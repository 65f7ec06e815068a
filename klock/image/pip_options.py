"""The options of pip and uv that may stand beside a requirement: which ones klock honours, and finding them in a line.

A line is not shell: nothing is expanded or redirected. Options may stand before, between or after requirements; what is
left between two options is a *segment*, kept as written because a requirement may contain spaces and quotes
(`numpy > 2.0.0`, `a; python_version < "3.12"`).
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import replace
from enum import Enum
from typing import Final, TypeVar

from packaging.utils import canonicalize_name

from klock.errors import RequirementError
from klock.secrets.masking import mask
from klock.secrets.userinfo import PrivateUrl
from klock.values import dataclass

__all__ = ["OWN", "PipOptions", "ScannedLine", "scan", "shell_words"]

OWN: Final = ":own:"
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class PipOptions:
    """Options for the requirements of one line, or for all of a requirements file.

    `no_binary` and `only_binary` hold normalised package names or `:all:`. With OWN among them `:all:` was said beside
    a requirement, which is named too; it is for all if every requirement of the image says so. With `upgrade` a
    distribution of the base is no reason to keep its version. `only_from` is the index that a requirement must come
    from, but not its dependencies (uv's sources). `for_all`: the indexes are those of a whole file, so dependencies
    come from them too.
    """

    index_url: PrivateUrl | None = None
    only_from: PrivateUrl | None = None
    for_all: bool = False
    extra_index_urls: tuple[PrivateUrl, ...] = ()
    find_links: tuple[PrivateUrl, ...] = ()
    no_index: bool = False
    no_binary: tuple[str, ...] = ()
    only_binary: tuple[str, ...] = ()
    pre: bool = False
    no_build_isolation: bool = False
    upgrade: bool = False

    @property
    def name_indexes(self) -> bool:
        return self.index_url is not None or self.no_index or bool(self.extra_index_urls or self.find_links)

    def over(self, wider: PipOptions) -> PipOptions:
        """These options together with `wider` ones, as pip reads a line's after a file's: lists add up."""
        return PipOptions(
            for_all=self.for_all or (wider.name_indexes and not self.name_indexes),
            index_url=self.index_url or wider.index_url,
            only_from=self.only_from or wider.only_from,
            extra_index_urls=_joined(wider.extra_index_urls, self.extra_index_urls),
            find_links=_joined(wider.find_links, self.find_links),
            no_index=self.no_index or wider.no_index,
            no_binary=_joined(wider.no_binary, self.no_binary),
            only_binary=_joined(wider.only_binary, self.only_binary),
            pre=self.pre or wider.pre,
            no_build_isolation=self.no_build_isolation or wider.no_build_isolation,
            upgrade=self.upgrade or wider.upgrade,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ScannedLine:
    """A line taken apart. `words` is the line as a shell would have to be given it, requirements still as segments."""

    options: PipOptions
    segments: tuple[str, ...]
    editables: tuple[str, ...]
    requirement_files: tuple[str, ...]
    constraint_files: tuple[str, ...]
    hashes: tuple[str, ...]
    require_hashes: bool
    groups: tuple[str, ...]
    extras: tuple[str, ...]
    packages: tuple[str, ...]
    all_groups: bool
    all_extras: bool
    no_dev: bool
    no_default_groups: bool
    parts: tuple[_Part, ...]


@dataclass(frozen=True, slots=True)
class _Part:
    """A piece of the line in order: the words of an option, or a segment."""

    words: tuple[str, ...] = ()
    segment: str = ""


class _Kind(Enum):
    """What an option does to what is read."""

    INDEX = "index_url"
    EXTRA_INDEX = "extra_index_urls"
    FIND_LINKS = "find_links"
    NO_INDEX = "no_index"
    NO_BINARY = "no_binary"
    ONLY_BINARY = "only_binary"
    PRE = "pre"
    PRERELEASE = "prerelease"
    NO_BUILD_ISOLATION = "no_build_isolation"
    UPGRADE = "upgrade"
    EDITABLE = "editable"
    REQUIREMENT_FILE = "requirement"
    CONSTRAINT_FILE = "constraint"
    HASH = "hash"
    REQUIRE_HASHES = "require_hashes"
    GROUP = "group"
    EXTRA = "extra"
    ALL_GROUPS = "all_groups"
    ALL_EXTRAS = "all_extras"
    NO_DEV = "no_dev"
    NO_DEFAULT_GROUPS = "no_default_groups"
    PACKAGE = "package"
    NOTHING = "nothing"
    NOTHING_WITH_VALUE = "nothing with a value"


_FLAGS: Final = {
    _Kind.NO_INDEX,
    _Kind.PRE,
    _Kind.NO_BUILD_ISOLATION,
    _Kind.UPGRADE,
    _Kind.REQUIRE_HASHES,
    _Kind.ALL_GROUPS,
    _Kind.ALL_EXTRAS,
    _Kind.NO_DEV,
    _Kind.NO_DEFAULT_GROUPS,
    _Kind.NOTHING,
}
_OPTIONS: Final = {
    "-i": _Kind.INDEX,
    "--index-url": _Kind.INDEX,
    "--pypi-url": _Kind.INDEX,
    "--default-index": _Kind.INDEX,
    "--extra-index-url": _Kind.EXTRA_INDEX,
    "--index": _Kind.EXTRA_INDEX,
    "-f": _Kind.FIND_LINKS,
    "--find-links": _Kind.FIND_LINKS,
    "--no-index": _Kind.NO_INDEX,
    "--no-binary": _Kind.NO_BINARY,
    "--only-binary": _Kind.ONLY_BINARY,
    "--pre": _Kind.PRE,
    "--prerelease": _Kind.PRERELEASE,
    "--no-build-isolation": _Kind.NO_BUILD_ISOLATION,
    "-U": _Kind.UPGRADE,
    "--upgrade": _Kind.UPGRADE,
    "-e": _Kind.EDITABLE,
    "--editable": _Kind.EDITABLE,
    "-r": _Kind.REQUIREMENT_FILE,
    "--requirement": _Kind.REQUIREMENT_FILE,
    "--requirements": _Kind.REQUIREMENT_FILE,
    "-c": _Kind.CONSTRAINT_FILE,
    "--constraint": _Kind.CONSTRAINT_FILE,
    "--constraints": _Kind.CONSTRAINT_FILE,
    "--hash": _Kind.HASH,
    "--require-hashes": _Kind.REQUIRE_HASHES,
    "--group": _Kind.GROUP,
    "--extra": _Kind.EXTRA,
    "--all-groups": _Kind.ALL_GROUPS,
    "--all-extras": _Kind.ALL_EXTRAS,
    "--no-dev": _Kind.NO_DEV,
    "--no-default-groups": _Kind.NO_DEFAULT_GROUPS,
    "--package": _Kind.PACKAGE,
    # These change what is printed or kept, or where an installer writes by default: never which bytes are locked.
    "-q": _Kind.NOTHING,
    "--quiet": _Kind.NOTHING,
    "-v": _Kind.NOTHING,
    "--verbose": _Kind.NOTHING,
    "--no-cache-dir": _Kind.NOTHING,
    "--no-cache": _Kind.NOTHING,
    "--no-input": _Kind.NOTHING,
    "--disable-pip-version-check": _Kind.NOTHING,
    "--no-warn-script-location": _Kind.NOTHING,
    "--break-system-packages": _Kind.NOTHING,
    "--system": _Kind.NOTHING,
    "--progress-bar": _Kind.NOTHING_WITH_VALUE,
    "--root-user-action": _Kind.NOTHING_WITH_VALUE,
}
_INSTEAD: Final = {
    "--force-reinstall": "use pip_install(..., force=True)",
    "--reinstall": "use pip_install(..., force=True)",
    "-t": "packages go into the environment's Python; choose it with Image(python_path=...)",
    "--target": "packages go into the environment's Python; choose it with Image(python_path=...)",
    "--python": "choose the Python with Image(python_path=...)",
    "--trusted-host": "give klock the certificate: ca-bundle in [tool.klock] of pyproject.toml",
    "--prefer-binary": "use --only-binary NAME for the packages that must not be built",
}

_WORD: Final = re.compile(r"(?:[^\s'\"]|'[^']*'|\"[^\"]*\")+")
_INDEX_NAME: Final = re.compile(r"^[A-Za-z0-9._-]+=(?=[a-z]+://)")
_VALUE_IN_NAME: Final = re.compile(r"(-[a-zA-Z])(?=.)(?!-)=?(.+)", re.DOTALL)


def scan(text: str, *, where: str) -> ScannedLine:
    """Takes `text` apart. Raises RequirementError, naming `where`, for an option klock cannot honour."""
    parts = _parts(text, where)
    found: dict[_Kind, list[str]] = {}
    for part in parts:
        if part.words:
            found.setdefault(_kind(part.words[0], where), []).append(part.words[-1])
    return ScannedLine(
        options=_options(found, where),
        segments=tuple(p.segment for p in parts if p.segment),
        editables=tuple(found.get(_Kind.EDITABLE, ())),
        requirement_files=tuple(found.get(_Kind.REQUIREMENT_FILE, ())),
        constraint_files=tuple(found.get(_Kind.CONSTRAINT_FILE, ())),
        hashes=tuple(found.get(_Kind.HASH, ())),
        require_hashes=_Kind.REQUIRE_HASHES in found,
        groups=tuple(found.get(_Kind.GROUP, ())),
        extras=tuple(found.get(_Kind.EXTRA, ())),
        packages=tuple(found.get(_Kind.PACKAGE, ())),
        all_groups=_Kind.ALL_GROUPS in found,
        all_extras=_Kind.ALL_EXTRAS in found,
        no_dev=_Kind.NO_DEV in found,
        no_default_groups=_Kind.NO_DEFAULT_GROUPS in found,
        parts=parts,
    )


def shell_words(text: str, where: str) -> list[str]:
    """The words of `text` without their quotes. Raises RequirementError."""
    try:
        return shlex.split(text)
    except ValueError as error:
        raise RequirementError(f"{where}: a quote is not closed: {mask(text)}") from error


def _parts(text: str, where: str) -> tuple[_Part, ...]:
    if _WORD.sub("", text).strip():
        raise RequirementError(f"{where}: a quote is not closed: {mask(text)}")
    parts: list[_Part] = []
    start = 0  # of the segment being collected
    words = iter(_WORD.finditer(text))
    for match in words:
        if not match[0].startswith("-"):
            continue
        parts.append(_Part(segment=text[start : match.start()].strip()))
        name, value = _split_value(match[0])
        if _kind(name, where) in _FLAGS:
            if value is not None:
                raise RequirementError(f"{where}: {name} takes no value: {mask(match[0])}")
            parts.append(_Part((name,)))
            start = match.end()
            continue
        if value is None:
            following = next(words, None)
            if following is None or following[0].startswith("-"):
                raise RequirementError(f"{where}: {name} needs a value: {mask(text)}")
            match, value = following, following[0]
        parts.append(_Part((name, "".join(shell_words(value, where)))))
        start = match.end()
    parts.append(_Part(segment=text[start:].strip()))
    return tuple(p for p in parts if p.words or p.segment)


def _split_value(word: str) -> tuple[str, str | None]:
    """`--name=value`, `-fvalue` and `-f=value` in one word, as pip's option parser takes them."""
    if word.startswith("--"):
        name, equals, value = word.partition("=")
        return name, value if equals else None
    match = _VALUE_IN_NAME.fullmatch(word)
    return (match[1], match[2]) if match else (word, None)


def _kind(name: str, where: str) -> _Kind:
    kind = _OPTIONS.get(name)
    if kind is None:
        hint = _INSTEAD.get(name, f"klock honours {', '.join(sorted(n for n in _OPTIONS if n.startswith('--')))}")
        raise RequirementError(f"{where}: the option {name} is not supported", hint=hint)
    return kind


def _options(found: dict[_Kind, list[str]], where: str) -> PipOptions:
    options = PipOptions(
        extra_index_urls=_urls(found.get(_Kind.EXTRA_INDEX, ())),
        find_links=_urls(found.get(_Kind.FIND_LINKS, ())),
        no_index=_Kind.NO_INDEX in found,
        no_binary=_names(found.get(_Kind.NO_BINARY, ())),
        only_binary=_names(found.get(_Kind.ONLY_BINARY, ())),
        pre=_Kind.PRE in found,
        no_build_isolation=_Kind.NO_BUILD_ISOLATION in found,
        upgrade=_Kind.UPGRADE in found,
    )
    if urls := _urls(found.get(_Kind.INDEX, ())):
        options = replace(options, index_url=urls[-1])
    for value in found.get(_Kind.PRERELEASE, ()):
        if value not in ("allow", "if-necessary", "explicit", "if-necessary-or-explicit", "disallow"):
            raise RequirementError(
                f"{where}: --prerelease has no value {value!r}", hint="write --pre, or --prerelease=allow"
            )
        options = replace(options, pre=options.pre or value == "allow")
    return options


def _urls(values: Iterable[str]) -> tuple[PrivateUrl, ...]:
    """uv's `NAME=URL` is the URL."""
    return tuple(PrivateUrl.parse(_INDEX_NAME.sub("", value)) for value in values)


def _names(values: Iterable[str]) -> tuple[str, ...]:
    """As pip reads them: comma-separated, `:none:` empties what was there, `:all:` is all there is to say."""
    names: list[str] = []
    for name in (n.strip() for value in values for n in value.split(",")):
        if name == ":none:":
            names.clear()
        elif name == ":all:":
            names = [":all:"]
        elif name and ":all:" not in names:
            names.append(canonicalize_name(name))
    return tuple(dict.fromkeys(names))


def _joined(first: Sequence[_T], second: Sequence[_T]) -> tuple[_T, ...]:
    return tuple(dict.fromkeys([*first, *second]))
