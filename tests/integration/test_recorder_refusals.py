"""What the recorder does not let through, and how it says so."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from klock.errors import EngineError
from klock.recorder import Report, recording
from klock.store import Store
from tests.integration.recorder_world import Outcome, SharedWorld, World, run_in_world

pytestmark = pytest.mark.integration

ONLY_HTTP = "only HTTP is allowed"
ONLY_NAMES = "but steps may connect only to host names"
ONLY_A_NAME = (
    "site.test: the step looked up its address, but sent no request that klock can lock (perhaps the "
    "program does not trust the certificates in SSL_CERT_FILE)"
)

# script: what is refused while recording
REFUSED: dict[str, tuple[str, Sequence[str]]] = {
    "an IPv4 address": (
        "curl -s http://8.8.8.8/x",
        [f"tcp 8.8.8.8:80: an address, {ONLY_NAMES}"],
    ),
    "an IPv6 address": ("curl -gs 'http://[2001:db8::1]/'", [f"tcp [2001:db8::1]:80: {ONLY_HTTP}"]),
    "an IPv4 address in IPv6": ("curl -gs 'http://[::ffff:8.8.8.8]/'", [f"tcp 8.8.8.8:80: an address, {ONLY_NAMES}"]),
    "the metadata service": (
        "curl -s http://169.254.169.254/latest/",
        [f"tcp 169.254.169.254:80: an address, {ONLY_NAMES}"],
    ),
    "an address as the host": (
        "curl -s -H 'Host: 127.0.0.1' http://site.test/x",
        [
            "GET http://127.0.0.1/x: an address, but steps may connect only to host names",
            ONLY_A_NAME,
        ],
    ),
    "localhost as the host": (
        "curl -s -H 'Host: localhost' http://site.test/x; curl -s http://site.test/",
        ["GET http://localhost/x: an address, but steps may connect only to host names"],
    ),
    "a name that leads to this machine": (
        "curl -s http://loop.test/",
        ["loop.test: 127.0.0.1 is this machine, which steps may not reach"],
    ),
    "this machine by Host": (
        "curl -s -H 'Host: loop.test' http://site.test/x; curl -s http://site.test/",
        ["GET http://loop.test/x: 127.0.0.1 is this machine, which steps may not reach"],
    ),
    "a name that leads to the link": (
        "curl -s http://link.test/",
        ["link.test: 169.254.169.254 is a link-local address, which steps may not reach"],
    ),
    "a port without a listener": ("curl -s http://site.test:9418/", [f"tcp site.test:9418: {ONLY_HTTP}"]),
    "something else than HTTP": (
        "exec 3<>/dev/tcp/site.test/80; printf 'SSH-2.0-OpenSSH_9.2\\r\\n' >&3; cat <&3; true",
        ["tcp site.test:80: not HTTP/1.1, and only HTTP is allowed (no HTTP request begins like this)"],
    ),
    "HTTP/2": (
        "curl -s --http2-prior-knowledge http://site.test/",
        ["tcp site.test:80: not HTTP/1.1, and only HTTP is allowed (the program insists on HTTP/2)"],
    ),
    "UDP": ("echo x > /dev/udp/9.9.9.9/53", [f"udp 9.9.9.9:53: {ONLY_HTTP}"]),
    "UDP to a name": ("echo x > /dev/udp/site.test/443", [f"udp site.test:443: {ONLY_HTTP}"]),
    "a name only": (
        "getent hosts site.test >/dev/null; true",
        [ONLY_A_NAME],
    ),
    "5xx": ("curl -s http://site.test/status/500", ["GET http://site.test/status/500: upstream answered 500"]),
    "429": ("curl -s http://site.test/status/429", ["GET http://site.test/status/429: upstream answered 429"]),
    "POST that is refused": (
        "curl -s -d a=1 http://site.test/status/503",
        ["POST http://site.test/status/503: upstream answered 503"],
    ),
    "an answer that stays broken": (
        "curl -s http://site.test/broken/always",
        ["GET http://site.test/broken/always: its body broke off (IncompleteRead)"],
    ),
    "an answer that becomes another": (
        "curl -s http://site.test/broken/changes -o /dev/null",
        [
            "GET http://site.test/broken/changes: it broke off, and a second request got another answer",
        ],
    ),
    "an answer that breaks off in its first line": (
        "curl -s -d x http://site.test/raw/half-a-line",
        ["POST http://site.test/raw/half-a-line: upstream cannot be reached: RemoteDisconnected"],
    ),
    "an answer that breaks off in its head": (
        "curl -s -d x http://site.test/raw/half-a-head",
        ["POST http://site.test/raw/half-a-head: upstream cannot be reached: RemoteDisconnected"],
    ),
    "an answer whose chunks cannot be": (
        "curl -s http://site.test/raw/negative-chunk",
        ["GET http://site.test/raw/negative-chunk: its body broke off (ValueError)"],
    ),
    "another protocol from here on": (
        "curl -s http://site.test/raw/other-protocol",
        ["GET http://site.test/raw/other-protocol: upstream switched to a protocol other than HTTP/1.1"],
    ),
    "a port that is none": (
        "curl -s --request-target http://site.test:65536/ http://site.test/; curl -s http://site.test/",
        ["GET http://site.test/: its Host header is not a host"],
    ),
    "a tunnel to a port that is none": (
        "exec 3<>/dev/tcp/site.test/80; printf 'CONNECT site.test:65536 HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n' >&3;"
        " cat <&3; curl -s http://site.test/",
        ["tcp site.test:80: not HTTP/1.1, and only HTTP is allowed (CONNECT without a host and a port)"],
    ),
    "a secret that is used in a URL first": (
        "curl -s http://site.test/files/pass-4711-long/x; curl -s -u jo:pass-4711-long http://site.test/auth",
        ["GET http://site.test/files/***/x: it holds a secret that the step used elsewhere before klock knew it"],
    ),
    "a server that is not trusted": (
        "curl -s https://untrusted.test/",
        [
            "GET https://untrusted.test/: upstream cannot be reached: the TLS certificate is not trusted "
            "(unable to get local issuer certificate)"
        ],
    ),
    "a server that is away": (
        "curl -s http://closed.test/",
        ["GET http://closed.test/: upstream cannot be reached: Connection refused"],
    ),
    "a client that does not trust": (
        "SSL_CERT_FILE=/dev/null CURL_CA_BUNDLE=/etc/ssl/certs/ca-certificates.crt curl -s https://site.test/",
        [
            "https://site.test:443: TLS failed (tlsv1 alert unknown ca): the program must trust the certificates that "
            "SSL_CERT_FILE names"
        ],
    ),
}


@pytest.fixture
def world(shared_world: SharedWorld, tmp_path: Path) -> SharedWorld:
    shared_world.begin(tmp_path)
    return shared_world


@pytest.mark.parametrize(("script", "refused"), REFUSED.values(), ids=REFUSED.keys())
def test_recording_refuses(script: str, refused: Sequence[str], world: SharedWorld) -> None:
    assert list(world.record(script).report.refused) == list(refused)


SLOW = {
    "a head without end": ("head", "tcp site.test:80: the step ended before upstream had answered it"),
    "a body without end": (
        "0",
        "GET http://site.test/slow/0: the step ended before its body did, and upstream did not announce the size",
    ),
    "a body that hardly moves": (
        "9000000000",
        "GET http://site.test/slow/9000000000: the step ended before its body did, and the body arrives too slowly",
    ),
}


@pytest.mark.parametrize(("kind", "refused"), SLOW.values(), ids=SLOW.keys())
def test_what_has_no_end_is_not_waited_for(
    kind: str, refused: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("klock.recorder.service.PATIENCE", 1.0)
    monkeypatch.setattr("klock.recorder.downloads.PATIENCE", 1.0)
    script = f"curl -s -m 1 http://site.test/slow/{kind} | head -c 10 > /dev/null; true"
    outcome = run_in_world(lambda world: world.record(script), tmp_path)
    assert outcome.report.refused[0] == refused
    assert outcome.report.requests == ()
    assert not list((tmp_path / "store" / "tmp").iterdir())


def test_a_private_answer_of_too_many_texts_is_refused(world: SharedWorld) -> None:
    url = "http://site.test/raw/many-texts"
    outcome = world.record(f"curl -s {url}", private_urls=["site.test"])
    assert outcome.report.refused == (
        f"GET {url}: private answers of the step hold more than 500 texts, too many to search for; private_urls should "
        "name only URLs that hand out a secret",
    )
    assert "t-000001" not in outcome.text


def test_a_proxy_is_asked_for_no_name_of_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://other.test:8080")
    script = "curl -s http://site.test/one; curl -s -H 'Host: loop.test' http://site.test/x"

    def scenario(world: World) -> tuple[Outcome, list[str]]:
        return world.record(script), world.upstream.lines

    outcome, asked = run_in_world(scenario, tmp_path)
    assert outcome.report.refused == ("GET http://loop.test/x: 127.0.0.1 is this machine, which steps may not reach",)
    assert asked == ["GET http://site.testhttp://site.test/one"]


def test_a_port_of_a_known_host_is_reported_for_another_run(world: SharedWorld) -> None:
    script = "curl -sS http://site.test:8080/x"
    first = world.record(script)
    assert first.report.ports == (8080,)
    second = world.record(script, ports=first.report.ports)
    assert second.report.refused == ()
    assert [request.url for request in second.report.requests] == ["http://site.test:8080/x"]


def test_names_without_an_address_are_reported_once(world: SharedWorld) -> None:
    script = "getent hosts nowhere.test; getent ahosts nowhere.test; getent hosts also-nowhere.test; true"
    assert world.record(script).report == Report(unknown_hosts=("also-nowhere.test", "nowhere.test"))


REPLAYED = (
    "curl -s http://site.test/one; curl -s -d a http://site.test/count; curl -s -d a http://site.test/count; true"
)

# script: what is refused when REPLAYED is what was recorded
NOT_LOCKED: dict[str, tuple[str, Sequence[str]]] = {
    "another path": ("curl -s http://site.test/two || true", ["GET http://site.test/two: not in the lockfile"]),
    "another method": ("curl -s -X PUT http://site.test/one", ["PUT http://site.test/one: not in the lockfile"]),
    "another scheme": ("curl -s https://site.test/one", ["GET https://site.test/one: not in the lockfile"]),
    "another body": (
        "curl -s -d b http://site.test/count",
        ["POST http://site.test/count: not in the lockfile with this body"],
    ),
    "another query": ("curl -s http://site.test/one?a=1", ["GET http://site.test/one?a=1: not in the lockfile"]),
    "another name": ("curl -s http://other.test/one", ["other.test: this name is not in the lockfile"]),
    "another name by Host": (
        "curl -s -H 'Host: other.test' http://site.test/one",
        ["GET http://other.test/one: not in the lockfile"],
    ),
    "another time": (
        "for n in 1 2 3; do curl -s -d a http://site.test/count; done",
        ["POST http://site.test/count: requested more often than the 2 times in the lockfile"],
    ),
    "an address": ("curl -s http://8.8.8.8/", [f"tcp 8.8.8.8:80: an address, {ONLY_NAMES}"]),
    "another port": ("curl -s http://site.test:8080/one", [f"tcp site.test:8080: {ONLY_HTTP}"]),
}


@pytest.mark.parametrize(("script", "refused"), NOT_LOCKED.values(), ids=NOT_LOCKED.keys())
def test_replaying_refuses(script: str, refused: Sequence[str], world: SharedWorld) -> None:
    recorded = world.record(REPLAYED)
    world.asked()
    assert list(world.replay(script, recorded.report).report.refused) == list(refused)
    assert world.asked() == []


def test_a_refused_request_is_answered_with_403_and_the_reason(world: SharedWorld) -> None:
    script = "curl -s -w '%{http_code}' http://site.test/two?token=abc-0815-xyz"
    assert (
        world.replay(script, world.record(REPLAYED).report).text
        == "klock: GET http://site.test/two?token=***: not in the lockfile\n403"
    )


# -- bytes that the store lacks


def test_a_lost_blob_is_fetched_again_and_compared(world: SharedWorld) -> None:
    script = "seq 6 | xargs -P 6 -I{} curl -sS -o f{} http://site.test/big; cat f* | sha256sum; rm f*"
    recorded = world.record(script)
    world.asked()
    world.lose_downloads()
    replayed = world.replay(script, recorded.report, offline=False)
    assert replayed.report.refused == ()
    assert replayed.text == recorded.text
    assert world.asked() == ["GET http://site.test/big"]
    assert (replayed.report.upstream, replayed.report.received) == (1, 5_000_000)


LOST: dict[str, tuple[str, bool, str]] = {
    "offline": (
        "curl -s http://site.test/one",
        True,
        "GET http://site.test/one: the store lacks its answer, and klock is offline; ",
    ),
    "other bytes": (
        "curl -s http://site.test/count",
        False,
        "GET http://site.test/count: the store lacks its answer, and upstream serves other bytes now; ",
    ),
    "another status": (
        "curl -s http://site.test/auth -u jo:pass-4711; curl -s http://site.test/one",
        False,
        "GET http://site.test/auth: the store lacks its answer, and upstream answers 401 now; ",
    ),
    "not by GET": (
        "curl -s -d x http://site.test/one",
        False,
        "POST http://site.test/one: the store lacks its answer, which cannot be fetched again; ",
    ),
}


@pytest.mark.parametrize(("script", "offline", "sentence"), LOST.values(), ids=LOST.keys())
def test_a_lost_blob_that_upstream_does_not_have(script: str, offline: bool, sentence: str, world: SharedWorld) -> None:
    recorded = world.record(script)
    assert recorded.report.refused == ()
    world.lose_downloads()
    outcome = world.replay(script.replace("-u jo:pass-4711", ""), recorded.report, offline=offline)
    assert outcome.report.refused == (sentence + "get it from a vault with `klock vault pull DIR`",)
    assert outcome.text.startswith("klock: ")


def test_a_locked_answer_of_another_size_is_refused(world: SharedWorld) -> None:
    script = "curl -s http://site.test/one"
    recorded = world.record(script)
    outcome = world.replay(script, [replace(request, size=5) for request in recorded.report.requests])
    assert outcome.report.refused == (
        "GET http://site.test/one: the store's copy of its answer is damaged; remove it with `klock cache clean`",
    )


# -- the process


def test_a_recorder_that_dies_takes_the_cable_with_it(tmp_path: Path) -> None:
    script = "curl -s -o /dev/null http://site.test/ && echo up; touch up; while [ -e up ]; do sleep 0.05; done; " \
        "curl -s -m 20 http://site.test/; echo status $?"  # fmt: skip

    def scenario(world: World) -> str:
        with recording(store=world.store, ports=(), secrets=(), private_urls=(), ca_bundle=world.ca_bundle) as recorder:
            process = world.start(script, recorder.uplink)
            while not (world.folder / "up").exists():
                time.sleep(0.01)
            os.kill(recorder.pid, signal.SIGKILL)
            (world.folder / "up").unlink()
            output, _ = process.communicate(timeout=60)
            with pytest.raises(EngineError, match="ended before the step did"):
                recorder.finish()
        return output.decode()

    output = run_in_world(scenario, tmp_path)
    assert output.startswith("up\nstatus ")
    assert "status 0" not in output


def test_without_a_command_the_report_is_empty(tmp_path: Path) -> None:
    with recording(store=Store(tmp_path), ports=(), secrets=(), private_urls=()) as recorder:
        assert recorder.finish() == Report()


def test_a_recorder_that_is_left_leaves_nothing(tmp_path: Path) -> None:
    with (
        pytest.raises(KeyboardInterrupt),
        recording(store=Store(tmp_path), ports=(), secrets=(), private_urls=()) as recorder,
    ):
        raise KeyboardInterrupt
    assert not list((tmp_path / "tmp").iterdir())
    assert not Path(f"/proc/{recorder.pid}").exists()
