"""`klock export kubernetes`: the locked image as an object of a cluster."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from klock.commands.options import (
    frozen_option,
    image_option,
    offline_option,
    open_project,
    target_option,
    with_progress,
)
from klock.printing import say, say_note, show_text
from klock.progress import Progress

if TYPE_CHECKING:
    from klock.lockfile.model import TargetLock
    from klock.session import Session

__all__ = ["kubernetes"]


@click.command()
@click.argument("command", nargs=-1, type=click.UNPROCESSED, metavar="[COMMAND]...")
@click.option(
    "--kind",
    type=click.Choice(["Job", "Pod", "Deployment", "JobSet"]),
    required=True,
    help="The kind of object. A JobSet needs its controller in the cluster.",
)
@click.option(
    "--pushed",
    metavar="REGISTRY/NAME",
    required=True,
    help="Where `klock push` pushed the image, or the whole name that it printed.",
)
@image_option
@click.option("--name", metavar="NAME", help="The object's name. Default: the image's name, or the folder's.")
@click.option("--namespace", metavar="NAME", help="The namespace. Default: the one that kubectl uses.")
@click.option("--replicas", type=click.IntRange(min=1), default=1, metavar="N", help="How many pods. Default: 1.")
@click.option(
    "--gpus",
    type=click.IntRange(min=0),
    metavar="N",
    help="GPUs for each pod. Default: 1 for a CUDA target.",
)
@click.option("--secret", metavar="NAME", help="The Secret with the credentials. Default: the name with -secrets.")
@click.option(
    "--pull-secret", metavar="NAME", help="The Secret to pull the image with. Default: the image's docker_secret."
)
@click.option("--check", is_flag=True, help="Compare the files with the lockfile before each pod starts.")
@click.option(
    "-o", "--output", metavar="FILE", type=click.Path(dir_okay=False, path_type=Path), help="Without -o, print it."
)
@frozen_option
@target_option
@offline_option
@with_progress
def kubernetes(
    command: tuple[str, ...],
    *,
    kind: str,
    pushed: str,
    image: str | None,
    name: str | None,
    namespace: str | None,
    replicas: int,
    gpus: int | None,
    secret: str | None,
    pull_secret: str | None,
    check: bool,
    output: Path | None,
    frozen: bool,
    target: str | None,
    offline: bool,
    progress: Progress,
) -> int:
    """Write YAML for Kubernetes that runs the image that `klock push` pushed, by its digest.

    COMMAND takes the place of the image's command; write -- before it. Credentials are named as keys of a Secret.
    """
    from klock.export.kubernetes import Wanted, as_label, kubernetes_object, kubernetes_yaml
    from klock.registry.named import name_by_digest

    project = open_project(image, offline=offline, progress=progress)
    session, lock = project.session, project.read_lockfile(frozen=frozen)
    locked = session.locked_target(lock, target)
    called = name or as_label(session.loaded.image.name or session.loaded.root.name)
    with session.store.in_use():
        by_digest = name_by_digest(pushed, lock, locked, session.context)
        command_to_check = _check(locked, session) if check else None
    wanted = Wanted(
        kind=kind,
        name=called,
        image=by_digest,
        command=command,
        namespace=namespace,
        replicas=replicas,
        gpus=int(locked.target.accelerator != "cpu") if gpus is None else gpus,
        secret=secret or f"{called[:50]}-secrets",
        pull_secret=pull_secret or session.loaded.image.docker_secret,
        check=command_to_check,
    )
    document = kubernetes_object(locked, wanted)
    comments = [f"Written by klock from {session.lockfile.name}: {locked.target}"]
    if names := _secret_names(document):
        made = f"kubectl create secret generic {wanted.secret} --from-literal={names[0]}=..."
        say_note(f"the pods take {', '.join(names)} from the Secret {wanted.secret}: {made}")
    text = kubernetes_yaml(document, comments)
    if output is None:
        show_text(text)
    else:
        output.write_text(text, encoding="utf-8")
        say(f"{output} written: {kind} {called}, {by_digest}")
    return 0


def _check(locked: TargetLock, session: Session) -> list[str]:
    from klock.errors import KlockError
    from klock.fleet.expected import command_to_read, expected_of
    from klock.registry.made import make_missing

    make_missing(locked, session.context)
    command = command_to_read(locked, digest=expected_of(locked, session.workshop).digest)
    if command is None:
        raise KlockError(
            "--check reads the files with the environment's Python, and the lockfile names none",
            hint="leave --check out: the image's digest covers its files; `klock fleet check` compares digests",
        )
    return command


def _secret_names(document: object) -> list[str]:
    """The keys of Secrets that are named anywhere in it."""
    if isinstance(document, dict):
        key = document.get("secretKeyRef")
        found = [key["key"]] if isinstance(key, dict) else []
        return found + [name for value in document.values() for name in _secret_names(value)]
    return [name for value in document for name in _secret_names(value)] if isinstance(document, list) else []
