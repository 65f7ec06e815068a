"""What the upstream asks for before it answers: values that no file of klock's may ever hold.

Those it makes up itself while it runs (signatures, access tokens, session cookies) are noted in `Issued`'s file.
"""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Final

__all__ = ["API_TOKEN", "PASSWORD", "QUERY_TOKEN", "USER", "Issued"]

USER: Final = "upstream-robot"
PASSWORD: Final = "pw/Wq8x+T0vB=2m"
API_TOKEN: Final = "apitok-J4vN9sQe7XcR2bLh"
QUERY_TOKEN: Final = "q-5fGh81ZkPw+TyMn/w=="


class Issued:
    """Random values with a purpose, made here and recognised again."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._values: dict[str, str] = {}
        path.touch()

    def make(self, purpose: str) -> str:
        value = secrets.token_hex(24)
        self._values[value] = purpose
        with open(self._path, "a") as file:
            file.write(value + "\n")
        return value

    def is_for(self, value: str, purpose: str) -> bool:
        return self._values.get(value) == purpose
