"""The files of conda packages lie where rattler's own installer lays them, with the same bytes and modes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from klock.conda.archives import unpacked
from klock.conda.layout import Laid, Python, laid_out
from tests.integration.conda_channel import PLACEHOLDER, CondaPackage, write_channel

pytestmark = pytest.mark.integration

SHELL = "#!/bin/sh\n"
BINARY = b"\x7fELF\0" + b"".join(
    b"%s%s\0" % (PLACEHOLDER.encode(), rest) for rest in (b"/lib:" + PLACEHOLDER.encode() + b"/b", b"", b"/x\n y")
)
PACKAGES = [
    CondaPackage(
        name="python",
        version="3.12.4",
        files={
            "bin/python3.12": SHELL,
            "bin/python": "-> python3.12",
            "lib/python3.12/os.py": "import sys\n",
            "lib/binary.so": BINARY + b"the end",
            "etc/text.conf": f"a={PLACEHOLDER}/a;{PLACEHOLDER}/b\n",
            "share/a folder/häh.txt": "h",
            "share/loose": "-> ../nowhere",
        },
    ),
    CondaPackage(
        name="old",
        form=".tar.bz2",
        old=True,
        files={"bin/old": f"#!{PLACEHOLDER}/bin/python -s\n", "lib/old.so": BINARY, "share/o": "o"},
    ),
    CondaPackage(
        name="tool",
        subdir="noarch",
        depends=["python"],
        files={
            "site-packages/tool/__init__.py": "",
            "site-packages/tool-1.0.dist-info/METADATA": "Name: tool\n",
            "python-scripts/tool-old": f"#!{PLACEHOLDER}/bin/python\n",
            "etc/tool": f"{PLACEHOLDER}\n",
        },
        entry_points=["tool = tool.cli:main", "tool-x=tool.cli:App.run", "tool.y = tool : main"],
    ),
]
# rattler has threads of its own.
INSTALL = """
import asyncio, sys
from pathlib import Path
import rattler
channel, prefix, cache = sys.argv[1:]
lists = [rattler.SparseRepoData(rattler.Channel(f"file://{channel}"), each, Path(channel, each, "repodata.json"))
         for each in ("linux-64", "noarch")]
async def install():
    found = await rattler.solve_with_sparse_repodata(["tool", "old"], lists)
    await rattler.install(found, prefix, cache_dir=Path(cache), show_progress=False)
asyncio.run(install())
"""


def test_files_lie_as_rattler_lays_them(tmp_path: Path) -> None:
    channel, prefix = tmp_path / "channel", tmp_path / "prefix"
    write_channel(channel, PACKAGES, compressed=False)
    subprocess.run([sys.executable, "-c", INSTALL, channel, prefix, tmp_path / "cache"], check=True)
    expected = {path: what for path, what in on_disk(prefix).items() if not path.startswith("conda-meta/")}
    expected.pop("CACHEDIR.TAG", None)  # a note that it is left out of backups
    python = Python(version="3.12", site_packages="lib/python3.12/site-packages")
    found: dict[str, object] = {}
    for package in PACKAGES:
        name = f"{package.stem}{package.form}"
        place = tmp_path / package.name
        place.mkdir()
        archive = unpacked(channel / package.subdir / name, place, name=name)
        found |= {laid.path: described(laid) for laid in laid_out(archive, str(prefix), python)}
    assert found == expected
    assert len(found) == sum(len(package.files) + len(package.entry_points) for package in PACKAGES)


def on_disk(folder: Path) -> dict[str, object]:
    paths = [path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir()]
    return {
        str(path.relative_to(folder)): str(path.readlink())
        if path.is_symlink()
        else (bool(path.stat().st_mode & 0o100), spaced(path.read_bytes()))
        for path in paths
    }


def described(laid: Laid) -> object:
    if laid.target is not None:
        return laid.target
    content = laid.source.read_bytes() if laid.source is not None else laid.content or b""
    return bool(laid.mode & 0o100), spaced(content)


def spaced(content: bytes) -> bytes:
    """The scripts of commands are indented with tabs by rattler, with spaces by conda."""
    return content.replace(b"\n\t", b"\n    ")
