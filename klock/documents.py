"""JSON and TOML of others, read into values that are safe to handle: what is wrong with one is a ValueError.

Bounded in size and depth: a document of brackets alone would end Python's stack, in the parser or wherever its value is
looked at later. Text that is none (halves of characters) and NaN are refused, as no file of klock's could hold them.
"""

from __future__ import annotations

from typing import Any, Final, NoReturn

__all__ = ["LARGEST_JSON", "LARGEST_TOML", "read_json", "read_toml", "shown"]

LARGEST_JSON: Final = 64 << 20
LARGEST_TOML: Final = 64 << 20
"""bytes"""

_DEEPEST: Final = 64
_TOML_TOKEN: Final = (
    r'"""(?:\\[\s\S]|(?!""")[^\\])*(?:"""|\Z)' + r"|'''[\s\S]*?(?:'''|\Z)"
    r'|"(?:\\.|[^"\\\n])*"' + r"|'[^'\n]*'|#[^\n]*|[\[\]{}]"
)


def read_json(content: bytes | str, *, any_text: bool = False) -> Any:
    """The value of a JSON text (RFC 8259). `any_text`: strings may hold what is none, as names of files do (PEP 383).

    Raises ValueError.
    """
    import json

    if len(content) > LARGEST_JSON:
        raise ValueError(f"it is longer than {LARGEST_JSON >> 20} MiB")
    try:
        value = json.loads(content, parse_constant=_no_number)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if _depth_is_over(value):
        raise ValueError(f"it is nested deeper than {_DEEPEST} levels")
    escape: Any = b"\\ud" if isinstance(content, bytes) else "\\ud"
    if not any_text and escape in content.lower():
        # A half of a character cannot be encoded: UnicodeEncodeError is a ValueError.
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    return value


def read_toml(text: str) -> dict[str, Any]:
    """The table of a TOML document (toml.io, 1.0). Raises ValueError that names the line."""
    import tomllib

    if len(text) > LARGEST_TOML:
        raise ValueError(f"it is longer than {LARGEST_TOML >> 20} MiB")
    try:
        document = tomllib.loads(text)
    except RecursionError:
        raise ValueError(f"it is nested too deeply (at line {_deepest_line(text)})") from None
    if _depth_is_over(document):
        raise ValueError(f"it is nested deeper than {_DEEPEST} levels (at line {_deepest_line(text)})")
    return document


def shown(value: object) -> str:
    """A value of a document in a message: at most 80 characters."""
    try:
        text = repr(value)
    except (RecursionError, ValueError):  # a number of more digits than Python writes
        return type(value).__name__
    return text if len(text) <= 80 else f"{text[:77]}..."


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _depth_is_over(value: object) -> bool:
    """Level by level, without recursion."""
    level: list[object] = [value]
    for _ in range(_DEEPEST):
        level = [
            child
            for parent in level
            if isinstance(parent, dict | list)
            for child in (parent.values() if isinstance(parent, dict) else parent)
            if isinstance(child, dict | list)
        ]
        if not level:
            return False
    return True


def _deepest_line(text: str) -> int:
    """The first line in which more brackets are open than may be, or else the first with many parts in a key."""
    import re

    depth = 0
    for token in re.finditer(_TOML_TOKEN, text):
        if token[0] in "[{":
            depth += 1
            if depth > _DEEPEST:
                return text.count("\n", 0, token.start()) + 1
        elif token[0] in "]}":
            depth -= 1
    lines = enumerate(text.split("\n"), start=1)
    return next((number for number, line in lines if line.count(".") >= _DEEPEST), 1)
