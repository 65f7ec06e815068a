"""`add_python`: a real Python, of an archive as python-build-standalone makes them, in a base that has none.

The archive is made of the Python that runs the tests, and served where uv's mirror of these builds is said to be.
"""

from __future__ import annotations

import re
import subprocess
import sys
import sysconfig
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import klock
from klock.lockfile.model import PythonLock
from tests.integration.small_base import Member, write_small_base

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
                None if LEFT_OUT & set(member.name.split("/")) or "config-" in member.name else member
            ),
        )


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
        "image.run_bash('python3 -c \"import json, sys; print(json.dumps(sys.prefix))\" > /said')\n"
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
    assert done.stdout.decode().splitlines() == ['"/opt/python"', target.environment["PATH"]]


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
