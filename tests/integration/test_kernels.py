"""A Jupyter kernel in the locked environment, which a real client starts, asks, interrupts and ends."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.integration, pytest.mark.soak]

IMAGE = 'import klock as kt\n\nimage = kt.images.from_debian("bookworm", ["python3"]).pip_install(["ipykernel"])\n'


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "notebooks"
    folder.mkdir()
    (folder / "kimage.py").write_text(IMAGE)
    return folder


def klock(folder: Path, *words: str, environment: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "klock", *words],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_a_client_talks_to_a_kernel_in_the_sandbox(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager_of = pytest.importorskip("jupyter_client").KernelManager
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "jupyter"))
    monkeypatch.setenv("KLOCK_CACHE_DIR", str(tmp_path / "store"))
    environment = dict(os.environ)
    klock(project, "lock", environment=environment)
    klock(project, "kernel", "install", "--name", "locked", environment=environment)
    manager = manager_of(kernel_name="locked")
    manager.start_kernel(cwd=str(project))
    client = manager.client()
    try:
        client.start_channels()
        client.wait_for_ready(timeout=300)
        heard: list[Any] = []

        def run(code: str) -> Any:
            return client.execute_interactive(
                code, output_hook=lambda each: heard.append(each["content"]), timeout=60, stop_on_error=False
            )["content"]

        assert run("import os, sys; print(sys.executable, os.getcwd(), os.path.exists('kimage.py'))")["status"] == "ok"
        assert {"name": "stdout", "text": "/usr/bin/python3 /work True\n"} in heard
        client.execute("import time; print('sleeps', flush=True); time.sleep(600)", stop_on_error=False)
        while client.get_iopub_msg(timeout=60)["content"].get("text") != "sleeps\n":
            pass
        manager.interrupt_kernel()
        assert run("6 * 7")["status"] == "ok"
        assert {"text/plain": "42"} in [each.get("data") for each in heard]
    finally:
        client.stop_channels()
        manager.shutdown_kernel()
    assert not manager.is_alive()
