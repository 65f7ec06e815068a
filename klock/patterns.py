"""Regular expressions that are compiled at their first use: compiling one takes a tenth of a millisecond, and a short
command loads a hundred, but needs ten."""

from __future__ import annotations

import re
from typing import Any, AnyStr, cast

__all__ = ["regex"]


def regex(text: AnyStr, flags: int = 0) -> re.Pattern[AnyStr]:
    """Like `re.compile`, but an error in the pattern is raised at its first use."""
    return cast("re.Pattern[AnyStr]", _Pattern(text, flags))


class _Pattern:
    """Keeps as its own attribute what was asked of it once."""

    def __init__(self, text: str | bytes, flags: int) -> None:
        self._text: Any = text
        self._flags = flags

    def __reduce__(self) -> tuple[Any, ...]:
        return regex, (self._text, self._flags)

    def __getattr__(self, name: str) -> Any:
        found = getattr(re.compile(self._text, self._flags), name)
        setattr(self, name, found)
        return found
