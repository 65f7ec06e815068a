"""Fetches conda packages by hash and installs them: their files are placed, and their scripts run without network."""

from __future__ import annotations

import functools
import hashlib
import posixpath
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from klock.conda.archives import Unpacked, unpacked
from klock.conda.layout import Laid, laid_out, python_of, record_of
from klock.errors import FetchError, StepFailed
from klock.files.placed import PlacedFile
from klock.forks import Tally
from klock.lockfile.model import CondaLock, CondaPackage
from klock.steps.at import StepAt
from klock.steps.web import chunks_at
from klock.words import some
from klock.workshop.protocol import Command
from klock.workshop.scratch import scratch_folder

if TYPE_CHECKING:
    from klock.conda.layout import Python
    from klock.steps.context import Context
    from klock.workshop.protocol import Workspace

__all__ = [
    "authorize_from",
    "fetch_packages",
    "install_packages",
    "is_to_be_activated",
    "say_what_differs",
    "scripts_of",
]

_POST_LINK: Final = "bin/.{name}-post-link.sh"
_ACTIVATION: Final = re.compile(r"etc/conda/(?:activate\.d/.*\.sh|env_vars\.d/.*)")
_HISTORY: Final = "conda-meta/history"
_LAST: Final = 2000


def authorize_from(context: Context, urls: Sequence[str]) -> Callable[[str], Mapping[str, str]]:
    """Who klock is to the servers of these channels: netrc says it."""
    from klock.packages.credentials import Credentials, netrc_of

    return Credentials.collect(urls=urls, netrc=netrc_of(context.environ)).headers


def fetch_packages(packages: Sequence[CondaPackage], context: Context) -> None:
    """Makes the store have their archives. Raises FetchError, HashMismatch."""
    from klock.fetching.downloads import Wanted, download

    authorize = authorize_from(context, [package.url for package in packages])
    wanted = [
        Wanted(
            digest=f"sha256:{package.sha256}",
            size=package.size,
            name=package.url,
            open=functools.partial(chunks_at, package.url, context, authorize=authorize),
        )
        for package in packages
    ]
    download(
        wanted, task="fetch conda packages", store=context.store, offline=context.offline, progress=context.progress
    )


def scripts_of(packages: Sequence[CondaPackage], context: Context) -> tuple[str, ...]:
    """The names of those with a post-link script, in the order in which they are installed."""
    tally = Tally("packages", len(packages))

    def has_script(package: CondaPackage, folder: Path) -> bool:
        opened = _opened(package, folder, context)
        tally.add()
        return _POST_LINK.format(name=package.name) in opened.files

    with context.progress.stage("look for scripts", tally), scratch_folder(context.store) as folder:
        return tuple(p.name for number, p in enumerate(packages) if has_script(p, folder / str(number)))


def install_packages(at: StepAt[CondaLock], workspace: Workspace, context: Context) -> None:
    """Raises StepFailed, FetchError, HashMismatch."""
    step = at.step
    fetch_packages(step.packages, context)
    earlier = [s for s in at.before.steps if isinstance(s, CondaLock) and s.prefix == step.prefix]
    everything = [package for each in (*earlier, step) for package in each.packages]
    if step.scripts and workspace.known is not None:
        raise at.failed(
            f": {step.scripts[0]} has a script that must run", hint="lock it on a machine of the target's platform"
        )
    tally = Tally("packages", len(step.packages))
    with context.progress.stage("unpack", tally), scratch_folder(context.store) as folder:
        python = _python(everything, folder, context)
        placed: list[PlacedFile] = []
        by_path: dict[str, tuple[str, PlacedFile]] = {}
        for number, package in enumerate(step.packages):
            opened = _opened(package, folder / f"package-{number}", context)
            try:
                laid = list(laid_out(opened, step.prefix, python))
            except FetchError as error:
                raise at.failed(f": {error.message}", hint=error.hint) from error
            asked = next((spec for spec in step.specs if _is_of(spec, package)), None)
            laid.append(record_of(package, opened, laid, asked=asked))
            if is_to_be_activated(laid):
                context.progress.note(
                    f"{package.name} has a script in etc/conda/activate.d, which does not run: "
                    "set_env_vars can set what it sets"
                )
            files = list(_placed(laid, folder, number))
            say_what_differs(by_path, package, files, context)
            placed += files
            tally.add()
        placed += _placed([_history((*earlier, step))], folder, len(step.packages))
        workspace.place(placed, step.prefix, keep=True)
    for package in step.packages:
        if package.name in step.scripts:
            _run_script(package, at, workspace, context)


def _opened(package: CondaPackage, folder: Path, context: Context) -> Unpacked:
    folder.mkdir()
    archive = context.store.blob_path(f"sha256:{package.sha256}")
    return unpacked(archive, folder, name=package.url.rpartition("/")[2])


def _python(packages: Sequence[CondaPackage], folder: Path, context: Context) -> Python | None:
    found = next((package for package in packages if package.name == "python"), None)
    if found is None:
        return None
    fetch_packages([found], context)
    return python_of(found, _opened(found, folder / "python", context))


def _placed(laid: Sequence[Laid], folder: Path, number: int) -> Iterator[PlacedFile]:
    for index, each in enumerate(laid):
        if each.target is not None or each.is_folder:
            yield PlacedFile(path=each.path, mode=each.mode, target=each.target)
            continue
        source = each.source
        if source is None:
            source = folder / f"made-{number}-{index}"
            source.write_bytes(each.content or b"")
        with source.open("rb") as file:
            digest = f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
        yield PlacedFile(path=each.path, mode=each.mode, source=source, digest=digest)


def is_to_be_activated(laid: Sequence[Laid]) -> bool:
    """Whether conda would set variables for the package when it activates the environment."""
    return any(_ACTIVATION.fullmatch(each.path) for each in laid)


def say_what_differs(
    by_path: dict[str, tuple[str, PlacedFile]], package: CondaPackage, files: Sequence[PlacedFile], context: Context
) -> None:
    """Two packages may have one path: the later one's file is there, as with conda. `by_path` takes note of them."""
    found: dict[str, list[str]] = {}
    for file in files:
        name, before = by_path.get(file.path, (package.name, file))
        if (before.digest, before.target) != (file.digest, file.target):
            found.setdefault(name, []).append(file.path)
        by_path[file.path] = package.name, file
    for name, paths in found.items():
        context.progress.note(f"{name} and {package.name} both have {some(paths)}: that of {package.name} counts")


def _is_of(spec: str, package: CondaPackage) -> bool:
    """Whether the user named it."""
    name = spec.rpartition("::")[2].strip().lower()
    return name.startswith(package.name) and not name[len(package.name) : len(package.name) + 1].strip("=<>!~ [")


def _history(steps: Sequence[CondaLock]) -> Laid:
    """By this file conda knows a folder as an environment, and what its user asked for."""
    lines = []
    for number, step in enumerate(steps, 1):
        lines += [f"==> 2000-01-01 00:00:{number:02d} <==", "# cmd: klock", "# conda version: 24.1.0"]
        for package in step.packages:
            channel, subdir, file = package.url.rsplit("/", 2)
            name = file.removesuffix(".conda").removesuffix(".tar.bz2")
            lines.append(f"+{posixpath.basename(channel)}/{subdir}::{name}")
        lines.append(f"# update specs: {list(step.specs)!r}")
    return Laid(path=_HISTORY, mode=0o644, content="".join(f"{line}\n" for line in lines).encode())


def _run_script(package: CondaPackage, at: StepAt[CondaLock], workspace: Workspace, context: Context) -> None:
    """As conda runs it, but without a network."""
    prefix = at.step.prefix
    script = posixpath.join(prefix, _POST_LINK.format(name=package.name))
    own = {
        "PREFIX": prefix,
        "PKG_NAME": package.name,
        "PKG_VERSION": package.version,
        "PKG_BUILDNUM": package.build.rpartition("_")[2],
        "CONDA_PREFIX": prefix,
    }
    variables = at.open_variables(context.environ)
    path = f"{prefix}/bin:{variables.get('PATH', '')}"
    bash = next((each for each in (f"{prefix}/bin/bash", "/bin/bash") if workspace.read(each) is not None), "/bin/sh")
    completed = workspace.run(
        Command(argv=(bash, script), environment={**variables, **own, "PATH": path}, working_dir=prefix),
        on_output=context.progress.output,
    )
    if completed.status != 0:
        said = completed.output[-_LAST:].decode("utf-8", "replace").strip()
        raise StepFailed(
            f"{at.name}: the post-link script of {package.name} failed with status {completed.status}\n{said}",
            hint="scripts of packages run without a network",
        )
