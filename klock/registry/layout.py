"""An image as an OCI image layout (image-spec, image-layout.md): a folder, or an archive of one.

The archive can also be loaded by a docker that does not know layouts: it has the list that `docker save` writes, which
names the same files (moby, image/spec/spec.md). Equal images give equal folders and archives.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from klock.digests import Digest, canonical_json, digest_of_bytes, hex_of
from klock.errors import KlockError
from klock.layers import tar
from klock.oci.documents import OCI_MANIFEST
from klock.registry.made import TARGET, MadeImage

__all__ = ["refuse_output", "write_archive", "write_folder"]

_LAYOUT: Final = b'{"imageLayoutVersion":"1.0.0"}'
_REF_NAME: Final = "org.opencontainers.image.ref.name"
_IMAGE_NAME: Final = "io.containerd.image.name"
_CHUNK: Final = 1 << 20
_OTHER_ARCHIVES: Final = (".gz", ".tgz", ".zst", ".xz", ".bz2", ".zip", ".oci")


def refuse_output(output: Path) -> None:
    """Raises KlockError for a path that no layout can be written to, before anything is made."""
    if output.suffix == ".tar":
        if output.is_dir():
            raise KlockError(f"{output} is a folder", hint="name a file that ends in .tar, or another folder")
        if not output.parent.is_dir():
            raise KlockError(f"there is no folder {output.parent}", hint="make it, or name another file")
    elif output.suffix in _OTHER_ARCHIVES and not output.is_dir():
        raise KlockError(
            f"{output} is not a name that ends in .tar",
            hint=f"write {output.name.split('.', 1)[0]}.tar; its layers are compressed already",
        )
    elif output.exists() and not output.is_dir():
        raise KlockError(f"{output} is a file", hint="name a folder, or a file that ends in .tar")
    else:
        _refuse_other_folder(output)


def _refuse_other_folder(folder: Path) -> None:
    if folder.exists() and any(folder.iterdir()) and not (folder / "oci-layout").is_file():
        raise KlockError(
            f"{folder} is not empty, and no OCI layout", hint="name another folder, or a file that ends in .tar"
        )


def write_folder(image: MadeImage, folder: Path, *, name: str | None) -> None:
    """Writes a layout folder, or brings one that is there up to date. `name` is what the image is called there.

    Raises KlockError when the folder holds something else.
    """
    _refuse_other_folder(folder)
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True, exist_ok=True)
    wanted = dict(_blobs(image))
    for digest, content in wanted.items():
        _put(blobs / hex_of(digest), content)
    _put(folder / "oci-layout", _LAYOUT)
    _put(folder / "index.json", _index(image, name))
    for path in blobs.iterdir():
        if f"sha256:{path.name}" not in wanted:
            path.unlink()


def write_archive(image: MadeImage, file: Path, *, name: str | None) -> None:
    """Writes such a folder as one tar archive, in place of what is there."""
    docker = {
        "Config": _path(digest_of_bytes(image.config)),
        "RepoTags": [name] if name else None,
        "Layers": [_path(layer.digest) for layer in image.layers],
    }
    files: list[tuple[str, Path | bytes]] = [("oci-layout", _LAYOUT), ("index.json", _index(image, name))]
    files += [("manifest.json", canonical_json([docker]))]
    files += [(_path(digest), content) for digest, content in _blobs(image)]
    partial = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        with open(partial, "wb") as output:
            for folder in (b"blobs/", b"blobs/sha256/"):
                output.write(tar.Member(name=folder, kind=tar.FOLDER, mode=0o755).header())
            for path, content in files:
                size = len(content) if isinstance(content, bytes) else content.stat().st_size
                output.write(tar.Member(name=path.encode(), kind=tar.FILE, mode=0o644, size=size).header())
                for chunk in _chunks(content):
                    output.write(chunk)
                output.write(tar.padding(size))
            output.write(tar.END)
        partial.replace(file)
    finally:
        partial.unlink(missing_ok=True)


def _index(image: MadeImage, name: str | None) -> bytes:
    annotations = {TARGET: str(image.lock.target)}
    if name is not None:
        # The first is what skopeo and podman read, a tag or a whole name; the second is containerd's.
        annotations |= {_REF_NAME: name, _IMAGE_NAME: name}
    descriptor = {
        "mediaType": OCI_MANIFEST,
        "digest": image.digest,
        "size": len(image.manifest),
        "annotations": annotations,
    }
    return canonical_json({"schemaVersion": 2, "manifests": [descriptor]})


def _blobs(image: MadeImage) -> Iterator[tuple[Digest, Path | bytes]]:
    """Every blob once."""
    found: dict[Digest, Path | bytes] = {layer.digest: layer.path() for layer in image.layers}
    found[digest_of_bytes(image.config)] = image.config
    found[image.digest] = image.manifest
    yield from sorted(found.items())


def _path(digest: Digest) -> str:
    return f"blobs/sha256/{hex_of(digest)}"


def _put(path: Path, content: Path | bytes) -> None:
    """By one rename; a blob of the store that is there already with its size is left."""
    if isinstance(content, Path) and path.is_file() and path.stat().st_size == content.stat().st_size:
        return
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        if isinstance(content, bytes):
            partial.write_bytes(content)
        else:
            shutil.copyfile(content, partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _chunks(content: Path | bytes) -> Iterator[bytes]:
    if isinstance(content, bytes):
        yield content
        return
    with open(content, "rb") as file:
        while chunk := file.read(_CHUNK):
            yield chunk
