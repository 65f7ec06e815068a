"""How a container starts when nobody says otherwise: what an image's config has, as a lockfile has it and as it is."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from klock.lockfile.model import SettingsLock
from klock.places.protocol import ImageConfig
from klock.values import dataclass

__all__ = ["COMMAND", "StartOptions", "expected_start_options", "start_options_of", "start_words"]

COMMAND: Final = ("/bin/sh",)
"""What runs in a container of klock's image that was started without a command."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StartOptions:
    """`settings` has a text for each of the others, by the name that people know."""

    variables: Mapping[str, str]
    settings: Mapping[str, str]


def expected_start_options(config: ImageConfig) -> StartOptions:
    """Those of the image that is made with `config`."""
    return StartOptions(
        variables=dict(config.environment),
        settings=_settings(*start_words(config.settings), config.working_dir, config.user),
    )


def start_words(settings: SettingsLock) -> tuple[Sequence[str], Sequence[str]]:
    """The entrypoint and the command: a shell, where nothing says what is to run."""
    entrypoint, command = settings.entrypoint or (), settings.command or ()
    return entrypoint, command if entrypoint or command else COMMAND


def start_options_of(config: Mapping[str, Any]) -> StartOptions:
    """Those of an image or a container, from the `Config` that an engine shows (Docker API, inspect)."""
    variables = dict(text.partition("=")[::2] for text in config.get("Env") or ())
    settings = _settings(
        config.get("Entrypoint") or (),
        config.get("Cmd") or (),
        config.get("WorkingDir") or "/",
        config.get("User") or "",
    )
    return StartOptions(variables=variables, settings=settings)


def _settings(entrypoint: Sequence[str], command: Sequence[str], working_dir: str, user: str) -> dict[str, str]:
    return {
        "entrypoint": _shown(entrypoint),
        "command": _shown(command),
        "working directory": working_dir,
        "user": user or "root",
    }


def _shown(words: Sequence[str]) -> str:
    return json.dumps(list(words), ensure_ascii=False) if any(words) else "none"
