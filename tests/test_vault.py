"""The vault over a folder of this machine: what a lockfile needs, there and back, whole or named."""

from __future__ import annotations

import dataclasses
import os
import stat
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from hypothesis import given

from klock.digests import digest_of_bytes, hex_of
from klock.errors import FetchError, KlockError, StoreError
from klock.fetching.mirrors import Mirrors
from klock.fetching.transport import Unreachable
from klock.layers.manifest import Manifest
from klock.lockfile.model import (
    AptLock,
    DebianLock,
    DebPackage,
    EnvLock,
    KeptLayer,
    LayerLock,
    LockedPackage,
    LockedRequest,
    Lockfile,
    OciBlob,
    OciLayer,
    OciLock,
    PipLock,
    SdistArtifact,
    ShellLock,
    TargetLock,
    VcsArtifact,
    WheelArtifact,
)
from klock.progress import Quiet
from klock.steps.context import Context
from klock.store import Store
from klock.targets import Target
from klock.vault import VaultFolder, find_faults, inputs_of, inputs_of_all, pull, push
from tests.integration.recorder_world import World, run_in_world
from tests.memory_workshop import MemoryWorkshop, file_entry
from tests.strategies import lockfiles

LAYER = LayerLock(digest=digest_of_bytes(b"a layer"), files=1, size=1)
TEXTS = (
    *("manifest", "config", "layer", "numpy", "built wheel", "built sdist", "cloned wheel", "jq", "libjq1", "in.tar"),
    *("InRelease", "numbers.tar.gz"),
)
SIZES: Mapping[str, int] = {text: len(text) for text in TEXTS}


def sha256(text: str) -> str:
    return hex_of(digest_of_bytes(text.encode()))


def blob(text: str) -> OciBlob:
    return OciBlob(digest=digest_of_bytes(text.encode()), size=len(text), media_type="m")


def wheel(text: str, *, url: str = "https://files.org/x.whl") -> WheelArtifact:
    return WheelArtifact(name=f"{text}.whl", url=url, size=len(text), sha256=sha256(text))


def package(name: str, artifact: WheelArtifact | SdistArtifact | VcsArtifact) -> LockedPackage:
    return LockedPackage(name=name, version="1.0", index=None, artifact=artifact)


def deb(text: str) -> DebPackage:
    return DebPackage(
        name=text, version="1.6", architecture="amd64", path=f"pool/{text}.deb", size=len(text), sha256=sha256(text)
    )


def request(text: str, url: str, **attributes: object) -> LockedRequest:
    plain = LockedRequest(method="GET", url=url, status=200, size=len(text), sha256=sha256(text))
    return dataclasses.replace(plain, **attributes)  # type: ignore[arg-type]


def shell(command: str, **attributes: object) -> ShellLock:
    return dataclasses.replace(ShellLock(command=command, layer=LAYER), **attributes)  # type: ignore[arg-type]


EVERYTHING = TargetLock(
    target=Target(),
    base=OciLock(
        reference="python:3.12",
        index_digest=None,
        manifest=blob("manifest"),
        config=blob("config"),
        layers=(OciLayer(digest=blob("layer").digest, size=5, media_type="l", diff_id=LAYER.digest),),
    ),
    interpreter=None,
    steps=(
        EnvLock(variables=()),
        PipLock(requirements=("numpy",), packages=("numpy==1.0",), layer=LAYER),
        AptLock(packages=("jq",), debs=(deb("jq"), deb("libjq1")), layer=LAYER),
        shell(
            "curl",
            requests=(
                request("InRelease", "http://deb.debian.org/debian/dists/bookworm/InRelease"),
                request("numbers.tar.gz", "https://files.org/numbers-1.0.tar.gz"),
                LockedRequest(method="HEAD", url="https://files.org/x", status=200, size=7),
            ),
        ),
        # It never runs again, so what it fetched is not needed.
        shell(
            "date > /x",
            keep_layer=True,
            kept=KeptLayer(sha256=sha256("in.tar"), size=6),
            requests=(request("unneeded", "https://files.org/x"),),
        ),
    ),
    packages=(
        package("numpy", wheel("numpy")),
        package("inside", wheel("inside", url="file:///wheels/inside.whl")),
        package(
            "built",
            SdistArtifact(
                name="built.tar.gz",
                url="https://files.org/built.tar.gz",
                size=len("built sdist"),
                sha256=sha256("built sdist"),
                wheel=wheel("built wheel", url=""),
            ),
        ),
        package(
            "cloned",
            VcsArtifact(type="git", url="https://git.org/x", commit="c" * 40, wheel=wheel("cloned wheel", url="")),
        ),
    ),
)


def test_the_inputs_of_every_kind_of_step() -> None:
    found = {item.name: (item.digest, item.size, item.permanent) for item in inputs_of(EVERYTHING)}
    expected = {
        "python:3.12 (manifest)": ("manifest", True),
        "python:3.12 (config)": ("config", True),
        "python:3.12 (layer)": ("layer", True),
        "numpy.whl": ("numpy", True),
        "built wheel.whl (built)": ("built wheel", False),
        "built.tar.gz": ("built sdist", True),
        "cloned wheel.whl (built)": ("cloned wheel", False),
        "jq 1.6": ("jq", False),
        "libjq1 1.6": ("libjq1", False),
        "GET http://deb.debian.org/debian/dists/bookworm/InRelease": ("InRelease", False),
        "GET https://files.org/numbers-1.0.tar.gz": ("numbers.tar.gz", True),
        "the kept layer of run_bash date > /x": ("in.tar", False),
    }
    assert found == {
        name: (digest_of_bytes(text.encode()), len(text), permanent) for name, (text, permanent) in expected.items()
    }


def test_a_debian_base_is_its_packages() -> None:
    base = DebianLock(suite="bookworm", packages=(), debs=(deb("jq"),), tree=LAYER.digest)
    target = dataclasses.replace(EVERYTHING, base=base, steps=(), packages=())
    assert [(item.name, item.permanent) for item in inputs_of(target)] == [("jq 1.6", False)]


def test_what_one_step_may_lose_is_not_permanent_for_all() -> None:
    """The same bytes may be a step's answer too, which upstream promises nothing for."""
    answer = shell("curl", requests=(request("numpy", "https://files.org/latest"),))
    (item,) = inputs_of_all(
        [
            dataclasses.replace(EVERYTHING, base=NOTHING, steps=(), packages=EVERYTHING.packages[:1]),
            dataclasses.replace(EVERYTHING, base=NOTHING, steps=(answer,), packages=()),
        ]
    )
    assert not item.permanent


NOTHING = DebianLock(suite="bookworm", packages=(), debs=(), tree=LAYER.digest)


@given(lock=lockfiles())
def test_any_lockfile_has_inputs_each_once(lock: Lockfile) -> None:
    found = inputs_of_all(lock.targets)
    assert len({item.digest for item in found}) == len(found)
    assert {item.digest for item in found} == {item.digest for target in lock.targets for item in inputs_of(target)}


# -- there and back


@dataclasses.dataclass(kw_only=True)
class Place:
    """A machine and a vault. `--offline`: what its store lacks is not fetched."""

    store: Store
    vault: VaultFolder
    workshop: MemoryWorkshop = dataclasses.field(default_factory=MemoryWorkshop)

    @property
    def context(self) -> Context:
        return Context(
            root=Path("/"),
            mirrors=Mirrors(),
            store=self.store,
            workshop=self.workshop,
            progress=Quiet(),
            environ={},
            offline=True,
        )

    def push(self, **options: bool) -> str:
        return str(push([EVERYTHING], self.vault, self.context, **options))

    def pull(self, **options: bool) -> str:
        return str(pull([EVERYTHING], self.vault, self.store, progress=Quiet(), **options))

    def faults(self) -> list[str]:
        return [str(fault) for fault in find_faults([EVERYTHING], self.vault, progress=Quiet())]


TOTAL = sum(SIZES.values())
ALL_NEW = f"12 blobs, {TOTAL} B, 12 new"
NONE_NEW = f"12 blobs, {TOTAL} B, 0 new"


@pytest.fixture
def full(tmp_path: Path) -> Place:
    """A machine that has everything, and no vault yet."""
    place = Place(store=Store(tmp_path / "store"), vault=VaultFolder(tmp_path / "vault"))
    for text in TEXTS:
        place.store.add_bytes(text.encode())
    return place


@pytest.fixture
def empty(tmp_path: Path, full: Place) -> Place:
    """Another machine with the same vault, which is filled."""
    full.push()
    return Place(store=Store(tmp_path / "other"), vault=full.vault)


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_vault_holds_the_blobs_and_nothing_else(full: Place) -> None:
    old = os.umask(0o077)
    try:
        assert full.push() == ALL_NEW
    finally:
        os.umask(old)

    names = {f"blobs/sha256/{sha256(text)[:2]}/{sha256(text)}": text.encode() for text in TEXTS}
    assert files_of(full.vault.root) == names
    modes = {(path.is_dir(), stat.S_IMODE(path.stat().st_mode)) for path in full.vault.root.rglob("*")}
    assert modes == {(True, 0o755), (False, 0o644)}
    assert stat.S_IMODE(full.vault.root.stat().st_mode) == 0o755


def test_what_is_there_is_passed_over(full: Place) -> None:
    full.push()
    before = {path: path.stat().st_ino for path in full.vault.root.rglob("*")}
    assert full.push() == NONE_NEW
    assert full.push(verify=True) == NONE_NEW
    assert {path: path.stat().st_ino for path in full.vault.root.rglob("*")} == before


@dataclasses.dataclass
class Advances(Quiet):
    """What was told of each task: its total, and how its bytes arrived."""

    told: list[tuple[int | None, list[int]]] = dataclasses.field(default_factory=list)

    def begin(self, task: str, *, total: int | None = None, unit: str = "bytes") -> None:
        self.told.append((total, []))

    def advance(self, amount: int) -> None:
        self.told[-1][1].append(amount)


def test_progress_moves_within_a_large_blob(tmp_path: Path) -> None:
    """A wheel may have gigabytes; a task that counts whole blobs stands still for minutes."""
    large = "x" * (5 << 20)
    lock = dataclasses.replace(EVERYTHING, base=NOTHING, steps=(), packages=(package("large", wheel(large)),))
    vault, other = VaultFolder(tmp_path / "vault"), Store(tmp_path / "other")
    context = Place(store=Store(tmp_path / "store"), vault=vault).context
    context.store.add_bytes(large.encode())
    for transfer in (
        lambda progress: push([lock], vault, dataclasses.replace(context, progress=progress)),
        lambda progress: find_faults([lock], vault, progress=progress),
        lambda progress: pull([lock], vault, other, progress=progress),
    ):
        progress = Advances()
        transfer(progress)
        total, pieces = progress.told[-1]
        assert total == sum(pieces) == len(large)
        assert max(pieces) <= 1 << 20


def test_a_dry_run_copies_nothing(full: Place, empty: Place) -> None:
    other = dataclasses.replace(full, vault=VaultFolder(full.vault.root / "other"))
    assert other.push(dry_run=True) == ALL_NEW
    assert not other.vault.root.exists()
    assert empty.pull(dry_run=True) == ALL_NEW
    assert not empty.store.root.exists()


def test_a_pull_brings_what_the_lockfile_needs_and_nothing_else(empty: Place) -> None:
    other = empty.vault.blob_path(digest_of_bytes(b"of another project"))
    other.parent.mkdir(parents=True, exist_ok=True)
    other.write_bytes(b"of another project")

    assert empty.pull() == ALL_NEW

    blobs = {path.read_bytes() for path in (empty.store.root / "blobs").rglob("*") if path.is_file()}
    assert blobs == {text.encode() for text in TEXTS}
    assert empty.pull() == NONE_NEW


def refuse_to_read(vault: VaultFolder, monkeypatch: pytest.MonkeyPatch, error: KlockError) -> None:
    def read(*_: object) -> Iterator[bytes]:
        raise error

    monkeypatch.setattr(vault, "read", read)


def test_a_pull_says_why_a_vault_gives_nothing(empty: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_to_read(empty.vault, monkeypatch, FetchError("h.example wants credentials"))
    with pytest.raises(FetchError, match=r"^12 blobs cannot be taken from ") as caught:
        empty.pull()
    assert caught.value.message.count("because: h.example wants credentials") == 1


def test_a_vault_that_cannot_be_reached_is_not_a_damaged_one(empty: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_to_read(empty.vault, monkeypatch, Unreachable("cannot reach h.example"))
    with pytest.raises(Unreachable, match=r"^cannot reach h\.example$"):
        empty.pull()


def test_what_upstream_may_drop_stays_after_a_clean(empty: Place) -> None:
    empty.pull()
    not_permanent = [item for item in inputs_of(EVERYTHING) if not item.permanent]
    kept = sum(item.size for item in not_permanent)
    assert empty.store.kept_bytes() == kept
    assert empty.store.remove_downloads() == TOTAL - kept
    assert empty.pull() == f"12 blobs, {TOTAL} B, {12 - len(not_permanent)} new"


def test_a_vault_may_be_read_only(empty: Place) -> None:
    for path in [*empty.vault.root.rglob("*"), empty.vault.root]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    before = {path: path.stat() for path in empty.vault.root.rglob("*")}
    assert empty.pull() == ALL_NEW
    assert empty.faults() == []
    after = {path: path.stat() for path in empty.vault.root.rglob("*")}
    assert [(s.st_mtime_ns, s.st_ino) for s in after.values()] == [(s.st_mtime_ns, s.st_ino) for s in before.values()]


def replace_by_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def replace_by_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def replace_by_link(path: Path, target: str) -> None:
    path.unlink()
    path.symlink_to(target)


Damage = Callable[[Path], object]
DAMAGES: Mapping[str, tuple[Damage, str]] = {
    "gone": (Path.unlink, "missing"),
    "other bytes of the same length": (lambda path: path.write_bytes(b"numpx"), "damaged"),
    "cut off": (lambda path: path.write_bytes(b"num"), "damaged"),
    "longer": (lambda path: path.write_bytes(b"numpy" * 9), "damaged"),
    "a folder": (replace_by_folder, "damaged"),
    "a FIFO, which never ends": (replace_by_fifo, "damaged"),
    "a link to a device, which never ends": (lambda path: replace_by_link(path, "/dev/zero"), "damaged"),
    "a link to nothing": (lambda path: replace_by_link(path, "nothing"), "missing"),
    "a link to itself": (lambda path: replace_by_link(path, path.name), "missing"),
}
NUMPY = f"numpy.whl ({digest_of_bytes(b'numpy')}, 5 B)"


@pytest.mark.parametrize(("damage", "kind"), DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_vault_is_found_out_and_mended(full: Place, empty: Place, damage: Damage, kind: str) -> None:
    path = empty.vault.blob_path(digest_of_bytes(b"numpy"))
    damage(path)
    assert empty.faults() == [f"{kind}: {NUMPY}"]

    with pytest.raises(FetchError) as caught:
        empty.pull()
    assert caught.value.message == f"1 blob cannot be taken from {empty.vault.root}:\n  {NUMPY}"
    assert caught.value.hint
    # All the rest is here, and nothing of what is damaged.
    assert empty.pull(dry_run=True) == f"12 blobs, {TOTAL} B, 1 new"
    assert [path.name for path in (empty.store.root / "tmp").iterdir()] == []

    if path.is_dir():
        with pytest.raises(StoreError, match=f"{path} is a folder, not a blob"):
            full.push(verify=True)
        path.rmdir()
    assert full.push(verify=True) == f"12 blobs, {TOTAL} B, 1 new"
    assert empty.faults() == []
    assert empty.pull() == f"12 blobs, {TOTAL} B, 1 new"


def test_what_neither_store_nor_upstream_has_is_named_and_the_rest_is_saved(full: Place) -> None:
    full.store.blob_path(digest_of_bytes(b"jq")).unlink()
    with pytest.raises(FetchError) as caught:
        full.push()
    assert caught.value.message == (
        f"1 blob that the lockfile needs cannot be found:\n  jq 1.6 ({digest_of_bytes(b'jq')}, 2 B)"
    )
    assert caught.value.hint and "push from the machine that made the lockfile" in caught.value.hint
    assert full.faults() == [f"missing: jq 1.6 ({digest_of_bytes(b'jq')}, 2 B)"]

    full.store.add_bytes(b"jq")
    assert full.push() == f"12 blobs, {TOTAL} B, 1 new"


def test_a_blob_that_is_damaged_in_the_store_never_reaches_a_vault(full: Place) -> None:
    path = full.store.blob_path(digest_of_bytes(b"numpy"))
    path.write_bytes(b"numpx")
    with pytest.raises(FetchError, match=r"numpy\.whl"):
        full.push()
    assert not path.exists(), "it is fetched anew the next time"
    assert full.faults() == [f"missing: {NUMPY}"]


@pytest.mark.parametrize("verify", [False, True])
def test_a_pull_mends_the_store(verify: bool, empty: Place) -> None:
    empty.pull()
    path = empty.store.blob_path(digest_of_bytes(b"jq"))
    path.write_bytes(b"qj")  # its second name, among what is kept, is the same file
    assert empty.pull(verify=verify) == f"12 blobs, {TOTAL} B, 1 new"
    assert path.read_bytes() == b"jq"
    empty.store.remove_downloads()
    found = empty.store.find_blob(digest_of_bytes(b"jq"))
    assert found is not None and found.read_bytes() == b"jq"


def test_a_kept_layer_whose_archive_is_lost_is_written_again(full: Place) -> None:
    manifest = Manifest([file_entry("x", b"now")])
    archive = manifest.to_bytes()  # what the workshop in memory writes
    full.workshop.layers[manifest.digest] = manifest
    step = shell(
        "date > /x",
        layer=LayerLock(digest=manifest.digest, files=1, size=3),
        kept=KeptLayer(sha256=hex_of(digest_of_bytes(archive)), size=len(archive)),
    )
    target = dataclasses.replace(EVERYTHING, base=NOTHING, steps=(step,), packages=())
    assert str(push([target], full.vault, full.context)) == f"1 blob, {len(archive)} B, 1 new"
    assert full.vault.blob_path(digest_of_bytes(archive)).read_bytes() == archive


def test_several_pushes_and_pulls_at_once(full: Place, tmp_path: Path) -> None:
    results: list[str] = []
    stores = [Store(tmp_path / f"store-{number}") for number in range(4)]
    threads = [threading.Thread(target=lambda: results.append(full.push())) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 6
    assert set(files_of(full.vault.root).values()) == {text.encode() for text in TEXTS}
    for store in stores:
        pull([EVERYTHING], full.vault, store, progress=Quiet())
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("klock-vault")]


def test_what_a_killed_push_left_goes_after_a_day(full: Place) -> None:
    full.push()
    path = full.vault.blob_path(digest_of_bytes(b"numpy"))
    path.unlink()
    old, new = path.with_name(".partial-1"), path.with_name(".partial-2")
    for partial in (old, new):
        partial.write_bytes(b"num")
    os.utime(old, (1, 1))
    full.push()
    assert (old.exists(), new.exists()) == (False, True)


def test_a_vault_that_cannot_be_written(full: Place, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(StoreError, match=r"cannot (read|write to) the vault at .*/file/vault") as caught:
        dataclasses.replace(full, vault=VaultFolder(tmp_path / "file" / "vault")).push()
    assert caught.value.hint


# -- what the store keeps


def test_a_kept_blob_outlives_a_clean_and_others_do_not(tmp_path: Path) -> None:
    store = Store(tmp_path)
    kept, other = store.add_bytes(b"precious"), store.add_bytes(b"of upstream")
    assert store.keep_blob(kept) and store.keep_blob(kept)
    assert not store.keep_blob(digest_of_bytes(b"nowhere"))
    assert store.kept_bytes() == 8
    store.write_record("kind", "key", 1)

    assert store.remove_downloads() == 11

    assert store.find_blob(other) is None
    assert store.read_record("kind", "key") is None
    found = store.find_blob(kept)
    assert found == store.blob_path(kept)
    assert found.read_bytes() == b"precious"
    assert store.remove_downloads() == 0
    assert store.verify_blob(kept)

    assert store.remove_downloads(kept_too=True) == 8
    assert store.find_blob(kept) is None
    assert store.kept_bytes() == 0


def test_a_damaged_kept_blob_is_removed_under_both_names(tmp_path: Path) -> None:
    store = Store(tmp_path)
    digest = store.add_bytes(b"precious")
    store.keep_blob(digest)
    store.blob_path(digest).write_bytes(b"damaged!")
    assert not store.verify_blob(digest)
    assert store.find_blob(digest) is None


def test_bytes_that_come_again_stand_on_the_disk_once(tmp_path: Path) -> None:
    store = Store(tmp_path)
    digest = store.add_bytes(b"precious")
    store.keep_blob(digest)
    store.add_bytes(b"precious")
    inodes = {path.stat().st_ino for path in tmp_path.rglob("*") if path.is_file()}
    assert len(inodes) == 1
    assert store.kept_bytes() == 8


# -- what shell steps fetched, asked for again

ANSWERS = {
    "a host of upstream": ("http://site.test/echo/again", None),
    "one that answers otherwise now": ("http://site.test/count/again", "http://site.test/count/again: 2 bytes arrived"),
    "one that does not know it any more": ("http://site.test/status/404", "answered with status 404"),
    "this machine": ("http://loop.test/echo/again", "127.0.0.1 is this machine, which steps may not reach"),
    "this machine by its address": (
        "http://127.0.0.1/echo/again",
        "an address, but steps may connect only to host names",
    ),
    "the link": ("http://link.test/latest/", "169.254.169.254 is a link-local address, which steps may not reach"),
    "where a redirect leads": ("http://site.test/redirect/302?http://loop.test/", "answered with status 302"),
}


@pytest.mark.integration
@pytest.mark.parametrize(("url", "problem"), ANSWERS.values(), ids=ANSWERS)
def test_what_the_store_lacks_is_asked_for_where_steps_may_ask(url: str, problem: str | None, tmp_path: Path) -> None:
    target = TargetLock(
        target=Target(),
        base=DebianLock(suite="bookworm", packages=(), debs=(), tree=LAYER.digest),
        interpreter=None,
        steps=(shell("curl", requests=(request("GET /echo/again \n", url),)),),
        packages=(),
    )

    def scenario(world: World) -> str:
        place = Place(store=world.store, vault=VaultFolder(tmp_path / "vault"))
        context = dataclasses.replace(place.context, offline=False)
        try:
            push([target], place.vault, context)
        except FetchError as error:
            return error.message
        return ""

    said = run_in_world(scenario, tmp_path)
    assert problem in said if problem else not said
