"""What strangers send, ten thousand times: each is read or refused in words, within bounds, and leads nowhere.

`make soak SEED=1` runs it; `FUZZ_TRIES=300 pytest -m soak tests/test_fuzz.py` runs a part. What it found
has a small test of its own elsewhere.
"""

from __future__ import annotations

import contextlib
import io
import ipaddress
import json
import random
import socket
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import pytest

from klock.connections import refuse_redirect
from klock.debian.dpkg_status import installed_packages
from klock.errors import FetchError, KlockError
from klock.escaping import on_one_line
from klock.fetching.transport import Response
from klock.layers.manifest import Manifest
from klock.layers.rewriting.git_index import without_stat_data
from klock.lockfile.model import InstallFolders, WheelArtifact
from klock.lockfile.reading import from_text
from klock.lockfile.writing import to_text
from klock.oci.authentication import Authentication, parse_challenges
from klock.oci.credentials import Credentials
from klock.oci.documents import parse_config, parse_manifest
from klock.packages.build_system import build_system_of_archive, read_build_system, read_static_metadata
from klock.packages.index_pages import _files_in_html, _projects_of
from klock.packages.records import paths_in_record
from klock.packages.scheme import Scheme
from klock.packages.wheel_layout import lay_out
from klock.packages.wheels import read_wheel_metadata, required_names
from klock.project import load_settings
from klock.proxies import is_loopback
from klock.steps import describe
from klock.store import Store
from klock.vault.inputs import inputs_of_all
from tests.fuzzing import TRIES, changed_bytes, fuzz

pytestmark = [pytest.mark.soak]

ODD_TEXTS: Final = [
    *(
        "",
        "\0",
        "\n",
        "../../x",
        "/etc/passwd",
        "a" * 5000,
        "\udcff",
        "\u202e",
        "${X}",
        "file:///etc/passwd",
        "ü",
        "\x1b[2J",
    ),
    *("sha256:" + "0" * 64, "linux/amd64/cpu", "-", "1e400", "http://[::1", "0" * 400),
]
ODD_TOML: Final = [
    *("[" * 600 + "]" * 600, "{a={b={}}}", "nan", "inf", "-1", "9" * 30, "9" * 5000, "true", "[]", "[[]]", '[["x"]]'),
    *(
        "{}",
        "1979-05-27T07:32:00Z",
        "07:32:00",
        '""',
        '"\\u0000"',
        '"\\ud800"',
        "'''x",
        '"a\\nb"',
        "[1, 'a', {}]",
        "1.5",
    ),
]


# -- making things


def changed_lines(text: str, r: random.Random, odd: list[str]) -> str:
    lines = text.splitlines()
    for _ in range(r.choice([1, 1, 2, 4])):
        at = r.randrange(len(lines))
        match r.randrange(7):
            case 0 | 1 | 2 if "=" in lines[at]:
                key, _, _ = lines[at].partition("=")
                lines[at] = f"{key}= {r.choice(odd)}"
            case 3:
                lines.insert(at, r.choice(lines))
            case 4:
                del lines[at]
                lines = lines or [""]
            case 5:
                begin = r.randrange(len(lines[at]) + 1)
                lines[at] = lines[at][:begin] + r.choice(['"', "[", "]", "{", "}", ",", "=", "#", "'", "\\", "\u2028"])
            case _:
                lines[at] = f"{r.choice(['x', 'kind', 'targets', 'name', 'mode', 'size'])} = {r.choice(odd)}"
    return "\n".join(lines) + "\n"


def changed_json(value: Any, r: random.Random) -> Any:
    """With some leaf or branch replaced."""
    odd: list[Any] = [None, True, -1, 10**30, 1e308, [], {}, [[]], {"a": []}, *ODD_TEXTS]
    if r.random() < 0.15 or not isinstance(value, dict | list) or not value:
        return r.choice(odd)
    if isinstance(value, dict):
        key = r.choice(sorted(value))
        return (
            {**value, key: changed_json(value[key], r)}
            if r.random() < 0.8
            else {k: v for k, v in value.items() if k != key}
        )
    at = r.randrange(len(value))
    return [*value[:at], changed_json(value[at], r), *value[at + 1 :]]


def as_json(value: Any, r: random.Random) -> bytes:
    text = json.dumps(value)
    for _ in range(r.choice([0, 0, 1, 3])):
        text = json.dumps(changed_json(json.loads(text), r))
    match r.randrange(12):
        case 0:
            text = text.replace(
                r.choice(["[", "{", '"', ":", ","]), r.choice(["[" * 2000, "", '"', "NaN", "1" * 5000]), 1
            )
        case 1:
            text = "[" * r.choice([10, 70, 1000, 100_000]) + text
        case 2:
            return changed_bytes(text.encode(), r)
    return text.encode("utf-8", "surrogatepass")


# -- lockfiles and settings


LOCKS: Final = [path.read_text(encoding="utf-8") for path in sorted(Path("fixtures/lockfile").rglob("*.lock"))] or [
    Path("kimage.lock").read_text(encoding="utf-8")
]


def test_lockfiles() -> None:
    def make(r: random.Random) -> str:
        text = r.choice(LOCKS)
        body, _, last = text.rpartition("# end of the lockfile")
        return changed_lines(body, r, ODD_TOML) + ("# end of the lockfile" + last if r.random() < 0.97 else "")

    def read(text: str) -> None:
        lock = from_text(text)
        to_text(lock).encode("utf-8")
        for step in lock.targets[0].steps:
            on_one_line(describe(step))
        for item in inputs_of_all(lock.targets):
            assert item.digest.startswith("sha256:")
        assert lock.targets[0].fingerprint

    fuzz(make, read)


def test_settings(tmp_path: Path) -> None:
    whole = (
        '[tool.klock]\nimage = "kimage.py:image"\ntargets = ["linux/amd64"]\nengine = "podman"\nindex-url = "https://h/s"\n'
        'debian-mirror = "http://h/d"\nlocal-hosts = ["a.internal"]\nregistry-mirrors = { "docker.io" = "http://h" }\n'
        'pytorch-indexes = { "cuda12.4" = "https://h/w" }\ncredential-files = "warn"\n'
    )

    def read(text: str) -> None:
        (tmp_path / "pyproject.toml").write_bytes(text.encode("utf-8", "surrogatepass"))
        load_settings(tmp_path)

    fuzz(lambda r: changed_lines(whole, r, ODD_TOML), read)


# -- registries


D: Final = "sha256:" + "1" * 64
MANIFEST: Final = {
    "schemaVersion": 2,
    "mediaType": "application/vnd.oci.image.manifest.v1+json",
    "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": D, "size": 3},
    "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": D, "size": 3}],
}
INDEX: Final = {
    "schemaVersion": 2,
    "mediaType": "application/vnd.oci.image.index.v1+json",
    "manifests": [
        {
            "mediaType": MANIFEST["mediaType"],
            "digest": D,
            "size": 3,
            "platform": {"os": "linux", "architecture": "arm64", "variant": "v8"},
        }
    ],
}
CONFIG: Final = {
    "os": "linux",
    "architecture": "amd64",
    "config": {"Env": ["PATH=/bin"], "WorkingDir": "/", "User": "0"},
    "rootfs": {"type": "layers", "diff_ids": [D]},
}


def test_manifests_and_configs() -> None:
    def make(r: random.Random) -> tuple[bool, bytes]:
        of = r.choice([MANIFEST, INDEX, CONFIG])
        return of is CONFIG, as_json(of, r)

    def read(made: tuple[bool, bytes]) -> None:
        is_config, content = made
        found = parse_config(content, name="h/x") if is_config else parse_manifest(content, media_type=None, name="h/x")
        repr(found).encode("utf-8")

    fuzz(make, read)


def test_tokens_and_challenges() -> None:
    @dataclass
    class Registry:
        body: bytes

        def get(self, url: str, headers: object, **_: object) -> Response:
            return Response(status=200, headers={}, challenges=(), body=self.body)

    class NoConfig:
        def find(self, name: str) -> Credentials | None:
            return None

    challenge = 'Bearer realm="https://h/token",service="h",scope="repository:x:pull"'

    def make(r: random.Random) -> tuple[str, bytes]:
        header = challenge if r.random() < 0.5 else changed_bytes(challenge.encode(), r).decode("latin-1")
        return header, as_json({"token": "abc", "access_token": "abc", "expires_in": 60}, r)

    def read(made: tuple[str, bytes]) -> None:
        header, body = made
        parse_challenges([header])
        asked = Authentication(Registry(body), name="h", repository="x", secure=True, config=NoConfig())  # type: ignore[arg-type]
        asked.answer([header], refused=None)

    fuzz(make, read)


HOSTS: Final = [
    *(
        "127.0.0.1",
        "localhost",
        "LOCALHOST",
        "a.localhost",
        "127.1",
        "0x7f.1",
        "2130706433",
        "017700000001",
        "0",
        "0.0.0.0",
    ),
    *(
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::]",
        "169.254.169.254",
        "[fe80::1]",
        "[fe80::1%25eth0]",
        "0xa9fea9fe",
        "10.0.0.1",
    ),
    *("h.example", "h.example.", "127.0.0.1.example", "user@127.0.0.1", "h.example:80", "127.0.0.1:80", "[::1]:80", ""),
]


def test_redirects() -> None:
    def make(r: random.Random) -> str:
        scheme = r.choice(["http:", "https:", "file:", "FILE:", "ftp:", "gopher:", "javascript:", "data:", ""])
        slashes = r.choice(["//", "//", "/", "", "///", "\\\\"])
        url = scheme + slashes + r.choice(HOSTS) + r.choice(["", "/x", "?a", "#b"])
        return url if r.random() < 0.8 else changed_bytes(url.encode(), r).decode("latin-1")

    def read(location: str) -> None:
        refuse_redirect("registry.example", location)
        parts = urlsplit(location)
        assert parts.scheme in ("", "http", "https")
        host = parts.hostname or ""
        assert not is_loopback(host)
        with contextlib.suppress(OSError, ValueError):
            address = ipaddress.ip_address(socket.inet_aton(host))
            assert not (address.is_loopback or address.is_link_local)

    fuzz(make, read)


def test_index_pages() -> None:
    page = '<html><a href="a-1.0-py3-none-any.whl#sha256=0">a</a><a href="https://h/b-1.0.tar.gz">b</a></html>'

    def read(text: str) -> None:
        _projects_of(file.name for file in _files_in_html(text, "http://h/simple/a/"))

    fuzz(lambda r: changed_bytes(page.encode(), r).decode("utf-8", "replace"), read)


# -- packages


def wheel(r: random.Random) -> bytes:
    metadata = (
        b"Metadata-Version: 2.1\nName: a\nVersion: 1.0\nRequires-Dist: b>=1 ; python_version > '3'\nProvides-Extra: x\n"
    )
    record = b"a/__init__.py,sha256=abc,5\na-1.0.dist-info/RECORD,,\n"
    points = b"[console_scripts]\na = a:main [x]\n"
    about = b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    files = {"METADATA": metadata, "RECORD": record, "entry_points.txt": points, "WHEEL": about}
    for name in r.sample(sorted(files), r.choice([0, 1, 2])):
        files[name] = changed_bytes(files[name], r)
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w", r.choice([0, 8, 12, 14])) as archive:
        archive.writestr("a/__init__.py", b"x = 1\n" * 20)
        for name, content in files.items():
            archive.writestr(f"a-1.0.dist-info/{name}", content)
    return changed_bytes(raw.getvalue(), r) if r.random() < 0.7 else raw.getvalue()


def test_wheels(tmp_path: Path) -> None:
    path = tmp_path / "wheel"
    folders = InstallFolders(purelib="/x", platlib="/x", scripts="/x", data="/x", headers="/x")
    scheme = Scheme(python="/usr/bin/python3", folders=folders, links={})
    artifact = WheelArtifact(name="a-1.0-py3-none-any.whl", url="", size=0, sha256="0" * 64)

    def read(content: bytes) -> None:
        path.write_bytes(content)
        with contextlib.suppress(FetchError):
            found = lay_out(path, artifact, scheme, root=None)
            assert all(name.startswith("x/") for name in found)
        metadata = read_wheel_metadata(path, "a-1.0-py3-none-any.whl")
        required_names(metadata.requires, markers={"python_version": "3.11"}, extras=metadata.extras)
        (metadata.name + metadata.version).encode("ascii")

    fuzz(wheel, read)


def test_source_distributions(tmp_path: Path) -> None:
    path = tmp_path / "sdist"
    pyproject = "[build-system]\nrequires = ['a']\nbuild-backend = 'b'\n"
    pyproject += "[project]\nname = 'c'\nversion = '1'\ndependencies = []\n"

    def make(r: random.Random) -> bytes:
        text = changed_lines(pyproject, r, ODD_TOML).encode("utf-8", "surrogatepass")
        raw = io.BytesIO()
        if r.random() < 0.3:
            with zipfile.ZipFile(raw, "w", r.choice([0, 8])) as archive:
                archive.writestr("c-1/pyproject.toml", text)
        else:
            mode: Any = r.choice(["w", "w:gz", "w:xz", "w:bz2"])
            with tarfile.open(fileobj=raw, mode=mode, format=r.choice([0, 1, 2])) as tar:
                member = tarfile.TarInfo("c-1/pyproject.toml")
                member.size = len(text)
                tar.addfile(member, io.BytesIO(text))
        return changed_bytes(raw.getvalue(), r) if r.random() < 0.6 else raw.getvalue()

    def read(content: bytes) -> None:
        path.write_bytes(content)
        build_system_of_archive(path, "c-1.tar.gz")

    fuzz(make, read)
    text = lambda r: changed_lines(pyproject, r, ODD_TOML).encode("utf-8", "surrogatepass")  # noqa: E731
    fuzz(
        text,
        lambda content: (read_build_system(content, where="c"), read_static_metadata(content, where="c")),
        tries=TRIES // 4,
    )


def test_small_files_of_others(tmp_path: Path) -> None:
    """Each is passed over or read; none of them is refused."""
    store = Store(tmp_path)
    record = store.record_path("k", "x")
    record.parent.mkdir(parents=True)
    status = b"Package: a\nStatus: install ok installed\nVersion: 1\nArchitecture: all\n\n" * 3
    index = (
        b"DIRC"
        + bytes([0, 0, 0, 2, 0, 0, 0, 1])
        + bytes(24)
        + b"\0\0\x81\xa4"
        + bytes(8)
        + bytes(24)
        + b"\0\1a\0"
        + bytes(8)
    )

    def read(made: tuple[int, bytes]) -> None:
        kind, content = made
        match kind:
            case 0:
                installed_packages(content)
            case 1:
                without_stat_data(content)
            case 2:
                assert all(path.startswith("/") for path in paths_in_record(content, "/x"))
            case 3:
                record.write_bytes(content)
                store.read_record("k", "x")
            case _:
                with contextlib.suppress(KlockError):
                    Manifest.from_bytes(content)

    def make(r: random.Random) -> tuple[int, bytes]:
        kind = r.randrange(5)
        line = b"klock-manifest 1\na file 0644 0:0 5 sha256:" + b"0" * 64 + b" -\n"
        whole = (status, index, b"a/b.py,sha256=x,5\n", b"", line)[kind]
        return kind, as_json({"a": [1, {"b": "c"}]}, r) if kind == 3 else changed_bytes(whole, r)

    fuzz(make, read)
