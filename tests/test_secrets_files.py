"""Files that are credentials are told by name or by what they hold, and treated as the user says."""

from __future__ import annotations

from pathlib import Path

import pytest

from klock.files.build_context import BuildContext
from klock.files.digest_cache import DigestCache
from klock.files.local import credentials_among, read_entries
from klock.image.builder import Image
from klock.lockfile.model import FilesLock
from klock.locking.draft import draft_steps
from klock.secrets.credential_files import FILES, CredentialFile, CredentialFiles, Treatment, credential_file
from klock.store import Store
from tests.test_stale import BASE

KEY = (
    b"-----BEGIN OPENSSH PRIVATE KEY-----\n"
    + b"b3BlbnNzaC1rZXktdjEAAAAABG5vbmU"
    + b"\n-----END OPENSSH PRIVATE KEY-----\n"
)

CREDENTIALS: dict[str, bytes] = {
    ".env": b"DEBUG=1\n",
    "deploy/.env.production": b"",
    "id_rsa": b"",
    "keys/id_ed25519": b"",
    "server.pem": KEY,
    "any.txt": b"# ours\n" + KEY,
    "rsa.key": b"-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\n" + b"A" * 64,
    "x.ppk": b"PuTTY-User-Key-File-2: ssh-rsa\n",
    "age.txt": b"# created\nAGE-SECRET-KEY-1" + b"Q" * 58,
    "me.asc": b"-----BEGIN PGP PRIVATE KEY BLOCK-----\n\n" + b"lQOYBF" * 10,
    ".npmrc": b"//registry.npmjs.org/:_authToken=npm_abcdef\n",
    ".yarnrc.yml": b'npmAuthToken: "abc"\n',
    ".pypirc": b"[pypi]\n",
    ".netrc": b"machine h login b password c\n",
    ".git-credentials": b"https://b:c@h\n",
    ".docker/config.json": b'{"auths": {"h": {"auth": "Yjpj"}}}',
    ".aws/credentials": b"[default]\n",
    ".kube/config": b"apiVersion: v1\n",
    "sa.json": b'{"type": "service_account", "private_key": "x"}',
    "pip.conf": b"[global]\nindex-url = https://b:c@h/simple\n",
    ".pgpass": b"h:1:d:b:c\n",
    "gh/hosts.yml": b"github.com:\n  oauth_token: x\n",
    "auth.json": b'{"http-basic": {"h": {}}}',
    ".m2/settings.xml": b"<server><password>c</password></server>",
}
ORDINARY: dict[str, bytes] = {
    ".env.example": b"DB_PASSWORD=\n",
    ".env.sample": b"",
    "environment.yml": b"",
    "prod.env.py": b"",
    "id_rsa.pub": b"ssh-rsa AAAA\n",
    "cacert.pem": b"-----BEGIN CERTIFICATE-----\n" + b"A" * 64,
    "keys.py": b'MARK = "-----BEGIN PRIVATE KEY-----"\n',
    "README.md": b"put `-----BEGIN RSA PRIVATE KEY-----` here\n",
    ".npmrc.d/x": b"",
    "web/.npmrc": b"registry=https://registry.npmjs.org/\n//h/:_authToken=${NPM_TOKEN}\n",
    "config.json": b'{"auths": {"h": {"auth": "Yjpj"}}}',
    "docker/.docker/config.json": b'{"credsStore": "pass"}',
    "credentials.py": b"",
    "secrets.toml.md": b"",
    "schema.json": b'{"type": "object"}',
    "token.py": b"token = None\n",
}


def write(folder: Path, files: dict[str, bytes]) -> Path:
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    return folder


def read(folder: Path, treatment: Treatment, filter_options: str | None = None, store: Store | None = None) -> set[str]:
    credentials = CredentialFiles(treatment=treatment)
    entries = read_entries(
        folder, root=folder.parent, filter_options=filter_options, where="x", store=store, credentials=credentials
    )
    files = {entry.path for entry in entries if entry.digest}
    if treatment is Treatment.LEAVE_OUT:
        assert files.isdisjoint(path for path, _ in credentials.found)
    else:
        assert sorted(credentials.found) == sorted(credentials_among(entries, folder)) or filter_options
    return {path for path, _ in credentials.found}


@pytest.mark.parametrize("treatment", Treatment)
def test_credentials_are_told_and_left_out_and_others_are_not(tmp_path: Path, treatment: Treatment) -> None:
    folder = write(tmp_path / "src", CREDENTIALS | ORDINARY)
    assert read(folder, treatment) == set(CREDENTIALS)


def test_an_unchanged_file_is_told_again_without_reading(tmp_path: Path) -> None:
    folder = write(tmp_path / "src", {"any.txt": KEY, "a": b"a"})
    cache = DigestCache(store=Store(tmp_path / "store"), key="k", clock=lambda: 1 << 62)
    for path in ("any.txt", "a"):
        cache.remember(path, (folder / path).stat(), "sha256:" + "0" * 64, "a private key" if path != "a" else "")
    cache.save()
    again = DigestCache(store=Store(tmp_path / "store"), key="k")
    assert again.find("any.txt", (folder / "any.txt").stat()) == ("sha256:" + "0" * 64, "a private key")
    assert again.find("a", (folder / "a").stat()) == ("sha256:" + "0" * 64, "")


def test_a_rule_of_the_user_decides(tmp_path: Path) -> None:
    folder = write(tmp_path / "src", {".env": b"", "id_rsa": b"", "a": b""})
    assert read(folder, Treatment.LEAVE_OUT, "--include=.env") == {"id_rsa"}
    assert read(folder, Treatment.WARN, "--include=.env --exclude=id_rsa") == set()


def draft(tmp_path: Path, treatment: Treatment, source: str) -> tuple[list[str], list[str]]:
    image = Image().from_docker("x")
    image.rsync(str(tmp_path / source), "/app")
    notes: list[str] = []
    (step,) = draft_steps(image.steps, root=tmp_path, base=BASE, environ={}, credential_files=treatment, notes=notes)
    assert isinstance(step, FilesLock)
    return [entry.path for entry in step.entries], notes


def test_what_the_user_is_told(tmp_path: Path) -> None:
    write(tmp_path / "src", {".env": b"", "a": b""})
    paths, (warning,) = draft(tmp_path, Treatment.WARN, "src")
    assert paths == [".env", "a"]
    assert "copies what looks like a credential: .env (variables of an application); credential-files" in warning
    paths, (note,) = draft(tmp_path, Treatment.LEAVE_OUT, "src")
    assert paths == ["a"]
    assert "leaves out what looks like a credential: .env (variables of an application)" in note
    assert draft(tmp_path, Treatment.ALLOW, "src") == ([".env", "a"], [])


def test_a_file_that_a_step_names_is_copied(tmp_path: Path) -> None:
    write(tmp_path / "src", {".env": b""})
    paths, notes = draft(tmp_path, Treatment.LEAVE_OUT, "src/.env")
    assert paths == [""] and "copies what looks like a credential" in notes[0]


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.words}: {file.names[0]}")
def test_every_entry_of_the_table_can_be_met(file: CredentialFile) -> None:
    samples = [(f"/h/{path}", content) for path, content in CREDENTIALS.items()]
    if file.holds is None:
        samples += [(f"/h/{name.replace('*', 'x')}", b"") for name in file.names]
    assert any(credential_file(path, content) == file.words for path, content in samples)
    assert not any(credential_file(f"/h/{name.replace('*', 'x')}", b"") for name in file.besides)


@pytest.mark.parametrize(("source", "names_it"), [(".env", True), ("./.env", True), (".en*", False), ("", False)])
def test_a_file_that_copy_names_with_its_parents_is_copied(tmp_path: Path, source: str, names_it: bool) -> None:
    folder = write(tmp_path / "src", {".env": b"", "a": b""})
    credentials = CredentialFiles(treatment=Treatment.LEAVE_OUT)
    context = BuildContext(folder=folder, where="Dockerfile:2", credentials=credentials)
    [found] = context.find_with_parents(source)
    assert (".env" in {entry.path for entry in found.entries}) is names_it
    assert credentials.found == [(".env", "variables of an application")]


@pytest.mark.parametrize(("source", "copies"), [(".env", True), (".en*", False), ("*", False), (".", False)])
def test_what_copy_says_of_a_credential_is_what_it_does(tmp_path: Path, source: str, copies: bool) -> None:
    """A wildcard does not name a file."""
    folder = write(tmp_path / "src", {".env": b"", "a": b""})
    credentials = CredentialFiles(treatment=Treatment.LEAVE_OUT)
    context = BuildContext(folder=folder, where="Dockerfile:2", credentials=credentials)
    found = {f"{each.path}/{entry.path}" for each in context.find(source) for entry in each.entries}
    assert bool(found & {".env/", "/.env"}) is copies
    [note] = credentials.notes("step 1")
    words = "copies" if copies else "leaves out"
    assert note.startswith(f"step 1 {words} what looks like a credential: .env (variables of an application)")
