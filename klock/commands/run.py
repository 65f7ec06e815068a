"""`klock run`: run a command in the environment."""

from __future__ import annotations

import click

from klock.commands.options import (
    engine_option,
    gpus_option,
    offline_option,
    open_project,
    progress_options,
    target_option,
)
from klock.errors import KlockError
from klock.progress import Progress

__all__ = ["run"]


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@click.option("--image", metavar="FILE[:NAME]", help="The image. Default: kimage.py.")
@click.option(
    "-e", "--env", "variables", multiple=True, metavar="NAME=VALUE", help="Set a variable, also for services."
)
@click.option(
    "-m", "--mount", "mounts", multiple=True, metavar="SOURCE:TARGET[:ro]", help="Mount a host file or folder."
)
@click.option("-w", "--workdir", metavar="PATH", help="The working directory. Default: the image's.")
@click.option(
    "--network",
    type=click.Choice(["host", "none"]),
    default="host",
    help="What the command and the services reach: what this machine does, or nothing. Default: host.",
)
@click.option("--no-sync", is_flag=True, help="Do not sync the environment first.")
@click.option("--frozen", is_flag=True, help="Use the lockfile as it is, even if the image has changed.")
@target_option
@engine_option
@gpus_option
@offline_option
@progress_options
def run(
    command: tuple[str, ...],
    *,
    image: str | None,
    variables: tuple[str, ...],
    mounts: tuple[str, ...],
    workdir: str | None,
    network: str,
    no_sync: bool,
    frozen: bool,
    target: str | None,
    engine: str | None,
    gpus: str | None,
    offline: bool,
    progress: Progress,
) -> int:
    """Run COMMAND in the environment, with its variables, working directory and services. Exits with COMMAND's status.

    Without COMMAND it runs the image's own: ENTRYPOINT and CMD. Syncs the environment first, if it does not match the
    lockfile. Write `--` before a command that has options.
    """
    project = open_project(image, offline=offline, progress=progress, engine=engine)
    done = project.run(
        command,
        variables=dict(map(_parse_variable, variables)),
        mounts=mounts,
        working_dir=workdir,
        network=network,
        target=target,
        gpus=gpus,
        sync=not no_sync,
        frozen=frozen,
        takes_over=True,
    )
    return done.returncode


def _parse_variable(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        hint = f'to pass on a variable of your shell: -e {name}="${name}"' if name else "write -e NAME=VALUE"
        raise KlockError(f"--env {text!r} is not NAME=VALUE", hint=hint)
    return name, value
