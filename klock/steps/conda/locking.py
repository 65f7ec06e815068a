"""Which packages a conda step installs: those of the lockfile before, or those that the channels' lists give now."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from packaging.utils import canonicalize_name

from klock.conda.channels import LISTS, channel_urls, resolved_spec, subdirs
from klock.conda.solving import Listed, solve
from klock.errors import CredentialError, FetchError, ImageError, KlockError, ResolutionError
from klock.extras import missing_extra_hint
from klock.image.steps import CondaInstall
from klock.lockfile.model import CondaLock, TargetLock
from klock.secrets.references import refuse_literals
from klock.steps.conda.packages import authorize_from, fetch_packages, scripts_of
from klock.steps.python.locking import libc_of
from klock.steps.web import NotFound, chunks_at
from klock.temporary import temporary_folder
from klock.words import in_bytes

if TYPE_CHECKING:
    from klock.steps.context import Context
    from klock.steps.locking import Locking
    from klock.workshop.protocol import Workspace

__all__ = ["lock_conda", "refuse_credentials", "resolved_channels"]

_ALIAS: Final = "CONDA_CHANNEL_ALIAS"
"""As conda has it: what stands before the names of channels."""
_GLIBC: Final = re.compile(rb"GNU C Library [^\n\0]*version (\d+\.\d+)")
_LIBRARIES: Final = ("/lib/*/libc.so.6", "/usr/lib/*/libc.so.6", "/lib64/libc.so.6", "/usr/lib64/libc.so.6")
_TOKEN: Final = re.compile(r"https?://[^/]+/t/[^/]+/")
"""As anaconda.org has it."""
_NETRC: Final = "write it into ~/.netrc, where klock reads the credentials of channels"


def refuse_credentials(step: CondaInstall) -> None:
    """Raises CredentialError for a channel with a credential, or with the name of one: netrc has those."""
    for text in (*step.channels, *step.specs):
        _refuse_credential(text, what="conda_install")
        if "${" in text:
            raise CredentialError(f"conda_install takes no variables: {text}", hint=_NETRC)


def _refuse_credential(text: str, *, what: str) -> None:
    try:
        refuse_literals(text, what=what)
    except CredentialError as error:
        raise CredentialError(error.message, hint=_NETRC) from error
    if _TOKEN.search(text):
        raise CredentialError(f"{what} has a credential written into it: a channel's token", hint=_NETRC)


def lock_conda(draft: CondaLock, locking: Locking) -> CondaLock:
    """The draft with its packages. Raises ResolutionError, FetchError, ImageError."""
    context, upgrade = locking.context, locking.upgrade
    earlier = [step for step in locking.lock.steps if isinstance(step, CondaLock) and step.prefix == draft.prefix]
    before = [step for step in locking.previous_steps if isinstance(step, CondaLock) and step.prefix == draft.prefix]
    same = next((step for step in before if _question(step) == _question(draft)), None)
    names = {canonicalize_name(package.name) for step in before for package in step.packages}
    moves = upgrade.everything or not names.isdisjoint(upgrade.packages)
    if same is not None and not moves and _follows(same, earlier, before):
        return replace(same, layer=draft.layer, variables=draft.variables)
    with locking.workspace() as workspace:
        if not earlier:
            _refuse_what_is_there(draft, workspace, locking)
        virtual = _system(workspace, locking.lock)
    if context.offline:
        raise FetchError(
            f"{locking.at(draft).name}: its packages are not locked yet, and klock is offline",
            hint="run it without --offline",
        )
    preferred = [
        package.url
        for step in before
        for package in step.packages
        if not upgrade.everything and canonicalize_name(package.name) not in upgrade.packages
    ]
    installed = [package.url for step in earlier for package in step.packages]
    specs, channels = resolved_channels(draft, context.environ)
    with _lists(channels, locking) as lists:
        try:
            with context.progress.stage("choose packages"):
                found = solve(specs, lists, virtual=virtual, preferred=preferred, installed=installed)
        except ResolutionError as error:
            raise ResolutionError(f"{locking.at(draft).name}: {error.message}", hint=error.hint) from error
    packages = tuple(package for package in found if package.url not in installed)
    fetch_packages(packages, context)
    return replace(draft, packages=packages, scripts=scripts_of(packages, context))


def _question(step: CondaLock) -> tuple[object, ...]:
    return step.specs, step.channels, step.prefix


def _follows(same: CondaLock, earlier: list[CondaLock], before: list[CondaLock]) -> bool:
    """Whether the steps before it install what they did."""
    return [step.packages for step in earlier] == [step.packages for step in before[: before.index(same)]]


def _refuse_what_is_there(draft: CondaLock, workspace: Workspace, locking: Locking) -> None:
    if workspace.read_matching((f"{draft.prefix}/conda-meta/*.json",)):
        raise ImageError(
            f"{locking.at(draft).name}: {draft.prefix} is an environment of the base, with packages klock did not lock",
            hint='choose another place: prefix="/opt/env"; or use run_bash("conda install ...")',
        )


def _system(workspace: Workspace, lock: TargetLock) -> Mapping[str, str]:
    """Conda's virtual packages (CEP 30): what the system has that packages ask for."""
    found = {"__unix": "0", "__linux": "0", "__archspec": f"1={lock.target.machine}"}
    if libc_of(workspace) == "gnu":
        libraries = [path for pattern in _LIBRARIES for path in workspace.read_matching((pattern,))]
        versions = (version for path in libraries if (version := _version(workspace, path)))
        found["__glibc"] = next(versions, "2.17")
    if lock.target.accelerator.startswith("cuda"):
        found["__cuda"] = lock.target.accelerator.removeprefix("cuda")
    return found


def _version(workspace: Workspace, path: str) -> str | None:
    match = _GLIBC.search(workspace.read(path) or b"")
    return None if match is None else match[1].decode("ascii")


def resolved_channels(draft: CondaLock, environ: Mapping[str, str]) -> tuple[list[str], list[str]]:
    """The specifications with their channels' URLs, and the URLs of all channels: the step's, then those.

    Raises CredentialError for an alias of channels with a credential.
    """
    alias = environ.get(_ALIAS, "")
    _refuse_credential(f"{alias}/", what=_ALIAS)  # it becomes a part of URLs in the lockfile
    specs = [resolved_spec(spec, alias=alias) for spec in draft.specs]
    urls = [url for channel in draft.channels for url in channel_urls(channel, alias=alias)]
    return [spec for spec, _ in specs], list(dict.fromkeys([*urls, *(url for _, url in specs if url is not None)]))


@contextmanager
def _lists(channels: Sequence[str], locking: Locking) -> Iterator[list[Listed]]:
    """The lists of the channels at these URLs. One that has a list for one of the two platforms may have none for the
    other. Raises FetchError."""
    context = locking.context
    authorize = authorize_from(context, channels)
    with temporary_folder("conda") as folder:
        found: list[Listed] = []
        for url in channels:
            before = len(found)
            for subdir in subdirs(locking.lock.target):
                file = folder / str(len(found))
                if _fetched(f"{url}/{subdir}", file, context, authorize):
                    found.append(Listed(channel=url, subdir=subdir, file=file))
            if len(found) == before:
                names = " and ".join(subdirs(locking.lock.target))
                raise FetchError(
                    f"the channel {url} has no list of packages for {names}", hint="check the channel's name or URL"
                )
        yield found


def _fetched(url: str, file: Path, context: Context, authorize: Callable[[str], Mapping[str, str]]) -> bool:
    """Whether there is a list, which is then in `file`."""
    for name in LISTS:
        context.progress.begin(f"read {url}/{name}")
        try:
            chunks = _watched(chunks_at(f"{url}/{name}", context, authorize=authorize), context)
            size = _write(_decompressed(chunks) if name.endswith(".zst") else chunks, file)
        except NotFound:
            context.progress.done("not there")
            continue
        context.progress.done(in_bytes(size))
        return True
    return False


def _watched(chunks: Iterator[bytes], context: Context) -> Iterator[bytes]:
    for chunk in chunks:
        context.progress.advance(len(chunk))
        yield chunk


def _decompressed(chunks: Iterator[bytes]) -> Iterator[bytes]:
    try:
        import zstandard
    except ImportError as error:
        hint = missing_extra_hint("conda")
        raise KlockError("to read lists of conda packages, klock needs zstandard", hint=hint) from error
    unpack = zstandard.ZstdDecompressor().decompressobj(read_across_frames=True)
    try:
        for chunk in chunks:
            yield unpack.decompress(chunk)
    except zstandard.ZstdError as error:
        raise FetchError(f"a list of conda packages is broken: {error}", hint="try again later") from error


def _write(chunks: Iterator[bytes], file: Path) -> int:
    size = 0
    with file.open("wb") as opened:
        for chunk in chunks:
            size += len(chunk)
            opened.write(chunk)
    return size
