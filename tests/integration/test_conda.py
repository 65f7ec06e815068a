"""Conda packages of a real channel: chosen by rattler, locked by hash, installed in a base that has no conda."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

import klock
from klock.conda.solving import Listed, solve
from klock.lockfile.model import CondaLock
from klock.questions import why
from tests.integration.conda_channel import PLACEHOLDER, CondaPackage, write_channel
from tests.integration.registry_server import write_layout
from tests.integration.small_base import archive, write_small_base

pytestmark = pytest.mark.integration

SHELL = "#!/bin/sh\n"
PACKAGES = [
    # A Python that is a program of the base's shell: what klock does with modules and commands is the same.
    CondaPackage(
        name="python",
        version="3.12.4",
        depends=["libz >=1.2", "__glibc >=2.17"],
        files={
            "bin/python3.12": f"{SHELL}echo 'Python of {PLACEHOLDER}/bin' \"$@\"\n",
            "bin/python": "-> python3.12",
            "bin/python3": "-> python3.12",
            "lib/python3.12/os.py": "",
            "lib/libp.so": b"\x7fELF\0" + f"{PLACEHOLDER}/lib:/x".encode() + b"\0rest\0" + PLACEHOLDER.encode() + b"\0",
        },
    ),
    CondaPackage(name="python", version="3.13.0", files={"bin/python3.13": SHELL}),
    CondaPackage(
        name="libz",
        version="1.2.13",
        form=".tar.bz2",
        files={"lib/z.so.1": b"\x7fELF\0", "lib/z.so": "-> z.so.1"},
    ),
    CondaPackage(
        name="old", form=".tar.bz2", old=True, files={"bin/old": f"#!{PLACEHOLDER}/bin/python\n", "share/o.txt": "o"}
    ),
    CondaPackage(
        name="tool",
        version="2.0",
        subdir="noarch",
        depends=["python >=3.8"],
        files={"site-packages/tool/__init__.py": "def main(): pass\n", "python-scripts/tool-old": SHELL},
        entry_points=["tool = tool:main", "tool-x = tool.cli:App.run"],
    ),
    CondaPackage(
        name="tool", version="3.0", subdir="noarch", depends=["python >=3.13"], files={"site-packages/t.py": ""}
    ),
    CondaPackage(
        name="linker",
        files={
            "bin/.linker-post-link.sh": f'{SHELL}echo "$PKG_NAME $PKG_VERSION $PREFIX" > $PREFIX/linked\n'
            "echo hello > $PREFIX/.messages.txt\n",
            "share/l.txt": "l",
        },
    ),
]

LOADER = ("lib/ld-linux-aarch64.so.1", b"\x7fELF")
PACKAGES_OF_ARM = [
    CondaPackage(
        name="python",
        version="3.12.4",
        subdir="linux-aarch64",
        depends=["__glibc >=2.17", "__linux", "__unix"],
        files={"bin/python3.12": SHELL, "lib/python3.12/os.py": ""},
    ),
    # What the machine of a target decides.
    CondaPackage(
        name="python",
        version="3.12.9",
        subdir="linux-aarch64",
        depends=["__glibc >=2.36"],
        files={"bin/python3.12": SHELL},
    ),
    CondaPackage(
        name="fast",
        version="2.0",
        build="x86_0",
        subdir="linux-aarch64",
        depends=["__archspec 1 x86_64"],
        files={"f": ""},
    ),
    CondaPackage(
        name="fast", build="generic_0", subdir="linux-aarch64", depends=["__archspec 1 aarch64"], files={"f": ""}
    ),
    CondaPackage(name="linker", subdir="linux-aarch64", files={"bin/.linker-post-link.sh": SHELL, "share/l.txt": "l"}),
]


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """In a process of its own: klock forks."""
    command = [sys.executable, "-u", "-m", "http.server", "--bind", "127.0.0.1", "0"]
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout is not None
    try:
        match = re.search(r"port (\d+)", process.stdout.readline())
        assert match is not None
        yield f"http://127.0.0.1:{match[1]}"
    finally:
        process.kill()
        process.communicate()


def write_image(folder: Path, lines: str) -> None:
    text = f"import klock as kt\nimage = kt.Image().from_docker('oci:./layout:image')\n{lines}"
    (folder / "kimage.py").write_text(text)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    members = [
        ("tmp/", None), ("lib/x86_64-linux-gnu/libc.so.6", b"GNU C Library (x) stable release version 2.36.\n"),
        ("lib64/ld-linux-x86-64.so.2", b"\x7fELF"),
    ]  # fmt: skip
    write_small_base(tmp_path / "layout", members)
    write_channel(tmp_path / "channel/main", PACKAGES)
    # A channel with nothing for any platform, which comes first.
    write_channel(tmp_path / "channel/extra", [CondaPackage(name="linker", version="9", files={"x": ""})])
    shutil.rmtree(tmp_path / "channel/extra/noarch")
    return tmp_path


def locked(project: Path, **options: str) -> klock.Locked:
    return klock.lock(project / "kimage.py", store=project / "store", environ=options)


def shown(project: Path, *paths: str) -> list[str]:
    project_ = klock.Project(project / "kimage.py", store=project / "store", environ={}, offline=True)
    project_.sync()
    done = project_.run(["/bin/cat", *paths], capture_output=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.decode("utf-8", "replace").splitlines()


def test_packages_are_locked_and_laid_out(project: Path) -> None:
    (project / "environment.yml").write_text(
        "name: x\nchannels: [main, nodefaults]\ndependencies:\n- python=3.12\n- tool\n- old\nvariables:\n  A: 1\n"
    )
    write_image(
        project,
        "image.micromamba_install(spec_file='environment.yml')\n"
        "image.conda_install('main::linker', channels='extra')\n"
        "image.run_bash('python -m x > /said; echo $CONDA_PREFIX $A $(ls -A /opt/conda) >> /said')\n",
    )
    with served(project / "channel") as url:
        (target,) = locked(project, CONDA_CHANNEL_ALIAS=url).lockfile.targets
        first, second = (step for step in target.steps if isinstance(step, CondaLock))
        assert sorted(f"{each.name} {each.version}" for each in first.packages) == [
            *("libz 1.2.13", "old 1.0", "python 3.12.4", "tool 2.0")
        ]
        assert [each.name for each in second.packages] == ["linker"]
        assert (first.scripts, second.scripts) == ((), ("linker",))
        assert all(each.url.startswith(f"{url}/main/") and len(each.sha256) == 64 for each in first.packages)
        # Something newer, and something gone, change nothing.
        newer = [CondaPackage(name=name, version="3.12.9", files={"x": ""}) for name in ("python", "linker")]
        write_channel(project / "channel/main", [*PACKAGES, *newer])
        assert not locked(project, CONDA_CHANNEL_ALIAS=url).written
        again = klock.Project(project / "kimage.py", store=project / "store", environ={"CONDA_CHANNEL_ALIAS": url})
        (moved,) = again.lock(upgrade_packages="Linker", dry_run=True).lockfile.targets
        steps = [step for step in moved.steps if isinstance(step, CondaLock)]
        assert (steps[0].packages, [each.version for each in steps[1].packages]) == (first.packages, ["3.12.9"])
        (reason,) = why("libz", project / "kimage.py", store=project / "store")
        assert reason.part.value == "1.2.13 0"
        (project / "channel/main/linux-64/old-1.0-0.tar.bz2").unlink()
        asked = klock.Project(project / "kimage.py", store=project / "store", environ={})
        found = [finding.message for finding in asked.check(upstream=True).findings]
        assert found == [f"{url}/main/linux-64/old-1.0-0.tar.bz2 answers with status 404 now, 200 is locked"]
    assert shown(project, "/said") == ["Python of /opt/conda/bin -m x", "/opt/conda 1 bin conda-meta lib linked share"]
    assert shown(project, "/opt/conda/linked") == ["linker 1.0 /opt/conda"]
    assert shown(project, "/opt/conda/bin/old") == ["#!/opt/conda/bin/python"]
    assert shown(project, "/opt/conda/lib/python3.12/site-packages/tool/__init__.py") == ["def main(): pass"]
    script = shown(project, "/opt/conda/bin/tool-x")
    assert script[0] == "#!/opt/conda/bin/python3.12"
    assert "from tool.cli import App" in script
    assert "    sys.exit(App.run())" in script
    library = "\n".join(shown(project, "/opt/conda/lib/libp.so"))
    room = len(PLACEHOLDER) - len("/opt/conda")
    assert library == "\x7fELF\0/opt/conda/lib:/x" + "\0" * room + "\0rest\0/opt/conda" + "\0" * room + "\0"
    # As conda knows them.
    record = json.loads("\n".join(shown(project, "/opt/conda/conda-meta/tool-2.0-0.json")))
    assert (record["name"], record["requested_spec"], record["url"]) == (
        "tool",
        "tool",
        f"{url}/main/noarch/tool-2.0-0.conda",
    )
    assert "bin/tool-x" in record["files"]
    history = shown(project, "/opt/conda/conda-meta/history")
    assert "# update specs: ['python=3.12', 'tool', 'old']" in history
    assert "+main/noarch::tool-2.0-0" in history


def test_packages_for_a_platform_that_this_machine_is_not(project: Path, tmp_path: Path) -> None:
    """The lists of its own folder, its own libc and machine; nothing runs, so a script cannot."""
    tar = tmp_path / "base.tar"
    libc = b"GNU C Library (x) stable release version 2.31.\n"
    tar.write_bytes(archive([("etc/os-release", "x\n"), ("lib/aarch64-linux-gnu/libc.so.6", libc), LOADER]))
    write_layout(tmp_path / "arm", {"linux/arm64": [tar]}, config={"Env": ["PATH=/bin"]})
    write_channel(tmp_path / "channel/main", [*PACKAGES, *PACKAGES_OF_ARM])
    (tmp_path / "pyproject.toml").write_text('[tool.klock]\ntargets = ["linux/arm64"]\n')
    write_image(project, "image.conda_install(['python', 'tool', 'fast'], channels='main')\n")
    kimage = project / "kimage.py"
    kimage.write_text(kimage.read_text().replace("./layout", "./arm"))
    with served(project / "channel") as url:
        (target,) = locked(project, CONDA_CHANNEL_ALIAS=url).lockfile.targets
        (step,) = target.steps
        assert isinstance(step, CondaLock)
        assert sorted(f"{p.url.split('/')[-2]} {p.name} {p.version} {p.build}" for p in step.packages) == [
            *("linux-aarch64 fast 1.0 generic_0", "linux-aarch64 python 3.12.4 0", "noarch tool 2.0 0")
        ]
        assert not locked(project, CONDA_CHANNEL_ALIAS=url).written
        kimage.write_text(kimage.read_text() + "image.conda_install('linker', channels='main')\n")
        said = r"^step 2 \(kimage.py:4\): linker has a script that must run$"
        with pytest.raises(klock.KlockError, match=said) as caught:
            locked(project, CONDA_CHANNEL_ALIAS=url)
        assert caught.value.hint == "lock it on a machine of the target's platform"


def test_a_package_stays_in_the_form_in_which_it_was_locked(tmp_path: Path) -> None:
    """Channels have added a `.conda` file of what they had as `.tar.bz2`."""
    old = CondaPackage(name="libz", form=".tar.bz2", files={"a": ""})
    packages = [old, replace(old, form=".conda"), CondaPackage(name="app", depends=["libz"])]
    write_channel(tmp_path, packages, compressed=False)
    lists = [
        Listed(channel="https://h/c", subdir=subdir, file=tmp_path / subdir / "repodata.json")
        for subdir in ("linux-64", "noarch")
    ]
    url = "https://h/c/linux-64/libz-1.0-0.tar.bz2"
    assert [package.url for package in solve(["libz"], lists, virtual={}, preferred=[url])] == [url]
    assert url in [package.url for package in solve(["app"], lists, virtual={}, installed=[url])]


REFUSED = {
    "packages that do not fit": (
        "['python=3.12', 'tool=3']",
        r"^step 1 \(kimage.py:3\): conda packages do not",
    ),
    "a package that is not there": (
        "'nowhere'",
        r"^step 1 \(kimage.py:3\): conda packages do not.*nowhere",
    ),
    "a place that layers leave out": (
        "'libz', prefix='/tmp/x'",
        r"^step 1 \(kimage.py:3\): conda_install: prefix is /tmp/x, where an image keeps nothing",
    ),
    "a specification that is none": ("'python==='", r"^step 1 \(kimage.py:3\): unable to parse version spec"),
}


def test_what_is_refused(project: Path) -> None:
    with served(project / "channel") as url:
        for case, (packages, message) in REFUSED.items():
            write_image(project, f"image.conda_install({packages}, channels='{url}/main')\n")
            with pytest.raises(klock.KlockError, match=re.compile(message, re.DOTALL)):
                locked(project)
            assert not (project / "kimage.lock").exists(), case
        # A list that is none, as of a server's page of errors.
        broken = project / "channel/broken/noarch/repodata.json"
        broken.parent.mkdir(parents=True)
        broken.write_text("<html>")
        write_image(project, f"image.conda_install('libz', channels='{url}/broken')\n")
        with pytest.raises(klock.KlockError, match=r"^step 1 .*: the list of packages of .*/broken/noarch is broken: "):
            locked(project)
        # A package whose bytes are not those of the list.
        write_image(project, f"image.conda_install('libz', channels='{url}/main')\n")
        archive = project / "channel/main/linux-64/libz-1.2.13-0.tar.bz2"
        archive.write_bytes(archive.read_bytes()[:-1] + b"x")
        with pytest.raises(klock.KlockError, match="hash mismatch"):
            locked(project)
