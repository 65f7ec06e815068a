"""The reference's seven complete examples, as they are written there, are images."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from klock.errors import ImageError
from klock.image.requirement_files import read_requirements
from klock.image.steps import CopyFiles, PipInstall, SyncPackage
from klock.project import LoadedImage, load_image

EXAMPLES = Path(__file__).parents[1] / "fixtures" / "examples"

CONTENTS = {
    "basic": """\
FROM python:3.12-slim
RUN $KT_PIP_INSTALL_CMD 'numpy>=1.24'
RUN $KT_PIP_INSTALL_CMD 'pandas>=2.0'
RUN $KT_PIP_INSTALL_CMD scikit-learn
RUN $KT_PIP_INSTALL_CMD matplotlib
""",
    "pytorch-training": """\
FROM nvcr.io/nvidia/pytorch:24.08-py3
ENV CUDA_VISIBLE_DEVICES 0,1,2,3
ENV NCCL_DEBUG INFO
RUN $KT_PIP_INSTALL_CMD transformers
RUN $KT_PIP_INSTALL_CMD datasets
RUN $KT_PIP_INSTALL_CMD accelerate
RUN $KT_PIP_INSTALL_CMD wandb
COPY ./training_scripts /workspace/scripts
""",
    "private-registry": """\
FROM ghcr.io/run-house/server:v3
ENV UV_EXTRA_INDEX_URL https://***@my-registry.com/simple
ENV UV_PRERELEASE allow
ENV UV_INDEX_STRATEGY unsafe-best-match
RUN pip install uv
RUN uv pip install --system 'my-private-package==1.2.3'
""",
    "local-code": """\
FROM ghcr.io/run-house/server:v3
RUN $KT_PIP_INSTALL_CMD torch
RUN $KT_PIP_INSTALL_CMD numpy
COPY ./my_project /app/my_project
ENV PYTHONPATH /app
""",
    "editable-install": """\
FROM ghcr.io/run-house/server:v3
ENV UV_EXTRA_INDEX_URL https://my-pypi.com/simple
RUN pip install uv
COPY ~/gitrepos/my_lib /my_lib
RUN uv pip install --system -e "/my_lib[dev]"
""",
    "multi-stage": """\
FROM ghcr.io/run-house/ubuntu:v1
RUN apt-get update && apt-get install -y build-essential cmake
RUN pip install --upgrade pip uv
RUN $KT_PIP_INSTALL_CMD 'torch>=2.0'
RUN $KT_PIP_INSTALL_CMD torchvision
RUN $KT_PIP_INSTALL_CMD torchaudio
RUN $KT_PIP_INSTALL_CMD fastapi
RUN $KT_PIP_INSTALL_CMD uvicorn
RUN $KT_PIP_INSTALL_CMD 'pydantic>=2.0'
COPY ./app /app
COPY ./models /models
ENV MODEL_PATH /models
ENV PYTHONPATH /app
""",
    "chaining": """\
FROM ghcr.io/run-house/server:v3
ENV UV_EXTRA_INDEX_URL https://my-pypi.com/simple
ENV UV_PRERELEASE allow
RUN pip install uv
RUN uv pip install --system torch numpy
RUN $KT_PIP_INSTALL_CMD pandas
RUN $KT_PIP_INSTALL_CMD scikit-learn
COPY ./src /app/src
COPY ./config /app/config
COPY my_local_lib my_local_lib
""",
}


@pytest.fixture(autouse=True)
def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the examples expect: credentials, a home with a repository, an editable install."""
    monkeypatch.setenv("REGISTRY_USER", "bob")
    monkeypatch.setenv("REGISTRY_PASS", "hunter2")
    monkeypatch.setenv("HOME", str(EXAMPLES / "editable-install/home"))
    record = tmp_path / "my_local_lib-0.1.0.dist-info"
    record.mkdir()
    (record / "METADATA").write_text("Metadata-Version: 2.1\nName: my_local_lib\nVersion: 0.1.0\n")
    url = (EXAMPLES / "chaining/my_local_lib").as_uri()
    (record / "direct_url.json").write_text(json.dumps({"url": url, "dir_info": {"editable": True}}))
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])


def load(example: str) -> LoadedImage:
    return load_image(str(EXAMPLES / example / "kimage.py"))


def test_all_seven_are_here() -> None:
    assert sorted(path.name for path in EXAMPLES.iterdir()) == sorted(CONTENTS)
    assert len(CONTENTS) == 7


@pytest.mark.parametrize("example", CONTENTS)
def test_an_example_is_an_image(example: str) -> None:
    assert load(example).image.contents == CONTENTS[example]


@pytest.mark.parametrize("example", CONTENTS)
def test_its_requirements_can_be_read_and_its_sources_are_there(example: str) -> None:
    loaded = load(example)
    for step in loaded.image.steps:
        assert step.location is not None and Path(step.location.file) == loaded.file
        match step:
            case PipInstall():
                assert len(read_requirements(step, loaded.root, {}).requirements) == len(step.requirements)
            case CopyFiles():
                assert (Path(step.root) / Path(step.source).expanduser()).is_dir()
            case SyncPackage():
                assert Path(step.path) == EXAMPLES / "chaining/my_local_lib"


def test_the_chaining_pattern_raises_without_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", sys.path[1:])
    with pytest.raises(ImageError, match=r"kimage\.py:14: Could not locate local package my_local_lib"):
        load("chaining")


def test_the_private_registry_says_which_variable_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REGISTRY_PASS")
    with pytest.raises(ImageError) as caught:
        load("private-registry")
    assert caught.value.message.endswith(
        "kimage.py:6: KeyError: 'REGISTRY_PASS'\n    password = os.environ[\"REGISTRY_PASS\"]"
    )
    assert caught.value.hint == "set the environment variable REGISTRY_PASS"
