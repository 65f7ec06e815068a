"""What every test starts from: a home, a cache and a configuration of its own, so that this machine's do not show."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.run_folder import RUN, begin_run, end_run

settings.register_profile("klock", deadline=None, max_examples=10, derandomize="CI" in os.environ, print_blob=True)
settings.register_profile("soak", settings.get_profile("klock"), max_examples=500, derandomize=False)
settings.load_profile("klock")


LONGEST = (
    "test_here",
    "test_recorded_clients",
    "test_examples",
    "test_docs_commands",
    "test_recorded_http",
    "test_containers",
    "test_packages",
    "test_apt_install",
)
"""A worker takes a whole file: one of these that began last would go on alone at the end."""


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that forgets to name a store must not write into the user's."""
    monkeypatch.setenv("KLOCK_CACHE_DIR", str(tmp_path / "klock-cache"))


@pytest.fixture
def usual_signals() -> Iterator[None]:
    """Under nohup, or in the background of a shell, what a test starts would ignore what is to end it."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM)}
    for number in before:
        signal.signal(number, signal.default_int_handler if number is signal.SIGINT else signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What `on` (`tests.integration.container_engines`) does not name is for `make soak`. The longest files begin."""
    items.sort(key=lambda item: LONGEST.index(item.path.stem) if item.path.stem in LONGEST else len(LONGEST))
    for item in items:
        mark = item.get_closest_marker("on")
        if mark is not None and isinstance(item, pytest.Function) and item.callspec.params["host"] not in mark.args:
            item.add_marker(pytest.mark.soak)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """The process that leads the run gives it a folder; pytest's own is in it, unless --basetemp says where."""
    if not hasattr(config, "workerinput"):
        begin_run()
        if RUN in os.environ and config.option.basetemp is None:
            config.option.basetemp = f"{os.environ[RUN]}/pytest"


def pytest_unconfigure(config: pytest.Config) -> None:
    """What tests left running is told, as it is ended here."""
    if not hasattr(config, "workerinput"):
        for command in end_run():
            print(f"left running by a test: {command}")
