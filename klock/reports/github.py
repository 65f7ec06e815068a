"""Annotations of GitHub Actions ("Workflow commands for GitHub Actions"): a line of a step's output each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from klock.reports.places import Checks, Places

__all__ = ["lines_of_annotations"]

_IN_TEXT: Final = {"%": "%25", "\r": "%0D", "\n": "%0A"}
_IN_PROPERTY: Final = {**_IN_TEXT, ":": "%3A", ",": "%2C"}


def lines_of_annotations(checks: Checks, places: Places) -> Iterator[str]:
    """One for each finding, at the builder's line."""
    for finding in checks.findings:
        place = places.of(finding)
        properties = {"file": place.path, "line": str(place.line), "title": f"klock: {finding.code.title}"}
        shown = ",".join(f"{name}={_escaped(value, _IN_PROPERTY)}" for name, value in properties.items())
        text = f"{finding.code.value}: {finding}. {finding.code.remedy}"
        yield f"::{'error' if checks.is_failure(finding) else 'warning'} {shown}::{_escaped(text, _IN_TEXT)}"


def _escaped(text: str, table: dict[str, str]) -> str:
    return "".join(table.get(character, character) for character in text)
