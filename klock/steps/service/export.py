"""Services in a Dockerfile: started by the image's entrypoint, or by the reader itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from klock.lockfile.model import ServiceLock
from klock.pages.page import Form, Page
from klock.pages.shell_text import BASH, command_text, word_of
from klock.steps.service.waiting import wait_script

__all__ = ["START", "start_script", "write_service"]

START: Final = "/usr/local/lib/klock/start"
"""The program that starts the services and then becomes the container's command."""


def write_service(page: Page, step: ServiceLock) -> None:
    """Adds a service where the reader starts it itself: kubetorch runs a command that ends in `&` in the background."""
    assert page.form is Form.KUBETORCH
    page.add(f"RUN {command_text(_foreground(step.command), step.secrets, build=False)} &")


def start_script(services: Sequence[ServiceLock]) -> bytes:
    """A program that starts the services in the background and then, when they are ready, runs its arguments in its own
    place."""
    lines = ["#!/bin/sh", f"shell={BASH}"]
    for service in services:
        text = word_of(_foreground(service.command), service.secrets, build=False)
        lines.append(f"$shell -c {text} </dev/null >/dev/null 2>&1 &")
    waits = wait_script([service.wait_for for service in services if service.wait_for is not None])
    return ("".join(f"{line}\n" for line in lines) + waits + 'exec "$@"\n').encode()


def _foreground(command: str) -> str:
    return command.rstrip().removesuffix("&").rstrip()
