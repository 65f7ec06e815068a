"""Local files that a step places in the environment: which ones (filters, ignore files), what they are (scan), and
where they go (destination). `read_local_files` does all of it for one step."""

from __future__ import annotations

from klock.files.local import LocalFiles, read_local_files
from klock.files.scan import tree_digest

__all__ = ["LocalFiles", "read_local_files", "tree_digest"]
