"""Running a command in an environment: what it sees of the image, of the user's wishes, and of the machine."""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from klock.errors import KlockError
from klock.gpu.edits import NO_DEVICES, ContainerEdits
from klock.launchers import launcher_variables
from klock.lockfile.model import TargetLock
from klock.places.protocol import OWN_STREAMS, Place, Streams
from klock.steps import kind_of
from klock.steps.at import revealed_variables
from klock.values import dataclass
from klock.workshop.protocol import Command, Mount, Network

if TYPE_CHECKING:
    from klock.replay.goal import Goal
    from klock.session import Session

__all__ = ["Wishes", "captured", "devices_for", "execute", "parse_mounts", "parse_shm_size", "variables_of_program"]

_SIZE: Final = re.compile(r"([0-9]{1,19})([bkmgt]?)(?:i?b)?")
_UNITS: Final = {"b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What the user wants of a command beside what the image says, and the devices it needs for that. It begins when
    all of `wait_for` are ready, as in `ServiceLock`, and gives up after `wait_seconds`. `host_pid`, `host_ipc` and
    `shm_size` are as for a `Command`."""

    variables: Mapping[str, str] = field(default_factory=dict)
    mounts: tuple[Mount, ...] = ()
    working_dir: str | None = None
    network: Network = Network.HOST
    wait_for: tuple[str, ...] = ()
    wait_seconds: int | None = None
    devices: ContainerEdits = NO_DEVICES
    host_pid: bool = False
    host_ipc: bool = False
    shm_size: int | None = None


def execute(
    argv: Sequence[str],
    goal: Goal,
    place: Place,
    session: Session,
    *,
    wishes: Wishes,
    streams: Streams = OWN_STREAMS,
    takes_over: bool = False,
    on_start: Callable[[Command, Sequence[Command]], None] = lambda _, __: None,
) -> int:
    """Runs `argv` in the environment of `goal`, with its services, and returns its status.

    `takes_over` is as for `Place.execute`. `on_start` is told the command and its services before they start.
    """
    lock = goal.lock
    variables = {**variables_of_program(argv), **_variables(place, lock, session.environ), **wishes.variables}
    with session.workshop.without_hooks(wishes.devices, base=lock.base.id, layers=lock.layers) as edits:
        for name, value in edits.environment.items():
            # A list of folders to look in, of which the image may have some of its own.
            before = variables.get(name) if name == "LD_LIBRARY_PATH" else None
            variables[name] = f"{before}:{value}" if before else value
        working_dir = lock.working_dir
        command = Command(
            argv=tuple(argv),
            environment=variables,
            working_dir=posixpath.join(working_dir, wishes.working_dir) if wishes.working_dir else working_dir,
            # The image's own is made, as by podman and docker; another one may be a mistake, and would be drift.
            makes_working_dir=not wishes.working_dir,
            user=lock.user,
            network=wishes.network,
            mounts=wishes.mounts,
            devices=edits,
            host_pid=wishes.host_pid,
            host_ipc=wishes.host_ipc,
            shm_size=wishes.shm_size,
        )
        services = [
            replace(each, devices=edits, network=wishes.network) for each in _services(lock, variables, session.environ)
        ]
        waits = [service.wait_for for service in lock.services if service.wait_for is not None]
        if waits or wishes.wait_for:
            from klock.steps.service.waiting import PATIENCE, telling_its_end, waiting_for

            mark, seconds = f"/tmp/.klock-{os.urandom(8).hex()}", wishes.wait_seconds or PATIENCE
            command = waiting_for(command, [*waits, *wishes.wait_for], mark=mark, seconds=seconds)
            services = [telling_its_end(each, mark) for each in services]
        on_start(command, services)
        return place.execute(goal.name, command, services=services, streams=streams, takes_over=takes_over)


def variables_of_program(argv: Sequence[str]) -> dict[str, str]:
    """What a program needs that is process 1 in podman and docker, and is not here."""
    # Without it tini warns at each start, and adopts no orphans.
    return {"TINI_SUBREAPER": "1"} if argv and posixpath.basename(argv[0]) in ("tini", "tini-static") else {}


def _variables(place: Place, lock: TargetLock, environ: Mapping[str, str]) -> dict[str, str]:
    variables = {**place.variables(environ), **revealed_variables(lock, environ)}
    # Else every import of a module without a .pyc would be drift.
    variables.setdefault("PYTHONDONTWRITEBYTECODE", "1")
    if (term := environ.get("TERM")) is not None:
        variables.setdefault("TERM", term)
    return {**launcher_variables(environ), **variables}


def _services(lock: TargetLock, variables: Mapping[str, str], environ: Mapping[str, str]) -> Iterator[Command]:
    for step in lock.steps:
        if kind_of(step).is_service:
            yield kind_of(step).service(step, lock=lock, variables=dict(variables), environ=environ)


def parse_mounts(texts: Iterable[str]) -> tuple[Mount, ...]:
    """`SOURCE:TARGET` or `SOURCE:TARGET:ro` each: a host path, and where it is shown. Raises KlockError.

    Folders come before what is shown in them, whatever the order they were asked for: so do podman and docker.
    """
    mounts = sorted(map(_parse_mount, texts), key=lambda mount: posixpath.normpath(mount.target).count("/"))
    targets = [posixpath.normpath(mount.target) for mount in mounts]
    for mount, target in zip(mounts, targets, strict=True):
        if targets.count(target) > 1:
            raise KlockError(f"--mount: {mount.target} is named twice", hint="choose another target for one of them")
    return tuple(mounts)


def _parse_mount(text: str) -> Mount:
    source, _, rest = text.partition(":")
    target, _, mode = rest.partition(":")
    if not source or not target.startswith("/") or mode not in ("", "ro", "rw"):
        raise KlockError(f"--mount {text!r} is not SOURCE:TARGET or SOURCE:TARGET:ro", hint="TARGET must be absolute")
    if not target.strip("/"):
        raise KlockError(f"--mount {text!r} would hide the environment", hint="choose a folder in it: SOURCE:/mnt/data")
    path = Path(source).expanduser().absolute()
    if not path.exists():
        raise KlockError(f"--mount {text!r}: there is no {path}", hint=f"make it first: mkdir {path}")
    return Mount(source=path, target=target, read_only=mode == "ro")


def parse_shm_size(size: int | str | None, *, host_ipc: bool) -> int | None:
    """Bytes, or a number with a unit as docker reads it, such as `512m` and `8g`. Raises KlockError."""
    if size is None:
        return None
    found = _SIZE.fullmatch(str(size).lower())
    if found is None or not 0 < (count := int(found[1]) * _UNITS[found[2] or "b"]) < 1 << 63:
        raise KlockError(
            f"--shm-size {size!r} is not a size", hint="write a number of bytes, or one with k, m or g: 8g"
        )
    if host_ipc:
        raise KlockError(
            "--shm-size: with --host-ipc a command has the machine's own /dev/shm", hint="leave out one of the two"
        )
    return count


def devices_for(lock: TargetLock, gpus: str | None, place: Place, names: Sequence[str] = ()) -> ContainerEdits:
    """What a command needs to see its GPUs, and the devices of these names; both as `klock.gpu.request` reads them.

    Raises EngineError when this machine has not what is locked or asked for.
    """
    return _gpus_for(lock, gpus, place) + _named(names, place)


def _named(names: Sequence[str], place: Place) -> ContainerEdits:
    if not names:
        return NO_DEVICES
    if not place.gives_devices:
        raise KlockError(
            "--device: a running container has only the devices it was started with", hint="remove --device"
        )
    from klock.gpu.request import named_devices

    return named_devices(names)


def _gpus_for(lock: TargetLock, gpus: str | None, place: Place) -> ContainerEdits:
    from klock.gpu.requirements import cuda_of

    if gpus is None and cuda_of(lock.target.accelerator) is None:
        return NO_DEVICES
    from klock.gpu.choice import devices_of, refuse_if_unable

    refuse_if_unable(lock, gpus)
    if not place.gives_devices:
        if gpus not in (None, "none"):
            raise KlockError(
                "--gpus: a running container has only the devices it was started with", hint="remove --gpus"
            )
        return NO_DEVICES
    devices = devices_of(lock, gpus)
    return devices.edits if devices else NO_DEVICES


@contextmanager
def captured() -> Iterator[tuple[Streams, list[bytes]]]:
    """Streams whose output is in the list, stdout and stderr, after the block; stdin is empty.

    Files in memory, not pipes: nobody has to read while the command runs.
    """
    outputs: list[bytes] = []
    stdin = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    files = [os.memfd_create(name) for name in ("stdout", "stderr")]
    try:
        yield (stdin, files[0], files[1]), outputs
        for file in files:
            os.lseek(file, 0, os.SEEK_SET)
            with open(file, "rb", closefd=False) as written:
                outputs.append(written.read())
    finally:
        for descriptor in (stdin, *files):
            os.close(descriptor)
