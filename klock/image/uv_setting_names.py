"""uv's settings by what becomes of them where klock takes over a project: followed, said to have no effect, or of no
matter for packages. A setting of `pip` that has no other name is `pip.NAME`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

__all__ = [
    "CHANGES_NO_PACKAGE",
    "CHOICES",
    "DEPENDENCIES",
    "FOLLOWED",
    "OF_AN_INDEX",
    "OF_ONE_PROJECT",
    "STEERING_TABLES",
    "STEERING_TEXTS",
    "WITHOUT_EFFECT",
]

CHOICES: Final[Mapping[str, Sequence[str]]] = {
    "index-strategy": ("first-index", "unsafe-first-match", "unsafe-best-match"),
    "resolution": ("highest", "lowest", "lowest-direct"),
    "prerelease": ("disallow", "allow", "if-necessary", "explicit", "if-necessary-or-explicit"),
}
STEERING_TEXTS: Final = ("exclude-newer", *CHOICES)
STEERING_TABLES: Final = ("exclude-newer-package", "prerelease-package")
DEPENDENCIES: Final = (
    *("build-constraint-dependencies", "constraint-dependencies", "exclude-dependencies", "override-dependencies"),
    *("dependency-metadata", "environments"),
)
"""What belongs to a project. uv reads it from pyproject.toml when it locks, and from uv.toml for `uv pip`."""

_BUILDS: Final = "klock builds packages without it; lock with uv and install a wheel, or build in a run_bash step"
_UPGRADES: Final = "use `klock lock --upgrade`"
_PYTHON: Final = "klock resolves for the environment's own Python"
WITHOUT_EFFECT: Final[Mapping[str, str]] = {
    **dict.fromkeys(("config-settings", "config-settings-package"), _BUILDS),
    **dict.fromkeys(("extra-build-dependencies", "extra-build-variables"), _BUILDS),
    **dict.fromkeys(("upgrade", "upgrade-package"), _UPGRADES),
    **dict.fromkeys(("pip.python-version", "pip.python-platform"), _PYTHON),
    "allow-insecure-host": "klock checks certificates; name yours in ca-bundle of [tool.klock]",
    "dependency-groups": "klock does not compare the groups' requires-python",
    "keyring-provider": "set UV_KEYRING_PROVIDER in your shell",
    "pip.no-deps": "klock installs what packages require",
    "tool": "a uv.toml has its settings without [tool.uv] above them",
    "torch-backend": "name the index in pytorch-indexes of [tool.klock], or set UV_TORCH_BACKEND in the image",
    **dict.fromkeys(("http-proxy", "https-proxy", "no-proxy"), "set HTTP_PROXY and the like in your shell"),
}
"""Settings that may change what uv installs, or whether it can, and that klock does not follow."""

FOLLOWED: Final = (
    *("index", "index-url", "extra-index-url", "no-index", "find-links", "sources", "no-sources", "no-sources-package"),
    *("no-build", "no-build-package", "no-binary", "no-binary-package", "pip.only-binary", "dev-dependencies"),
    *("no-build-isolation", "no-build-isolation-package", "required-version", "pip", "workspace"),
    *("pip.extra", "pip.all-extras", "pip.no-extra", "pip.group"),
    *(*STEERING_TEXTS, *STEERING_TABLES, *DEPENDENCIES),
)
OF_AN_INDEX: Final = {"name", "url", "default", "explicit", "format", "publish-url", "authenticate", "cache-control"}
OF_ONE_PROJECT: Final = ("dev-dependencies", "required-version", "sources", "workspace")
CHANGES_NO_PACKAGE: Final = (
    *("system-certs", "native-tls", "offline", "no-cache", "cache-dir", "preview", "preview-features", "cache-keys"),
    *("python-preference", "python-downloads", "concurrent-downloads", "concurrent-builds", "concurrent-installs"),
    *("fork-strategy", "required-environments", "minimum-libc-version", "conflicts", "link-mode", "compile-bytecode"),
    *("reinstall", "reinstall-package", "python-install-mirror", "pypy-install-mirror", "graalpy-install-mirror"),
    *("pyodide-install-mirror", "python-downloads-json-url", "publish-url", "trusted-publishing", "check-url"),
    *("add-bounds", "audit", "managed", "package", "default-groups", "build-backend", "require-build-hashes"),
    *(f"pip.{name}" for name in ("python", "system", "break-system-packages", "target", "prefix", "strict")),
    *(f"pip.{name}" for name in ("allow-empty-requirements", "output-file", "no-strip-extras", "no-strip-markers")),
    *(f"pip.{name}" for name in ("no-annotate", "no-header", "custom-compile-command", "generate-hashes", "universal")),
    *(f"pip.{name}" for name in ("no-emit-package", "emit-index-url", "emit-find-links", "emit-build-options")),
    *(f"pip.{name}" for name in ("emit-marker-expression", "emit-index-annotation", "annotation-style")),
    *("pip.require-hashes", "pip.verify-hashes"),
)
