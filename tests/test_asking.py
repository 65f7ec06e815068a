"""Questions that nothing waits for: polite, remembered, and over when the time is."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from klock.asking import Answer, Asker
from klock.errors import FetchError, OutOfTime
from klock.store import Store


@contextmanager
def server(answers: dict[str, list[tuple[int, dict[str, str], bytes]]]) -> Iterator[tuple[str, list[str]]]:
    """Gives each path's answers in turn, the last one again and again. Also what was asked, with its condition."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None: ...

        def do_GET(self) -> None:
            asked.append(f"{self.path} {self.headers.get('If-None-Match', '')}".strip())
            these = answers[self.path]
            status, headers, body = these[0] if len(these) == 1 else these.pop(0)
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        do_HEAD = do_GET  # noqa: N815

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"http://127.0.0.1:{http.server_address[1]}", asked
        finally:
            http.shutdown()
            thread.join()


def test_an_answer_of_minutes_ago_will_do_and_an_older_one_is_asked_whether_it_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, now = Store(tmp_path), time.time()
    with server({"/a": [(200, {"ETag": '"1"'}, b"first"), (304, {}, b""), (200, {"ETag": '"2"'}, b"other")]}) as (
        url,
        asked,
    ):
        bodies = []
        for minutes in (0, 5, 11, 12, 22):
            monkeypatch.setattr("klock.asking.time.time", lambda minutes=minutes: now + 60 * minutes)
            bodies.append(Asker(store, seconds=10).ask(f"{url}/a").body)
    assert bodies == [b"first", b"first", b"first", b"first", b"other"]
    assert asked == ["/a", '/a "1"', '/a "1"']


@pytest.mark.parametrize(("status", "times"), [(404, 1), (410, 1), (500, 2), (403, 2)])
def test_only_what_a_server_means_for_a_while_is_remembered(status: int, times: int, tmp_path: Path) -> None:
    with server({"/a": [(status, {}, b"no")]}) as (url, asked):
        answers = [Asker(Store(tmp_path), seconds=10).ask(f"{url}/a").status for _ in range(2)]
    assert (answers, len(asked)) == ([status, status], times)


def test_what_is_asked_by_name_is_not_remembered(tmp_path: Path) -> None:
    with server({"/a": [(200, {}, b"for you")]}) as (url, asked):
        for _ in range(2):
            Asker(Store(tmp_path), seconds=10).ask(f"{url}/a", {"Authorization": "Basic Zm9v"})
    assert len(asked) == 2
    assert not (tmp_path / "blobs").exists()


def test_a_busy_server_is_asked_again_when_it_says_so_and_there_is_time(tmp_path: Path) -> None:
    busy, later = (429, {"Retry-After": "0"}, b""), (503, {"Retry-After": "3600"}, b"")
    with server({"/a": [busy, (200, {}, b"good")], "/b": [later]}) as (url, asked):
        asker = Asker(Store(tmp_path), seconds=20)
        assert [asker.ask(f"{url}/{name}").status for name in "ab"] == [200, 503]
    assert asked == ["/a", "/a", "/b"]


def test_when_the_time_is_over_nobody_is_asked(tmp_path: Path) -> None:
    with server({"/a": [(200, {}, b"")]}) as (url, asked):
        asker = Asker(Store(tmp_path), seconds=1e-9)
        found = asker.each(asker.ask, [f"{url}/a"] * 3)
    assert [type(each) for each in found] == [OutOfTime] * 3
    assert (asker.unasked, asked) == (3, [])
    asker.note("the index is busy")
    late = "3 questions could not be asked in time: allow more with --timeout"
    assert asker.all_notes == ["the index is busy", late]


def test_one_that_fails_does_not_keep_the_others(tmp_path: Path) -> None:
    with server({"/a": [(200, {}, b"1")]}) as (url, _):
        asker = Asker(Store(tmp_path), seconds=20)
        found = asker.each(asker.ask, [f"{url}/a", "http://127.0.0.1:1/", f"{url}/a"])
    assert [each.body if isinstance(each, Answer) else isinstance(each, FetchError) for each in found] == [
        b"1",
        True,
        b"1",
    ]


def test_offline_nothing_is_asked(tmp_path: Path) -> None:
    with pytest.raises(FetchError, match="offline"):
        Asker(Store(tmp_path), seconds=1, offline=True).ask("http://127.0.0.1:1/")
