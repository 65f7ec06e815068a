"""What klock's plugin says to Ray, and what it compares, without a Ray."""

from __future__ import annotations

import asyncio
import json
import logging
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from klock.errors import KlockError
from klock.lockfile.model import Distribution, Interpreter, TargetLock
from klock.lockfile.reading import from_text
from klock.ray.barrier import NodeState, differences, wrong_workers
from klock.ray.node import Failed, answer
from klock.ray.pinned import Versions, image_of, refuse_other_versions
from klock.ray.plugin import Plugin, lockfile_of_node
from klock.ray.worker import Worker, folders_of, variables_of

LOG = logging.getLogger("test")
ROOT = Path(__file__).parent.parent


# -- what a runtime_env may say


@pytest.mark.parametrize("value", ["kimage.lock", "sub/kimage.gpu.lock", "/srv/kimage.lock", "none"])
def test_a_lockfile_is_asked_for_by_its_path(value: str) -> None:
    Plugin.validate({"klock": value, "env_vars": {"A": "b"}})


@pytest.mark.parametrize("value", ["", "kimage.py", ".", 1, {"lockfile": "kimage.lock"}, ["kimage.lock"]])
def test_what_is_no_lockfile_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="write the path of a lockfile"):
        Plugin.validate({"klock": value})


def test_packages_have_one_source() -> None:
    with pytest.raises(ValueError, match='"klock" and "pip", which both say where packages come from'):
        Plugin.validate({"klock": "kimage.lock", "pip": ["numpy"]})


def test_each_content_has_a_uri_of_its_own(tmp_path: Path) -> None:
    lockfile = tmp_path / "a b.lock"
    uris = []
    for text in ("one", "two", "one"):
        lockfile.write_text(text)
        uris += Plugin().get_uris({"klock": str(lockfile)})
    assert uris[0] != uris[1] and uris[0] == uris[2]
    assert uris[0].startswith("klock://sha256:") and uris[0].endswith("/a%20b.lock")
    sent = [Plugin().get_uris({"klock": "kimage.lock", "working_dir": f"gcs://{name}.zip"}) for name in "ab"]
    assert sent == [["klock://gcs%3A%2F%2Fa.zip/kimage.lock"], ["klock://gcs%3A%2F%2Fb.zip/kimage.lock"]]
    assert Plugin().get_uris({"klock": "/nowhere/kimage.lock"}) == ["klock://missing/nowhere/kimage.lock"]
    assert Plugin().get_uris({"klock": "none"}) == Plugin().get_uris({}) == []


def test_a_relative_path_is_one_of_the_folder_that_goes_along() -> None:
    assert lockfile_of_node("/srv/kimage.lock", None) == Path("/srv/kimage.lock")
    assert lockfile_of_node("sub/kimage.lock", "/ray/dir") == Path("/ray/dir/sub/kimage.lock")
    with pytest.raises(KlockError, match="the job has no working_dir") as error:
        lockfile_of_node("kimage.lock", None)
    assert error.value.hint is not None and '"working_dir": "."' in error.value.hint
    with pytest.raises(KlockError, match="outside of the working_dir"):
        lockfile_of_node("../kimage.lock", "/ray/dir")


# -- how a worker starts


def context(**variables: str) -> Any:
    return SimpleNamespace(env_vars=variables, py_executable="python", override_worker_entrypoint=None)


def test_a_worker_starts_in_the_environment_and_no_value_is_on_its_command_line() -> None:
    plugin, given = Plugin(), context(TOKEN="secret", PYTHONPATH="/ray/dir")
    plugin._made["klock://x"] = {
        "lockfile": "/store/ray/it's/kimage.lock",
        "image": None,
        "program": "/usr/bin/python3",
        "worker": "/lib/ray/default_worker.py",
        "fingerprint": "sha256:f",
    }
    plugin.modify_context(["klock://x"], {"klock": "kimage.lock"}, given, LOG)
    *words, how = shlex.split(given.py_executable)
    assert words == [sys.executable, "-E", "-P", "-m", "klock.ray.worker"]
    assert json.loads(how) == {
        "lockfile": "/store/ray/it's/kimage.lock",
        "image": None,
        "program": "/usr/bin/python3",
        "fingerprint": "sha256:f",
        "variables": ["PYTHONPATH", "TOKEN"],
    }
    assert given.override_worker_entrypoint == "/lib/ray/default_worker.py"
    assert "secret" not in given.py_executable


def test_an_environment_that_another_job_names_too_stays() -> None:
    plugin = Plugin()
    plugin._made = {uri: {"lockfile": "/store/ray/a/kimage.lock", "bytes": 5} for uri in ("klock://a", "klock://b")}
    assert plugin.delete_uri("klock://a", LOG) == 0
    assert list(plugin._made) == ["klock://b"]
    assert plugin.delete_uri("klock://unknown", LOG) == 0


def test_what_cannot_be_removed_is_told_in_rays_log(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    plugin = Plugin()
    plugin._made["klock://a"] = {"lockfile": f"{tmp_path}/gone.lock", "bytes": 5}
    with caplog.at_level(logging.WARNING, logger="test"):
        assert plugin.delete_uri("klock://a", LOG) == 0
    assert f"klock: the environment of {tmp_path}/gone.lock stays: " in caplog.text
    assert plugin._made == {}


def test_outside_of_the_environment_nothing_is_changed() -> None:
    plugin, given = Plugin(), context()
    assert asyncio.run(plugin.create(None, {"klock": "none"}, given, LOG)) == 0
    plugin.modify_context([], {"klock": "none"}, given, LOG)
    assert vars(given) == vars(context())


def test_a_worker_sees_the_folders_of_its_raylet(tmp_path: Path) -> None:
    for name in ("t/sockets", "other"):
        (tmp_path / name).mkdir(parents=True)
    arguments = ["default_worker.py", f"--temp-dir={tmp_path}/t", f"--raylet-name={tmp_path}/t/sockets/raylet"]
    arguments += [f"--object-store-name={tmp_path}/other/plasma", "--raylet-name=/raylet", "--temp-dir=/nowhere/at/all"]
    assert folders_of(arguments) == [tmp_path / "t", tmp_path / "other"]


def test_a_worker_has_rays_variables_and_those_asked_for() -> None:
    worker = Worker(lockfile="x", image=None, program="python3", fingerprint="sha256:f", variables=("TOKEN", "UNSET"))
    environ = {"RAY_JOB_ID": "1", "TOKEN": "secret", "HOME": "/root", "CUDA_VISIBLE_DEVICES": "0", "PATH": "/bin"}
    assert variables_of(worker, environ) == {
        "RAY_JOB_ID": "1",
        "CUDA_VISIBLE_DEVICES": "0",
        "TOKEN": "secret",
        "KLOCK_ENVIRONMENT": "sha256:f",
    }


# -- what a node compares

VERSIONS = Versions(python="3.11.2", ray="2.60.0")


def locked(python: str | None, ray: str | None, *, of_base: tuple[str, ...] = ()) -> TargetLock:
    """This repository's own lockfile, with another Python, and a Ray in the place of a package."""
    (target,) = from_text((ROOT / "kimage.lock").read_text()).targets
    packages = (*target.packages, replace(target.packages[0], name="ray", version=ray)) if ray else target.packages
    interpreter = None
    if python is not None:
        there = tuple(Distribution(name=name, version="1") for name in of_base)
        interpreter = Interpreter(
            path="/usr/bin/python3", version=python, implementation="cpython", libc="", sha256="", distributions=there
        )
    return replace(target, interpreter=interpreter, packages=packages)


def test_equal_versions_are_accepted() -> None:
    refuse_other_versions(locked("3.11.2", "2.60.0"), VERSIONS, name="kimage.lock")
    refuse_other_versions(locked("3.11.2", None, of_base=("ray",)), VERSIONS, name="kimage.lock")
    refuse_other_versions(locked(None, None), VERSIONS, name="kimage.lock")


OTHERS = {
    "kimage.lock has Python 3.11.9, and Ray runs on Python 3.11.2 on this node": locked("3.11.9", "2.60.0"),
    "kimage.lock has ray 2.59.0, and this node runs ray 2.60.0": locked("3.11.2", "2.59.0"),
    "kimage.lock has no package ray": locked("3.11.2", None),
}


@pytest.mark.parametrize("message", OTHERS)
def test_other_versions_are_refused(message: str) -> None:
    with pytest.raises(KlockError) as error:
        refuse_other_versions(OTHERS[message], VERSIONS, name="kimage.lock")
    assert error.value.message == message
    assert error.value.hint


@pytest.mark.parametrize(
    ("file", "lockfile", "image"),
    [
        ("kimage.py", "kimage.lock", "kimage.py:image"),
        ("kimage.py", "kimage.gpu.lock", "kimage.py:gpu"),
        ("train.py", "train.lock", "train.py:image"),
        ("Dockerfile", "kimage.lock", "Dockerfile:image"),
        ("gpu.Dockerfile", "gpu.Dockerfile.lock", "gpu.Dockerfile:image"),
        ("other.py", "kimage.lock", None),
    ],
)
def test_the_image_of_a_lockfile_is_beside_it(tmp_path: Path, file: str, lockfile: str, image: str | None) -> None:
    (tmp_path / file).touch()
    assert image_of(tmp_path / lockfile) == (None if image is None else f"{tmp_path}/{image}")


def test_what_klock_says_on_a_node_is_told() -> None:
    assert answer(0, b'said\n{"bytes": 1}\n', b"") == {"bytes": 1}
    with pytest.raises(Failed, match=r"^it is so\n\nhint: do this$"):
        answer(2, b"", b"error: it is so\n\nhint: do this\n")
    with pytest.raises(Failed, match="ended with status -9"):
        answer(-9, b"", b"")


# -- the barrier


def test_nodes_that_agree_have_no_differences() -> None:
    states = [NodeState(node=name, digest="sha256:a", fingerprint="sha256:f") for name in ("one", "two")]
    assert differences(states, expected=None) == differences(states, expected="sha256:a") == ""
    assert wrong_workers([NodeState(node="one", inside="sha256:f")], "sha256:f") == ""


def test_each_difference_is_told_with_its_node() -> None:
    states = [
        NodeState(node="one", digest="sha256:a"),
        NodeState(node="two", digest="sha256:b"),
        NodeState(node="three", digest="sha256:a", findings=("/etc/x differs: content", "/etc/y is missing")),
        NodeState(node="four", problem="no such file"),
    ]
    assert differences(states, expected=None).splitlines() == [
        "  node two: its lockfile is sha256:b, not sha256:a",
        "  node three: /etc/x differs: content",
        "  node three: /etc/y is missing",
        "  node four: no such file",
    ]
    told = differences(states[:2], expected="sha256:b")
    assert told == "  node one: its lockfile is sha256:a, not sha256:b"


def test_a_worker_that_is_not_in_the_environment_is_told() -> None:
    workers = [
        NodeState(node="one", inside="sha256:f"),
        NodeState(node="two"),
        NodeState(node="three", inside="sha256:g"),
        NodeState(node="four", problem="did not answer: time is over"),
    ]
    assert wrong_workers(workers, "sha256:f").splitlines() == [
        "  node two: its workers run in no environment: start Ray there with RAY_RUNTIME_ENV_PLUGINS",
        "  node three: a worker is in sha256:g, not sha256:f",
        "  node four: a worker did not answer: time is over",
    ]


def test_of_many_differences_some_are_told() -> None:
    state = NodeState(node="one", digest="sha256:a", findings=tuple(f"/{number}" for number in range(25)))
    lines = differences([state], expected=None).splitlines()
    assert len(lines) == 21 and lines[-1] == "  node one: and 5 differences more"


def test_without_ray_nothing_imports_it() -> None:
    modules = "klock, klock.ray, klock.ray.barrier, klock.ray.plugin, klock.ray.worker"
    script = f"import sys, {modules}; print('ray' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
