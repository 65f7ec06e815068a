"""The ready base images, which users know as `klock.images`: each is a fresh `Image`."""

from __future__ import annotations

import re
from collections.abc import Sequence

from klock.errors import ImageError
from klock.image.arguments import debian_packages
from klock.image.builder import Image
from klock.image.call_site import call_site
from klock.image.steps import DebianBase

__all__ = [
    "Debian",
    "Python310",
    "Python311",
    "Python312",
    "Pytorch2312",
    "Ray",
    "Ubuntu",
    "debian",
    "from_debian",
    "python",
    "pytorch",
    "ray",
    "ubuntu",
]


def debian() -> Image:
    """The default server image, on a minimal Debian."""
    return Image(name="debian", image_id="ghcr.io/run-house/server:v3")


def ubuntu() -> Image:
    """The server image on Ubuntu."""
    return Image(name="ubuntu", image_id="ghcr.io/run-house/ubuntu:v1")


def python(version: str) -> Image:
    """A slim Python image: `python("3.12")` is python:3.12-slim."""
    _check_tag("python", version)
    return Image(name=f"python{version.replace('.', '')}", image_id=f"python:{version}-slim")


def ray(version: str = "latest") -> Image:
    """A Ray image; without a version the latest one, which the lockfile then holds by its digest."""
    _check_tag("ray", version)
    return Image(name="ray" if version == "latest" else f"ray{version}", image_id=f"rayproject/ray:{version}")


def pytorch(version: str = "23.12-py3") -> Image:
    """NVIDIA's PyTorch image of that release."""
    _check_tag("pytorch", version)
    name = f"pytorch{version.replace('.', '').replace('-', '')}"
    return Image(name=name, image_id=f"nvcr.io/nvidia/pytorch:{version}")


def from_debian(suite: str, packages: Sequence[str] = ()) -> Image:
    """A base made from the Debian archive, for those without a registry: `from_debian("bookworm", ["python3"])`.

    It holds the packages Debian marks as essential, apt, and `packages` with what they depend on, each locked by hash.
    """
    if not isinstance(suite, str) or not re.fullmatch(r"[a-z][a-z0-9-]*", suite):
        raise ImageError(
            f"from_debian: {suite!r} is not the name of a Debian suite", hint="write for example 'bookworm'"
        )
    names = debian_packages("from_debian", packages, versions=False)
    return Image._on(DebianBase(suite=suite, packages=names, location=call_site()), name=suite)


def Python310() -> Image:  # noqa: N802
    """The image python:3.10-slim."""
    return python("3.10")


def Python311() -> Image:  # noqa: N802
    """The image python:3.11-slim."""
    return python("3.11")


def Python312() -> Image:  # noqa: N802
    """The image python:3.12-slim."""
    return python("3.12")


def Ray() -> Image:  # noqa: N802
    """The latest Ray image; the lockfile holds it by its digest."""
    return ray("latest")


def Pytorch2312() -> Image:  # noqa: N802
    """NVIDIA's PyTorch image of the release 23.12."""
    return pytorch("23.12-py3")


def Debian() -> Image:  # noqa: N802
    """The same as `debian`."""
    return debian()


def Ubuntu() -> Image:  # noqa: N802
    """The same as `ubuntu`."""
    return ubuntu()


def _check_tag(factory: str, version: object) -> None:
    if not isinstance(version, str):
        raise ImageError(f"images.{factory}: version is {version!r} (expected a string like '3.12')")
