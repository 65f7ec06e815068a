"""The container that klock runs in: what a sync says when it is stopped, and what commands trust."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

import klock.places.here.place as here
from klock.commands import main, syncing
from klock.commands.line import klock
from klock.commands.verbosity import add_options
from klock.commands.wishes import wanted
from klock.errors import Interrupted, KlockError
from klock.places.here import HerePlace
from klock.replay.goal import Goal
from klock.steps.context import Context
from tests.memory_workshop import memory_context
from tests.test_lockfile import SMALL


@pytest.fixture
def context(tmp_path: Path) -> Context:
    return memory_context(tmp_path)


def apply(context: Context, monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """A sync whose work is stopped by `error`."""

    def converge(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(here, "converge", converge)
    monkeypatch.setattr(HerePlace, "check", lambda _: None)
    target = SMALL.targets[0]
    goal = Goal(name="test", lock=target, cache_keys=(), lock_digest="sha256:x", project=context.root)
    HerePlace(context.workshop, context.store).apply(goal, context)


def test_interrupted(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Interrupted, match="the container may be in the middle of a step"):
        apply(context, monkeypatch, KeyboardInterrupt())


@pytest.mark.parametrize("words", [["sync"], ["sync", "-v"]], ids=["read without click", "read by click"])
def test_the_command_line_says_it(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stopped(*_: object, **__: object) -> None:
        raise Interrupted("this is half done")

    monkeypatch.setattr(syncing, "sync_image", stopped)
    monkeypatch.setattr(klock, "get_command", lambda *_: add_options(click.Command("sync", callback=stopped)))
    monkeypatch.setattr(wanted(), "verbose", 0)
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 130
    assert capsys.readouterr().err == "\ninterrupted: this is half done\n"


def test_commands_trust_the_project_s_bundle(context: Context) -> None:
    bundle = context.root / "joined.pem"
    place = HerePlace(context.workshop, context.store, ca_bundle=bundle)
    assert place.variables({"SSL_CERT_FILE": "/etc/the-container-s-own.pem"})["SSL_CERT_FILE"] == str(bundle)
    assert "SSL_CERT_FILE" not in HerePlace(context.workshop, context.store).variables({"A": "1"})


def test_a_full_disk(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(KlockError, match=r"^/srv/x: No space left$") as error:
        apply(context, monkeypatch, OSError(28, "No space left", "/srv/x"))
    assert "in the middle of a step" in (error.value.hint or "")
