"""What a project allows to be locked: the settings, licences, and each breach at the line that causes it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from klock.asking import Asker
from klock.errors import KlockError
from klock.lockfile.model import (
    AptLock,
    CondaLock,
    CondaPackage,
    CopyLock,
    DebianLock,
    DebPackage,
    FetchedRepository,
    ImageLock,
    LockedPackage,
    LockedRequest,
    Lockfile,
    OciBlob,
    OciLock,
    PipLock,
    PythonLock,
    SdistArtifact,
    ShellLock,
    StepLock,
    TargetLock,
    WheelArtifact,
)
from klock.packages.credentials import Credentials
from klock.policy.checking import breaches, unsigned
from klock.policy.facts import Facts
from klock.policy.licences import canonical, is_allowed, licence_said
from klock.policy.rules import Policy
from klock.project import load_settings
from klock.steps.kind import UNKNOWN_LAYER
from klock.targets import Target
from tests.integration.index_server import IndexServer, make_wheel
from tests.memory_workshop import memory_context

NOW = datetime(2026, 11, 30, tzinfo=UTC)


def settings(folder: Path, text: str) -> Policy:
    (folder / "pyproject.toml").write_text(f"[tool.klock.policy]\n{text}\n")
    return load_settings(folder).policy


def test_all_rules(tmp_path: Path) -> None:
    assert settings(
        tmp_path,
        'indexes = ["https://pypi.org/simple/"]\nregistries = ["ghcr.io/ours"]\nhosts = ["*.debian.org"]\n'
        'minimum-age = "36 hours"\nlicences = ["mit"]\nlicences-of = { Odd_Name = "apache-2.0" }\n'
        "no-sdists = true\nno-keep-layer = true\nsigned = true",
    ) == Policy(
        indexes=("https://pypi.org/simple",),
        registries=("ghcr.io/ours",),
        hosts=("*.debian.org",),
        minimum_age=36,
        licences=("MIT",),
        licences_of={"odd-name": "Apache-2.0"},
        no_sdists=True,
        no_keep_layer=True,
        signed=True,
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("no-sdist = true", r"tool\.klock\.policy\.no-sdist is not a policy rule"),
        ("no-sdists = 1", r"policy\.no-sdists is 1 \(expected true or false\)"),
        ('indexes = "https://a"', r"policy\.indexes is 'https://a' \(expected a list\)"),
        ('indexes = ["pypi"]', r"policy\.indexes\[0\] is 'pypi' \(expected the URL of an index\)"),
        ('hosts = ["a b"]', r"policy\.hosts\[0\] is 'a b' \(expected a host's name"),
        ('minimum-age = "a week"', r"policy\.minimum-age is 'a week'"),
        ('licences = ["Mine"]', r"policy\.licences\[0\] is 'Mine', which is not an SPDX licence"),
        ('licences-of = { a = "?" }', r"policy\.licences-of\.a is '\?', which is not an SPDX licence"),
    ],
)
def test_what_is_no_rule_is_named(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(KlockError, match=said):
        settings(tmp_path, text)


ALLOWED = ("MIT", "Apache-2.0", "GPL-2.0-only WITH Classpath-exception-2.0")


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("MIT", True),
        ("GPL-3.0-only", False),
        ("MIT OR GPL-3.0-only", True),
        ("MIT AND GPL-3.0-only", False),
        ("MIT AND Apache-2.0", True),
        ("MIT OR Apache-2.0 AND GPL-3.0-only", True),
        ("GPL-3.0-only AND MIT OR Apache-2.0", True),
        ("GPL-3.0-only AND (MIT OR Apache-2.0)", False),
        ("(MIT OR GPL-3.0-only) AND Apache-2.0", True),
        ("GPL-2.0-only WITH Classpath-exception-2.0", True),
        ("GPL-2.0-only", False),
        ("Apache-2.0 WITH LLVM-exception", True),
        ("", False),
        ("MIT )", False),
        ("(MIT", False),
    ],
)
def test_an_expression_is_allowed_if_it_can_be_kept_with_what_is_allowed(expression: str, expected: bool) -> None:
    assert is_allowed(expression, ALLOWED) is expected


@given(
    st.recursive(
        st.sampled_from(["MIT", "ISC"]), lambda x: st.tuples(x, st.sampled_from(["AND", "OR"]), x), max_leaves=8
    )
)
def test_expressions_mean_what_python_means(tree: Any) -> None:
    def text(node: Any, words: dict[str, str]) -> str:
        if isinstance(node, str):
            return words[node]
        return f"({text(node[0], words)} {words[node[1]]} {text(node[2], words)})"

    spdx = text(tree, {"MIT": "MIT", "ISC": "ISC", "AND": "AND", "OR": "OR"})
    python = text(tree, {"MIT": "True", "ISC": "False", "AND": "and", "OR": "or"})
    assert canonical(spdx) is not None
    assert is_allowed(canonical(spdx) or "", ["MIT"]) is eval(python)


SAID = {
    "an expression": (("mit OR apache-2.0", "x", ()), "MIT OR Apache-2.0"),
    "an expression that is none": (("Mine", None, ("License :: OSI Approved :: MIT License",)), None),
    "a classifier": ((None, "see file", ("License :: OSI Approved :: MIT License", "A :: B")), "MIT"),
    "two": (
        (None, None, ("License :: OSI Approved :: MIT License", "License :: OSI Approved :: ISC License (ISCL)")),
        "ISC AND MIT",
    ),
    "one that says nothing": ((None, "BSD", ("License :: OSI Approved",)), "BSD-3-Clause"),
    "one that nobody knows": ((None, "MIT", ("License :: Other/Proprietary License",)), None),
    "words": ((None, "Apache License,  Version 2.0", ()), "Apache-2.0"),
    "an identifier": ((None, "bsd-2-clause", ()), "BSD-2-Clause"),
    "the whole text": ((None, "Permission is hereby granted, " * 20, ()), None),
    "nothing": ((None, None, ()), None),
}


@pytest.mark.parametrize(("metadata", "expected"), SAID.values(), ids=SAID)
def test_the_licence_that_metadata_says(metadata: Any, expected: str | None) -> None:
    assert licence_said(*metadata) == expected


def package(name: str = "a", index: str | None = "https://pypi.org/simple", **more: Any) -> LockedPackage:
    url = f"https://files.example.org/{name}-1.0-py3-none-any.whl"
    wheel = WheelArtifact(name=f"{name}-1.0-py3-none-any.whl", url=url, size=1, sha256="a" * 64)
    return LockedPackage(name=name, version="1.0", index=index, artifact=more.get("artifact", wheel))


def lock_of(*steps: StepLock, packages: tuple[LockedPackage, ...] = (), base: Any = None) -> Lockfile:
    empty = DebianLock(suite="bookworm", packages=(), debs=(), tree="sha256:" + "1" * 64)
    target = TargetLock(target=Target(), base=base or empty, interpreter=None, steps=steps, packages=packages)
    return Lockfile(image=ImageLock(), normalisation=1, targets=(target,))


def installing(*packages: LockedPackage, **more: Any) -> Lockfile:
    step = PipLock(requirements=(), packages=tuple(each.pin for each in packages), layer=UNKNOWN_LAYER, **more)
    return lock_of(step, packages=packages)


def found_in(
    lock: Lockfile, policy: Policy, folder: Path, *, asker: Asker | None = None
) -> tuple[list[str], list[str]]:
    context = replace(memory_context(folder), locations=("kimage.py:4", "kimage.py:5"))
    facts = Facts(store=context.store, credentials=Credentials(), asker=asker)
    found = breaches(lock, policy, context, facts, base_location="kimage.py:3", now=NOW)
    return [f"{each.code.value}: {each}" for each in found.findings], found.notes


BLOB = OciBlob(digest="sha256:" + "1" * 64, size=1, media_type="m")
IMAGE = OciLock(reference="ghcr.io/ours/base:1", index_digest=None, manifest=BLOB, config=BLOB, layers=())
DEB = DebPackage(name="vim", version="1", architecture="all", path="pool/v.deb", size=1, sha256="d" * 64)
ZLIB = CondaPackage(
    name="z", version="1", build="0", url="https://conda.test/c/linux-64/z-1-0.conda", sha256="0" * 64, size=1
)
GOT = LockedRequest(method="GET", url="https://get.example.com:8443/x", status=200, size=1, sha256="e" * 64)
SDIST = SdistArtifact(
    name="a-1.0.tar.gz",
    url="https://x/a-1.0.tar.gz",
    size=1,
    sha256="f" * 64,
    wheel=WheelArtifact(name="a-1.0-py3-none-any.whl", url="", size=1, sha256="a" * 64),
)
BREACHES: dict[str, tuple[Lockfile, Policy, list[str]]] = {
    "another index": (
        installing(package(index="https://other/simple")),
        Policy(indexes=("https://pypi.org/simple",)),
        [
            "policy-source: step 1 (kimage.py:4): a 1.0 is from https://other/simple, "
            "which is not in the policy's indexes"
        ],
    ),
    "an allowed index": (
        installing(package(index="https://pypi.org/simple/")),
        Policy(indexes=("https://pypi.org/simple",)),
        [],
    ),
    "no index": (
        installing(package(index=None)),
        Policy(indexes=("https://pypi.org/simple",)),
        [
            "policy-source: step 1 (kimage.py:4): a 1.0 is from https://files.example.org/a-1.0-py3-none-any.whl, "
            "which is not in the policy's indexes"
        ],
    ),
    "no index, and an allowed host": (
        installing(package(index=None)),
        Policy(indexes=("https://pypi.org/simple",), hosts=("files.example.org",)),
        [],
    ),
    "an index that hosts say nothing of": (
        installing(package()),
        Policy(hosts=("example.org",)),
        [
            "policy-source: step 1 (kimage.py:4): a 1.0 of https://pypi.org/simple is from pypi.org, "
            "which is not in the policy's hosts"
        ],
    ),
    "another registry": (
        lock_of(base=replace(IMAGE, reference="python:3.12")),
        Policy(registries=("ghcr.io",)),
        ["policy-source: kimage.py:3: the base python:3.12 is from docker.io, which is not in the policy's registries"],
    ),
    "a registry whose name begins alike": (
        lock_of(base=replace(IMAGE, reference="ghcr.io/oursbutnot/base:1")),
        Policy(registries=("ghcr.io/ours",)),
        [
            "policy-source: kimage.py:3: the base ghcr.io/oursbutnot/base:1 is from ghcr.io, "
            "which is not in the policy's registries"
        ],
    ),
    "an allowed registry": (lock_of(base=IMAGE), Policy(registries=("ghcr.io/ours",)), []),
    "a layout": (lock_of(base=replace(IMAGE, reference="oci:./x")), Policy(registries=(), hosts=()), []),
    "an archive of .debs": (
        lock_of(
            AptLock(packages=("vim",), debs=(DEB, replace(DEB, archive="https://ppa.test/x")), layer=UNKNOWN_LAYER)
        ),
        Policy(hosts=("*.debian.org",)),
        [
            "policy-source: step 1 (kimage.py:4): the archive https://ppa.test/x (of vim) is from ppa.test, "
            "which is not in the policy's hosts"
        ],
    ),
    "what a shell step fetches": (
        lock_of(ShellLock(command="x", layer=UNKNOWN_LAYER, requests=(GOT,))),
        Policy(hosts=("example.com",)),
        [
            "policy-source: step 1 (kimage.py:4): https://get.example.com:8443/x is from get.example.com:8443, "
            "which is not in the policy's hosts"
        ],
    ),
    "a git repository, a conda package and a Python": (
        lock_of(
            CopyLock(
                sources=("x",),
                destination="/x",
                layer=UNKNOWN_LAYER,
                repositories=(FetchedRepository(url="https://git.test/x.git", sha256="0" * 64, commit="1" * 40),),
            ),
            CondaLock(
                specs=("z",), channels=("c",), prefix="/opt/conda", layer=UNKNOWN_LAYER, variables=(), packages=(ZLIB,)
            ),
            PythonLock(
                version="3.12", sha256="0" * 64, layer=UNKNOWN_LAYER, variables=(), url="https://python.test/3.tgz"
            ),
        ),
        Policy(hosts=("example.com",)),
        [
            "policy-source: step 1 (kimage.py:4): https://git.test/x.git is from git.test, "
            "which is not in the policy's hosts",
            f"policy-source: step 2 (kimage.py:5): {ZLIB.url} is from conda.test, which is not in the policy's hosts",
            "policy-source: step 3: https://python.test/3.tgz is from python.test, which is not in the policy's hosts",
        ],
    ),
    "any port of an allowed host": (
        lock_of(ShellLock(command="x", layer=UNKNOWN_LAYER, requests=(GOT,))),
        Policy(hosts=("*.example.com",)),
        [],
    ),
    "a source": (
        installing(package(artifact=SDIST)),
        Policy(no_sdists=True),
        ["policy-sdist: step 1 (kimage.py:4): a 1.0 is built from a-1.0.tar.gz"],
    ),
    "a kept layer": (
        lock_of(ShellLock(command="make", layer=UNKNOWN_LAYER, keep_layer=True)),
        Policy(no_keep_layer=True),
        ["policy-layer: step 1 (kimage.py:4): it keeps its layer: run_bash make"],
    ),
    "a licence that the settings say": (
        installing(package()),
        Policy(licences=("MIT",), licences_of={"a": "GPL-3.0-only"}),
        ["policy-licence: step 1 (kimage.py:4): a 1.0 has the licence GPL-3.0-only"],
    ),
    "no policy": (installing(package(artifact=SDIST)), Policy(), []),
}


@pytest.mark.parametrize(("lock", "policy", "expected"), BREACHES.values(), ids=BREACHES)
def test_a_breach_is_found_at_its_line(lock: Lockfile, policy: Policy, expected: list[str], tmp_path: Path) -> None:
    assert found_in(lock, policy, tmp_path) == (expected, [])


def test_age_and_licence_are_asked_once_and_known_offline_then(tmp_path: Path) -> None:
    files = tmp_path / "files"
    files.mkdir()
    packages = []
    uploaded = {"young": "2026-11-25T12:00:00.5Z", "old": "2026-11-01T00:00:00Z"}
    policy = Policy(minimum_age=7 * 24, licences=("MIT",))
    with IndexServer(files) as index:
        for name in ("young", "old", "unknown"):
            path = make_wheel(files, name, "1.0")
            if name in uploaded:
                index.uploaded[path.name] = uploaded[name]
            content = path.read_bytes()
            import hashlib

            url = f"{index.url.removesuffix('simple/')}files/{path.name}"
            wheel = WheelArtifact(
                name=path.name, url=url, size=len(content), sha256=hashlib.sha256(content).hexdigest()
            )
            packages.append(LockedPackage(name=name, version="1.0", index=index.url, artifact=wheel))
        lock = installing(*packages)
        unasked, notes = found_in(lock, policy, tmp_path)
        assert unasked == []
        assert len(notes) == 6
        asked = found_in(lock, policy, tmp_path, asker=Asker(memory_context(tmp_path).store, seconds=60))
    no_licence = "names no licence that klock knows; if you know it, add it to licences-of"
    assert asked[0] == [
        "policy-age: step 1 (kimage.py:4): young 1.0 was uploaded at 2026-11-25T12:00:00Z; "
        "the policy allows it when it is 7 days old",
        *(f"policy-licence: step 1 (kimage.py:4): {name} 1.0 {no_licence}" for name in ("young", "old", "unknown")),
    ]
    assert asked[1] == ["the age of unknown 1.0 is not known: `klock check --upstream` asks its index"]
    assert found_in(lock, policy, tmp_path) == asked, "the index is gone"


def test_the_licence_of_a_wheel_in_the_store(tmp_path: Path) -> None:
    path = make_wheel(tmp_path, "a", "1.0", files={"a-1.0.dist-info/licenses/x": "x"})
    store = memory_context(tmp_path).store
    digest = store.add_bytes(path.read_bytes())
    wheel = WheelArtifact(name=path.name, url="", size=path.stat().st_size, sha256=digest.removeprefix("sha256:"))
    found, notes = found_in(installing(package(artifact=wheel)), Policy(licences=()), tmp_path)
    assert [each.partition(": a 1.0 ")[2] for each in found] == [
        "names no licence that klock knows; if you know it, add it to licences-of"
    ]
    assert notes == []


def test_a_lockfile_that_nobody_trusted_signed(tmp_path: Path) -> None:
    finding = unsigned(tmp_path / "kimage.lock", [])
    assert finding is not None and finding.message == "the settings name no trusted-keys"
    finding = unsigned(tmp_path / "kimage.lock", [tmp_path / "key.pub"])
    assert finding is not None and "kimage.lock is not signed" in finding.message
