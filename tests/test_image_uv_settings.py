"""uv's settings for a project count as `uv pip` has them count, or klock says which do not."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from klock.errors import RequirementError
from klock.image import uv_setting_names
from klock.image.requirement_files import RequirementInputs, read_requirements
from klock.image.steps import PipInstall
from klock.packages.composing import steering_of
from klock.packages.request import PipRequest, RequestSteering
from klock.uv_program import uv_program

HEAD = '[project]\nname = "x"\nversion = "1"\ndependencies = ["a"]\n[project.optional-dependencies]\nfast = ["c"]\n'
GROUPS = '[dependency-groups]\ndev = ["d"]\n'
LOCK = (
    'version = 1\nrequires-python = ">=3.9"\n[[package]]\nname = "a"\nversion = "1"\n'
    'source = {registry = "https://pypi.org/simple"}\nwheels = [{url = "https://h/a-1-py3-none-any.whl", size = 1, '
    f'hash = "sha256:{"a" * 64}"}}]\n[[package]]\nname = "x"\nversion = "1"\nsource = {{virtual = "."}}\n'
    'dependencies = [{name = "a"}]\n'
)


def read(folder: Path, entry: str = "-r pyproject.toml", **files: str) -> RequirementInputs:
    """The files are named `pyproject`, `uv`, `above` (a uv.toml one folder up), `root` (a pyproject.toml there)."""
    (folder / ".git").mkdir()
    app = folder / "app"
    app.mkdir()
    places = {"pyproject": app / "pyproject.toml", "uv": app / "uv.toml"}
    places |= {"above": folder / "uv.toml", "root": folder / "pyproject.toml", "lock": app / "uv.lock"}
    for name, text in {"pyproject": "", **files}.items():
        places[name].write_text(HEAD + GROUPS + text if name == "pyproject" else text)
    return read_requirements(PipInstall(requirements=(entry,)), app, {})


def steering(inputs: RequirementInputs) -> dict[str, Any]:
    """What klock's own uv is given for all that is resolved, and the overrides."""
    given = tuple(map(RequestSteering.of, inputs.steering))
    found = steering_of([PipRequest(steering=given)])
    overrides = [line.text for each in given for line in each.overrides]
    return {**found, **({"overrides": overrides} if overrides else {})}


LOWEST = '[tool.uv]\nresolution = "lowest"\n'
COUNTS: dict[str, tuple[dict[str, str], dict[str, Any]]] = {
    "a setting": ({"pyproject": LOWEST}, {"resolution": "lowest"}),
    "pip's before the others": (
        {"pyproject": f'{LOWEST}prerelease = "allow"\n[tool.uv.pip]\nresolution = "highest"\n'},
        {"resolution": "highest", "prerelease": "allow"},
    ),
    "a uv.toml": ({"uv": 'index-strategy = "unsafe-best-match"\n'}, {"index-strategy": "unsafe-best-match"}),
    "a uv.toml alone, where both are": ({"pyproject": LOWEST, "uv": 'prerelease = "allow"\n'}, {"prerelease": "allow"}),
    "pip's in a uv.toml": ({"uv": '[pip]\nexclude-newer = "2026-01-01"\n'}, {"exclude-newer": "2026-01-01"}),
    "a uv.toml above": ({"above": 'resolution = "lowest-direct"\n'}, {"resolution": "lowest-direct"}),
    "not one above that has settings": (
        {"pyproject": LOWEST, "above": 'prerelease = "allow"\n'},
        {"resolution": "lowest"},
    ),
    "a pyproject.toml above": ({"root": LOWEST}, {"resolution": "lowest"}),
    "the workspace, not its member": (
        {"pyproject": '[tool.uv]\nprerelease = "allow"\n', "root": f'{LOWEST}[tool.uv.workspace]\nmembers = ["a*"]\n'},
        {"resolution": "lowest"},
    ),
    "a workspace by deep patterns, and those of no folder": (
        {
            "pyproject": '[tool.uv]\nprerelease = "allow"\n',
            "root": f'{LOWEST}[tool.uv.workspace]\nmembers = ["./**/a?p/"]\n'
            'exclude = [".", "", "/", "**x", "[", "../app"]\n',
        },
        {"resolution": "lowest"},
    ),
    "not a workspace that leaves it out": (
        {
            "pyproject": '[tool.uv]\nprerelease = "allow"\n',
            "root": f'{LOWEST}[tool.uv.workspace]\nmembers = ["*"]\nexclude = ["app"]\n',
        },
        {"prerelease": "allow"},
    ),
    "tables": (
        {"pyproject": '[tool.uv]\nprerelease-package = {a = "allow"}\n[tool.uv.exclude-newer-package]\nb = false\n'},
        {"prerelease-package": {"a": "allow"}, "exclude-newer-package": {"b": False}},
    ),
    "metadata of one's own": (
        {"uv": '[[dependency-metadata]]\nname = "A"\nrequires-dist = ["b"]\n'},
        {"dependency-metadata": [{"name": "a", "requires-dist": ["b"]}]},
    ),
    "overrides of both files, and what nobody gets": (
        {
            "pyproject": '[tool.uv]\noverride-dependencies = ["b==1"]\nexclude-dependencies = ["D_e"]\n',
            "uv": 'override-dependencies = ["c==2"]\nbuild-constraint-dependencies = ["hatchling<2"]\n',
        },
        {
            **{"exclude-dependencies": ["d-e"], "build-constraint-dependencies": ["hatchling<2"]},
            "overrides": ["c==2", "b==1"],
        },
    ),
    "an override from its source": (
        {
            "pyproject": '[tool.uv]\noverride-dependencies = ["b==1"]\n'
            '[tool.uv.sources]\nb = {url = "https://h/b-1-py3-none-any.whl"}\n'
        },
        {"overrides": ["b @ https://h/b-1-py3-none-any.whl"]},
    ),
}


@pytest.mark.parametrize("case", COUNTS)
def test_what_counts(tmp_path: Path, case: str) -> None:
    files, wanted = COUNTS[case]
    assert steering(read(tmp_path, **files)) == wanted


PARTS = {
    "an extra": ('extra = ["Fast"]', ["a", "c"]),
    "all extras": ("all-extras = true", ["a", "c"]),
    "a group": ('group = ["dev"]', ["a", "d"]),
    "an extra, and not": ('extra = ["fast"]\nno-extra = ["fast"]', ["a"]),
}


@pytest.mark.parametrize("case", PARTS)
def test_parts_of_the_project_that_settings_choose(tmp_path: Path, case: str) -> None:
    setting, wanted = PARTS[case]
    inputs = read(tmp_path, pyproject=f"[tool.uv.pip]\n{setting}\n")
    assert sorted(requirement.name or "" for requirement in inputs.requirements) == wanted


FROM = {
    "pip's index before uv's": ('index-url = "https://one"\n[tool.uv.pip]\nindex-url = "https://two"', "https://two"),
    "no sources": ('no-sources = true\n[tool.uv.sources]\na = {url = "https://h/a-1.zip"}', None),
    "no sources for some": ('no-sources-package = ["A"]\n[tool.uv.sources]\na = {url = "https://h/a-1.zip"}', None),
}


@pytest.mark.parametrize("case", FROM)
def test_where_packages_are_from(tmp_path: Path, case: str) -> None:
    settings, index = FROM[case]
    [requirement] = read(tmp_path, pyproject=f"[tool.uv]\n{settings}\n").requirements
    found = requirement.options.index_url
    assert (str(requirement), found and str(found)) == ("a", index)


def test_sources_of_the_workspace_hold_for_its_members(tmp_path: Path) -> None:
    root = '[tool.uv.workspace]\nmembers = ["app"]\n[tool.uv.sources]\na = {url = "https://h/a-1.zip"}\n'
    [requirement] = read(tmp_path, root=root).requirements
    assert str(requirement) == "a @ https://h/a-1.zip"


BUILDS = {
    "no-build = true": ((), (":all:",)),
    'no-build-package = ["A"]': ((), ("a",)),
    "no-binary = true": ((":all:",), ()),
    '[tool.uv.pip]\nno-binary = ["B"]\nonly-binary = [":all:"]': (("b",), (":all:",)),
}


@pytest.mark.parametrize("setting", BUILDS)
def test_what_is_built(tmp_path: Path, setting: str) -> None:
    [requirement] = read(tmp_path, pyproject=f"[tool.uv]\n{setting}\n").requirements
    assert (requirement.options.no_binary, requirement.options.only_binary) == BUILDS[setting]


@pytest.mark.parametrize(
    "files", [{"pyproject": '[tool.uv]\nno-binary-package = ["a"]\n'}, {"uv": "no-binary = true\n"}]
)
def test_what_is_built_of_a_lock(tmp_path: Path, files: dict[str, str]) -> None:
    [requirement] = read(tmp_path, "-r uv.lock", lock=LOCK, **files).requirements
    assert requirement.options.no_binary in (("a",), (":all:",))


def test_the_files_are_locked(tmp_path: Path) -> None:
    inputs = read(tmp_path, "-r uv.lock", lock=LOCK, above="no-binary = true\n")
    assert [file.path for file in inputs.files] == ["../uv.toml", "pyproject.toml", "uv.lock"]


NOTED = {
    "a setting that klock does not follow": (
        {"pyproject": '[tool.uv]\nconfig-settings = {x = "1"}\n'},
        "pyproject.toml: tool.uv.config-settings has no effect: klock builds packages without it; lock with uv and "
        "install a wheel, or build in a run_bash step",
    ),
    "one of pip's": (
        {"uv": "[pip]\nno-deps = true\n"},
        "uv.toml: pip.no-deps has no effect: klock installs what packages require",
    ),
    "one that klock does not know": (
        {"above": "shiny = true\n"},
        "../uv.toml: shiny has no effect: klock does not know this setting of uv",
    ),
    "one of an index": (
        {"uv": '[[index]]\nname = "i"\nurl = "https://i"\nignore-error-codes = [403]\n'},
        "uv.toml: index: ignore-error-codes of i has no effect: klock does not follow it",
    ),
    "a uv.toml as if it were a pyproject.toml": (
        {"uv": '[tool.uv]\nresolution = "lowest"\n'},
        "uv.toml: tool has no effect: a uv.toml has its settings without [tool.uv] above them",
    ),
    "another uv": (
        {"pyproject": '[tool.uv]\nrequired-version = "==0.1"\n'},
        "pyproject.toml: tool.uv.required-version has no effect: klock resolves with its own uv VERSION, not ==0.1",
    ),
    "one that a uv.toml hides": (
        {"pyproject": LOWEST, "uv": 'prerelease = "allow"\n'},
        "pyproject.toml: tool.uv.resolution has no effect: uv.toml counts instead, as in uv",
    ),
    "one that a workspace hides": (
        {"pyproject": LOWEST, "root": '[tool.uv.workspace]\nmembers = ["*"]\n'},
        "pyproject.toml: tool.uv.resolution has no effect: ../pyproject.toml counts instead, as in uv",
    ),
}


@pytest.mark.parametrize("case", NOTED)
def test_what_has_no_effect_is_said(tmp_path: Path, case: str) -> None:
    files, note = NOTED[case]
    assert [re.sub(r"uv \d+\.\d+\.\d+", "uv VERSION", each) for each in read(tmp_path, **files).notes] == [note]


NO_WORDS = (
    *('[tool.uv]\ncache-dir = "x"\nlink-mode = "copy"\n', "[tool.uv.pip]\ngenerate-hashes = true\n"),
    *('[tool.uv]\nrequired-version = ">=0.5"\n', "[tool.uv]\npackage = false\nupgrade = false\n"),
    '[tool.uv]\nindex = [{name = "i", url = "https://i", explicit = true}]\n',
)


@pytest.mark.parametrize("text", NO_WORDS)
def test_what_changes_no_package_needs_no_words(tmp_path: Path, text: str) -> None:
    assert read(tmp_path, pyproject=text).notes == ()


def test_every_setting_of_uv_is_of_one_kind() -> None:
    kinds = [uv_setting_names.FOLLOWED, tuple(uv_setting_names.WITHOUT_EFFECT), uv_setting_names.CHANGES_NO_PACKAGE]
    every = [name for kind in kinds for name in kind]
    assert len(every) == len(set(every))


WRONG = {
    "a word that uv does not know": (
        '[tool.uv]\nresolution = "newest"\n',
        "pyproject.toml: tool.uv.resolution is 'newest' (expected highest or lowest or lowest-direct)",
    ),
    "a folder of this machine": (
        '[tool.uv]\nfind-links = ["./wheels"]\n',
        "pyproject.toml: tool.uv.find-links: ./wheels is a folder of this machine",
    ),
    "an index that is one": (
        '[[tool.uv.index]]\nurl = "file:///srv/simple"\n',
        "pyproject.toml: tool.uv.index: file:///srv/simple is a folder of this machine",
    ),
    "no list": (
        '[tool.uv]\noverride-dependencies = "a"\n',
        "pyproject.toml: tool.uv.override-dependencies is not a list of strings",
    ),
    "no requirement": (
        '[tool.uv]\noverride-dependencies = ["a =="]\n',
        "pyproject.toml: tool.uv.override-dependencies[0]: not a requirement: 'a ==': ",
    ),
    "no marker": (
        '[tool.uv]\nenvironments = ["linux"]\n',
        "pyproject.toml: tool.uv.environments has an invalid marker: ",
    ),
    "no truth": ('[tool.uv]\nno-index = "yes"\n', "pyproject.toml: tool.uv.no-index is not true or false"),
    "metadata of nothing": (
        '[tool.uv]\ndependency-metadata = [{name = "b", version = ["1"]}]\n',
        "pyproject.toml: tool.uv.dependency-metadata[0] needs a name, and a version that is a string, if any",
    ),
    "a date": (
        "[tool.uv.exclude-newer-package]\nb = 2026-01-01\n",
        "pyproject.toml: tool.uv.exclude-newer-package: b is datetime.date(2026, 1, 1) (expected a string)",
    ),
    "metadata of another type": (
        '[tool.uv]\ndependency-metadata = [{name = "b", requires-python = 3.12}]\n',
        "pyproject.toml: tool.uv.dependency-metadata[0].requires-python is not a list of strings",
    ),
    "metadata without a list": (
        '[tool.uv]\ndependency-metadata = [{name = "b", requires-dist = "c"}]\n',
        "pyproject.toml: tool.uv.dependency-metadata[0].requires-dist is not a list of strings",
    ),
    "an override that has an index of its own": (
        '[tool.uv]\noverride-dependencies = ["b"]\nindex = [{name = "i", url = "https://i", explicit = true}]\n'
        '[tool.uv.sources]\nb = {index = "i"}\n',
        "pyproject.toml: tool.uv.override-dependencies[0]: b has an index of its own, which uv forgets for an override",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong(tmp_path: Path, case: str) -> None:
    text, message = WRONG[case]
    with pytest.raises(RequirementError) as caught:
        read(tmp_path, pyproject=text)
    assert caught.value.message.startswith(message)


def test_two_projects_that_want_another_answer_each() -> None:
    requests = [
        PipRequest(steering=(RequestSteering(settings={"resolution": word}, places={"resolution": f"{word}.toml"}),))
        for word in ("lowest", "highest")
    ]
    with pytest.raises(RequirementError) as caught:
        steering_of(requests)
    assert caught.value.message == "highest.toml is 'highest', but lowest.toml is 'lowest'"


@pytest.mark.parametrize(("text", "prefix"), [("[tool.uv]\nno-such = 1", ""), ("[tool.uv.pip]\nno-such = 1", "pip.")])
def test_klock_knows_every_setting_of_its_uv(tmp_path: Path, text: str, prefix: str) -> None:
    """uv lists them where it finds one that it does not know."""
    (tmp_path / "pyproject.toml").write_text(text)
    (tmp_path / "empty.in").touch()
    command = [str(uv_program()), "pip", "compile", "--offline", "--no-cache", "empty.in"]
    done = subprocess.run(
        command, cwd=tmp_path, env={"HOME": str(tmp_path)}, capture_output=True, text=True, check=False
    )
    names = re.findall(r"`([a-z-]+)`", done.stderr.partition("expected one of")[2].partition("\n")[0])
    known = {*uv_setting_names.FOLLOWED, *uv_setting_names.WITHOUT_EFFECT, *uv_setting_names.CHANGES_NO_PACKAGE}
    assert len(names) > 40
    assert [name for name in names if not {name, f"{prefix}{name}"} & known] == []
