"""Finds the line of the user's code that called a builder method, also in a chain that spans many lines."""

from __future__ import annotations

import sys
from itertools import islice
from opcode import opmap
from pathlib import Path
from types import FrameType
from typing import Final

from klock.image.steps import Location

__all__ = ["call_site"]

_KLOCK: Final = str(Path(__file__).parents[1]) + "/"


def call_site() -> Location:
    """The call in the first frame outside klock: the line on which the method's name stands."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename.startswith(_KLOCK):
        frame = frame.f_back
    if frame is None:
        return Location(file="<unknown>", line=0)
    return Location(file=frame.f_code.co_filename, line=_line(frame))


def _line(frame: FrameType) -> int:
    """CPython gives a method call the line of the method's name, except for calls with `*` or `**` arguments: those get
    the line where the whole chain begins, so the name is looked up in the source."""
    if frame.f_code.co_code[frame.f_lasti] == opmap["CALL_FUNCTION_EX"]:
        line, end_line, column, end_column = next(islice(frame.f_code.co_positions(), frame.f_lasti // 2, None))
        if line != end_line:
            found = _line_in_source(frame, (line, end_line, column, end_column))
            if found is not None:
                return found
    return frame.f_lineno


def _line_in_source(frame: FrameType, span: tuple[int | None, ...]) -> int | None:
    import ast
    import linecache

    try:
        tree = ast.parse("".join(linecache.getlines(frame.f_code.co_filename, frame.f_globals)))
    except (SyntaxError, ValueError):
        return None
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and (node.lineno, node.end_lineno, node.col_offset, node.end_col_offset) == span:
            return node.func.end_lineno
    return None
