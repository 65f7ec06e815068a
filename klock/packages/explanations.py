"""Turns what uv says when it fails into klock's errors: which requirements, from which lines, and why.

uv's hints come through, in the words of the builder where they name options and settings of uv.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from klock.errors import FetchError, KlockError, RequirementError, ResolutionError
from klock.packages.build_failures import UnbuiltSource, essence, hint_for_build
from klock.values import dataclass
from klock.words import listed

__all__ = ["Asked", "error_from_uv", "missing_projects", "warnings_from_uv"]

_NOT_FOUND: Final = re.compile(
    r"(?<![\w.-])([a-z0-9][a-z0-9._-]*) was not found in (?:the package registry|the provided package locations)"
)
_NETWORK: Final = (
    *("Failed to fetch", "error sending request", "dns error", "Could not connect", "tls handshake"),
    *("Unsupported `Content-Type`", "Missing `Content-Type`", "Received some unexpected"),
)
_NO_VERSIONS: Final = re.compile(r"there are no versions of ([a-z0-9](?:[a-z0-9._-]*[a-z0-9])?)")
_UNFETCHED: Final = re.compile(r"Failed to fetch:? `?(?P<url>https?://[^\s`]+)")
_REFUSALS: Final = ("401 Unauthorized", "403 Forbidden", "Missing credentials")
_BUILD: Final = re.compile(
    r"Failed to (?:download and )?build(?: `(?P<what>[^`]*)`)?|The build backend returned|Git operation failed"
)
_PIN: Final = re.compile(r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)==(?P<version>[^\s;@]+)")
_WHEELS: Final = re.compile(r"only found wheels for|[Ww]heels are available for")
_LONGEST: Final = 24

_IN_OUR_WORDS: Final = (
    (r"pre-release", 'to allow a pre-release, write pip_install(["--pre NAME"]), or name its exact version'),
    (
        r"--index-strategy",
        "klock takes a project from the first index that has it, so that another index cannot replace it."
        ' If you trust all indexes: set_env_vars({"UV_INDEX_STRATEGY": "unsafe-best-match"}) before',
    ),
    (
        r"building from source is disabled|--no-build|--only-binary",
        "only wheels are allowed for it (--only-binary, UV_NO_BUILD): allow its source, or ask for another version",
    ),
    (
        r"using pre-built wheels is disabled|--no-binary",
        "no wheel is allowed for it (--no-binary, UV_NO_BINARY): allow wheels, or ask for another version",
    ),
    (r"exclude-newer", "exclude-newer hides the files that are newer than its date: choose a later date"),
)
"""What uv's hint has in it, and what is said instead: what has an option of uv's is written otherwise in an image."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A requirement or constraint: the normalised name, its text, and the line it is from."""

    name: str | None
    text: str
    origin: str

    def __str__(self) -> str:
        return f"{self.origin}: {self.text}"


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
    requirements: Iterable[Asked],
    constraints: Iterable[Asked] = (),
    refused: Sequence[str] = (),
    offline: bool = False,
    keeps_base: bool = False,
    why_no_wheel: Callable[[str, str], str] = lambda _name, _version: "",
    empty_page: Callable[[str], str] = lambda _name: "",
) -> KlockError:
    """The error for uv's `output` (already masked). `refused` is what the recorder did not let through, or could not
    reach. `why_no_wheel` is asked for a project and its version which uv has to build, `empty_page` for the page of a
    project without files, if it is that page that counts."""
    explanation, hints = _explanation(output)
    one_line = " ".join(explanation.split())
    explanation += listed(refused)
    failed = _BUILD.search(one_line)
    where = failed[0] if failed else one_line  # a build's output mentions many names
    subject = _those_in(where, requirements) or "the image's requirements"
    is_about_network = "403 Forbidden" in one_line or any(sign in one_line for sign in _NETWORK)
    from klock.packages.reaching import strangers

    if strangers(refused) and (is_about_network or failed):
        return ResolutionError(
            f"{subject}: klock refused a request that uv needs: {explanation}",
            hint="name the server as an index; or the URL in a requirement, pip_install(['NAME @ URL'])",
        )
    if any(sign in one_line + " ".join(hints) for sign in _REFUSALS):
        login = "give user name and password by netrc, in UV_INDEX_<NAME>_USERNAME and _PASSWORD, or in the index URL"
        words = "\n".join([explanation, *hints])
        return FetchError(f"an index refuses access: {words}", hint=login)
    if any(sign in one_line for sign in _NETWORK):
        return FetchError(
            f"an index cannot be read:{_unread(_explanation(output)[0], refused)}",
            hint="check the network and the index URLs; --offline locks with what the store has",
        )
    if failed:
        return _of_build(output, subject, failed["what"] or "", why_no_wheel, listed(refused))
    if "Couldn't parse" in one_line or "Failed to parse" in one_line or "invalid" in one_line.lower():
        return RequirementError(f"{subject}: {explanation}")
    if also := _those_in(where, constraints):
        subject += f"; constrained by {also}"
    facts = [hint for hint in hints if _WHEELS.search(hint)]
    for page in filter(None, map(empty_page, _NO_VERSIONS.findall(one_line) if not hints else ())):
        hints.append(f"the page {page} lists no files: the index may want a login, or another URL")
    told = "; ".join(dict.fromkeys(_in_our_words(hint) for hint in hints if hint not in facts))
    message = "\n".join([f"cannot meet {subject}", explanation, *facts])
    if facts:
        told = (
            told or "ask for a version that has a wheel for this Python, or take a base whose Python it has wheels for"
        )
    if offline:
        told = "run the command once without --offline: offline, klock knows only the packages in the store"
    elif missing := missing_projects(explanation):
        told = told or f"check the spelling of {' and '.join(missing)}, and which index has it"
    elif "the current Python version" in one_line:
        told = told or "ask for a version that is for this Python, or take a base with another one"
    elif keeps_base:
        told = "what the base has is kept: ask for versions that fit it, or lock without --keep-base"
    elif also:
        told = told or "change the constraint, or a requirement named above"
    return ResolutionError(
        message,
        hint=told or "loosen one of the requirements named above; all pip steps of an image are resolved together",
    )


def _unread(explanation: str, refused: Sequence[str]) -> str:
    """What was asked for, and the last of uv's chain of causes, which is the first that happened."""
    if refused:
        return f" {listed(refused).strip()}" if len(refused) == 1 else listed(refused)
    url = _UNFETCHED.search(explanation)
    cause = explanation.splitlines()[-1]
    return f" {cause}" if url is None or url["url"] in cause else f" {url['url']}: {cause}"


def _of_build(
    output: str, subject: str, what: str, why_no_wheel: Callable[[str, str], str], refused: str
) -> UnbuiltSource:
    """Some project has no wheel that fits, or is a repository, and its source does not build."""
    report = output[max(0, output.find("error:")) :].partition("\nhint:")[0]
    words = "\n".join(_lines_of_error(essence(report)))
    pin = _PIN.fullmatch(what.strip())
    name = pin["name"] if pin else what.partition(" @")[0].strip() or "it"
    reason = why_no_wheel(pin["name"], pin["version"]) if pin else ""
    because = f"{what} {reason}, and building its source fails:" if reason else "cannot fetch or build its source:"
    return UnbuiltSource(f"{subject}: {because} {words}{refused}", hint=hint_for_build(output, name))


def _those_in(text: str, asked: Iterable[Asked]) -> str:
    return "; ".join(dict.fromkeys(str(each) for each in asked if each.name and _mentions(text, each.name)))


def _in_our_words(hint: str) -> str:
    return next((ours for sign, ours in _IN_OUR_WORDS if re.search(sign, hint)), hint)


def _explanation(output: str) -> tuple[str, list[str]]:
    """What follows `error:`, without the frame around it, cut where it gets too long to read; and the hints."""
    lines = [line.rstrip() for line in output.splitlines()]
    start = next((number for number, line in enumerate(lines) if line.startswith("error:")), 0)
    hints: list[str] = []
    kept = []
    for line in lines[start:]:
        if line.startswith("warning:"):
            continue
        if line.startswith("hint:"):
            hints.append(line.removeprefix("hint:").strip())
        elif hints:
            hints[-1] = f"{hints[-1]} {line.strip()}".strip()
        else:
            kept.append(line)
    kept = _lines_of_error("\n".join(kept))
    if len(kept) > _LONGEST:
        kept = [*kept[: _LONGEST // 2], "...", *kept[-_LONGEST // 2 :]]
    return "\n".join(kept) or "uv gave no reason", hints


def _lines_of_error(text: str) -> list[str]:
    lines = (re.sub(r"^(error: |\s*cause: |\s*[×╰├│─▶]+\s*)", "", line).strip() for line in text.splitlines())
    return [line for line in lines if line and line != "No solution found when resolving dependencies"]


def _mentions(text: str, name: str) -> bool:
    pattern = re.escape(name).replace(r"\-", "[-_.]")
    return re.search(rf"(?<![\w.-]){pattern}(?![\w-])", text, re.IGNORECASE) is not None
