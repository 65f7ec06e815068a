"""README and docs are right: their commands are typed as written and print what the pages show (`tests.documents`).

All pages share one store. README's commands run first, in an empty store, as a newcomer runs them; the other pages find
the base and the layers that README made.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from klock.gpu.driver import find_driver
from klock.workshop.scratch import remove_trees
from tests.documents import PAGES, ROOT, Page, read_page
from tests.documents_terminal import differences
from tests.integration.container_engines import podman_host
from tests.integration.unprivileged import PASSED_ON, root_account
from tests.run_folder import readable_folder
from tests.test_docs import NEED_NO_SANDBOX

pytestmark = pytest.mark.integration

RUN = [page for page in PAGES if page not in ("README.md", *NEED_NO_SANDBOX) and read_page(page).is_run]


@dataclass(frozen=True, slots=True, kw_only=True)
class Newcomer:
    """Somebody who reads the pages, with a home and a store, and a project for each page in `folder`."""

    folder: Path

    def type(self, page: Page, variables: Mapping[str, str] | None = None) -> str:
        """Types the page's commands, with `variables` besides the usual ones: what was not as shown."""
        project = self._project(page.name)
        if page.begins_with is None:
            project.mkdir(parents=True)
        else:
            shutil.copytree(self._project(page.begins_with), project, symlinks=True)
        return differences(page, project, {**self._variables, **(variables or {})})

    def _project(self, name: str) -> Path:
        return self.folder / "projects" / Path(name).stem / "first"

    @property
    def _variables(self) -> dict[str, str]:
        home = self.folder / "home"
        home.mkdir(exist_ok=True)
        return {name: os.environ[name] for name in PASSED_ON if name in os.environ} | {
            "HOME": str(home),
            "KLOCK_CACHE_DIR": str(self.folder / "store"),
            "LANG": "C.UTF-8",
            "PATH": f"{Path(sys.executable).parent}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        }


@pytest.fixture(scope="module")
def newcomer() -> Iterator[Newcomer]:
    with readable_folder("klock-docs") as folder:
        yield Newcomer(folder=folder)
        remove_trees([folder / "store"])


@pytest.fixture(scope="module")
def wrong_in_readme(newcomer: Newcomer) -> str:
    return newcomer.type(read_page("README.md"))


def test_readme_is_right_for_a_newcomer(wrong_in_readme: str) -> None:
    assert not wrong_in_readme, wrong_in_readme


@pytest.mark.usefixtures("wrong_in_readme")
@pytest.mark.parametrize("name", RUN)
def test_a_page_is_right_for_who_has_read_readme(newcomer: Newcomer, name: str, request: pytest.FixtureRequest) -> None:
    if name == "docs/gpu.md" and find_driver() is not None:
        pytest.skip("the page shows a machine without a GPU")
    variables = request.getfixturevalue("podman") if name == "docs/engines.md" else {}
    wrong = newcomer.type(read_page(name), variables)
    assert not wrong, wrong


@pytest.fixture
def podman(newcomer: Newcomer) -> Iterator[Mapping[str, str]]:
    """The variables that lead to root's podman, with a storage of its own."""
    with podman_host(root_account(ROOT, newcomer.folder)) as host:
        yield host.variables
