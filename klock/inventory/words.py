"""A difference in words: for a terminal, and as markdown for a pull request."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import Final

from klock.escaping import on_one_line
from klock.inventory.changes import Change, Difference
from klock.steps.parts import Sort
from klock.words import counted

__all__ = ["as_markdown", "as_text"]

_TITLES: Final = {
    Sort.BASE: "Base",
    Sort.PYTHON: "Python",
    Sort.PACKAGE: "Python packages",
    Sort.DEB: "Debian packages",
    Sort.FILE: "Files",
    Sort.VARIABLE: "Variables",
    Sort.SETTING: "Settings",
    Sort.SERVICE: "Services",
    Sort.STEP: "Steps",
    Sort.REQUEST: "Answers of the network",
    Sort.LAYER: "Layers",
}


def as_text(difference: Difference) -> Iterator[str]:
    """Lines: a title for each sort, and below it what is new, gone, or another one."""
    for target in difference.added:
        yield f"add target {target}"
    for target in difference.removed:
        yield f"remove target {target}"
    for title, changes in _by_sort(difference):
        yield f"{title}:"
        for change in changes:
            yield f"  {change}{_only(change)}"
    if difference.drift:
        yield "Environment:"
        yield from (f"  {finding}" for finding in difference.drift)


def as_markdown(difference: Difference) -> Iterator[str]:
    """Lines of GitHub's markdown: a table for each sort."""
    if not difference:
        yield "No changes."
        return
    yield f"**{summary(difference)}**"
    for title, changes in _by_sort(difference):
        yield ""
        yield f"### {title}"
        yield ""
        yield "| | before | after |"
        yield "|---|---|---|"
        for change in changes:
            yield f"| {_cell(change.name)}{_only(change)} | {_before(change)} | {_after(change)} |"
    if difference.drift:
        yield from ("", "### Environment", "")
        yield from (f"- {_cell(str(finding))}" for finding in difference.drift)


def summary(difference: Difference) -> str:
    """`2 packages updated, 1 file added`"""
    counts: dict[tuple[str, str], int] = {}
    for change in difference.changes:
        key = (change.sort.value, change.verb)
        counts[key] = counts.get(key, 0) + 1
    words = [f"target {name} added" for name in difference.added]
    words += [f"target {name} removed" for name in difference.removed]
    words += [f"{number} {_noun(sort, number)} {_PAST[verb]}" for (sort, verb), number in counts.items()]
    if difference.drift:
        words.append(f"{counted(len(difference.drift), 'finding')} in the environment")
    return ", ".join(words) or "no changes"


_PAST: Final = {"add": "added", "remove": "removed", "update": "changed"}
_NOUNS: Final = {"python": "Python", "deb": "Debian package", "package": "Python package", "request": "answer"}


def _noun(sort: str, number: int) -> str:
    noun = _NOUNS.get(sort, sort)
    return noun if number == 1 else f"{noun}s"


def _by_sort(difference: Difference) -> Iterator[tuple[str, list[Change]]]:
    for sort, changes in groupby(difference.changes, key=lambda change: change.sort):
        yield _TITLES[sort], list(changes)


def _only(change: Change) -> str:
    return f" ({', '.join(change.targets)} only)" if change.targets else ""


def _before(change: Change) -> str:
    return "" if change.before is None else _cell(change.before.value)


def _after(change: Change) -> str:
    if change.after is None:
        return "*removed*"
    if change.before is None:
        return _cell(change.after.value or "added")
    if change.before.value != change.after.value:
        return _cell(change.after.value)
    return _cell(change.after.name) if change.before.name != change.after.name else f"*{change.what}*"


def _cell(text: str) -> str:
    """Text of others in a table: nothing of it is markup, or ends the cell."""
    shown = on_one_line(text).replace("`", "'").replace("|", "\\|")
    return f"`{shown}`" if shown else ""
