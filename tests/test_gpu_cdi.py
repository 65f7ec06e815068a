"""CDI specifications: what is read from them, which one counts, and how a broken one is named."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from klock.errors import EngineError, KlockError
from klock.gpu.cdi import is_qualified, read_specifications
from klock.gpu.edits import ContainerEdits, DeviceMount, DeviceNode, Hook
from klock.gpu.host import edits_of_host
from klock.gpu.request import devices_for, named_devices

NVIDIA = """\
cdiVersion: 0.5.0
kind: nvidia.com/gpu
devices:
- name: "0"
  containerEdits:
    deviceNodes:
    - path: /dev/nvidia0
- name: "1"
  containerEdits:
    deviceNodes:
    - path: /dev/nvidia1
      hostPath: /dev/other
- name: all
  containerEdits:
    deviceNodes:
    - path: /dev/nvidia0
    - path: /dev/nvidia1
containerEdits:
  env:
  - NVIDIA_VISIBLE_DEVICES=void
  deviceNodes:
  - path: /dev/nvidiactl
  mounts:
  - hostPath: /usr/lib/libcuda.so.550
    containerPath: /usr/lib/libcuda.so.550
    options: [ro, nosuid, nodev, bind]
  hooks:
  - hookName: createContainer
    path: /usr/bin/nvidia-ctk
    args: [nvidia-ctk, hook, update-ldcache]
"""


def write(folder: Path, name: str, content: Mapping[str, Any] | str) -> Path:
    folder.mkdir(exist_ok=True)
    file = folder / name
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    return file


def specification(**fields: Any) -> dict[str, Any]:
    device = {"name": "one", "containerEdits": {"env": ["ONE=1"]}}
    return {"cdiVersion": "0.6.0", "kind": "vendor.com/class", "devices": [device], **fields}


def test_what_nvidias_tool_writes_is_read(tmp_path: Path) -> None:
    write(tmp_path, "nvidia.yaml", NVIDIA)
    devices = devices_for("2", folders=[tmp_path])
    assert devices is not None and devices.names == ("nvidia.com/gpu=0", "nvidia.com/gpu=1")
    assert devices.edits == ContainerEdits(
        environment={"NVIDIA_VISIBLE_DEVICES": "void"},
        device_nodes=(
            DeviceNode(path="/dev/nvidiactl"),
            DeviceNode(path="/dev/nvidia0"),
            DeviceNode(path="/dev/nvidia1", host_path="/dev/other"),
        ),
        mounts=(
            DeviceMount(
                host_path="/usr/lib/libcuda.so.550",
                container_path="/usr/lib/libcuda.so.550",
                options=("ro", "nosuid", "nodev", "bind"),
            ),
        ),
        hooks=(
            Hook(
                name="createContainer",
                path="/usr/bin/nvidia-ctk",
                arguments=("nvidia-ctk", "hook", "update-ldcache"),
            ),
        ),
    )
    everything = devices_for("all", folders=[tmp_path])
    assert everything is not None and everything.names == ("nvidia.com/gpu=all",)
    with pytest.raises(KlockError, match="names only 2"):
        devices_for("3", folders=[tmp_path])
    assert devices_for("none") is None and devices_for("0") is None


def test_the_later_folder_counts_and_one_folder_must_agree(tmp_path: Path) -> None:
    first, second = tmp_path / "etc", tmp_path / "run"
    write(first, "a.json", specification())
    write(second, "a.json", specification(devices=[{"name": "one", "containerEdits": {"env": ["ONE=2"]}}]))
    name = "vendor.com/class=one"
    assert read_specifications([first, second]).edits_of([name]).environment == {"ONE": "2"}
    write(second, "b.json", specification())
    with pytest.raises(EngineError, match=r"both .*a\.json and .*b\.json"):
        read_specifications([first, second]).edits_of([name])


def test_an_unknown_device_is_named_with_those_there_are(tmp_path: Path) -> None:
    write(tmp_path, "a.json", specification())
    with pytest.raises(EngineError, match=r"vendor\.com/class=two") as error:
        devices_for("vendor.com/class=two", folders=[tmp_path])
    assert "vendor.com/class=one" in (error.value.hint or "")
    with pytest.raises(KlockError, match="asks for no devices"):
        devices_for("some", folders=[tmp_path])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "is not JSON"),
        ([], "is not a mapping"),
        (specification(cdiVersion="0.1.0"), "cdiVersion is '0.1.0'"),
        (specification(cdiVersion=None), "cdiVersion is missing"),
        (specification(kind="class"), "kind is 'class'"),
        (specification(devices=[]), "devices has no device"),
        (specification(devices=["one"]), r"devices\[0\] is not a mapping"),
        (specification(devices=[{"name": "a b"}]), r"devices\[0\].name is 'a b'"),
        (specification(containerEdits={"env": ["=1"]}), "containerEdits.env has '=1'"),
        (specification(containerEdits={"env": "A=1"}), "containerEdits.env is not a list"),
        (specification(containerEdits={"env": ["A\0B=1"]}), "containerEdits.env holds a NUL character"),
        (specification(containerEdits={"additionalGids": [-5]}), "additionalGids is not a list of numbers from 0 to"),
        (specification(containerEdits={"additionalGids": [2**32 - 1]}), "additionalGids is not a list of numbers"),
        (specification(containerEdits={"deviceNodes": [{"path": "dev/x"}]}), r"deviceNodes\[0\].path is 'dev/x'"),
        (specification(containerEdits={"deviceNodes": [{"path": "/dev/x", "major": "1"}]}), r"major is '1', not a int"),
        (specification(containerEdits={"mounts": [{"hostPath": "/a"}]}), r"mounts\[0\].containerPath is missing"),
        (
            specification(containerEdits={"mounts": [{"hostPath": "/a", "containerPath": "/../b"}]}),
            r"containerPath is '/\.\./b'",
        ),
        (specification(containerEdits={"hooks": [{"hookName": "now", "path": "/x"}]}), r"hookName is 'now'"),
        (specification(containerEdits={"netDevices": []}), "netDevices is an edit that klock does not support"),
        (
            specification(containerEdits={"mounts": [{"hostPath": "/a", "containerPath": "/b", "type": "tmpfs"}]}),
            r"mounts\[0\].type is 'tmpfs'",
        ),
    ],
)
def test_a_broken_specification_is_named_with_its_field(tmp_path: Path, content: Any, words: str) -> None:
    file = write(tmp_path, "a.json", content)
    with pytest.raises(EngineError, match=words) as error:
        devices_for("all", folders=[tmp_path])
    assert str(file) in error.value.message


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.json", "{", "is not JSON"),
        ("a.json", "[" * 100_000, "is not JSON"),
        ("a.yaml", "x: [", "is not YAML"),
        ("a.yaml", "x: 2024-99-99", "is not YAML"),
        ("a.yaml", "[" * 1_500, "is not YAML"),
    ],
)
def test_a_broken_specification_stops_nobody_who_asks_for_others(
    tmp_path: Path, name: str, content: str, words: str
) -> None:
    (tmp_path / name).write_text(content)
    write(tmp_path, "b.json", specification())
    known = read_specifications([tmp_path])
    assert known.edits_of(["vendor.com/class=one"]).environment == {"ONE": "1"}
    with pytest.raises(EngineError, match=words):
        known.edits_of(["vendor.com/class=two"])


@pytest.mark.parametrize(
    ("names", "two", "everything"),
    [
        (["GPU-b", "GPU-a", "all"], ["GPU-a", "GPU-b"], ["all"]),
        (["1", "0", "GPU-a", "GPU-b"], ["0", "1"], ["0", "1", "GPU-a", "GPU-b"]),
        (["all"], None, ["all"]),
    ],
)
def test_gpus_are_counted_however_they_are_named(
    tmp_path: Path, names: list[str], two: list[str] | None, everything: list[str]
) -> None:
    devices = [{"name": name, "containerEdits": {"env": [f"A{number}=1"]}} for number, name in enumerate(names)]
    write(tmp_path, "a.json", specification(kind="nvidia.com/gpu", devices=devices))

    def asked(text: str) -> list[str]:
        found = devices_for(text, folders=[tmp_path])
        assert found is not None
        return [name.removeprefix("nvidia.com/gpu=") for name in found.names]

    assert asked("all") == everything
    if two is not None:
        assert asked("2") == two
    else:
        with pytest.raises(KlockError, match="names only 0"):
            asked("1")


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=8),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["cdiVersion", "kind", "devices", "name", "containerEdits", "env", "mounts"]), inner
            )
        ),
    )
)
def test_nothing_but_an_error_of_ours_comes_of_any_json(tmp_path_factory: pytest.TempPathFactory, value: Any) -> None:
    folder = tmp_path_factory.mktemp("cdi")
    for content in (value, specification(devices=value), specification(containerEdits=value)):
        write(folder, "a.json", json.dumps(content))
        with contextlib.suppress(EngineError):
            read_specifications([folder])


def test_a_machine_without_a_specification_is_looked_at(tmp_path: Path) -> None:
    dev = tmp_path / "dev"
    (dev / "nvidia-caps").mkdir(parents=True)
    for name in ("nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm", "null"):
        (dev / name).touch()
    library = tmp_path / "libcuda.so.550.54"
    library.touch()
    (tmp_path / "libcuda.so.1").symlink_to(library)
    cache = (
        f"3 libs found\n\tlibcuda.so.1 (libc6,x86-64) => {tmp_path}/libcuda.so.1\n\tlibc.so.6 (libc6,x86-64) => /x\n"
    )
    edits = edits_of_host(1, dev=dev, cache=cache)
    assert [node.path for node in edits.device_nodes] == ["/dev/nvidia0", "/dev/nvidiactl", "/dev/nvidia-uvm"]
    [mount] = [mount for mount in edits.mounts if "libc" in mount.container_path]
    assert (mount.host_path, mount.container_path) == (str(library), "/usr/local/nvidia/lib64/libcuda.so.1")
    assert edits.environment["LD_LIBRARY_PATH"] == "/usr/local/nvidia/lib64"
    with pytest.raises(EngineError, match="klock finds 2 on this machine"):
        edits_of_host(3, dev=dev, cache=cache)
    with pytest.raises(EngineError, match="klock finds 0 on this machine"):
        edits_of_host(None, dev=tmp_path, cache="")


@pytest.mark.parametrize(
    ("text", "whole"), [("a.com/gpu=0", True), ("a.com/gpu=", False), ("gpu=0", False), ("a/b=c d", False), ("", False)]
)
def test_qualified_names(text: str, whole: bool) -> None:
    assert is_qualified(text) is whole


def test_devices_are_named_by_path_folder_or_specification(tmp_path: Path) -> None:
    """Of a folder, such as /dev/infiniband, all devices below it."""
    (tmp_path / "rdma/by-path").mkdir(parents=True)
    for name in ("uverbs1", "uverbs0", "by-path/one"):
        (tmp_path / "rdma" / name).symlink_to("/dev/null")
    (tmp_path / "rdma/issm").touch()
    (tmp_path / "rdma/gone").symlink_to("nowhere")
    write(tmp_path, "a.json", json.dumps(specification(kind="vendor.com/nic")))
    texts = [f"{tmp_path}/rdma:/dev/infiniband/", "/dev/zero", "/dev/null:/dev/x/../nothing", "vendor.com/nic=one"]
    edits = named_devices(texts, folders=[tmp_path])
    assert [(node.path, node.host_path) for node in edits.device_nodes] == [
        ("/dev/infiniband/uverbs0", f"{tmp_path}/rdma/uverbs0"),
        ("/dev/infiniband/uverbs1", f"{tmp_path}/rdma/uverbs1"),
        ("/dev/infiniband/by-path/one", f"{tmp_path}/rdma/by-path/one"),
        ("/dev/zero", "/dev/zero"),
        ("/dev/nothing", "/dev/null"),
    ]
    assert edits.environment == {"ONE": "1"}


NO_DEVICES = {
    "word": "--device 'word' is not a device",
    "/etc/passwd": "--device '/etc/passwd' is not below /dev",
    "/dev": "--device '/dev' is not below /dev",
    "/dev/../etc/passwd": "--device '/dev/../etc/passwd' is not below /dev",
    "/dev/zero:/etc/zero": "--device '/dev/zero:/etc/zero': '/etc/zero' cannot hold a device",
    "/dev/zero:/dev/../etc/x": "'/dev/../etc/x' cannot hold a device",
    "/dev/zero:/dev/zero:rwm": "'/dev/zero:rwm' cannot hold a device",
    "/etc/passwd:/dev/passwd": "/etc/passwd is not a device and has none in it",
    "/dev/klock-none": "klock cannot look at /dev/klock-none: No such file or directory",
    "vendor.com/nic=one": "no CDI specification of this machine has the device vendor.com/nic=one",
}


@pytest.mark.parametrize("text", NO_DEVICES)
def test_what_is_no_device_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(KlockError) as error:
        named_devices([text], folders=[tmp_path])
    assert NO_DEVICES[text] in str(error.value)
    assert error.value.hint
