"""Turns what uv says when it fails into klock's errors: which requirements, from which lines, and why."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

from klock.errors import FetchError, KlockError, RequirementError, ResolutionError
from klock.words import listed

__all__ = ["error_from_uv", "missing_projects", "warnings_from_uv"]

_NOT_FOUND: Final = re.compile(
    r"(?<![\w.-])([a-z0-9][a-z0-9._-]*) was not found in (?:the package registry|the provided package locations)"
)
_NETWORK: Final = ("Failed to fetch", "error sending request", "dns error", "Could not connect", "tls handshake")
_BUILD: Final = re.compile(
    r"Failed to (?:download and )?build(?: `[^`]*`)?|The build backend returned|Git operation failed"
)
_LONGEST: Final = 24


def missing_projects(output: str) -> tuple[str, ...]:
    """Projects that uv found in no index, sorted."""
    return tuple(sorted(set(_NOT_FOUND.findall(" ".join(output.split())))))


def warnings_from_uv(output: str) -> tuple[str, ...]:
    """uv's warnings (a yanked version, an extra that does not exist), in order, each once."""
    found = (line.removeprefix("warning: ").strip() for line in output.splitlines() if line.startswith("warning: "))
    return tuple(dict.fromkeys(found))


def error_from_uv(
    output: str,
    *,
    requirements: Iterable[tuple[str | None, str, str]],
    refused: Sequence[str] = (),
    offline: bool = False,
    keeps_base: bool = False,
) -> KlockError:
    """The error for uv's `output` (already masked). `requirements` are normalised name, text and origin of each;
    `refused` is what the recorder did not let through, or could not reach."""
    explanation = _explanation(output)
    one_line = " ".join(explanation.split())
    explanation += listed(refused)
    failed = _BUILD.search(one_line)
    where = failed[0] if failed else one_line  # a build's output mentions many names
    named = [(text, origin) for name, text, origin in requirements if name and _mentions(where, name)]
    subject = "; ".join(f"{origin}: {text}" for text, origin in dict.fromkeys(named)) or "the image's requirements"
    if "401 Unauthorized" in one_line or "403 Forbidden" in one_line or "Missing credentials" in one_line:
        hint = "give user name and password by netrc, in UV_INDEX_<NAME>_USERNAME and _PASSWORD, or in the index URL"
        return FetchError(f"an index refuses access: {explanation}", hint=hint)
    if any(sign in one_line for sign in _NETWORK):
        return FetchError(
            f"an index cannot be read: {explanation}",
            hint="check the network and the index URLs; --offline locks with what the store has",
        )
    if failed:
        needed = "git" if "Git executable not found" in one_line else "its compilers and libraries"
        return ResolutionError(
            f"{subject}: cannot fetch or build its source: {explanation}",
            hint=f"install {needed} in an earlier step: klock builds the source to read its metadata",
        )
    if "Couldn't parse" in one_line or "Failed to parse" in one_line or "invalid" in one_line.lower():
        return RequirementError(f"{subject}: {explanation}")
    if offline:
        return ResolutionError(
            f"cannot meet {subject}\n{explanation}",
            hint="run the command once without --offline: offline, klock knows only the packages in the store",
        )
    if missing := missing_projects(explanation):
        hint = f"check the spelling of {' and '.join(missing)}, and which index has it"
        return ResolutionError(f"cannot meet {subject}\n{explanation}", hint=hint)
    if keeps_base:
        return ResolutionError(
            f"cannot meet {subject}\n{explanation}",
            hint="what the base has is kept: ask for versions that fit it, or lock without --keep-base",
        )
    return ResolutionError(
        f"cannot meet {subject}\n{explanation}",
        hint="loosen one of the requirements named above; all pip steps of an image are resolved together",
    )


def _explanation(output: str) -> str:
    """What follows `error:`, without the frame around it, cut where it gets too long to read."""
    lines = [line.rstrip() for line in output.splitlines()]
    start = next((number for number, line in enumerate(lines) if line.startswith("error:")), 0)
    kept = []
    for line in lines[start:]:
        if line.startswith("warning:"):
            continue
        if line.startswith("hint:") and "authentication" not in line:
            break  # advice about uv's own settings
        kept.append(re.sub(r"^(error: |\s*cause: |\s*[×╰├│─▶]+\s*)", "", line).strip())
    kept = [line for line in kept if line and line != "No solution found when resolving dependencies"]
    if len(kept) > _LONGEST:
        kept = [*kept[: _LONGEST // 2], "...", *kept[-_LONGEST // 2 :]]
    return "\n".join(kept) or "uv gave no reason"


def _mentions(text: str, name: str) -> bool:
    pattern = re.escape(name).replace(r"\-", "[-_.]")
    return re.search(rf"(?<![\w.-]){pattern}(?![\w-])", text, re.IGNORECASE) is not None
