"""The engine `here`: klock inside a real container that podman started, as it is in a pod."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from tests.integration.container_engines import ContainerHost, docker_host, podman_host, some_of
from tests.integration.pods import Pod, running_pod
from tests.integration.registry_server import Registry
from tests.integration.resident import moments
from tests.integration.unprivileged import Account

pytestmark = pytest.mark.integration

STATE = "/var/lib/klock/here/state.json"
PIP = '.pip_install(["six==1.16.0", "attrs"])'
FILES = '.set_env_vars({"APP": "/srv/app"}).rsync("./app", "/srv/app", contents=True)'
SHELL = """.run_bash('''
    mkdir -p /srv/made && echo 1 > /srv/made/one && ln /srv/made/one /srv/made/hard && ln -s one /srv/made/soft
    rm /etc/issue && rm -r /etc/skel && mkdir /etc/skel && useradd --create-home bob && chown bob /srv/made/one
    echo 'x = 1' > /srv/made/module.py && python3 -m compileall -q /srv/made && touch /etc/debian_version
    echo log > /var/log/dpkg.log && chmod u+s /usr/bin/env
''')"""

KEPT = ".run_bash('echo kept > /srv/kept', keep_layer=True)"


def shell(pod: Pod, text: str) -> str:
    return succeeded(pod.run("sh", "-c", text)).stdout


def write(pod: Pod, *steps: str) -> None:
    """Writes the image and locks it, outside."""
    image = "\n    ".join(["image = (", 'kt.Image().from_docker("debian:bookworm")', *steps]) + "\n)\n"
    (pod.project / "kimage.py").write_text(f"import klock as kt\n\n{image}")
    succeeded(pod.host.account.klock("lock", cwd=pod.project, env=pod.host.variables))


def fingerprint_outside(pod: Pod) -> str:
    return fingerprint(succeeded(pod.host.account.klock("sync", cwd=pod.project, env=pod.host.variables)))


def succeeded(done: CompletedProcess[str]) -> CompletedProcess[str]:
    assert done.returncode == 0, f"{done.args}: exit status {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def fingerprint(done: CompletedProcess[str]) -> str:
    return done.stderr.strip().rpartition(" ")[2]


@pytest.fixture(scope="module")
def host(root: Account) -> Iterator[ContainerHost]:
    with podman_host(root) as made:
        yield made


@pytest.fixture(scope="module")
def base_image(host: ContainerHost, debian_oci_layout: Path) -> str:
    return host.native("pull", "--quiet", f"oci:{debian_oci_layout}:bookworm").strip()


@pytest.fixture
def project(host: ContainerHost, debian_registry: Registry) -> Path:
    folder = host.account.make_folder("project")
    (folder / "app").mkdir()
    (folder / "app/main.py").write_text("import os, six; print(os.environ['APP'], six.__version__)\n")
    (folder / "pyproject.toml").write_text(f'[tool.klock.registry-mirrors]\n"docker.io" = "{debian_registry.url}"\n')
    return folder


@pytest.fixture(params=["plain", "open"])
def pod(request: pytest.FixtureRequest, host: ContainerHost, project: Path, base_image: str) -> Iterator[Pod]:
    store, is_open = host.account.store, request.param == "open"
    mounts = {project: str(project)}
    with running_pod(host, base_image, project=project, mounts=mounts, store=store, is_open=is_open) as made:
        yield made


@pytest.mark.parametrize("pod", some_of(["plain", "open"], "plain"), indirect=True)
def test_pip_files_and_variables_are_as_elsewhere(pod: Pod) -> None:
    write(pod, PIP, FILES)
    done = succeeded(pod.klock("sync", "--here"))
    assert fingerprint(done) == fingerprint_outside(pod)
    assert succeeded(pod.klock("run", "--here", "python3", "-E", "/srv/app/main.py")).stdout == "/srv/app 1.16.0\n"
    assert "environment unchanged in this container" in succeeded(pod.klock("sync", "--here")).stderr
    assert succeeded(pod.klock("check", "--here", "--env")).returncode == 0


@pytest.mark.soak
def test_a_container_of_docker_is_as_one_of_podman(
    host: ContainerHost, project: Path, debian_registry: Registry
) -> None:
    """Both engines have ways of their own to let a sandbox be made inside."""
    store, image = host.account.store, f"{debian_registry.host}/library/debian:bookworm"
    with docker_host(host.account) as docker:
        docker.native("pull", "--quiet", image)
        for is_open in (False, True):
            with running_pod(
                docker, image, project=project, mounts={project: str(project)}, store=store, is_open=is_open
            ) as pod:
                write(pod, PIP, FILES, KEPT)
                done = succeeded(pod.klock("sync", "--here"))
                assert fingerprint(done) == fingerprint_outside(pod)
                assert succeeded(pod.klock("run", "--here", "cat", "/srv/kept")).stdout == "kept\n"
                assert succeeded(pod.klock("check", "--here", "--env")).returncode == 0
                succeeded(pod.klock("cache", "prune"))
                write(pod, PIP, FILES, KEPT, SHELL)
                done = pod.klock("sync", "--here")
                assert done.returncode == (0 if is_open else 2), done.stderr
                assert is_open or "docker: the same with systempaths=unconfined" in done.stderr
                assert not is_open or fingerprint(done) == fingerprint_outside(pod)
                assert pod.klock("check", "--here", "--env").returncode == (0 if is_open else 1)


@pytest.mark.parametrize("pod", ["plain"], indirect=True)
def test_what_the_image_no_longer_has_goes(pod: Pod) -> None:
    write(pod, '.pip_install(["six==1.15.0", "attrs"])', FILES)
    before = shell(pod, "find /usr/local /srv /opt | sort")
    succeeded(pod.klock("sync", "--here"))
    (pod.project / "app/more.py").write_text("more = 1\n")
    write(pod, '.pip_install(["six==1.16.0"])', FILES)
    done = succeeded(pod.klock("sync", "--here"))
    assert "take back step 3 rsync" in done.stderr and "take back step 1 pip_install" in done.stderr
    assert fingerprint(done) == fingerprint_outside(pod)
    assert pod.run("python3", "-Ec", "import attr").returncode == 1
    assert shell(pod, "cat /srv/app/more.py") == "more = 1\n"
    write(pod)
    succeeded(pod.klock("sync", "--here"))
    assert shell(pod, "ls -d /srv/app 2>/dev/null || true") == ""
    assert shell(pod, "find /usr/local /srv /opt | sort") == before


@pytest.mark.parametrize("pod", ["plain"], indirect=True)
def test_what_programs_write_beside_the_steps_files_stays_and_is_in_nobodys_way(pod: Pod) -> None:
    (pod.project / "app/helper.py").write_text("x = 1\n")
    (pod.project / "app/main.py").write_text("import helper; print(helper.x); open('/srv/app/log', 'a').write('.')\n")
    program = ("env", "-u", "PYTHONDONTWRITEBYTECODE", "python3", "-E", "/srv/app/main.py")
    write(pod, FILES)
    succeeded(pod.klock("sync", "--here"))
    assert succeeded(pod.run(*program)).stdout == "1\n"
    # Of the same size and, in layers, the same time: stale bytecode would be taken for its own.
    (pod.project / "app/helper.py").write_text("x = 2\n")
    write(pod, FILES, '.pip_install(["six==1.16.0"])')
    done = succeeded(pod.klock("sync", "--here"))
    assert fingerprint(done) == fingerprint_outside(pod)
    assert succeeded(pod.run(*program)).stdout == "2\n"
    assert shell(pod, "cat /srv/app/log") == ".."
    assert "/srv/app/log differs: content" in pod.klock("check", "--here", "--env").stdout
    write(pod)
    succeeded(pod.klock("sync", "--here"))
    assert shell(pod, "find /srv") == "/srv\n/srv/app\n/srv/app/log\n"
    write(pod, FILES)
    succeeded(pod.klock("sync", "--here"))


@pytest.mark.parametrize("pod", ["plain"], indirect=True)
def test_what_programs_wrote_before_a_sync_is_not_a_new_steps_doing(pod: Pod) -> None:
    (pod.project / "data").mkdir()
    (pod.project / "data/numbers").write_text("1 2 3\n")
    (pod.project / "data/same").write_text("same\n")
    write(pod, FILES)
    succeeded(pod.klock("sync", "--here"))
    written = "cat /srv/app/results.db /var/lib/other /srv/data/own /srv/data/same; stat -c '%n %Y' /var/lib/other"
    shell(pod, "echo precious > /srv/app/results.db; echo log > /var/lib/other; touch -d 2020-05-05 /var/lib/other")
    # The folder of the step to come, and one of its files, just as it is going to be.
    shell(pod, "mkdir /srv/data; echo mine > /srv/data/own; echo same > /srv/data/same")
    before = shell(pod, written)
    write(
        pod, FILES, '.rsync("./data", "/srv/data", contents=True)', '.rsync("./data", "/srv/app", contents=True)', PIP
    )
    done = succeeded(pod.klock("sync", "--here"))
    assert "3 of 4 steps ran" in done.stderr
    assert fingerprint(done) == fingerprint_outside(pod)
    assert succeeded(pod.klock("check", "--here", "--env")).returncode == 0
    assert shell(pod, written) == before
    write(pod)
    succeeded(pod.klock("sync", "--here"))
    assert shell(pod, written) == before
    assert shell(pod, "find /srv -type f | sort") == "/srv/app/results.db\n/srv/data/own\n/srv/data/same\n"


@pytest.mark.parametrize("pod", ["open"], indirect=True)
def test_a_base_that_was_changed_stays_a_finding(pod: Pod) -> None:
    left_out = ".run_bash('rm -r /etc/skel; echo 1 > /etc/debian_version', leave_out=['/etc/debian_version'])"
    write(pod, FILES, left_out)
    succeeded(pod.klock("sync", "--here"))
    assert succeeded(pod.klock("check", "--here", "--env")).returncode == 0
    shell(pod, "cp -a /etc/issue /etc/issue.net /root/; echo x >> /etc/issue; rm /etc/issue.net")
    shell(pod, "chmod u+s /usr/bin/env; chmod 777 /opt; echo > /opt/written")
    more = ('.rsync("./app", "/srv/more", contents=True)', '.rsync("./app/main.py", "/etc/networks")')
    write(pod, FILES, left_out, *more)
    succeeded(pod.klock("sync", "--here"))
    done = pod.klock("check", "--here", "--env")
    assert [line.split(": ")[1].split(",")[0] for line in done.stdout.splitlines()] == [
        "/etc/issue differs",
        "/etc/issue.net is missing",
        "/opt differs",
        "/usr/bin/env differs",
    ]
    shell(pod, "chmod 755 /opt; chmod u-s /usr/bin/env; cp -a /root/issue /root/issue.net /etc/")
    assert succeeded(pod.klock("check", "--here", "--env")).returncode == 0
    write(pod, FILES, left_out)
    succeeded(pod.klock("sync", "--here"))
    assert succeeded(pod.klock("check", "--here", "--env")).returncode == 0


@pytest.mark.parametrize("pod", ["plain"], indirect=True)
def test_a_step_that_fails_takes_back_only_what_it_did(pod: Pod) -> None:
    (pod.project / "app/zz").write_text("placed last\n")
    write(pod, PIP)
    succeeded(pod.klock("sync", "--here"))
    shell(pod, "mkdir -p /srv/app/zz; echo precious > /srv/app/results.db; echo mine > /srv/app/main.py")
    before = shell(pod, "find /srv -type f -exec stat -c '%n %a %Y' {} + -exec cat {} + | sort")
    write(pod, PIP, FILES)
    for _ in range(2):
        done = pod.klock("sync", "--here")
        assert done.returncode == 2 and "cannot place a file at /srv/app/zz" in done.stderr
        assert shell(pod, "find /srv -type f -exec stat -c '%n %a %Y' {} + -exec cat {} + | sort") == before
    shell(pod, "rmdir /srv/app/zz; mkdir /srv/app/late; chmod 700 /srv /srv/app")
    forced = succeeded(pod.klock("sync", "--here", "--force"))
    assert "made another layer" in forced.stderr and "not as locked" in forced.stderr
    write(pod, PIP)
    succeeded(pod.klock("sync", "--here"))
    shell(pod, "rmdir /srv/app/late; chmod 755 /srv /srv/app")
    write(pod, PIP, FILES)
    assert fingerprint(succeeded(pod.klock("sync", "--here"))) == fingerprint_outside(pod)
    assert shell(pod, "cat /srv/app/results.db") == "precious\n"
    write(pod, PIP)
    succeeded(pod.klock("sync", "--here"))
    assert shell(pod, "cat /srv/app/main.py /srv/app/results.db") == "mine\nprecious\n"


PROGRAM = """
    mkdir -p /srv/app
    while [ ! -e /tmp/stop ]; do
        n=$((n + 1)); echo $n >> /srv/app/log; echo $n > /var/lib/state-$n; rm -f /var/lib/state-$((n - 3))
        echo $$ > /srv/app/pid.new; mv /srv/app/pid.new /srv/app/pid; sleep 0.002
    done
    touch /tmp/stopped
"""


@contextmanager
def program_that_writes(pod: Pod) -> Iterator[None]:
    """No line of its log may be lost, whatever else happens."""
    shell(pod, f"({PROGRAM}) > /dev/null 2>&1 < /dev/null & until [ -e /srv/app/log ]; do sleep 0.01; done")
    yield
    stop = "touch /tmp/stop; until [ -e /tmp/stopped ]; do sleep 0.01; done; rm /tmp/stop /tmp/stopped"
    lines, last = shell(pod, f"{stop}; wc -l < /srv/app/log; tail -n 1 /srv/app/log").split()
    assert lines == last


@pytest.mark.parametrize("pod", ["plain"], indirect=True)
def test_programs_may_go_on_writing_while_a_sync_runs(pod: Pod) -> None:
    write(pod, PIP, FILES)
    with program_that_writes(pod):
        ended = pod.klock_killed_at(0, "sync", "--here")
    assert ended.stderr.strip().endswith(fingerprint_outside(pod))
    assert shell(pod, "ls /srv/app") == "log\nmain.py\npid\n"
    write(pod, '.pip_install(["six==1.15.0"])', FILES, '.rsync("./app", "/opt/app", contents=True)')
    for event in (*moments(ended.events, 5)[1:4], 0):
        shell(pod, "rm /srv/app/log")
        with program_that_writes(pod):
            killed = pod.klock_killed_at(event, "sync", "--here")
        # A moment of the first sync may be after the end of a later one.
        over = event == 0 or killed.events < event
        assert killed.status == (0 if over and killed.status == 0 else -signal.SIGKILL)
    assert fingerprint(succeeded(pod.klock("sync", "--here"))) == fingerprint_outside(pod)
    assert shell(pod, "ls /srv/app") == "log\nmain.py\npid\n"


@pytest.mark.parametrize("pod", ["plain"], indirect=True)
def test_packages_and_files_of_the_base_come_back(pod: Pod) -> None:
    held = "cat /usr/lib/python3/dist-packages/wheel/__init__.py /etc/issue; stat -c '%n %a %u %g %Y' /etc/issue"
    before = shell(pod, held)
    (pod.project / "issue").write_text("another\n")
    (pod.project / "issue").chmod(0o600)
    write(pod, '.pip_install(["wheel==0.40.0"])', '.rsync("./issue", "/etc/issue")')
    succeeded(pod.klock("sync", "--here"))
    assert shell(pod, "cat /etc/issue") == "another\n"
    write(pod)
    succeeded(pod.klock("sync", "--here"))
    assert shell(pod, held) == before


def test_a_shell_step_runs_in_a_sandbox_or_not_at_all(pod: Pod) -> None:
    write(pod, FILES, SHELL)
    done = pod.klock("sync", "--here")
    if pod.is_open:
        assert fingerprint(succeeded(done)) == fingerprint_outside(pod)
        assert shell(
            pod, "cat /srv/made/one; stat -c %U /srv/made/one; ls /etc/skel /run/klock 2>&1 || true"
        ).startswith("1\nbob\n")
        assert succeeded(pod.klock("check", "--here", "--env")).returncode == 0
    else:
        assert done.returncode == 2
        assert "step 3 (kimage.py:" in done.stderr and "must run in a sandbox" in done.stderr
        assert shell(pod, "ls /srv") == ""
        assert "there is no environment" in pod.klock("run", "--here", "--no-sync", "true").stderr


@pytest.mark.parametrize("pod", ["open"], indirect=True)
def test_a_changed_shell_step_is_refused_unless_forced(pod: Pod) -> None:
    write(pod, ".run_bash('echo 1 > /srv/one')", PIP)
    succeeded(pod.klock("sync", "--here"))
    before = shell(pod, f"cat {STATE}; ls /srv; pip list 2>/dev/null")
    write(pod, ".run_bash('echo 2 > /srv/two')", '.pip_install(["six==1.15.0"])')
    done = pod.klock("sync", "--here")
    assert done.returncode == 2
    assert "step 1 run_bash echo 1 > /srv/one: what a command did cannot be taken back" in done.stderr
    assert "klock sync --here --force" in done.stderr
    assert shell(pod, f"cat {STATE}; ls /srv; pip list 2>/dev/null") == before
    forced = succeeded(pod.klock("sync", "--here", "--force"))
    assert "step 1 run_bash echo 1 > /srv/one: cannot be taken back" in forced.stderr
    assert "this container was synced with --force: it is not what the lockfile says" in forced.stderr
    assert shell(pod, "ls /srv") == "one\ntwo\n"
    assert pod.klock("check", "--here", "--env").returncode == 1


@pytest.mark.parametrize("pod", ["open"], indirect=True)
def test_force_over_drift_runs_the_step_and_does_not_make_it_locked(pod: Pod) -> None:
    write(pod, ".run_bash('echo 1 > /srv/one')")
    succeeded(pod.klock("sync", "--here"))
    shell(pod, "echo tampered > /srv/one")
    refused = pod.klock("sync", "--here")
    assert refused.returncode == 2 and "changed since the last sync: /srv/one" in refused.stderr
    forced = succeeded(pod.klock("sync", "--here", "--force"))
    assert "this container was synced with --force: it is not what the lockfile says" in forced.stderr
    found = pod.klock("check", "--here", "--env")
    assert found.returncode == 1
    assert "this container was synced with --force: it is not what the lockfile says" in found.stdout
    # The locked step has run over what was there, and nobody knows what else the first run had left.
    assert shell(pod, "cat /srv/one") == "1\n"


@pytest.mark.parametrize("pod", ["plain"], indirect=True)
def test_force_over_another_base_does_not_make_it_the_locked_one(pod: Pod) -> None:
    write(pod, FILES)
    succeeded(pod.klock("sync", "--here"))
    another = shell(pod, f'sed \'s/"base": "sha256:[0-9a-f]*/"base": "sha256:{"0" * 64}/\' {STATE}')
    assert "0" * 64 in another
    shell(pod, f"cat > {STATE} <<'EOF'\n{another}\nEOF")
    assert "synced over another base image" in pod.klock("sync", "--here").stderr
    for _ in range(2):
        forced = succeeded(pod.klock("sync", "--here", "--force"))
        assert "this container was synced with --force: it is not what the lockfile says" in forced.stderr
        assert pod.klock("check", "--here", "--env").returncode == 1


@pytest.mark.parametrize("pod", ["open"], indirect=True)
def test_a_shell_step_that_was_cut_short_is_finished_first(pod: Pod) -> None:
    step = ".run_bash('echo 1 > /srv/one; while [ -e /var/tmp/hold ]; do sleep 0.01; done; echo 2 > /srv/two')"
    write(pod, PIP, step)
    wait = "while ! [ -e /srv/one ]; do sleep 0.01; done"
    shell(pod, f"touch /var/tmp/hold; python3 -m klock sync --here & {wait}; kill -9 $!")
    begun = shell(pod, f"cat {STATE}; ls /srv")
    assert '"doing": {' in begun and begun.endswith("}one\n")
    write(pod, PIP, ".run_bash('echo 3 > /srv/three')")
    done = pod.klock("sync", "--here")
    assert done.returncode == 2 and "which is not the lockfile's next step" in done.stderr
    assert shell(pod, f"cat {STATE}; ls /srv") == begun
    shell(pod, "rm /var/tmp/hold")
    write(pod, PIP, step)
    assert fingerprint(succeeded(pod.klock("sync", "--here"))) == fingerprint_outside(pod)
    assert shell(pod, "cat /srv/one /srv/two") == "1\n2\n"


@pytest.mark.parametrize("pod", ["open"], indirect=True)
def test_a_new_shell_step_runs_over_those_that_are_done(pod: Pod) -> None:
    write(pod, PIP, ".run_bash('echo 1 > /srv/one')")
    succeeded(pod.klock("sync", "--here"))
    shell(pod, "echo log > /var/lib/other")  # what a program wrote since is not the new step's doing
    write(pod, PIP, ".run_bash('echo 1 > /srv/one')", ".run_bash('cp /srv/one /srv/two && rm /srv/one')", FILES)
    done = succeeded(pod.klock("sync", "--here"))
    assert "2 of 4 steps ran" in done.stderr
    assert fingerprint(done) == fingerprint_outside(pod)
    assert shell(pod, "ls /srv") == "app\ntwo\n"


@pytest.mark.parametrize("pod", ["plain"], indirect=True)
def test_drift_is_found_and_put_right(pod: Pod) -> None:
    write(pod, PIP, FILES)
    succeeded(pod.klock("sync", "--here"))
    shell(pod, "echo x >> /srv/app/main.py; rm -r /usr/local/lib/python3.11/dist-packages/attr; echo x > /etc/new")
    done = pod.klock("check", "--here", "--env")
    assert done.returncode == 1
    assert "drift-modified: step 3 (kimage.py:" in done.stdout and "/srv/app/main.py differs" in done.stdout
    assert "/attr is missing" in done.stdout and "/etc/new is not in the lockfile" in done.stdout
    succeeded(pod.klock("sync", "--here"))
    assert succeeded(pod.klock("run", "--here", "python3", "-E", "/srv/app/main.py")).stdout == "/srv/app 1.16.0\n"


@pytest.mark.parametrize("pod", ["plain"], indirect=True)
def test_a_sync_sees_what_was_done_to_what_steps_made(pod: Pod) -> None:
    write(pod, FILES)
    succeeded(pod.klock("sync", "--here"))
    shell(pod, "echo x > /srv/mine")  # nobody's, so it stays
    for change in (
        "echo x >> /srv/app/main.py",
        "chmod 600 /srv/app/main.py",
        "rm /srv/app/main.py",
        "chown 1 /srv/app",
    ):
        assert "environment unchanged" in succeeded(pod.klock("sync", "--here")).stderr
        shell(pod, change)
        assert "step 2 rsync" in succeeded(pod.klock("sync", "--here")).stderr, change
        assert pod.klock("check", "--here", "--env").stdout == "", change
    assert shell(pod, "cat /srv/mine") == "x\n"


@pytest.mark.parametrize("pod", ["plain"], indirect=True)
def test_killed_at_any_moment_it_is_right_in_the_end(pod: Pod) -> None:
    one = ('.pip_install(["six==1.15.0", "attrs"])', FILES)
    other = ('.pip_install(["six==1.16.0", "wheel==0.40.0"])', FILES, '.rsync("./app", "/opt/app")')
    write(pod, *one)
    succeeded(pod.klock("sync", "--here"))
    write(pod, *other)
    expected = fingerprint_outside(pod)
    events = pod.klock_killed_at(0, "sync", "--here").events
    # On the way back and forth, each time from where the last one was killed.
    statuses = []
    for number, event in enumerate(moments(events, 12)):
        write(pod, *(other if number % 2 else one))
        statuses.append(pod.klock_killed_at(event, "sync", "--here").status)
    assert set(statuses) <= {0, -signal.SIGKILL} and statuses.count(-signal.SIGKILL) > 6, statuses
    write(pod, *other)
    done = succeeded(pod.klock("sync", "--here"))
    assert fingerprint(done) == expected
    assert succeeded(pod.klock("check", "--here", "--env")).returncode == 0
    write(pod)
    pod.klock_killed_at(events // 2, "sync", "--here")
    succeeded(pod.klock("sync", "--here"))
    assert shell(pod, "ls /srv /opt /usr/local/lib/python3.11/dist-packages") == (
        "/opt:\n\n/srv:\n\n/usr/local/lib/python3.11/dist-packages:\n"
    )


PURELIB = "/usr/local/lib/python3.11/dist-packages"


@pytest.mark.parametrize("pod", ["plain"], indirect=True)
def test_what_pip_installed_over_a_locked_package_is_removed(pod: Pod) -> None:
    write(pod, PIP, FILES)
    locked = fingerprint(succeeded(pod.klock("sync", "--here")))
    listing = f"find {PURELIB} /usr/local/bin | sort"
    before = shell(pod, listing)
    for version in ("1.15.0", "1.16.0"):
        install_over(pod, f"six=={version}")
        shell(pod, f"echo mine > {PURELIB}/mine.py")
        planned = succeeded(pod.klock("sync", "--here", "--dry-run")).stdout
        assert f"remove six {version}, which was installed over the locked one" in planned
        events = pod.klock_killed_at(0, "sync", "--here").events
        assert fingerprint(succeeded(pod.klock("sync", "--here"))) == locked
        assert shell(pod, listing).split() == sorted([*before.split(), f"{PURELIB}/mine.py"])
        shell(pod, f"rm {PURELIB}/mine.py")
        for event in moments(events, 2):
            install_over(pod, f"six=={version}")
            pod.klock_killed_at(event, "sync", "--here")
            assert fingerprint(succeeded(pod.klock("sync", "--here"))) == locked
            assert shell(pod, listing) == before


def install_over(pod: Pod, requirement: str) -> None:
    """As `pip install` in the container does it."""
    wheels = pod.project / "wheels" / requirement
    if not wheels.exists():
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(wheels), requirement]
        subprocess.run(command, check=True)
    options = f"--quiet --break-system-packages --force-reinstall --no-index --find-links {wheels}"
    # Not over what klock itself is imported from, which is the host's.
    shell(pod, f"env -u PYTHONPATH pip install {options} {requirement} 2>&1")


@pytest.mark.parametrize("pod", ["plain"], indirect=True)
def test_what_could_change_what_runs_is_told_when_a_sync_leaves_it(pod: Pod) -> None:
    write(pod, PIP)
    succeeded(pod.klock("sync", "--here"))
    shell(pod, f"echo 'import os' > {PURELIB}/evil.pth; echo data > /srv/data; echo 'umask 077' > /etc/profile.d/x.sh")
    write(pod, PIP, FILES)
    said = succeeded(pod.klock("sync", "--here")).stderr
    assert "\n  /etc/profile.d/x.sh: login shells run it\n" in said
    assert f"\n  /{PURELIB.strip('/')}/evil.pth: Python runs its lines that begin with import\n" in said
    assert "/srv/data" not in said


ONTO_MOUNTS = {
    "/mnt/volume is on the mount /mnt/volume": '.rsync("./app", "/mnt/volume", contents=True)',
    "/srv/app/conf is on the mount /srv/app/conf": '.rsync("./app", "/srv/app", contents=True)',
    "/mnt/volume/conf is on the mount /mnt/volume": '.rsync("./app", "/srv/link", contents=True)',
    "/srv/file is on the mount /srv/file": '.rsync("./app/main.py", "/srv/file")',
    "/mnt/volume/below/x is on the mount /mnt/volume": '.rsync("./app/main.py", "/srv/made/below/x")',
    f"{PURELIB}/attrs/__init__.py is on the mount {PURELIB}/attrs": PIP,
    "/mnt/volume": ".run_bash('mkdir -p /mnt/volume && echo 1 > /mnt/volume/kept', keep_layer=True)",
}


def test_what_is_mounted_is_never_written(host: ContainerHost, project: Path, base_image: str) -> None:
    (project / "app/conf").mkdir()
    (project / "app/conf/settings").write_text("from the image\n")
    volume, below, attrs = (host.account.make_folder(name) for name in ("volume", "below", "attrs"))
    for file in (volume / "settings", volume / "file", below / "settings", attrs / "settings"):
        file.write_text("of the volume\n")
    mounts = {project: str(project), volume: "/mnt/volume", volume / "file": "/srv/file"}
    mounts |= {below: "/srv/app/conf", attrs: f"{PURELIB}/attrs"}
    store = host.account.store
    with running_pod(host, base_image, project=project, mounts=mounts, store=store, is_open=False) as pod:
        shell(pod, "ln -s /mnt/volume /srv/link; ln -s /mnt/volume /srv/made")
        before = shell(pod, "find /srv /mnt /usr/local -exec stat -c '%n %a %Y %i' {} +")
        for said, step in ONTO_MOUNTS.items():
            write(pod, '.rsync("./app/main.py", "/opt/first")', step)
            done = pod.klock("sync", "--here")
            assert done.returncode == 2 and said in done.stderr, done.stderr
            assert "step 2 (kimage.py:6): " in done.stderr
            assert shell(pod, "find /srv /mnt /usr/local -exec stat -c '%n %a %Y %i' {} +") == before, said
            assert shell(pod, f"ls /opt {STATE} 2>/dev/null || true") == "/opt:\n", said


def test_a_mount_inside_of_a_steps_folder_is_in_nobodys_way(
    host: ContainerHost, project: Path, base_image: str
) -> None:
    volume = host.account.make_folder("volume")
    (volume / "settings").write_text("of the volume\n")
    mounts = {project: str(project), volume: "/srv/app/conf"}
    store = host.account.store
    with running_pod(host, base_image, project=project, mounts=mounts, store=store, is_open=False) as pod:
        write(pod, PIP, FILES)
        assert fingerprint(succeeded(pod.klock("sync", "--here"))) == fingerprint_outside(pod)
        write(pod)
        succeeded(pod.klock("sync", "--here"))
        assert shell(pod, "find /srv") == "/srv\n/srv/app\n/srv/app/conf\n/srv/app/conf/settings\n"


@pytest.mark.parametrize("pod", ["plain"], indirect=True)
def test_a_link_in_place_of_a_steps_folder_leads_to_what_is_not_the_steps(pod: Pod) -> None:
    write(pod, FILES)
    succeeded(pod.klock("sync", "--here"))
    shell(pod, "mv /srv/app /srv/mine && ln -s mine /srv/app")
    write(pod)
    succeeded(pod.klock("sync", "--here"))
    assert shell(pod, "find /srv | sort; readlink /srv/app || true").startswith("/srv\n")
    assert shell(pod, "ls /srv/mine") == "main.py\n"


@pytest.mark.parametrize("pod", ["plain"], indirect=True)
def test_without_its_notes_klock_does_the_steps_again(pod: Pod) -> None:
    write(pod, PIP, FILES)
    succeeded(pod.klock("sync", "--here"))
    shell(pod, "rm -r /var/lib/klock/here/trees; echo x >> /srv/app/main.py")
    done = pod.klock("sync", "--here")
    assert done.returncode == 2 and "klock's notes of this container are incomplete" in done.stderr
    shell(pod, "rm -r /var/lib/klock; echo mine > /srv/app/log")
    assert "was not synced" in pod.klock("check", "--here", "--env").stdout
    done = succeeded(pod.klock("sync", "--here"))
    assert "2 of 2 steps ran" in done.stderr and fingerprint(done) == fingerprint_outside(pod)
    assert succeeded(pod.klock("check", "--here", "--env")).returncode == 0
    assert shell(pod, "cat /srv/app/log") == "mine\n"


@pytest.mark.parametrize("pod", ["plain"], indirect=True)
def test_another_base_is_refused(pod: Pod) -> None:
    write(pod, PIP)
    python = "/usr/bin/python3.11"  # which runs: it can be replaced, not written to
    shell(pod, f"cp {python} {python}-new && cat /bin/true >> {python}-new && mv {python}-new {python}")
    done = pod.klock("sync", "--here")
    assert done.returncode == 2 and "was not started from the locked base" in done.stderr
    assert pod.run("test", "-e", STATE).returncode == 1


@pytest.mark.parametrize("pod", ["plain"], indirect=True)
def test_a_command_takes_klocks_place_and_services_go_with_it(pod: Pod) -> None:
    """What a service is told is not an argument of a process, where others would see it."""
    write(pod, '.set_env_vars({"APP": "$HOME/app"})')
    succeeded(pod.klock("sync", "--here"))
    done = succeeded(pod.klock("run", "--here", "sh", "-c", "echo $APP $POD; cat /proc/$$/comm", env={"POD": "p"}))
    assert done.stdout in {"/app p\nsh\n", "/root/app p\nsh\n"}
    assert pod.klock("run", "--here", "sh", "-c", "exit 7").returncode == 7
    for given, expected in (({"LANG": "C"}, ""), ({"LANG": "C", "LC_CTYPE": "C"}, "C")):
        shown = pod.klock("run", "--here", "sh", "-c", "echo $LC_CTYPE", env=given).stdout
        assert shown == f"{expected}\n"
    done = pod.klock("run", "--here", "nothing-here")
    assert (done.returncode, done.stderr) == (127, "klock: no such program: nothing-here\n")
    done = pod.klock("run", "--here", "/etc/passwd")
    assert (done.returncode, done.stderr) == (126, "klock: not an executable file: /etc/passwd\n")
    write(pod, '.set_env_vars({"APP": "a"})', ".run_bash('echo $$ > /tmp/service; exec sleep 1000 &')")
    assert pod.klock("run", "--here", "nothing-here").returncode == 127
    gone = "kill -0 $(cat /tmp/service) 2>/dev/null && echo alive || echo gone; rm /tmp/service"
    assert shell(pod, gone) == "gone\n"
    assert (
        succeeded(
            pod.klock("run", "--here", "sh", "-c", "until [ -s /tmp/service ]; do sleep 0.01; done; cat /tmp/service")
        )
        .stdout.strip()
        .isdigit()
    )
    assert shell(pod, "kill -0 $(cat /tmp/service) 2>/dev/null && echo alive || echo gone") == "gone\n"
    write(pod, '.run_bash(\'tr "\\\\0" " " < /proc/$$/cmdline > /tmp/seen; : $TOKEN; exec sleep 1000 &\')')
    succeeded(pod.klock("sync", "--here"))
    succeeded(pod.klock("run", "--here", "sh", "-c", "until [ -s /tmp/seen ]; do sleep 0.01; done"))
    assert "TOKEN" not in shell(pod, "cat /tmp/seen")


def test_force_is_for_a_running_container(host: ContainerHost, project: Path) -> None:
    (project / "kimage.py").write_text('import klock as kt\nimage = kt.Image().from_docker("debian:bookworm")\n')
    done = host.account.klock("sync", "--force", cwd=project)
    assert done.returncode == 2 and "--force needs --here" in done.stderr
    done = host.account.klock("sync", "--here", "--force", cwd=project)
    assert done.returncode == 2 and "there is no kimage.lock" in done.stderr
