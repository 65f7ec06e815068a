"""The authority that certificates of a recorded step are signed with: made for one run, its keys in memory only.

Nothing that it signs may leave the sandbox, so each certificate can be recognised in any file: the serial number, which
starts at byte 15 of the DER form, begins with the authority's *marker*, 15 random bytes. As 15 is a multiple of 3, its
base64 stands whole in the first line of a PEM file; and the names in every certificate hold its hex.

Certificates are valid from 2000 to 2099, so that a step may be replayed with any clock (RFC 5280; TLS 1.2 and 1.3).
"""

from __future__ import annotations

import base64
import os
import re
import ssl
import threading
from collections import OrderedDict
from datetime import UTC, datetime
from ipaddress import ip_address
from itertools import count
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

__all__ = ["Authority"]

_NOT_BEFORE: Final = datetime(2000, 1, 1, tzinfo=UTC)
_NOT_AFTER: Final = datetime(2099, 12, 31, 23, 59, 59, tzinfo=UTC)
_MARKER_SIZE: Final = 15
_MARKER_OFFSET: Final = 15
_SERIAL_SIZE: Final = 20  # RFC 5280, 4.1.2.2: at most
_MOST_CONTEXTS: Final = 1024
_NAME: Final = re.compile(r"[a-z0-9_*-]{1,63}(?:\.[a-z0-9_*-]{1,63})*")


class Authority:
    """A certificate authority (EC P-256) and the TLS contexts of the hosts it stands for.

    `certificate` is what the step must trust (PEM). `traces` are the byte strings that give away a certificate of this
    authority in a file: as DER, as PEM, as text. Made before a fork, used after it by any number of threads.
    """

    certificate: bytes
    traces: tuple[bytes, ...]

    def __init__(self) -> None:
        from cryptography import x509
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

        # The first bit of a serial number is its sign, and a first byte of zero would be dropped.
        random = os.urandom(_MARKER_SIZE)
        self._marker = bytes([random[0] & 0x3F | 0x40]) + random[1:]
        self._serials = count(1)
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _common_name(f"klock authority {self._marker.hex()}")
        public = self._key.public_key()
        self._key_id = x509.AuthorityKeyIdentifier.from_issuer_public_key(public)
        certificate = self._sign(
            self._name,
            public,
            (x509.BasicConstraints(ca=True, path_length=0), True),
            (_key_usage(signs_certificates=True), True),
            (x509.SubjectKeyIdentifier.from_public_key(public), False),
        )
        self.certificate = certificate.public_bytes(Encoding.PEM)
        self.traces = _traces(self._marker)

        # One key for all hosts: making one takes as long as signing ten certificates.
        host_key = ec.generate_private_key(ec.SECP256R1())
        self._host_key = host_key.public_key()
        self._host_key_pem = host_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        self._contexts: OrderedDict[str, ssl.SSLContext] = OrderedDict()
        self._lock = threading.Lock()

    def context(self, name: str) -> ssl.SSLContext:
        """The server side of TLS for a host name or an IP address, HTTP/1.1 only.

        Raises ValueError for a name that no host can have.
        """
        name = name.lower().removesuffix(".")
        with self._lock:
            context = self._contexts.get(name)
            if context is None:
                context = self._contexts[name] = self._make_context(name)
                if len(self._contexts) > _MOST_CONTEXTS:
                    self._contexts.popitem(last=False)
            else:
                self._contexts.move_to_end(name)
            return context

    def _make_context(self, name: str) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        # A client that hangs up early would answer the tickets with a reset, and the last bytes might be lost.
        context.options |= ssl.OP_NO_TICKET
        context.num_tickets = 0
        # load_cert_chain takes a path only. This one is a file in memory, which no other process can open by a name.
        descriptor = os.memfd_create("certificate", os.MFD_CLOEXEC)
        try:
            with open(descriptor, "wb", closefd=False) as file:
                file.write(self._certificate_for(name) + self._host_key_pem)
            context.load_cert_chain(f"/proc/self/fd/{descriptor}")
        finally:
            os.close(descriptor)
        return context

    def _certificate_for(self, name: str) -> bytes:
        from cryptography import x509
        from cryptography.hazmat.primitives.serialization import Encoding
        from cryptography.x509.oid import ExtendedKeyUsageOID

        certificate = self._sign(
            _common_name(f"klock host {self._marker.hex()}"),
            self._host_key,
            (x509.SubjectAlternativeName([_general_name(name)]), False),
            (x509.BasicConstraints(ca=False, path_length=None), True),
            (_key_usage(signs_certificates=False), True),
            (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False),
            (x509.SubjectKeyIdentifier.from_public_key(self._host_key), False),
            (self._key_id, False),
        )
        return certificate.public_bytes(Encoding.PEM)

    def _sign(
        self, subject: x509.Name, key: EllipticCurvePublicKey, *extensions: tuple[x509.ExtensionType, bool]
    ) -> x509.Certificate:
        from cryptography import x509
        from cryptography.hazmat.primitives.hashes import SHA256
        from cryptography.hazmat.primitives.serialization import Encoding

        own = next(self._serials).to_bytes(_SERIAL_SIZE - _MARKER_SIZE, "big")
        builder = x509.CertificateBuilder(
            issuer_name=self._name,
            subject_name=subject,
            public_key=key,
            serial_number=int.from_bytes(self._marker + own, "big"),
            not_valid_before=_NOT_BEFORE,
            not_valid_after=_NOT_AFTER,
        )
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical)
        certificate = builder.sign(self._key, SHA256())
        offset = certificate.public_bytes(Encoding.DER).find(self._marker)
        if offset != _MARKER_OFFSET:
            raise AssertionError(f"the marker of a certificate is at byte {offset}, where PEM would hide it")
        return certificate


def _traces(marker: bytes) -> tuple[bytes, ...]:
    digits = marker.hex()
    pairs = marker.hex(":")
    texts = (digits, digits.upper(), pairs, pairs.upper())
    return (marker, base64.b64encode(marker), *(text.encode("ascii") for text in texts))


def _common_name(text: str) -> x509.Name:
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _general_name(name: str) -> x509.GeneralName:
    from cryptography import x509

    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        pass
    if len(name) > 253 or _NAME.fullmatch(name) is None:
        raise ValueError(f"not a host name: {name[:300]!r}")
    return x509.DNSName(name)


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    from cryptography import x509

    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
