"""One lock for CPU and CUDA: PyTorch comes from an index for each accelerator, all others from the default one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from klock import lockfile
from tests.integration.index_server import IndexServer, make_wheel
from tests.integration.registry_server import Registry
from tests.integration.unprivileged import Account

pytestmark = pytest.mark.integration

IMAGE = """\
import klock as kt

image = kt.Image().from_docker("debian:bookworm").pip_install(["torch>=2", "greeting"])
"""


@pytest.fixture(scope="module")
def indexes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, IndexServer]]:
    with ExitStack() as stack:
        servers = {}
        for name in ("default", "cpu", "cu124"):
            folder = tmp_path_factory.mktemp(name)
            local = "" if name == "default" else f"+{name}"
            make_wheel(folder, "torch", f"2.6.0{local}", requires=["typing-words"])
            if name == "default":
                make_wheel(folder, "greeting", "1.0")
                make_wheel(folder, "typing-words", "3.0")
            servers[name] = stack.enter_context(IndexServer(folder))
        yield servers


def test_each_target_has_its_build(root: Account, debian_registry: Registry, indexes: dict[str, IndexServer]) -> None:
    folder = root.make_folder("project")
    (folder / "kimage.py").write_text(IMAGE)
    settings = (
        f'[tool.klock]\ntargets = ["linux/amd64/cpu", "linux/amd64/cuda12.4"]\nindex-url = "{indexes["default"].url}"\n'
        f'[tool.klock.registry-mirrors]\n"docker.io" = "{debian_registry.url}"\n'
    )
    builds = f'cpu = "{indexes["cpu"].url}"\n"cuda12.4" = "{indexes["cu124"].url}"\n'
    (folder / "pyproject.toml").write_text(f"{settings}[tool.klock.pytorch-indexes]\n{builds}")
    assert locked(root, folder) == {
        "cpu": {"greeting": "1.0", "torch": "2.6.0+cpu", "typing-words": "3.0"},
        "cuda12.4": {"greeting": "1.0", "torch": "2.6.0+cu124", "typing-words": "3.0"},
    }
    command = ("--target", "linux/amd64/cuda12.4", "--gpus", "none")
    done = root.klock("run", *command, "python3", "-c", "import torch; print(torch.__version__)", cwd=folder)
    assert done.stdout == "2.6.0+cu124\n", done.stderr

    (folder / "pyproject.toml").write_text(settings)
    (folder / "kimage.lock").unlink()
    assert {packages["torch"] for packages in locked(root, folder).values()} == {"2.6.0"}


def locked(account: Account, folder: Path) -> dict[str, dict[str, str]]:
    """The versions of packages for each accelerator."""
    done = account.klock("lock", cwd=folder)
    assert done.returncode == 0, done.stderr
    found = lockfile.read(folder / "kimage.lock")
    assert found is not None
    return {lock.target.accelerator: {p.name: p.version for p in lock.packages} for lock in found.targets}
