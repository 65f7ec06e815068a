"""Every habit of HTTP that a shell step may meet: recorded once, then replayed with no network at all."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Final

import pytest

from tests.integration.container_engines import some_of
from tests.integration.unprivileged import Account
from tests.integration.upstream import ZONE, Case, Laboratory, Step, World, clients_layout, upstream_world
from tests.integration.upstream.answers import content
from tests.integration.upstream.credentials import API_TOKEN, PASSWORD, QUERY_TOKEN, USER

pytestmark = pytest.mark.integration

F: Final = f"https://files.{ZONE}"
OTHER: Final = f"https://other.{ZONE}"
ENV: Final = {
    "UPSTREAM_USER": USER,
    "UPSTREAM_PASSWORD": PASSWORD,
    "UPSTREAM_TOKEN": API_TOKEN,
    "UPSTREAM_QUERY_TOKEN": QUERY_TOKEN,
}
ACCESS_TOKEN: Final = """python3 -c 'import json, sys; print(json.load(sys.stdin)["access_token"])'"""
PIPELINED: Final = f"""\
exec 3<>/dev/tcp/files.{ZONE}/80
request() {{ printf 'GET %s HTTP/1.1\\r\\nHost: files.{ZONE}\\r\\nConnection: %s\\r\\n\\r\\n' "$1" "$2"; }}
{{ request /bytes/first/3 keep-alive; request /status/404 keep-alive; request /bytes/third/3 close; }} >&3
grep -a -o 'HTTP/1.1 ...' <&3 > /answers
"""
URLLIB: Final = f"""\
python3 - <<'END'
import json, urllib.parse, urllib.request
with urllib.request.urlopen("{F}/bytes/urllib/5000") as answer:
    open("/first", "wb").write(answer.read())
data = urllib.parse.urlencode({{"b": "2", "a": "ü"}}).encode()
with urllib.request.urlopen("{F}/form", data=data) as answer:
    open("/second", "wb").write(answer.read())
END
"""
REQUESTS: Final = f"""\
python3 - <<'END'
import requests
with requests.Session() as session:
    first = session.get("{F}/gzip/requests")
    second = session.post("{F}/json", json=[4, 5])
    third = session.get("{F}/redirect/302", params={{"to": "{OTHER}/bytes/requests/5"}})
    fourth = session.head("{F}/bytes/requests/7")
    said = [first.text[:10], second.json(), third.url, fourth.headers["content-length"]]
    open("/said", "w").write(" ".join(map(str, said)) + "\\n")
END
"""
NODE: Final = f"""\
node --input-type=module - <<'END'
import {{ writeFileSync }} from "node:fs";
import https from "node:https";
const first = await (await fetch("{F}/gzip/node")).text();
const second = await (await fetch("{F}/json", {{ method: "POST", body: "[6,7]" }})).json();
https.get("{F}/bytes/node/9", (answer) => {{
  answer.on("data", (bytes) => writeFileSync("/said", `${{first.slice(0, 15)}} ${{second.sum}} ${{bytes.length}}\\n`));
}});
END
"""
OWN_SERVER: Final = f"""\
mkdir /tmp/served && curl -fsS {F}/bytes/own/100 -o /tmp/served/file
python3 -m http.server --directory /tmp/served 80 & trap 'kill $!' EXIT
curl -fsS --retry 50 --retry-delay 1 --retry-connrefused http://127.0.0.1/file -o /own
curl -fsS http://localhost/file | cmp - /own
"""


def got(path: str, status: int = 200, host: str = F) -> str:
    return f"GET {host}{path} {status}"


def posted(path: str) -> str:
    return f"POST {F}{path} 200"


def sums(*names: tuple[str, int]) -> str:
    """What sha256sum prints of files of the upstream, read from its stdin."""
    return "".join(f"{hashlib.sha256(content(name, size)).hexdigest()}  -\n" for name, size in names)


def source(command: str) -> Step:
    """A command with variables of the process in it, as `{NAME}`."""
    for name in ENV:
        command = command.replace(f"{{{name}}}", f"{{os.environ['{name}']}}")
    return Step(f'f"""{command}"""', is_source=True)


CASES: Final[dict[str, Case]] = {
    "curl": Case(
        steps=(f"curl -fsS {F}/bytes/curl/10000 -o /a",),
        script="sha256sum < /a",
        prints=sums(("curl", 10000)),
        asks=(got("/bytes/curl/10000"),),
        only=True,
    ),
    "wget": Case(
        steps=(f"wget -q {F}/bytes/wget/10000 -O /a",),
        script="sha256sum < /a",
        prints=sums(("wget", 10000)),
        asks=(got("/bytes/wget/10000"),),
        only=True,
    ),
    "Python's urllib": Case(
        steps=(URLLIB,),
        script="sha256sum < /first; cat /second",
        prints=f"{sums(('urllib', 5000))}a=ü b=2\n",
        asks=(got("/bytes/urllib/5000"), posted("/form")),
        only=True,
    ),
    "Python's requests": Case(
        steps=(REQUESTS,),
        script="cat /said",
        prints=f"compressed {{'sum': 9}} {OTHER}/bytes/requests/5 7\n",
        asks=(
            got("/gzip/requests"),
            posted("/json"),
            got(f"/redirect/302?to={OTHER.replace(':', '%3A').replace('/', '%2F')}%2Fbytes%2Frequests%2F5", 302),
            got("/bytes/requests/5", host=OTHER),
            f"HEAD {F}/bytes/requests/7 200",
        ),
        only=True,
    ),
    "node": Case(
        steps=(NODE,),
        script="cat /said",
        prints="compressed node 13 9\n",
        asks=(got("/gzip/node"), posted("/json"), got("/bytes/node/9")),
        only=True,
    ),
    "http without TLS": Case(
        steps=(f"curl -fsS http://files.{ZONE}/bytes/plain/10 | sha256sum > /a",),
        script="cat /a",
        prints=sums(("plain", 10)),
        asks=(got("/bytes/plain/10", host=f"http://files.{ZONE}"),),
        only=True,
    ),
    "other ports": Case(
        steps=(
            f"for u in http://files.{ZONE}:8080 {F}:8443; do curl -fsS $u/bytes/ports/10; done | sha256sum > /a",
            # Nothing in the command tells the port.
            f"python3 -c \"import urllib.request as u; u.urlopen('http://files.{ZONE}:%s/bytes/x/1' % (4040 * 2))\"",
        ),
        script="cat /a",
        prints=f"{hashlib.sha256(content('ports', 10) * 2).hexdigest()}  -\n",
        asks=(
            got("/bytes/ports/10", host=f"http://files.{ZONE}:8080"),
            got("/bytes/ports/10", host=f"{F}:8443"),
            got("/bytes/x/1", host=f"http://files.{ZONE}:8080"),
        ),
        only=True,
    ),
    "redirects across hosts and to https": Case(
        steps=(f"curl -fsSL http://files.{ZONE}/hops/3 -o /a", f"wget -q {F}/hops/1 -O /b"),
        script="cat /a /b",
        prints="arrived\narrived\n",
        asks=(
            got("/hops/3", 302, host=f"http://files.{ZONE}"),
            got("/hops/2", 302, host=OTHER),
            got("/hops/1", 302),
            got("/hops/0", host=OTHER),
            got("/hops/1", 302),
            got("/hops/0", host=OTHER),
        ),
        only=True,
    ),
    "redirects of every kind": Case(
        steps=(f"for s in 301 302 303 307 308; do curl -fsSL {F}/redirect/$s?to=/bytes/r/$s | sha256sum; done > /a",),
        script="sha256sum < /a",
        prints=hashlib.sha256(sums(*(("r", s) for s in (301, 302, 303, 307, 308))).encode()).hexdigest() + "  -\n",
        asks=tuple(
            line
            for s in (301, 302, 303, 307, 308)
            for line in (got(f"/redirect/{s}?to=/bytes/r/{s}", s), got(f"/bytes/r/{s}"))
        ),
        only=True,
    ),
    "a POST that is sent on": Case(
        steps=(f"curl -fsSL -d '[1,2]' {F}/redirect/307?to=/json -o /a",),
        script="cat /a",
        prints='{"sum": 3}',
        asks=(f"POST {F}/redirect/307?to=/json 307", posted("/json")),
        only=True,
    ),
    "a signed redirect": Case(
        steps=(f"curl -fsSL {F}/signed-redirect/parcel -o /a",),
        script="sha256sum < /a",
        prints=sums(("parcel", 5000)),
    ),
    "ranges": Case(
        steps=(f"for r in 0-99 9900-9999 -100 9900-; do curl -fsS -r $r {F}/bytes/ranges/10000; done > /a",),
        script="sha256sum < /a",
        prints=hashlib.sha256(content("ranges", 10000)[:100] + content("ranges", 10000)[-100:] * 3).hexdigest()
        + "  -\n",
        asks=(got("/bytes/ranges/10000"),),
        only=True,
    ),
    "a range out of bounds": Case(
        steps=(f"curl -sS -r 500- -w '%{{http_code}}' {F}/bytes/bounds/100 -o /dev/null > /a",),
        script="cat /a",
        prints="416",
        asks=(got("/bytes/bounds/100"),),
        only=True,
    ),
    "downloads that are resumed": Case(
        steps=(
            f"curl -fsS -r 0-3999 {F}/bytes/resumed/10000 -o /a && curl -fsS -C - {F}/bytes/resumed/10000 -o /a"
            f" && head -c 4000 /a > /b && wget -q -c {F}/bytes/resumed/10000 -O /b",
        ),
        script="sha256sum < /a; sha256sum < /b",
        prints=sums(("resumed", 10000)) * 2,
        asks=(got("/bytes/resumed/10000"),),
        only=True,
    ),
    "a file that has not changed": Case(
        steps=(
            f"curl -fsS --etag-save /tmp/tag {F}/bytes/same/100 -o /a"
            f" && curl -fsS --etag-compare /tmp/tag -w '%{{http_code}}' {F}/bytes/same/100 -o /dev/null > /b",
        ),
        script="cat /b",
        prints="304",
        asks=(got("/bytes/same/100"),),
        only=True,
    ),
    "401, then a name and a password": Case(
        steps=(
            source(
                "wget -q --user '{UPSTREAM_USER}' --password '{UPSTREAM_PASSWORD}' " + f"{F}/basic/wget -O /a"
                " && curl -fsS --anyauth -u '{UPSTREAM_USER}:{UPSTREAM_PASSWORD}' " + f"{F}/basic/curl -o /b"
            ),
        ),
        script="cat /a /b",
        prints="for members: wget\nfor members: curl\n",
        asks=(got("/basic/wget", 401), got("/basic/wget"), got("/basic/curl", 401), got("/basic/curl")),
        only=True,
    ),
    "401, then a token": Case(
        steps=(
            source(
                f"test $(curl -sS -o /dev/null -w '%{{{{http_code}}}}' {F}/bearer/one) = 401"
                " && curl -fsS -H 'Authorization: Bearer {UPSTREAM_TOKEN}' " + f"{F}/bearer/one -o /a"
            ),
        ),
        script="cat /a",
        prints="for bearers: one\n",
        asks=(got("/bearer/one", 401), got("/bearer/one")),
        only=True,
    ),
    "a token in the query": Case(
        steps=(source(f"curl -fsS -G --data-urlencode 'token={{UPSTREAM_QUERY_TOKEN}}' {F}/query/one -o /a"),),
        script="cat /a",
        prints="for the token: one\n",
        asks=(got("/query/one?token=***"),),
        only=True,
    ),
    "an access token, fetched and used": Case(
        steps=(
            f"T=$(curl -fsS -d grant_type=x {F}/token | {ACCESS_TOKEN})"
            f' && curl -fsS -H "Authorization: Bearer $T" {F}/api/one -o /a',
        ),
        script="cat /a",
        prints="from the API: one\n",
        asks=(posted("/token"), got("/api/one")),
        only=True,
    ),
    "a session's cookie": Case(
        steps=(f"curl -fsS -c /tmp/jar {F}/cookie-login -o /a && curl -fsS -b /tmp/jar {F}/cookie/one -o /b",),
        script="cat /a /b",
        prints="welcome\nfor the session: one\n",
        asks=(got("/cookie-login"), got("/cookie/one")),
        only=True,
    ),
    "a body of unknown length": Case(
        steps=(f"curl -fsS {F}/chunked/one/12345 -o /a && wget -q {F}/chunked/one/12345 -O /b",),
        script="sha256sum < /a; sha256sum < /b",
        prints=sums(("one", 12345)) * 2,
        asks=(got("/chunked/one/12345"),),
        only=True,
    ),
    "gzip for those who accept it": Case(
        steps=(f"curl -fsS --compressed {F}/gzip/one -o /a && curl -fsS {F}/gzip/one -o /b",),
        script="head -n 1 /a; cmp /a /b",
        prints="compressed one\n",
        asks=(got("/gzip/one"),),
        only=True,
    ),
    "gzip for those who did not ask": Case(
        steps=(f"curl -fsS {F}/gzip-anyway/one -o /a && curl -fsS --compressed {F}/gzip-anyway/one -o /b",),
        script="gunzip -c /a | cmp - /b; head -n 1 /b",
        prints="compressed one\n",
        asks=(got("/gzip-anyway/one"),),
        only=True,
    ),
    "HEAD": Case(
        steps=(
            f"curl -fsSI {F}/bytes/head/1234 | tr -d '\\r' | grep -i ^content-length > /a"
            f" && wget -q --spider {F}/bytes/head/1",
        ),
        script="cat /a",
        prints="Content-Length: 1234\n",
        asks=(f"HEAD {F}/bytes/head/1234 200", f"HEAD {F}/bytes/head/1 200"),
        only=True,
    ),
    "POST: JSON, a form, chunks": Case(
        steps=(
            f"curl -fsS --json '[1,2]' {F}/json > /a && curl -fsS -d b=2 -d a=1 {F}/form >> /a"
            f" && echo '[3,4]' | curl -fsS -H 'Transfer-Encoding: chunked' -d @- {F}/json >> /a",
        ),
        script="cat /a",
        prints='{"sum": 3}a=1 b=2\n{"sum": 7}',
        asks=(posted("/json"), posted("/form"), posted("/json")),
        only=True,
    ),
    "one POST with other answers each time": Case(
        steps=(f"for i in 1 2 3; do curl -fsS -d more= {F}/count; done > /a",),
        script="sort -n -u /a | cmp - /a; wc -l < /a",
        prints="3\n",
        asks=(posted("/count"),) * 3,
        only=True,
    ),
    "404 where the command expects it": Case(
        steps=(f"test $(curl -sS -o /a -w '%{{http_code}}' {F}/nothing) = 404",),
        script="cat /a",
        prints="there is nothing here\n",
        asks=(got("/nothing", 404),),
        only=True,
    ),
    "500, then 200": Case(
        steps=(f"curl -fsS --retry 3 {F}/flaky/luck -o /a",),
        script="cat /a",
        prints="luck after all\n",
        asks=(got("/flaky/luck"),),
        only=True,
    ),
    "a slow body": Case(
        steps=(f"curl -fsS {F}/slow/snail -o /a",),
        script="cat /a",
        prints="snail 0\nsnail 1\nsnail 2\nsnail 3\n",
        asks=(got("/slow/snail"),),
        only=True,
    ),
    "100 MiB": Case(
        steps=(f"curl -fsS {F}/large/whale/100 | sha256sum > /a",),
        script="cat /a",
        prints=hashlib.sha256(content("whale", 1 << 20) * 100).hexdigest() + "  -\n",
        asks=(got("/large/whale/100"),),
        only=True,
    ),
    "parallel downloads": Case(
        steps=(
            f"mkdir /p && seq 1000 1039 | xargs -P 8 -I@ curl -fsS {F}/bytes/parallel/@ -o /p/@"
            f" && seq 20 | xargs -P 8 -I@ curl -fsSL {F}/hops/1 -o /p/@"
            f" && seq 0 1000 9000 | xargs -P 8 -I@ sh -c 'curl -fsS -r @-$((@+999)) {F}/bytes/pieces/10000 -o /tmp/@'"
            " && cat $(seq -f /tmp/%.0f 0 1000 9000) > /p/whole",
        ),
        script="ls /p | wc -l; sha256sum < /p/whole; sha256sum < /p/1039",
        prints=f"61\n{sums(('pieces', 10000), ('parallel', 1039))}",
        asks=(
            *(got(f"/bytes/parallel/{size}") for size in range(1000, 1040)),
            got("/hops/1", 302),
            got("/hops/0", host=OTHER),
            got("/bytes/pieces/10000"),
        ),
        only=True,
    ),
    "one connection for several": Case(
        steps=(f"curl -fsS {F}/bytes/keep/[1-9] -w '%{{num_connects}}\\n' -o /dev/null > /a",),
        script="cat /a",
        prints="1\n" + "0\n" * 8,
        asks=tuple(got(f"/bytes/keep/{size}") for size in range(1, 10)),
        only=True,
    ),
    "requests that do not wait for answers": Case(
        steps=(PIPELINED,),
        script="cat /answers",
        prints="HTTP/1.1 200\nHTTP/1.1 404\nHTTP/1.1 200\n",
        asks=(
            got("/bytes/first/3", host=f"http://files.{ZONE}"),
            got("/status/404", 404, host=f"http://files.{ZONE}"),
            got("/bytes/third/3", host=f"http://files.{ZONE}"),
        ),
        only=True,
    ),
    "the step's own server": Case(
        steps=(OWN_SERVER,),
        script="sha256sum < /own",
        prints=sums(("own", 100)),
        asks=(got("/bytes/own/100"),),
        only=True,
    ),
    "a name that nobody has": Case(
        steps=(f"curl -fsS https://nobody.{ZONE}/x || echo nobody > /a",),
        script="cat /a",
        prints="nobody\n",
        only=True,
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
    "curl",
    "node",
    "downloads that are resumed",
    "a session's cookie",
    "one POST with other answers each time",
    "100 MiB",
    "parallel downloads",
    "requests that do not wait for answers",
    "the step's own server",
    "a name that nobody has",
)
"""What others do is tried with real programs and no sandbox by `test_recorder_clients`, too."""


@pytest.mark.parametrize("name", some_of(CASES, *IN_SHORT))
def test_is_replayed_without_a_network(name: str, laboratory: Laboratory) -> None:
    CASES[name].holds(laboratory, files={}, env=ENV)


def test_a_name_that_nobody_has_is_locked(laboratory: Laboratory) -> None:
    project = laboratory.project(f"getent hosts nobody.{ZONE} zzz.{ZONE} > /a || echo nobody > /b")
    project.lock()
    (step,) = project.shell_steps
    assert step["unknown-hosts"] == [f"nobody.{ZONE}", f"zzz.{ZONE}"]
    project.replay()


def test_upstream_sees_who_asks_and_the_plain_file_is_asked_for(laboratory: Laboratory, upstream: World) -> None:
    """The recorder asks for the whole file as it is; what tells answers apart goes through."""
    upstream.forget_requests()
    url = f"{F}/bytes/asked/1000"
    project = laboratory.project(f"curl -fsS --compressed -r 10-19 -A tester -H 'Accept: a/b' {url} -o /a")
    project.lock()
    (entry,) = upstream.journal()
    headers = {name.lower(): value for name, value in entry["headers"].items()}
    assert (headers["user-agent"], headers["accept"], headers["accept-encoding"]) == ("tester", "a/b", "identity")
    assert not {"range", "if-none-match", "via", "x-forwarded-for"} & headers.keys()


def test_a_file_is_fetched_once_however_often_the_step_asks(laboratory: Laboratory, upstream: World) -> None:
    upstream.forget_requests()
    project = laboratory.project(f"seq 30 | xargs -P 8 -I@ curl -fsS {F}/bytes/once/1000 -o /@")
    project.lock()
    assert upstream.requests() == [f"GET https://files.{ZONE}:443/bytes/once/1000"]
