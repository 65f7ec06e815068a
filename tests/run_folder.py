"""What a run of the tests makes outside pytest's own folders: all of it is below one folder, and goes with it.

    /var/tmp/k<random>/                     the folder; its name is short: podman does not work in a long one
    $KLOCK_TEST_CACHE/runs/<pid>-<start>    a symlink to it: the process that leads the run, and when it began

Processes of the run have the folder's path in their variables or their arguments, or their root is mounted from there.
So a run leaves nothing, and one that was killed is cleared away by the next.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

__all__ = [
    "RUN",
    "begin_run",
    "clear_away",
    "end_run",
    "made_once",
    "make_readable",
    "readable_folder",
    "run_folder",
    "test_cache",
]

RUN: Final = "KLOCK_TEST_RUN"
"""The variable that names the folder, for all processes of a run."""

_PATIENCE: Final = 10.0


def test_cache() -> Path:
    """The folder that keeps what is made once for all test runs. Everybody can read it; only its owner writes."""
    path = _cache_path()
    path.mkdir(parents=True, exist_ok=True, mode=0o755)
    if path.stat().st_uid != os.geteuid():
        pytest.fail(f"{path} belongs to another user: set KLOCK_TEST_CACHE to a folder of your own", pytrace=False)
    return path


test_cache.__test__ = False  # type: ignore[attr-defined]  # its name is no test's


def run_folder() -> Path:
    """The folder of this run, which every account can read. It is on a disk where overlayfs can be mounted: TMPDIR."""
    test_cache()
    return Path(os.environ[RUN])


def made_once(final: Path, make: Callable[[Path], None]) -> Path:
    """A file or folder that is made if it is not there, once, however many processes ask at a time.

    `make` is given another path on the same disk; what it makes there gets the final name when it is whole."""
    with open(f"{final}.lock", "ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not final.exists():
            partial = final.with_name(f"{final.stem}.{os.getpid()}{final.suffix}")
            try:
                make(partial)
                partial.rename(final)
            finally:
                _remove(partial)
    return final


@contextlib.contextmanager
def readable_folder(name: str) -> Iterator[Path]:
    """A folder of the run that others can read: pytest's own are closed to them. It is removed at the end."""
    folder = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=run_folder()))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        _remove(folder)


def make_readable(folder: Path) -> None:
    """Lets everybody read a folder and all in it, which the umask of who made it may not."""
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)


# -- the beginning and the end


def begin_run() -> None:
    """Makes this run's folder, and clears away those of this user's runs that were killed."""
    runs = _cache_path() / "runs"
    with contextlib.suppress(PermissionError):  # the unit tests need none
        runs.mkdir(mode=0o755, parents=True, exist_ok=True)
        for link in runs.iterdir():
            pid, _, start = link.name.partition("-")
            with contextlib.suppress(FileNotFoundError):  # another run clears it away at the same time
                if link.lstat().st_uid == os.geteuid() and _start_of(int(pid)) != start:
                    clear_away(link.readlink())
                    link.unlink()
        # No underscore, as mkdtemp has: podman takes no image from a folder whose path has `_/` in it.
        folder = Path(os.environ.get("TMPDIR", "/var/tmp"), f"k{secrets.token_hex(4)}")
        folder.mkdir(mode=0o700)
        folder.chmod(0o755)
        (runs / f"{os.getpid()}-{_start_of(os.getpid())}").symlink_to(folder)
        os.environ[RUN] = os.environ["TMPDIR"] = str(folder)


def end_run() -> list[str]:
    """Removes this run's folder. Returns the command lines of processes that were left in it, and are ended."""
    folder = os.environ.pop(RUN, None)
    if folder is None:
        return []
    left = clear_away(Path(folder))
    (_cache_path() / "runs" / f"{os.getpid()}-{_start_of(os.getpid())}").unlink()
    return left


def clear_away(folder: Path) -> list[str]:
    """Ends a run's processes, takes its mounts away and removes its folder; returns the processes' command lines."""
    ended: dict[int, str] = {}
    deadline = time.monotonic() + _PATIENCE
    while (found := dict(_processes_of(folder))) and time.monotonic() < deadline:
        ended |= found
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)
    for mount in reversed(_mounts_below(folder)):
        subprocess.run(["umount", "--lazy", mount], check=False, capture_output=True)
    _remove(folder)
    return sorted(ended.values())


def _remove(path: Path) -> None:
    """Removes a file or a folder, whoever of the accounts the files belong to."""
    if os.geteuid() != 0 and path.exists():
        become = ["unshare", "--user", "--map-root-user", "--map-auto", "--"]
        subprocess.run([*become, "rm", "-rf", "--one-file-system", "--", path], check=False, capture_output=True)
    if path.is_dir():
        subprocess.run(["rm", "-rf", "--one-file-system", "--", path], check=False, capture_output=True)
    else:
        path.unlink(missing_ok=True)


def _cache_path() -> Path:
    return Path(os.environ.get("KLOCK_TEST_CACHE", "/var/tmp/klock-test-cache"))


def _start_of(pid: int) -> str:
    """When a process began, in ticks since the machine did; empty when there is none (proc_pid_stat(5))."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return ""


def _processes_of(folder: Path) -> Iterator[tuple[int, str]]:
    """The processes of a run and their command lines, but for this one and its parent."""
    mark = os.fsencode(folder)
    for entry in Path("/proc").glob("[0-9]*"):
        pid = int(entry.name)
        if pid in (os.getpid(), os.getppid()):
            continue
        with contextlib.suppress(OSError):
            line = (entry / "cmdline").read_bytes()
            if mark in line or mark in (entry / "environ").read_bytes() or _has_root_in(entry, mark):
                yield pid, line.replace(b"\0", b" ").decode("utf-8", "replace").strip()


def _has_root_in(process: Path, mark: bytes) -> bool:
    """Whether a process's root is mounted from files of the run, as a container's is (proc_pid_mountinfo(5))."""
    for line in (process / "mountinfo").read_bytes().splitlines():
        fields = line.split(b" ", 5)
        if fields[4] == b"/":
            return mark in fields[3] or mark in fields[5]
    return False


def _mounts_below(folder: Path) -> list[str]:
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    found = [line.split(" ")[4].encode().decode("unicode_escape") for line in lines]
    return [mount for mount in found if mount.startswith(f"{folder}/")]
