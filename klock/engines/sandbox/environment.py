"""A synced environment: the lockfile's layers, and a writable layer that keeps what commands do to it.

    environments/<name>/record.json          what it is made of, and the folder of its writable layer
    environments/<name>/<random>/            a writable layer: upper, work, tmp

`replace` makes a new writable layer and then renames a new record into place: before that moment the environment is the
old one, after it the new one. Old writable layers go when no command uses them any more.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from klock.digests import Digest
from klock.engines.protocol import Command, ImageConfig
from klock.engines.sandbox.commands import Sandbox
from klock.engines.sandbox.namespace import NamespaceProcess, in_namespace
from klock.engines.sandbox.overlay import Area, WritableLayer
from klock.engines.sandbox.scratch import find_holder, held, holding_mounts, is_held, remove_trees
from klock.engines.sandbox.trees import Trees
from klock.errors import EngineError, StoreError
from klock.layers.canonical import holds_changes
from klock.layers.manifest import Manifest
from klock.layers.scan import manifest_of_tree
from klock.store import Store

__all__ = ["SandboxEnvironment"]

_FORWARDED: Final = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)
_SENT_BY_KERNEL: Final = 0x80  # SI_KERNEL: from the terminal, which sends to the whole foreground itself


class SandboxEnvironment:
    def __init__(self, name: str, *, store: Store, trees: Trees, area: Path, ca_bundle: Path | None) -> None:
        self._name = name
        self._store = store
        self._trees = trees
        self._area = str(area)
        self._folder = store.environment_path(name)
        self._ca_bundle = ca_bundle

    @property
    def record(self) -> Mapping[str, object] | None:
        state = self._state()
        return None if state is None else state["record"]

    @property
    def parts(self) -> tuple[str, ...]:
        """The digests of the base and layers it is made of."""
        state = self._state()
        return () if state is None else (state["base"], *state["layers"])

    @property
    def is_in_use(self) -> bool:
        """Whether a command runs in it."""
        return any(is_held(folder) for folder in self._writable_folders())

    def replace(
        self, layers: Sequence[Digest], *, base: str, record: Mapping[str, object], config: ImageConfig | None = None
    ) -> None:
        """Makes the environment exactly base and layers; commands that still run in it keep the old one.

        It has no use for `config`: whoever runs a command says how.
        """
        self._trees.stack(base, layers)
        self._folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder.mkdir(mode=0o700, exist_ok=True)
        with self._lock():
            folder = self._folder / secrets.token_hex(8)
            folder.mkdir(mode=0o700)
            WritableLayer.create(folder)
            state = {"base": base, "layers": list(layers), "folder": folder.name, "record": dict(record)}
            with self._store.temporary_file() as temporary:
                with open(temporary, "w", encoding="utf-8") as file:
                    json.dump(state, file, sort_keys=True)
                    file.flush()
                    os.fsync(file.fileno())
                temporary.replace(self._folder / "record.json")
            old = [found for found in self._writable_folders() if found != folder and not is_held(found)]
            remove_trees(old)

    def is_clean(self) -> bool:
        """Whether the writable layer changes nothing but what is never locked. True when there is no environment."""
        state = self._state()
        if state is None:
            return True
        upper = self._folder / state["folder"] / "upper"
        if not any(upper.iterdir()):
            return True

        try:
            layers = self._trees.stack(state["base"], state["layers"])
        except StoreError:
            return False

        def task() -> bool:
            lower = Area.create(self._area).mount_to_read(layers)
            return not holds_changes(os.fsencode(upper), os.fsencode(lower))

        return in_namespace(task)

    def observe(self) -> Manifest:
        """The whole environment as it is now, every file read."""
        state = self._existing()
        layers = [*self._trees.stack(state["base"], state["layers"]), self._folder / state["folder"] / "upper"]

        def task() -> bytes:
            lower = Area.create(self._area).mount_to_read(layers)
            return manifest_of_tree(os.fsencode(lower)).to_bytes()

        return Manifest.from_bytes(in_namespace(task))

    def execute(self, command: Command, *, services: Sequence[Command] = ()) -> int:
        """Runs a command on this process's terminal; see `klock.engines.protocol.Environment`.

        A second command joins the mounts of the first: overlayfs does not allow one writable layer in two mounts.
        """
        self._existing()
        mounted, say_mounted = os.pipe()
        with contextlib.ExitStack() as stack:
            stack.enter_context(_terminal_kept())
            stack.enter_context(_signals_blocked())
            with self._lock():
                state = self._existing()
                writable = WritableLayer(folder=self._folder / state["folder"])
                stack.enter_context(held(writable.folder))
                join = find_holder(writable.folder)

                def task() -> int:
                    area = Area(self._area) if join else Area.create(self._area)
                    if not join:
                        folders = self._trees.stack(state["base"], state["layers"])
                        area.mount_to_write(folders, writable, mounts=command.mounts)
                    with holding_mounts(writable.folder):
                        os.close(say_mounted)
                        return self._supervise(area, writable, command, services, joined=join is not None)

                process = stack.enter_context(NamespaceProcess(task, join=join))
                os.close(say_mounted)
                os.read(mounted, 1)  # the end of the pipe: mounted, or failed
                os.close(mounted)
            _wait_and_forward(process.pid, lambda: process.pid)
            return process.result()

    def _supervise(
        self, area: Area, writable: WritableLayer, command: Command, services: Sequence[Command], *, joined: bool
    ) -> int:
        """In the namespace process: starts everything, forwards signals to the command and returns its status."""
        commands = [command, *services]
        sandbox = Sandbox(area, writable, commands, ca_bundle=self._ca_bundle, is_step=False, joined=joined)
        try:
            started = sandbox.start(command, stdio=(0, 1, 2), own_session=False, held=bool(services))
            if isinstance(started, int):
                return started
            log = os.open(self._folder / "services.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            nothing = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
            running = [sandbox.start(service, stdio=(nothing, log, log), own_session=True) for service in services]
            started.release()
            others = [service.pid for service in running if not isinstance(service, int)]
            _wait_and_forward(started.pid, started.command_pid, others)
            return started.wait()
        finally:
            sandbox.close()

    # -- the record

    def _state(self) -> dict[str, Any] | None:
        try:
            state = json.loads((self._folder / "record.json").read_bytes())
        except (FileNotFoundError, ValueError):
            return None
        return state if isinstance(state, dict) else None

    def _existing(self) -> dict[str, Any]:
        state = self._state()
        if state is None:
            raise EngineError(f"there is no environment {self._name!r} yet", hint="run klock sync")
        return state

    def _writable_folders(self) -> list[Path]:
        try:
            return [found for found in self._folder.iterdir() if found.is_dir()]
        except FileNotFoundError:
            return []

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        """One process at a time starts a command or replaces the environment.

        Unlocked by hand: children of this process inherit the open file, and outlive the block.
        """
        with open(self._folder / "lock", "ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            try:
                yield
            finally:
                fcntl.flock(file, fcntl.LOCK_UN)


@contextlib.contextmanager
def _signals_blocked() -> Iterator[None]:
    """Signals wait for `_wait_and_forward`, in this process and in namespace processes; commands unblock them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (*_FORWARDED, signal.SIGCHLD))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _wait_and_forward(child: int, receiver: Callable[[], int | None], others: Sequence[int] = ()) -> None:
    """Returns when `child` has ended, without reaping it; until then passes signals on to the process of `receiver`.

    `others` are reaped meanwhile: a process namespace does not end before all of its processes are.
    """
    waiting = set(others)
    while os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        waiting -= {other for other in waiting if os.waitpid(other, os.WNOHANG)[0]}
        received = signal.sigwaitinfo((*_FORWARDED, signal.SIGCHLD))
        if received.si_signo == signal.SIGCHLD or received.si_code == _SENT_BY_KERNEL:
            continue
        target = receiver()
        if target is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(target, received.si_signo)


@contextlib.contextmanager
def _terminal_kept() -> Iterator[None]:
    """Brings this process back into the terminal's foreground when a shell in the environment took it and went."""
    try:
        in_foreground = os.tcgetpgrp(0) == os.getpgrp()
    except OSError:
        in_foreground = False
    yield
    if in_foreground:
        before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTTOU,))
        with contextlib.suppress(OSError):
            os.tcsetpgrp(0, os.getpgrp())
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
