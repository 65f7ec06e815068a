"""A vault in an object store keeps the contract of a vault in a folder: fsspec's own backends, and a real S3 server."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import fsspec
import pytest
import uv

from klock.digests import digest_of_bytes, hex_of
from klock.errors import HashMismatch, KlockError, StoreError
from klock.fetching.mirrors import Mirrors
from klock.vault import VaultFolder, open_vault
from klock.vault.inputs import Input
from klock.vault.protocol import Vault
from klock.vault.remote import RemoteVault

CONTENT = b"a wheel" * 1000
ITEM = Input(digest=digest_of_bytes(CONTENT), size=len(CONTENT), name="x-1.0-py3-none-any.whl")
PATH = f"blobs/sha256/{hex_of(ITEM.digest)[:2]}/{hex_of(ITEM.digest)}"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "source").write_bytes(CONTENT)
    return tmp_path / "source"


@pytest.fixture(
    params=["folder", "memory", "file", pytest.param("s3", marks=[pytest.mark.soak, pytest.mark.integration])]
)
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where an empty vault is."""
    if request.param == "s3":
        return f"{request.getfixturevalue('bucket')}/{uuid.uuid4().hex}"
    places = {"folder": str(tmp_path / "vault"), "memory": f"memory://{uuid.uuid4().hex}"}
    return places.get(request.param, f"file://{tmp_path}/remote")


@pytest.fixture
def vault(address: str) -> Vault:
    return VaultFolder(Path(address)) if "://" not in address else RemoteVault(address)


@pytest.fixture(scope="session")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A bucket of moto's server, from the package index: it has fifty packages, which nothing else here needs."""
    folder = tmp_path_factory.mktemp("moto")
    python = folder / "venv/bin/python"
    subprocess.run([uv.find_uv_bin(), "venv", "--quiet", "--python", sys.executable, folder / "venv"], check=True)
    packages = ["moto[s3]==5.2.5", "flask", "flask-cors"]
    subprocess.run([uv.find_uv_bin(), "pip", "install", "--quiet", "--python", python, *packages], check=True)
    script = (
        "from moto.server import ThreadedMotoServer as S; import sys; "
        "s = S(ip_address='127.0.0.1', port=0, verbose=False); s.start(); "
        "print(s.get_host_and_port()[1], flush=True); sys.stdin.read()"
    )
    server = subprocess.Popen([python, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    variables = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.stdout.readline().strip()}",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        fsspec.filesystem("s3").mkdir("vaults")
        yield "s3://vaults"
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
        server.communicate()


def damage(vault: Vault, content: bytes) -> None:
    """Puts other bytes under the blob's name."""
    if isinstance(vault, VaultFolder):
        (vault.root / PATH).write_bytes(content)
        return
    files, root = fsspec.core.url_to_fs(vault.name)
    files.pipe_file(f"{root.rstrip('/')}/{PATH}", content)
    files.invalidate_cache()


def test_what_was_put_is_there_and_comes_back(vault: Vault, source: Path) -> None:
    assert not vault.holds(ITEM)
    assert not vault.has_something(ITEM)
    vault.put(ITEM, source)
    assert vault.holds(ITEM)
    assert vault.holds(ITEM, verify=True)
    assert b"".join(vault.read(ITEM)) == CONTENT
    vault.remove_partial()
    vault.finish([ITEM])
    assert vault.holds(ITEM, verify=True)


def test_the_bytes_that_are_read_and_sent_are_counted(vault: Vault, source: Path) -> None:
    sent, read = list[int](), list[int]()
    vault.put(ITEM, source, count=sent.append)
    # fsspec's backend of local files copies without a word.
    assert sum(sent) == (0 if vault.name.startswith("file:") else ITEM.size)
    assert vault.holds(ITEM, verify=True, count=read.append)
    assert sum(read) == ITEM.size


@pytest.mark.parametrize(
    ("found", "by_size"),
    [(CONTENT[:-1], False), (b"", False), (CONTENT[::-1], True)],
    ids=["cut off", "empty", "poisoned"],
)
def test_damage_is_seen_and_put_right(vault: Vault, source: Path, found: bytes, by_size: bool) -> None:
    vault.put(ITEM, source)
    damage(vault, found)
    assert vault.holds(ITEM) is by_size
    assert not vault.holds(ITEM, verify=True)
    assert vault.has_something(ITEM)
    vault.put(ITEM, source)
    assert vault.holds(ITEM, verify=True)


def test_a_file_that_is_not_the_blob_is_not_put(vault: Vault, tmp_path: Path) -> None:
    (tmp_path / "wrong").write_bytes(CONTENT[::-1])
    with pytest.raises(HashMismatch, match=r"x-1\.0-py3-none-any\.whl: the store's file is not sha256:"):
        vault.put(ITEM, tmp_path / "wrong")
    assert not vault.has_something(ITEM)


WRONG = {
    "a web page": ("https://example.com/vault", "is not a folder, and no address of a vault"),
    "another machine": ("host.example:vault".replace("host", "me@host"), "is not a folder, and no address of a vault"),
    "a file's address": ("file:///srv/vault", "is not a folder, and no address of a vault"),
    "an unknown scheme": ("nonsense://x/y", "nonsense://x/y is not a vault's address: Protocol not known: nonsense"),
    "a backend that is not installed": ("abfs://x/y", "abfs://x/y cannot be read here: "),
    "a registry without a name": ("oci://registry.example.com", "is not the address of a repository"),
    "a registry with a tag": ("oci://registry.example.com/a:v1", "is not the address of a repository"),
}


@pytest.mark.parametrize("case", WRONG)
def test_an_address_that_is_none_is_refused(case: str) -> None:
    written, message = WRONG[case]
    with pytest.raises(KlockError) as caught:
        open_vault(written, mirrors=Mirrors(), writes=True)
    assert message in caught.value.message
    assert caught.value.hint


def test_a_credential_in_the_address_is_refused_and_not_repeated() -> None:
    with pytest.raises(StoreError) as caught:
        open_vault("s3://user:hunter2@bucket/x", mirrors=Mirrors(), writes=True)
    assert "hunter2" not in f"{caught.value.message} {caught.value.hint}"


def test_a_store_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    vault = RemoteVault("memory://nobody")

    def fail(*_: object) -> None:
        raise ValueError("the backend's own words")

    monkeypatch.setattr(vault._files, "info", fail)
    with pytest.raises(StoreError, match="cannot read the vault at memory://nobody: ValueError: the backend's own"):
        vault.holds(ITEM)


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    with pytest.raises(StoreError, match="needs the package fsspec") as caught:
        RemoteVault("s3://bucket/x")
    assert "extra 's3'" in (caught.value.hint or "")


def test_a_server_that_says_nothing_is_asked_six_times_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    s3fs = pytest.importorskip("s3fs")
    for name, value in {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_DEFAULT_REGION": "x"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("AWS_MAX_ATTEMPTS", raising=False)
    monkeypatch.setattr(s3fs.S3FileSystem, "read_timeout", 0.02)
    monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda *_: 0)
    # The kernel takes the connections, and nobody answers.
    with socket.create_server(("127.0.0.1", 0), backlog=16) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.getsockname()[1]}")
        with pytest.raises(StoreError, match=r"cannot read the vault at s3://b/f: .*timeout"):
            RemoteVault("s3://b/f").holds(ITEM)
        server.setblocking(False)
        asked = 0
        with suppress(BlockingIOError):
            while True:
                server.accept()[0].close()
                asked += 1
    assert asked == 6
