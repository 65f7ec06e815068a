"""What the indexes say today of locked files: yanked since (PEP 592), gone, or with other bytes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from klock.asking import Asker
from klock.errors import KlockError
from klock.findings import Code, Finding
from klock.lockfile.model import LockedPackage, PipLock, SdistArtifact, WheelArtifact
from klock.packages.credentials import Credentials
from klock.packages.index_pages import IndexPages, PageFile
from klock.packages.indexes import Index
from klock.steps.at import StepAt
from klock.steps.context import Context
from klock.steps.pip.behind import packages_behind
from klock.steps.pip.credentials import index_credentials

__all__ = ["has_page", "index_of", "moved_files"]


def moved_files(at: StepAt[PipLock], context: Context, asker: Asker) -> Iterator[Finding]:
    """Findings without step and location. What an index does not say is noted."""
    credentials = index_credentials([at], context)
    pages = IndexPages(credentials=credentials, list_folder=lambda _: [], offline=context.offline, asker=asker)

    def judge(package: LockedPackage) -> Finding | None:
        if has_page(package):
            return _judge(package, pages.files(index_of(package), package.name) or ())
        return _judge_direct(package, credentials, asker)

    for found in asker.each(judge, packages_behind(at)):
        if isinstance(found, KlockError):
            asker.note(found.message)
        elif found is not None:
            yield found


def has_page(package: LockedPackage) -> bool:
    """Whether it is from an index that has a page of it."""
    is_file = isinstance(package.artifact, WheelArtifact | SdistArtifact)
    return is_file and package.index is not None and not package.index.startswith("file:")


def index_of(package: LockedPackage) -> Index:
    """The lockfile has an index's URL, and not its kind. Only a page of links is a document."""
    url = package.index or ""
    return Index(url=url, flat=url.endswith((".html", ".htm")))


def _judge_direct(package: LockedPackage, credentials: Credentials, asker: Asker) -> Finding | None:
    """Of a file that the image names by its URL."""
    artifact = package.artifact
    if not isinstance(artifact, WheelArtifact | SdistArtifact) or not artifact.url.startswith(("http:", "https:")):
        return None
    answer = asker.ask(artifact.url, credentials.headers(artifact.url), method="HEAD")
    what = f"{package.name} {package.version}: {artifact.url}"
    if answer.status in (404, 410):
        return Finding(code=Code.GONE, message=f"{what} is no longer there", expected=artifact.sha256)
    length = answer.headers.get("content-length", "")
    if answer.status == 200 and length.isdecimal() and int(length) != artifact.size:
        words = f"{what} has {length} bytes now, {artifact.size} are locked"
        return Finding(code=Code.OTHER_FILE, message=words, expected=artifact.sha256)
    return None


def _judge(package: LockedPackage, files: Sequence[PageFile]) -> Finding | None:
    artifact = package.artifact
    assert isinstance(artifact, WheelArtifact | SdistArtifact)
    file = next((file for file in files if file.name == artifact.name), None)
    what = f"{package.name} {package.version}: {artifact.name}"
    if file is None:
        message = f"{what} is no longer in {package.index}"
        return Finding(code=Code.GONE, message=message, expected=artifact.sha256)
    if file.sha256 not in (None, artifact.sha256):
        message = f"{what} has other bytes in {package.index} now"
        return Finding(code=Code.OTHER_FILE, message=message, expected=artifact.sha256, found=file.sha256)
    if file.yanked is not None:
        because = f": {file.yanked}" if file.yanked else ""
        return Finding(code=Code.YANKED, message=f"{what} was yanked from {package.index}{because}")
    return None
