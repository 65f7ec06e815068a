"""A tree made of some .debs and of nothing else, in the workshop: klock unpacks the tools among them, and these,
confined and without network, install all.

As debootstrap and mmdebstrap do it, but no program of this machine takes part, so the same .debs make the same tree
wherever klock runs. What is done here, and in which order, is the recipe: `klock.lockfile.model.DEBIAN_RECIPE`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from klock.debian.apt_in_environment import POLICY, AptInEnvironment, OnOutput, failure
from klock.debian.deb import Deb
from klock.debian.flat_repository import file_name, lay_out
from klock.digests import digest_of_bytes
from klock.errors import EngineError
from klock.fetching.mirrors import DEBIAN_ARCHIVES, Mirrors
from klock.files.placed import PlacedFile
from klock.layers.normalisation import STEP_ENVIRONMENT
from klock.lockfile.model import DebPackage
from klock.store import Store
from klock.targets import Target
from klock.workshop.protocol import Command, Mount, NewBase
from klock.workshop.scratch import scratch_folder

__all__ = ["ENVIRONMENT", "check_architecture", "install_all", "unpack_tools"]

ENVIRONMENT: Final = (
    ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
    ("HOME", "/root"),
)
"""The variables of a base made here."""

_DEBS: Final = "/run/klock/debs"
_SOURCES: Final = """\
Types: deb
URIs: {debian}
Suites: {suites}
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
"""
_MERGED: Final = {"amd64": ("lib32", "lib64", "libx32")}
"""Folders beside bin, sbin and lib that are in /usr, where base-files does not bring the merged layout itself."""

_INSTALL_TOOLS: Final = f"""\
set -eu
cd {_DEBS}
exec dpkg --force-depends --force-confold --force-unsafe-io --install "$@"
"""


def check_architecture(architecture: str) -> None:
    """Raises EngineError, with the way out, when this machine cannot run the programs of such a base."""
    here = Target.of_this_machine()
    emulator = Path(f"/proc/sys/fs/binfmt_misc/qemu-{Target(architecture=architecture).machine}")
    if architecture != here.architecture and not emulator.exists():
        raise EngineError(
            f"this {here.architecture} machine cannot make a Debian base for {architecture}: it cannot run the "
            "base's programs",
            hint="install qemu-user-static, or use a base from a registry",
        )


def unpack_tools(tree: NewBase, tools: Sequence[Deb]) -> None:
    """Makes an empty tree one whose programs run, though nothing in it is installed."""
    names = {tool.package.name for tool in tools}
    architecture = next(tool.package.architecture for tool in tools if tool.package.architecture != "all")
    if "usr-is-merged" in names:
        folders = ("bin", "sbin", "lib", *_MERGED.get(architecture, ()))
        tree.place([PlacedFile(path=f"usr/{name}", mode=0o755) for name in folders], "/")
        tree.place([PlacedFile(path=name, mode=0o777, target=f"usr/{name}") for name in folders], "/")
    by_base_files_first = sorted(tools, key=lambda tool: tool.package.name != "base-files")
    tree.unpack([tool.files for tool in by_base_files_first])


def install_all(
    tree: NewBase,
    suite: str,
    tools: Sequence[Deb],
    debs: Sequence[DebPackage],
    *,
    store: Store,
    on_output: OnOutput | None = None,
) -> None:
    """Installs `debs`, all in the store, in a tree that has nothing but `tools`, unpacked.

    `hostname` and `resolv.conf` are empty, the apt sources are Debian's for the suite, /dev is left to the place. Every
    package counts as installed by hand. Raises StepFailed when a package does not install, which it names.
    """
    architecture = next(deb.architecture for deb in debs if deb.architecture != "all")
    with scratch_folder(store) as folder:
        _place_texts(tree, _texts(suite, architecture), folder)
        _install_tools(tree, suite, tools, folder, store=store, on_output=on_output)
    installed = {tool.package.sha256 for tool in tools}
    others = [deb for deb in debs if deb.sha256 not in installed]
    if others:
        apt = AptInEnvironment(
            workspace=tree,
            environment=dict(ENVIRONMENT),
            store=store,
            mirrors=Mirrors(),
            where=f"making Debian {suite}: ",
        )
        apt.install([deb.name for deb in others], others, on_output=on_output)
    with scratch_folder(store) as folder:
        # Packages may have brought their own.
        _place_texts(tree, {"etc/hostname": "", "etc/resolv.conf": ""}, folder)


def _install_tools(
    tree: NewBase, suite: str, tools: Sequence[Deb], folder: Path, *, store: Store, on_output: OnOutput | None
) -> None:
    request = folder / "debs"
    lay_out([tool.package for tool in tools], request, store=store)
    policy = folder / "policy-rc.d"
    policy.write_text(POLICY)
    policy.chmod(0o755)
    command = Command(
        argv=("/bin/sh", "-c", _INSTALL_TOOLS, "klock", *(file_name(tool.package) for tool in tools)),
        environment={
            **STEP_ENVIRONMENT,
            **dict(ENVIRONMENT),
            "LC_ALL": "C.UTF-8",
            "DEBCONF_NONINTERACTIVE_SEEN": "true",
        },
        mounts=(Mount(source=request, target=_DEBS), Mount(source=policy, target="/usr/sbin/policy-rc.d")),
    )
    done = tree.run(command, on_output=on_output)
    if done.status != 0:
        output = done.output.decode("utf-8", "replace")
        raise failure(f"making Debian {suite}: ", output, program="dpkg", status=done.status)


def _texts(suite: str, architecture: str) -> Mapping[str, str]:
    suites = suite if suite in ("sid", "unstable", "experimental") else f"{suite} {suite}-updates"
    sources = _SOURCES.format(debian=DEBIAN_ARCHIVES["debian"], suites=suites)
    if suites != suite:
        sources += "\n" + _SOURCES.format(debian=DEBIAN_ARCHIVES["debian-security"], suites=f"{suite}-security")
    return {
        "etc/apt/sources.list.d/debian.sources": sources,
        "etc/fstab": "# UNCONFIGURED FSTAB FOR BASE SYSTEM\n",
        "etc/hostname": "",
        "etc/resolv.conf": "",
        "var/lib/dpkg/arch": f"{architecture}\n",
        "var/lib/dpkg/status": "",
    }


def _place_texts(tree: NewBase, texts: Mapping[str, str], folder: Path) -> None:
    files = []
    for number, (path, text) in enumerate(texts.items()):
        source = folder / f"text-{number}"
        source.write_text(text)
        digest = digest_of_bytes(text.encode())
        files.append(PlacedFile(path=path, mode=0o644, source=source, digest=digest))
    tree.place(files, "/")
