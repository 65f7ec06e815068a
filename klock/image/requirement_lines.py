"""Reads one entry of `pip_install`, or one line of a requirements file.

What the entry says is data, never shell: `numpy>=1.20` redirects nothing. No file is touched here;
`klock.image.requirement_files` reads the files an entry names.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Final
from urllib.parse import unquote, urlsplit

from packaging.markers import InvalidMarker, Marker
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import (
    InvalidSdistFilename,
    InvalidWheelFilename,
    canonicalize_name,
    parse_sdist_filename,
    parse_wheel_filename,
)

from klock.errors import RequirementError
from klock.image.pip_options import PipOptions, ScannedLine, scan, shell_words
from klock.image.requirements import (
    FileReference,
    PackageRequirement,
    ParsedLine,
    ParsedRequirement,
    PathRequirement,
    ProjectParts,
    UrlRequirement,
    fragment_of,
    hashes_in_fragment,
)
from klock.secrets.masking import mask
from klock.secrets.userinfo import PrivateUrl

__all__ = ["parse_line", "words_of"]

_VARIABLE: Final = re.compile(r"\$\{([A-Z0-9_]+)\}")  # as pip has it in requirements files
_EXTRAS: Final = re.compile(r"(?P<rest>.+?)\s*\[(?P<extras>[^\[\]]*)\]", re.DOTALL)
_NAME: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")
_NAME_AT: Final = re.compile(
    r"(?P<name>[A-Za-z0-9][\w.-]*)\s*(?:\[(?P<extras>[^\[\]]*)\])?\s*@\s*(?P<url>\S.*)", re.DOTALL
)
_REPOSITORY: Final = re.compile(r"(?:git|hg|svn|bzr)\+", re.IGNORECASE)
_ARCHIVES: Final = (".whl", ".zip", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar")


def parse_line(text: str, where: str, environ: Mapping[str, str] | None = None, *, several: bool = True) -> ParsedLine:
    """Reads one entry. `where` names it in messages; `environ` supplies `${NAME}` as pip does in requirements files.

    With `several` a segment may be more than one requirement, as on a command line. Raises RequirementError.
    """
    variables = sorted(set(_VARIABLE.findall(text))) if environ is not None else []
    for name in variables:
        if not (environ or {}).get(name):
            raise RequirementError(f"{where}: ${{{name}}} is used, but {name} is not set", hint=f"export {name}=...")
    scanned = scan(_VARIABLE.sub(lambda m: (environ or {}).get(m[1], m[0]), text), where=where)
    options = scanned.options
    texts = [t for s in scanned.segments for t in (_requirement_texts(s, where) if several else [s])]
    requirements = [_parse_requirement(t, options, scanned.hashes, where) for t in texts]
    requirements += [_parse_location(e, options, scanned.hashes, where, editable=True) for e in scanned.editables]
    files = _project_files(scanned, where)
    files += [
        FileReference(path=path, constraint=True, options=options, where=where) for path in scanned.constraint_files
    ]
    if scanned.hashes and len(requirements) != 1:
        raise RequirementError(f"{where}: --hash goes with exactly one requirement, not {len(requirements)}")
    for digest in scanned.hashes:
        if not re.fullmatch(r"sha(256:[0-9a-f]{64}|384:[0-9a-f]{96}|512:[0-9a-f]{128})", digest):
            raise RequirementError(f"{where}: not a hash: {digest}", hint="write --hash=sha256:<64 hex digits>")
    return ParsedLine(
        requirements=tuple(requirements),
        files=tuple(files),
        options=options,
        require_hashes=scanned.require_hashes,
        variables=tuple(variables),
    )


def _project_files(scanned: ScannedLine, where: str) -> list[FileReference]:
    """The files after `-r`, with the parts of a project that are chosen; those after `--group` alone, as pip has it."""
    parts = ProjectParts(
        groups=scanned.groups,
        extras=scanned.extras,
        all_groups=scanned.all_groups,
        all_extras=scanned.all_extras,
        no_dev=scanned.no_dev,
        no_default_groups=scanned.no_default_groups,
        package=scanned.packages[-1] if scanned.packages else None,
    )
    paths = scanned.requirement_files
    if parts != ProjectParts() and not paths:
        if parts != ProjectParts(groups=scanned.groups):
            raise RequirementError(
                f"{where}: --extra, --package and the like need the file of a project, and none is named",
                hint="write -r pyproject.toml or -r uv.lock before it",
            )
        named = [group.rpartition(":") for group in scanned.groups]
        return [
            FileReference(
                path=path or "pyproject.toml",
                constraint=False,
                parts=ProjectParts(groups=(group,), groups_only=True),
                options=scanned.options,
                where=where,
            )
            for path, _, group in named
        ]
    return [
        FileReference(path=path, constraint=False, parts=parts, options=scanned.options, where=where) for path in paths
    ]


def words_of(text: str) -> list[str]:
    """The entry as the words an installer's command line takes, one for each requirement. Raises RequirementError."""
    words: list[str] = []
    for part in scan(text, where="pip_install").parts:
        if part.words:
            words += part.words
        else:
            words += _requirement_texts(part.segment, "pip_install")
    return words


def _requirement_texts(segment: str, where: str) -> list[str]:
    """The whole segment where it is one requirement (`numpy > 2.0.0`), else its words, each of them one (`a b`)."""
    try:
        _parse_requirement(segment, PipOptions(), (), where)
    except RequirementError as error:
        words = shell_words(segment, where)
        if words in ([], [segment]):
            raise
        for word in words:
            try:
                _parse_requirement(word, PipOptions(), (), where)
            except RequirementError:
                raise error from None
        return words
    return [segment]


def _parse_requirement(text: str, options: PipOptions, hashes: tuple[str, ...], where: str) -> ParsedRequirement:
    if _looks_like_location(text):
        return _parse_location(text, options, hashes, where, editable=False)
    if match := _NAME_AT.fullmatch(text):
        extras = _extras(match["extras"], where)
        return _located(match["url"], options, hashes, where, name=match["name"], extras=extras)
    try:
        requirement = Requirement(text)
    except InvalidRequirement as error:
        reason = str(error).splitlines()[0]
        raise RequirementError(
            f"{where}: not a requirement: {mask(text)!r}: {reason}", hint=_suggestion(text)
        ) from error
    return PackageRequirement(requirement=requirement, options=options, hashes=hashes, where=where)


def _looks_like_location(text: str) -> bool:
    head = text.partition(";")[0].strip()
    if "'" in head or '"' in head:  # still quoted: the words without their quotes are looked at later
        return False
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", head) or head.lower().startswith("file:"):
        return True
    if head.startswith(("/", "./", "../", "~")) or re.fullmatch(r"\.{1,2}(\[.*\])?", head):
        return True
    return not re.search(r"[\s@<>=!]", head) and ("/" in head or head.endswith(_ARCHIVES))


def _parse_location(
    text: str, options: PipOptions, hashes: tuple[str, ...], where: str, *, editable: bool
) -> PathRequirement | UrlRequirement:
    """A bare path or URL, with extras behind it."""
    if editable and (match := _NAME_AT.fullmatch(text)) and not _looks_like_location(text):
        extras = _extras(match["extras"], where)
        return _located(match["url"], options, hashes, where, name=match["name"], extras=extras, editable=True)
    marker_text = ""
    if "://" in text:
        text, _, marker_text = text.partition(" ;") if " ;" in text else text.partition("; ")
    else:
        text, _, marker_text = text.partition(";")
    match = _EXTRAS.fullmatch(text.strip())
    extras = _extras(match["extras"], where) if match and "#" not in match["rest"] else ()
    location = match["rest"] if extras and match else text.strip()
    suffix = f" ; {marker_text}" if marker_text.strip() else ""
    return _located(location + suffix, options, hashes, where, extras=extras, editable=editable)


def _located(
    location: str,
    options: PipOptions,
    hashes: tuple[str, ...],
    where: str,
    *,
    name: str | None = None,
    extras: tuple[str, ...] = (),
    editable: bool = False,
) -> PathRequirement | UrlRequirement:
    url, separator, marker_text = location.partition(" ;")
    if not separator:
        url, separator, marker_text = location.partition("; ")
    url = url.strip()
    marker = _marker(marker_text, where) if marker_text.strip() else None
    if any(c.isspace() for c in url):
        raise RequirementError(
            f"{where}: a path or URL has no spaces: {mask(url)!r}", hint="write a space in a file: URL as %20"
        )
    name = canonicalize_name(name) if name else None
    in_fragment = _hashes_of(url, where)
    if "://" in url and not url.lower().startswith("file:"):
        if editable and not _REPOSITORY.match(url):
            raise RequirementError(
                f"{where}: -e is for a folder of the environment or a repository, not for an archive: {mask(url)}",
                hint="leave out -e",
            )
        egg = re.match(_NAME, fragment_of(url).get("egg", ""))
        egg_extras = _EXTRAS.fullmatch(fragment_of(url).get("egg", ""))
        return UrlRequirement(
            url=PrivateUrl.parse(url),
            name=name or (canonicalize_name(egg[0]) if egg else None) or _name_in_file(urlsplit(url).path),
            extras=extras or (_extras(egg_extras["extras"], where) if egg_extras else ()),
            editable=editable,
            marker=marker,
            options=options,
            hashes=hashes,
            fragment_hashes=in_fragment,
            where=where,
        )
    path = unquote(urlsplit(url).path) if url.lower().startswith("file:") else url
    if not path or path.startswith("~"):
        raise RequirementError(
            f"{where}: not a path inside the environment: {url!r}", hint="write it from the root: /my_lib"
        )
    return PathRequirement(
        path=path.rstrip("/") or "/",
        name=name or _name_in_file(path),
        extras=extras,
        editable=editable,
        marker=marker,
        options=options,
        hashes=hashes,
        fragment_hashes=in_fragment,
        where=where,
    )


def _hashes_of(url: str, where: str) -> tuple[str, ...]:
    try:
        hashes = hashes_in_fragment(url) if "://" in url or url.lower().startswith("file:") else ()
    except ValueError as error:
        raise RequirementError(
            f"{where}: the hash in {mask(url)} cannot be checked: {error}", hint="write #sha256=<64 hex digits>"
        ) from None
    if hashes and _REPOSITORY.match(url):
        raise RequirementError(
            f"{where}: a repository has no hash: {mask(url)}", hint="name the commit instead: git+https://HOST/x@COMMIT"
        )
    return hashes


def _marker(text: str, where: str) -> Marker:
    try:
        return Marker(text.strip())
    except InvalidMarker as error:
        raise RequirementError(f"{where}: not an environment marker: {text.strip()!r}") from error


def _extras(text: str | None, where: str) -> tuple[str, ...]:
    names = [n.strip() for n in (text or "").split(",") if n.strip()]
    for name in names:
        if not _NAME.fullmatch(name):
            raise RequirementError(f"{where}: not the name of an extra: {name!r}")
    return tuple(sorted({canonicalize_name(n) for n in names}))


def _name_in_file(path: str) -> str | None:
    file = PurePosixPath(unquote(path)).name
    try:
        if file.endswith(".whl"):
            return parse_wheel_filename(file)[0]
        if file.endswith((".tar.gz", ".zip")):
            return parse_sdist_filename(file)[0]
    except (InvalidWheelFilename, InvalidSdistFilename):
        return None
    return None


def _suggestion(text: str) -> str | None:
    if re.search(r"(?<![=<>!~])=(?!=)", text):
        return "an exact version is written name==version"
    if not {"&", "|", "$", "`"}.isdisjoint(text):
        return "a requirement is not shell: use run_bash for commands"
    return None
