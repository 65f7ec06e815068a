"""What apt prints becomes locked packages, and a locked package becomes a URL."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from klock.debian.apt_root import Lists, explain, prepare
from klock.debian.archive import parse_uris, sources_list, url_of
from klock.debian.bootstrap import check_architecture
from klock.debian.flat_repository import file_name
from klock.errors import EngineError, FetchError, ResolutionError
from klock.fetching.mirrors import DEBIAN_ARCHIVES
from klock.lockfile.model import DebPackage
from klock.targets import Target

SHA = "ab" * 32


def deb(**changes: str | int) -> DebPackage:
    fields: dict[str, str | int] = {
        "name": "jq",
        "version": "1.6-2.1",
        "architecture": "amd64",
        "path": "pool/main/j/jq/jq_1.6-2.1_amd64.deb",
        "size": 64672,
        "sha256": SHA,
        "archive": "debian",
    }
    return DebPackage(**{**fields, **changes})  # type: ignore[arg-type]


def line(url: str, file: str = "jq_1.6-2.1_amd64.deb", size: int = 64672, digest: str = f"SHA256:{SHA}") -> str:
    return f"'{url}' {file} {size} {digest} \n"


POOL = "pool/main/j/jq/jq_1.6-2.1_amd64.deb"
PARSED = {
    "Debian's archive has a name": (line(f"http://deb.debian.org/debian/{POOL}"), deb()),
    "so has it on another host of Debian's": (line(f"https://deb.debian.org/debian/{POOL}"), deb()),
    "the security archive": (
        line(f"http://security.debian.org/debian-security/{POOL}"),
        deb(archive="debian-security"),
    ),
    "a configured mirror is the archive it stands for": (line(f"http://mirror.example/d/{POOL}"), deb()),
    "any other archive goes by its URL": (
        line(f"https://deb.nodesource.com/node_20.x/{POOL}"),
        deb(archive="https://deb.nodesource.com/node_20.x"),
    ),
    "an archive without a pool": (
        line("https://nvidia.example/cuda/x86_64/jq_1.6-2.1_amd64.deb"),
        deb(archive="https://nvidia.example/cuda/x86_64", path="jq_1.6-2.1_amd64.deb"),
    ),
    "escapes in the URL and in the file name": (
        line(
            "http://deb.debian.org/debian/pool/main/g/g%2b%2b/g%2b%2b_12%2bx_amd64.deb",
            file="g++_4%3a12+x_amd64.deb",
        ),
        deb(name="g++", version="4:12+x", path="pool/main/g/g++/g++_12+x_amd64.deb"),
    ),
    "credentials in the URL are left out": (
        line(f"https://user:s3cret@apt.example/private/{POOL}"),
        deb(archive="https://apt.example/private"),
    ),
}


@pytest.mark.parametrize(("output", "expected"), PARSED.values(), ids=PARSED.keys())
def test_parsed(output: str, expected: DebPackage) -> None:
    archives = {**DEBIAN_ARCHIVES, "debian": "http://mirror.example/d"}
    assert parse_uris(f"Reading package lists...\n{output}Done\n", archives=archives) == (expected,)


def test_packages_are_sorted_whatever_apts_order() -> None:
    lines = [line(f"http://deb.debian.org/debian/pool/{n}.deb", file=f"{n}_1_amd64.deb") for n in "cab"]
    assert [d.name for d in parse_uris("".join(lines), archives=DEBIAN_ARCHIVES)] == ["a", "b", "c"]


def test_nothing_to_install_is_no_package() -> None:
    assert parse_uris("jq is already the newest version (1.6-2.1).\n", archives=DEBIAN_ARCHIVES) == ()


def test_a_known_package_keeps_its_archive_wherever_it_was_found() -> None:
    known = deb(archive="https://deb.nodesource.com/node_20.x")
    output = line("file:/run/klock-apt/repository/./jq_1.6-2.1_amd64.deb")
    assert parse_uris(output, archives=DEBIAN_ARCHIVES, known=[known]) == (known,)


def test_a_package_without_a_sha256_is_not_locked() -> None:
    for digest in ("MD5Sum:d41d8cd98f00b204e9800998ecf8427e", ""):
        with pytest.raises(ResolutionError) as error:
            parse_uris(line(f"http://a.example/{POOL}", digest=digest), archives=DEBIAN_ARCHIVES)
        assert error.value.message == ("the package jq 1.6-2.1 has no SHA-256 in its archive, so it cannot be locked")


def test_a_package_from_a_folder_of_the_environment_is_not_locked() -> None:
    with pytest.raises(ResolutionError, match="is inside the environment, not in an archive klock can fetch from"):
        parse_uris(line("file:/opt/debs/jq_1.6-2.1_amd64.deb"), archives=DEBIAN_ARCHIVES)


URLS = {
    "Debian's": (deb(), f"http://deb.debian.org/debian/{POOL}"),
    "another archive's": (deb(archive="https://a.example/x"), f"https://a.example/x/{POOL}"),
    "with a plus": (deb(path="pool/g++_1.deb"), "http://deb.debian.org/debian/pool/g%2B%2B_1.deb"),
}


@pytest.mark.parametrize(("package", "url"), URLS.values(), ids=URLS.keys())
def test_the_url_of(package: DebPackage, url: str) -> None:
    assert url_of(package, DEBIAN_ARCHIVES) == url


def test_a_mirror_is_asked_instead() -> None:
    assert url_of(deb(), {"debian": "http://mirror.example/d"}) == f"http://mirror.example/d/{POOL}"


def test_an_archive_that_is_no_url_is_refused() -> None:
    with pytest.raises(FetchError, match=r"jq 1\.6-2\.1 comes from an unknown archive 'file:///etc'"):
        url_of(deb(archive="file:///etc"), DEBIAN_ARCHIVES)


NAME = st.text("abcz0189+.-", min_size=2, max_size=10)
VERSION = st.text("0189abz.+~-:", min_size=1, max_size=12)


@given(NAME, VERSION, st.sampled_from(["amd64", "all"]))
def test_a_package_survives_the_way_through_apt(name: str, version: str, architecture: str) -> None:
    package = deb(name=name, version=version, architecture=architecture, path=f"pool/main/{name}_{architecture}.deb")
    printed = line(url_of(package, DEBIAN_ARCHIVES), file=file_name(package))
    assert parse_uris(printed, archives=DEBIAN_ARCHIVES) == (package,)


def test_a_suite_comes_with_its_updates() -> None:
    assert sources_list("bookworm", DEBIAN_ARCHIVES, keyring="/k.gpg") == (
        "deb [signed-by=/k.gpg] http://deb.debian.org/debian bookworm main\n"
        "deb [signed-by=/k.gpg] http://deb.debian.org/debian bookworm-updates main\n"
        "deb [signed-by=/k.gpg] http://deb.debian.org/debian-security bookworm-security main\n"
    )


def test_unstable_has_none() -> None:
    assert sources_list("sid", DEBIAN_ARCHIVES, keyring="/k.gpg") == (
        "deb [signed-by=/k.gpg] http://deb.debian.org/debian sid main\n"
    )


EXPLAINED = {
    "an unknown package": (
        "E: Unable to locate package nosuch\n",
        "Debian bookworm: there is no package 'nosuch'",
    ),
    "a package that is only referred to": (
        "E: Package 'python' has no installation candidate\n",
        "Debian bookworm: there is no package 'python'",
    ),
    "an unknown version": (
        "E: Version '9' for 'jq' was not found\n",
        "Debian bookworm: there is no version '9' of the package 'jq'",
    ),
    "a conflict": (
        "The following packages have unmet dependencies:\n a : Conflicts: b\nE: Unable to correct problems\n",
        "Debian bookworm: apt finds no way to install the packages\n"
        "  | The following packages have unmet dependencies:\n  | a : Conflicts: b\n  | E: Unable to correct problems",
    ),
}


@pytest.mark.parametrize(("output", "message"), EXPLAINED.values(), ids=EXPLAINED.keys())
def test_explained(output: str, message: str) -> None:
    assert explain(output, where="Debian bookworm").message == message


def test_the_hosts_apt_runs_nothing_but_itself_and_reads_nothing_of_the_host(tmp_path: Path) -> None:
    if shutil.which("apt-config") is None:
        pytest.skip("needs apt")
    prepare(tmp_path, "bookworm", "amd64", DEBIAN_ARCHIVES, None)
    done = subprocess.run(
        ["apt-config", "dump", "--format", "%F %v%n"],
        env={"APT_CONFIG": str(tmp_path / "apt.conf"), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    settings = [line.partition(" ") for line in done.stdout.splitlines()]
    assert [(name, value) for name, _, value in settings if "Invoke" in name or "Install-Pkgs" in name] == []
    assert [
        (name, value) for name, _, value in settings if "Proxy-Auto-Detect" in name or "ProxyAutoDetect" in name
    ] == []
    paths = [
        "Dir::Etc::parts/d",
        "Dir::Etc::main/f",
        "Dir::Etc::sourceparts/d",
        "Dir::Etc::netrc/f",
        "Dir::Etc::netrcparts/d",
    ]
    shell = ["apt-config", "shell", *(word for number, path in enumerate(paths) for word in (f"P{number}", path))]
    environment = {"APT_CONFIG": str(tmp_path / "apt.conf"), "PATH": "/usr/bin:/bin"}
    said = subprocess.run(shell, env=environment, capture_output=True, text=True, check=True).stdout
    assert said.count(f"='{tmp_path}/etc/") == len(paths), said


def test_a_host_without_apt_is_told_the_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EngineError) as error:
        Lists.fetch("bookworm", architecture="amd64", archives=DEBIAN_ARCHIVES, ca_bundle=None, folder=tmp_path)
    assert error.value.message == "from_debian needs apt on this machine to find out what Debian has"
    assert error.value.hint == "lock on Debian or Ubuntu, or use a base from a registry; `klock sync` needs no apt"


def test_another_architecture_needs_an_emulator() -> None:
    here = Target.of_this_machine()
    check_architecture(here.architecture)
    other = Target(architecture="arm64" if here.architecture == "amd64" else "amd64")
    if Path(f"/proc/sys/fs/binfmt_misc/qemu-{other.machine}").exists():
        pytest.skip("this machine has an emulator")
    with pytest.raises(EngineError) as error:
        check_architecture(other.architecture)
    assert error.value.message == (
        f"this {here.architecture} machine cannot make a Debian base for {other.architecture}: it cannot run the "
        "base's programs"
    )
