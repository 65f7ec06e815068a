"""Signatures on a lockfile: who vouches for it, so that a changed one is refused before anything of it is used.

A signature is a DSSE envelope (secure-systems-lab/dsse, envelope.md) around an in-toto Statement v1 whose one subject
is the lockfile by its SHA-256. It lies beside the lockfile, as `kimage.lock.sig`. Keys are ed25519, in PEM files as
`openssl genpkey` writes them (PKCS #8, RFC 8410).
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from klock.digests import digest_of_bytes, hex_of
from klock.documents import read_json
from klock.errors import KlockError
from klock.extras import missing_extra_hint

if TYPE_CHECKING:
    from securesystemslib.dsse import Envelope
    from securesystemslib.signer import Key

__all__ = ["PASSPHRASE", "make_key", "open_envelope", "sign", "sign_statement", "signature_path", "verify"]

PASSPHRASE: Final = "KLOCK_SIGNING_PASSPHRASE"
"""The variable with the passphrase of an encrypted private key."""

_PAYLOAD: Final = "application/vnd.in-toto+json"
_STATEMENT: Final = "https://in-toto.io/Statement/v1"
_PREDICATE: Final = "urn:klock:lockfile:v1"
_LARGEST: Final = 100 << 20
_MAKE_A_KEY: Final = "make a pair of keys: klock sign --make-key FILE"
_SIGN_IT: Final = "sign it: klock sign --key FILE"


def signature_path(lockfile: Path) -> Path:
    return lockfile.with_name(f"{lockfile.name}.sig")


def make_key(path: Path) -> tuple[Path, str]:
    """Writes a new private key, which only its owner may read, and beside it the public one: `PATH.pub`.

    Returns that path and the public key's id. Raises KlockError when one of the files is there already.
    """
    _need_the_extra()
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    public_path = path.with_name(f"{path.name}.pub")
    for taken in (path, public_path):
        if taken.exists():
            raise KlockError(
                f"{taken} is there already", hint="name another file: nobody can restore a key that was overwritten"
            )
    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(private)
    public_path.write_bytes(
        key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    return public_path, read_public_key(public_path).keyid


def sign(lockfile: Path, key: Path, environ: Mapping[str, str]) -> str:
    """Adds a signature to the lockfile's, and returns the id of the key. Signatures of an older lockfile go.

    Raises KlockError for a key that cannot be read, and when there is no lockfile.
    """
    _need_the_extra()
    from securesystemslib.dsse import Envelope
    from securesystemslib.signer import CryptoSigner

    signer = CryptoSigner(_read_private_key(key, environ))
    payload = _statement(lockfile)
    path = signature_path(lockfile)
    envelope = _read_envelope(path) if path.exists() else None
    if envelope is None or envelope.payload != payload:
        envelope = Envelope(payload, _PAYLOAD, {})
    keyid = envelope.sign(signer).keyid
    text = json.dumps(envelope.to_dict(), indent=2, sort_keys=True) + "\n"
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        partial.write_text(text, "utf-8")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return str(keyid)


def verify(lockfile: Path, keys: Sequence[Path]) -> str:
    """The id of the key among `keys` that signed the lockfile as it is now. Uses no network.

    Raises KlockError when none did, with what is there instead.
    """
    _need_the_extra()
    from securesystemslib.exceptions import VerificationError

    path = signature_path(lockfile)
    if not path.exists():
        raise KlockError(f"{lockfile.name} is not signed: there is no {path.name}", hint=_SIGN_IT)
    trusted = [read_public_key(key) for key in keys]
    envelope = _read_envelope(path)
    if envelope.payload_type != _PAYLOAD or envelope.payload != _statement(lockfile):
        raise KlockError(
            f"{path.name} is not the signature of {lockfile.name} as it is now",
            hint="read what changed (git log -p), then sign it again: klock sign --key FILE",
        )
    try:
        (keyid,) = envelope.verify(trusted, 1)
    except VerificationError as error:
        signers = ", ".join(sorted(map(str, envelope.signatures))) or "nobody"
        raise KlockError(
            f"no trusted key signed {lockfile.name}: it is signed by {signers}",
            hint="have it signed with a trusted key, or trust the key that signed it",
        ) from error
    return str(keyid)


def sign_statement(payload: bytes, key: Path, environ: Mapping[str, str]) -> bytes:
    """A DSSE envelope around an in-toto Statement, as JSON. Raises KlockError for a key that cannot be read."""
    _need_the_extra()
    from securesystemslib.dsse import Envelope
    from securesystemslib.signer import CryptoSigner

    envelope = Envelope(payload, _PAYLOAD, {})
    envelope.sign(CryptoSigner(_read_private_key(key, environ)))
    return json.dumps(envelope.to_dict(), sort_keys=True, separators=(",", ":")).encode("utf-8")


def open_envelope(envelope: bytes, keys: Sequence[Path]) -> tuple[bytes, str]:
    """The statement in an envelope, and the id of the key among `keys` that signed it. Raises KlockError."""
    _need_the_extra()
    from securesystemslib.dsse import Envelope
    from securesystemslib.exceptions import FormatError, VerificationError

    trusted = [read_public_key(key) for key in keys]
    try:
        opened = Envelope.from_dict(read_json(envelope))
        (keyid,) = opened.verify(trusted, 1)
    except VerificationError:
        raise KlockError("no trusted key signed it") from None
    except (ValueError, KeyError, TypeError, AttributeError, FormatError):
        raise KlockError("it is not a signature that klock can read") from None
    if opened.payload_type != _PAYLOAD:
        raise KlockError("it is signed, but no in-toto statement")
    return bytes(opened.payload), str(keyid)


def read_public_key(path: Path) -> Key:
    """An ed25519 key (PEM, SubjectPublicKeyInfo). Raises KlockError."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key
    from securesystemslib.signer import SSlibKey

    try:
        key = load_pem_public_key(_bytes_of(path))
    except (ValueError, UnsupportedAlgorithm) as error:
        raise KlockError(f"{path} is not a public key in PEM form", hint=_MAKE_A_KEY) from error
    if not isinstance(key, Ed25519PublicKey):
        raise KlockError(f"{path} is not an ed25519 key", hint=_MAKE_A_KEY)
    return SSlibKey.from_crypto(key)


def _read_private_key(path: Path, environ: Mapping[str, str]) -> Any:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    passphrase = environ.get(PASSPHRASE)
    content = _bytes_of(path)
    is_encrypted = b"ENCRYPTED" in content
    try:
        key = load_pem_private_key(content, passphrase.encode() if passphrase and is_encrypted else None)
    except TypeError:
        raise KlockError(f"{path} is encrypted", hint=f"set {PASSPHRASE} to its passphrase") from None
    except (ValueError, UnsupportedAlgorithm):
        # What the library says may quote the key.
        what = "cannot be decrypted" if is_encrypted else "is not a private key in PEM form"
        raise KlockError(f"{path} {what}", hint=_MAKE_A_KEY) from None
    if not isinstance(key, Ed25519PrivateKey):
        raise KlockError(f"{path} is not an ed25519 key", hint=_MAKE_A_KEY)
    return key


def _statement(lockfile: Path) -> bytes:
    """The in-toto Statement of the lockfile as it is now, always in the same bytes."""
    subject = {"name": lockfile.name, "digest": {"sha256": hex_of(digest_of_bytes(_bytes_of(lockfile)))}}
    statement = {"_type": _STATEMENT, "subject": [subject], "predicateType": _PREDICATE, "predicate": {}}
    return json.dumps(statement, sort_keys=True, separators=(",", ":")).encode("utf-8")


def _read_envelope(path: Path) -> Envelope:
    from securesystemslib.dsse import Envelope
    from securesystemslib.exceptions import FormatError

    try:
        return Envelope.from_dict(read_json(_bytes_of(path)))
    except (ValueError, KeyError, TypeError, AttributeError, FormatError) as error:
        raise KlockError(f"{path} is not a signature that klock can read", hint=_SIGN_IT) from error


def _bytes_of(path: Path) -> bytes:
    try:
        with open(path, "rb") as file:
            content = file.read(_LARGEST + 1)
    except OSError as error:
        raise KlockError(
            f"cannot read {path}: {error.strerror}", hint=f"name another file, or {_MAKE_A_KEY}"
        ) from error
    if len(content) > _LARGEST:
        raise KlockError(f"{path} is larger than 100 MiB")
    return content


def _need_the_extra() -> None:
    try:
        import securesystemslib.dsse
    except ImportError as error:
        raise KlockError("signatures need the package securesystemslib", hint=missing_extra_hint("sign")) from error
    assert securesystemslib.dsse
