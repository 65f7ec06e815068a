"""Drift: where an observed environment and the lockfile disagree. Pure: manifests and variables in,
findings out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final

from klock.findings import Code, Finding
from klock.layers.manifest import Entry, Kind, Manifest
from klock.layers.normalisation import is_left_out, matcher, may_hold_left_out
from klock.lockfile.model import TargetLock, layer_of
from klock.observation import Observation
from klock.project_names import normalised_name
from klock.words import counted

__all__ = ["compare", "compare_files", "compare_settings", "compare_variables", "distributions_in", "with_steps"]

_METADATA: Final = re.compile(
    r"(?:^|/)(?P<name>[^/]+?)-(?P<version>[^/-]+)\.(?:dist|egg)-info(?:/(?:METADATA|PKG-INFO))?$"
)


def compare(observation: Observation, *, leave_out: Sequence[str] = ()) -> list[Finding]:
    """Every way in which an environment is not what is locked. `step` counts the layers of `observation`, from 1.

    What the steps' patterns in `leave_out` name is in no layer, so it is no drift whatever it is.
    """
    if observation.problem is not None:
        return [Finding(code=Code.NOT_SYNCED, message=observation.problem)]
    findings = [
        *observation.findings,
        *compare_files(observation.locked, observation.layers, observation.files, leave_out=leave_out),
        *compare_variables(observation.locked_variables, observation.variables),
        *compare_settings(observation.locked_settings, observation.settings),
    ]
    if not findings and observation.unexplained is not None:
        findings.append(observation.unexplained)
    return findings


def with_steps(findings: Iterable[Finding], lock: TargetLock, locations: Sequence[str | None]) -> list[Finding]:
    """`findings` of `compare`, whose `step` counts layers, made to count steps, with the builder calls."""
    positions = [n for n, step in enumerate(lock.steps) if layer_of(step) is not None]
    return [
        finding
        if finding.step is None
        else replace(
            finding,
            step=(position := positions[finding.step - 1]) + 1,
            location=locations[position] if position < len(locations) else None,
        )
        for finding in findings
    ]


def compare_files(
    expected: Manifest, layers: Sequence[Manifest], observed: Manifest, *, leave_out: Sequence[str] = ()
) -> Iterator[Finding]:
    """Each path at which `observed` is not `expected` (all of base and layers), distributions first.

    `layers` are the layers of the steps, so that a finding can name the step that is responsible; the numbers are
    positions in `layers`, from 1.
    """
    paths = expected.differing(observed)
    if not paths:
        return
    yield from _compare_distributions(expected, observed)
    is_no_drift = matcher(leave_out)
    for path in paths:
        locked, found = expected.get(path), observed.get(path)
        if is_no_drift(path) or is_left_out(path) or (locked is None and _holds_nothing(path, observed)):
            continue
        step = next((n for n in range(len(layers), 0, -1) if path in layers[n - 1]), None)
        if locked is None:
            assert found is not None
            if _has_extra_parent(path, expected, observed):
                continue
            yield Finding(
                code=Code.EXTRA,
                message=f"/{path} is not in the lockfile{_inside(path, found, observed)}",
                path=f"/{path}",
                found=_describe(found),
            )
        elif found is None:
            if _has_missing_parent(path, expected, observed):
                continue
            yield Finding(
                code=Code.MISSING,
                message=f"/{path} is missing{_inside(path, locked, expected)}",
                path=f"/{path}",
                step=step,
                expected=_describe(locked),
            )
        else:
            yield Finding(
                code=Code.MODIFIED,
                message=f"/{path} differs: {', '.join(_differences(locked, found))}",
                path=f"/{path}",
                step=step,
                expected=_describe(locked),
                found=_describe(found),
            )


def _holds_nothing(path: str, observed: Manifest) -> bool:
    """Whether a path is a folder for caches and the like which has only such folders in it: observations leave the
    caches themselves out."""
    if observed[path].kind is not Kind.FOLDER or not may_hold_left_out(path):
        return False
    below = [other for other in observed if other.startswith(f"{path}/")]
    return all(observed[other].kind is Kind.FOLDER and may_hold_left_out(other) for other in below)


def _has_extra_parent(path: str, expected: Manifest, observed: Manifest) -> bool:
    parent = path.rpartition("/")[0]
    return bool(parent) and parent not in expected and parent in observed


def _has_missing_parent(path: str, expected: Manifest, observed: Manifest) -> bool:
    parent = path.rpartition("/")[0]
    return bool(parent) and parent in expected and parent not in observed


def _inside(path: str, entry: Entry, manifest: Manifest) -> str:
    """A whole folder is one finding that counts what is in it."""
    if entry.kind is not Kind.FOLDER:
        return ""
    count = sum(1 for other in manifest if other.startswith(path + "/"))
    return f", with the {counted(count, 'entry')} in it" if count else ""


def _differences(locked: Entry, found: Entry) -> Iterator[str]:
    if locked.kind is not found.kind:
        yield f"{locked.kind.value} is now {found.kind.value}"
        return
    if locked.digest != found.digest:
        yield "content"
    if locked.target != found.target:
        yield f"target {locked.target} is now {found.target}"
    if locked.mode != found.mode:
        yield f"mode {locked.mode:04o} is now {found.mode:04o}"
    if (locked.uid, locked.gid) != (found.uid, found.gid):
        yield f"owner {locked.uid}:{locked.gid} is now {found.uid}:{found.gid}"
    if locked.xattrs != found.xattrs:
        yield "extended attributes"


def _describe(entry: Entry) -> str:
    if entry.kind is Kind.FILE:
        return f"{entry.digest} {entry.size} bytes mode {entry.mode:04o}"
    if entry.target is not None:
        return f"{entry.kind.value} to {entry.target}"
    return f"{entry.kind.value} mode {entry.mode:04o} owner {entry.uid}:{entry.gid}"


def distributions_in(manifest: Manifest) -> dict[tuple[str, str], set[str]]:
    """Installed Python distributions, by the folder they are in and their normalised name (PEP 503), with versions.

    Read off the names of `*.dist-info` folders, which the binary distribution format fixes, so that nothing has to be
    run in an environment that may be broken.
    """
    found: dict[tuple[str, str], set[str]] = {}
    for path in manifest:
        if ("dist-info" in path or "egg-info" in path) and (match := _METADATA.search(path)):
            if not path.endswith(("METADATA", "PKG-INFO", ".egg-info")):
                continue
            name = normalised_name(match["name"])
            folder = path[: match.start("name")].rstrip("/")
            found.setdefault((folder, name), set()).add(match["version"])
    return found


def _compare_distributions(expected: Manifest, observed: Manifest) -> Iterator[Finding]:
    locked, found = distributions_in(expected), distributions_in(observed)
    for key in sorted({*locked, *found}):
        wanted, there = locked.get(key, set()), found.get(key, set())
        if wanted == there:
            continue
        folder, name = key
        expected_text, found_text = " and ".join(sorted(wanted)), " and ".join(sorted(there))
        if not there:
            message = f"distribution {name} {expected_text} is missing"
        elif not wanted:
            message = f"distribution {name} {found_text} is not in the lockfile"
        else:
            message = f"distribution {name} is {found_text}, locked is {expected_text}"
        yield Finding(
            code=Code.DISTRIBUTION,
            message=message,
            path=f"/{folder}",
            expected=expected_text or None,
            found=found_text or None,
        )


def compare_variables(expected: Mapping[str, str], observed: Mapping[str, str]) -> Iterator[Finding]:
    """Variables of the lockfile against those the environment was synced with (secrets as references in both)."""
    for name in sorted({*expected, *observed}):
        locked, found = expected.get(name), observed.get(name)
        if locked == found:
            continue
        if found is None:
            message = f"variable {name} is not set in the environment"
        elif locked is None:
            message = f"variable {name} is set in the environment and not in the lockfile"
        else:
            message = f"variable {name} differs"
        yield Finding(code=Code.VARIABLE, message=message, path=name, expected=locked, found=found)


def compare_settings(expected: Mapping[str, str], observed: Mapping[str, str]) -> Iterator[Finding]:
    """How an image's containers start, by the names of the settings, which both have."""
    for name, locked in expected.items():
        if (found := observed[name]) != locked:
            message = f"the image's {name} is {found}, not {locked}"
            yield Finding(code=Code.SETTING, message=message, path=name, expected=locked, found=found)
