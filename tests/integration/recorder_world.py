"""Real programs that talk to the recorder through a cable, and the recorder to a real server, without a sandbox.

    def scenario(world: World) -> None:
        recorded = world.record("curl -s http://site.test/")
        ...
    run_in_world(scenario, tmp_path)

The world is a process with its own user, mount and network namespaces. Upstream is at 10.77.0.1, under the names NAMES.
Commands run at the end of a cable, as the sandbox's do, but with all files of this machine. A `SharedWorld` serves the
tests of a module one after the other: to make a world takes longer than most tests.
"""

from __future__ import annotations

import os
import subprocess
import traceback
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from multiprocessing import Pipe
from pathlib import Path
from typing import Any, Final, TypeVar

from klock.lockfile.model import LockedRequest
from klock.recorder import Report, incoming, recording, replaying, upstream
from klock.recorder.authority import Authority
from klock.recorder.process import Recorder
from klock.store import Store
from klock.workshop import linux
from klock.workshop.cable import enter_recorded_network
from klock.workshop.namespace import NamespaceProcess, in_namespace
from klock.workshop.protocol import RESOLVER, Uplink
from tests.integration.recorder_upstream import Upstream

__all__ = ["NAMES", "Outcome", "SharedWorld", "World", "run_in_world"]

T = TypeVar("T")

ADDRESS: Final = "10.77.0.1"
NAMES: Final = {
    "site.test": ADDRESS,
    "other.test": ADDRESS,
    "files.test": ADDRESS,
    "untrusted.test": "10.77.0.2",
    "closed.test": "10.77.0.3",
    "loop.test": "127.0.0.1",
    "link.test": "169.254.169.254",
}

_MOUNTS: Final = """
mount --bind {folder}/resolv.conf /etc/resolv.conf
mount --bind {folder}/step-hosts /etc/hosts
mount --bind {folder}/step-nsswitch.conf /etc/nsswitch.conf
"""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """A command that was recorded or replayed."""

    status: int
    output: bytes
    report: Report

    @property
    def text(self) -> str:
        return self.output.decode("utf-8", "replace")


def run_in_world(scenario: Callable[[World], T], folder: Path) -> T:
    """Calls `scenario` in a new world and returns its result, which is pickled."""

    def task() -> T:
        try:
            with World(folder) as world:
                return scenario(world)
        except BaseException as error:
            # Not every exception of pytest can be pickled.
            raise AssertionError("".join(traceback.format_exception(error))) from None

    return in_namespace(task)


class SharedWorld:
    """A world that lives as long as the `with` block. What a test asks of it begins with `begin`."""

    def __init__(self, folder: Path) -> None:
        self._calls, answers = Pipe()

        def serve() -> None:
            with World(folder) as world:
                while True:
                    name, arguments, keywords = answers.recv()
                    try:
                        answers.send((True, getattr(world, name)(*arguments, **keywords)))
                    except Exception as error:
                        answers.send((False, "".join(traceback.format_exception(error))))

        self._process = NamespaceProcess(serve)
        answers.close()

    def __enter__(self) -> SharedWorld:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.close()
        self._calls.close()

    def begin(self, folder: Path) -> None:
        """From here on, as if it was made for `folder`."""
        self._call("begin", folder)

    def record(self, script: str, *, ports: Sequence[int] = (), private_urls: Sequence[str] = ()) -> Outcome:
        """See `World.record`."""
        outcome: Outcome = self._call("record", script, ports=ports, private_urls=private_urls)
        return outcome

    def replay(self, script: str, recorded: Report | Sequence[LockedRequest], *, offline: bool = True) -> Outcome:
        """See `World.replay`."""
        outcome: Outcome = self._call("replay", script, recorded, offline=offline)
        return outcome

    def asked(self) -> list[str]:
        """What upstream was asked since `begin` or the last call of this."""
        lines: list[str] = self._call("asked")
        return lines

    def lose_downloads(self) -> None:
        """The store forgets all answers."""
        self._call("lose_downloads")

    def _call(self, name: str, *arguments: object, **keywords: object) -> Any:
        self._calls.send((name, arguments, keywords))
        try:
            succeeded, value = self._calls.recv()
        except EOFError:
            raise self._failure() from None
        assert succeeded, value
        return value

    def _failure(self) -> BaseException:
        try:
            self._process.result()
        except Exception as error:
            return error
        return AssertionError("the world ended")


class World:
    """Upstream, and commands with a cable. `store` is where the recorder puts what it locks."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._settings = folder
        self.store = Store(folder / "store")
        # That klock asks again is tested, not how long it waits before it does.
        for module in (incoming, upstream):
            vars(module)["PAUSE"] = 0.05
        (folder / "hosts").write_text("".join(f"{address} {name}\n" for name, address in NAMES.items()))
        # Names that are not in the hosts file do not exist, rather than that nobody can be asked.
        (folder / "nsswitch.conf").write_text("hosts: files\n")
        (folder / "step-nsswitch.conf").write_text("hosts: files dns\n")
        (folder / "step-hosts").write_text("127.0.0.1 localhost\n")
        (folder / "resolv.conf").write_text(f"nameserver {RESOLVER}\n")
        linux.unshare(linux.CLONE_NEWNET)
        _shell("ip link set lo up; for n in 1 2 3; do ip addr add 10.77.0.$n/24 dev lo; done")
        for name in ("hosts", "nsswitch.conf"):
            _shell(f"mount --bind {folder}/{name} /etc/{name}")
        authority = Authority()
        self.ca_bundle = folder / "upstream-ca.pem"
        self.ca_bundle.write_bytes(authority.certificate)
        context = authority.context("site.test")
        context.sni_callback = lambda wire, name, _: setattr(wire, "context", authority.context(name or "site.test"))
        self.upstream = Upstream(folder / "requests.log", address=ADDRESS, context=context)
        self._untrusted = Upstream(
            folder / "untrusted.log", address="10.77.0.2", context=Authority().context("untrusted.test")
        )

    def begin(self, folder: Path) -> None:
        self.folder = folder
        self.store = Store(folder / "store")
        self.upstream.start_over()

    def asked(self) -> list[str]:
        lines = self.upstream.lines
        self.upstream.forget()
        return lines

    def lose_downloads(self) -> None:
        self.store.remove_downloads(kept_too=True)

    def __enter__(self) -> World:
        return self

    def __exit__(self, *_: object) -> None:
        self.upstream.close()
        self._untrusted.close()

    def record(
        self, script: str, *, ports: Sequence[int] = (), secrets: Sequence[str] = (), private_urls: Sequence[str] = ()
    ) -> Outcome:
        """Runs a shell script with everything passed on to upstream."""
        return self.run(
            script,
            recording(
                store=self.store, ports=ports, secrets=secrets, private_urls=private_urls, ca_bundle=self.ca_bundle
            ),
        )

    def replay(
        self,
        script: str,
        recorded: Report | Sequence[LockedRequest],
        *,
        secrets: Sequence[str] = (),
        offline: bool = True,
    ) -> Outcome:
        """Runs a shell script with nothing but what was recorded."""
        report = recorded if isinstance(recorded, Report) else Report(requests=tuple(recorded))
        return self.run(
            script,
            replaying(
                report.requests,
                unknown_hosts=report.unknown_hosts,
                store=self.store,
                secrets=secrets,
                private_urls=(),
                offline=offline,
                ca_bundle=self.ca_bundle,
            ),
        )

    def run(self, script: str, recorder: AbstractContextManager[Recorder]) -> Outcome:
        with recorder as running:
            status, output = self.command(script, running.uplink)
            return Outcome(status=status, output=output, report=running.finish())

    def command(self, script: str, uplink: Uplink) -> tuple[int, bytes]:
        """Runs a shell script at the end of a cable to the recorder."""
        process = self.start(script, uplink)
        output, _ = process.communicate(timeout=120)
        return process.returncode, output

    def start(self, script: str, uplink: Uplink) -> subprocess.Popen[bytes]:
        ca = self.folder / "step-ca.pem"
        ca.write_bytes(uplink.certificate)
        names = ("SSL_CERT_FILE", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "PIP_CERT", "GIT_SSL_CAINFO")
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.folder), **dict.fromkeys(names, str(ca))}

        def enter() -> None:
            enter_recorded_network(uplink)
            linux.unshare(linux.CLONE_NEWNS)

        return subprocess.Popen(
            ["sh", "-ec", f'{_MOUNTS.format(folder=self._settings)} exec bash -c "$0"', script],
            cwd=self.folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            preexec_fn=enter,  # noqa: PLW1509 - this process has one thread here
        )


def _shell(script: str) -> None:
    subprocess.run(["sh", "-e", "-c", script], check=True)
