"""What the last lock chose, and how much of it stays."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest

from klock.lockfile.model import LockedPackage, VcsArtifact, WheelArtifact
from klock.packages import PipRequest, Question, RequirementOptions, ScopedRequirement, TargetPython, World
from klock.packages.index_mirrors import IndexMirrors
from klock.store import Store
from klock.workshop.protocol import Workspace

WHEEL = WheelArtifact(name="a-1.0-py3-none-any.whl", url="", size=1, sha256="0" * 64)
COMMIT = VcsArtifact(
    type="git",
    url="https://host/there",
    commit="c" * 40,
    requested_revision="main",
    subdirectory=None,
    wheel=WHEEL,
    build=(),
)
PREVIOUS = (
    LockedPackage(name="ruamel-yaml", version="0.18", index=None, artifact=WHEEL),
    LockedPackage(name="there", version="1.0", index=None, artifact=COMMIT),
    LockedPackage(name="wheel", version="0.40", index=None, artifact=WHEEL, build_only=True),
)


@pytest.mark.parametrize(
    ("upgrade", "upgrade_packages", "versions", "commits"),
    [
        pytest.param(False, (), {"ruamel-yaml": "0.18", "there": "1.0"}, ["c" * 40], id="all but what builds"),
        pytest.param(False, ["Ruamel.YAML"], {"there": "1.0"}, ["c" * 40], id="not a package that is named"),
        pytest.param(False, ["there"], {"ruamel-yaml": "0.18"}, [], id="nor the commit of one"),
        pytest.param(True, (), {}, [], id="nothing with upgrade"),
    ],
)
def test_what_stays_of_the_last_lock(
    upgrade: bool, upgrade_packages: list[str], versions: dict[str, str], commits: list[str]
) -> None:
    question = Question(requests=(), previous=PREVIOUS, upgrade=upgrade, upgrade_packages=frozenset(upgrade_packages))
    assert question.preferred_versions == versions
    assert list(question.preferred_commits.values()) == commits


def test_credentials_come_from_variables_lines_and_their_options(tmp_path: Path) -> None:
    line = ScopedRequirement(
        text="there @ git+https://one:secret1@git.host/there",
        origin="kimage.py:7",
        options=RequirementOptions(index_url="https://two:secret2@index.host/simple"),
    )
    variables = {
        "UV_EXTRA_INDEX_URL": "https://three:secret3@extra.host/simple",
        "UV_INDEX": "corp-1=https://corp.host/simple",
        "UV_INDEX_CORP_1_USERNAME": "four",
    }
    world = World(
        workspace=cast("Workspace", None),
        python=cast("TargetPython", None),
        store=Store(tmp_path),
        environ={"UV_INDEX_CORP_1_USERNAME": "nobody", "UV_INDEX_CORP_1_PASSWORD": "secret4"},
        mirrors=IndexMirrors.of(
            {}, {"KLOCK_INDEX_MIRRORS": "https://pypi.org/simple=https://five:secret5@mirror.host/s"}
        ),
    )
    question = Question(requests=(PipRequest(requirements=(line,), environment=variables),))
    found = question.collect_credentials(world)
    assert [found.find(f"https://{name}.host/x") for name in ("git", "index", "extra", "corp", "mirror", "x")] == [
        ("one", "secret1"),
        ("two", "secret2"),
        ("three", "secret3"),
        ("four", "secret4"),
        ("five", "secret5"),
        None,
    ]
