"""The recorder between real clients and a real server: what is recorded once is answered again with no upstream.

The world they meet in is one of namespaces, see `tests.integration.recorder_world`.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.recorder_world import SharedWorld

pytestmark = pytest.mark.integration

SCRIPTS = {
    "curl over http": "curl -sS http://site.test/one http://site.test/two",
    "curl over https": "curl -sS https://site.test/one",
    "other ports": "curl -sS http://site.test:8080/one https://site.test:8443/two",
    "wget": "wget -qO- https://site.test/one http://site.test/two",
    "urllib": "python3 -c 'import urllib.request as r; print(r.urlopen(\"https://site.test/one\").read())'",
    "a large body": "curl -sS https://site.test/big | sha256sum; wget -qO- http://site.test/big | sha256sum",
    "an empty body": "curl -sS -w '%{http_code} %{size_download}' http://site.test/big?0",
    "redirects": "for s in 301 302 303 307 308; do curl -sSL http://site.test/redirect/$s?https://other.test/$s; done",
    "a redirect after POST": "curl -sSL -d x=1 http://site.test/redirect/307?https://other.test/form",
    "a signed redirect": "curl -sSL http://site.test/signed",
    "a part": "curl -sS -r 100-199 http://site.test/big | sha256sum; curl -sS -r -10 https://site.test/big | sha256sum",
    "parts in parallel": "for n in 0 1 2 3 4; do curl -sS -r ${n}000000-${n}999999 -o part$n http://site.test/big & "
    "done; wait; cat part0 part1 part2 part3 part4 | sha256sum; rm part*",
    "resuming": "curl -sS -r 0-999999 -o f http://site.test/big; curl -sS -C - -o f http://site.test/big; "
    "sha256sum f; rm f",
    "wget -c": "curl -sS -r 0-999 -o big http://site.test/big; wget -q -c http://site.test/big; sha256sum big; rm big",
    "a part that is not there": "curl -sS -o /dev/null -w '%{http_code}' -r 9000000- http://site.test/big",
    "401, then credentials": "wget -qO- --user=jo --password=pass-4711 http://site.test/auth; "
    "curl -sS http://site.test/auth; curl -sS -u jo:pass-4711 http://site.test/auth",
    "cookies": "curl -sSL -c jar -b jar http://site.test/members | tail -1; rm -f jar",
    "chunked": "curl -sS http://site.test/chunked; curl -sS http://site.test/chunked?3000000 | sha256sum",
    "until the end": "curl -sS http://site.test/close",
    "HTTP/1.0": "curl -sS --http1.0 http://site.test/one https://site.test/chunked?3000000 | sha256sum",
    "gzip": "curl -sS --compressed http://site.test/gzip; curl -sS http://site.test/gzip | gunzip",
    "HEAD": "curl -sSI http://site.test/big | grep -i -e length -e etag; curl -sSI http://site.test/status/404",
    "404": "curl -sS http://site.test/status/404; curl -sS -o /dev/null -w '%{http_code}' http://site.test/status/410",
    "POST": "curl -sS -d a=1 http://site.test/p; curl -sS --json '{\"a\": 2}' http://site.test/p; "
    "curl -sS -X PUT -d 3 http://site.test/p; curl -sS -X POST http://site.test/p",
    "POST, another answer each time": "for n in 1 2 3; do curl -sS -d x http://site.test/count; done",
    "POST, chunked": "echo long | curl -sS -T - -X POST http://site.test/p",
    "POST, after 100 Continue": "head -c 2000000 /dev/zero | tr '\\0' z | "
    "curl -sS -d @- http://site.test/p | sha256sum",
    "a form in parts": "curl -sS -F a=1 -F b=@/etc/hosts http://site.test/status/200",
    "GET is asked once": "curl -sS http://site.test/count http://site.test/count",
    "by Accept": "curl -sS http://site.test/accept; curl -sS -H 'Accept: application/json' http://site.test/accept",
    "busy, then not": "curl -sS http://site.test/busy/1",
    "many at once": "seq 60 | xargs -P 12 -I{} curl -sS http://site.test/{} | sort",
    "many at once over TLS": "seq 40 | xargs -P 12 -I{} curl -sS https://site.test/{} https://other.test/{} | sort",
    "the same at once": "seq 8 | xargs -P 8 -I{} curl -sS -o f{} http://site.test/big; sha256sum f*; rm f*",
    "a client that leaves": "curl -s http://site.test/big | head -c 1000 | sha256sum; curl -sS http://other.test/one",
    "a name that is none": "curl -sS http://nowhere.test/ || curl -sS http://site.test/one",
    "an answer that breaks off and goes on": "curl -sS http://site.test/broken/resumes | sha256sum",
    "an answer that breaks off and comes again": "curl -sS http://site.test/broken/again | sha256sum",
    "an interim answer": "curl -sS http://site.test/raw/early-hints",
    "control characters in a header": "curl -sS -i http://site.test/raw/control-characters",
    "a redirect to no URL": "curl -sS -w '%{http_code}' http://site.test/raw/no-url",
    "lengths that are none": "curl -sSI http://site.test/raw/many-digits http://site.test/raw/too-many-digits",
    "escapes": "curl -sS 'http://site.test/a%20b?x=%41&y=100%'",
    "a proxy is asked for": "curl -sS -x http://other.test:80 http://site.test/one; curl -sS http://other.test/; "
    "curl -sS -x http://other.test:80 https://site.test/two; curl -sS -p -x http://other.test:80 http://site.test/three",
}


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS.keys())
def test_replay_is_the_recording(script: str, shared_world: SharedWorld, tmp_path: Path) -> None:
    shared_world.begin(tmp_path)
    recorded = shared_world.record(script, ports=(8080, 8443))
    assert recorded.report.refused == ()
    assert recorded.output
    shared_world.asked()
    replayed = shared_world.replay(script, recorded.report)
    assert (replayed.status, replayed.text) == (recorded.status, recorded.text)
    assert replayed.report.refused == ()
    assert replayed.report.requests == recorded.report.requests
    assert shared_world.asked() == []
    assert replayed.report.upstream == 0
    assert not list((tmp_path / "store" / "tmp").iterdir())


def test_escapes_reach_upstream_as_they_are(shared_world: SharedWorld, tmp_path: Path) -> None:
    shared_world.begin(tmp_path)
    shared_world.record("curl -sS 'http://site.test/a%20b?x=%41&y=100%'")
    assert shared_world.asked() == ["GET http://site.test/a%20b?x=%41&y=100%25"]
