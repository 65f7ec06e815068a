"""Shell text that verifies files by hash while an image is built."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

__all__ = ["sums_script"]


def sums_script(files: Iterable[tuple[str, str]]) -> Iterator[str]:
    """Lines for sh that fail, naming the file, unless each path has its SHA-256 (in hex)."""
    lines = [_sum(path, digits) for path, digits in files]
    if not lines:
        return
    yield "sha256sum -c - > /tmp/klock-sums <<'KLOCK' || { grep -v ': OK$' /tmp/klock-sums; exit 1; }"
    yield from lines
    yield "KLOCK"
    yield "rm -f /tmp/klock-sums"


def _sum(path: str, digits: str) -> str:
    """As coreutils write it: a backslash in the name is escaped, and said to be by one before the line."""
    return f"\\{digits}  {path.replace(chr(92), chr(92) * 2)}" if "\\" in path else f"{digits}  {path}"
