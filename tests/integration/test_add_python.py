"""`add_python`: a real Python, of an archive as python-build-standalone makes them, in a base that has none.

The archive is made of the Python that runs the tests, and served where uv's mirror of these builds is said to be. Like
the real ones it says that it lies at /install and was built by clang.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import subprocess
import sys
import sysconfig
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import klock
from klock.lockfile.model import PythonLock
from klock.steps.python.contents import corrected
from klock.uv_program import uv_program
from tests.integration.registry_server import write_layout
from tests.integration.small_base import Member, write_small_base
from tests.integration.small_base import archive as archive_of

pytestmark = pytest.mark.integration

VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
LEFT_OUT = {
    "test",
    "idlelib",
    "tkinter",
    "ensurepip",
    "site-packages",
    "lib2to3",
    "__pycache__",
    "unittest",
    "pydoc_data",
}


def libraries_of(*programs: Path) -> list[Member]:
    """The host's C library, loader and what else they are linked with."""
    listed = subprocess.run(["ldd", *programs], capture_output=True, text=True, check=True).stdout
    names = set(re.findall(r"(?:^|\s)(/lib\S+) \(0x", listed))
    return [(f"0755:0:{name.lstrip('/')}", Path(name).read_bytes()) for name in sorted(names)]


HEAD = "# system configuration generated and used by the sysconfig module"
VARIABLES = f"python/lib/python{VERSION}/_sysconfigdata__linux_x86_64-linux-gnu.py"
PKG_CONFIG = f"python/lib/pkgconfig/python-{VERSION}.pc"


def what_it_says_of_its_build() -> dict[str, bytes]:
    """The variables of the Python that runs the tests, as if python-build-standalone had built it."""
    values = {
        name: value.replace(sys.base_prefix, "/install") if isinstance(value, str) else value
        for name, value in sysconfig.get_config_vars().items()
    }
    values |= {"CC": "clang -pthread", "LDSHARED": "clang -shared", "CXX": "clang++", "AR": "/tools/llvm/bin/llvm-ar"}
    values |= {"prefix": "/install", "LIBDIR": "/install/lib", "INCLUDEPY": f"/install/include/python{VERSION}"}
    return {
        VARIABLES: f"{HEAD}\nbuild_time_vars = {values!r}\n".encode(),
        PKG_CONFIG: b"# See: man pkg-config\nprefix=/install\nlibdir=${prefix}/lib\n\nName: Python\n",
    }


def add_bytes(tar: tarfile.TarFile, name: str, content: bytes, mode: int = 0o644) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(content), mode
    tar.addfile(member, io.BytesIO(content))


def write_tiny_python(archive: Path) -> None:
    """All that installing one looks at."""
    with tarfile.open(archive, "w:gz", compresslevel=1) as tar:
        add_bytes(tar, f"python/bin/python{VERSION}", b"\x7fELF", 0o755)
        link = tarfile.TarInfo("python/bin/python3")
        link.type, link.linkname = tarfile.SYMTYPE, f"python{VERSION}"
        tar.addfile(link)
        for name, content in what_it_says_of_its_build().items():
            add_bytes(tar, name, content)


def write_python(archive: Path) -> None:
    """`python/bin/python3`, its library and its modules, as in an archive of the kind `install_only`."""
    base = Path(sys.base_prefix)
    library = Path(sysconfig.get_path("stdlib"))
    shared = Path(sysconfig.get_config_var("LIBDIR")) / sysconfig.get_config_var("LDLIBRARY")
    with tarfile.open(archive, "w:gz", compresslevel=1) as tar:
        tar.add(base / f"bin/python{VERSION}", f"python/bin/python{VERSION}", recursive=False)
        link = tarfile.TarInfo("python/bin/python3")
        link.type, link.linkname = tarfile.SYMTYPE, f"python{VERSION}"
        tar.addfile(link)
        if ".so" in shared.name:
            tar.add(shared.resolve(), f"python/lib/{shared.resolve().name}")
        tar.add(
            library,
            f"python/lib/python{VERSION}",
            filter=lambda member: (
                None
                if LEFT_OUT & set(member.name.split("/")) or "config-" in member.name or "_sysconfigdata" in member.name
                else member
            ),
        )
        for name, content in what_it_says_of_its_build().items():
            add_bytes(tar, name, content)


@contextmanager
def mirror(archive: Path) -> Iterator[str]:
    """Gives the archive at any path, in a process of its own: klock forks."""
    script = (
        "import http.server, pathlib, sys\n"
        "content = pathlib.Path(sys.argv[1]).read_bytes()\n"
        "class Handler(http.server.BaseHTTPRequestHandler):\n"
        "    def do_GET(self):\n"
        "        self.send_response(200)\n"
        "        self.send_header('Content-Length', str(len(content)))\n"
        "        self.end_headers()\n"
        "        self.wfile.write(content)\n"
        "        print(self.path, flush=True)\n"
        "    def log_message(self, *words): pass\n"
        "server = http.server.HTTPServer(('127.0.0.1', 0), Handler)\n"
        "print(server.server_address[1], flush=True)\n"
        "server.serve_forever()\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script, archive], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
    finally:
        process.kill()
        process.communicate()


def test_a_base_without_python_gets_one(tmp_path: Path) -> None:
    python = Path(sys.base_prefix) / f"bin/python{VERSION}"
    extensions = Path(sysconfig.get_path("stdlib")) / "lib-dynload"
    used = [next(extensions.glob(f"{name}.*.so")) for name in ("_json", "zlib")]
    write_small_base(tmp_path / "layout", [*libraries_of(python, *used), ("tmp/", None)])
    write_python(tmp_path / "python.tar.gz")
    (tmp_path / "kimage.py").write_text(
        "import klock as kt\n"
        "image = kt.Image().from_docker('oci:./layout:image')\n"
        "image.set_env_vars({'LD_LIBRARY_PATH': '/opt/python/lib', 'PATH': '/before:$PATH'})\n"
        f"image.add_python('{VERSION}')\n"
        "image.run_bash('python3 -c \"import sys, sysconfig as s; print(sys.prefix, s.get_config_var(\\'LIBDIR\\'),"
        " s.get_config_var(\\'CC\\'))\" > /said')\n"
        "image.run_bash('echo $PATH >> /said')\n"
    )
    store = tmp_path / "store"
    with mirror(tmp_path / "python.tar.gz") as url:
        environ = {"UV_PYTHON_INSTALL_MIRROR": url}
        locked = klock.lock(tmp_path / "kimage.py", store=store, environ=environ).lockfile
    (target,) = locked.targets
    step = target.steps[1]
    assert isinstance(step, PythonLock)
    assert re.fullmatch(
        rf"https://.*/\d+/cpython-{VERSION}\.\d+.*-unknown-linux-gnu-install_only_stripped\.tar\.gz", step.url
    )
    assert step.found.startswith(f"{VERSION}."), "the newest of the two numbers"
    assert target.environment["PATH"].startswith("/opt/python/bin:/before:")
    # Offline, from what is stored.
    project = klock.Project(tmp_path / "kimage.py", store=store, environ={}, offline=True)
    assert not project.check().findings
    assert not project.lock().written
    project.sync()
    done = project.run(["/bin/cat", "/said"], capture_output=True)
    assert done.stdout.decode().splitlines() == [
        "/opt/python /opt/python/lib cc -pthread",
        target.environment["PATH"],
    ]


def test_it_says_where_it_lies_as_if_uv_had_installed_it(tmp_path: Path) -> None:
    archive, list_of_builds = tmp_path / "python.tar.gz", tmp_path / "builds.json"
    write_tiny_python(archive)
    major, minor = VERSION.split(".")
    build = {
        "name": "cpython", "arch": {"family": "x86_64", "variant": None}, "os": "linux", "libc": "gnu",
        "major": int(major), "minor": int(minor), "patch": 1, "prerelease": "", "url": archive.as_uri(),
        "sha256": hashlib.sha256(archive.read_bytes()).hexdigest(), "variant": None, "build": "20260101",
    }  # fmt: skip
    list_of_builds.write_text(json.dumps({f"cpython-{VERSION}.1-linux-x86_64-gnu": build}))
    options = [f"--python-downloads-json-url={list_of_builds}", f"--install-dir={tmp_path / 'pythons'}", "--no-bin"]
    environ = {**os.environ, "UV_CACHE_DIR": str(tmp_path / "cache")}
    command = [os.fspath(uv_program()), "python", "install", VERSION, *options]
    done = subprocess.run(command, env=environ, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    prefix = tmp_path / f"pythons/cpython-{VERSION}.1-linux-x86_64-gnu"
    says = what_it_says_of_its_build()
    ours: dict[str, dict[str, Any]] = {}
    uvs: dict[str, dict[str, Any]] = {}
    exec(corrected(VARIABLES, says[VARIABLES], prefix=str(prefix)), ours)
    exec((prefix / VARIABLES.removeprefix("python/")).read_bytes(), uvs)
    assert ours["build_time_vars"]["LIBDIR"] == f"{prefix}/lib"
    # uv makes one space of several.
    assert spaced(ours["build_time_vars"]) == spaced(uvs["build_time_vars"])
    ours_of_pkg_config = corrected(PKG_CONFIG, says[PKG_CONFIG], prefix=str(prefix))
    assert ours_of_pkg_config.splitlines() == (prefix / PKG_CONFIG.removeprefix("python/")).read_bytes().splitlines()


def spaced(values: dict[str, Any]) -> dict[str, Any]:
    return {name: " ".join(value.split()) if isinstance(value, str) else value for name, value in values.items()}


def test_a_platform_that_this_machine_is_not_gets_the_same_files(tmp_path: Path) -> None:
    tar = tmp_path / "base.tar"
    members: list[Member] = [("lib64/ld-linux-x86-64.so.2", b"\x7fELF"), ("lib/ld-linux-aarch64.so.1", b"\x7fELF")]
    tar.write_bytes(archive_of([("tmp/", None), ("etc/os-release", "x\n"), *members]))
    write_layout(tmp_path / "layout", {"linux/amd64": [tar], "linux/arm64": [tar]}, config={"Env": ["PATH=/bin"]})
    write_tiny_python(tmp_path / "python.tar.gz")
    (tmp_path / "pyproject.toml").write_text('[tool.klock]\ntargets = ["linux/amd64", "linux/arm64"]\n')
    (tmp_path / "kimage.py").write_text(
        f"import klock as kt\nimage = kt.Image().from_docker('oci:./layout:image').add_python('{VERSION}')\n"
    )
    with mirror(tmp_path / "python.tar.gz") as url:
        environ = {"UV_PYTHON_INSTALL_MIRROR": url}
        locked = klock.lock(tmp_path / "kimage.py", store=tmp_path / "store", environ=environ).lockfile
    (first,), (second,) = (target.steps for target in locked.targets)
    assert isinstance(first, PythonLock)
    assert isinstance(second, PythonLock)
    assert "x86_64" in first.url
    assert "aarch64" in second.url
    assert first.layer.files > 3
    assert first.layer == second.layer


REFUSED = {
    "a version that nobody built": ("3.99", "there is no build of Python 3.99 for x86_64 and gnu"),
    "a base without a C library": (VERSION, r"^step 1 \(kimage.py:3\): the base has no C library, which Python needs"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused(case: str, tmp_path: Path) -> None:
    version, message = REFUSED[case]
    members: list[Member] = [("lib64/ld-linux-x86-64.so.2", "x")] if version == "3.99" else []
    write_small_base(tmp_path / "layout", members)
    (tmp_path / "kimage.py").write_text(
        f"import klock as kt\nimage = kt.Image().from_docker('oci:./layout:image')\nimage.add_python('{version}')\n"
    )
    with pytest.raises(klock.KlockError, match=message):
        klock.lock(tmp_path / "kimage.py", store=tmp_path / "store", environ={})
