"""COPY and ADD: what of the build context a step copies, and where it goes, by docker's rules."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Final
from urllib.parse import unquote, urlsplit

from klock.errors import ImageError
from klock.files.build_context import BuildContext, Found, Patterns
from klock.files.modes import changed_mode, check_mode, mode_of_new_folder
from klock.image.steps import FromContext
from klock.layers.archive_files import is_archive
from klock.lockfile.model import UNNAMED_TEXT, CopiedFile, CopiedText, CopyLock, DownloadedFile, FetchedRepository
from klock.repositories.address import GitAddress, git_address
from klock.secrets.references import redact, redact_index
from klock.steps.drafting import Drafting
from klock.steps.kind import UNKNOWN_LAYER
from klock.values import dataclass

__all__ = ["UNKNOWN_HASH", "read_copy"]

UNKNOWN_HASH: Final = "0" * 64
"""Of a file that was not fetched yet."""

_URL: Final = ("http://", "https://")
_COMMIT: Final = re.compile(r"[0-9a-f]{7,40}")
_FOLDERS: Final = ("", ".", "..")


def read_copy(step: FromContext, context: BuildContext, drafting: Drafting) -> CopyLock:
    """The draft of a COPY or an ADD. Raises ImageError."""
    return _Reader(step, context, drafting).draft()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Destination:
    """`into`: it is a folder whatever is there."""

    path: str
    into: bool


class _Reader:
    def __init__(self, step: FromContext, context: BuildContext, drafting: Drafting) -> None:
        self._step = step
        self._context = context
        self._drafting = drafting
        self._expansion = drafting.expansion(step.escape)

    def draft(self) -> CopyLock:
        step, word = self._step, self._expansion.word
        destination = self._destination()
        sources = [word(source) for source in step.sources]
        chmod = None if step.mode is None else check_mode(word(step.mode))
        exclude = tuple(word(pattern) for pattern in step.exclude)
        addresses = {source: address for source in sources if (address := self._address(source)) is not None}
        urls = [source for source in sources if step.unpacks and source.startswith(_URL) and source not in addresses]
        if step.checksum is not None and (len(sources) > 1 or step.texts or not (urls or addresses)):
            raise ImageError("--checksum is for one URL, or one git repository", hint="write an ADD of its own for it")
        texts, names = self._texts(destination, chmod)
        draft = CopyLock(
            sources=tuple(redact_url(s, self._drafting) if s in urls or s in addresses else s for s in sources),
            destination=destination.path,
            layer=UNKNOWN_LAYER,
            into=destination.into,
            owner=None if step.owner is None else word(step.owner),
            chmod=chmod,
            exclude=exclude,
            parents=step.parents,
            stage=step.stage,
            texts=texts,
            secrets=names,
        )
        if step.stage is not None:
            return draft
        patterns = Patterns(exclude, where=self._context.where) if exclude else None
        files: dict[str, CopiedFile] = {}
        for source in (source for source in sources if source not in urls and source not in addresses):
            for found in self._found(source, patterns):
                for file in self._files(found, destination, chmod):
                    # Of two at one path the later one is there.
                    if not (file.is_folder and file.path in files):
                        files[_place_of(file)] = file
        # Archives keep their order: the later one wins, at paths that nobody knows yet.
        ordered = tuple(sorted(files.values(), key=lambda file: "" if file.archive else _place_of(file)))
        return replace(
            draft,
            files=ordered,
            downloads=tuple(self._downloads(urls, destination, chmod)),
            repositories=tuple(self._repository(source, address) for source, address in addresses.items()),
        )

    def _destination(self) -> _Destination:
        written = self._expansion.word(self._step.dest)
        if "\0" in written:
            raise ImageError(f"the destination {written!r} has a NUL character", hint="remove it")
        into = written.endswith("/") or posixpath.basename(written) in _FOLDERS or self._step.parents
        path = posixpath.join("/", self._drafting.working_dir, written)
        return _Destination(path="/" + posixpath.normpath(path).lstrip("/"), into=into)

    # -- files of the context

    def _found(self, source: str, exclude: Patterns | None) -> list[Found]:
        if source.startswith(_URL):
            raise ImageError(f"COPY takes no URL: {source}", hint="write ADD")
        find = self._context.find_with_parents if self._step.parents else self._context.find
        return find(source, exclude=exclude)

    def _files(self, found: Found, destination: _Destination, chmod: str | None) -> Iterator[CopiedFile]:
        unpacks = self._step.unpacks and self._step.unpack is not False
        archive = not found.is_folder and unpacks and is_archive(self._context.folder / found.path)
        above = ""
        if found.is_folder:
            yield CopiedFile(path="", mode=mode_of_new_folder(chmod), source=found.path or None)
        elif not archive and destination.into:
            above = posixpath.basename(found.path)
        for entry in found.entries:
            path = posixpath.join(above, entry.path).rstrip("/")
            in_context = posixpath.join(found.path, entry.path).rstrip("/")
            is_link = entry.target is not None
            yield CopiedFile(
                path=path,
                mode=entry.mode if is_link else changed_mode(entry.mode, chmod, is_folder=entry.is_folder),
                size=entry.size,
                digest=entry.digest,
                target=entry.target,
                source=in_context if in_context != path else None,
                archive=archive,
            )

    # -- files of the Dockerfile, and of the network

    def _texts(self, destination: _Destination, chmod: str | None) -> tuple[tuple[CopiedText, ...], tuple[str, ...]]:
        found: list[CopiedText] = []
        names: set[str] = set()
        for text in self._step.texts:
            redacted = redact(
                text.content, self._drafting.environ, what=f"the text {text.name}", used=self._drafting.used
            )
            names.update(redacted.names)
            content = redacted.text
            if text.expands:
                content = self._drafting.expansion(self._step.escape, without=redacted.names).text(content)
            path = text.name if destination.into else ""
            name = "" if destination.into or text.name == UNNAMED_TEXT else text.name
            mode = changed_mode(0o644, chmod, is_folder=False)
            found.append(CopiedText(path=path, content=content, mode=mode, name=name))
        return tuple(found), tuple(sorted(names))

    def _downloads(self, urls: list[str], destination: _Destination, chmod: str | None) -> Iterator[DownloadedFile]:
        for url in urls:
            name = posixpath.basename(unquote(urlsplit(url).path))
            if destination.into and name in _FOLDERS:
                raise ImageError(f"{url} has no name for a file", hint="name the file in the destination")
            yield DownloadedFile(
                url=redact_url(url, self._drafting),
                path=name if destination.into else "",
                sha256=_checksum(None if self._step.checksum is None else self._expansion.word(self._step.checksum)),
                pinned=self._step.checksum is not None,
                mode=changed_mode(0o600, chmod, is_folder=False),
                archive=self._step.unpack is True,
            )

    def _address(self, source: str) -> GitAddress | None:
        return git_address(source) if self._step.unpacks else None

    def _repository(self, source: str, address: GitAddress) -> FetchedRepository:
        step, word = self._step, self._expansion.word
        redact_url(source, self._drafting)
        if step.keeps_git is not None and address.keeps_git not in (None, step.keeps_git):
            raise ImageError(f"{source} and --keep-git-dir contradict each other", hint="remove one of them")
        checksum = "" if step.checksum is None else word(step.checksum)
        if checksum and not _COMMIT.fullmatch(checksum):
            raise ImageError(f"--checksum={checksum} is not a commit", hint="write 7 to 40 hex digits of the commit")
        if checksum and address.checksum not in ("", checksum):
            raise ImageError(f"{source} and --checksum={checksum} name two commits", hint="remove one of them")
        return FetchedRepository(
            url=address.url,
            sha256=UNKNOWN_HASH,
            wanted=address.wanted,
            checksum=checksum or address.checksum,
            folder=address.folder,
            keeps_git=bool(step.keeps_git if step.keeps_git is not None else address.keeps_git),
            submodules=address.submodules,
        )


def _place_of(file: CopiedFile) -> str:
    """Two files with the same key go to the same place. It is the path, and the name too for an archive, and for a file
    that may go into an existing folder under its own name."""
    if file.archive:
        return f"{file.path}//{file.source}"
    return file.path or f"//{file.own_name}".removesuffix("//")


def redact_url(url: str, drafting: Drafting) -> str:
    """Raises ImageError for a URL with a credential: it could not be fetched by its locked name again."""
    redacted = redact_index(url, drafting.environ, what="the URL of ADD", used=drafting.used)
    if redacted.names:
        raise ImageError(
            f"ADD cannot fetch with the credential {redacted.names[0]}",
            hint="fetch it in a RUN with --mount=type=secret; for a git repository, set GIT_AUTH_TOKEN or use netrc",
        )
    return url


def _checksum(text: str | None) -> str:
    if text is None:
        return UNKNOWN_HASH
    kind, _, digits = text.partition(":")
    if kind != "sha256" or len(digits) != 64 or set(digits) - set("0123456789abcdef"):
        raise ImageError(f"--checksum={text} is not a SHA-256", hint="write --checksum=sha256: and 64 hex digits")
    return digits
