"""The registries that everybody uses, as they are today: Debian's, PyPI, npm. Locked, then replayed with no network."""

from __future__ import annotations

from typing import Final

import pytest

from tests.integration.container_engines import some_of
from tests.integration.unprivileged import Account
from tests.integration.upstream import Laboratory, clients_layout

pytestmark = pytest.mark.integration

CASES: Final[dict[str, tuple[str, str, str, str]]] = {
    "apt from Debian's mirrors": (
        "apt-get update && apt-get install -y --no-install-recommends vim-tiny",
        "vim.tiny --version | head -c 17",
        "VIM - Vi IMproved",
        "vim-tiny ",
    ),
    "pip from PyPI": (
        "pip install --break-system-packages humanize==4.9.0",
        "python3 -c 'import humanize; print(humanize.naturalsize(10**9))'",
        "1.0 GB\n",
        "https://files.pythonhosted.org/",
    ),
    "uv from PyPI": (
        "uv pip install --system --break-system-packages six==1.16.0",
        "python3 -c 'import six; print(six.__version__)'",
        "1.16.0\n",
        "https://files.pythonhosted.org/",
    ),
    "npm from its registry": (
        "npm install --global semver@7.6.0",
        "semver 1.2.3 -i minor",
        "1.3.0\n",
        "https://registry.npmjs.org/semver/-/semver-7.6.0.tgz",
    ),
}


@pytest.fixture(scope="module")
def laboratory(unprivileged: Account, root: Account) -> Laboratory:
    """Emptying the network takes root."""
    assert root.uid == 0
    return Laboratory(account=unprivileged, layout=clients_layout())


@pytest.mark.parametrize("name", some_of(CASES, "pip from PyPI"))
def test_is_replayed_without_a_network(name: str, laboratory: Laboratory) -> None:
    command, script, prints, locked = CASES[name]
    project = laboratory.project(command)
    project.lock()
    assert locked in project.lockfile.read_text()
    project.replay()
    assert project.prints(script) == prints
    project.klock("check", "--env")
