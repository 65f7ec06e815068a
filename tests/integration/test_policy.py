"""A policy at the command line: what breaks it is not locked, and what is locked is found."""

from __future__ import annotations

import pytest

from tests.integration.small_base import SMALL_BASE, write_small_base
from tests.integration.unprivileged import Account

pytestmark = pytest.mark.integration

IMAGE = f"""\
import klock as kt

image = kt.Image().from_docker("{SMALL_BASE}").run_bash("cat /proc/uptime > /now", keep_layer=True)
"""
BREACH = "policy-layer: step 1 (kimage.py:3): it keeps its layer: run_bash cat /proc/uptime > /now\n"


def test_a_breach_is_not_locked_and_is_found_where_it_is(unprivileged: Account) -> None:
    folder = unprivileged.make_folder("policy")
    write_small_base(folder / "layout")
    (folder / "kimage.py").write_text(IMAGE)
    settings = folder / "pyproject.toml"
    settings.write_text("[tool.klock.policy]\nno-keep-layer = true\n")
    unprivileged.give(folder)
    refused = unprivileged.klock("lock", cwd=folder)
    assert refused.returncode == 2
    assert f"error: the policy does not allow 1 thing:\n  {BREACH}" in refused.stderr
    assert not (folder / "kimage.lock").exists()

    settings.write_text("[tool.klock]\n")
    assert unprivileged.klock("lock", cwd=folder).returncode == 0
    settings.write_text("[tool.klock.policy]\nno-keep-layer = true\nsigned = true\n")
    found = unprivileged.klock("check", "--format", "text", cwd=folder)
    assert (found.returncode, found.stdout) == (1, BREACH + "policy-signature: the settings name no trusted-keys\n")
    assert unprivileged.klock("check", "--fail-on", "stale,drift", cwd=folder).returncode == 0
    again = unprivileged.klock("lock", cwd=folder)
    assert (again.returncode, BREACH in again.stderr) == (2, True), "also where nothing is to be locked"
