"""Bad input and bad luck: one clear error, exit status 2, nothing lost or half written. Over the real command line."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from tests.integration.index_server import IndexServer, make_wheel
from tests.integration.registry_server import Registry
from tests.integration.resident import moments
from tests.integration.small_base import SMALL_BASE, Member, write_small_base
from tests.integration.unprivileged import Account
from tests.run_folder import readable_folder

pytestmark = pytest.mark.integration

BASE = "import klock as kt\nimage = kt.Image().from_docker('debian:bookworm')\n"


@pytest.fixture(scope="module")
def somebody(unprivileged: Account) -> Account:
    return unprivileged


@pytest.fixture
def project(somebody: Account, debian_registry: Registry) -> Path:
    return make_project(somebody, debian_registry)


def make_project(account: Account, registry: Registry) -> Path:
    folder = account.make_folder("project")
    (folder / "pyproject.toml").write_text(f'[tool.klock.registry-mirrors]\n"docker.io" = "{registry.url}"\n')
    account.give(folder)
    return folder


def refused(done: CompletedProcess[str], message: str, *, hint: bool = True) -> None:
    """One error for people: no traceback, a hint, status 2."""
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    assert len(re.findall(r"^error: ", done.stderr, re.MULTILINE)) == 1, done.stderr
    assert re.search(message, done.stderr), done.stderr
    assert done.stdout == ""
    if hint:
        assert "\nhint: " in done.stderr, done.stderr


IMAGES: dict[str, tuple[str, str]] = {
    "it raises": ("x = 1\nraise RuntimeError('no luck')\n", r"kimage\.py:2.*RuntimeError: no luck"),
    "it has a syntax error": ("image = (\n", r"kimage\.py:1.*was never closed"),
    "it has no image": ("import klock as kt\nother = kt.Image('x')\n", r"kimage\.py has no object named 'image'"),
    "the image is something else": ("image = 3\n", r"'image' in kimage\.py is of type int"),
    "the image has no base": ("import klock as kt\nimage = kt.Image('x')\n", "the image has no base"),
    "a source is missing": (BASE + "image.rsync('./gone', '/app')\n", r"kimage\.py:3.*gone"),
    "a requirements file is missing": (BASE + "image.pip_install(['-r gone.txt'])\n", r"kimage\.py:3.*gone\.txt"),
    "a requirement is malformed": (BASE + "image.pip_install(['numpy>>1'])\n", r"kimage\.py:3.*numpy>>1"),
    "a filter option is unknown": (
        BASE + "image.rsync('.', '/app', filter_options='--delete')\n",
        r"kimage\.py:3.*--delete",
    ),
    "a credential is a literal": (
        BASE + "image.set_env_vars({'HF_TOKEN': 'hf_abcdefghijklmnopqrstuvwxyz0123456789'})\n",
        "HF_TOKEN has a credential written into it",
    ),
}


@pytest.mark.parametrize("case", IMAGES)
def test_an_image_is_refused_when(case: str, somebody: Account, project: Path) -> None:
    text, message = IMAGES[case]
    (project / "kimage.py").write_text(text)
    refused(somebody.klock("lock", cwd=project), message, hint="it " not in case)
    assert not (project / "kimage.lock").exists()
    assert sorted(p.name for p in project.iterdir()) == ["kimage.py", "pyproject.toml"]


def test_without_an_image_file(somebody: Account, project: Path) -> None:
    refused(somebody.klock("lock", cwd=project), r"there is no image file .*kimage\.py")


def test_sync_run_and_check_without_a_lockfile(somebody: Account, project: Path) -> None:
    (project / "kimage.py").write_text(BASE)
    for verb in (["sync"], ["run", "--", "true"], ["check"]):
        refused(somebody.klock(*verb, cwd=project), r"there is no kimage\.lock")


def test_an_unknown_base(somebody: Account, project: Path) -> None:
    (project / "kimage.py").write_text(BASE.replace("debian:bookworm", "debian:nosuchtag"))
    refused(somebody.klock("lock", cwd=project), r"kimage\.py:2: .*debian:nosuchtag")


def test_a_registry_that_does_not_answer(somebody: Account, project: Path) -> None:
    (project / "kimage.py").write_text(BASE.replace("debian:bookworm", "127.0.0.1:9/x:1"))
    refused(somebody.klock("lock", cwd=project), r"kimage\.py:2: .*127\.0\.0\.1:9")


def test_unsatisfiable_requirements_name_the_step(somebody: Account, project: Path, tmp_path: Path) -> None:
    make_wheel(tmp_path, "greeting", "1.0")
    with IndexServer(tmp_path) as index:
        image = f"image.pip_install(['--index-url {index.url} greeting>=2'])\n"
        (project / "kimage.py").write_text(BASE + image)
        refused(somebody.klock("lock", cwd=project), r"kimage\.py:3(.|\n)*greeting")
    assert not (project / "kimage.lock").exists()


@pytest.fixture
def locked(somebody: Account, project: Path) -> Path:
    (project / "src").mkdir()
    (project / "src" / "main.py").write_text("print(1)\n")
    somebody.give(project)
    (project / "kimage.py").write_text(BASE + "image.rsync('./src', '/app').run_bash('echo 1 > /made')\n")
    done = somebody.klock("lock", cwd=project)
    assert done.returncode == 0, done.stderr
    return project


LOCKS: dict[str, tuple[str, str, str]] = {
    "it is of a newer version": ('lock-version = "1.0"', 'lock-version = "2.0"', "lock-version 2.0, this klock reads"),
    "it is not TOML": ("[[base]]", "[[base", "is not valid TOML"),
    "it was cut off": ("# end of the lockfile\n", "", "is cut off"),
    "a value has another type": ("files = ", 'files = "1", x = ', r"steps\[0\]\.layer: unknown key"),
    "it was edited by hand to another command": ("echo 1 > /made", "echo 2 > /made", "is stale"),
}


@pytest.mark.parametrize("case", LOCKS)
def test_a_lockfile_is_refused_when(case: str, somebody: Account, locked: Path) -> None:
    old, new, message = LOCKS[case]
    lock = locked / "kimage.lock"
    text = lock.read_text()
    assert old in text
    lock.write_text(text.replace(old, new, 1))
    refused(somebody.klock("sync", cwd=locked), message)
    refused(somebody.klock("run", "--", "true", cwd=locked), message)


def test_a_stale_lock_is_refused_with_step_and_line(somebody: Account, locked: Path) -> None:
    (locked / "src" / "main.py").write_text("print(2)\n")
    refused(somebody.klock("sync", cwd=locked), r"is stale:\n  step 1 \(kimage\.py:3\): src/main\.py changed")


def test_bytes_that_are_not_the_locked_ones(somebody: Account, project: Path, tmp_path: Path) -> None:
    make_wheel(tmp_path, "greeting", "1.0")
    with IndexServer(tmp_path) as index:
        image = f"image.pip_install(['--index-url {index.url} greeting'])\n"
        (project / "kimage.py").write_text(BASE + image)
        assert somebody.klock("lock", cwd=project).returncode == 0
        (wheel,) = tmp_path.glob("*.whl")
        wheel.write_bytes(wheel.read_bytes().replace(b"greeting", b"GREETING"))
        # Another store, to which the base's blobs are copied: what is missing is the wheel.
        other = {"KLOCK_CACHE_DIR": str(somebody.make_folder("other"))}
        refused(somebody.klock("sync", cwd=project, env=other), r"greeting-1\.0.*(\n|.)*(hash mismatch|locked size)")
        refused(somebody.klock("sync", cwd=project, env=other), r"greeting-1\.0")


def test_a_failing_step_names_itself_and_its_line(somebody: Account, project: Path) -> None:
    (project / "kimage.py").write_text(BASE + "image.run_bash('echo before; false')\n")
    refused(somebody.klock("lock", cwd=project), r"step 1 \(kimage\.py:3\) failed with status 1(.|\n)*\| before")
    assert not (project / "kimage.lock").exists()


def test_a_service_that_dies_at_once_case_38(somebody: Account, project: Path) -> None:
    (project / "kimage.py").write_text(BASE + "image.run_bash('nonexistent &')\n")
    refused(somebody.klock("lock", cwd=project), r"step 1 \(kimage\.py:3\): the service ended with status 127")


def test_a_command_that_is_not_there_has_status_127(somebody: Account, locked: Path) -> None:
    assert somebody.klock("run", "--", "nosuchprogram", cwd=locked).returncode == 127
    done = somebody.klock("run", "--", "/app/src/main.py", cwd=locked)
    assert (done.returncode, done.stderr.splitlines()[-1]) == (126, "klock: not an executable file: /app/src/main.py")


def test_wrong_options_are_a_usage_error(somebody: Account, locked: Path) -> None:
    assert somebody.klock("lock", "--nosuch", cwd=locked).returncode == 2
    refused(somebody.klock("sync", "--target", "windows", cwd=locked), "unknown target 'windows'")
    refused(somebody.klock("run", "--mount", "nonsense", "--", "true", cwd=locked), "--mount 'nonsense' is not")


def test_without_bubblewrap(somebody: Account, locked: Path) -> None:
    bare = somebody.make_folder("bin")
    for name in ("newuidmap", "newgidmap", "sh"):
        (bare / name).symlink_to(f"/usr/bin/{name}")
    done = somebody.klock("sync", cwd=locked, env={"PATH": str(bare)})
    refused(done, "bubblewrap|bwrap")


def test_without_subordinate_ids(somebody: Account, locked: Path) -> None:
    """An account that subuid(5) does not know: nobody."""
    import dataclasses
    import pwd

    nobody = pwd.getpwnam("nobody")
    with readable_folder("klock-nobody") as folder:
        os.chown(folder, nobody.pw_uid, nobody.pw_gid)
        account = dataclasses.replace(somebody, name="nobody", uid=nobody.pw_uid, gid=nobody.pw_gid, folder=folder)
        locked.chmod(0o755)
        refused(account.klock("sync", cwd=locked), "subuid|subordinate")


def test_without_user_namespaces(somebody: Account, locked: Path, tmp_path: Path) -> None:
    """Inside a namespace whose own limit of further ones is 0."""
    locked.parent.chmod(0o755)
    locked.chmod(0o777)
    command = f"echo 0 > /proc/sys/user/max_user_namespaces && exec {somebody.python} -m klock sync"
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "sh", "-c", command],
        cwd=locked,
        env=somebody.environment | {"KLOCK_CACHE_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    refused(done, "does not let klock make a user namespace")


def test_a_full_disk(root: Account, debian_registry: Registry) -> None:
    """The store is on a file system of 20 MB."""
    project = make_project(root, debian_registry)
    (project / "kimage.py").write_text(BASE + "image.run_bash('true')\n")
    small = root.make_folder("small")
    script = f"mount -t tmpfs -o size=20M tmpfs {small} && exec {root.python} -m klock lock"
    argv = ["unshare", "--mount", "sh", "-c", script]
    refused(root.run(argv, cwd=project, env={"KLOCK_CACHE_DIR": str(small)}), "No space left on device")
    assert not (project / "kimage.lock").exists()


def test_a_layer_that_was_changed_in_the_store_is_found_and_the_way_out_works(
    root: Account, debian_registry: Registry
) -> None:
    project = make_project(root, debian_registry)
    (project / "kimage.py").write_text(BASE + "image.run_bash('echo 1 > /made')\n")
    for verb in ("lock", "sync"):
        assert root.klock(verb, cwd=project).returncode == 0
    (made,) = (root.store / "trees").glob("layer-*/root/made")
    made.write_text("2\n")
    done = root.klock("check", "--env", cwd=project)
    assert done.returncode == 1
    assert re.fullmatch(
        "drift-not-synced: the layer sha256:[0-9a-f]+ is not in the store: run `klock sync`\n", done.stdout
    )
    for arguments in (["sync"], ["check", "--env"]):
        assert root.klock(*arguments, cwd=project).returncode == 0


def test_an_environment_of_another_lockfile_is_one_finding(somebody: Account, project: Path) -> None:
    for text in ("echo 1 > /made", "echo 2 > /made; rm -r /usr/share"):
        (project / "kimage.py").write_text(BASE + f"image.run_bash('{text}')\n")
        assert somebody.klock("lock", cwd=project).returncode == 0
        if "1" in text:
            assert somebody.klock("sync", cwd=project).returncode == 0
    done = somebody.klock("check", "--env", cwd=project)
    assert done.returncode == 1
    assert done.stdout == "drift-not-synced: the environment was synced from another lockfile: run `klock sync`\n"
    assert done.stderr == "1 finding\n"


def test_a_working_directory_that_is_not_there(somebody: Account, project: Path) -> None:
    (project / "kimage.py").write_text(BASE + "image.run_bash('mkdir /srv/app && ln -s /srv/app /link')\n")
    assert somebody.klock("lock", cwd=project).returncode == 0
    mount = ("--mount", f"{project}:/mnt/project")
    for path in ("/srv/app", "/link", "/mnt/project", "/proc/self", "/tmp"):
        done = somebody.klock("run", *mount, "--workdir", path, "--", "true", cwd=project)
        assert done.returncode == 0, done.stderr
    for path in ("/nosuch", "/etc/passwd", "/mnt/project/nosuch", "/proc/nosuch"):
        done = somebody.klock("run", *mount, "--workdir", path, "--", "true", cwd=project)
        refused(done, f"the environment has no working directory {path}")
    assert somebody.klock("check", "--env", cwd=project).returncode == 0


def test_a_very_long_command(somebody: Account, project: Path) -> None:
    """Longer than one argument of a program may be on Linux (128 KiB)."""
    (project / "kimage.py").write_text(BASE + "image.run_bash(': ' + 'x' * 200_000 + '\\necho end > /end')\n")
    for verb in ("lock", "sync"):
        done = somebody.klock(verb, cwd=project)
        assert done.returncode == 0, done.stderr[-500:]
    assert somebody.klock("run", "--", "cat", "/end", cwd=project).stdout == "end\n"


def test_a_credential_is_in_no_command_line(somebody: Account, project: Path) -> None:
    secret = "s3cr3t-on-no-command-line"
    text = f"image.run_bash('test {secret} && sleep 2 && echo done > /d')\n"
    (project / "kimage.py").write_text(BASE + text)
    process = subprocess.Popen(
        [str(somebody.python), "-m", "klock", "lock"],
        cwd=project,
        env=somebody.environment | {"MY_PASSWORD": secret},
        **somebody.identity,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    deadline = time.monotonic() + 60
    while not processes_of(somebody, "sleep 2"):
        assert time.monotonic() < deadline and process.poll() is None, "the step did not start"
        assert processes_of(somebody, secret) == []
    assert processes_of(somebody, secret) == []
    output, _ = process.communicate()
    assert process.returncode == 0, output
    assert secret not in output + (project / "kimage.lock").read_text()


# -- interruptions


def start(account: Account, *arguments: str, cwd: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [str(account.python), "-m", "klock", *arguments],
        cwd=cwd,
        env=account.environment,
        **account.identity,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} did not appear"
        time.sleep(0.02)


def processes_of(account: Account, marker: str) -> list[str]:
    """Command lines of the account's processes (or its subordinate ids') that have `marker` in them."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
            except OSError:
                continue
            if marker in line:
                found.append(f"{entry.name}: {line}")
    return found


@pytest.mark.usefixtures("usual_signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda s: s.name)
def test_an_interrupted_lock_leaves_the_old_one_and_no_process(
    number: signal.Signals, somebody: Account, locked: Path
) -> None:
    before = (locked / "kimage.lock").read_bytes()
    marker = f"sleep 98765.{number.value}"
    (locked / "kimage.py").write_text(BASE + f"image.rsync('./src', '/app').run_bash('{marker}')\n")
    process = start(somebody, "lock", cwd=locked)
    deadline = time.monotonic() + 60
    while not processes_of(somebody, f"{marker}"):
        assert time.monotonic() < deadline and process.poll() is None, "the step did not start"
        time.sleep(0.05)
    os.killpg(process.pid, number) if number is signal.SIGINT else process.send_signal(number)
    _, stderr = process.communicate(timeout=30)
    assert process.returncode != 0
    if number is signal.SIGINT:
        assert process.returncode == 130
        assert "Traceback" not in stderr
    deadline = time.monotonic() + 10
    while (left := processes_of(somebody, marker)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert left == []
    assert (locked / "kimage.lock").read_bytes() == before
    assert sorted(p.name for p in locked.iterdir()) == ["kimage.lock", "kimage.py", "pyproject.toml", "src"]

    (locked / "kimage.py").write_text(BASE + "image.rsync('./src', '/app').run_bash('echo 1 > /made')\n")
    done = somebody.klock("sync", cwd=locked)
    assert done.returncode == 0, done.stderr
    assert somebody.klock("run", "--", "cat", "/made", cwd=locked).stdout == "1\n"
    assert somebody.klock("check", "--env", cwd=locked).returncode == 0


def test_a_step_that_does_not_repeat_ends_the_one_that_was_begun_upon_it(somebody: Account, locked: Path) -> None:
    before, there = (locked / "kimage.lock").read_bytes(), set((somebody.store / "tmp").iterdir())
    steps = "run_bash('cat /proc/sys/kernel/random/uuid > /made').run_bash('sleep 98765.4')"
    (locked / "kimage.py").write_text(BASE + f"image.{steps}\n")
    done = somebody.klock("lock", cwd=locked)
    assert done.returncode == 2
    assert "step 1 (kimage.py:" in done.stderr and "makes something else each time it runs" in done.stderr
    assert "step 2/2 run_bash sleep" in done.stderr
    assert processes_of(somebody, "sleep 98765.4") == []
    assert set((somebody.store / "tmp").iterdir()) <= there
    assert (locked / "kimage.lock").read_bytes() == before


@pytest.fixture
def small(somebody: Account, project: Path) -> Path:
    """A project that is locked, and made from nothing in no time."""
    (project / "src").mkdir()
    (project / "src" / "main.py").write_text("print(1)\n")
    files: list[Member] = [(f"usr/share/many/{number}", str(number)) for number in range(40)]
    write_small_base(project / "layout", files, [("usr/share/many/.wh.7", "")])
    base = BASE.replace("debian:bookworm", SMALL_BASE)
    (project / "kimage.py").write_text(
        base + "image.rsync('./src', '/app').run_bash('echo 1 > /made; rm /etc/group')\n"
    )
    somebody.give(project)
    assert somebody.klock("lock", cwd=project).returncode == 0
    return project


def test_sync_killed_at_many_moments_is_right_in_the_end(somebody: Account, small: Path) -> None:
    """Later and later in a sync that starts from nothing, in one store; then left alone."""
    cache = {"KLOCK_CACHE_DIR": str(somebody.make_folder("killed"))}
    events = somebody.klock_killed_at(0, "sync", cwd=small, env={"KLOCK_CACHE_DIR": str(somebody.make_folder("whole"))})
    for event in moments(events.events, 25):
        assert somebody.klock_killed_at(event, "sync", cwd=small, env=cache).status in (0, -signal.SIGKILL)
    for arguments in (("sync",), ("check", "--env")):
        done = somebody.klock(*arguments, cwd=small, env=cache)
        assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_two_syncs_at_once(somebody: Account, small: Path) -> None:
    cache = somebody.make_folder("two")
    environment = somebody.environment | {"KLOCK_CACHE_DIR": str(cache)}
    processes = [
        subprocess.Popen(
            [str(somebody.python), "-m", "klock", "sync"],
            cwd=small,
            env=environment,
            **somebody.identity,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for _ in range(2)
    ]
    for process in processes:
        output, _ = process.communicate(timeout=120)
        assert process.returncode == 0, output
    done = somebody.klock("check", "--env", cwd=small, env={"KLOCK_CACHE_DIR": str(cache)})
    assert done.returncode == 0, done.stdout


def test_a_terminal_is_passed_through(somebody: Account, locked: Path) -> None:
    """`script` gives klock a terminal; the command in the environment must see one, with the size it has."""
    done = somebody.run(
        [
            "script",
            "-qec",
            f"stty rows 33 cols 99; {somebody.python} -m klock run -- sh -c 'test -t 0 && test -t 1 && stty size'",
            "/dev/null",
        ],
        cwd=locked,
    )
    assert "33 99" in done.stdout, done.stdout
