"""What commands say of arguments that cannot be meant: what is wrong, and what to write instead."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from klock.commands import klock
from klock.errors import KlockError
from klock.lockfile import write
from tests.test_lockfile import SMALL

WRONG = {
    "a vault, and nobody asks upstream": (
        ["check", "--vault", "vault"],
        "--vault is for --upstream: add --upstream, or see `klock vault check`",
    ),
    "a vault that is not there": (["check", "--upstream", "--vault", "vault"], "there is no vault at "),
    "a vault in a registry that is no repository": (
        ["check", "--upstream", "--vault", "oci://127.0.0.1:1"],
        "'oci://127.0.0.1:1' is not the address of a repository",
    ),
    "a code where a kind of findings is meant": (
        ["check", "--fail-on", "stale-step"],
        "'stale-step' is no list of kinds: write one or more of stale, moved, drift, unsafe, policy, with commas",
    ),
}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "kimage.py").write_text('import klock as kt\n\nimage = kt.Image().from_docker("python:3.12-slim")\n')
    write(SMALL, tmp_path / "kimage.lock")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KLOCK_CACHE_DIR", str(tmp_path / "store"))
    return tmp_path


@pytest.mark.parametrize("case", WRONG)
@pytest.mark.usefixtures("project")
def test_arguments_are_refused_with_what_to_write(case: str) -> None:
    arguments, words = WRONG[case]
    done = CliRunner().invoke(klock, arguments)
    if isinstance(done.exception, KlockError):
        assert words in done.exception.message
        assert done.exception.hint
    else:
        assert done.exit_code == 2
        assert words in " ".join(done.output.split())
