"""`klock check`: say what no longer agrees."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from klock.commands.session import engine_option, image_argument, open_session, target_option
from klock.errors import KlockError
from klock.unchanged.watching import seen

if TYPE_CHECKING:
    from klock.lockfile.model import Lockfile

__all__ = ["check"]


@click.command()
@image_argument
@target_option
@engine_option
@click.option("--env", "with_environment", is_flag=True, help="Also compare the synced environment, file by file.")
@click.option("--container", metavar="NAME", help="Compare a container that was started from the environment's image.")
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", help="How findings are printed.")
def check(
    image: str | None,
    *,
    target: str | None,
    engine: str | None,
    with_environment: bool,
    container: str | None,
    form: str,
) -> int:
    """Say where image, lockfile and environment no longer agree. Uses no network.

    Exit status: 0 when all agree, 1 with findings, 2 when that cannot be told.
    """
    from klock.commands.judge import hint_for_credentials, line_of, stale_findings
    from klock.words import counted

    session = open_session(image, engine=engine)
    lock = session.read_lockfile()
    findings = stale_findings(session, lock)
    watched = seen()
    with_environment = with_environment or container is not None
    drifted = False  # in its files
    if with_environment:
        locked = session.locked_target(lock, target)
        session = session.with_engine(locked)
        if container is not None and session.engine.name not in ("podman", "docker"):
            raise KlockError(
                "--container names a container of podman or docker", hint="say which: --engine podman --container NAME"
            )
        from klock.commands.compare import drift_findings

        drift = drift_findings(session, locked, container)
        drifted = any(finding.code.is_about_files for finding in drift)
        findings += drift
    _say_driver(lock)
    if form == "json":
        click.echo(json.dumps([finding.to_json() for finding in findings], indent=2))
    else:
        for finding in findings:
            click.echo(f"{finding.code.value}: {line_of(finding)}")
    if drifted and container is None:
        from klock.commands.compare import store_is_damaged

        if store_is_damaged(session, locked):
            words = "nothing was written to the environment, so the store was: klock cache clean, klock sync"
            click.echo(f"hint: {words}", err=True)
    if findings:
        if hint := hint_for_credentials(session, lock):
            click.echo(f"hint: {hint}", err=True)
        click.echo(counted(len(findings), "finding"), err=True)
        return 1
    agree = "image, lockfile and environment agree" if with_environment else "image and lockfile agree"
    click.echo(agree, err=True)
    if watched is not None and not with_environment and form == "text":
        from klock.unchanged.remembering import looked

        if looked_at := looked(watched, loaded=session.loaded, lock=lock, store=session.store):
            looked_at.remember(agree)
    return 0


def _say_driver(lock: Lockfile) -> None:
    """Facts of the machine, which are no findings: the driver, where a target needs one."""
    if all(locked.target.accelerator == "cpu" for locked in lock.targets):
        return
    from klock.gpu.driver import find_driver

    click.echo(f"this machine: {find_driver() or 'no NVIDIA driver'}", err=True)
