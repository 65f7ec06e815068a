"""The rules about what is never locked: what they hit, what they must not hit, and that users can read about each."""

from __future__ import annotations

from pathlib import Path

import pytest

from klock.layers import normalisation
from klock.layers.normalisation import EMPTIED, LEFT_OUT, MTIME, STEP_ENVIRONMENT, is_emptied, is_left_out


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
    ],
)
def test_kept(path: str) -> None:
    assert not is_left_out(path)


def test_only_the_machine_s_own_ids_are_emptied() -> None:
    assert is_emptied("etc/machine-id")
    assert is_emptied("var/lib/dbus/machine-id")
    assert not is_emptied("app/etc/machine-id")


def test_users_can_read_about_every_rule_and_variable() -> None:
    page = (Path(normalisation.__file__).parents[2] / "docs/layers.md").read_text("utf-8")
    for rule in (*LEFT_OUT, *EMPTIED):
        assert f"| `/{rule.pattern}` | {rule.reason} |" in page
    for name, value in STEP_ENVIRONMENT.items():
        assert f"| `{name}` | `{value}` |" in page
    assert f"Version {normalisation.NORMALISATION}" in page


def test_steps_are_told_the_time_that_files_get() -> None:
    assert STEP_ENVIRONMENT["SOURCE_DATE_EPOCH"] == str(MTIME)
