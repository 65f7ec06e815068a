"""The canonical form of layers: only what changed, and one digest for one change, however it came about."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from klock.engines.protocol import Layer
from klock.engines.sandbox import SandboxEngine
from klock.engines.sandbox.namespace import in_namespace
from klock.engines.sandbox.overlay import Area
from klock.engines.sandbox.trees import Trees
from klock.errors import StoreError
from klock.layers.manifest import Kind
from klock.layers.normalisation import MTIME
from klock.layers.scan import manifest_of_tree
from tests.integration.sandbox_fixtures import BASE, debian_engine, python, shell
from tests.integration.unprivileged import Account

__all__ = ["debian_engine"]

pytestmark = pytest.mark.integration


def layer_of(engine: SandboxEngine, *scripts: str, over: tuple[str, ...] = ()) -> Layer:
    with engine.open(BASE, over) as workspace:
        for script in scripts:
            shell(workspace, script)
        return workspace.snapshot()


def lines(layer: Layer) -> list[str]:
    """Path, kind and what matters for the table below."""
    return [
        f"{entry.path} {entry.kind.value}" + (f" {entry.mode:o}" if entry.kind is not Kind.WHITEOUT else "")
        for entry in layer.manifest.values()
    ]


CHANGES = {
    "nothing": ("true", []),
    "a file opened for writing and not changed": ("printf '' >> /etc/passwd; touch /etc/group", []),
    "a file rewritten with what it held": ("cat /etc/passwd > /tmp/p; cat /tmp/p > /etc/passwd", []),
    "a file made and removed": ("echo x > /opt/x; rm /opt/x", []),
    "a file moved away and back": ("mv /etc/passwd /etc/p; mv /etc/p /etc/passwd", []),
    "a folder made and removed": ("mkdir -p /opt/a/b; rm -r /opt/a", []),
    "a mode changed and changed back": ("chmod 700 /opt; chmod 755 /opt", []),
    "a folder removed and made again as it was": (
        "cp -a /etc/apt /tmp/apt; rm -r /etc/apt; cp -a /tmp/apt /etc/apt",
        [],
    ),
    "files in temporary folders": ("touch /tmp/x /run/x /var/tmp/x /dev/shm/x", []),
    "logs and caches": (
        "echo x > /var/log/dpkg.log; mkdir -p /root/.cache/pip; touch /root/.cache/pip/x",
        ["root/.cache dir 755", "root/.cache/pip dir 755"],
    ),
    "a new file": ("umask 077; echo x > /opt/x", ["opt/x file 600"]),
    "a new folder with a file": ("mkdir /opt/d; echo x > /opt/d/x", ["opt/d dir 755", "opt/d/x file 644"]),
    "another mode of a folder": ("chmod 700 /opt", ["opt dir 700"]),
    "another mode of a file": ("chmod 600 /etc/passwd", ["etc/passwd file 600"]),
    "another owner": ("chown 33:33 /etc/passwd", ["etc/passwd file 644"]),
    "a file removed": ("rm /etc/passwd", ["etc/passwd whiteout"]),
    "a folder removed": ("rm -r /etc/apt", ["etc/apt whiteout"]),
    "a file in place of a folder": ("rm -r /etc/apt; echo x > /etc/apt", ["etc/apt file 644"]),
    "a symlink in place of a file": ("ln -sf /x /etc/passwd", ["etc/passwd symlink 777"]),
    "a folder in place of a file": ("rm /etc/passwd; mkdir /etc/passwd", ["etc/passwd dir 755"]),
    "a folder emptied by removing it": (
        "mkdir /opt/new; rm -r /etc/dpkg; mkdir /etc/dpkg; echo x > /etc/dpkg/new",
        [
            "etc/dpkg/dpkg.cfg whiteout",
            "etc/dpkg/dpkg.cfg.d whiteout",
            "etc/dpkg/new file 644",
            "etc/dpkg/origins whiteout",
            "opt/new dir 755",
        ],
    ),
    "hard links": (
        "echo x > /opt/b; ln /opt/b /opt/a; ln /opt/b /opt/c",
        ["opt/a file 644", "opt/b link 0", "opt/c link 0"],
    ),
    "a hard link to a file of the base": ("ln /etc/passwd /etc/zz", ["etc/zz file 644"]),
    "a FIFO, but no socket": (
        "mkfifo /opt/f; python3 -c \"import socket; socket.socket(socket.AF_UNIX).bind('/opt/s')\"",
        ["opt/f fifo 644"],
    ),
    "a name that is no UTF-8": ("touch \"$(printf '/opt/\\377')\"", ["opt/\udcff file 644"]),
}


@pytest.mark.parametrize(("script", "expected"), CHANGES.values(), ids=CHANGES)
def test_a_layer_holds_what_changed(debian_engine: SandboxEngine, script: str, expected: list[str]) -> None:
    layer = layer_of(debian_engine, script)
    assert lines(layer) == expected
    assert layer.digest == layer.manifest.digest
    assert debian_engine.layer_manifest(layer.digest) == layer.manifest
    # On disk it shows exactly what its manifest says.
    assert seen(debian_engine, layer) == debian_engine.base_manifest(BASE).apply(layer.manifest).to_bytes()


def seen(engine: SandboxEngine, *layers: Layer) -> bytes:
    stack = Trees(engine._store).stack(BASE, [layer.digest for layer in layers])
    area = engine._area()
    return in_namespace(lambda: manifest_of_tree(os.fsencode(Area.create(area).mount_to_read(stack))).to_bytes())


SAME = {
    "one command or two": (["echo x > /opt/x", "echo y > /opt/y"], ["echo y > /opt/y; echo x > /opt/x"]),
    "a file made once or twice": (["echo x > /opt/x"], ["echo y > /opt/x; sleep 0.01; echo x > /opt/x"]),
    "removing a folder, or all in it and then itself": (["rm -r /etc/apt"], ["find /etc/apt -delete"]),
    "removing what a folder holds, or the folder, and making it again": (
        ["rm -r /etc/dpkg/*"],
        ["rm -r /etc/dpkg; mkdir /etc/dpkg"],
    ),
    "a new folder, or one in place of another": (
        ["mkdir -p /opt/a/b; touch /opt/a/b/x"],
        ["mkdir -p /opt/a/b/c; rm -r /opt/a; mkdir -p /opt/a/b; touch /opt/a/b/x"],
    ),
    "hard links in another order": (
        ["echo x > /opt/b; ln /opt/b /opt/a"],
        ["echo x > /opt/a; ln /opt/a /opt/b"],
    ),
    "another machine id": (["echo 11 > /etc/machine-id"], ["echo 22 > /etc/machine-id"]),
}


@pytest.mark.parametrize(("one", "other"), SAME.values(), ids=SAME)
def test_one_change_has_one_digest(debian_engine: SandboxEngine, one: list[str], other: list[str]) -> None:
    assert layer_of(debian_engine, *one).digest == layer_of(debian_engine, *other).digest


def test_layers_over_layers_show_what_their_manifests_say(debian_engine: SandboxEngine) -> None:
    scripts = [
        "mkdir -p /opt/a/b; echo 1 > /opt/a/b/x; echo 2 > /opt/a/y; ln /opt/a/y /opt/a/z",
        "rm -r /opt/a/b; echo 3 > /opt/a/y",
        "mkdir /opt/a/b; echo 4 > /opt/a/b/new; rm /opt/a/y",
        "rm -r /opt/a; mkdir -p /opt/a/c; echo 5 > /opt/a/c/x",
        "rm -r /opt/a; ln -s /etc /opt/a",
    ]
    layers: list[Layer] = []
    expected = debian_engine.base_manifest(BASE)
    for script in scripts:
        layers.append(layer_of(debian_engine, script, over=tuple(layer.digest for layer in layers)))
        expected = expected.apply(layers[-1].manifest)
        assert seen(debian_engine, *layers) == expected.to_bytes()
    assert lines(layers[2]) == ["opt/a/b dir 755", "opt/a/b/new file 644", "opt/a/y whiteout"]
    assert lines(layers[3]) == [
        "opt/a/b whiteout",
        "opt/a/c dir 755",
        "opt/a/c/x file 644",
        "opt/a/z whiteout",
    ]


def test_steps_that_make_one_layer(debian_engine: SandboxEngine) -> None:
    """Among them those that change nothing: overlayfs itself takes no folder twice."""
    scripts = ["true", "echo 1 > /opt/x", "rm /opt/x; true", "echo 1 > /opt/x", "true"]
    layers: list[str] = []
    for script in scripts:
        layers.append(layer_of(debian_engine, script, over=tuple(layers)).digest)
    assert layers[0] == layers[4] and layers[1] == layers[3]
    with debian_engine.open(BASE, layers) as workspace:
        assert workspace.read("/opt/x") == b"1\n"
    with debian_engine.open(BASE, layers[:3]) as workspace:
        assert workspace.read("/opt/x") is None


def test_a_manifest_that_was_changed_in_the_store(debian_engine: SandboxEngine) -> None:
    layer = layer_of(debian_engine, "echo 1 > /opt/of-this-test")
    manifest = Trees(debian_engine._store).layer(layer.digest) / "manifest"
    manifest.write_text(manifest.read_text().replace("0644", "0755"))
    with pytest.raises(StoreError, match="was changed in the store"):
        debian_engine.layer_manifest(layer.digest)
    manifest.write_bytes(layer.manifest.to_bytes())
    assert debian_engine.layer_manifest(layer.digest) == layer.manifest


def test_a_workspace_goes_on_over_its_snapshot(debian_engine: SandboxEngine) -> None:
    with debian_engine.open(BASE, []) as workspace:
        shell(workspace, "echo 1 > /opt/x")
        first = workspace.snapshot()
        assert workspace.read("/opt/x") == b"1\n"
        shell(workspace, "rm /opt/x")
        second = workspace.snapshot()
    assert lines(first) == ["opt/x file 644"]
    assert lines(second) == ["opt/x whiteout"]


def test_every_path_of_a_layer_has_the_same_time_and_no_note_of_overlayfs(debian_engine: SandboxEngine) -> None:
    layer = layer_of(
        debian_engine, "mkdir /opt/d; echo x > /opt/d/x; ln -s x /opt/d/l; rm -r /etc/dpkg; mkdir /etc/dpkg"
    )
    root = Trees(debian_engine._store).layer(layer.digest) / "root"

    def task() -> list[tuple[str, int, list[str]]]:
        return [
            (str(path), int(path.lstat().st_mtime), os.listxattr(path, follow_symlinks=False))
            for path in [root, *root.rglob("*")]
            if not stat.S_ISCHR(path.lstat().st_mode)
        ]

    found = in_namespace(task)
    assert {str(root / name) for name in ("opt/d", "opt/d/x", "opt/d/l")} <= {path for path, _, _ in found}
    assert {(time, tuple(names)) for _, time, names in found} == {(MTIME, ())}


def test_file_capabilities_and_attributes_are_part_of_a_layer(debian_engine: SandboxEngine) -> None:
    capability = bytes.fromhex("0100000200200000000000000000000000000000")
    with debian_engine.open(BASE, []) as workspace:
        python(
            workspace,
            "open('/opt/ping', 'w').close(); os.setxattr('/opt/ping', 'user.note', b'1')\n"
            f"os.setxattr('/opt/ping', 'security.capability', {capability!r})",
        )
        layer = workspace.snapshot()
    assert layer.manifest["opt/ping"].xattrs == (("security.capability", capability.hex()), ("user.note", "31"))
    over = layer_of(debian_engine, "chmod 600 /etc/passwd", over=(layer.digest,))
    assert seen(debian_engine, layer, over) == (
        debian_engine.base_manifest(BASE).apply(layer.manifest).apply(over.manifest).to_bytes()
    )


REPEAT = """
import sys
from pathlib import Path
from klock.engines.protocol import BaseLayer, Command, Network
from klock.engines.sandbox import SandboxEngine
from klock.layers.normalisation import STEP_ENVIRONMENT
from klock.store import Store

engine = SandboxEngine(Store(Path(sys.argv[1]) if len(sys.argv) > 1 else None))
base = "sha256:" + "0" * 64
tar = BaseLayer(path=Path({tar!r}), media_type="application/vnd.oci.image.layer.v1.tar", diff_id="")
manifest = engine.add_base(base, [tar])
print("base", manifest.digest)
layers = []
seen = manifest
for script in {scripts!r}:
    with engine.open(base, layers) as workspace:
        environment = {{"PATH": "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", **STEP_ENVIRONMENT}}
        done = workspace.run(Command(argv=("sh", "-euc", script), environment=environment, network=Network.HOST))
        assert done.status == 0, done.output.decode()
        layer = workspace.snapshot()
    layers.append(layer.digest)
    seen = seen.apply(layer.manifest)
    print("layer", layer.digest, len(layer.manifest))
    (Path({keep!r}) / f"{{len(layers)}}.manifest").write_bytes(layer.manifest.to_bytes())
environment = engine.environment("e")
environment.replace(layers, base=base, record={{}})
print("observed", environment.observe() == seen)
"""

REAL_STEPS = [
    "apt-get update -qq; apt-get install -qq -y --no-install-recommends libcap2-bin dbus",
    "pip install -q --break-system-packages six==1.16.0; python3 -m venv /opt/venv",
    "useradd --create-home joe; setcap cap_net_raw+ep /usr/bin/env; chown joe /opt; apt-get purge -qq -y dbus",
]


def test_real_steps_make_the_same_layers_as_root_and_without_privileges(
    root: Account, unprivileged: Account, debian_rootfs_tar: Path
) -> None:
    """apt, pip, useradd, file capabilities, a removal; another umask, hash seed, locale; and every path is observed."""
    outputs = []
    circumstances = [
        (root, {"PYTHONHASHSEED": "1"}, "022"),
        (root, {"PYTHONHASHSEED": "2", "LC_ALL": "C", "TZ": "Asia/Tokyo"}, "077"),
        (unprivileged, {"PYTHONHASHSEED": "3", "LC_ALL": "POSIX"}, "027"),
    ]
    for number, (account, variables, umask) in enumerate(circumstances):
        folder = account.make_folder(f"run{number}")
        script = REPEAT.format(tar=str(debian_rootfs_tar), scripts=REAL_STEPS, keep=str(folder))
        argv: list[str | Path] = ["sh", "-c", f'umask {umask}; exec "$0" -c "$1" "$2"', account.python, script]
        argv.append(folder / "store")
        done = account.run(argv, cwd=folder, env=variables)
        assert done.returncode == 0, done.stderr
        outputs.append((folder, done.stdout))
    assert outputs[0][1].splitlines()[-1] == "observed True"
    first = outputs[0][0]
    for folder, output in outputs[1:]:
        for name in ("1.manifest", "2.manifest", "3.manifest"):
            one, other = (first / name).read_text().splitlines(), (folder / name).read_text().splitlines()
            assert sorted(set(one) ^ set(other)) == []
        assert output == outputs[0][1]
    last = (first / "3.manifest").read_text()
    assert "security.capability=0100000200200000000000000000000000000000" in last
