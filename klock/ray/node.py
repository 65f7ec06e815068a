"""What klock does on a node, in a process of its own: `python -m klock.ray.node prepare|check|remove ...`.

Ray's processes have threads, and klock makes namespaces, which only a process without threads can. The last line of
stdout is the answer, as JSON; an error is on stderr, with the exit status 2.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from klock.errors import KlockError
from klock.printing import say_error, show
from klock.ray.pinned import Versions, pin, project_of

if TYPE_CHECKING:
    from klock.api import Project
    from klock.lockfile.model import TargetLock

__all__ = ["Failed", "answer", "command"]

_PROBE: Final = """\
import importlib.metadata, importlib.util, json, platform
found = importlib.util.find_spec("ray")
ray = importlib.metadata.version("ray") if found else None
print(json.dumps([platform.python_version(), ray, found and found.submodule_search_locations[0]]))
"""
_WORKER: Final = "_private/workers/default_worker.py"


class Failed(KlockError):
    """What klock said on a node when it could not do it."""


def command(verb: str, *words: str) -> list[str]:
    """The command line of this program. Neither the caller's variables nor its folder decide what is imported."""
    return [sys.executable, "-E", "-P", "-m", "klock.ray.node", verb, *words]


def answer(status: int, stdout: bytes, stderr: bytes) -> dict[str, Any]:
    """What the program answered. Raises Failed with what it said."""
    if status != 0:
        said = stderr.decode("utf-8", "replace").strip().removeprefix("error: ")
        raise Failed(said or f"klock ended with status {status} on this node")
    found: dict[str, Any] = json.loads(stdout.splitlines()[-1])
    return found


def prepare(lockfile: str, python: str, ray: str) -> dict[str, Any]:
    """Makes the environment of a lockfile for workers of this Python and Ray. A second process that does the same
    waits for the first. Raises KlockError."""
    versions = Versions(python=python, ray=ray)
    project, pinned = pin(Path(lockfile), versions)
    synced = project.sync(frozen=True)
    locked = _locked(project)
    program = locked.interpreter.path if locked.interpreter else "python3"
    return {
        **pinned.as_json(),
        "fingerprint": synced.fingerprint,
        "ran": synced.ran,
        "program": program,
        "worker": _worker(project, program, versions),
        "bytes": _bytes(project, locked),
    }


def _worker(project: Project, program: str, versions: Versions) -> str:
    """The program of a worker, in the environment, whose Python and Ray are asked now."""
    done = project.run(
        [program, "-E", "-P", "-c", _PROBE], sync=False, frozen=True, network="none", capture_output=True
    )
    if done.returncode != 0:
        said = done.stderr.decode("utf-8", "replace").strip()[-500:]
        raise KlockError(f"{program} does not run in the environment: {said}", hint="the image needs Python and Ray")
    python, ray, folder = json.loads(done.stdout)
    if folder is None:
        raise KlockError("the environment has no package ray", hint=f"run `klock add ray=={versions.ray}`")
    if (python, ray) != (versions.python, versions.ray):
        raise KlockError(
            f"the environment has Python {python} and ray {ray}, "
            f"and this node runs Python {versions.python} and ray {versions.ray}",
            hint="both must be exactly equal: lock the node's versions, or install the locked ones on the nodes",
        )
    return f"{folder}/{_WORKER}"


def _bytes(project: Project, locked: TargetLock) -> int:
    workshop = project.session.workshop
    manifests = [workshop.base_manifest(locked.base.id), *map(workshop.shown_manifest, locked.layers)]
    return sum(manifest[path].size for manifest in manifests if manifest is not None for path in manifest)


def check(lockfile: str, python: str, ray: str, deep: str) -> dict[str, Any]:
    """Compares this node's environment with its lockfile, file by file. Makes it, if it is not there yet."""
    project, pinned = pin(Path(lockfile), Versions(python=python, ray=ray))
    session = project.session
    content = session.read_lockfile()
    goal, place = project.goal_and_place(content, None, frozen=True)
    if place.synced(goal.name) != goal.lock.fingerprint:
        project.sync(frozen=True)
    from klock.drift import compare

    with session.store.in_use():
        observation = place.observe(goal, deep=deep == "deep")
    findings = [finding.message for finding in compare(observation, leave_out=goal.lock.leave_out)]
    return {"digest": pinned.digest, "fingerprint": goal.lock.fingerprint, "findings": findings}


def remove(lockfile: str) -> dict[str, Any]:
    """Removes the environment of a node's copy of a lockfile, unless a worker is in it. Its layers stay."""
    project = project_of(Path(lockfile), None)
    goal, place = project.goal_and_place(project.session.read_lockfile(), None, frozen=True)
    return {"is_removed": place.remove(goal.name) is not None}


def _locked(project: Project) -> TargetLock:
    return project.session.locked_target(project.session.read_lockfile(), None)


_VERBS: Final[Mapping[str, Callable[..., dict[str, Any]]]] = {"prepare": prepare, "check": check, "remove": remove}


def main(arguments: Sequence[str]) -> int:
    verb, *words = arguments
    try:
        said = _VERBS[verb](*words)
    except KlockError as error:
        say_error(error.message, error.hint)
        return 2
    show(json.dumps(said))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
