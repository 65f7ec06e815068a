"""The rules about what is never locked: what they hit, what they must not hit, and that users can read about each."""

from __future__ import annotations

from pathlib import Path

import pytest

from klock.layers import NORMALISATION, normalisation
from klock.layers.normalisation import (
    EMPTIED,
    LEFT_OUT,
    MTIME,
    REWRITTEN,
    STEP_ENVIRONMENT,
    is_emptied,
    is_left_out,
    matcher,
)
from klock.workshop.trust import VARIABLES


@pytest.mark.parametrize(
    "path",
    [
        "var/log/dpkg.log",
        "var/log/apt/history.log",
        "var/cache/apt/pkgcache.bin",
        "var/cache/apt/archives/partial",
        "var/cache/ldconfig/aux-cache",
        "var/lib/dpkg/status-old",
        "tmp/x",
        "tmp/.hidden/deep/file",
        "root/.cache/pip/http-v2/0",
        "home/some body/.cache/uv/x",
        "tmp/\udcff\n",
        "root/.wget-hsts",
        "home/joe/.wget-hsts",
        "root/.local/state/pipx/log/cmd_2029-02-01_00.06.23.log",
        "src/build/CMakeFiles/CMakeOutput.log",
        "src/build/CMakeFiles/CMakeConfigureLog.yaml",
        "opt/conda/pkgs/cache/497deca9.json",
        "root/miniconda3/pkgs/cache/497deca9.info.json",
        "root/.conda/pkgs/cache/x",
        "home/joe/micromamba/pkgs/cache/497deca9.solv",
        "opt/miniforge3/pkgs/cache/497deca9.json.zst",
        "root/.conda/aau_token",
        "var/lib/texmf/web2c/metafont/mf.log",
        "var/lib/texmf/web2c/updmap.log",
        "root/.cache/rattler/cache/pkgs/x-1-0/info/index.json",
        "root/.cache/go-build/01/0f-a",
        "home/joe/.cache/ccache/5/8/x",
        "root/.cache/pypoetry/artifacts/a/b/six.whl",
        "srv/hello/target/.rustc_info.json",
        "src/build/.ninja_deps",
    ],
)
def test_left_out(path: str) -> None:
    assert is_left_out(path)


@pytest.mark.parametrize(
    "path",
    [
        "tmp",
        "run",
        "var/log",
        "var/log/apt",
        "var/log/dpkg.log.d/x",
        "app/tmp/x",
        "app/var/log/dpkg.log",
        "var/cache/apt/deep/pkgcache.bin",
        "var/lib/dpkg/status",
        "var/lib/apt/lists/deb.debian.org_debian_dists_bookworm_InRelease",
        "app/uv.lock",
        "usr/lib/python3/dist-packages/__pycache__/six.cpython-311.pyc",
        "home/a/b/.cache/pip/x",
        "root/.cache/huggingface/model",
        "root/.cache/pypoetry/virtualenvs/app/bin/python",
        "etc/ssh/ssh_host_rsa_key",
        "opt/.wget-hsts",
        "src/build/CMakeFiles/CMakeCache.txt",
        "src/CMakeOutput.log",
        "app/pkgs/cache/cache.go",
        "root/go/pkg/mod/example.org/l@v1.0.0/l.go",
        "srv/hello/target/debug/libhello.rlib",
        "root/.local/share/pnpm/store/v3/files/00/1f-index.json",
        "opt/conda/pkgs/six-1.16.0-0/info/index.json",
        "opt/conda/pkgs/urls.txt",
        "opt/conda/conda-meta/history",
        "root/.conda/environments.txt",
        "var/lib/texmf/web2c/pdftex/latex.fmt",
        "app/paper.log",
    ],
)
def test_kept(path: str) -> None:
    assert not is_left_out(path)


def test_only_the_machine_s_own_ids_are_emptied() -> None:
    assert is_emptied("etc/machine-id")
    assert is_emptied("var/lib/dbus/machine-id")
    assert not is_emptied("app/etc/machine-id")


MATCHES = {
    "a path": ("/etc/x", "etc/x", True),
    "what is below it": ("/etc/x", "etc/x/y/z", True),
    "a longer name": ("/etc/x", "etc/xy", False),
    "the folder above": ("/etc/x", "etc", False),
    "the same name elsewhere": ("/x", "etc/x", False),
    "a slash at the end": ("/etc/x/", "etc/x/y", True),
    "a star": ("/etc/*_key", "etc/rsa_key", True),
    "a star stops at a slash": ("/etc/*_key", "etc/ssh/rsa_key", False),
    "below what a star names": ("/home/*", "home/joe/x/y", True),
    "two stars": ("/etc/**_key", "etc/ssh/rsa_key", True),
    "two stars at any depth": ("/**/__pycache__", "a/b/__pycache__/c.pyc", True),
    "a question mark": ("/etc/?", "etc/x", True),
    "a question mark is not a slash": ("/etc?x", "etc/x", False),
    "a dot is a dot": ("/etc/a.b", "etc/aXb", False),
    "a name with a newline": ("/etc/*", "etc/a\nb", True),
    "undecodable bytes": ("/etc/*", "etc/\udcff", True),
}


@pytest.mark.parametrize(("pattern", "path", "expected"), MATCHES.values(), ids=MATCHES)
def test_patterns_of_a_step(pattern: str, path: str, expected: bool) -> None:
    assert matcher([pattern])(path) is expected
    assert matcher(["/other", pattern, "/another"])(path) is expected


def test_a_step_without_patterns_leaves_nothing_out() -> None:
    assert not matcher([])("")
    assert not matcher([])("etc/x")


def test_users_can_read_about_every_rule_and_variable() -> None:
    page = (Path(normalisation.__file__).parents[2] / "docs/layers.md").read_text("utf-8")
    for rule in (*LEFT_OUT, *EMPTIED, *REWRITTEN):
        assert f"| `/{rule.pattern}` | {rule.reason} |" in page
    for name, value in STEP_ENVIRONMENT.items():
        assert f"| `{name}` | `{value}` |" in page
    assert f"describes version {NORMALISATION}." in page


def test_users_can_read_about_every_variable_that_names_certificates() -> None:
    page = (Path(normalisation.__file__).parents[2] / "docs/layers.md").read_text("utf-8")
    rows = page.partition("### Certificates")[2].partition("\n\nIn a shell step")[0].splitlines()
    assert rows[-len(VARIABLES) :] == [f"| `{name}` | {reader} |" for name, reader in VARIABLES.items()]


def test_steps_are_told_the_time_that_files_get() -> None:
    assert STEP_ENVIRONMENT["SOURCE_DATE_EPOCH"] == str(MTIME)
