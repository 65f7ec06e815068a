"""Compares the pods of a cluster with a lockfile: their image, the lock they were made from, and their files."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Final

from klock.digests import Digest
from klock.drift import compare_files
from klock.errors import KlockError
from klock.export.kubernetes import FINGERPRINT, IMAGE
from klock.findings import Code, Finding
from klock.fleet import reading_script
from klock.fleet.cluster import Cluster, Container, ExecFailed, Pod, PodGone
from klock.fleet.expected import PASSED_OVER, Expected
from klock.fleet.reading import Unreadable, What, read_container
from klock.layers.manifest import Entry, Kind, Manifest
from klock.places.containers.observation import OWN
from klock.words import counted, some
from klock.workshop.working_dir import folders_to, without_made_folders

__all__ = ["CheckedFleet", "Locked", "check_fleet"]

_AT_ONCE: Final = 8
_DEFAULT_CONTAINER: Final = "kubectl.kubernetes.io/default-container"
_RUNNING: Final = "Running"
_ENDED: Final = ("Succeeded", "Failed")
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}$")
_RUN: Final = "import json, sys; exec(json.loads(sys.stdin.readline()))"
_ANYWAY: Final = 1 << 22
_OF_A_PATH: Final = 600
"""Characters that a path may take in a container's answer, on average."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Locked:
    """What pods should be. `images` are the digests that the image may have, `python` the environment's.

    Without `files` no file is read. `leave_out` are the steps' own patterns.
    """

    fingerprint: Digest
    images: frozenset[Digest] = frozenset()
    python: str | None = None
    files: Expected | None = None
    leave_out: tuple[str, ...] = ()
    working_dir: str = "/"


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedFleet:
    """`findings` of each pod that has some; `compared` is the number of pods; `notes` say what was not compared."""

    findings: dict[str, list[Finding]]
    compared: int
    notes: tuple[str, ...] = ()


def check_fleet(
    cluster: Cluster, selector: str, locked: Locked, *, container: str | None = None, seconds: float = 300
) -> CheckedFleet:
    """Compares all pods of `selector`, several at once, each for at most `seconds`.

    Raises KlockError when there are none, or when the cluster refuses.
    """
    pods = cluster.pods(selector)
    alive = [pod for pod in pods if not pod.is_ending and pod.phase not in _ENDED]
    notes = [
        f"{pod} is not compared: {'it is being deleted' if pod.is_ending else pod.phase}"
        for pod in pods
        if pod not in alive
    ]
    if not alive:
        raise KlockError(
            f"no pod with {selector} runs" + (f": {counted(len(notes), 'pod')} ended" if notes else ""),
            hint="see `kubectl get pods --show-labels`; name another namespace with --namespace",
        )
    asked = [(pod, _chosen(pod, container)) for pod in alive]

    def one(each: tuple[Pod, Container]) -> _Judged:
        return _judged(cluster, *each, locked, seconds)

    with ThreadPoolExecutor(max_workers=_AT_ONCE, thread_name_prefix="klock-fleet") as pool:
        jobs = [pool.submit(one, each) for each in asked]
        try:
            judged = [job.result() for job in jobs]
        finally:
            for job in jobs:
                job.cancel()
    findings = {str(pod): list(each.findings) for (pod, _), each in zip(asked, judged, strict=True) if each.findings}
    notes += [f"{pod}: {note}" for (pod, _), each in zip(asked, judged, strict=True) for note in each.notes]
    return CheckedFleet(findings=findings, compared=sum(each.is_compared for each in judged), notes=tuple(notes))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Judged:
    findings: tuple[Finding, ...] = ()
    notes: tuple[str, ...] = ()
    is_compared: bool = True


def _chosen(pod: Pod, wanted: str | None) -> Container:
    """The container to compare: the one that is asked for, or klock's or kubectl's default, or else the only one."""
    by_name = {container.name: container for container in pod.containers}
    if wanted is None and not by_name:
        return Container(name="")
    if wanted is None:
        named = [name for name in (IMAGE, pod.annotations.get(_DEFAULT_CONTAINER, "")) if name in by_name]
        names = named or list(by_name)
        if not named and len(names) > 1:
            raise KlockError(
                f"{pod} has the containers {some(sorted(by_name))}", hint="say which one to compare: --container NAME"
            )
        return by_name[names[0]]
    return by_name.get(wanted, Container(name=wanted, waits=f"it has no container {wanted}"))


def _judged(cluster: Cluster, pod: Pod, container: Container, locked: Locked, seconds: float) -> _Judged:
    if not container.runs:
        phase = "" if pod.phase == _RUNNING else pod.phase
        why = ": ".join(filter(None, (phase, pod.reason, container.waits))) or "its container has not started"
        return _Judged(findings=(Finding(code=Code.NOT_RUNNING, message=f"it does not run: {why}"),), is_compared=False)
    findings = list(_compare_images(pod, container, locked))
    if findings or locked.files is None or locked.python is None:
        # Every file of another image would differ, too.
        return _Judged(findings=tuple(findings))
    command = [locked.python, "-I", "-S", "-c", _RUN, "/", PASSED_OVER]
    most = _ANYWAY + _OF_A_PATH * 2 * len(locked.files.files)
    try:
        line = json.dumps(inspect.getsource(reading_script))
        what = read_container(cluster.run(pod, container.name, command, line=line, most=most, seconds=seconds))
    except PodGone:
        return _Judged(notes=("it ended before it answered",), is_compared=False)
    except (ExecFailed, Unreadable) as error:
        return _Judged(findings=(Finding(code=Code.UNREADABLE, message=error.message),), is_compared=False)
    findings = list(_compare_files(what, locked, locked.files))
    return _Judged(findings=tuple(findings), notes=tuple(_not_compared(what, locked.files)))


def _compare_images(pod: Pod, container: Container, locked: Locked) -> Iterator[Finding]:
    said = pod.annotations.get(FINGERPRINT)
    if said is not None and said != locked.fingerprint:
        yield Finding(
            code=Code.SETTING,
            message="it was made from another lockfile",
            path=FINGERPRINT,
            expected=locked.fingerprint,
            found=said,
        )
    found = _DIGEST.search(container.image_id)
    if locked.images and (found is None or found[0] not in locked.images):
        runs = found[0] if found else container.image_id or "no image that has a digest"
        yield Finding(
            code=Code.SETTING,
            message=f"it runs another image: {runs}",
            path=IMAGE,
            expected=min(locked.images),
            found=runs,
        )


def _compare_files(what: What, locked: Locked, expected: Expected) -> Iterator[Finding]:
    is_mounted = _below(what.mounts)
    files = Manifest(e for path, e in expected.files.items() if path not in what.hidden and not is_mounted(path))
    seen = Manifest(entry for path, entry in what.files.items() if not is_mounted(path))
    observed = _without_bytecode(seen, files)
    made = (*_above((*OWN, *what.mounts)), *folders_to(locked.working_dir, files))
    observed = without_made_folders(observed, files, made)
    entries = {path: _as_shown(entry, files.get(path)) for path, entry in observed.items()}
    entries |= {path: files[path] for path in OWN if path in files}
    yield from compare_files(files, expected.layers, Manifest(entries.values()), leave_out=locked.leave_out)


def _as_shown(entry: Entry, locked: Entry | None) -> Entry:
    """With the locked attributes, which the script does not read."""
    return entry if locked is None else replace(entry, xattrs=locked.xattrs)


def _without_bytecode(observed: Manifest, locked: Manifest) -> Manifest:
    """Without bytecode that Python wrote in the container, and its folders: the image has no bytecode of packages."""

    def is_made(entry: Entry) -> bool:
        folder, _, name = entry.path.rpartition("/")
        if entry.kind is Kind.FOLDER:
            return name == "__pycache__"
        return entry.kind is Kind.FILE and name.endswith(".pyc") and folder.endswith("__pycache__")

    return Manifest(entry for path, entry in observed.items() if path in locked or not is_made(entry))


def _below(folders: Sequence[str]) -> Callable[[str], bool]:
    """Whether a path is one of these or below one."""
    mounted = {*folders}
    return lambda path: any(above in mounted for above in _above([path]))


def _above(paths: Iterable[str]) -> Iterator[str]:
    for path in paths:
        parts = path.split("/")
        yield from ("/".join(parts[:depth]) for depth in range(1, len(parts) + 1))


def _not_compared(what: What, expected: Expected) -> Iterator[str]:
    is_mounted = _below(what.mounts)
    covered = sum(1 for path in expected.files if is_mounted(path))
    if covered:
        yield f"{counted(covered, 'locked path')} below mounts: {some(['/' + path for path in what.mounts])}"
    if what.hidden:
        yield f"{counted(len(what.hidden), 'file')} that its user may not read, such as /{min(what.hidden)}"
