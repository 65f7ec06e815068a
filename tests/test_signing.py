"""`klock sign` and `klock verify`: a lockfile that nobody vouches for is refused where the settings ask for it."""

from __future__ import annotations

import json
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from klock.api import Project
from klock.commands.line import klock
from klock.errors import KlockError

ROOT = Path(__file__).parent.parent
IMAGE = 'import klock as kt\n\nimage = kt.Image().from_docker("python:3.12")\n'


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a lockfile, and two pairs of keys; `ours.pub` is trusted."""
    shutil.copy(ROOT / "fixtures/lockfile/small.lock", tmp_path / "kimage.lock")
    (tmp_path / "kimage.py").write_text(IMAGE)
    monkeypatch.chdir(tmp_path)
    run("sign", "--make-key", "ours")
    run("sign", "--make-key", "theirs")
    (tmp_path / "pyproject.toml").write_text('[tool.klock]\ntrusted-keys = ["ours.pub"]\n')
    return tmp_path


def run(*arguments: str) -> None:
    assert klock.main(args=list(arguments), prog_name="klock", standalone_mode=False) == 0


def error_of(call: Callable[[], object]) -> str:
    with pytest.raises(KlockError) as caught:
        call()
    return caught.value.message


def frozen() -> None:
    """What `klock sync --frozen`, `run --frozen` and `export --frozen` do first."""
    made = Project()
    made.refuse(made.session.read_lockfile(), frozen=True)


def test_a_signed_lockfile_is_accepted(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("sign", "--key", "ours")
    run("verify")
    frozen()
    assert "kimage.lock is signed, key " in capsys.readouterr().err


def test_a_private_key_is_for_its_owner_and_no_key_is_overwritten(project: Path) -> None:
    assert stat.S_IMODE((project / "ours").stat().st_mode) == 0o600
    before = (project / "ours").read_bytes()
    assert error_of(lambda: run("sign", "--make-key", "ours")) == "ours is there already"
    assert (project / "ours").read_bytes() == before


def change_the_lockfile(project: Path) -> None:
    path = project / "kimage.lock"
    path.write_text(path.read_text().replace("# end of", "# changed\n# end of"))


def sign_with_another_key(project: Path) -> None:
    (project / "kimage.lock.sig").unlink()
    run("sign", "--key", "theirs")


def claim_the_trusted_key(project: Path) -> None:
    """The signature of another key under the trusted key's id."""
    path = project / "kimage.lock.sig"
    ours = json.loads(path.read_text())["signatures"][0]["keyid"]
    sign_with_another_key(project)
    envelope = json.loads(path.read_text())
    envelope["signatures"][0]["keyid"] = ours
    path.write_text(json.dumps(envelope))


def state_another_payload_type(project: Path) -> None:
    path = project / "kimage.lock.sig"
    path.write_text(path.read_text().replace("application/vnd.in-toto+json", "text/plain"))


REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "no signature": (lambda project: (project / "kimage.lock.sig").unlink(), "kimage.lock is not signed"),
    "a changed lockfile": (change_the_lockfile, "kimage.lock.sig is not the signature of kimage.lock as it is now"),
    "another key": (sign_with_another_key, "no trusted key signed kimage.lock: it is signed by "),
    "another key under the trusted one's id": (claim_the_trusted_key, "no trusted key signed kimage.lock"),
    "another payload type": (state_another_payload_type, "kimage.lock.sig is not the signature of kimage.lock"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_lockfile_is_refused_with(case: str, project: Path) -> None:
    run("sign", "--key", "ours")
    spoil, message = REFUSED[case]
    spoil(project)
    for call in (frozen, lambda: run("verify")):
        assert error_of(call).startswith(message)


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", "1", '{"payload": 1}', "[" * 100_000, "\0", '"' + "x" * 100])
def test_what_is_no_signature_is_said_so(text: str, project: Path) -> None:
    (project / "kimage.lock.sig").write_text(text)
    assert error_of(lambda: run("verify")).endswith("kimage.lock.sig is not a signature that klock can read")


def test_several_people_sign(project: Path) -> None:
    run("sign", "--key", "theirs")
    run("sign", "--key", "ours")
    frozen()
    run("verify", "--key", "theirs.pub")
    assert len(json.loads((project / "kimage.lock.sig").read_text())["signatures"]) == 2


def test_who_signs_a_changed_lockfile_vouches_alone(project: Path) -> None:
    run("sign", "--key", "theirs")
    change_the_lockfile(project)
    run("sign", "--key", "ours")
    assert len(json.loads((project / "kimage.lock.sig").read_text())["signatures"]) == 1


def test_without_trusted_keys_nobody_has_to_sign(project: Path) -> None:
    (project / "pyproject.toml").unlink()
    frozen()
    with pytest.raises(click.UsageError, match="name a key to trust"):
        run("verify")


def test_other_peoples_keys_are_taken_encrypted_ones_with_their_passphrase(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_key(Path("theirs"), Ed25519PrivateKey.generate(), passphrase=b"hunter2")
    assert error_of(lambda: run("sign", "--key", "theirs")) == "theirs is encrypted"
    monkeypatch.setenv("KLOCK_SIGNING_PASSPHRASE", "wrong")
    assert error_of(lambda: run("sign", "--key", "theirs")) == "theirs cannot be decrypted"
    monkeypatch.setenv("KLOCK_SIGNING_PASSPHRASE", "hunter2")
    run("sign", "--key", "theirs")
    run("verify", "--key", "theirs.pub")
    run("sign", "--key", "ours")


def test_what_is_no_key_is_said_so(project: Path) -> None:
    write_key(Path("rsa"), generate_private_key(65537, 2048))
    assert error_of(lambda: run("sign", "--key", "rsa")) == "rsa is not an ed25519 key"
    assert error_of(lambda: run("sign", "--key", "ours.pub")) == "ours.pub is not a private key in PEM form"
    assert error_of(lambda: run("sign", "--key", "nowhere")) == "cannot read nowhere: No such file or directory"
    run("sign", "--key", "ours")
    assert error_of(lambda: run("verify", "--key", "rsa.pub")) == "rsa.pub is not an ed25519 key"
    assert error_of(lambda: run("verify", "--key", "ours")) == "ours is not a public key in PEM form"


def write_key(path: Path, key: Ed25519PrivateKey | RSAPrivateKey, *, passphrase: bytes | None = None) -> None:
    """In the files that `openssl genpkey` and `openssl pkey -pubout` write."""
    encryption = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    path.with_name(f"{path.name}.pub").write_bytes(public)


def test_a_trusted_key_must_be_there(project: Path) -> None:
    (project / "ours.pub").unlink()
    assert "tool.klock.trusted-keys[0] is 'ours.pub': there is no such file" in error_of(frozen)
