"""Locking and replaying, in memory: what runs, what is kept, and that equal input makes equal bytes."""

from __future__ import annotations

import dataclasses
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from klock.errors import FetchError, ImageError, RequirementError, StepFailed
from klock.fetching.mirrors import Mirrors
from klock.image.builder import Image
from klock.layers.manifest import Manifest
from klock.lockfile.model import FilesLock, Lockfile, ShellLock
from klock.lockfile.reading import from_text
from klock.lockfile.writing import to_text
from klock.locking import lock_image
from klock.locking.draft import host_sources
from klock.locking.staying import notes_if_unchanged
from klock.progress import Quiet
from klock.replay.goal import Goal
from klock.steps.cache_keys import cache_keys
from klock.steps.context import Context
from klock.steps.locking import Upgrade
from klock.steps.shell import locking as shell_locking
from klock.store import Store
from klock.targets import Target
from tests.memory_workshop import MemoryPlace, MemoryWorkshop, MemoryWorkspace, file_entry
from tests.oci_layout import write_layout

AMD64 = Target()


class Warnings(Quiet):
    def __init__(self) -> None:
        self.warnings: list[str] = []
        self.notes: list[str] = []

    def note(self, message: str) -> None:
        self.notes.append(message)

    def warn(self, message: str) -> None:
        self.warnings.append(message)


@dataclasses.dataclass(kw_only=True)
class Machine:
    """A project folder and a machine that locks and syncs it."""

    root: Path
    store: Store
    workshop: MemoryWorkshop = dataclasses.field(default_factory=MemoryWorkshop)
    environ: dict[str, str] = dataclasses.field(default_factory=dict)
    progress: Warnings = dataclasses.field(default_factory=Warnings)

    def __post_init__(self) -> None:
        self.place = MemoryPlace(self.workshop, self.store)

    def context(self, image: Image) -> Context:
        return Context(
            root=self.root,
            mirrors=Mirrors(),
            store=self.store,
            workshop=self.workshop,
            progress=self.progress,
            environ=self.environ,
            locations=tuple(str(step.location) for step in image.steps),
            sources=host_sources(image.steps),
        )

    def lock(self, image: Image, previous: Lockfile | None = None, upgrade: Upgrade | None = None) -> Lockfile:
        self.workshop.ran.clear()
        context = self.context(image)
        lock = lock_image(image, [AMD64], previous=previous, context=context, upgrade=upgrade)
        if previous is not None and self.stays(image, previous) and not upgrade:
            assert lock == previous and self.workshop.ran == []
        return lock

    def stays(self, image: Image, lock: Lockfile) -> bool:
        """Whether locking finds that nothing has to be done."""
        notes = notes_if_unchanged(lock, image, [AMD64], root=self.root, environ=self.environ, store=self.store)
        return notes is not None

    def goal(self, lock: Lockfile) -> Goal:
        target = lock.targets[0]
        keys = cache_keys(target, image=lock.image, normalisation=lock.normalisation)
        return Goal(name="test", lock=target, cache_keys=tuple(keys), lock_digest="sha256:x", project=self.root)

    def sync(self, image: Image, lock: Lockfile) -> None:
        self.workshop.ran.clear()
        self.place.apply(self.goal(lock), self.context(image))


@contextmanager
def machine() -> Iterator[Machine]:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "project"
        write_layout(root / "base")
        (root / "src").mkdir()
        (root / "src" / "main.py").write_text("print(1)\n")
        yield Machine(root=root, store=Store(Path(folder) / "store"))


@pytest.fixture
def here() -> Iterator[Machine]:
    with machine() as made:
        yield made


TWICE = 2
"""How often a new shell step runs when it is locked."""


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """The memory workshop's steps do not write the time."""
    monkeypatch.setattr(shell_locking, "APART", 0.0)


def base(root: Path) -> Image:
    return Image().from_docker(f"oci:{root}/base")


def test_the_lock_names_the_base_by_digest_and_each_layer(here: Machine) -> None:
    lock = here.lock(base(here.root).run_bash("write /a 1").rsync(f"{here.root}/src", "/app"))
    text = to_text(lock)
    assert from_text(text) == lock
    assert [type(step).__name__ for step in lock.targets[0].steps] == ["ShellLock", "FilesLock"]
    assert set(here.workshop.layers) == set(lock.targets[0].layers)


def test_a_lock_of_older_rules_keeps_its_base_and_makes_every_layer_again(here: Machine) -> None:
    image = base(here.root).run_bash("write /a 1").rsync(f"{here.root}/src", "/app")
    lock = here.lock(image)
    again = here.lock(image, dataclasses.replace(lock, normalisation=lock.normalisation - 1))
    assert len(here.workshop.ran) == TWICE
    assert again == lock
    assert here.progress.notes == [
        f"the lockfile has version {lock.normalisation - 1} of the layer rules, klock now has {lock.normalisation}: "
        "every layer is made again, the base and packages keep their versions"
    ]
    assert here.lock(image, again) == lock
    assert here.workshop.ran == []


def test_what_is_locked_stays_until_something_that_it_follows_from_changes(here: Machine) -> None:
    def image() -> Image:
        return base(here.root).run_bash("write /a 1").rsync(f"{here.root}/src", "/app")

    lock = here.lock(image())
    with_python = image()
    with_python.python_path = "/usr/bin/python3"
    (target,) = lock.targets
    files = target.steps[1]
    assert isinstance(files, FilesLock)
    other = dataclasses.replace(files, layer=dataclasses.replace(files.layer, digest="sha256:" + "0" * 64))
    changed = {
        "a step more": (image().run_bash("write /b 2"), lock),
        "another setting of the image": (with_python, lock),
        "older rules": (image(), dataclasses.replace(lock, normalisation=lock.normalisation - 1)),
        "a target less": (image(), dataclasses.replace(lock, targets=())),
        "a layer of another step": (
            image(),
            dataclasses.replace(lock, targets=(dataclasses.replace(target, steps=(target.steps[0], other)),)),
        ),
        "something wrong": (image().rsync(f"{here.root}/gone", "/gone"), lock),
    }
    assert [name for name, (wanted, known) in changed.items() if here.stays(wanted, known)] == []
    assert here.stays(image(), lock)
    (here.root / "src/main.py").write_text("print(22)\n")
    assert not here.stays(image(), lock)


def test_syncing_where_it_was_locked_runs_nothing(here: Machine) -> None:
    image = base(here.root).run_bash("write /a 1")
    lock = here.lock(image)
    here.sync(image, lock)
    assert here.workshop.ran == []
    assert "a" in here.place.files["test"]


def test_syncing_on_an_empty_machine_replays_to_the_same_layers(here: Machine) -> None:
    image = base(here.root).run_bash("write /a 1").rsync(f"{here.root}/src", "/app").run_bash("write /b 2")
    lock = here.lock(image)
    with machine() as other:
        moved = dataclasses.replace(other, root=here.root)
        moved.sync(image, lock)
        assert moved.workshop.ran == ["write /a 1", "write /b 2"]
        assert set(moved.workshop.layers) == set(lock.targets[0].layers)


def test_a_merged_lock_is_not_trusted_and_locking_mends_it(here: Machine) -> None:
    """Two branches that changed a step each: the merged text names layers that no step made over the others'."""
    image = base(here.root).run_bash("write /a 1").run_bash("write /b 2")
    lock = here.lock(image)
    (target,) = lock.targets
    one, two = target.steps
    assert isinstance(one, ShellLock) and isinstance(two, ShellLock)
    steps = (one, dataclasses.replace(two, layer=one.layer))
    merged = dataclasses.replace(lock, targets=(dataclasses.replace(target, steps=steps),))
    with pytest.raises(StepFailed, match=r"step 2 \(.*\) made another layer than the locked one"):
        here.sync(image, merged)
    assert here.place.synced("test") is None
    mended = here.lock(image, merged)
    assert mended == lock
    here.sync(image, mended)
    assert here.workshop.ran == []


def test_a_step_that_does_not_repeat_is_kept_for_every_lock_that_its_layer_is_here_for(here: Machine) -> None:
    image = base(here.root).run_bash("today")
    old = here.lock(image)
    here.workshop.day += 1
    new = here.lock(image, old, Upgrade(everything=True))
    for lock in (old, new, old):
        here.sync(image, lock)
        assert here.workshop.ran == []
        assert here.lock(image, lock) == lock


def test_relocking_an_unchanged_image_runs_nothing_case_41(here: Machine) -> None:
    image = base(here.root).run_bash("write /a 1")
    lock = here.lock(image)
    assert here.lock(image, lock) == lock
    assert here.workshop.ran == []


def test_an_appended_step_alone_runs_case_42(here: Machine) -> None:
    lock = here.lock(base(here.root).run_bash("write /a 1"))
    here.lock(base(here.root).run_bash("write /a 1").run_bash("write /b 2"), lock)
    assert here.workshop.ran == TWICE * ["write /b 2"]


def test_a_changed_step_runs_with_all_that_builds_on_it_case_42(here: Machine) -> None:
    def image(text: str) -> Image:
        return base(here.root).run_bash("write /z 0").run_bash(f"write /a {text}").run_bash("write /b 2")

    lock = here.lock(image("1"))
    here.lock(image("2"), lock)
    assert here.workshop.ran == [*TWICE * ["write /a 2"], *TWICE * ["write /b 2"]]


def test_a_changed_step_with_the_same_result_stops_there(here: Machine) -> None:
    lock = here.lock(base(here.root).run_bash("write /a 1").run_bash("write /b 2"))
    here.lock(base(here.root).run_bash("echo hello && write /a 1").run_bash("write /b 2"), lock)
    assert here.workshop.ran == TWICE * ["echo hello && write /a 1"]


def test_a_changed_variable_reruns_the_shell_steps_after_it(here: Machine) -> None:
    def image(value: str) -> Image:
        return base(here.root).run_bash("write /a 1").set_env_vars({"V": value}).run_bash("write /b 2")

    lock = here.lock(image("1"))
    here.lock(image("2"), lock)
    assert here.workshop.ran == TWICE * ["write /b 2"]


def test_a_forced_step_runs_at_every_sync_and_later_ones_only_if_it_differs_case_40(here: Machine) -> None:
    image = base(here.root).run_bash("write /a 1", force=True).run_bash("write /b 2")
    lock = here.lock(image)
    here.sync(image, lock)
    here.sync(image, lock)
    assert here.workshop.ran == ["write /a 1"]


def test_a_step_that_does_not_repeat_fails_the_sync_and_names_its_path(here: Machine) -> None:
    image = base(here.root).run_bash("today", force=True)
    lock = here.lock(image)
    here.workshop.day += 1
    with pytest.raises(StepFailed, match=r"step 1 \(.*\) made another layer") as caught:
        here.sync(image, lock)
    assert "/today differs: content" in caught.value.message
    assert here.place.synced("test") is None


def test_a_failed_sync_names_the_paths_where_the_locked_layer_is_not(here: Machine) -> None:
    image = base(here.root).run_bash("today && write /a 1", force=True)
    lock = here.lock(image)
    with machine() as other, pytest.raises(StepFailed) as caught:
        other.workshop.day += 1
        dataclasses.replace(other, root=here.root).sync(image, lock)
    assert "\n  /today is not as it was locked" in caught.value.message
    assert "\n  /a" not in caught.value.message
    assert caught.value.hint and "keep_layer" in caught.value.hint


@pytest.mark.parametrize("form", ["%Y-%m-%d", "%Y%m%d"])
def test_a_file_with_todays_date_is_told(form: str, here: Machine) -> None:
    today = datetime.now(UTC).strftime(form)
    here.lock(base(here.root).run_bash(f"write /day {today}").run_bash("write /other 1999-01-01"))
    (warning,) = here.progress.warnings
    assert warning.startswith("step 1 (") and "wrote today's date into /day: " in warning


def test_a_step_that_does_not_repeat_is_not_locked(here: Machine) -> None:
    with pytest.raises(StepFailed, match=r"step 1 \(.*\) makes something else each time it runs") as caught:
        here.lock(base(here.root).run_bash("count && write /a 1"))
    assert "/count other content" in caught.value.message
    assert "/a other" not in caught.value.message
    assert caught.value.hint and "leave_out" in caught.value.hint and "keep_layer" in caught.value.hint


def test_a_step_that_fails_when_it_runs_again_is_not_locked_and_says_so(here: Machine) -> None:
    with pytest.raises(StepFailed) as caught:
        here.lock(base(here.root).run_bash("echo hello && once"))
    assert re.match(
        r"step 1 \(.*\) succeeded, but failed when it ran once more with the same inputs: "
        r"step 1 \(.*\) failed with status 127: run_bash echo hello && once",
        caught.value.message,
    )


def test_the_hint_names_the_file_that_is_to_be_mended(here: Machine) -> None:
    (here.root / "pyproject.toml").write_text('[project]\nname = "p"\n[tool.uv]\nresolution = "newest"\n')
    with pytest.raises(RequirementError, match=r"pyproject\.toml: tool\.uv\.resolution is 'newest'") as caught:
        here.lock(base(here.root).pip_install_from_pyproject())
    assert caught.value.hint == "fix pyproject.toml"


def test_what_is_known_not_to_repeat_is_refused_before_anything_runs(here: Machine) -> None:
    install = "apt-get install -y openssh-server"
    with pytest.raises(StepFailed, match=r"step 2 \(.*\): openssh-server makes host keys anew each time") as caught:
        here.lock(base(here.root).run_bash("write /a 1").run_bash(install))
    assert here.workshop.ran == []
    assert caught.value.hint and 'run_bash(..., leave_out=["/etc/ssh/ssh_host_*"])' in caught.value.hint
    for ways in ({"leave_out": "/etc/ssh/ssh_host_*"}, {"keep_layer": True}):
        with pytest.raises(StepFailed, match="failed with status 127"):
            here.lock(base(here.root).run_bash(install, **ways))


def test_a_password_with_a_random_salt_is_refused_before_anything_runs(here: Machine) -> None:
    (here.root / "Dockerfile").write_text(f"FROM oci:{here.root}/base\nRUN write /a 1\nRUN echo root:x | chpasswd\n")
    with pytest.raises(StepFailed, match=r"^step 2 \(.*Dockerfile:3\): chpasswd makes a salt anew each time") as caught:
        here.lock(Image.from_dockerfile(here.root / "Dockerfile"))
    assert here.workshop.ran == []
    assert caught.value.hint == (
        "give chpasswd -e a hash, which openssl passwd -6 prints once; or keep what it made when it was locked, "
        "`# klock: keep-layer`, in a line above the RUN"
    )


def test_all_that_cannot_repeat_is_told_at_once(here: Machine) -> None:
    image = base(here.root).run_bash("ssh-keygen -A && ssh-keygen -f /k -N ''").run_bash("echo root:x | chpasswd")
    with pytest.raises(StepFailed) as caught:
        here.lock(image)
    first, *others = caught.value.message.split("\n")
    assert "ssh-keygen -A makes host keys anew each time" in first
    assert [line.partition(": ")[2] for line in others] == [
        "ssh-keygen makes a key anew each time: /k, /k.pub",
        "chpasswd makes a salt anew each time: /etc/shadow",
    ]


def test_what_the_last_stage_cannot_repeat_is_refused_before_the_first_runs(here: Machine) -> None:
    name = f"oci:{here.root}/base"
    (here.root / "Dockerfile").write_text(
        f"FROM {name} AS one\nRUN write /a 1\nFROM {name} AS two\nCOPY --from=one /a /a\nRUN write /b 1\n"
        f"FROM {name}\nCOPY --from=two /b /b\nRUN ssh-keygen -A\n"
    )
    with pytest.raises(StepFailed, match=r"^step 2 \(.*Dockerfile:8\): ssh-keygen -A makes host keys anew"):
        here.lock(Image.from_dockerfile(here.root / "Dockerfile"))
    assert here.workshop.ran == []


def test_what_the_base_has_already_is_not_refused(here: Machine) -> None:
    image = base(here.root).run_bash("ssh-keygen -A")
    here.lock(base(here.root).run_bash("write /x 1"))
    for name, manifest in here.workshop.bases.items():
        key = file_entry("etc/ssh/ssh_host_rsa_key", b"key")
        here.workshop.bases[name] = manifest.apply(Manifest([key]))
    with pytest.raises(StepFailed, match="failed with status 127"):
        here.lock(image)


def test_what_does_not_repeat_can_be_left_out(here: Machine) -> None:
    image = base(here.root).run_bash("count && write /a 1", leave_out="/cou*")
    lock = here.lock(image)
    here.workshop.layers.clear()
    here.sync(image, lock)
    observed = here.place.files["test"]
    assert "a" in observed and "count" not in observed


def test_a_layer_that_does_not_repeat_can_be_kept(here: Machine) -> None:
    image = base(here.root).run_bash("count", keep_layer=True).run_bash("write /b 2")
    lock = here.lock(image)
    assert here.workshop.ran == ["count", *TWICE * ["write /b 2"]]
    here.workshop.layers.clear()
    here.sync(image, lock)
    assert here.workshop.ran == ["write /b 2"]
    assert here.lock(image, lock) == lock


def test_a_kept_layer_that_is_lost_is_said_so(here: Machine) -> None:
    image = base(here.root).run_bash("count", keep_layer=True)
    lock = here.lock(image)
    with (
        machine() as other,
        pytest.raises(FetchError, match=r"step 1 \(.*\): its kept layer is not on this machine") as caught,
    ):
        dataclasses.replace(other, root=here.root).sync(image, lock)
    assert caught.value.hint and "klock vault pull" in caught.value.hint


def test_a_failing_step_stops_and_is_not_kept_case_35(here: Machine) -> None:
    image = base(here.root).run_bash("write /a 1").run_bash("false").run_bash("write /b 2")
    with pytest.raises(StepFailed, match=r"step 2 \(.*test_lock_and_replay\.py:\d+\) failed with status 1"):
        here.lock(image)
    assert here.workshop.ran == [*TWICE * ["write /a 1"], "false"]
    with pytest.raises(StepFailed):
        here.lock(image)
    assert here.workshop.ran == ["false"]


def test_the_steps_before_a_failed_one_are_kept_until_the_lockfile_is_there(here: Machine) -> None:
    start = base(here.root).run_bash("write /a 1")
    with pytest.raises(StepFailed):
        here.lock(base(here.root).run_bash("write /a 1").run_bash("false"))
    fresh = Machine(root=here.root, store=Store(here.root / "other")).lock(start)
    assert here.lock(start) == fresh
    assert here.workshop.ran == []
    assert here.lock(start) == fresh
    assert here.workshop.ran == TWICE * ["write /a 1"]


def test_an_upgrade_runs_the_steps_before_a_failed_one_again(here: Machine) -> None:
    with pytest.raises(StepFailed):
        here.lock(base(here.root).run_bash("write /a 1").run_bash("false"))
    here.lock(base(here.root).run_bash("write /a 1"), upgrade=Upgrade(everything=True))
    assert here.workshop.ran == TWICE * ["write /a 1"]


def test_the_output_of_a_failing_step_is_shown_without_secrets(here: Machine) -> None:
    here.environ["MY_TOKEN"] = "s3cr3t-value"
    image = base(here.root).set_env_vars({"MY_TOKEN": "s3cr3t-value"}).run_bash("echo s3cr3t-value && false")
    with pytest.raises(StepFailed) as caught:
        here.lock(image)
    assert "s3cr3t-value" not in caught.value.message
    assert "***" in caught.value.message


def test_a_step_that_writes_a_credential_into_a_file_is_refused_case_64(here: Machine) -> None:
    here.environ["MY_TOKEN"] = "s3cr3t-value"
    image = base(here.root).set_env_vars({"MY_TOKEN": "s3cr3t-value"}).run_bash("write /leak s3cr3t-value")
    with pytest.raises(StepFailed, match=r"step 2 \(.*\) wrote a credential into /leak"):
        here.lock(image)
    assert here.workshop.layers == {}


def test_a_step_that_writes_a_credential_when_it_is_synced_is_refused(here: Machine) -> None:
    here.environ["MY_TOKEN"] = "123456789012"
    image = base(here.root).set_env_vars({"MY_TOKEN": "123456789012"}).run_bash("today", force=True)
    lock = here.lock(image)
    kept = dict(here.workshop.layers)
    here.workshop.day = 123456789012
    with pytest.raises(StepFailed, match=r"step 2 \(.*\) wrote a credential into /today"):
        here.sync(image, lock)
    assert here.workshop.layers == kept


def test_what_a_step_wrote_is_searched_once_and_not_where_it_makes_the_locked_layer(here: Machine) -> None:
    image = base(here.root).run_bash("write /a 1")
    lock = here.lock(image)
    assert (here.workshop.ran, here.workshop.searches) == (TWICE * ["write /a 1"], 1)
    with machine() as other:
        dataclasses.replace(other, root=here.root).sync(image, lock)
        assert (other.workshop.ran, other.workshop.searches) == (["write /a 1"], 0)


def test_a_service_that_dies_at_once_fails_case_38(here: Machine) -> None:
    with pytest.raises(StepFailed, match=r"the service ended with status 127 within 0.5 s"):
        here.lock(base(here.root).run_bash("nonexistent &"))


def test_a_service_that_lives_makes_no_layer_case_37(here: Machine) -> None:
    lock = here.lock(base(here.root).run_bash("sleep 100 &"))
    assert lock.targets[0].layers == ()


def test_a_removed_env_step_leaves_no_variable_case_32(here: Machine) -> None:
    image = base(here.root).set_env_vars({"GONE": "1"})
    here.sync(image, here.lock(image))
    without = base(here.root)
    lock = here.lock(without)
    here.sync(without, lock)
    record = here.place.records["test"]
    assert record is not None
    assert "GONE" not in str(record["variables"])


def test_replaying_twice_adds_nothing_to_path_case_31(here: Machine) -> None:
    image = base(here.root).set_env_vars({"PATH": "/a:$PATH"})
    lock = here.lock(image)
    assert lock.targets[0].environment["PATH"] == "/a:/usr/bin:/bin"
    assert here.lock(image, lock).targets[0].environment["PATH"] == "/a:/usr/bin:/bin"


def test_a_file_that_changed_after_it_was_locked_is_not_placed(here: Machine) -> None:
    image = base(here.root).rsync(f"{here.root}/src", "/app", force=True)
    lock = here.lock(image)
    (here.root / "src" / "main.py").write_text("print(2)\n")
    with pytest.raises(StepFailed, match="is not what was locked"):
        here.sync(image, lock)


def test_what_is_in_a_file_s_way_is_said_with_the_step(here: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    def place(*_: object, **__: object) -> None:
        raise ImageError("cannot place a file at /app: the environment has a folder there", hint="choose another")

    monkeypatch.setattr(MemoryWorkspace, "place", place)
    with pytest.raises(StepFailed, match=r"^step 1 \(.*\.py:\d+\): cannot place a file at /app") as caught:
        here.lock(base(here.root).rsync(f"{here.root}/src", "/app"))
    assert caught.value.hint == "choose another"


def test_upgrade_runs_shell_steps_again(here: Machine) -> None:
    image = base(here.root).run_bash("write /a 1").rsync(f"{here.root}/src", "/app")
    lock = here.lock(image)
    here.lock(image, lock, Upgrade(everything=True))
    assert here.workshop.ran == TWICE * ["write /a 1"]


def test_a_base_that_moved_is_kept_until_it_is_upgraded(here: Machine) -> None:
    image = base(here.root).run_bash("write /a 1")
    lock = here.lock(image)
    shutil.rmtree(here.root / "base")
    write_layout(here.root / "base", files={"etc/os-release": b"NAME=newer\n"})
    assert here.lock(image, lock) == lock
    assert here.lock(image, lock, Upgrade(packages=frozenset({"numpy"}))).targets[0].base == lock.targets[0].base
    upgraded = here.lock(image, lock, Upgrade(base=True))
    assert upgraded.targets[0].base != lock.targets[0].base
    assert here.workshop.ran == TWICE * ["write /a 1"]


def test_the_targets_of_a_platform_share_a_base_that_is_looked_up_once(here: Machine) -> None:
    image = base(here.root)
    lock = here.lock(image)
    shutil.rmtree(here.root / "base")
    cuda = [AMD64, Target(accelerator="cuda12.4")]
    more = lock_image(image, cuda, previous=lock, context=here.context(image))
    assert [target.base for target in more.targets] == 2 * [lock.targets[0].base]


def test_another_base_is_looked_up(here: Machine) -> None:
    lock = here.lock(base(here.root))
    write_layout(here.root / "other", files={"etc/os-release": b"NAME=other\n"})
    other = here.lock(Image().from_docker(f"oci:{here.root}/other"), lock)
    assert other.targets[0].base.id != lock.targets[0].base.id


def test_locks_of_two_branches_that_touch_different_steps_merge(here: Machine) -> None:
    def image(first: str, last: str) -> Image:
        return (
            base(here.root)
            .run_bash(f"write /first {first}")
            .rsync(f"{here.root}/src", "/app")
            .set_env_vars({"A": "1", "B": "2"})
            .run_bash(f"write /last {last}")
        )

    common = here.lock(image("1", "1"))
    for name, lock in {
        "common": common,
        "ours": here.lock(image("2", "1"), common),
        "theirs": here.lock(image("1", "2"), common),
    }.items():
        (here.root / name).write_text(to_text(lock))
    done = subprocess.run(
        ["git", "merge-file", "-p", "ours", "common", "theirs"],
        cwd=here.root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    merged = from_text(done.stdout)
    assert merged == here.lock(image("2", "2"))
    assert here.lock(image("2", "2"), merged) == merged
    assert here.workshop.ran == []


def test_docker_secret_is_outside_every_digest_case_65(here: Machine) -> None:
    plain = base(here.root)
    secret = base(here.root)
    secret.docker_secret = "my-registry-secret"
    assert to_text(here.lock(secret)) == to_text(here.lock(plain))


def test_a_location_is_in_no_digest(here: Machine) -> None:
    one = here.lock(base(here.root).run_bash("write /a 1"))
    other = here.lock(base(here.root).run_bash("write /a 1"))
    assert to_text(one) == to_text(other)


Addition = Callable[[Image], Image]
words = st.text("abc", min_size=1, max_size=3)
additions: st.SearchStrategy[Addition] = st.one_of(
    words.map(lambda w: lambda image: image.run_bash(f"write /{w} {w}")),
    words.map(lambda w: lambda image: image.run_bash(f"remove /{w}")),
    st.dictionaries(words.map(str.upper), words, min_size=1, max_size=3).map(
        lambda variables: lambda image: image.set_env_vars(variables)
    ),
    words.map(lambda w: lambda image: image.run_bash(f"sleep {w} &")),
)


@given(st.lists(additions, max_size=6))
def test_any_image_locks_to_equal_bytes_on_two_machines_and_replays_to_equal_layers(steps: list[Addition]) -> None:
    def image(root: Path) -> Image:
        made = base(root)
        for step in steps:
            made = step(made)
        return made

    with machine() as one, machine() as other:
        first = one.lock(image(one.root))
        other.root = one.root
        assert to_text(other.lock(image(one.root))) == to_text(first)
        assert to_text(one.lock(image(one.root), first)) == to_text(first)
        other.workshop.remove_unused()
        other.sync(image(one.root), first)
        one.sync(image(one.root), first)
        assert other.place.files == one.place.files
        assert not any(isinstance(s, ShellLock) and s.secrets for s in first.targets[0].steps)
