"""What is said of a service that ended: whoever waits for it would wait in vain."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from klock.escaping import escaped

if TYPE_CHECKING:
    from klock.workshop.command import Command

__all__ = ["name_of", "said_of"]

_LOGS = "`klock logs --services` has all that it printed"


def name_of(service: Command) -> str:
    """The first line of a service's text, without credentials, as messages name it."""
    from klock.secrets.masking import mask_known

    # Of one that is waited for, the text is in parentheses, with more below it.
    text = (service.script or service.argv[-1]).strip().removeprefix("( ")
    return mask_known(text.partition("\n")[0], tuple(_secrets(service)))


def said_of(service: Command, status: int, log: Path) -> str:
    """One line that says so, with the end of what it printed; fit for a terminal."""
    from klock.secrets.masking import masked_tail

    said = f"klock: the service {name_of(service)!r} ended with status {status}; {_LOGS}"
    return escaped(said + masked_tail(log.read_bytes(), _secrets(service)))


def _secrets(service: Command) -> list[str]:
    from klock.secrets.values import is_secret, may_be_secret

    variables = {**os.environ, **service.environment}
    return [value for name, value in variables.items() if is_secret(name, value) and may_be_secret(value)]
