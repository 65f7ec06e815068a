"""What resolution is asked for: the pip steps of one image, their requirement lines already read into typed values."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from packaging.requirements import InvalidRequirement, Requirement

from klock.errors import RequirementError
from klock.values import dataclass

if TYPE_CHECKING:
    from klock.image.pip_options import PipOptions
    from klock.image.requirements import ParsedRequirement, Steering
    from klock.packages.wheels import WheelMetadata
    from klock.secrets.userinfo import PrivateUrl

_PATH: Final = re.compile(r"(^|@\s*)[./]|file:/")
_NAMES_FILES: Final = tuple(
    f"{tool}_{what}" for tool in ("PIP", "UV") for what in ("CONSTRAINT", "OVERRIDE", "BUILD_CONSTRAINT", "FIND_LINKS")
)
_FOR_BUILDS: Final = ("dependency-metadata", "exclude-newer", "exclude-newer-package", "index-strategy")
_NOT_FOR_BUILDS: Final = ("UV_CONSTRAINT", "UV_OVERRIDE", "UV_RESOLUTION")

__all__ = [
    "LocalProjectSource",
    "PipRequest",
    "RequestSteering",
    "RequirementOptions",
    "ScopedRequirement",
    "parse_requirement",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class RequirementOptions:
    """pip's index and build options. URLs may hold credentials: they are used, never kept.

    `index_url` None means the default index; `only_from` and `for_all` are as in `klock.image.pip_options.PipOptions`.
    `no_binary` and `only_binary` hold normalised project names, or `:all:`.
    With `upgrade` a distribution of the base is no reason to keep its version.
    """

    index_url: str | None = None
    only_from: str | None = None
    for_all: bool = False
    extra_index_urls: tuple[str, ...] = ()
    find_links: tuple[str, ...] = ()
    no_index: bool = False
    pre: bool = False
    no_binary: tuple[str, ...] = ()
    only_binary: tuple[str, ...] = ()
    no_build_isolation: bool = False
    upgrade: bool = False

    @classmethod
    def of(cls, options: PipOptions) -> RequirementOptions:
        """The same options as the image's parser read them, the credentials back in the URLs."""
        return cls(
            index_url=options.index_url.with_credentials if options.index_url else None,
            only_from=options.only_from.with_credentials if options.only_from else None,
            for_all=options.for_all,
            extra_index_urls=_texts(options.extra_index_urls),
            find_links=_texts(options.find_links),
            no_index=options.no_index,
            pre=options.pre,
            no_binary=options.no_binary,
            only_binary=options.only_binary,
            no_build_isolation=options.no_build_isolation,
            upgrade=options.upgrade,
        )

    @property
    def urls(self) -> tuple[str, ...]:
        """All URLs, with their credentials."""
        single = (url for url in (self.index_url, self.only_from) if url is not None)
        return (*single, *self.extra_index_urls, *self.find_links)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScopedRequirement:
    """One requirement with the options that hold for it alone. `text` is PEP 508, or a nameless URL as pip takes it.

    `hashes` (`sha256:...`), of --hash and of a URL's fragment, are the only ones its artifact may have, when there are
    any. `is_locked`: its version holds whatever other packages require. `only_for` is the marker of the environments
    that it can be asked for in; with `lacks_hash` it can be asked for in none. One of `files`, by their URLs, is
    meant where there are any. `origin` says in messages where it is from: `kimage.py:12: pip_install`,
    `requirements.txt:3`.
    """

    text: str
    origin: str
    options: RequirementOptions = RequirementOptions()
    hashes: tuple[str, ...] = ()
    is_locked: bool = False
    lacks_hash: bool = False
    only_for: str = ""
    files: tuple[str, ...] = ()

    @classmethod
    def of(cls, parsed: ParsedRequirement) -> ScopedRequirement:
        """A requirement of the image's parser. A path is that of an archive in the environment; a project folder is a
        `LocalProjectSource` instead."""
        from klock.image.requirements import PackageRequirement, PathRequirement

        if isinstance(parsed, PackageRequirement):
            text = str(parsed.requirement)
        else:
            path = isinstance(parsed, PathRequirement)
            url = f"file://{parsed.path}" if isinstance(parsed, PathRequirement) else parsed.url.with_credentials
            extras = f"[{','.join(parsed.extras)}]" if parsed.extras else ""
            text = f"{parsed.name}{extras} @ {url}" if parsed.name else f"{url}{extras if path else ''}"
            if parsed.marker is not None:
                text += f" ; {parsed.marker}"
        options = RequirementOptions.of(parsed.options)
        more = () if isinstance(parsed, PackageRequirement) else parsed.fragment_hashes
        hashes = tuple(dict.fromkeys([*parsed.hashes, *more]))
        is_locked = isinstance(parsed, PackageRequirement) and parsed.is_locked
        locked = None if isinstance(parsed, PathRequirement) else parsed
        return cls(
            text=text,
            origin=parsed.where,
            options=options,
            hashes=hashes,
            is_locked=is_locked,
            lacks_hash=locked is not None and locked.lacks_hash,
            only_for=str(locked.only_for or "") if locked is not None else "",
            files=_texts(parsed.files) if isinstance(parsed, PackageRequirement) else (),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalProjectSource:
    """A project at `path` inside the environment, which an earlier step copies there from the host folder `source`."""

    path: str
    source: Path
    origin: str
    extras: tuple[str, ...] = ()
    editable: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestSteering:
    """What a project has uv choose by: see `klock.image.requirements.Steering`."""

    settings: Mapping[str, Any] = field(default_factory=dict)
    places: Mapping[str, str] = field(default_factory=dict)
    overrides: tuple[ScopedRequirement, ...] = ()
    excluded: tuple[str, ...] = ()
    build_constraints: tuple[ScopedRequirement, ...] = ()

    @classmethod
    def of(cls, steering: Steering) -> RequestSteering:
        """The same as the image's parser read it."""
        return cls(
            settings=steering.settings,
            places=steering.places,
            overrides=tuple(map(ScopedRequirement.of, steering.overrides)),
            excluded=steering.excluded,
            build_constraints=tuple(map(ScopedRequirement.of, steering.build_constraints)),
        )

    @property
    def for_builds(self) -> RequestSteering:
        settings = {name: value for name, value in self.settings.items() if name in _FOR_BUILDS}
        return RequestSteering(settings=settings, places=self.places)


@dataclass(frozen=True, slots=True, kw_only=True)
class PipRequest:
    """One pip step. `environment` are the container's variables at that step, expanded, with secrets in place; those
    named in `secret_variables` are for klock alone. `base` are those of the base image.

    `force` reinstalls what the step names, whether the environment has it or not. `keeps_layer`: what it makes is kept
    as an artifact, so that nothing of it has to be built anywhere else. `stands_apart`: other steps are between it and
    the pip step before, and may bring what it needs. `own` is what its projects say of themselves, `steering` what
    others say of all that is resolved, `index_names` are their names for indexes, each with its URL.
    """

    requirements: tuple[ScopedRequirement, ...] = ()
    constraints: tuple[ScopedRequirement, ...] = ()
    projects: tuple[LocalProjectSource, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    secret_variables: frozenset[str] = frozenset()
    base: Mapping[str, str] = field(default_factory=dict)
    force: bool = False
    keeps_layer: bool = False
    stands_apart: bool = False
    own: tuple[WheelMetadata, ...] = ()
    steering: tuple[RequestSteering, ...] = ()
    index_names: Mapping[str, str] = field(default_factory=dict)

    @property
    def names_files(self) -> bool:
        """Whether it may need files of the environment besides what its builds need."""
        lines = (*self.requirements, *self.constraints)
        lines += tuple(line for each in self.steering for line in (*each.overrides, *each.build_constraints))
        named = [*(line.text for line in lines), *(url for line in lines for url in line.options.urls)]
        return any(map(_PATH.search, named)) or any(name in self.environment for name in _NAMES_FILES)

    @property
    def without_builds_against(self) -> PipRequest:
        """The request without what is built against the environment."""
        return replace(self, requirements=tuple(r for r in self.requirements if not r.options.no_build_isolation))

    def for_builds(self, requirements: tuple[ScopedRequirement, ...]) -> PipRequest:
        """What a build requires, in the same environment. As in uv, it is chosen without what is said of the rest."""
        variables = {name: value for name, value in self.environment.items() if name not in _NOT_FOR_BUILDS}
        if constraints := self.environment.get("UV_BUILD_CONSTRAINT"):
            variables["UV_CONSTRAINT"] = constraints
        return replace(
            self,
            requirements=requirements,
            constraints=tuple(line for each in self.steering for line in each.build_constraints),
            projects=(),
            own=(),
            force=False,
            environment=variables,
            steering=tuple(each.for_builds for each in self.steering),
        )

    @property
    def open_environment(self) -> dict[str, str]:
        """The variables that a package's own code may see."""
        return {name: value for name, value in self.environment.items() if name not in self.secret_variables}


def parse_requirement(scoped: ScopedRequirement) -> Requirement | None:
    try:
        return Requirement(scoped.text)
    except InvalidRequirement as error:
        if "://" in scoped.text and " " not in scoped.text.split(" ;")[0].strip():
            return None
        reason = str(error).splitlines()[0]
        raise RequirementError(f"{scoped.origin}: {scoped.text!r} is not a requirement: {reason}") from error


def _texts(urls: Iterable[PrivateUrl]) -> tuple[str, ...]:
    return tuple(url.with_credentials for url in urls)
