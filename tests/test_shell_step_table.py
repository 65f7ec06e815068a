"""The table of shell steps in docs/shell-steps.md: its steps are real ones, and those that differ say what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from benchmarks.shell_commands import GROUPS, TOOLS
from klock.layers.normalisation import matcher

STEPS: Final = [step for group in GROUPS.values() for step in group]
PAGE: Final = Path(__file__).parents[1] / "docs/shell-steps.md"


def rows() -> list[list[str]]:
    """The cells of each row that is a step."""
    table = PAGE.read_text("utf-8").partition("benchmarks/shell_steps.py: begin")[2]
    lines = (line.replace("\\|", "\0") for line in table.splitlines() if line.startswith("| "))
    cells = ([cell.strip().replace("\0", "\\|") for cell in line.strip("| ").split(" | ")] for line in lines)
    return [row for row in cells if not row[0].startswith("**") and row[0] != "step"]


def test_each_of_the_steps_has_a_name_of_its_own_and_tools_that_can_be_made() -> None:
    assert len({step.name for step in STEPS}) == len(STEPS) >= 120
    assert {tool for step in STEPS for tool in step.tools} <= set(TOOLS)


def test_what_a_step_leaves_out_are_absolute_paths() -> None:
    for step in STEPS:
        assert all(pattern.startswith("/") and matcher([pattern])(pattern[1:]) for pattern in step.leave_out)


def test_the_table_has_the_steps_and_says_what_to_do_about_those_that_differ() -> None:
    remarks = {step.name: step.remark for step in STEPS}
    assert {row[0] for row in rows()} <= set(remarks)
    for name, *cells in rows():
        if "**no**" in cells:
            assert remarks[name], name
            assert cells[-1].endswith(remarks[name]), name
