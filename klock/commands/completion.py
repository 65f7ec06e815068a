"""`klock completion`: what a shell has to know to complete klock's commands."""

from __future__ import annotations

import click

from klock.printing import show_text

__all__ = ["completion"]


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> int:
    """Print the completion of commands and options for SHELL.

    For bash, write into ~/.bashrc: eval "$(klock completion bash)". For zsh, into ~/.zshrc: eval "$(klock completion
    zsh)". For fish: klock completion fish > ~/.config/fish/completions/klock.fish
    """
    from click.shell_completion import get_completion_class

    from klock.commands.line import klock

    kind = get_completion_class(shell)
    assert kind is not None, "click knows these three"
    show_text(kind(klock, {}, "klock", "_KLOCK_COMPLETE").source())
    return 0
