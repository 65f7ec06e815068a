"""SARIF 2.1.0 (OASIS, "Static Analysis Results Interchange Format"), as GitHub's code scanning reads it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from klock.digests import digest_of_json, hex_of
from klock.findings import Code, Finding
from klock.reports.places import Checks, Places

__all__ = ["sarif"]

_SCHEMA: Final = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
_ROOT: Final = "SRCROOT"


def sarif(checks: Checks, places: Places, *, version: str) -> dict[str, Any]:
    """The log, with a rule for each code that was found. `version` is klock's."""
    codes = list(dict.fromkeys(finding.code for finding in checks.findings))
    return {
        "$schema": _SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {"driver": {"name": "klock", "version": version, "rules": [_rule(code) for code in codes]}},
                "invocations": [{"executionSuccessful": True}],
                "originalUriBaseIds": {_ROOT: {"description": {"text": "The root of the repository"}}},
                "columnKind": "unicodeCodePoints",
                "results": [_result(each, codes.index(each.code), checks, places) for each in checks.findings],
            }
        ],
    }


def _rule(code: Code) -> Mapping[str, Any]:
    return {
        "id": code.value,
        "shortDescription": {"text": code.title},
        "help": {"text": code.remedy},
        "properties": {"tags": [code.kind]},
    }


def _result(finding: Finding, rule: int, checks: Checks, places: Places) -> Mapping[str, Any]:
    place = places.of(finding)
    # What a finding is about, without the line: it is still the same one when lines above it come and go.
    same = [finding.code.value, place.path, finding.path, finding.message]
    return {
        "ruleId": finding.code.value,
        "ruleIndex": rule,
        "level": "error" if checks.is_failure(finding) else "warning",
        "message": {"text": f"step {finding.step}: {finding.message}" if finding.step else finding.message},
        "locations": [
            {
                "physicalLocation": {
                    "artifactLocation": {"uri": _uri(place.path), "uriBaseId": _ROOT},
                    "region": {"startLine": place.line},
                }
            }
        ],
        "partialFingerprints": {"klock/v1": hex_of(digest_of_json(same))},
    }


def _uri(path: str) -> str:
    from urllib.parse import quote

    return quote(path, safe="/")
