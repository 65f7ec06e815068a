"""Base images ready to use, each a fresh `Image` to build on: `klock.images.Python312().pip_install(["numpy"])`."""

from __future__ import annotations

from klock.image.ready import (
    Debian,
    Python310,
    Python311,
    Python312,
    Pytorch2312,
    Ray,
    Ubuntu,
    debian,
    from_debian,
    python,
    pytorch,
    ray,
    ubuntu,
)

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
