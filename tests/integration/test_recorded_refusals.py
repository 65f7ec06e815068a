"""What a shell step may not reach, at lock time and at replay: it fails, and the message names the host, even when the
command swallowed the error."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

import pytest

from tests.integration.container_engines import some_of
from tests.integration.unprivileged import Account
from tests.integration.upstream import ADDRESS, ZONE, Laboratory, Project, World, clients_layout, upstream_world

pytestmark = pytest.mark.integration

F: Final = f"https://files.{ZONE}"


def python(program: str) -> str:
    return f"python3 -c '{program}' || true"


REFUSED: Final[dict[str, tuple[str, str]]] = {
    "TCP that is not HTTP": (
        f"timeout 5 bash -c 'exec 3<>/dev/tcp/closed.{ZONE}/2525; echo hello >&3; head -c 1 <&3' || true",
        rf"closed\.{ZONE}:2525",
    ),
    "a server that would speak first": (
        f"timeout 2 bash -c 'exec 3<>/dev/tcp/files.{ZONE}/2526; head -c 1 <&3' || true",
        rf"files\.{ZONE}",
    ),
    "TCP to an address": ("timeout 5 bash -c 'echo x > /dev/tcp/192.0.2.6/2527' || true", r"192\.0\.2\.6:2527"),
    "git's own protocol": (f"timeout 5 git clone git://git.{ZONE}/tool.git /tool || true", rf"git\.{ZONE}:9418"),
    "no HTTP on a port of HTTP": (
        f"timeout 5 bash -c 'exec 3<>/dev/tcp/files.{ZONE}/80; printf \"SSH-2.0-x\\r\\n\\r\\n\" >&3; cat <&3' || true",
        rf"files\.{ZONE}",
    ),
    "UDP": (
        python('import socket as s; s.socket(s.AF_INET, s.SOCK_DGRAM).sendto(b"x", ("192.0.2.7", 99))'),
        r"192\.0\.2\.7:99",
    ),
    "UDP to a name": (
        python(f'import socket as s; s.socket(s.AF_INET, s.SOCK_DGRAM).sendto(b"x", ("files.{ZONE}", 123))'),
        rf"files\.{ZONE}:123",
    ),
    "another name server": (
        python('import socket as s; s.socket(s.AF_INET, s.SOCK_DGRAM).sendto(b"x", ("192.0.2.53", 53))'),
        r"192\.0\.2\.53:53",
    ),
    "a literal address": (f"curl -sS http://{ADDRESS}/bytes/a/1 || true", re.escape(ADDRESS)),
    "a literal address with TLS": (f"curl -sSk https://{ADDRESS}/bytes/a/1 || true", re.escape(ADDRESS)),
    "a literal address in the host header": (
        f"curl -sS -H 'Host: {ADDRESS}' http://files.{ZONE}/bytes/a/1 || true",
        re.escape(ADDRESS),
    ),
    "IPv6": ("curl -g -sS -m 5 'http://[2001:db8::7]/' || true", r"2001:db8::7"),
    "IPv4 in IPv6": ("curl -g -sS -m 5 'http://[::ffff:192.0.2.8]/' || true", r"192\.0\.2\.8"),
    "a name with an IPv6 address only": (f"curl -sS http://six.{ZONE}/ || true", rf"six\.{ZONE}"),
    "the cloud's metadata": ("curl -sS -m 5 http://169.254.169.254/latest/ || true", r"169\.254\.169\.254"),
    "a name that leads to the cloud's metadata": (
        f"curl -sS http://link-local.{ZONE}/latest/ || true",
        rf"link-local\.{ZONE}",
    ),
    "a name that leads to the host's loopback": (f"curl -sS http://loopback.{ZONE}/ || true", rf"loopback\.{ZONE}"),
    "a name that leads there sometimes": (
        f"curl -sS http://partly-loopback.{ZONE}/ || true",
        rf"partly-loopback\.{ZONE}",
    ),
    "a redirect to a literal address": (
        f"curl -sSL {F}/redirect/302?to=http://{ADDRESS}/bytes/a/1 || true",
        re.escape(ADDRESS),
    ),
    "UDP from a shell": ("echo x > /dev/udp/192.0.2.9/7 || true", r"192\.0\.2\.9:7"),
    "a server that nobody vouches for": (f"curl -sSk https://stranger.{ZONE}/bytes/a/1 || true", rf"stranger\.{ZONE}"),
    "a server that is not there": (f"curl -sS https://closed.{ZONE}/ || true", rf"closed\.{ZONE}"),
    "upstream's 500": (f"curl -fsS {F}/status/500 || true", rf"GET {F}/status/500.*500"),
    "upstream's 429": (f"curl -fsS {F}/status/429 || true", rf"GET {F}/status/429.*429"),
    "a body that is cut off": (f"curl -fsS {F}/cut/a -o /a || true", rf"GET {F}/cut/a"),
    # Locked, and then asked for in other words when the step is replayed to see whether it repeats.
    "another request each time": (
        f"curl -fsS {F}/bytes/n$(date +%s%N)/1 -o /dev/null || true",
        rf"GET {F}/bytes/n\d+/1",
    ),
}


@pytest.fixture(scope="module")
def upstream(root: Account, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    assert root.uid == 0
    with upstream_world(tmp_path_factory.mktemp("upstream") / "world") as world:
        yield world


@pytest.fixture(scope="module")
def laboratory(unprivileged: Account, upstream: World) -> Laboratory:
    return Laboratory(account=unprivileged, upstream=upstream, layout=clients_layout())


IN_SHORT = (
    "TCP that is not HTTP",
    "git's own protocol",
    "UDP",
    "a literal address in the host header",
    "IPv6",
    "the cloud's metadata",
    "a name that leads to the host's loopback",
    "a redirect to a literal address",
    "upstream's 500",
    "another request each time",
)
"""What others do is tried with real programs and no sandbox by `test_recorder_refusals`, too."""


@pytest.mark.parametrize("name", some_of(REFUSED, *IN_SHORT))
def test_a_step_is_not_locked_that_wants(name: str, laboratory: Laboratory) -> None:
    command, named = REFUSED[name]
    project = laboratory.project(command)
    done = project.lock(status=2)
    message = error_of(done.stderr)
    assert "step 1 (kimage.py:7)" in message
    assert re.search(named, message), message
    assert not project.lockfile.exists()


def test_nothing_of_it_arrives(laboratory: Laboratory, upstream: World) -> None:
    """Neither at the host's own servers nor at an upstream that is not asked by name."""
    upstream.forget_requests()
    project = laboratory.project(
        "curl -sS http://127.0.0.1/ || true",
        f"curl -sS http://{ADDRESS}/ || true; curl -sS http://loopback.{ZONE}/ || true",
    )
    project.lock(status=2)
    assert upstream.requests() == []


def test_the_hosts_loopback_is_not_the_steps(laboratory: Laboratory) -> None:
    """A server listens on 127.0.0.1:80 where klock runs. In the step nobody does."""
    laboratory.project("curl -sS http://127.0.0.1/bytes/a/1 2>&1 | grep -c 'Failed to connect' > /a").lock()


def test_other_families_of_sockets_are_not_to_be_had(laboratory: Laboratory) -> None:
    program = """
import socket
for family, kind in ((socket.AF_VSOCK, socket.SOCK_STREAM), (socket.AF_PACKET, socket.SOCK_RAW),
                     (socket.AF_INET, socket.SOCK_RAW), (socket.AF_BLUETOOTH, socket.SOCK_RAW)):
    try:
        socket.socket(family, kind)
    except OSError as error:
        print(error.strerror)
"""
    project = laboratory.project(f"python3 - > /a <<'END'{program}END")
    project.lock()
    project.replay()
    unsupported = "Address family not supported by protocol\n"
    assert project.prints("cat /a") == f"{unsupported}{unsupported}Protocol not supported\n{unsupported}"


# -- at replay


def without_request(project: Project, url: str) -> None:
    """Takes the line of a request out of the lockfile, as somebody might who edits it."""
    lines = project.lockfile.read_text().splitlines(keepends=True)
    kept = [line for line in lines if f'"{url}"' not in line]
    assert len(kept) == len(lines) - 1
    project.lockfile.write_text("".join(kept))


def error_of(stderr: str) -> str:
    assert "Traceback" not in stderr, stderr
    assert len(re.findall(r"^error: ", stderr, re.MULTILINE)) == 1, stderr
    return stderr[stderr.index("error: ") :]


@pytest.mark.parametrize("ending", ["", " || true", "; exit 0", " 2>/dev/null & wait; :"])
def test_an_unlocked_request_fails_the_step_whatever_the_command_makes_of_it(
    ending: str, laboratory: Laboratory
) -> None:
    first, second = (f"{F}/bytes/{name}/10" for name in ("first", "second"))
    project = laboratory.project(f"curl -fsS {first} -o /a && curl -fsS {second} -o /b{ending}")
    project.lock()
    without_request(project, second)
    message = error_of(project.replay(status=2).stderr)
    assert "step 1 (kimage.py:7)" in message
    assert re.search(rf"GET {re.escape(second)}\b.*not in the lockfile", message), message
    assert first not in message.partition("| ")[0].replace(f"curl -fsS {first}", "")


def test_every_locked_request_is_asked_for(laboratory: Laboratory) -> None:
    """Without any one of them the replay fails, and says which."""
    urls = [f"{F}/hops/1", f"https://other.{ZONE}/hops/0", f"{F}/bytes/x/3"]
    project = laboratory.project(f"curl -fsSL {urls[0]} -o /a && curl -fsS -r 1- {urls[2]} -o /b")
    project.lock()
    assert sorted(line.split()[1] for line in project.requests) == sorted(urls)
    whole = project.lockfile.read_text()
    for url in urls:
        project.lockfile.write_text(whole)
        without_request(project, url)
        # With its only request a host goes as well: then it is the name that is refused.
        refused = f"other.{ZONE}: " if f"other.{ZONE}" in url else f"GET {url}"
        assert refused in error_of(project.replay(status=2).stderr)
    project.lockfile.write_text(whole)
    project.replay()


def test_all_that_was_refused_is_listed(laboratory: Laboratory) -> None:
    urls = [f"{F}/bytes/many/{size}" for size in (1, 2, 3)]
    project = laboratory.project(
        "; ".join(f"curl -sS {url} -o /dev/null" for url in [*urls, f"{F}/bytes/kept/4"]) + "; true"
    )
    project.lock()
    for url in urls:
        without_request(project, url)
    message = error_of(project.replay(status=2).stderr)
    assert [url for url in urls if re.search(rf"GET {url}\b", message)] == urls


def test_a_name_that_is_not_locked_is_refused_by_name(laboratory: Laboratory) -> None:
    project = laboratory.project(f"curl -sS http://other.{ZONE}/bytes/a/1 -o /a || true")
    project.lock()
    without_request(project, f"http://other.{ZONE}/bytes/a/1")
    assert f"other.{ZONE}" in error_of(project.replay(status=2).stderr)


def test_bytes_that_upstream_changed(laboratory: Laboratory, upstream: World) -> None:
    """The store lacks the body, and what upstream has now is something else: not a byte of it is served."""
    url = f"{F}/moving/stone"
    project = laboratory.project(f"curl -sS {url} -o /a || true")
    project.lock()
    ((request,),) = [step["requests"] for step in project.shell_steps]
    message = error_of(project.replay(status=2, without=[request["sha256"]]).stderr)
    assert f"GET {url}" in message, "nobody is there to ask"

    with upstream.moved():
        done = project.klock_online("sync", store=laboratory.replaying_store, status=2)
    assert re.search(rf"GET {url}.*\bother bytes\b", error_of(done.stderr)), done.stderr
    project.klock_online("sync", store=laboratory.replaying_store)
    assert project.prints("cat /a") == "stone is old\n"


def test_a_step_whose_answers_moved_is_still_replayed(laboratory: Laboratory, upstream: World) -> None:
    project = laboratory.project(f"curl -fsS {F}/moving/glacier -o /a")
    project.lock()
    with upstream.moved():
        project.replay()
    assert project.prints("cat /a") == "glacier is old\n"


def test_an_edited_hash_is_not_served(laboratory: Laboratory) -> None:
    project = laboratory.project(f"curl -sS {F}/bytes/edited/10 -o /a || true")
    project.lock()
    ((request,),) = [step["requests"] for step in project.shell_steps]
    text = project.lockfile.read_text()
    project.lockfile.write_text(text.replace(request["sha256"], "0" * 64))
    assert f"GET {F}/bytes/edited/10" in error_of(project.replay(status=2).stderr)
