"""An exported Dockerfile is locked again: the same files, and containers that start alike."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import klock
from klock.layers.manifest import Manifest
from klock.lockfile.model import ShellLock, TargetLock
from klock.places.containers.image import image_config
from klock.places.layered import image_config as config_of
from tests.integration.small_base import write_small_base

pytestmark = pytest.mark.integration

DOCKERFILE = r"""
FROM oci:./layout:image
COPY --chmod=u+x,go-r files /d
COPY --chmod=600 <<A <<B /e/
$HOME
A
B
USER app
RUN --mount=type=bind,source=files,target=/m cat "/m/s p.sh" > "/srv/a b/o"
USER root
RUN --network=none cp "/srv/a b/o" /o
HEALTHCHECK --interval=5s CMD ["a", "b c"]
VOLUME ["/v 1"]
CMD echo "it's"
"""
IMAGES = {
    "all that a Dockerfile has too": r"""
image.set_env_vars({"A": "x $HOME 'q' \"d\" \\ é", "EMPTY": "", "D": r"\$UNDEFINED"}).arg("ONLY", "it's ${A}")
image.workdir("/srv/a b").user("app:more").label({"a.b": "$A", "x y": '"'}).shell(["/bin/sh", "-ec"])
image.run_bash("pwd > ~/where; id > ~/who; echo \"$A\" '$A' $ONLY > ~/words; umask > ~/mask", private_urls="https://h/t*")
image.run_bash("cat > many <<'EOF'\n  a 'b' $C \\\n\n# not a comment\nEOF\n")
image.user("root").workdir("deeper")
image.copy("files", owner="app:more", mode="u=rwX,go=rX").copy("files/s p.sh", "/opt/one", mode="4755")
image.rsync("files/", "/r")
image.copy("/etc/passwd", "/from/", from_image="oci:./layout:image", owner="app", mode="600")
image.run_bash("head -c 8 /dev/urandom > '/opt/no it'; ln -s one /opt/two; rm -r /h", leave_out="/opt/no *")
image.run_bash("head -c 8 /dev/urandom > /kept; rm /etc/group", keep_layer=True)
image.entrypoint(["/bin/echo", "a b", "$A"])
""",
    "a Dockerfile": r"""
image = kt.Image.from_dockerfile('Dockerfile').run_bash('cat /o', leave_out='/x', force=True).cmd(['echo', '', 'a b'])
""",
}


def locked(image: Path, store: Path) -> tuple[klock.Project, TargetLock]:
    klock.lock(image, store=store, environ={})
    project = klock.Project(image, store=store, environ={})
    (target,) = project.read_lockfile().targets
    return project, target


def files(project: klock.Project, target: TargetLock) -> dict[str, str]:
    workshop = project.session.workshop
    layers = [workshop.layer_manifest(step.layer.digest) for step in target.steps if hasattr(step, "layer")]
    shown = functools.reduce(Manifest.apply, filter(None, layers), workshop.base_manifest(target.base.id))
    return {path: str(entry) for path, entry in dict(shown).items()}


def start(target: TargetLock) -> dict[str, Any]:
    config: dict[str, Any] = json.loads(image_config(config_of(target), {}, []))["config"]
    labels = {name: value for name, value in config["Labels"].items() if not name.startswith("org.klock.")}
    return {**config, "Env": sorted(config["Env"]), "Labels": labels}


@pytest.mark.parametrize("case", IMAGES)
def test_there_and_back(case: str, tmp_path: Path) -> None:
    members = [("h/x", "x"), ("0700:0:root/", None), ("0755:1000:home/app/", None), ("0777:0:srv/a b/", None)]
    write_small_base(tmp_path / "layout", [*members, ("1777:0:tmp/", None)])
    (tmp_path / "files/folder").mkdir(parents=True)
    (tmp_path / "files/folder/.hidden").write_text("h")
    (tmp_path / "files/s p.sh").write_text("#!/bin/sh\n")
    (tmp_path / "files/s p.sh").chmod(0o750)
    (tmp_path / "Dockerfile").write_text(DOCKERFILE)
    (tmp_path / "kimage.py").write_text(
        f"import klock as kt\nimage = kt.Image().from_docker('oci:./layout:image')\n{IMAGES[case]}"
    )
    project, before = locked(tmp_path / "kimage.py", tmp_path / "store")
    subprocess.run(
        [sys.executable, "-m", "klock", "export", "dockerfile", "--output=build"],
        cwd=tmp_path,
        env={**os.environ, "KLOCK_CACHE_DIR": str(tmp_path / "store")},
        check=True,
    )
    again, after = locked(tmp_path / "build/Dockerfile", tmp_path / "store")
    assert files(again, after) == files(project, before)
    assert start(after) == start(before)
    assert after.environment == before.environment
    found = [step for step in after.steps if isinstance(step, ShellLock)]
    for step in before.steps:
        if isinstance(step, ShellLock) and not step.keep_layer:
            same = (step.leave_out, step.private_urls, step.force)
            assert same in [(each.leave_out, each.private_urls, each.force) for each in found], step.command
