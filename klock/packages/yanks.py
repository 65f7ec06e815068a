"""Takes yanked files out of an answer, where the version has good ones (PEP 592).

uv looks at yanks for a version as a whole, and gives all files of the one it takes.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Final

from klock.packages.index_pages import IndexPages
from klock.packages.indexes import DEFAULT_INDEX, Index
from klock.packages.selection import SelectedFile, SelectedPackage

__all__ = ["yanked_files"]

_PARALLEL: Final = 8


def yanked_files(
    selected: Sequence[SelectedPackage], indexes: Mapping[str, Index], pages: IndexPages
) -> Mapping[str, Collection[str]]:
    """By project, the names of all yanked files of the projects of which one was selected.

    `indexes` says where each project is from. A page is asked for only where there is another file to take. PyPI is
    not asked: it yanks a version as a whole.
    """
    asked = [
        (package.name, package.source.name, indexes[package.name])
        for package in selected
        if package.has_others and isinstance(package.source, SelectedFile) and package.name in indexes
        if indexes[package.name].url != DEFAULT_INDEX
    ]
    if not asked:
        return {}
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(max_workers=_PARALLEL, thread_name_prefix="klock-pages") as pool:
        found = list(pool.map(lambda item: pages.files(item[2], item[0]) or (), asked))
    yanked = {}
    for (name, file_name, _), files in zip(asked, found, strict=True):
        names = {file.name for file in files if file.yanked is not None}
        if file_name in names:
            yanked[name] = names
    return yanked
