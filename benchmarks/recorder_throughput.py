"""The recorder beside mitmproxy: the same downloads through each, recorded and replayed, in turns.

    python benchmarks/recorder_throughput.py [--runs N] [--work FOLDER]

One curl with eight connections fetches files from nginx: many small ones, by HTTP and by HTTPS, and some large ones.
Both keep what they record on the disk. Needs nginx and curl, and the network to install mitmproxy in a folder of its
own. Everything happens in a network namespace. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

REPOSITORY: Final = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

from klock.recorder import Report, recording, replaying  # noqa: E402
from klock.recorder.process import Recorder  # noqa: E402
from klock.workshop import linux  # noqa: E402
from tests.integration.recorder_world import ADDRESS, World, run_in_world  # noqa: E402

_HTTP, _HTTPS, _PROXY = 9080, 9443, 9081
_PARALLEL: Final = 8
_PATIENCE: Final = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """`count` files of `size` bytes each, from the server at `origin`."""

    name: str
    origin: str
    folder: str
    count: int
    size: int


WORKLOADS: Final = (
    Workload(name="http", origin=f"http://site.test:{_HTTP}", folder="small", count=2000, size=2048),
    Workload(name="https", origin=f"https://site.test:{_HTTPS}", folder="small", count=2000, size=2048),
    Workload(name="https", origin=f"https://site.test:{_HTTPS}", folder="large", count=8, size=64 << 20),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """`seconds`: all downloads of a workload. `start`: until the first could begin. `peak`: resident memory in MiB."""

    seconds: float
    start: float = 0.0
    peak: float = 0.0


Samples = dict[str, list[Sample]]
KINDS: Final = ("plain", "klock records", "mitmproxy records", "klock replays", "mitmproxy replays")


def main() -> None:
    parser = argparse.ArgumentParser(description="Measures klock's recorder beside mitmproxy.")
    parser.add_argument("--runs", type=int, default=5, metavar="N", help="rounds (default: 5)")
    parser.add_argument("--work", type=Path, default=Path("/var/tmp"), help="a folder on a disk with 4 GB")
    arguments = parser.parse_args()
    if missing := [program for program in ("nginx", "curl") if shutil.which(program) is None]:
        raise SystemExit(f"error: missing: {' '.join(missing)}\n\nhint: apt-get install nginx-light curl")
    folder = Path(tempfile.mkdtemp(prefix="klock-", dir=arguments.work))
    folder.chmod(0o755)
    try:
        mitmdump = _install_mitmproxy(folder)
        version = subprocess.run([mitmdump, "--version"], capture_output=True, text=True, check=True).stdout.split()[1]
        world = folder / "world"
        world.mkdir()
        results = run_in_world(lambda made: _measure(made, mitmdump, rounds=arguments.runs), world)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    _report(results, version, arguments.runs)


def _install_mitmproxy(folder: Path) -> Path:
    from uv import find_uv_bin

    environment = folder / "mitmproxy"
    subprocess.run([find_uv_bin(), "venv", "--quiet", environment], check=True)
    install: list[str | Path] = [find_uv_bin(), "pip", "install", "--quiet", "--compile-bytecode"]
    install += ["--python", environment, "mitmproxy"]
    subprocess.run(install, check=True)
    return environment / "bin" / "mitmdump"


# -- in the world


def _measure(world: World, mitmdump: Path, *, rounds: int) -> list[Samples]:
    with _nginx(world.folder):
        return [_measure_one(Contest(world, mitmdump, workload), rounds) for workload in WORKLOADS]


def _measure_one(contest: Contest, rounds: int) -> Samples:
    samples: Samples = {kind: [] for kind in KINDS}
    for number in range(rounds + 1):
        recorded, report = contest.klock_records()
        taken = {
            "plain": contest.plain(),
            "klock records": recorded,
            "mitmproxy records": contest.mitmproxy_records(),
            "klock replays": contest.klock_replays(report),
            "mitmproxy replays": contest.mitmproxy_replays(),
        }
        if number:  # the first round warms up
            for kind, sample in taken.items():
                samples[kind].append(sample)
    return samples


class Contest:
    """One workload, by each way."""

    def __init__(self, world: World, mitmdump: Path, workload: Workload) -> None:
        self._world = world
        self._mitmdump = mitmdump
        self._workload = workload
        self._urls = world.folder / "urls"
        self._flows = world.folder / "flows"
        self._configuration = world.folder / "mitmproxy"
        urls = (f"{workload.origin}/{workload.folder}/{number}" for number in range(workload.count))
        self._urls.write_text("".join(f'url = "{url}"\noutput = "/dev/null"\n' for url in urls))

    def plain(self) -> Sample:
        begin = time.monotonic()
        self._verify(self._run("--cacert", str(self._world.ca_bundle)))
        return Sample(seconds=time.monotonic() - begin)

    def klock_records(self) -> tuple[Sample, Report]:
        shutil.rmtree(self._world.store.root, ignore_errors=True)
        world = self._world
        return self._klock(
            lambda: recording(
                store=world.store, ports=(_HTTP, _HTTPS), secrets=(), private_urls=(), ca_bundle=world.ca_bundle
            )
        )

    def klock_replays(self, report: Report) -> Sample:
        return self._klock(
            lambda: replaying(
                report.requests, unknown_hosts=(), store=self._world.store, secrets=(), private_urls=(), offline=True
            )
        )[0]

    def mitmproxy_records(self) -> Sample:
        self._flows.unlink(missing_ok=True)
        return self._mitmproxy("--save-stream-file", str(self._flows))

    def mitmproxy_replays(self) -> Sample:
        return self._mitmproxy(
            *("--server-replay", str(self._flows)),
            *("--set", "server_replay_extra=kill"),
            *("--set", "server_replay_reuse=true"),
        )

    def _klock(self, make: Callable[[], AbstractContextManager[Recorder]]) -> tuple[Sample, Report]:
        begin = time.monotonic()
        with make() as recorder:
            script = f"date +%s.%N; curl {' '.join(_options(self._urls))} | sort | uniq -c; date +%s.%N"
            status, output = self._world.command(script, recorder.uplink)
            peak = _peak(recorder.pid)
            report = recorder.finish()
        started, counted, ended = output.decode().splitlines()
        if status or report.refused:
            raise SystemExit(f"klock: status {status}, refused {report.refused}")
        self._verify(counted)
        seconds = float(ended) - float(started)
        wall = time.monotonic() - begin
        return Sample(seconds=seconds, start=wall - seconds, peak=peak), report

    def _mitmproxy(self, *options: str) -> Sample:
        trusted = f"ssl_verify_upstream_trusted_ca={self._world.ca_bundle}"
        command = [str(self._mitmdump), "--quiet", "--set", f"confdir={self._configuration}", "--set", trusted]
        command += ["--mode", f"regular@{_PROXY}", *options]
        begin = time.monotonic()
        with _running(command) as pid:
            _wait_for_port("127.0.0.1", _PROXY)
            started = time.monotonic()
            authority = str(self._configuration / "mitmproxy-ca-cert.pem")
            self._verify(self._run("--proxy", f"http://127.0.0.1:{_PROXY}", "--cacert", authority))
            return Sample(seconds=time.monotonic() - started, start=started - begin, peak=_peak(pid))

    def _run(self, *options: str) -> str:
        script = f"curl {' '.join([*_options(self._urls), *options])} | sort | uniq -c"
        return subprocess.run(
            ["bash", "-o", "pipefail", "-c", script], capture_output=True, text=True, check=True
        ).stdout

    def _verify(self, counted: str) -> None:
        expected = [str(self._workload.count), "200", str(self._workload.size)]
        if counted.split() != expected:
            raise SystemExit(f"downloads (count, status, bytes): {counted.strip()!r}, not {' '.join(expected)!r}")


def _options(urls: Path) -> list[str]:
    words = ["--parallel", "--parallel-max", str(_PARALLEL), "--no-progress-meter", "--config", str(urls)]
    return [*words, "--write-out", r"'%{http_code} %{size_download}\n'"]


@contextmanager
def _nginx(folder: Path) -> Iterator[None]:
    """Serves the files of all workloads at ADDRESS."""
    root = folder / "root"
    for workload in WORKLOADS:
        place = root / workload.folder
        place.mkdir(parents=True, exist_ok=True)
        for number in range(workload.count):
            (place / str(number)).write_bytes(os.urandom(workload.size))
    key, certificate = folder / "nginx-key.pem", folder / "nginx.pem"
    make: list[str | Path] = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-days",
        "2",
    ]
    make += ["-subj", "/CN=site.test", "-addext", "subjectAltName=DNS:site.test", "-keyout", key, "-out", certificate]
    subprocess.run(make, check=True, capture_output=True)
    bundle = folder / "upstream-ca.pem"
    bundle.write_bytes(bundle.read_bytes() + certificate.read_bytes())
    configuration = folder / "nginx.conf"
    configuration.write_text(f"""
daemon off;
user root;
pid {folder}/nginx.pid;
error_log stderr crit;
events {{ worker_connections 512; }}
http {{
    access_log off;
    sendfile on;
    keepalive_requests 1000000;
    server {{
        listen {ADDRESS}:{_HTTP};
        listen {ADDRESS}:{_HTTPS} ssl;
        ssl_certificate {certificate};
        ssl_certificate_key {key};
        root {root};
    }}
}}
""")
    with _running(["nginx", "-c", str(configuration)]):
        _wait_for_port(ADDRESS, _HTTPS)
        yield


@contextmanager
def _running(command: list[str]) -> Iterator[int]:
    parent = os.getpid()
    process = subprocess.Popen(command, preexec_fn=lambda: linux.die_with_parent(parent))  # noqa: PLW1509 - one thread
    try:
        yield process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(_PATIENCE)


def _wait_for_port(address: str, port: int) -> None:
    end = time.monotonic() + _PATIENCE
    while time.monotonic() < end:
        with contextlib.suppress(OSError), socket.create_connection((address, port)):
            return
        time.sleep(0.01)
    raise SystemExit(f"nothing listens on {address}:{port} after {_PATIENCE:.0f} s")


def _peak(process: int) -> float:
    """The peak of a process's resident memory in MiB (proc_pid_status(5))."""
    for line in Path(f"/proc/{process}/status").read_text("utf-8").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return 0.0


# -- the result


def _report(results: list[Samples], version: str, rounds: int) -> None:
    today = datetime.datetime.now(datetime.UTC).date()
    print(f"{today}, {rounds} rounds, medians; mitmproxy {version}; load average {os.getloadavg()[1]:.1f}.\n")
    print("| downloads | | rate | of plain | start | peak memory |")
    print("|---|---|---:|---:|---:|---:|")
    for workload, samples in zip(WORKLOADS, results, strict=True):
        size = f"{workload.size >> 20} MiB" if workload.size >> 20 else f"{workload.size >> 10} KiB"
        for kind in KINDS:
            print(_row(f"{workload.count} x {size}, {workload.name}", kind, workload, samples))


def _row(name: str, kind: str, workload: Workload, samples: Samples) -> str:
    each = samples[kind]
    seconds = median(sample.seconds for sample in each)
    if workload.size >> 20:
        rate = f"{workload.count * (workload.size >> 20) / seconds:.0f} MiB/s"
    else:
        rate = f"{workload.count / seconds:.0f} requests/s"
    if kind == "plain":
        return f"| {name} | {kind} | {rate} | 1.00 | | |"
    ratio = median(a.seconds / b.seconds for a, b in zip(samples["plain"], each, strict=True))
    start = median(sample.start for sample in each)
    return f"| {name} | {kind} | {rate} | {ratio:.2f} | {start:.2f} s | {max(s.peak for s in each):.0f} MiB |"


if __name__ == "__main__":
    main()
