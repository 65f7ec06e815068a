"""`klock check`: say what no longer agrees."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from klock.commands.options import engine_option, image_argument, open_project, target_option
from klock.commands.printing import say, show, show_text
from klock.commands.quick import remember_check, remember_check_of_environment
from klock.unchanged.watching import seen

if TYPE_CHECKING:
    from klock.lockfile.model import Lockfile

__all__ = ["check"]


@click.command()
@image_argument
@target_option
@engine_option
@click.option("--env", "with_environment", is_flag=True, help="Also compare the synced environment, file by file.")
@click.option("--deep", is_flag=True, help="Read every file of the environment, also where its stat has not changed.")
@click.option("--container", metavar="NAME", help="Compare this container, started from the synced image.")
@click.option("--moved", is_flag=True, help="Also ask the package indexes what became of the locked files.")
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", help="How to print findings.")
def check(
    image: str | None,
    *,
    target: str | None,
    engine: str | None,
    with_environment: bool,
    deep: bool,
    container: str | None,
    moved: bool,
    form: str,
) -> int:
    """Say where image, lockfile and environment no longer agree. Uses no network without --moved.

    Exit status: 0 when all agree, 1 with findings, 2 when klock cannot compare them.
    """
    project = open_project(image, engine=engine)
    with_environment = with_environment or deep or container is not None
    checked = project.check(environment=with_environment, container=container, moved=moved, target=target, deep=deep)
    watched = seen()
    _say_driver(checked.lockfile)
    if form == "json":
        show_text(json.dumps([finding.to_json() for finding in checked.findings], indent=2) + "\n")
    else:
        for finding in checked.findings:
            show(f"{finding.code.value}: {finding}")
    for hint in checked.hints:
        say(f"hint: {hint}")
    if not checked.agrees:
        from klock.words import counted

        say(counted(len(checked.findings), "finding"))
        return 1
    agree = "image, lockfile and environment agree" if with_environment else "image and lockfile agree"
    if deep:
        agree += ", every file was read"
    say(agree)
    if moved or deep or container is not None or form != "text":
        return 0
    if with_environment:
        remember_check_of_environment(watched, agree, project.session, checked.lockfile, target)
    else:
        remember_check(watched, agree, project.session, checked.lockfile)
    return 0


def _say_driver(lock: Lockfile) -> None:
    """Facts of the machine, which are no findings: the driver, where a target needs one."""
    if all(locked.target.accelerator == "cpu" for locked in lock.targets):
        return
    from klock.gpu.driver import find_driver

    say(f"this machine: {find_driver() or 'no NVIDIA driver'}")
