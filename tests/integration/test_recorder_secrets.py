"""Every credential of the vocabulary, sent by real curl through the recorder: none is in what is locked or stored."""

from __future__ import annotations

from pathlib import Path

import pytest

from klock.secrets.vocabulary import NAMES
from tests.integration.recorder_world import World, run_in_world

pytestmark = pytest.mark.integration

WRITTEN = [name for entry in NAMES for name in entry.examples]


def value(number: int) -> str:
    return f"s3cr3t.Value-{number:03}-x"


def test_values_in_queries_and_headers_are_not_locked(tmp_path: Path) -> None:
    in_queries = [f"curl -sI 'http://site.test/q/{n}?{name}={value(n)}'" for n, name in enumerate(WRITTEN)]
    # What was in a header is known from then on, wherever it stands. (The server repeats a URL in its answers to GET.)
    in_headers = [
        f"curl -sI -H '{name}: {value(n)}' http://site.test/h/{n}; curl -sI http://site.test/p/{value(n)}/{n}"
        for n, name in enumerate(WRITTEN, start=len(WRITTEN))
    ]

    def scenario(world: World) -> tuple[tuple[str, ...], str, list[bytes]]:
        report = world.record("; ".join((*in_queries, *in_headers))).report
        stored = [path.read_bytes() for path in world.store.root.rglob("*") if path.is_file()]
        return tuple(request.url for request in report.requests), str((report.requests, report.refused)), stored

    urls, text, stored = run_in_world(scenario, tmp_path)
    assert set(urls) == {
        *(f"http://site.test/q/{n}?{name}=***" for n, name in enumerate(WRITTEN)),
        *(f"http://site.test/h/{n}" for n in range(len(WRITTEN), 2 * len(WRITTEN))),
        *(f"http://site.test/p/***/{n}" for n in range(len(WRITTEN), 2 * len(WRITTEN))),
    }
    assert "s3cr3t" not in text
    assert not [content for content in stored if b"s3cr3t" in content]
