"""The arguments and options that verbs share, and the objects they become."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from klock.commands.opening import open_project
from klock.completing import images, names

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

__all__ = [
    "compression_option",
    "engine_option",
    "frozen_option",
    "gpus_option",
    "image_argument",
    "image_option",
    "locked_name_argument",
    "offline_option",
    "open_project",
    "target_option",
    "timeout_option",
    "with_progress",
]

F = TypeVar("F", bound=Callable[..., Any])


def image_argument(command: F) -> F:
    complete = _completing(images)
    return click.argument("image", required=False, metavar="[FILE[:NAME]]", shell_complete=complete)(command)


def image_option(command: F) -> F:
    text = "The image. Default: the project's."
    return click.option("--image", metavar="FILE[:NAME]", help=text, shell_complete=_completing(images))(command)


def locked_name_argument(parameter: str, *, verb: str, **attributes: Any) -> Callable[[F], F]:
    """An argument that Tab completes from the lockfile."""
    return click.argument(parameter, shell_complete=_completing(lambda: names(verb)), **attributes)


def _completing(values: Callable[[], Sequence[str]]) -> Callable[..., list[CompletionItem]]:
    def complete(ctx: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem

        found = [CompletionItem(value) for value in values() if value.startswith(begun)]
        return found or [CompletionItem(begun, type="file")]

    return complete


def target_option(command: F) -> F:
    return click.option(
        "--target", metavar="TARGET", help="A target, such as linux/amd64/cpu. Default: this machine's."
    )(command)


def frozen_option(command: F) -> F:
    text = "Use the lockfile as it is, even if the image has changed."
    return click.option("--frozen", is_flag=True, help=text)(command)


def compression_option(text: str) -> Callable[[F], F]:
    """How an image is compressed; `text` says what that changes."""
    forms = ["gzip", "zstd", "none"]
    return click.option("--compression", metavar="|".join(forms), type=click.Choice(forms), default="gzip", help=text)


def engine_option(command: F) -> F:
    from klock.places import DEFAULT, PLACES

    text = f"Where the environment lives. Default: $KLOCK_ENGINE, [tool.klock], the engine that has it, or {DEFAULT}."
    here = "Use the container that klock runs in; the same as --engine here."
    command = click.option("--here", "engine", flag_value="here", help=here)(command)
    return click.option("--engine", type=click.Choice(PLACES), help=text)(command)


def gpus_option(command: F) -> F:
    text = "GPUs to use: all, a number, none, or CDI device names. Default: all for a CUDA target."
    return click.option("--gpus", metavar="all|N|none|NAME", help=text)(command)


def timeout_option(command: F) -> F:
    text = "The longest time to ask upstream. A note says what could not be asked. Default: 60."
    kind = click.FloatRange(min=0, min_open=True, max=86400)
    return click.option("--timeout", type=kind, default=60, metavar="SECONDS", help=text)(command)


def was_given(parameter: str) -> bool:
    """Whether the command line has this option, and it is not a default."""
    source = click.get_current_context().get_parameter_source(parameter)
    return source is click.core.ParameterSource.COMMANDLINE


def offline_option(command: F) -> F:
    return click.option("--offline", is_flag=True, help="Use only what the store has; open no connection.")(command)


def with_progress(command: F) -> F:
    """Gives the command the keyword argument `progress`, as `-q` and `-v` want it."""

    @functools.wraps(command)
    def shown(*args: Any, **options: Any) -> Any:
        from klock.commands.terminal import progress_on_stderr
        from klock.commands.wishes import wanted

        with progress_on_stderr(quiet=wanted().quiet > 0, verbose=wanted().verbose > 0) as progress:
            return command(*args, progress=progress, **options)

    return cast(F, shown)
