"""`klock fleet`: many copies of the environment, in the pods of a cluster."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from klock.commands.groups import Group
from klock.commands.options import image_argument, open_project, target_option, with_progress
from klock.errors import KlockError
from klock.printing import say, say_note, show, show_text
from klock.progress import Progress

if TYPE_CHECKING:
    from klock.fleet.checking import CheckedFleet, Locked
    from klock.lockfile.model import Lockfile, TargetLock
    from klock.session import Session

__all__ = ["fleet"]

_SHOWN = 20
"""Findings of a pod that are printed; a pod of another image's files has as many as it has files."""


@click.group(cls=Group)
def fleet() -> None:
    """Compare the copies of an environment that run in a cluster."""


@fleet.command()
@image_argument
@click.option("-l", "--selector", required=True, metavar="LABELS", help="Which pods, as for kubectl: app=moon.")
@click.option("-n", "--namespace", metavar="NAME", help="Their namespace. Default: the one that kubectl uses.")
@click.option("--context", metavar="NAME", help="The cluster, by its context in the kubeconfig.")
@click.option(
    "--container",
    metavar="NAME",
    help="The container to compare. Default: the one called image, kubectl's default, or the only one.",
)
@click.option("--image-only", is_flag=True, help="Compare digests; read no files.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True, max=86400),
    default=300,
    metavar="SECONDS",
    help="The longest time for a pod to read its files. Default: 300.",
)
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", help="How to print it.")
@target_option
@with_progress
def check(
    image: str | None,
    *,
    selector: str,
    namespace: str | None,
    context: str | None,
    container: str | None,
    image_only: bool,
    timeout: float,
    form: str,
    target: str | None,
    progress: Progress,
) -> int:
    """Say which pods do not run what is locked, and which of their files differ.

    Compares the image's digest, the lock that the pod was made from, and every file, which the environment's own Python
    reads in the pod. Exit status: 0 when all agree, 1 with findings, 2 when klock cannot compare them.
    """
    from klock.drift import with_steps
    from klock.fleet.checking import check_fleet
    from klock.fleet.cluster import KubernetesCluster

    session = open_project(image, progress=progress).session
    lock = session.read_lockfile()
    locked = session.locked_target(lock, target)
    cluster = KubernetesCluster(context=context, namespace=namespace)
    with session.store.in_use():
        wanted = _wanted(lock, locked, session, image_only=image_only)
    progress.begin(f"ask the pods of {selector}")
    checked = check_fleet(cluster, selector, wanted, container=container, seconds=timeout)
    progress.done(str(checked.compared))
    found = {pod: with_steps(each, locked, session.context.locations) for pod, each in checked.findings.items()}
    if form == "json":
        document = [{"pod": pod, **finding.to_json()} for pod, each in found.items() for finding in each]
        show_text(json.dumps(document, indent=2) + "\n")
    else:
        for pod, each in found.items():
            for finding in each[:_SHOWN]:
                show(f"{pod}: {finding.code.value}: {finding}")
            if len(each) > _SHOWN:
                show(f"{pod}: and {len(each) - _SHOWN} more; --format json shows all")
    return _said(checked, wanted)


def _said(checked: CheckedFleet, wanted: Locked) -> int:
    from klock.words import counted

    for note in checked.notes:
        say_note(note)
    pods = counted(checked.compared, "pod")
    if checked.findings:
        say(f"{counted(len(checked.findings), 'pod')} of {checked.compared + _silent(checked)} not as locked")
        return 1
    if not checked.compared:
        raise KlockError("no pod could be compared", hint="see the notes above")
    say(f"{pods} run what is locked" + (", every file was read" if wanted.files else ""))
    return 0


def _silent(checked: CheckedFleet) -> int:
    """Pods with findings that could not be compared."""
    from klock.findings import Code

    return sum(all(f.code in (Code.NOT_RUNNING, Code.UNREADABLE) for f in each) for each in checked.findings.values())


def _wanted(lock: Lockfile, locked: TargetLock, session: Session, *, image_only: bool) -> Locked:
    from klock.fleet.checking import Locked
    from klock.fleet.expected import expected_of, image_digests
    from klock.places.layered import why_not_in_store

    expected = None
    if not image_only:
        if locked.interpreter is None:
            say_note("only digests are compared, no files: the lockfile names no Python that could read them")
        elif why := why_not_in_store(locked, session.workshop):
            raise KlockError(f"files cannot be compared: {why}", hint="or compare digests alone: --image-only")
        else:
            expected = expected_of(locked, session.workshop)
    digests = image_digests(lock, locked, session.context)
    if not digests:
        say_note("images are not compared: run `klock lock --image-digest`, or `klock sync`, to know their digest")
    return Locked(
        fingerprint=locked.fingerprint,
        images=digests,
        python=locked.interpreter.path if locked.interpreter else None,
        files=expected,
        leave_out=tuple(pattern for step in locked.steps for pattern in getattr(step, "leave_out", ())),
        working_dir=locked.working_dir,
    )
