"""Runs a function with root's rights, in a child process with its own user and mount namespaces.

The child is uid 0 over the ids that klock may use: as root all of them, unchanged; as another user oneself (as 0) and
the range in /etc/subuid. It has no rights outside of them, so klock behaves the same with and without root. Its mounts
are seen by nobody else and go when it goes, and the kernel kills it when klock dies: nothing is ever left mounted or
running.
See user_namespaces(7), newuidmap(1).
"""

from __future__ import annotations

import errno
import marshal
import os
import pwd
import signal
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Generic, TypeVar

from klock.errors import EngineError, KlockError, StoreError
from klock.workshop import linux
from klock.workshop.signals import end_at_once
from klock.workshop.way_out import IN_A_CONTAINER, WAY_OUT

__all__ = ["NamespaceProcess", "are_namespaces_allowed", "identity_map", "in_namespace"]

T = TypeVar("T")

_DISK_FULL: Final = (errno.ENOSPC, errno.EDQUOT)
_FORBIDDEN: Final = (errno.EPERM, errno.EACCES)
_CHUNK: Final = 1 << 16
_LONG: Final = 200
"""Characters of a path in a message."""


def in_namespace(task: Callable[[], T]) -> T:
    """Calls `task` in a fresh namespace and returns its result, which is pickled. What it raises is raised here.

    Only one thread may be alive in this process.
    """
    import pickle  # noqa: F401 (here, as the task may change the root)
    import traceback  # noqa: F401

    import klock.forks  # noqa: F401

    with NamespaceProcess(task) as process:
        return process.result()


class NamespaceProcess(Generic[T]):
    """A running task: a child process, killed at the end of the `with` block if it still runs then.

    With `join` it enters the namespaces of that process instead of new ones; `klock.places.sandbox.writable` says
    why.
    """

    def __init__(self, task: Callable[[], T], *, join: int | None = None) -> None:
        linux.load()
        self._results, write_end = os.pipe()
        ready, say_ready = os.pipe()
        wait_go, go = os.pipe()
        parent = os.getpid()
        self.pid = os.fork()
        if self.pid == 0:
            for descriptor in (self._results, ready, go):
                os.close(descriptor)
            _become(task, parent=parent, join=join, ready=say_ready, go=wait_go, results=write_end)
        for descriptor in (write_end, say_ready, wait_go):
            os.close(descriptor)
        self._alive = True
        try:
            if os.read(ready, 1):
                if join is None:
                    _write_maps(self.pid)
                os.write(go, b"!")
        except BaseException:
            self.close()
            raise
        finally:
            os.close(ready)
            os.close(go)

    def __enter__(self) -> NamespaceProcess[T]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def result(self) -> T:
        """Waits for the task and returns its result, or raises what it raised."""
        pickled = bytearray()
        while chunk := os.read(self._results, _CHUNK):
            pickled += chunk
        status = self._wait()
        if status == -signal.SIGINT:
            # Ctrl-C reaches all processes of the terminal, and this one's turn may come last.
            raise KeyboardInterrupt
        if not pickled:
            raise EngineError(f"a process of the sandbox ended without a result (status {status})", hint="try again")
        succeeded, value = _unpacked(bytes(pickled))
        if succeeded:
            result: T = value
            return result
        raise _explained(value)

    def close(self) -> None:
        if self._alive:
            os.kill(self.pid, signal.SIGKILL)
            self._wait()
        if self._results >= 0:
            os.close(self._results)
            self._results = -1

    def _wait(self) -> int:
        _, status = os.waitpid(self.pid, 0)
        self._alive = False
        return os.waitstatus_to_exitcode(status)


def _become(task: Callable[[], Any], *, parent: int, join: int | None, ready: int, go: int, results: int) -> None:
    """What the child does; never returns."""
    try:
        linux.die_with_parent(parent)
        end_at_once()
        if join is None:
            _unshare()
        else:
            _join(join)
        os.write(ready, b"!")
        os.close(ready)
        if not os.read(go, 1):
            os._exit(1)
        os.close(go)
        os.setresgid(0, 0, 0)
        os.setresuid(0, 0, 0)
        linux.die_with_parent(parent)
        os.umask(0o022)
        outcome = (True, task())
    except BaseException as error:
        if not isinstance(error, KlockError | OSError):
            import traceback

            error.add_note("".join(traceback.format_exception(error)))
        outcome = (False, error)
    try:
        with open(results, "wb") as pipe:
            pipe.write(_packed(outcome))
    finally:
        os._exit(0)


def _packed(outcome: tuple[bool, Any]) -> bytes:
    """What is plain, as the status of a command is, takes no pickle: its import takes longer than all else here."""
    try:
        return b"m" + marshal.dumps(outcome)
    except ValueError:
        from klock.forks import pickled_outcome

        return b"p" + pickled_outcome(outcome)


def _unpacked(content: bytes) -> tuple[bool, Any]:
    if content[:1] == b"m":
        outcome: tuple[bool, Any] = marshal.loads(content[1:])
    else:
        import pickle

        outcome = pickle.loads(content[1:])
    return outcome


def _unshare() -> None:
    try:
        linux.unshare(linux.CLONE_NEWUSER | linux.CLONE_NEWNS)
    except OSError as error:
        raise EngineError(
            f"this machine does not let klock make a user namespace: {error.strerror}",
            hint="allow it: sysctl user.max_user_namespaces=10000 kernel.unprivileged_userns_clone=1 "
            f"kernel.apparmor_restrict_unprivileged_userns=0; {IN_A_CONTAINER}; {WAY_OUT}",
        ) from error


def _join(pid: int) -> None:
    descriptors = [os.open(f"/proc/{pid}/ns/{name}", os.O_RDONLY | os.O_CLOEXEC) for name in ("user", "mnt")]
    linux.setns(descriptors[0], linux.CLONE_NEWUSER)
    linux.setns(descriptors[1], linux.CLONE_NEWNS)


def _explained(error: BaseException) -> BaseException:
    if isinstance(error, OSError) and not isinstance(error, KlockError):
        path = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else ""
        shown = path if len(path) <= _LONG else f"{path[:_LONG]}..."
        where = f": {shown}" if path else ""
        if error.errno in _DISK_FULL:
            return StoreError(
                f"the disk of the store is full: {error.strerror}{where}",
                hint="free some space (klock cache prune), or set KLOCK_CACHE_DIR to a folder on another disk",
            )
        hint = f"{IN_A_CONTAINER}; {WAY_OUT}" if error.errno in _FORBIDDEN else None
        return EngineError(f"the sandbox failed: {error.strerror}{where}", hint=hint)
    return error


# -- maps of ids


def are_namespaces_allowed() -> bool:
    """Whether this machine lets this user make a user namespace, and mount in it: some allow only the first."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            linux.unshare(linux.CLONE_NEWUSER | linux.CLONE_NEWNS)
            linux.mount("none", "/", None, flags=linux.MS_REC | linux.MS_SLAVE)
            status = 0
        finally:
            os._exit(status)
    return os.waitpid(child, 0)[1] == 0


def identity_map(kind: str) -> str:
    """A map of every id that is mapped here to itself. `kind` is uid or gid."""
    extents = [line.split() for line in Path(f"/proc/self/{kind}_map").read_text("ascii").splitlines()]
    return "".join(f"{inside} {inside} {count}\n" for inside, _, count in extents)


def _write_maps(pid: int) -> None:
    if os.geteuid() == 0:
        try:
            for kind in ("uid", "gid"):
                Path(f"/proc/{pid}/{kind}_map").write_text(identity_map(kind), "ascii")
        except OSError as error:
            raise EngineError(
                f"klock runs as root but may not map ids into a namespace: {error.strerror}",
                hint="give it the capabilities SETUID, SETGID and SETFCAP, or run klock as an ordinary user, "
                f"{WAY_OUT}",
            ) from error
        return
    for kind, own in (("uid", os.getuid()), ("gid", os.getgid())):
        _run_newidmap(kind, pid, own, _subordinate_ids(kind))


def _run_newidmap(kind: str, pid: int, own: int, ranges: list[tuple[int, int]]) -> None:
    import shutil
    import subprocess

    program = shutil.which(f"new{kind}map")
    if program is None:
        raise EngineError(
            f"new{kind}map is not installed; without root klock needs it to give files their owners",
            hint="run `apt-get install uidmap`",
        )
    extents = ["0", str(own), "1"]
    inside = 1
    for start, count in ranges:
        extents += [str(inside), str(start), str(count)]
        inside += count
    done = subprocess.run([program, str(pid), *extents], capture_output=True, text=True, check=False)
    if done.returncode:
        raise EngineError(f"new{kind}map failed: {done.stderr.strip()}", hint=_hint_for_ranges())


def _subordinate_ids(kind: str) -> list[tuple[int, int]]:
    """The ranges (first id, count) that /etc/subuid or /etc/subgid gives to this user: subuid(5)."""
    owners = {_user_name(), str(os.getuid())}
    try:
        lines = Path(f"/etc/sub{kind}").read_text("utf-8", "surrogateescape").splitlines()
    except FileNotFoundError:
        lines = []
    fields = [line.strip().split(":") for line in lines]
    ranges = [
        (int(f[1]), int(f[2])) for f in fields if len(f) == 3 and f[0] in owners and f[1].isdigit() and f[2].isdigit()
    ]
    if not ranges:
        raise EngineError(f"the user {_user_name()} has no range of ids in /etc/sub{kind}", hint=_hint_for_ranges())
    return ranges


def _hint_for_ranges() -> str:
    return f"as root: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {_user_name()}"


def _user_name() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())
