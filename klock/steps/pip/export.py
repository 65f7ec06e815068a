"""`pip_install` in a Dockerfile: exact versions with their hashes, nothing resolved; what no index has lies beside it.

A package comes from its index under the one hash that is locked, or from its URL. A wheel is shipped in the build
context where that is the only way: it was built from source when locking, its index wants credentials or is reached
without TLS, or the user asked for all of them.
"""

from __future__ import annotations

import ipaddress
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from klock.errors import KlockError
from klock.lockfile.model import LocalProject, LockedPackage, PipLock, WheelArtifact
from klock.packages.fetch import fetch_artifacts
from klock.packages.wheels import wheel_of
from klock.pages.build_context import ContextFile
from klock.pages.page import PLACE, Form, continued
from klock.secrets.userinfo import USERINFO
from klock.steps.at import StepAt
from klock.steps.exporting import Exporting
from klock.steps.pip.credentials import index_credentials

__all__ = ["PIP", "write_pip_step"]

PIP: Final = WheelArtifact(
    name="pip-25.3-py3-none-any.whl",
    url="https://files.pythonhosted.org/packages/44/3c/"
    "d717024885424591d5376220b5e836c2d5293ce2011523c9de23ff7bf068/pip-25.3-py3-none-any.whl",
    size=1778622,
    sha256="9655943313a94722b7774661c21049070f6bbb0a1516bf02f7c8d5d9201514cd",
)
"""What installs packages in an image without pip: run from its wheel, it does not stay. For Python 3.9 and later."""

# What would change the requirements behind the back of the command line, or stop it.
_STEERING: Final = (
    *("PIP_CONSTRAINT", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_NO_BINARY", "PIP_NO_INDEX", "PIP_REQUIREMENT"),
    *("UV_CONSTRAINT", "UV_DEFAULT_INDEX", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS", "UV_INDEX", "UV_INDEX_URL"),
    *("UV_NO_BINARY", "UV_NO_INDEX", "UV_OVERRIDE"),
)
_LIST: Final = "/tmp/klock-requirements.txt"
_BUILD: Final = "/tmp/klock-build"


def write_pip_step(at: StepAt[PipLock], exporting: Exporting) -> None:
    """Adds the step. Raises FetchError for a wheel that cannot be had, KlockError for one that must be built first."""
    page, lock, step = exporting.page, at.lock, at.step
    if lock.interpreter is None or not (step.packages or step.projects):
        return
    packages = lock.packages_by_pin
    wanted = [packages[pin] for pin in step.packages]
    builders = [packages[pin] for project in step.projects for pin in project.build]
    private = _private_origins(at)
    all_shipped = exporting.bundle or bool(step.files and step.secrets)
    shipped = [
        package for package in dict.fromkeys([*wanted, *builders]) if all_shipped or _must_ship(package, private)
    ]
    page.become("")
    _ship(at, shipped, exporting)
    installer = _Installer(at, exporting, shipped)
    commands = installer.install(wanted, ["--force-reinstall"] if step.force else [])
    for project in step.projects:
        commands += installer.install_project(project, [packages[pin] for pin in project.build])
    commands.append(f"rm -f {_LIST}")
    if page.form is Form.DOCKER and any(file.path.startswith(f"{at.folder}/") for file in page.files):
        commands.append(f"rm -r {PLACE}")
    page.run(continued([commands[0], *(f" && {command}" for command in commands[1:])]))


class _Installer:
    """Shell commands that install packages for the interpreter of a lock."""

    def __init__(self, at: StepAt[PipLock], exporting: Exporting, shipped: Sequence[LockedPackage]) -> None:
        page, context, interpreter = exporting.page, exporting.context, at.lock.interpreter
        assert interpreter is not None
        self._wheels = f"{PLACE}/{at.folder}/wheels"
        self._shipped = frozenset(package.pin for package in shipped)
        python = shlex.quote(interpreter.path)
        if page.form is Form.KUBETORCH:
            pip = f"${{KT_PIP_INSTALL_CMD:-{python} -m pip install}}"
        elif _has_pip(at):
            pip = f"{python} -m pip install"
        else:
            fetch_artifacts(
                [PIP],
                store=context.store,
                credentials=index_credentials([at], context),
                offline=context.offline,
                progress=context.progress,
            )
            blob = f"sha256:{PIP.sha256}"
            file = ContextFile(path=f"{at.folder}/{PIP.name}", source=context.store.find_blob(blob), digest=blob)
            page.copy_file(file, f"{PLACE}/{file.path}")
            pip = f"{python} {PLACE}/{file.path}/pip install"
        unset = "".join(f" -u {name}" for name in sorted(at.before.environment.keys() & set(_STEERING)))
        self._pip = f"env{unset} PIP_BREAK_SYSTEM_PACKAGES=1 {pip}"

    def install(self, packages: Sequence[LockedPackage], options: Sequence[str] = ()) -> list[str]:
        """Installs exactly these, whatever they depend on. One command for each place they come from."""
        groups: dict[tuple[str, ...], list[str]] = {}
        for package in packages:
            source, requirement = self._requirement(package)
            groups.setdefault(source, []).append(f"{requirement} --hash=sha256:{wheel_of(package).sha256}")
        commands = []
        for source, lines in groups.items():
            commands.append(
                continued(["printf '%s\\n'", *(f"      {shlex.quote(line)}" for line in lines), f"      > {_LIST}"])
            )
            words = ["--no-deps", "--require-hashes", *options, *source, "-r", _LIST]
            commands.append(f"{self._pip} {shlex.join(words)}")
        return commands

    def _requirement(self, package: LockedPackage) -> tuple[tuple[str, ...], str]:
        """Options that say where the package comes from, and how it is named there."""
        wheel = wheel_of(package)
        if package.pin in self._shipped:
            return ("--no-index", "--find-links", self._wheels), package.pin
        if package.index is None or not _is_simple(package.index):
            return ("--no-index",), f"{package.name} @ {wheel.url}"
        return ("--index-url", package.index), package.pin

    def install_project(self, project: LocalProject, build: Sequence[LockedPackage]) -> list[str]:
        """Builds a project of the image with what is locked to build it, and installs it."""
        path = shlex.quote(project.path)
        words = "--no-deps --no-index --no-build-isolation"
        install = f"{self._pip} {words} {'-e ' if project.editable else ''}{path}"
        if not build:
            return [install]
        return [
            *self.install(build, ["--target", _BUILD]),
            f'PYTHONPATH={_BUILD} PATH="{_BUILD}/bin:$PATH" {install}',
            f"rm -r {_BUILD}",
        ]


def _has_pip(at: StepAt[PipLock]) -> bool:
    assert at.lock.interpreter is not None
    earlier = [step for step in at.before.steps if isinstance(step, PipLock)]
    installed = {pin.partition("==")[0] for step in earlier for pin in step.packages}
    return "pip" in installed or any(found.name == "pip" for found in at.lock.interpreter.distributions)


def _is_simple(index: str) -> bool:
    """Whether it is an index in pip's sense (PEP 503), and not a page or folder of links."""
    return urlsplit(index).scheme in ("http", "https") and not index.endswith((".html", ".htm"))


def _private_origins(at: StepAt[PipLock]) -> frozenset[str]:
    """Of the indexes that the step or its variables name: those that credentials are given for."""
    texts = list(at.step.requirements) if at.step.secrets else []
    texts += [variable.value for variable in at.before.variables if variable.secrets]
    return frozenset(_origin(text[match.start() :]) for text in texts for match in USERINFO.finditer(text))


def _origin(url: str) -> str:
    scheme, _, rest = url.partition("://")
    host = rest.partition("@")[2] if "@" in rest.split("/")[0] else rest
    return f"{scheme}://{host.split('/')[0].split()[0].strip(chr(34) + chr(39))}".lower()


def _must_ship(package: LockedPackage, private: Iterable[str]) -> bool:
    artifact = package.artifact
    if not isinstance(artifact, WheelArtifact):
        return True
    if artifact.url.startswith("file:"):
        return False
    urls = [artifact.url, *([package.index] if package.index else [])]
    return any(_origin(url) in private or _is_open(url) for url in urls)


def _is_open(url: str) -> bool:
    """Plain http to another machine, which installers refuse."""
    parts = urlsplit(url)
    if parts.scheme != "http" or parts.hostname == "localhost":
        return False
    try:
        return not ipaddress.ip_address(parts.hostname or "").is_loopback
    except ValueError:
        return True


def _ship(at: StepAt[PipLock], packages: Sequence[LockedPackage], exporting: Exporting) -> None:
    if not packages:
        return
    page, context, folder = exporting.page, exporting.context, at.folder
    for package in packages:
        built = not isinstance(package.artifact, WheelArtifact)
        if built and context.store.find_blob(f"sha256:{wheel_of(package).sha256}") is None:
            raise KlockError(
                f"{page.where}: the wheel of {package.pin}, built from source, is not on this machine",
                hint="run `klock sync`, which builds it, and export again",
            )
    fetch_artifacts(
        [wheel_of(package) for package in packages],
        store=context.store,
        credentials=index_credentials([at], context),
        of=packages,
        offline=context.offline,
        progress=context.progress,
    )
    wheels = [wheel_of(package) for package in packages]
    files = [
        ContextFile(
            path=f"{folder}/wheels/{wheel.name}",
            source=context.store.find_blob(f"sha256:{wheel.sha256}") or Path(wheel.name),
            digest=f"sha256:{wheel.sha256}",
        )
        for wheel in wheels
    ]
    page.copy_folder(files, f"{folder}/wheels", f"{PLACE}/{folder}/wheels")
