"""klock's own development environment, for `make test`. `klock check` holds kimage.lock against it."""

import tomllib
from pathlib import Path

import klock as kt

_pyproject = tomllib.loads((Path(__file__).parent / "pyproject.toml").read_text(encoding="utf-8"))

image = (
    kt.images.from_debian("bookworm", ["ca-certificates", "git", "make", "python3", "python3-venv"])
    .apt_install(["bubblewrap", "debian-archive-keyring", "mmdebstrap", "rsync", "uidmap"])
    .pip_install([*_pyproject["project"]["dependencies"], *_pyproject["dependency-groups"]["dev"]])
    .set_env_vars({"PYTHONPATH": "/work", "LANG": "C.UTF-8"})
)
