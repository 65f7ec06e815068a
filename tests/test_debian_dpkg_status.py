"""dpkg's status file: which packages are installed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from klock.debian.dpkg_status import InstalledPackage, installed_packages

STATUS = b"""\
Package: libc6
Status: install ok installed
Priority: optional
Architecture: amd64
Multi-Arch: same
Version: 2.36-9+deb12u10
Conffiles:
 /etc/ld.so.conf.d/x86_64-linux-gnu.conf d4e7a7b88a71b5ffd9e2644e71a0cfab
Description: GNU C Library: Shared libraries
 Package: not-a-field
 .
 Contains the standard libraries.

Package: vim
Status: hold ok installed
Architecture: amd64
Version: 2:9.0.1378-2

Package: tzdata
Status: install ok installed
Multi-Arch: foreign
Architecture: all
Version: 2024a-0+deb12u1

Package: removed
Status: deinstall ok config-files
Architecture: all
Version: 1.0

Package: broken
Status: install ok half-installed
Architecture: all
Version: 1.0

Package: never
Status: unknown ok not-installed
Architecture: all
"""


def test_what_is_configured_is_installed_and_nothing_else() -> None:
    assert installed_packages(STATUS) == (
        InstalledPackage(name="libc6", version="2.36-9+deb12u10", architecture="amd64", is_co_installable=True),
        InstalledPackage(name="vim", version="2:9.0.1378-2", architecture="amd64", is_co_installable=False),
        InstalledPackage(name="tzdata", version="2024a-0+deb12u1", architecture="all", is_co_installable=False),
    )


def test_a_name_is_qualified_where_two_architectures_may_have_it() -> None:
    assert [package.qualified_name for package in installed_packages(STATUS)] == ["libc6:amd64", "vim", "tzdata"]


@pytest.mark.parametrize("status", [b"", b"\n", b"\n\n\n", b"Package: a\nStatus: install ok installed\n", b"\xff\xfe"])
def test_a_file_that_tells_of_no_package_has_none(status: bytes) -> None:
    assert installed_packages(status) == ()


_WORDS = st.text(st.characters(codec="utf-8", exclude_characters="\n"), max_size=20)
_PACKAGES = st.builds(
    InstalledPackage,
    name=st.from_regex(r"[a-z0-9][a-z0-9+.-]+", fullmatch=True),
    version=st.from_regex(r"[0-9][0-9A-Za-z.+~:-]*", fullmatch=True),
    architecture=st.sampled_from(["amd64", "arm64", "all"]),
    is_co_installable=st.booleans(),
)


def _stanza(package: InstalledPackage, description: str) -> str:
    lines = [
        f"Package: {package.name}",
        "Status: install ok installed",
        f"Description: {description}",
        f" Package: {description}",
        f"Version: {package.version}",
        f"Architecture: {package.architecture}",
    ]
    if package.is_co_installable:
        lines.append("Multi-Arch: same")
    return "".join(f"{line}\n" for line in lines)


@given(st.lists(st.tuples(_PACKAGES, _WORDS)))
def test_what_was_written_is_read_whatever_a_description_says(packages: list[tuple[InstalledPackage, str]]) -> None:
    written = "\n".join(_stanza(package, description) for package, description in packages)
    assert installed_packages(written.encode()) == tuple(package for package, _ in packages)
