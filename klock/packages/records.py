"""Reads what an installed distribution says about its files ("Recording installed projects", packaging.python.org)."""

from __future__ import annotations

import io
import posixpath

__all__ = ["paths_in_record"]


def paths_in_record(record: bytes, folder: str) -> list[str]:
    """The absolute paths that a RECORD in `folder`/*.dist-info names ("Recording installed projects").

    None at all for a RECORD that cannot be read.
    """
    # Few steps replace a distribution, and this brings the mail parser with it.
    import csv

    from installer.records import InvalidRecordEntry, parse_record_file

    try:
        # As csv has it: `str.splitlines` would also split a name at U+2028.
        lines = io.StringIO(record.decode("utf-8"), newline="")
        rows = list(parse_record_file(line for line in lines if line.strip()))
    except (UnicodeDecodeError, InvalidRecordEntry, csv.Error):
        return []
    return [posixpath.normpath(posixpath.join(folder, path)) for path, _, _ in rows]
