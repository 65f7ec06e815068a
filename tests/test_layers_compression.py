"""Compressed layers: equal bytes for equal archives, for ever, or none at all."""

from __future__ import annotations

import gzip
import io
import sys
import threading
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from klock.digests import digest_of_bytes
from klock.errors import KlockError
from klock.layers import compression
from klock.layers.compression import COMPRESSIONS, Compressed, Compression, compression_named
from klock.layers.decompression import decompressed

GZIP, ZSTD, NONE = COMPRESSIONS
PIECE = 4 << 20


def compressed(plain: bytes, by: Compression) -> bytes:
    return b"".join(Compressed(io.BytesIO(plain), by))


def noise(size: int) -> bytes:
    """The same bytes everywhere, which hardly compress."""
    blocks = (digest_of_bytes(b"%d" % number).encode() for number in range(size // 71 + 1))
    return b"".join(blocks)[:size]


LOCKED = {
    # What lockfiles and registries have: another digest here is another rule.
    "gzip-1": "sha256:2adfffb655fc93700257b235021ae3be0f4cc0eae676cc9a4bfc82896531d28e",
    "zstd-1": "sha256:d14f2bb050a5a2547c7315a0956cb31ec079eacc6eeb7cc9a589abde60902536",
    "none": "sha256:5693635a06aef52a30f7e91669de2d5adb116e80dd89fb3ab13dd407776116f6",
}


@pytest.mark.parametrize("by", COMPRESSIONS, ids=lambda by: by.rule)
def test_the_bytes_of_a_rule_never_change(by: Compression) -> None:
    assert digest_of_bytes(compressed(noise(PIECE + 100_000), by)) == LOCKED[by.rule]


@pytest.mark.parametrize("by", COMPRESSIONS, ids=lambda by: by.rule)
@given(
    name=st.binary(min_size=100, max_size=100), plain=st.binary(max_size=3000), repeats=st.sampled_from([1, 7, 3000])
)
@settings(max_examples=20, deadline=None)
def test_it_is_read_back_as_it_was(by: Compression, name: bytes, plain: bytes, repeats: int) -> None:
    """Whatever the first name in the archive is."""
    content = name + bytes(157) + b"ustar" + plain * repeats
    with decompressed(io.BytesIO(compressed(content, by)), by.media_type, "test") as stream:
        assert b"".join(iter(lambda: stream.read(1 << 16), b"")) == content


LABELS = [
    *(by.media_type for by in COMPRESSIONS),
    "application/vnd.docker.image.rootfs.diff.tar.gzip",
    "application/vnd.docker.image.rootfs.diff.tar.zstd",
]


@pytest.mark.parametrize("label", LABELS)
@pytest.mark.parametrize("by", COMPRESSIONS, ids=lambda by: by.rule)
def test_a_layer_s_bytes_say_how_it_is_compressed(by: Compression, label: str) -> None:
    """Some programs that copy images compress anew and leave the media type as it was."""
    content = noise(300)
    with decompressed(io.BytesIO(compressed(content, by)), label, "test") as stream:
        assert stream.read(2) + b"".join(iter(lambda: stream.read(7), b"")) == content


def test_a_zstd_archive_may_begin_with_a_frame_to_skip() -> None:
    skipped = b"\x5a\x2a\x4d\x18" + (5).to_bytes(4, "little") + b"table"
    archive = io.BytesIO(skipped + compressed(b"content", COMPRESSIONS[1]) + skipped)
    with decompressed(archive, "layer.v1.tar+zstd", "test") as stream:
        assert stream.read(99) + stream.read(99) == b"content"


def test_others_read_many_members_as_one_file() -> None:
    content = noise(2 * PIECE + 1)
    assert gzip.decompress(compressed(content, GZIP)) == content


def test_the_digest_of_the_plain_archive_is_known_at_the_end_and_no_thread_is_left() -> None:
    content = noise(PIECE + 1)
    chunks = Compressed(io.BytesIO(content), GZIP)
    assert b"".join(chunks)
    assert chunks.plain_digest == digest_of_bytes(content)
    assert [t.name for t in threading.enumerate() if t.name.startswith("klock-compress")] == []


def test_whoever_stops_early_leaves_no_thread() -> None:
    chunks = iter(Compressed(io.BytesIO(noise(3 * PIECE)), GZIP))
    next(chunks)
    chunks.close()  # type: ignore[attr-defined]
    assert [t.name for t in threading.enumerate() if t.name.startswith("klock-compress")] == []


@pytest.fixture
def forgetful() -> Any:
    """The compressors are asked anew who they are, before and after."""
    compression._compressor.cache_clear()
    yield
    compression._compressor.cache_clear()


@pytest.mark.usefixtures("forgetful")
def test_a_compressor_that_makes_other_bytes_is_refused_whatever_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as a package linked to another libdeflate: what it makes unpacks well, and has another digest."""
    other = SimpleNamespace(gzip_compress=lambda piece, level: gzip.compress(piece, level, mtime=0))
    monkeypatch.setitem(sys.modules, "deflate", other)
    with pytest.raises(KlockError, match="the package deflate of this machine compresses in another way than gzip-1"):
        compressed(b"", GZIP)


@pytest.mark.usefixtures("forgetful")
def test_without_the_compressor_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "deflate", None)
    with pytest.raises(KlockError, match="gzip needs the package deflate") as caught:
        compressed(b"x", GZIP)
    assert "extra 'push'" in (caught.value.hint or "")
    assert compressed(b"x", NONE) == b"x"


def test_a_rule_of_a_newer_klock_is_named() -> None:
    assert compression_named("gzip-1") is compression_named("gzip") is GZIP
    with pytest.raises(KlockError, match="no compression 'gzip-2'") as caught:
        compression_named("gzip-2")
    assert "gzip-1, zstd-1, none" in (caught.value.hint or "")
