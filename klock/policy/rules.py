"""`[tool.klock.policy]` as a value. Whatever it does not name is allowed."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from klock.documents import shown
from klock.errors import KlockError
from klock.patterns import regex
from klock.values import dataclass, field
from klock.words import did_you_mean

__all__ = ["Policy", "read_policy"]

_AGE: Final = regex(r"(\d{1,5}) ?(days?|hours?|d|h)")
_HOST: Final = regex(r"(\*\.)?[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?(:\d{1,5})?")
_NAMES: Final = (
    *("indexes", "registries", "hosts", "minimum-age", "licences", "licences-of"),
    *("no-sdists", "no-keep-layer", "signed"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """None allows all. `indexes` are URLs without a final slash; `registries` are names of registries, or the beginning
    of names of images; `hosts` are names, `*.` at the beginning stands for what is below. `minimum_age` in hours.
    `licences` are SPDX expressions, or parts of them; `licences_of` says the licence of a project that does not say it
    itself."""

    indexes: tuple[str, ...] | None = None
    registries: tuple[str, ...] | None = None
    hosts: tuple[str, ...] | None = None
    minimum_age: int = 0
    licences: tuple[str, ...] | None = None
    licences_of: Mapping[str, str] = field(default_factory=dict)
    no_sdists: bool = False
    no_keep_layer: bool = False
    signed: bool = False

    def __bool__(self) -> bool:
        return self != Policy()


def read_policy(table: object, error: Callable[[str, str, str | None], KlockError]) -> Policy:
    """The table's value. `error` makes an error of a key, what is wrong with it and a hint."""
    if not isinstance(table, dict):
        raise error("", f"is {shown(table)} (expected a table)", None)
    for key in table:
        if key not in _NAMES:
            hint = did_you_mean(str(key), _NAMES) or f"the rules are {', '.join(_NAMES)}"
            raise error(str(key), "is not a policy rule", hint)
    reader = _Reader(table, error)
    indexes = reader.texts("indexes", re.compile(r"https?://\S+"), "the URL of an index")
    return Policy(
        indexes=None if indexes is None else tuple(url.rstrip("/") for url in indexes),
        registries=reader.texts("registries", re.compile(r"[^\s/]+(/\S+)?"), "a registry, or REGISTRY/NAME"),
        hosts=reader.texts("hosts", _HOST, "a host's name, or *.NAME"),
        minimum_age=reader.age("minimum-age"),
        licences=reader.licences("licences"),
        licences_of=reader.licences_of("licences-of"),
        no_sdists=reader.flag("no-sdists"),
        no_keep_layer=reader.flag("no-keep-layer"),
        signed=reader.flag("signed"),
    )


class _Reader:
    def __init__(self, table: dict[str, Any], error: Callable[[str, str, str | None], KlockError]) -> None:
        self._table = table
        self._error = error

    def texts(self, key: str, form: re.Pattern[str], what: str) -> tuple[str, ...] | None:
        written = self._table.get(key)
        if written is None:
            return None
        if not isinstance(written, list):
            raise self._error(key, f"is {shown(written)} (expected a list)", None)
        for number, each in enumerate(written):
            if not isinstance(each, str) or form.fullmatch(each) is None:
                raise self._error(f"{key}[{number}]", f"is {shown(each)} (expected {what})", None)
        return tuple(written)

    def flag(self, key: str) -> bool:
        written = self._table.get(key, False)
        if not isinstance(written, bool):
            raise self._error(key, f"is {shown(written)} (expected true or false)", None)
        return written

    def age(self, key: str) -> int:
        written = self._table.get(key)
        if written is None:
            return 0
        match = _AGE.fullmatch(written) if isinstance(written, str) else None
        if match is None:
            raise self._error(key, f"is {shown(written)}", "write days or hours: '7 days', '36 hours'")
        return int(match[1]) * (24 if match[2].startswith("d") else 1)

    def licences(self, key: str) -> tuple[str, ...] | None:
        written = self.texts(key, re.compile(r".+"), "an SPDX licence")
        if written is None:
            return None
        return tuple(self._licence(f"{key}[{number}]", each) for number, each in enumerate(written))

    def licences_of(self, key: str) -> dict[str, str]:
        from klock.project_names import normalised_name

        written = self._table.get(key, {})
        if not isinstance(written, dict):
            raise self._error(key, f"is {shown(written)} (expected names of packages and their licences)", None)
        return {normalised_name(name): self._licence(f"{key}.{name}", each) for name, each in written.items()}

    def _licence(self, key: str, written: object) -> str:
        from klock.policy.licences import canonical

        found = canonical(written) if isinstance(written, str) else None
        if found is None:
            hint = "write identifiers of spdx.org/licenses: 'MIT', 'BSD-3-Clause', 'LicenseRef-Ours'"
            raise self._error(key, f"is {shown(written)}, which is not an SPDX licence", hint)
        return found
