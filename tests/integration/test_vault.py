"""The vault over the real command line: with it alone an empty machine without a network makes the same environment."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.integration.index_server import IndexServer, make_sdist, make_wheel
from tests.integration.registry_server import Registry
from tests.integration.unprivileged import EMPTY_NETWORK, Account

pytestmark = pytest.mark.integration

BACKEND = """\
import os, zipfile

def build_wheel(folder, settings=None, metadata=None):
    import tool
    name, info = "built-1.0-py3-none-any.whl", "built-1.0.dist-info"
    files = {
        "built.py": "tool = %r\\n" % tool.__version__,
        info + "/METADATA": "Metadata-Version: 2.1\\nName: built\\nVersion: 1.0\\n",
        info + "/WHEEL": "Wheel-Version: 1.0\\nGenerator: t\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
        info + "/RECORD": "built.py,,\\n%s/METADATA,,\\n%s/WHEEL,,\\n%s/RECORD,,\\n" % (info, info, info),
    }
    with zipfile.ZipFile(os.path.join(folder, name), "w") as archive:
        for path, text in files.items():
            archive.writestr(zipfile.ZipInfo(path), text)
    return name
"""
PYPROJECT = '[build-system]\nrequires = ["tool"]\nbuild-backend = "backend"\nbackend-path = ["."]\n'
IMAGE = """\
import klock as kt

image = (
    kt.Image()
    .from_docker("debian:bookworm")
    .apt_install(["jq"])
    .pip_install(["greeting", "built"])
    .set_env_vars({"APP": "/srv/app"})
    .rsync("./app", "/srv/app", contents=True)
    .run_bash("cat $APP/main.txt > /made")
)
"""
PROGRAM = "import built, greeting; print(greeting.__version__, built.tool)"


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[IndexServer]:
    folder = tmp_path_factory.mktemp("index")
    make_wheel(folder, "greeting", "1.0")
    make_wheel(folder, "tool", "2.0")
    make_sdist(folder, "built", "1.0", files={"pyproject.toml": PYPROJECT, "backend.py": BACKEND})
    with IndexServer(folder) as server:
        yield server


@dataclass(frozen=True, kw_only=True)
class Project:
    """A project of an account, its vault, and the store it was locked with."""

    account: Account
    folder: Path
    vault: Path
    store: Path

    def klock(self, *arguments: str | Path, store: Path | None = None) -> subprocess.CompletedProcess[str]:
        return self.account.klock(*arguments, cwd=self.folder, env={"KLOCK_CACHE_DIR": str(store or self.store)})

    def say(self, *arguments: str | Path, store: Path | None = None) -> str:
        """What a command that must succeed says, on stdout and stderr."""
        return succeeded(self.klock(*arguments, store=store))

    def say_alone(self, *arguments: str | Path, store: Path) -> str:
        """The same in a network namespace that has nothing but a loopback that is down."""
        env = {"KLOCK_CACHE_DIR": str(store)}
        return succeeded(self.account.klock(*arguments, cwd=self.folder, env=env, enter=EMPTY_NETWORK))

    def fingerprint(self) -> str:
        return fingerprint_of(self.say("sync"))


def succeeded(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, f"{done.args}: exit status {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


def fingerprint_of(text: str) -> str:
    found = re.search(r"environment (?:synced|unchanged): .*(sha256:[0-9a-f]{64})", text)
    assert found, text
    return found[1]


def make_project(account: Account, image: str, settings: str = "") -> Project:
    folder = account.make_folder("project")
    (folder / "app").mkdir()
    (folder / "app/main.txt").write_text("of the project\n")
    (folder / "kimage.py").write_text(image)
    (folder / "pyproject.toml").write_text(settings)
    account.give(folder)
    return Project(
        account=account,
        folder=folder,
        vault=account.make_folder("share") / "vault",
        store=account.make_folder("store"),
    )


@pytest.fixture(scope="module", params=["unprivileged", pytest.param("root", marks=pytest.mark.soak)])
def account(request: pytest.FixtureRequest) -> Account:
    """A vault knows of no account: `make soak` asks root too."""
    account = request.getfixturevalue(request.param)
    assert isinstance(account, Account)
    return account


@pytest.fixture(scope="module")
def saved(account: Account, debian_registry: Registry, index: IndexServer) -> Project:
    """A project that is locked and pushed."""
    settings = f"""\
[tool.klock]
index-url = "{index.url}"
registry-mirrors = {{ "docker.io" = "{debian_registry.url}" }}
"""
    project = make_project(account, IMAGE, settings)
    project.say("lock", "-q")
    assert re.fullmatch(r"1\d blobs, [\d.]+ MB, (1\d) new\n", project.say("vault", "push", "-q", project.vault))
    return project


def empty_store(project: Project) -> Path:
    return project.account.make_folder("empty")


def test_an_empty_machine_without_a_network_makes_the_same_environment(saved: Project) -> None:
    store = empty_store(saved)
    said = saved.say_alone("vault", "pull", "-q", saved.vault, store=store)
    assert re.fullmatch(r"(\d+) blobs, [\d.]+ MB, \1 new\n", said)

    synced = saved.say_alone("sync", store=store)

    assert fingerprint_of(synced) == saved.fingerprint()
    assert "4 of 4 steps ran" in synced
    assert saved.say_alone("check", "--env", store=store) == "image, lockfile and environment agree\n"
    ran = saved.say_alone("run", "--", "sh", "-c", f"python3 -c '{PROGRAM}'; cat /made; jq -n 1+1", store=store)
    assert ran == "1.0 2.0\nof the project\n2\n"


def test_there_is_no_network_where_that_was_proved(saved: Project, debian_registry: Registry) -> None:
    program = "import sys, urllib.request; urllib.request.urlopen(sys.argv[1])"
    argv: list[str | Path] = [saved.account.python, "-c", program, f"{debian_registry.url}/v2/"]
    assert saved.account.run(argv, cwd=saved.folder).returncode == 0
    done = saved.account.run(argv, cwd=saved.folder, enter=EMPTY_NETWORK)
    assert done.returncode == 1
    assert "unreachable" in done.stderr


def test_a_vault_says_nothing_but_bytes(saved: Project) -> None:
    files = [path for path in saved.vault.rglob("*") if path.is_file()]
    assert {len(path.name) for path in files} == {64}
    assert {str(path.parent.parent.relative_to(saved.vault)) for path in files} == {"blobs/sha256"}
    locked = (saved.folder / "kimage.lock").read_text()
    assert [path.name for path in files if path.name not in locked] == []


def test_a_second_push_copies_nothing_and_asks_nobody(
    saved: Project, debian_registry: Registry, index: IndexServer
) -> None:
    debian_registry.forget_requests()
    index.requests.clear()
    store = empty_store(saved)
    assert re.fullmatch(r"\d+ blobs, [\d.]+ MB, 0 new\n", saved.say("vault", "push", "-q", saved.vault, store=store))
    assert (debian_registry.requests(), index.requests) == ([], [])


def test_a_machine_that_never_synced_fetches_what_it_pushes(saved: Project) -> None:
    """A wheel that was built is built again; all else comes from upstream."""
    other, store = saved.account.make_folder("other"), empty_store(saved)
    said = saved.say("vault", "push", other, store=store)
    assert "build again" in said
    assert re.search(r"(\d+) blobs, [\d.]+ MB, \1 new\n", said)

    def names(vault: Path) -> list[str]:
        return sorted(path.name for path in vault.rglob("*") if path.is_file())

    assert names(other) == names(saved.vault)


def test_offline_it_names_what_it_has_not(saved: Project) -> None:
    done = saved.klock("vault", "push", "--offline", saved.account.make_folder("other"), store=empty_store(saved))
    assert done.returncode == 2
    assert "blobs that the lockfile needs cannot be found:" in done.stderr
    assert "debian:bookworm (manifest)" in done.stderr
    assert "hint: push from the machine that made the lockfile" in done.stderr


def test_check_finds_what_is_missing_and_damaged(saved: Project) -> None:
    assert re.fullmatch(r"\d+ blobs, [\d.]+ MB, all there\n", saved.say("vault", "check", "-q", saved.vault))

    other = saved.account.make_folder("copy")
    subprocess.run(["cp", "-a", f"{saved.vault}/.", str(other)], check=True)
    blobs = {path.stat().st_size: path for path in other.rglob("*") if path.is_file()}
    smallest, second = (blobs[size] for size in sorted(blobs)[:2])
    smallest.unlink()
    second.write_bytes(b"x" * second.stat().st_size)

    done = saved.klock("vault", "check", "-q", other)
    assert done.returncode == 1
    assert sorted(line.partition(":")[0] for line in done.stdout.splitlines()) == ["damaged", "missing"]
    assert smallest.name in done.stdout and second.name in done.stdout
    hint = f"hint: fill it from the store and from upstream: klock vault push --verify {other}"
    assert done.stderr == f"2 findings\n{hint}\n"
    assert re.search(r", 1 new\n$", saved.say("vault", "push", "-q", other))
    assert re.search(r", 1 new\n$", saved.say("vault", "push", "-q", "--verify", other))
    assert saved.klock("vault", "check", "-q", other).returncode == 0


def test_a_dry_run_says_what_would_be_copied(saved: Project) -> None:
    other = saved.account.make_folder("other") / "vault"
    done = saved.klock("vault", "push", "-q", "--dry-run", other)
    assert done.returncode == 0
    assert re.search(r"^greeting-1\.0-py3-none-any\.whl \(\d+ B\)$", done.stdout, re.MULTILINE)
    assert re.search(r"^built-1\.0-py3-none-any\.whl \(built\) \(\d+ B\)$", done.stdout, re.MULTILINE)
    assert len(done.stdout.splitlines()) == int(done.stderr.split()[0])
    assert not other.exists()


def test_a_vault_that_is_not_there(saved: Project) -> None:
    for verb in ("pull", "check"):
        done = saved.klock("vault", verb, saved.account.folder / "nowhere")
        assert done.returncode == 2
        assert "there is no vault at" in done.stderr


def test_two_machines_push_at_once_and_one_is_killed(saved: Project) -> None:
    other = saved.account.make_folder("other")
    argv = [str(part) for part in (saved.account.python, "-m", "klock", "vault", "push", "-q", other)]
    env = saved.account.environment | {"KLOCK_CACHE_DIR": str(saved.store)}
    processes = [
        subprocess.Popen(argv, cwd=saved.folder, env=env, stderr=subprocess.PIPE, text=True, **saved.account.identity)
        for _ in range(3)
    ]
    processes[0].kill()
    errors = [process.communicate()[1] for process in processes]
    assert [process.returncode for process in processes[1:]] == [0, 0], errors
    assert saved.klock("vault", "check", "-q", other).returncode == 0


DEBIAN = """\
import klock as kt

READ = "import urllib.request as u; print(len(u.urlopen('https://pypi.org/simple/iniconfig/').read()))"
image = (
    kt.images.from_debian("bookworm", ["python3"])
    .set_env_vars({"A": "b"})
    .run_bash(f'python3 -c "{READ}" > /page && echo $A > /made')
    .run_bash("date +%N > /now", keep_layer=True)
)
"""


@pytest.mark.soak
def test_a_debian_base_and_what_shell_steps_fetched_and_made_come_from_a_vault_alone(unprivileged: Account) -> None:
    project = make_project(unprivileged, DEBIAN)
    project.say("lock", "-q")
    show = ("run", "--", "cat", "/page", "/made", "/now")
    fingerprint, shown = project.fingerprint(), project.say(*show)
    project.say("vault", "push", "-q", project.vault)

    store = empty_store(project)
    project.say_alone("vault", "pull", "-q", project.vault, store=store)
    assert fingerprint_of(project.say_alone("sync", store=store)) == fingerprint
    assert project.say_alone(*show, store=store) == shown

    # Upstream drops all of these: they stay when what can be had again goes.
    assert re.search(r"kept [\d.]+ MB that upstream may no longer have", project.say("cache", "clean", store=store))
    assert fingerprint_of(project.say_alone("sync", store=store)) == fingerprint
    assert project.say_alone(*show, store=store) == shown


def test_only_one_target_is_pulled_if_asked_for(saved: Project) -> None:
    lock = saved.folder / "kimage.lock"
    (name,) = re.findall(r'^target = "(.*)"$', lock.read_text(), re.MULTILINE)[:1] or ["linux/amd64/cpu"]
    said = saved.say("vault", "pull", "-q", "--target", name, saved.vault, store=empty_store(saved))
    assert " new\n" in said
    done = saved.klock("vault", "pull", "--target", "linux/amd64/cuda12.4", saved.vault)
    assert done.returncode == 2
    assert "is not locked for linux/amd64/cuda12.4" in done.stderr
