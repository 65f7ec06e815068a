"""Locking without running anything: the same bytes as in the workshop, for platforms that run here and for others."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from pathlib import Path

import pytest

import klock
from klock.digests import digest_of_bytes
from klock.errors import EngineError, FetchError, ImageError, KlockError
from klock.files.placed import PlacedFile
from klock.layers.manifest import Manifest
from klock.lockfile.reading import from_text
from klock.packages.interpreter import probe_interpreter
from klock.packages.wheels import wheel_of
from klock.store import Store
from klock.workshop import SandboxWorkshop
from klock.workshop.namespace import NamespaceProcess
from klock.workshop.protocol import BaseLayer, Workshop
from klock.workshop.still import StillWorkshop
from tests.integration.index_server import IndexServer, make_sdist, make_wheel
from tests.integration.small_base import Member, archive

pytestmark = pytest.mark.integration

TAR = "application/vnd.oci.image.layer.v1.tar"
VARIABLES = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}


def workshops(tmp_path: Path, layers: Sequence[bytes]) -> tuple[list[Workshop], str, list[Manifest]]:
    """Both workshops with one base, and what each says that it shows."""
    files = []
    for content in layers:
        path = tmp_path / digest_of_bytes(content).removeprefix("sha256:")
        path.write_bytes(content)
        files.append(BaseLayer(path=path, media_type=TAR, diff_id=digest_of_bytes(content)))
    base = digest_of_bytes(b"".join(layers))
    both: list[Workshop] = [
        SandboxWorkshop(Store(tmp_path / "store")),
        StillWorkshop(Store(tmp_path / "other"), why="nothing runs here", hint="elsewhere"),
    ]
    return both, base, [workshop.add_base(base, files) for workshop in both]


LAYERS: dict[str, list[list[Member]]] = {
    "files, folders, links and owners": [
        [
            ("4755:0:a/b", "x"),
            ("0600:12:a/c", b"\xff"),
            ("a/l", "-> b"),
            ("0700:5:d/", None),
            ("tmp/left/out", "1"),
            ("run/x", "2"),
        ]
    ],
    "a file is replaced, a folder becomes a file, a file a folder": [
        [("a/f", "1"), ("d/", None), ("d/x", "1"), ("e", "1")],
        [("0640:7:a/f", "2"), ("d", "2"), ("e/", None), ("e/y", "2")],
    ],
    "whiteouts, of folders, and made again": [
        [("a/x", "1"), ("a/y", "1"), ("b/x", "1"), ("c/x", "1"), ("c/d/y", "1")],
        [("a/.wh.x", ""), (".wh.b", ""), ("c/.wh..wh..opq", ""), ("c/new", "2")],
        [("b/z", "3"), ("a/.wh.gone", ""), (".wh..wh.plnk", "")],
    ],
    "folders without an entry, and one behind a symlink of a lower layer": [
        [("a/b/c/d", "1"), ("usr/lib/", None), ("lib", "-> usr/lib")],
        [("a/e/f", "2"), ("usr/lib/x", "2")],
    ],
    "a folder that changes its mode alone": [[("a/", None), ("a/x", "1")], [("0711:3:a/", None)]],
}


@pytest.mark.parametrize("case", LAYERS)
def test_what_a_base_shows_is_read_off_its_archives(case: str, tmp_path: Path) -> None:
    _, _, (unpacked, read) = workshops(tmp_path, [archive(members) for members in LAYERS[case]])
    assert read.to_bytes().splitlines() == unpacked.to_bytes().splitlines()


@pytest.mark.parametrize(
    ("members", "what"),
    [
        ([("../x", "1")], "leads out of the layer"),
        ([("l", "-> /etc"), ("l/passwd", "1")], "/l/passwd is behind /l, which is not a folder"),
    ],
)
def test_an_archive_that_says_different_things_to_different_readers(
    members: list[Member], what: str, tmp_path: Path
) -> None:
    still = StillWorkshop(Store(tmp_path / "store"), why="", hint="")
    path = tmp_path / "layer"
    path.write_bytes(archive(members))
    layer = BaseLayer(path=path, media_type=TAR, diff_id=digest_of_bytes(path.read_bytes()))
    with pytest.raises(FetchError, match=what):
        still.add_base(layer.diff_id, [layer])


PLACED: dict[str, tuple[str, list[tuple[str, int, str | None]]]] = {
    "files and folders": ("/app", [("a", 0o644, "1"), ("b/", 0o755, None), ("b/c", 0o755, "2"), ("l", 0o777, "-> a")]),
    "into a folder that is there": ("/there", [("old", 0o644, "same"), ("new", 0o644, "2"), ("sub/", 0o711, None)]),
    "through a symlink": ("/link/deep", [("x", 0o644, "1"), ("", 0o755, None)]),
    "over a symlink": ("/", [("tolink", 0o644, "1"), ("link/", 0o700, None)]),
    "a single file": ("/there/old", [("", 0o755, "1")]),
    "a file where a folder is": ("/", [("there", 0o644, "1")]),
    "below a file": ("/there/old", [("x", 0o644, "1")]),
    "below a symlink to nothing": ("/lost", [("x", 0o644, "1")]),
    "what no layer holds": ("/tmp", [("x", 0o644, "1")]),
}


@pytest.mark.parametrize("case", PLACED)
def test_files_are_placed_as_they_are_in_a_real_tree(case: str, tmp_path: Path) -> None:
    base = archive(
        [
            ("0755:0:there/", None),
            ("0644:0:there/old", "same"),
            ("link", "-> there"),
            ("tolink", "-> there/old"),
            ("lost", "-> gone"),
        ]
    )
    both, digest, _ = workshops(tmp_path, [base])
    destination, wanted = PLACED[case]
    files = []
    for number, (path, mode, content) in enumerate(wanted):
        source = tmp_path / f"source-{number}"
        is_link = content is not None and content.startswith("-> ")
        if content is not None and not is_link:
            source.write_text(content)
        files.append(
            PlacedFile(
                path=path.rstrip("/"),
                mode=mode,
                source=source if content is not None and not is_link else None,
                digest=digest_of_bytes(content.encode()) if content is not None and not is_link else None,
                target=content.removeprefix("-> ") if content is not None and is_link else None,
            )
        )
    layers, errors, found = [], [], []
    for workshop in both:
        with workshop.open(digest, []) as workspace:
            try:
                workspace.place(files, destination)
            except ImageError as error:
                errors.append(error.message)
            found.append(workspace.find([b"1"]))
            layers.append(workspace.snapshot().manifest)
        if errors:
            continue
        with workshop.open(digest, [layers[-1].digest]) as workspace:
            assert workspace.read("/there/old") == (b"1" if case == "a single file" else b"same")
    if errors:
        assert errors == [errors[0]] * 2
    else:
        assert found[1] == found[0]
        assert layers[1].to_bytes().splitlines() == layers[0].to_bytes().splitlines()


def test_what_a_python_is_is_read_off_its_files(debian_rootfs_tar: Path, tmp_path: Path) -> None:
    both, base, (unpacked, read) = workshops(tmp_path, [debian_rootfs_tar.read_bytes()])
    assert read.digest == unpacked.digest
    found = []
    for workshop in both:
        with workshop.open(base, []) as workspace:
            found.append(probe_interpreter(workspace, variables=VARIABLES, machine="x86_64"))
    assert found[1] == found[0]
    with both[1].open(base, []) as workspace:
        assert probe_interpreter(workspace, variables={"PATH": "/nowhere"}, machine="x86_64") is None
        with pytest.raises(KlockError, match="python_path '/v/bin/python' is not a program in the environment"):
            probe_interpreter(workspace, python_path="/v/bin/python", variables=VARIABLES, machine="x86_64")


# -- whole images

IMAGE = """
import klock

image = (
    klock.Image()
    .from_docker("oci:./layout")
    .set_env_vars({"A": "b"})
    .pip_install(["app"])
    .copy("data", "/app/data")
    .pip_install(["lib"])
)
"""


@pytest.fixture
def project(debian_two_platforms: Path, tmp_path: Path) -> Path:
    """A project whose base exists for two platforms. The files are the same: those of arm64 are not run."""
    folder = tmp_path / "project"
    (folder / "data").mkdir(parents=True)
    (folder / "data/x").write_text("1")
    (folder / "layout").symlink_to(debian_two_platforms)
    (folder / "kimage.py").write_text(IMAGE)
    return folder


def settings(folder: Path, index: str, targets: Sequence[str]) -> None:
    (folder / "pyproject.toml").write_text(f'[tool.klock]\ntargets = {json.dumps(targets)}\nindex-url = "{index}"\n')


def test_a_platform_that_does_not_run_here_and_no_sandbox_at_all(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = tmp_path / "files"
    files.mkdir()
    for machine in ("x86_64", "aarch64"):
        make_wheel(files, "app", "1.0", requires=["lib"], tag=f"cp311-cp311-manylinux_2_17_{machine}")
    make_wheel(files, "lib", "1.0")
    stores = (tmp_path / f"store-{number}" for number in itertools.count())
    monkeypatch.chdir(project)
    with IndexServer(files) as index:
        settings(project, index.url, ["linux/amd64", "linux/arm64"])
        used = next(stores)
        klock.lock("kimage.py", store=used)
        text = (project / "kimage.lock").read_text()
        amd64, arm64 = from_text(text).targets
        assert [wheel_of(p).name for p in arm64.packages] == [
            "app-1.0-cp311-cp311-manylinux_2_17_aarch64.whl",
            "lib-1.0-py3-none-any.whl",
        ]
        assert amd64.layers[1:] == arm64.layers[1:], "what has no platform is the same"
        assert amd64.interpreter == arm64.interpreter

        def check(workshop: SandboxWorkshop) -> None:
            raise EngineError("this machine does not let klock make a user namespace", hint="allow it")

        with monkeypatch.context() as patched:
            patched.setattr(SandboxWorkshop, "check", check)
            (project / "kimage.lock").unlink()
            store = next(stores)
            klock.lock("kimage.py", store=store)
            assert (project / "kimage.lock").read_text() == text
            assert not (store / "trees").exists(), "nothing was unpacked"

            # Nor is a sandbox needed that worked when the base was unpacked, and works no more.
            def refuse(*_: object, **__: object) -> None:
                raise EngineError("this machine does not let klock make a user namespace", hint="allow it")

            patched.setattr(NamespaceProcess, "__init__", refuse)
            make_wheel(files, "more", "1.0", files={"more.py": "X = 1"})
            (project / "kimage.py").write_text(IMAGE.replace('["app"]', '["app", "more"]'))
            klock.lock("kimage.py", store=used)
            more = (project / "kimage.lock").read_text()
            (project / "kimage.lock").unlink()
            klock.lock("kimage.py", store=store)
            assert (project / "kimage.lock").read_text() == more != text
            (project / "kimage.lock").write_text(text)

            # What must run is refused before anything is fetched.
            (project / "kimage.py").write_text(IMAGE.replace(".set_env", '.run_bash("true").set_env'))
            with pytest.raises(EngineError, match="this machine does not let klock make a user namespace"):
                klock.lock("kimage.py", store=next(stores))

        with pytest.raises(ImageError) as caught:
            klock.lock("kimage.py", store=next(stores))
        assert caught.value.message == (
            "step 1 (kimage.py:7): run_bash must run: programs of linux/arm64 do not run on this machine, which is "
            "linux/amd64"
        )
        (project / "kimage.py").write_text(IMAGE)
        # What is locked here replays here.
        synced = klock.sync("kimage.py", store=next(stores))
        assert synced.fingerprint == amd64.fingerprint


def test_a_package_without_a_wheel_for_the_platform(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = tmp_path / "files"
    files.mkdir()
    make_sdist(files, "app", "1.0", files={"setup.py": "raise SystemExit('ran on this machine')\n"})
    make_wheel(files, "lib", "1.0")
    monkeypatch.chdir(project)
    with IndexServer(files) as index:
        settings(project, index.url, ["linux/arm64"])
        with pytest.raises(KlockError) as caught:
            klock.lock("kimage.py", store=tmp_path / "store")
    assert "app" in caught.value.message
    assert "ran on this machine" not in caught.value.message
    assert not (project / "kimage.lock").exists()
