"""`klock why` and `klock tree`: what brings something, through which packages, and how large it is."""

from __future__ import annotations

from dataclasses import replace

import pytest

from klock.debian.dpkg_status import dependencies
from klock.inventory.reasons import Lines, Requires, names_in, reasons
from klock.inventory.trees import tree_of
from klock.lockfile.model import DebianLock, DebPackage, LayerLock, PipLock, SdistArtifact, TargetLock, WheelArtifact
from klock.words import did_you_mean
from tests.test_inventory_changes import APT, CPU, FILES, PIP, SHELL, VARIABLES
from tests.test_lockfile import NUMPY, A

STATUS = b"""\
Package: python3
Status: install ok installed
Pre-Depends: python3-minimal (= 3.11)
Depends: libc6 (>= 2.34), awk | mawk, nothing:any
Version: 3.11

Package: python3-minimal
Status: install ok installed
Depends: libc6:amd64
Version: 3.11

Package: mawk
Status: install ok installed
Provides: awk (= 1)
Version: 1

Package: libc6
Status: install ok installed
Version: 2.36

Package: gone
Status: deinstall ok config-files
Depends: libc6
"""
DEBS = dependencies(STATUS)

assert isinstance(PIP, PipLock)
assert isinstance(NUMPY.artifact, WheelArtifact)
SDIST = SdistArtifact(
    name="c.tar.gz", url="https://f/c", size=1, sha256="a" * 64, wheel=NUMPY.artifact, build=("builder==2",)
)


def package(name: str, size: int = 1000) -> DebPackage:
    return DebPackage(name=name, version="1", architecture="amd64", path=f"pool/{name}.deb", size=size, sha256="a" * 64)


LOCK = TargetLock(
    target=CPU.target,
    base=DebianLock(suite="bookworm", packages=("python3",), debs=tuple(map(package, DEBS)), tree=A),
    interpreter=None,
    steps=(
        VARIABLES,
        replace(
            PIP,
            requirements=("a[x]>=1", "-r more.txt"),
            packages=("a==1", "b==1", "c==1"),
            layer=LayerLock(digest=A, files=3, size=5000),
        ),
        APT,
        FILES,
        SHELL,
    ),
    packages=(
        replace(NUMPY, name="a", version="1", dependencies=("b",)),
        replace(NUMPY, name="b", version="1", dependencies=("c", "a")),
        replace(NUMPY, name="c", version="1", artifact=SDIST),
        replace(NUMPY, name="builder", version="2", build_only=True),
    ),
)
REQUIRES = Requires(packages={p.name: p.dependencies for p in LOCK.packages}, debs=DEBS)
LINES = Lines(steps=("kimage.py:5", "kimage.py:6", "kimage.py:7"), base="kimage.py:4")


def test_dpkg_tells_what_depends_on_what() -> None:
    assert DEBS == {
        "python3": ("python3-minimal", "libc6", "mawk"),
        "python3-minimal": ("libc6",),
        "mawk": (),
        "libc6": (),
    }


ANSWERS = {
    "a package that is asked for": (
        "A",
        ["a 1: Python package, 7 B", "  step 2 pip_install a[x]>=1, -r more.txt (kimage.py:6)"],
    ),
    "a package that another one needs, which needs the first": (
        "c",
        [
            *("c 1: Python package, 7 B", "  step 2 pip_install a[x]>=1, -r more.txt (kimage.py:6)"),
            "  a 1 -> b 1 -> c 1",
        ],
    ),
    "a package to build with": (
        "builder",
        ["builder (to build) 2: Python package, 7 B", "  step 2 pip_install a[x]>=1, -r more.txt (kimage.py:6)"],
    ),
    "a Debian package": (
        "libc6",
        [
            *("libc6 1: Debian package, 1.0 kB", "  base Debian bookworm with python3 (kimage.py:4)"),
            "  python3 1 -> libc6 1",
        ],
    ),
    "a Debian package of a step": ("jq", ["jq 1.6: Debian package, 1 B", "  step 3 apt_install jq (kimage.py:7)"]),
    "a file": ("/srv/app/main.py", ["/srv/app/main.py 10 B, mode 0644: file", "  step 4 rsync ./app -> /srv/app"]),
    "a folder of files": ("/srv/app/", ["/srv/app/main.py 10 B, mode 0644: file", "  step 4 rsync ./app -> /srv/app"]),
    "a variable": ("P", ["P /usr/bin: variable", "  step 1 set_env_vars P (kimage.py:5)"]),
    "a part of a URL": (
        "//i/simple",
        ["GET https://i/simple/ status 200, 8 B: answer of the network, 8 B", "  step 5 run_bash a..."],
    ),
    "nothing": ("numpy", []),
}


@pytest.mark.parametrize(("name", "lines"), ANSWERS.values(), ids=ANSWERS)
def test_a_reason_says_what_where_and_through_what(name: str, lines: list[str]) -> None:
    assert [line for reason in reasons(name, LOCK, REQUIRES, LINES) for line in reason.lines()] == lines


def test_a_name_that_is_not_there_leads_to_one_that_is() -> None:
    assert did_you_mean("buidler", names_in(LOCK)) == "did you mean builder?"
    assert did_you_mean("xxxx", names_in(LOCK)) is None


def test_a_tree_has_each_package_once_and_counts_what_nobody_asks_for() -> None:
    assert list(tree_of(LOCK, REQUIRES, LINES, everything=False).lines()) == [
        "linux/amd64/cpu, 9.0 kB",
        "├── base Debian bookworm with python3 (kimage.py:4), 4.0 kB",
        "│   ├── python3 1, 1.0 kB",
        "│   └── 3 other Debian packages, 3.0 kB",
        "├── step 1 set_env_vars P (kimage.py:5)",
        "│   └── P=/usr/bin",
        "├── step 2 pip_install a[x]>=1, -r more.txt (kimage.py:6), 5.0 kB",
        "│   ├── a 1, 7 B",
        "│   │   └── b 1, 7 B",
        "│   │       ├── c 1, 7 B",
        "│   │       └── a 1 (above)",
        "│   └── builder (to build) 2, 7 B",
        "├── step 3 apt_install jq (kimage.py:7), 1 B",
        "│   └── jq 1.6, 1 B",
        "├── step 4 rsync ./app -> /srv/app, 10 B",
        "│   └── /srv/app/main.py, 10 B",
        "└── step 5 run_bash a...",
        "    ├── vim 2:9.0.1378-2",
        "    ├── GET http://d/vim_9.0.deb, 9 B",
        "    └── GET https://i/simple/, 8 B",
    ]
    everything = list(tree_of(LOCK, REQUIRES, LINES).lines(most=2))
    assert "│   └── python3 1, 1.0 kB" in everything
    assert "│       │   └── libc6 1, 1.0 kB" in everything
