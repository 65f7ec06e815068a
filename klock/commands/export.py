"""`klock export`: the locked environment in the formats of other tools."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from klock.commands.export_kubernetes import kubernetes
from klock.commands.export_squashfs import squashfs
from klock.commands.groups import Group
from klock.commands.options import (
    compression_option,
    frozen_option,
    image_argument,
    offline_option,
    open_project,
    target_option,
    with_progress,
)
from klock.errors import KlockError
from klock.printing import say, show_text
from klock.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Callable

    from klock.lockfile.model import TargetLock
    from klock.session import Session

__all__ = ["export"]


@click.group(cls=Group)
def export() -> None:
    """Write what is locked in the formats of other tools."""


@export.command()
@image_argument
@click.option(
    "-o",
    "--output",
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    help="Write the Dockerfile and the files it copies into this folder. Without -o, print the Dockerfile.",
)
@click.option(
    "--for",
    "form",
    type=click.Choice(["docker", "kubetorch"]),
    default="docker",
    help="Write it for docker and podman, or for kubetorch's Image.from_dockerfile.",
)
@click.option(
    "--bundle", is_flag=True, help="Put all wheels beside the Dockerfile, so that pip needs no network in the build."
)
@frozen_option
@target_option
@offline_option
@with_progress
def dockerfile(
    image: str | None,
    *,
    output: Path | None,
    form: str,
    bundle: bool,
    frozen: bool,
    target: str | None,
    offline: bool,
    progress: Progress,
) -> int:
    """Write a Dockerfile that pins what the lockfile pins, as far as a Dockerfile can.

    It pins the base by digest, packages and files by hash. It cannot pin what shell steps fetch, and says so there.
    """
    from klock.digests import digest_of_bytes
    from klock.export import Form, can_be_named, export_dockerfile, write_context
    from klock.words import counted

    project = open_project(image, offline=offline, progress=progress)
    session, lock = project.session, project.read_lockfile(frozen=frozen)
    locked = session.locked_target(lock, target)
    if output is None and form == Form.DOCKER.value:
        # Said here, before the work is done.
        for part in (locked, *locked.locks_of_stages.values()):
            if not can_be_named(part.base):
                raise _needs_a_folder("those of its base")
    with session.store.in_use():
        exported = export_dockerfile(
            locked,
            image=session.loaded.image,
            lock_digest=digest_of_bytes(session.lockfile.read_bytes()),
            form=Form(form),
            context=session.context,
            bundle=bundle,
        )
        if output is not None:
            write_context(output, exported.text, exported.files)
            say(f"{output} written: Dockerfile and {counted(len(exported.files), 'file')} beside it")
            return 0
    if exported.files:
        raise _needs_a_folder(exported.files[0].path)
    show_text(exported.text)
    return 0


def _needs_a_folder(what: str) -> KlockError:
    return KlockError(
        f"the Dockerfile copies files, such as {what}, so it needs a folder",
        hint="write both into a folder: klock export dockerfile -o DIR",
    )


@export.command()
@click.argument("output", metavar="DIR|FILE.tar", type=click.Path(path_type=Path))
@image_argument
@click.option("--name", metavar="NAME:TAG", help="The name that the image has where it is loaded.")
@compression_option("How to compress the layers of steps; each way gives another digest. Default: gzip.")
@frozen_option
@target_option
@offline_option
@with_progress
def image(
    output: Path,
    image: str | None,
    *,
    name: str | None,
    compression: str,
    frozen: bool,
    target: str | None,
    offline: bool,
    progress: Progress,
) -> int:
    """Write the image that `klock push` pushes as an OCI layout: into a folder, or into an archive.

    podman, docker and skopeo read it. It is an archive if the name ends in .tar.
    """
    from klock.layers.compression import compression_named
    from klock.registry.layout import refuse_output, write_archive, write_folder
    from klock.registry.made import make_image
    from klock.registry.push import refuse_another_digest
    from klock.words import in_bytes

    refuse_output(output)
    project = open_project(image, offline=offline, progress=progress)
    session, lock = project.session, project.read_lockfile(frozen=frozen)
    rule = compression_named(compression)
    with session.store.in_use():
        made = make_image(session.locked_target(lock, target), session.context, rule)
        refuse_another_digest(made, rule.rule)
        write = write_archive if output.suffix == ".tar" else write_folder
        write(made, output, name=None if name is None else _image_name(name))
    say(f"{output} written: {made.lock.target}, {in_bytes(made.size)}, {made.digest}")
    return 0


@export.command()
@image_argument
@click.option(
    "-o",
    "--output",
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(".devcontainer"),
    help="The folder to write into. Default: .devcontainer.",
)
@click.option(
    "--pushed",
    metavar="REGISTRY/NAME",
    help="Use the image that `klock push` pushed there, by its digest. Default: a Dockerfile.",
)
@frozen_option
@target_option
@offline_option
@with_progress
def devcontainer(
    image: str | None,
    *,
    output: Path,
    pushed: str | None,
    frozen: bool,
    target: str | None,
    offline: bool,
    progress: Progress,
) -> int:
    """Write a devcontainer.json, for editors that work in a container of the locked environment.

    With --pushed the editor takes the locked image, to the byte. Else klock writes a Dockerfile beside it, and the
    editor builds that.
    """
    import json

    from klock.digests import digest_of_bytes
    from klock.export import Form, export_dockerfile, write_context
    from klock.export.devcontainer import devcontainer as document_of
    from klock.oci.reference import Reference
    from klock.registry.named import name_by_digest

    if pushed is not None:
        Reference.parse_in_registry(pushed)
    project = open_project(image, offline=offline, progress=progress)
    session, lock = project.session, project.read_lockfile(frozen=frozen)
    locked = session.locked_target(lock, target)
    with session.store.in_use():
        if pushed is None:
            exported = export_dockerfile(
                locked,
                image=session.loaded.image,
                lock_digest=digest_of_bytes(session.lockfile.read_bytes()),
                form=Form.DOCKER,
                context=session.context,
            )
            write_context(output, exported.text, exported.files)
        by_digest = None if pushed is None else name_by_digest(pushed, lock, locked, session.context)
    document = document_of(locked, name=session.loaded.root.name, image=by_digest)
    output.mkdir(parents=True, exist_ok=True)
    (output / "devcontainer.json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    how = f"the image is {by_digest}" if by_digest else "the editor builds the Dockerfile beside it"
    say(f"{output / 'devcontainer.json'} written: {how}")
    return 0


def _image_name(written: str) -> str:
    """A name and a tag, as engines show them. Raises ImageError."""
    from klock.oci.reference import Reference

    reference = Reference.parse(written)
    return f"{reference.registry}/{reference.repository}:{reference.tag or 'latest'}"


def _one_text(name: str, text: str, text_of: Callable[[TargetLock, Session], str]) -> None:
    """Adds `klock export NAME`, which writes one text about a target; `text` is its help."""

    @export.command(name, help=text)
    @image_argument
    @click.option(
        "-o", "--output", metavar="FILE", type=click.Path(dir_okay=False, path_type=Path), help="Without -o, print it."
    )
    @frozen_option
    @target_option
    def write(image: str | None, *, output: Path | None, frozen: bool, target: str | None) -> int:
        project = open_project(image)
        session, lock = project.session, project.read_lockfile(frozen=frozen)
        locked = session.locked_target(lock, target)
        written = text_of(locked, session)
        if output is None:
            show_text(written)
        else:
            output.write_text(written, encoding="utf-8")
            say(f"{output} written: {locked.target}")
        return 0


def _packages(name: str, locked: TargetLock, session: Session) -> str:
    from klock.export.packages import left_out, to_pylock, to_requirements

    text = to_requirements(locked) if name == "requirements.txt" else to_pylock(locked)
    if missing := left_out(locked):
        say(f"not in it: {', '.join(missing)}, which the image copies and installs from there")
    return text


def _bill_of_materials(name: str, locked: TargetLock, session: Session) -> str:
    from klock.provenance.bills import bill_of

    return bill_of(name, locked, session.store, name=session.loaded.root.name)


for _name, _what in (
    ("pylock.toml", "a pylock.toml (PEP 751)"),
    ("requirements.txt", "a requirements.txt for pip and uv"),
):
    _help = f"Write the locked Python packages as {_what}, with their hashes."
    _one_text(_name, _help, partial(_packages, _name))
for _name, _what in (("cyclonedx", "a CycloneDX 1.6 document"), ("spdx", "an SPDX 2.3 document")):
    _help = f"Write what the environment is made of as {_what}: base, packages, downloads, files."
    _one_text(_name, _help, partial(_bill_of_materials, _name))

export.add_command(kubernetes)
export.add_command(squashfs)
