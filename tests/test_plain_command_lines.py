"""What is read without click is what click reads."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from klock.commands import syncing
from klock.commands.line import klock
from klock.commands.plain import plain_sync
from klock.commands.wishes import wanted

WORDS = ("-q", "--quiet", "--frozen", "--offline", "a.py", "b.py:x", "", "--", "-v", "--dry-run", "-qq", "--quiet=1")


@given(st.lists(st.sampled_from(WORDS), max_size=4))
def test_sync(words: list[str]) -> None:
    taken: list[dict[str, Any]] = []

    def take(image: str | None, **options: Any) -> int:
        del options["progress"]
        taken.append({"image": image, "quiet": wanted().quiet > 0, **options})
        return 0

    plain = plain_sync(["sync", *words])
    if plain is None:
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(syncing, "sync_image", take)
        patch.setattr("klock.commands.sync.sync_image", take)
        for run in (plain, lambda: klock.main(args=["sync", *words], prog_name="klock", standalone_mode=False)):
            patch.setattr(wanted(), "quiet", 0)
            assert run() == 0
    mine, clicks = taken
    assert clicks == {**dict.fromkeys(("target", "engine", "gpus")), "dry_run": False, "force": False, **mine}


@pytest.mark.parametrize("words", [["-v"], ["--", "x"], ["a", "b"], ["--targ", "x"], ["--help"], ["--dry-run"]])
def test_all_else_is_for_click(words: list[str]) -> None:
    assert plain_sync(["sync", *words]) is None
    assert plain_sync(["lock", *words]) is None
    assert plain_sync(words) is None


def test_a_sync_of_what_is_made_loads_nothing_that_takes_long() -> None:
    """The start is part of every command's time."""
    rooms = (
        "commands.plain commands.syncing commands.terminal api image.builder locking.staleness replay steps.context "
    )
    rooms += "steps.pip workshop.sandbox workshop.whole places.sandbox.place unchanged.remembering lockfile losses logs"
    script = "import sys; before = set(sys.modules)\n"
    script += "".join(f"import klock.{room}\n" for room in rooms.split())
    script += "print(*sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    slow = {"click", "ctypes", "dataclasses", "hashlib", "inspect", "platform", "shlex", "shutil", "subprocess", "uuid"}
    assert slow & {*done.stdout.split()} == set()
