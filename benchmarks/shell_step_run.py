"""Makes the layer of one shell step, as the account and under the circumstances of this process.

    python -m benchmarks.shell_step_run < REQUEST > RESULT

Both are JSON, of the classes below.
"""

from __future__ import annotations

import json
import sys
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from klock.digests import digest_of_json
from klock.layers.normalisation import STEP_ENVIRONMENT
from klock.lockfile.codec import decode, encode
from klock.lockfile.model import LockedRequest
from klock.recorder import Report, recording, replaying
from klock.recorder.process import Recorder
from klock.store import Store
from klock.workshop import SandboxWorkshop
from klock.workshop.protocol import SCRIPT, BaseLayer, Command, Completed, Mount, Uplink

__all__ = ["Request", "Result"]

_VARIABLES: Final = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LANG": "C.UTF-8",
}
_TAR: Final = "application/vnd.oci.image.layer.v1.tar"
_CLOCK: Final = "/run/klock/clock.so"


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Scripts that make a layer each. All but the last are kept in the store for other requests.

    What the last one fetches is written to the file `tape`, or answered from it when it is there; `blobs` is a folder
    of files by SHA-256 that may be needed for that. The last one sees a clock that is `days` ahead, by the library at
    `clock` (libfaketime), and its layer is made without what `leave_out` names.
    """

    store: str
    base: str
    base_digest: str
    scripts: tuple[str, ...]
    tape: str
    blobs: str
    clock: str | None = None
    days: int = 0
    leave_out: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """`layer` is the digest of the last script's layer; None when a script failed, with the end of its `output`."""

    layer: str | None
    output: str = ""


def main() -> None:
    print(json.dumps(asdict(make(Request(**json.load(sys.stdin))))))


def make(request: Request) -> Result:
    store = Store(Path(request.store))
    engine = SandboxWorkshop(store)
    if not engine.has_base(request.base_digest):
        base = BaseLayer(path=Path(request.base), media_type=_TAR, diff_id=request.base_digest)
        engine.add_base(request.base_digest, [base])
    layers: list[str] = []
    *tools, last = request.scripts
    for script in tools:
        known = Path(request.store) / f"tools-{digest_of_json([*layers, script]).removeprefix('sha256:')}"
        if not known.exists():
            with engine.open(request.base_digest, layers) as workspace, _recording(store) as recorder:
                completed = workspace.run(_command(script, recorder.uplink))
                report = recorder.finish()
                if output := _failure(completed) or "\n".join(report.refused):
                    return Result(layer=None, output=output)
                known.write_text(workspace.snapshot().digest, "ascii")
        layers.append(known.read_text("ascii"))
    with engine.open(request.base_digest, layers) as workspace, _recorder(request, store) as recorder:
        completed = workspace.run(_command(last, recorder.uplink, clock=request.clock, days=request.days))
        report = recorder.finish()
        if output := _failure(completed) or "\n".join(report.refused):
            return Result(layer=None, output=output)
        _save(report, Path(request.tape))
        return Result(layer=workspace.snapshot(leave_out=request.leave_out).digest)


def _recording(store: Store) -> AbstractContextManager[Recorder]:
    return recording(store=store, ports=(), secrets=(), private_urls=())


def _recorder(request: Request, store: Store) -> AbstractContextManager[Recorder]:
    tape = Path(request.tape)
    if not tape.exists():
        return _recording(store)
    content = json.loads(tape.read_bytes())
    requests = [decode(LockedRequest, line, "tape") for line in content["requests"]]
    for digest in {request.sha256 for request in requests if request.sha256}:
        if not store.find_blob(f"sha256:{digest}"):
            store.add_bytes((Path(request.blobs) / digest).read_bytes())
    unknown = content["unknown_hosts"]
    return replaying(requests, unknown_hosts=unknown, store=store, secrets=(), private_urls=(), offline=True)


def _save(report: Report, tape: Path) -> None:
    if not tape.exists():
        requests = [encode(request) for request in report.requests]
        tape.write_text(json.dumps({"requests": requests, "unknown_hosts": report.unknown_hosts}), "utf-8")


def _command(script: str, network: Uplink, *, clock: str | None = None, days: int = 0) -> Command:
    variables = _VARIABLES | dict(STEP_ENVIRONMENT)
    if clock is not None:
        variables |= {
            "LD_PRELOAD": _CLOCK,
            "FAKETIME": f"+{days}d",
            # Files keep their real times, and waiting takes its real time.
            "NO_FAKE_STAT": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }
    return Command(
        argv=("/bin/bash", "-e", SCRIPT),
        environment=variables,
        network=network,
        mounts=() if clock is None else (Mount(source=Path(clock), target=_CLOCK),),
        script=f"{script}\n",
    )


def _failure(completed: Completed) -> str:
    """The end of a command's output, when it failed."""
    if completed.status == 0:
        return ""
    return f"status {completed.status}: " + completed.output.decode("utf-8", "replace")[-2000:]


if __name__ == "__main__":
    main()
