"""The network of shell steps: every HTTP request recorded, locked by hash, and answered the same at each replay.
And the way out for uv, git and apt, which klock itself runs inside: their requests are passed on, none is locked.

    step --cable--> service --> connections --> capture ---> upstream     (recording)
                                            |--> playback -> store        (replaying)
                                            |--> passage --> upstream     (passing on)

A step reaches nothing but the recorder. Recording, it is a proxy that no program needs to know of: names lead to it,
and it ends TLS with an authority that lives as long as the step. Replaying, it answers what is in the lockfile, byte
for byte, and refuses everything else.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from klock.lockfile.model import LockedRequest
from klock.recorder.doors import Doors, Where
from klock.store import Store
from klock.values import dataclass
from klock.workshop.protocol import Completed, Uplink

# What records is imported when something is recorded: it brings TLS with it, and most of what is locked needs neither.
if TYPE_CHECKING:
    from klock.recorder.passage import Authorize
    from klock.recorder.process import Recorder, ReportingSource
    from klock.recorder.reach import OUTSIDE, Links, Reach
    from klock.recorder.report import Report

__all__ = ["OUTSIDE", "ROUNDS", "Doors", "Links", "Passes", "Reach", "Report", "recording", "replaying"]

ROUNDS: Final = 4
"""How often a command may be run to find out which ports it needs."""

_HTTP_PORTS: Final = (80, 443)


_ROOMS: Final = {"OUTSIDE": "reach", "Links": "reach", "Reach": "reach", "Report": "report"}


def __getattr__(name: str) -> object:
    """What is imported when it is asked for (PEP 562)."""
    if name in _ROOMS:
        return getattr(import_module(f"{__name__}.{_ROOMS[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


@contextmanager
def recording(
    *,
    store: Store,
    ports: Sequence[int],
    secrets: Sequence[str],
    private_urls: Sequence[str],
    ca_bundle: Path | None = None,
    local_hosts: Sequence[str] = (),
    proxies: Collection[Where] = (),
) -> Iterator[Recorder]:
    """A recorder that passes requests on to the real servers, for one command.

    It listens on 80, 443 and `ports`. `secrets` are values that must not be locked; `private_urls` patterns of URLs
    whose answers are never stored. `ca_bundle` is trusted besides the host's certificates. `local_hosts` are names that
    may lead to this machine; others may not. `proxies` are hosts and ports where the command may find a proxy.
    """

    # Before the fork: what takes long to import is imported once for all steps.
    from klock.recorder.capture import Capture
    from klock.recorder.process import run_recorder
    from klock.recorder.redaction import Redaction
    from klock.recorder.report import Notes
    from klock.recorder.upstream import Upstream

    def make_source(folder: Path) -> ReportingSource:
        redaction = Redaction(secrets=secrets, private_urls=private_urls)
        notes = Notes(redaction)
        upstream = Upstream(notes=notes, ca_bundle=ca_bundle, local_hosts=local_hosts)
        return Capture(store=store, folder=folder, upstream=upstream, redaction=redaction, notes=notes)

    doors = Doors(proxies=frozenset(proxies))
    with run_recorder(make_source, ports=(*_HTTP_PORTS, *ports), store=store, doors=doors) as recorder:
        yield recorder


@contextmanager
def replaying(
    requests: Sequence[LockedRequest],
    *,
    unknown_hosts: Sequence[str],
    store: Store,
    secrets: Sequence[str],
    private_urls: Sequence[str],
    offline: bool,
    ports: Sequence[int] = (),
    ca_bundle: Path | None = None,
    local_hosts: Sequence[str] = (),
    proxies: Collection[Where] = (),
) -> Iterator[Recorder]:
    """A recorder that answers `requests` from the store, for one command.

    Bytes that the store lacks are fetched, unless `offline`. The other arguments are those of `recording`.
    """

    # Before the fork: what takes long to import is imported once for all steps.
    from klock.recorder.playback import Playback
    from klock.recorder.process import run_recorder
    from klock.recorder.redaction import Redaction
    from klock.recorder.report import Notes
    from klock.recorder.upstream import Upstream

    def make_source(folder: Path) -> ReportingSource:
        redaction = Redaction(secrets=secrets, private_urls=private_urls)
        notes = Notes(redaction)
        return Playback(
            requests,
            unknown_hosts=unknown_hosts,
            store=store,
            redaction=redaction,
            notes=notes,
            upstream=None if offline else Upstream(notes=notes, ca_bundle=ca_bundle, local_hosts=local_hosts),
        )

    asked = {port for request in requests if (port := urlsplit(request.url).port)}
    doors = Doors(proxies=frozenset(proxies))
    with run_recorder(
        make_source, ports=(*_HTTP_PORTS, *sorted(asked.union(ports))), store=store, doors=doors
    ) as recorder:
        yield recorder


def _as_nobody(url: str) -> dict[str, str]:
    return {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Passes:
    """What lets klock's own tools out of the workshop: to upstream, through the recorder, and nothing of it is locked.

    `doors` are servers that the user names, and proxies. `reach` is all that may be asked for, where packages' own code
    runs beside the command; its links grow with what is read. `authorize` says who klock is to the server of a URL, and
    `secrets` what of that must not be shown. The other fields are the arguments of `recording`.
    """

    store: Store
    doors: Doors = field(default_factory=Doors)
    reach: Reach | None = None
    authorize: Authorize = field(default=_as_nobody, repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False)
    ca_bundle: Path | None = None
    local_hosts: tuple[str, ...] = ()

    def run(self, command: Callable[[Uplink], Completed]) -> tuple[Completed, Report]:
        """Runs a command with such a network. One that failed, and tried other ports than those of HTTP, is run again
        with these."""
        from klock.recorder.passage import Passage
        from klock.recorder.process import run_recorder
        from klock.recorder.redaction import Redaction
        from klock.recorder.report import Notes
        from klock.recorder.upstream import Upstream

        def make_source(folder: Path) -> ReportingSource:
            notes = Notes(Redaction(secrets=self.secrets, private_urls=()))
            upstream = Upstream(
                notes=notes, ca_bundle=self.ca_bundle, local_hosts=self.local_hosts, origins=self.doors.origins
            )
            return Passage(upstream=upstream, notes=notes, authorize=self.authorize, reach=self.reach)

        ports: set[int] = set()
        for _ in range(ROUNDS):
            with run_recorder(
                make_source, ports=(*_HTTP_PORTS, *sorted(ports)), store=self.store, doors=self.doors
            ) as recorder:
                completed = command(recorder.uplink)
                report = recorder.finish()
            if self.reach is not None and report.links is not None:
                self.reach.links.merge(report.links)
            if completed.status == 0 or ports.issuperset(report.ports):
                break
            ports.update(report.ports)
        return completed, report
