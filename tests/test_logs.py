"""What steps print is kept whole, with the name of what printed it, and leads on from an error."""

from __future__ import annotations

from pathlib import Path

import pytest

from klock.errors import StepFailed
from klock.logs import Logged, forget_failure, hinting_at_logs
from klock.progress import Quiet


def test_a_log_has_what_was_printed_below_who_printed_it(tmp_path: Path) -> None:
    file = tmp_path / "logs" / "a.log"
    for number in (1, 2):
        log = Logged(Quiet(), file)
        log.begin("step 1/2 run_bash make")
        log.output(b"one\n")
        log.begin("fetching 2 files")
        log.done("fetched")
        log.output(b"two %d\n" % number)
        log.done("3 entries")
        log.begin("step 2/2 run_bash test")
        log.output(b"\xff\n")
    assert file.read_bytes() == (b"==> step 1/2 run_bash make <==\none\ntwo 2\n==> step 2/2 run_bash test <==\n\xff\n")
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_run_in_which_nothing_is_printed_leaves_the_last_log(tmp_path: Path) -> None:
    file = tmp_path / "a.log"
    file.write_bytes(b"before")
    log = Logged(Quiet(), file)
    log.begin("step 1/1 rsync ./src -> /srv")
    log.done("2 entries")
    assert file.read_bytes() == b"before"


def test_a_log_that_cannot_be_written_is_none(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    log = Logged(Quiet(), tmp_path / "file" / "a.log")
    log.output(b"x")
    assert not log.lines


@pytest.mark.parametrize(
    ("printed", "hint", "shown"),
    [
        (b"x\n" * 21, None, "`klock logs` shows all that it printed"),
        (b"x\n" * 20, None, None),
        (b"", "do this", "do this"),
        (b"x\n" * 21, "do this", "do this; `klock logs` shows all that it printed"),
    ],
)
def test_a_step_that_failed_leads_to_the_log(
    tmp_path: Path, printed: bytes, hint: str | None, shown: str | None
) -> None:
    log = Logged(Quiet(), tmp_path / "a.log")
    if printed:
        log.output(printed)
    with pytest.raises(StepFailed) as failure, hinting_at_logs(log):
        raise StepFailed("step 1 failed", hint=hint)
    assert failure.value.hint == shown


def test_a_failure_is_forgotten_when_the_image_is_locked_without_it(tmp_path: Path) -> None:
    file = tmp_path / "a.log"
    log = Logged(Quiet(), file)
    log.begin("step 1/1 run_bash make")
    log.output(b"compiling\nno")
    with pytest.raises(StepFailed), hinting_at_logs(log):
        raise StepFailed("step 1 failed with status 3: run_bash make\n  | compiling")
    assert file.read_bytes() == (
        b"==> step 1/1 run_bash make <==\ncompiling\nno\n==> failed: step 1 failed with status 3: run_bash make <==\n"
    )
    forget_failure(file)
    assert not file.exists()


def test_what_went_well_is_kept(tmp_path: Path) -> None:
    file = tmp_path / "a.log"
    log = Logged(Quiet(), file)
    log.output(b"==> failed: a step of mine printed this <==\nand went on\n")
    forget_failure(file)
    assert file.exists()
    forget_failure(tmp_path / "nothing")


def test_what_failed_before_anything_was_printed_leaves_the_last_log(tmp_path: Path) -> None:
    file = tmp_path / "a.log"
    file.write_bytes(b"before\n")
    with pytest.raises(StepFailed), hinting_at_logs(Logged(Quiet(), file)):
        raise StepFailed("step 1 failed")
    assert file.read_bytes() == b"before\n"
