"""`klock check`: say what no longer agrees."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from klock.commands.options import engine_option, image_argument, open_project, target_option, timeout_option, was_given
from klock.commands.quick import remember_check, remember_check_of_environment
from klock.printing import say, say_note, show, show_text
from klock.unchanged.watching import seen

if TYPE_CHECKING:
    from klock.lockfile.model import Lockfile
    from klock.outcomes import Checked
    from klock.session import Session

__all__ = ["check"]

_KINDS = ("stale", "moved", "drift", "unsafe", "policy")


@click.command()
@image_argument
@target_option
@engine_option
@click.option("--env", "with_environment", is_flag=True, help="Also compare the synced environment, file by file.")
@click.option("--deep", is_flag=True, help="Read every file of the environment, even if its stat has not changed.")
@click.option(
    "--trust-store",
    is_flag=True,
    help="Compare only what was written to the environment; trust the layers in the store.",
)
@click.option("--container", metavar="NAME", help="Compare this container, started from the synced image.")
@click.option("--upstream", is_flag=True, help="Also compare the lockfile with upstream.")
@click.option("--moved", "upstream", is_flag=True, hidden=True)
@click.option(
    "--vault",
    metavar="DIR|ADDRESS",
    help="With --upstream: a vault that may have what upstream no longer has.",
)
@click.option(
    "--advisories",
    metavar="DIR",
    type=click.Path(exists=True, file_okay=False),
    help="Also look for locked packages in this folder of advisories (OSV format). Uses no network.",
)
@timeout_option
@click.option(
    "--fail-on",
    metavar="KINDS",
    callback=lambda _, __, text: _kinds(text),
    help="Exit with 1 for findings of these kinds only, such as stale,drift. Kinds: "
    "stale, moved, drift, unsafe, policy. Default: all.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json", "sarif", "github", "junit"]),
    default="text",
    help="How to print findings.",
)
def check(
    image: str | None,
    *,
    target: str | None,
    engine: str | None,
    with_environment: bool,
    deep: bool,
    trust_store: bool,
    container: str | None,
    upstream: bool,
    vault: str | None,
    advisories: str | None,
    timeout: float,
    fail_on: frozenset[str],
    form: str,
) -> int:
    """Say where image, lockfile and environment no longer agree. Uses no network without --upstream.

    Exit status: 0 when all agree, 1 with findings (of --fail-on), 2 when klock cannot compare them.
    """
    if vault is not None and not upstream:
        raise click.UsageError("--vault is for --upstream: add --upstream, or see `klock vault check`")
    if not upstream and was_given("timeout"):
        raise click.UsageError("--timeout is for --upstream: add --upstream")
    from klock.commands.terminal import progress_on_terminal
    from klock.commands.wishes import wanted

    with_environment = with_environment or deep or trust_store or container is not None
    with progress_on_terminal(quiet=wanted().quiet > 0) as progress:
        project = open_project(image, engine=engine, progress=progress)
        checked = project.check(
            environment=with_environment,
            container=container,
            upstream=upstream,
            vault=vault,
            advisories=advisories,
            seconds=timeout,
            target=target,
            deep=deep,
            trust_store=trust_store,
        )
    watched = seen()
    also = {"moved": upstream, "drift": with_environment, "unsafe": upstream or advisories is not None}
    compared = ["stale", *(kind for kind, was_compared in also.items() if was_compared)]
    _say_driver(checked.lockfile)
    if form == "text":
        for finding in checked.findings:
            show(f"{finding.code.value}: {finding}")
    elif form == "json":
        show_text(json.dumps([finding.to_json() for finding in checked.findings], indent=2) + "\n")
    else:
        _report(form, checked, project.session, fail_on, compared)
    for note in checked.notes:
        say_note(note)
    for hint in checked.hints:
        say(f"hint: {hint}")
    if not checked.agrees:
        from klock.words import counted

        fails = any(finding.code.kind in fail_on for finding in checked.findings)
        harmless = "" if fails else f", none of a kind that fails: {', '.join(k for k in _KINDS if k in fail_on)}"
        say(f"{counted(len(checked.findings), 'finding')}{harmless}")
        return int(fails)
    agree = "image, lockfile and environment agree" if with_environment else "image and lockfile agree"
    if upstream:
        agree += ", and so does upstream" if not checked.notes else ", and so does upstream, as far as it was asked"
    if deep:
        agree += ", every file was read"
    if trust_store:
        agree += ", if the store is unchanged"
    say(agree)
    if upstream or advisories is not None or deep or container is not None or form != "text":
        return 0
    if with_environment:
        remember_check_of_environment(
            watched, agree, project.session, checked.lockfile, target, trust_store=trust_store
        )
    else:
        remember_check(watched, agree, project.session, checked.lockfile)
    return 0


def _kinds(text: str | None) -> frozenset[str]:
    if text is None:
        return frozenset(_KINDS)
    chosen = frozenset(word.strip() for word in text.split(",") if word.strip())
    if not chosen or not chosen <= set(_KINDS):
        known = ", ".join(_KINDS)
        raise click.BadParameter(f"{text!r} is not a list of kinds: write one or more of {known}, with commas between")
    return chosen


def _report(form: str, checked: Checked, session: Session, fatal: frozenset[str], compared: list[str]) -> None:
    """In a format of others."""
    from klock.reports.places import Checks, Places

    compared += sorted({finding.code.kind for finding in checked.findings} - set(compared))
    checks = Checks(compared=compared, findings=checked.findings, fatal=fatal)
    places = Places(folder=session.loaded.root, lockfile=session.lockfile)
    if form == "sarif":
        from klock.reports.sarif import sarif
        from klock.version import __version__

        show_text(json.dumps(sarif(checks, places, version=__version__), indent=2) + "\n")
    elif form == "junit":
        from klock.reports.junit import junit

        show_text(junit(checks, places))
    else:
        from klock.reports.github import lines_of_annotations

        for line in lines_of_annotations(checks, places):
            show(line)


def _say_driver(lock: Lockfile) -> None:
    """Facts of the machine, which are not findings: the driver, where a target needs one."""
    if all(locked.target.accelerator == "cpu" for locked in lock.targets):
        return
    from klock.gpu.driver import find_driver

    say(f"this machine: {find_driver() or 'no NVIDIA driver'}")
