"""The end of a step: which of its requests are locked, which are refused, and what the store keeps."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, TypeAlias
from urllib.parse import urlsplit

from klock.recorder.downloads import LEAK, Leak, without_secrets
from klock.recorder.exchange import Body
from klock.recorder.locking import Asked, Question, lock_requests
from klock.recorder.redaction import Redaction
from klock.recorder.report import Notes, Report
from klock.recorder.transcript import Exchange
from klock.store import Store
from klock.workshop import linux

__all__ = ["conclude"]

_Asked: TypeAlias = Sequence[tuple[Question, Exchange]]

_CHUNK: Final = 1 << 20
_ONLY_A_NAME: Final = (
    "the step looked up its address, but sent no request that klock can lock (perhaps the program does not trust the "
    "certificates in SSL_CERT_FILE)"
)
_LATE: Final = "it holds a secret that the step used elsewhere before klock knew it"


def conclude(
    asked: _Asked, *, names: Mapping[str, bool], folder: Path, store: Store, redaction: Redaction, notes: Notes
) -> Report:
    """Moves the bodies that are locked from `folder` into the store, and says what to lock and what was refused.

    `names` are the host names that were looked up, and whether they have an address. Nothing is under way any more.
    """
    if redaction.values:
        _search_again(asked, redaction)
    good = [Asked(question=q, answer=e.locked) for q, e in asked if e.locked is not None and e.problem is None]
    requests = lock_requests(good)
    _keep(asked, {request.sha256 for request in requests if request.sha256 is not None}, folder, store)
    refused = _problems(asked)
    shown = notes.report([], refused=refused).refused
    hosts = {urlsplit(request.url).hostname for request in requests}
    for name, has_address in names.items():
        if has_address and name not in hosts and not any(name in sentence for sentence in shown):
            refused.append(f"{name}: {_ONLY_A_NAME}")
    unknown = [name for name, has_address in names.items() if not has_address]
    return notes.report(requests, refused=refused, unknown_hosts=unknown)


def _search_again(asked: _Asked, redaction: Redaction) -> None:
    """Drops answers with a secret that was recognised only later, such as a token that was fetched and then used."""
    for question, exchange in asked:
        if exchange.problem is None and exchange.locked is not None:
            texts = (question.url, question.accept, question.git_protocol, *exchange.locked.headers)
            if redaction.find_secret("\n".join(texts).encode("utf-8", "surrogatepass")):
                exchange.problem = _LATE
        body = exchange.answer.body if exchange.answer is not None else None
        if exchange.problem is None and exchange.stand_in is None and body is not None and body.path is not None:
            try:
                for _ in without_secrets(_chunks(body.path), redaction):
                    pass
            except Leak:
                exchange.problem = LEAK


def _problems(asked: _Asked) -> list[str]:
    """A sentence for each request that has no answer to lock, and got none when it was made again later."""
    good_later: set[tuple[str, str, str | None]] = set()
    sentences = []
    for question, exchange in reversed(asked):
        if exchange.problem is None:
            good_later.add(question.subject)
        elif question.subject not in good_later:
            sentences.append(f"{question.method} {question.url}: {exchange.problem}")
    return sentences


def _keep(asked: _Asked, wanted: set[str], folder: Path, store: Store) -> None:
    """Moves the wanted bodies into the store. One sync for all of them is faster than one for each."""
    linux.sync_file_system(os.fspath(folder))
    for _, exchange in asked:
        sha256 = exchange.locked.sha256 if exchange.locked is not None else None
        if sha256 is None or sha256 not in wanted:
            continue
        wanted.discard(sha256)
        digest = f"sha256:{sha256}"
        if store.find_blob(digest) is not None:
            continue
        if exchange.stand_in is not None:
            store.add_bytes(exchange.stand_in, digest=digest)
        elif exchange.answer is not None and exchange.answer.body is not None:
            _move(exchange.answer.body, store.blob_path(digest))


def _move(body: Body, blob: Path) -> None:
    assert body.path is not None
    blob.parent.mkdir(parents=True, exist_ok=True)
    body.path.replace(blob)


def _chunks(path: Path) -> Iterator[bytes]:
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            yield chunk
