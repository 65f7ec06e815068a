"""JUnit's XML, as pipelines read it (junit.xsd of Jenkins and of GitLab): what agrees is a test that passes."""

from __future__ import annotations

import re
from typing import Final
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from klock.reports.places import Checks, Places

__all__ = ["junit"]

_AGREES: Final = {
    "stale": "image and lockfile agree",
    "moved": "upstream and lockfile agree",
    "drift": "environment and lockfile agree",
    "policy": "the lockfile keeps the policy",
    "unsafe": "no locked package has a known vulnerability",
}
_NO_XML: Final = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that no XML 1.0 document can hold, in any way of writing them."""


def junit(checks: Checks, places: Places) -> str:
    """The document. A finding that is not a failure is a test that was skipped, with its words."""
    cases = []
    for kind in checks.compared:
        found = [finding for finding in checks.findings if finding.code.kind == kind]
        if not found:
            cases.append(Element("testcase", classname=f"klock.{kind}", name=_AGREES[kind]))
        for finding in found:
            place = places.of(finding)
            case = Element(
                "testcase",
                classname=f"klock.{kind}",
                name=_text(f"{finding.code.value}: {finding}"),
                file=_text(place.path),
                line=str(place.line),
            )
            words = _text(f"{place.path}:{place.line}: {finding.message}\n{finding.code.remedy}")
            if checks.is_failure(finding):
                SubElement(case, "failure", type=finding.code.value, message=_text(finding.message)).text = words
            else:
                SubElement(case, "skipped", message=_text(finding.message)).text = words
            cases.append(case)
    failures = sum(case.find("failure") is not None for case in cases)
    skipped = sum(case.find("skipped") is not None for case in cases)
    numbers = {"tests": str(len(cases)), "failures": str(failures), "errors": "0"}
    suites = Element("testsuites", {"name": "klock check", **numbers})
    suite = SubElement(suites, "testsuite", {"name": "klock check", **numbers, "skipped": str(skipped)})
    suite.extend(cases)
    indent(suites)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + tostring(suites, encoding="unicode") + "\n"


def _text(text: str) -> str:
    return _NO_XML.sub("\ufffd", text)
