"""Optional dependencies: who lacks one is told the extra that has it, by a name that can be installed."""

from __future__ import annotations

import io
import re
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest
from packaging.requirements import Requirement

from klock.errors import KlockError
from klock.extras import Extra, missing_extra_hint
from klock.gpu import driver
from klock.gpu.cdi import read_specifications
from klock.layers import compression
from klock.layers.compression import Compressed, compression_named
from klock.layers.unpack import unpack
from klock.places.containers.connection import docker_package
from klock.repositories.fetching import Repositories

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]


def test_the_extras_that_hints_can_name_are_those_of_the_project() -> None:
    assert sorted(get_args(Extra)) == sorted(EXTRAS)


def test_the_hint_installs_from_a_clone_as_a_tool_or_into_an_environment() -> None:
    assert missing_extra_hint("gpu") == (
        "install klock's extra 'gpu' beside those you use, in your clone of klock: "
        "uv tool install '.[gpu]', or in a virtual environment: uv pip install '.[gpu]'"
    )


def test_no_message_tells_people_to_install_the_other_project_of_that_name() -> None:
    wrong = re.compile(r"pip install (-\S+ )*['\"]?klock\b(?!-env)")
    found = {path.name for path in (ROOT / "klock").rglob("*.py") if wrong.search(path.read_text("utf-8"))}
    assert found == set()


def read_yaml(folder: Path, _: pytest.MonkeyPatch) -> None:
    (folder / "vendor.yaml").write_text("cdiVersion: 0.5.0\n", "utf-8")
    read_specifications([folder]).refuse_broken()


def ask_the_driver(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "_DEVICE", folder)  # a machine with the driver's device
    driver.find_driver()


def fetch_from_git(_folder: Path, _: pytest.MonkeyPatch) -> None:
    Repositories("https://h/x.git", authorize=lambda _: {})


def unpack_zstd(_folder: Path, _: pytest.MonkeyPatch) -> None:
    unpack(
        io.BytesIO(b"\x28\xb5\x2f\xfd"),
        media_type="application/vnd.oci.image.layer.v1.tar+zstd",
        diff_id="",
        source="layer",
    )


def use_podman(_folder: Path, _: pytest.MonkeyPatch) -> None:
    docker_package("podman")


def compress_gzip(_folder: Path, _: pytest.MonkeyPatch) -> None:
    compression._compressor.cache_clear()
    list(Compressed(io.BytesIO(b"x"), compression_named("gzip")))


# What is missing: its module, its name on an index, the extra that has it, and what needs it.
MISSING: dict[str, tuple[str, str, Extra, Callable[[Path, pytest.MonkeyPatch], None]]] = {
    "the client of podman and docker": ("docker", "docker", "containers", use_podman),
    "the library that asks NVIDIA's driver": ("pynvml", "nvidia-ml-py", "gpu", ask_the_driver),
    "the reader of YAML": ("yaml", "pyyaml", "gpu", read_yaml),
    "the compressor of gzip": ("deflate", "deflate", "push", compress_gzip),
    "git repositories": ("dulwich", "dulwich", "git", fetch_from_git),
    "the decompressor of zstd": ("zstandard", "zstandard", "zstd", unpack_zstd),
}


@pytest.mark.parametrize("case", MISSING)
def test_whoever_lacks_a_package_is_told_the_extra_that_has_it(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, distribution, extra, need = MISSING[case]
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(KlockError) as caught:
        need(tmp_path, monkeypatch)
    assert caught.value.hint == missing_extra_hint(extra)
    assert distribution in [Requirement(line).name for line in EXTRAS[extra]]
