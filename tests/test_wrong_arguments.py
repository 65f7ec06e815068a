"""What commands say of arguments that cannot be meant: what is wrong, and what to write instead."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from klock.commands.line import klock
from klock.errors import KlockError
from klock.lockfile import write
from klock.printing import say_note
from tests.test_lockfile import SMALL

WRONG = {
    "a vault, and nobody asks upstream": (
        ["check", "--vault", "vault"],
        "--vault is for --upstream: add --upstream, or see `klock vault check`",
    ),
    "a time limit, and nobody asks upstream": (
        ["check", "--timeout", "5"],
        "--timeout is for --upstream: add --upstream",
    ),
    "a vault that is not there": (["check", "--upstream", "--vault", "vault"], "there is no vault at "),
    "a vault in a registry that is not a repository": (
        ["check", "--upstream", "--vault", "oci://127.0.0.1:1"],
        "'oci://127.0.0.1:1' is not the address of a repository",
    ),
    "a name without a registry, to push to": (["push", "moon"], "'moon' names no registry"),
    "a registry without a name, to push to": (
        ["push", "registry.example.com"],
        "'registry.example.com' names no registry",
    ),
    "nothing to push to": (["push"], "say where to push it: name REGISTRY/NAME:TAG, or use --cache"),
    "a digest to push to": (
        ["push", "registry.example.com/moon@sha256:" + "0" * 64],
        "names a digest, and an image is pushed to a tag",
    ),
    "an image file beside --cache, and no cache": (
        ["push", "--frozen", "--cache", "kimage.py"],
        "the settings name no cache",
    ),
    "a name without a registry, to pull from": (["pull", "team/moon:v1"], "'team/moon:v1' names no registry"),
    "a name without a registry, for an editor": (
        ["export", "devcontainer", "--pushed", "moon"],
        "'moon' names no registry",
    ),
    "an archive that klock does not write": (
        ["export", "image", "moon.tar.gz"],
        "moon.tar.gz is not a name that ends in .tar",
    ),
    "an archive in no folder": (["export", "image", "none/moon.tar"], "there is no folder none"),
    "a file where a folder is meant": (["export", "image", "kimage.py"], "kimage.py is a file"),
    "a file where a vault is meant": (["vault", "check", "kimage.py"], "kimage.py is a file, not a vault"),
    "a file where a vault is meant, to push to": (
        ["vault", "push", "--offline", "kimage.py"],
        "kimage.py is a file, not a vault",
    ),
    "a vault on a registry that is not named": (
        ["vault", "check", "oci://team/vault"],
        "'oci://team/vault' is not the address of a repository",
    ),
    "a package to upgrade that is not locked": (
        ["lock", "--upgrade-package", "numpi"],
        "--upgrade-package numpi: the lockfile has no such package",
    ),
    "an image to verify by its tag": (
        ["verify", "registry.example.com/moon:v1"],
        "registry.example.com/moon:v1 names no image of a registry by its digest: write REGISTRY/NAME@sha256:...",
    ),
    "a key to verify an image, without a network": (
        ["verify", "--offline", "--key", "a.pub", "registry.example.com/moon@sha256:" + "0" * 64],
        "--key needs the registry, to see who signed the image: leave out --offline",
    ),
    "a code where a kind of findings is meant": (
        ["check", "--fail-on", "stale-step"],
        "'stale-step' is not a list of kinds: write one or more of stale, moved, drift, unsafe, policy, with commas",
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


@pytest.mark.usefixtures("project")
def test_a_package_that_is_nearly_locked_is_named() -> None:
    for name, hint in {
        "numpi": "did you mean numpy?",
        "rich": "what is new needs no --upgrade-package: `klock lock` locks it, `klock add NAME` adds it to the image",
    }.items():
        done = CliRunner().invoke(klock, ["lock", "--upgrade-package", name])
        assert isinstance(done.exception, KlockError)
        assert done.exception.hint == hint


@pytest.mark.parametrize("option", ["--rm", "-i", "--no-syn"])
def test_an_option_that_run_has_not_is_no_program(option: str, project: Path) -> None:
    """As of `docker run`: "no such program: --rm" would say nothing of what is wrong."""
    done = CliRunner().invoke(klock, ["run", option, "--", "true"])
    assert done.exit_code == 2
    assert "No such option" in done.output and option in done.output


def test_settings_that_are_no_toml_are_an_error_with_the_file(project: Path) -> None:
    (project / "pyproject.toml").write_text("[tool.klock]\nimage = 1\nimage = 2\n")
    done = CliRunner().invoke(klock, ["check"])
    assert isinstance(done.exception, KlockError)
    assert done.exception.message.startswith(f"cannot read {project / 'pyproject.toml'}: ")
    assert done.exception.hint == "correct that file: it is TOML in UTF-8"


def test_a_note_of_several_lines_stays_one_thing(capsys: pytest.CaptureFixture[str]) -> None:
    say_note("an index cannot be read:\nno such host")
    assert capsys.readouterr().err == "note: an index cannot be read:\n  no such host\n"


@pytest.mark.usefixtures("project")
def test_findings_that_fail_nothing_are_told_so() -> None:
    done = CliRunner().invoke(klock, ["check", "--fail-on", "drift,moved"])
    assert "stale-" in done.output and done.output.endswith(", none of a kind that fails: moved, drift\n")
    assert klock.main(["check", "--fail-on", "drift,moved"], standalone_mode=False) == 0
    assert klock.main(["check", "--fail-on", "stale"], standalone_mode=False) == 1
