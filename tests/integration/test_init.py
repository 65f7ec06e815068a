"""`klock init` in a folder that has something already, and the lock of what it writes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.index_server import IndexServer, make_wheel
from tests.integration.registry_server import Registry
from tests.integration.unprivileged import Account

pytestmark = pytest.mark.integration


def test_what_it_writes_can_be_locked(root: Account, debian_registry: Registry, tmp_path: Path) -> None:
    project = root.make_folder("begun")
    (project / "requirements.txt").write_text("lib[fast]==1.0\n")
    make_wheel(tmp_path, "lib", "1.0", extras={"fast": ["speed"]})
    make_wheel(tmp_path, "lib", "2.0")
    make_wheel(tmp_path, "speed", "1.0")
    root.give(project)
    done = root.klock("init", cwd=project)
    assert (done.returncode, done.stderr) == (0, "wrote kimage.py from requirements.txt; next: klock lock\n")
    again = root.klock("init", cwd=project)
    assert (again.returncode, again.stderr.splitlines()[0]) == (2, "error: kimage.py exists already")

    # The registry here has Debian alone.
    image = project / "kimage.py"
    base = 'kt.images.python("3.12")'
    assert base in image.read_text()
    image.write_text(image.read_text().replace(base, 'kt.Image().from_docker("debian:bookworm")'))
    mirrors = f'registry-mirrors = {{ "docker.io" = "{debian_registry.url}" }}\n'
    with IndexServer(tmp_path) as index:
        (project / "pyproject.toml").write_text(f'[tool.klock]\nindex-url = "{index.url}"\n{mirrors}')
        done = root.klock("lock", cwd=project)
    assert done.returncode == 0, done.stderr
    lock = (project / "kimage.lock").read_text()
    assert '"lib==1.0",' in lock and '"speed==1.0",' in lock
