"""Hypothesis strategies for lockfiles: anything the model allows, not only what klock would make today."""

from __future__ import annotations

import dataclasses
import re

from hypothesis import strategies as st

from klock.lockfile.model import (
    AptLock,
    BaseLock,
    DebianLock,
    DebPackage,
    Distribution,
    EnvLock,
    FileEntry,
    FilesLock,
    ImageLock,
    Interpreter,
    KeptLayer,
    LayerLock,
    LocalProject,
    LockedFile,
    LockedPackage,
    LockedRequest,
    LockedVariable,
    Lockfile,
    OciBlob,
    OciImage,
    OciLayer,
    OciLock,
    PipLock,
    SdistArtifact,
    ServiceLock,
    ShellLock,
    StepLock,
    TargetLock,
    VcsArtifact,
    WheelArtifact,
)
from klock.targets import Target

hexes = st.integers(0, 2**256 - 1).map("{:064x}".format)  # one draw, where 64 characters would be 64
digests = hexes.map("sha256:".__add__)
texts = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=30)
names = st.from_regex(r"[a-z][a-z0-9]{0,8}", fullmatch=True)
versions = st.from_regex(r"[0-9]{1,2}\.[0-9]{1,2}", fullmatch=True)
sizes = st.integers(0, 10**12)
file_names = st.from_regex(r"[a-z0-9_][a-zé0-9_.+-]{0,9}", fullmatch=True)
paths = st.lists(file_names, min_size=1, max_size=3).map("/".join)
few = st.integers(0, 2)
env_pairs = st.lists(st.tuples(names, texts), max_size=2, unique_by=lambda p: p[0]).map(tuple)
layers = st.builds(LayerLock, digest=digests, files=sizes, size=sizes)
debs = st.builds(
    DebPackage, name=names, version=versions, architecture=names, path=paths, size=sizes, sha256=hexes, archive=names
)
urls = st.tuples(names, paths).map("https://{0[0]}.test/{0[1]}".format)
wheels = st.builds(WheelArtifact, name=file_names, url=urls, size=sizes, sha256=hexes)
built = st.builds(WheelArtifact, name=file_names, url=st.just(""), size=sizes, sha256=hexes)
values = texts.map(lambda text: re.sub(r"[\x00-\x1f\x7f]", "", text))
requests = st.builds(
    LockedRequest,
    method=names,
    url=st.from_regex(r"https?://[a-z0-9.-]{1,9}(:[1-9][0-9]{0,3})?/[!-~]{0,30}", fullmatch=True),
    status=st.integers(200, 499),
    size=sizes,
    sha256=st.none() | hexes,
    headers=st.lists(values.map("X-Checksum-Md5: ".__add__), max_size=2).map(tuple),
    body=st.none() | hexes,
    accept=st.none() | values,
    git_protocol=st.none() | values,
    authorized=st.none() | st.booleans(),
    turn=st.none() | st.integers(1, 3),
    private=st.booleans(),
)


def tuples_of(strategy: st.SearchStrategy[object], max_size: int = 2) -> st.SearchStrategy[tuple[object, ...]]:
    return st.lists(strategy, max_size=max_size).map(tuple)


blobs = st.builds(OciBlob, digest=digests, size=sizes, media_type=texts)
bases: st.SearchStrategy[BaseLock] = st.one_of(
    st.builds(
        OciLock,
        reference=texts,
        index_digest=st.none() | digests,
        manifest=blobs,
        config=blobs,
        layers=tuples_of(st.builds(OciLayer, digest=digests, size=sizes, media_type=texts, diff_id=digests)),
        environment=env_pairs,
        working_dir=texts,
        user=texts,
    ),
    st.builds(
        DebianLock, suite=names, packages=tuples_of(names), debs=tuples_of(debs), tree=digests, environment=env_pairs
    ),
)
artifacts = st.one_of(
    wheels,
    st.builds(
        SdistArtifact,
        name=file_names,
        url=urls,
        size=sizes,
        sha256=hexes,
        wheel=built,
        subdirectory=st.none() | names,
    ),
    st.builds(VcsArtifact, type=st.just("git"), url=urls, commit=hexes, wheel=built, subdirectory=st.none() | names),
)
any_packages = st.builds(
    LockedPackage,
    name=names,
    version=versions,
    index=st.none() | st.just("https://pypi.org/simple"),
    artifact=artifacts,
    dependencies=st.lists(names, max_size=2, unique=True).map(sorted).map(tuple),
    build_only=st.booleans(),
    replaces=st.none() | versions,
)


def with_its_own_wheel(package: LockedPackage) -> LockedPackage:
    if not isinstance(package.artifact, WheelArtifact):
        return package
    name = f"{package.name}-{package.version}-py3-none-any.whl"
    return dataclasses.replace(package, artifact=dataclasses.replace(package.artifact, name=name))


packages = any_packages.map(with_its_own_wheel)
entries = st.one_of(
    st.builds(FileEntry, path=paths, mode=st.sampled_from([0o644, 0o755]), size=sizes, digest=digests),
    st.builds(FileEntry, path=paths, mode=st.just(0o777), target=texts),
    st.builds(FileEntry, path=paths, mode=st.just(0o755)),
)


def is_a_tree(found: tuple[object, ...]) -> bool:
    """Whether each entry lies below folders only."""
    no_folders = [e.path for e in found if isinstance(e, FileEntry) and not e.is_folder]
    return not any(isinstance(e, FileEntry) and e.path.startswith(f"{path}/") for e in found for path in no_folders)


def steps(pins: list[str]) -> st.SearchStrategy[StepLock]:
    """Any step; pip steps install some of `pins`."""
    some = st.lists(st.sampled_from(pins), unique=True).map(tuple) if pins else st.just(())
    variables = st.builds(LockedVariable, name=names, written=texts, value=texts, secrets=tuples_of(names))
    return st.one_of(
        st.builds(EnvLock, variables=tuples_of(variables)),
        st.builds(
            PipLock,
            requirements=tuples_of(texts),
            packages=some,
            layer=layers,
            files=tuples_of(st.builds(LockedFile, path=texts, digest=digests)),
            projects=tuples_of(st.builds(LocalProject, path=texts, name=names, editable=st.booleans())),
            force=st.booleans(),
        ),
        st.builds(AptLock, packages=tuples_of(names), debs=tuples_of(debs), layer=layers, force=st.booleans()),
        st.builds(
            FilesLock,
            source=texts,
            destination=paths.map("/".__add__),
            entries=tuples_of(entries).filter(is_a_tree),
            tree=digests,
            layer=layers,
            dest=st.none() | texts,
            contents=st.booleans(),
            filter_options=st.none() | texts,
        ),
        st.builds(
            ShellLock,
            command=texts,
            layer=layers,
            force=st.booleans(),
            leave_out=tuples_of(texts),
            keep_layer=st.booleans(),
            private_urls=tuples_of(texts),
            kept=st.none() | st.builds(KeptLayer, sha256=hexes, size=sizes),
            installed=tuples_of(texts),
            unknown_hosts=tuples_of(names),
            requests=tuples_of(requests),
        ),
        st.builds(ServiceLock, command=texts, wait_for=st.none() | texts),
    )


@st.composite
def target_locks(draw: st.DrawFn, target: Target) -> TargetLock:
    locked = draw(st.lists(packages, max_size=3, unique_by=lambda p: p.pin))
    return TargetLock(
        target=target,
        base=draw(bases),
        interpreter=draw(
            st.none()
            | st.builds(
                Interpreter,
                path=texts,
                version=versions,
                implementation=names,
                libc=texts,
                sha256=hexes,
                distributions=tuples_of(st.builds(Distribution, name=names, version=versions)),
            )
        ),
        steps=tuple(draw(st.lists(steps([p.pin for p in locked]), max_size=4))),
        packages=tuple(sorted(locked, key=lambda p: (p.name, p.version))),
        oci_image=draw(st.none() | st.builds(OciImage, digest=digests, size=sizes, compression=texts)),
    )


@st.composite
def lockfiles(draw: st.DrawFn) -> Lockfile:
    """One or two targets, which share nothing, all, or some of their tables."""
    first = draw(target_locks(Target()))
    targets = [first]
    other = Target(accelerator="cuda12.4")
    match draw(few):
        case 1:
            targets.append(draw(target_locks(other)))
        case 2:
            targets.append(dataclasses.replace(first, target=other, steps=first.steps[:-1]))
    return Lockfile(
        image=draw(st.builds(ImageLock, name=st.none() | texts, python_path=st.none() | texts)),
        normalisation=1,
        targets=tuple(targets),
    )
