"""What klock's own tools reach through the recorder: upstream as it is, with a credential that only it adds."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from klock.recorder import OUTSIDE, Doors, Passes, Reach, Report, recording, replaying
from klock.workshop.protocol import Completed, Uplink
from tests.integration.recorder_world import World, run_in_world

pytestmark = pytest.mark.integration

BASIC = "Basic amU6aGlkZGVu"


def authorize(url: str) -> Mapping[str, str]:
    return {"Authorization": BASIC} if urlsplit(url).netloc == "site.test" else {}


def passed(world: World, script: str, *, origins: frozenset[tuple[str, int]] = frozenset()) -> tuple[str, Report]:
    """What a script prints, and the report."""
    passes = Passes(store=world.store, doors=Doors(origins=origins), authorize=authorize, ca_bundle=world.ca_bundle)

    def run(uplink: Uplink) -> Completed:
        status, output = world.command(script, uplink)
        return Completed(status=status, output=output)

    completed, report = passes.run(run)
    return completed.output.decode(), report


AS_UPSTREAM = {
    "a large body": ("curl -sS https://site.test/big | wc -c", "5000000\n"),
    "a part, as upstream knows it": ("curl -sS -r 5-9 -w '%{http_code}' -o /dev/null http://site.test/big", "200"),
    "chunks": ("curl -sS http://site.test/chunked?3000000 | wc -c", "3000000\n"),
    "until the end": ("curl -sS http://site.test/close", "until the end"),
    "a body that comes compressed": ("curl -sS --compressed http://site.test/gzip", "unpacked\n"),
    "HEAD, and another one": (
        "curl -sSI http://site.test/big http://site.test/big | grep -c 'Content-Length: 5000000'", "2\n"
    ),
    "a redirect": ("curl -sSL http://site.test/redirect/302?http://other.test/x", "GET /x \n"),
    "a busy server is the client's to ask again": (
        "curl -sS -o /dev/null -w '%{http_code}' http://site.test/busy/1", "503"
    ),
    "a body that breaks off": (
        "curl -sS -o /dev/null http://site.test/broken/always 2> /dev/null || echo broken", "broken\n"
    ),
    "another port, found out": ("curl -sS http://site.test:8080/x", "GET /x \n"),
}  # fmt: skip


def test_it_passes_on_what_upstream_has(tmp_path: Path) -> None:
    def scenario(world: World) -> None:
        for what, (script, output) in AS_UPSTREAM.items():
            assert passed(world, script)[0] == output, what

    run_in_world(scenario, tmp_path)


def test_a_credential_is_added_to_what_reads_its_own_origin(tmp_path: Path) -> None:
    """Not elsewhere: another scheme, port or host, and what might write."""

    def scenario(world: World) -> dict[str, bool]:
        urls = ("http://site.test/", "https://site.test/", "http://site.test:8080/", "http://other.test/")
        asked = {
            **{url: url for url in urls},
            "a redirect to another": "-L http://site.test/redirect/302?http://other.test/",
            "a POST": "-d x http://site.test/",
            "a POST of git that reads": "-d x http://site.test/r/git-upload-pack",
            "a POST of git that writes": "-d x http://site.test/r/git-receive-pack",
        }
        found = {}
        for what, arguments in asked.items():
            world.upstream.forget()
            passed(world, f"curl -sS {arguments}")
            found[what] = world.upstream.requests[-1]["headers"].get("Authorization") == BASIC
        return found

    assert run_in_world(scenario, tmp_path) == {
        "http://site.test/": True,
        "https://site.test/": True,
        "http://site.test:8080/": False,
        "http://other.test/": False,
        "a redirect to another": False,
        "a POST": False,
        "a POST of git that reads": True,
        "a POST of git that writes": False,
    }


def test_out_of_reach_nothing_is_asked_for_and_no_name_looked_up(tmp_path: Path) -> None:
    """A name that does not exist has an address all the same, and the URL is named."""

    def scenario(world: World) -> None:
        reach = Reach(files=frozenset({"https://site.test/one", "http://site.test/redirect/302?http://other.test/x"}))
        passes = Passes(store=world.store, reach=reach, authorize=authorize, ca_bundle=world.ca_bundle)

        def passed(script: str) -> tuple[str, tuple[str, ...]]:
            def run(uplink: Uplink) -> Completed:
                status, output = world.command(script, uplink)
                return Completed(status=status, output=output)

            completed, report = passes.run(run)
            return completed.output.decode(), report.refused

        assert passed("curl -sS https://site.test/one") == ("GET /one \n", ())
        assert passed("curl -sSL http://site.test/redirect/302?http://other.test/x") == ("GET /x \n", ())
        world.upstream.forget()
        for url in ("https://site.test/one?data", "https://other.test/x", "http://data.nowhere.test/"):
            _, refused = passed(f"curl -sS {url}")
            assert refused == (f"GET {url}: {OUTSIDE}",)
        assert passed("curl -sS -d data https://site.test/one")[1] == (f"POST https://site.test/one: {OUTSIDE}",)
        assert world.upstream.requests == []

    run_in_world(scenario, tmp_path)


SERVE = """
from http.server import HTTPServer, SimpleHTTPRequestHandler
server = HTTPServer(("127.0.0.1", 8765), SimpleHTTPRequestHandler)
print("ready", flush=True)
server.serve_forever()
"""


def test_servers_on_this_machine_are_those_that_the_user_names(tmp_path: Path) -> None:
    def scenario(world: World) -> None:
        with (world.folder / "hosts").open("a") as file:
            file.write("127.0.0.1 localhost\n")
        server = subprocess.Popen(["python3", "-c", SERVE], cwd=tmp_path, stdout=subprocess.PIPE)
        try:
            assert server.stdout is not None
            server.stdout.readline()
            for host in ("127.0.0.1", "localhost", "loop.test"):
                script = f"curl -sS http://{host}:8765/hosts | grep -c site.test; true"
                named, report = passed(world, script, origins=frozenset({(host, 8765)}))
                assert (named, report.refused) == ("1\n", ()), host
                other, _ = passed(world, script, origins=frozenset({(host, 8766)}))
                assert not other.endswith("1\n"), host
        finally:
            server.kill()
            server.communicate()
        address = "curl -sS http://10.77.0.1:8080/x"
        assert passed(world, address, origins=frozenset({("10.77.0.1", 8080)}))[0] == "GET /x \n"
        assert passed(world, address)[1].refused == ("tcp 10.77.0.1:8080: only HTTP is allowed",)

    run_in_world(scenario, tmp_path)


PROXIED = {
    "a variable": "http_proxy=http://proxy.none:3128 curl -sS http://site.test/one",
    "with a tunnel": "https_proxy=http://proxy.none:3128 curl -sS https://site.test/one",
    "an address": "curl -sS -x http://10.1.2.3:3128 http://site.test/one",
    "on the step's own loopback": "curl -sS -x http://127.0.0.1:3128 https://site.test/one",
    "with a password": "curl -sS -x http://me:secret-word@proxy.none:3128 http://site.test/one",
}


def test_a_proxy_that_a_step_names_leads_to_the_recorder(tmp_path: Path) -> None:
    """When it is recorded and when it is replayed, and what is locked is the same as without one."""
    proxies = {(host, 3128) for host in ("proxy.none", "10.1.2.3", "127.0.0.1")}

    def scenario(world: World) -> None:
        plain = {scheme: world.record(f"curl -sS {scheme}://site.test/one").report for scheme in ("http", "https")}
        for what, script in PROXIED.items():
            recorded = world.run(
                script,
                recording(
                    store=world.store, ports=(), secrets=(), private_urls=(), ca_bundle=world.ca_bundle, proxies=proxies
                ),
            )
            assert (recorded.status, recorded.report.refused) == (0, ()), (what, recorded)
            scheme = "https" if "https://site" in script else "http"
            assert recorded.report.requests == plain[scheme].requests, what
            assert recorded.report.unknown_hosts == ()
            replayed = world.run(
                script,
                replaying(
                    recorded.report.requests,
                    unknown_hosts=(),
                    store=world.store,
                    secrets=(),
                    private_urls=(),
                    offline=True,
                    proxies=proxies,
                ),
            )
            assert (replayed.output, replayed.report.refused) == (recorded.output, ()), what

    run_in_world(scenario, tmp_path)
