"""What uv may ask for while it resolves, and whether its answer names what was there to be chosen.

uv has the build backends of source distributions tell their metadata, beside it. What these can do to it, they could
say by their metadata as well, and no more: to choose another version that the image allows, of a file that its indexes
have under this hash.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from klock.errors import ResolutionError
from klock.packages.pytorch import INDEX
from klock.packages.roots import Root, same_repository, split_revision
from klock.packages.selection import SelectedFile, SelectedPackage, SelectedRepository
from klock.packages.uv_project import UvProject
from klock.recorder import OUTSIDE, Links, Reach

__all__ = ["check_answer", "reach_of", "strangers"]

_URL: Final = re.compile(r"https?://[^\s;,'\"]+", re.IGNORECASE)
_MAY_BE_CHANGED: Final = (
    "a package that was built while uv resolved may have changed the answer: look at the packages that come as source"
)
_OWN_INDEXES: Final = "UV_TORCH_BACKEND"
"""With it uv asks PyTorch's indexes, which it knows by heart."""


def reach_of(project: UvProject, variables: Mapping[str, str], links: Links) -> Reach:
    """The indexes and URLs of the question and of the variables that uv is given, and what `links` has."""
    settings = project.settings
    default = [settings.default] if settings.default else []
    named = [*settings.extras, *default, *settings.find_links, *project.pins.values(), *project.fallbacks]
    urls = [(project.mirrors.towards(index.url), index.flat) for index in named]
    texts = (*project.dependencies, *project.direct, *project.constraints, *project.overrides)
    repositories = [split[1] for split in map(split_revision, texts) if split is not None]
    return Reach(
        indexes=frozenset(
            [url for url, is_flat in urls if not is_flat] + ([INDEX] if variables.get(_OWN_INDEXES) else [])
        ),
        pages=frozenset(url for url, is_flat in urls if is_flat),
        files=frozenset(
            url
            for text in (*(t for t in texts if split_revision(t) is None), *variables.values())
            for url in _URL.findall(text)
        ),
        repositories=frozenset(repositories),
        links=links,
    )


def strangers(refused: Iterable[str]) -> list[str]:
    """What was asked for and is out of reach, of what the recorder refused."""
    return [sentence for sentence in refused if sentence.endswith(OUTSIDE)]


def check_answer(selected: Sequence[SelectedPackage], roots: Sequence[Root], reach: Reach, *, overridden: bool) -> None:
    """Raises ResolutionError for a file that no index has under its hash, for a URL that the image does not name, and,
    unless `overridden`, for a version that it does not allow."""
    asked = Links()
    for url in reach.files:
        asked.add(url)
    for package in selected:
        source = package.source
        if isinstance(source, SelectedRepository):
            found = any(same_repository(url, source.url) for url in reach.repositories)
        elif isinstance(source, SelectedFile) and _URL.match(source.url):
            found = source.url in asked if package.direct else reach.links.has_file(source.url, source.sha256)
        else:
            found = True
        if not found:
            named = getattr(source, "url", package.name)
            raise ResolutionError(
                f"uv answers with {named} for {package.name}, which is neither named in the image nor offered by its "
                "indexes with this hash",
                hint=f"{_MAY_BE_CHANGED}; if a requirement of a package names this URL, name it in a pip_install",
            )
    versions = {package.name: package.version for package in selected}
    for root in () if overridden else roots:
        asked_for, version = root.requirement, versions.get(root.name or "")
        if asked_for is not None and asked_for.url is None and version is not None and not root.allows(version):
            raise ResolutionError(
                f"{root.scoped.origin}: uv answers with {root.name} {version}, which {root.scoped.text} does not allow",
                hint=_MAY_BE_CHANGED,
            )
