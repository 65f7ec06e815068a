"""Exported Dockerfiles, built by the real builders: what they make is what klock makes of the same lockfile.

podman, docker's classic builder and BuildKit build the one form, `make test` what has all steps with BuildKit, and what
has credentials or changed packages with podman too; the other is for kubetorch, whose own code, as it runs
in pods, carries it out in a container.
"""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from tests.integration.container_engines import ContainerHost, docker_host, podman_host
from tests.integration.index_server import IndexServer, make_sdist, make_wheel
from tests.integration.kubetorch_packages import kubetorch_folder, run_with_kubetorch
from tests.integration.registry_server import Registry
from tests.integration.small_base import SMALL_BASE, Member, write_small_base
from tests.integration.test_packages import BACKEND, PYPROJECT
from tests.integration.unprivileged import Account

pytestmark = pytest.mark.integration

IMAGE = r"""
import klock as kt

image = (
    kt.Image()
    .from_docker("@HOST@/library/debian:bookworm")
    .rsync("./app", "/srv/app", contents=True)
    .rsync("./app/main.py", "/srv/one file.py")
    .apt_install(["jq"])
    .set_env_vars({"A": "x $HOME 'q' \"d\" \\ é #", "EMPTY": "", "LITERAL": "\\$UNDEFINED", "PATH": "/srv/bin:$PATH"})
    .pip_install(["greeting", "built"])
    .rsync("./project", "/project", contents=True)
    .pip_install(["-e /project"])
    .sync_package("./package")
    .run_bash("[[ -n $BASH_VERSION ]] && echo \"it's $A\" > /srv/bash && chmod 0600 /srv/bash")
    .run_bash("cat > /srv/many <<'EOF'\n  a 'b' $C \\\n\n# not a comment\nEOF\n[[ 1 ]]\n")
    .run_bash("head -c 8 /dev/urandom > /srv/kept; rm /etc/issue; rm -r /usr/share/doc/bash", keep_layer=True)
    .run_bash("sleep 1001 &")
    .cmd(["python3", "-c", "print(6 * 7)"])
)
"""

# What can be said of an environment from inside. Installers' own notes, and the scripts they write, are not the same.
LISTING = r"""
import hashlib, json, os, subprocess
def said(*command):
    return subprocess.run(command, capture_output=True, text=True).stdout
found = {name: os.environ.get(name) for name in ("A", "EMPTY", "LITERAL", "PATH", "HOME")}
for top in ("/srv", "/project", "/work", "/etc", "/usr/local/lib/python3.11", "/usr/share/doc"):
    for folder, folders, names in os.walk(top):
        folders[:] = [name for name in folders if name != "__pycache__"]
        for path in (os.path.join(folder, name) for name in names + folders):
            if path.rpartition("/")[2] in ("RECORD", "INSTALLER", "REQUESTED", "direct_url.json"):
                continue
            if path in ("/etc/hosts", "/etc/hostname", "/etc/resolv.conf", "/etc/mtab"):
                continue
            status = os.lstat(path)
            what = [oct(status.st_mode), status.st_uid, status.st_gid]
            if os.path.islink(path):
                what.append(os.readlink(path))
            elif os.path.isfile(path):
                what.append(hashlib.sha256(open(path, "rb").read()).hexdigest())
            found[path] = what
import built, greeting, local, package
found["modules"] = [built.__file__, greeting.__version__, local.__file__, package.__file__]
found["debs"] = [said("jq", "--version"), said("apt-mark", "showmanual"), said("dpkg-query", "-W")]
print(json.dumps(found))
"""
# The container's command may run before the service does.
FIND_SERVICE = """
for _ in $(seq 300); do
    cat /proc/[0-9]*/cmdline | tr '\\0' ' ' | grep -q 'sleep 100[1]' && echo there && exit
    sleep 0.1
done
"""


@dataclass(frozen=True, kw_only=True)
class Builder:
    """A container engine and one of its builders."""

    host: ContainerHost
    options: tuple[str, ...]

    def build(
        self, context: Path, tag: str, *options: str, network: str = "host", variables: dict[str, str] | None = None
    ) -> CompletedProcess[str]:
        # Newer clients find BuildKit only through a plugin of theirs; Debian's has it built in.
        program = f"/usr/bin/{self.host.engine}"
        words: list[str | Path] = [
            program,
            "build",
            *self.options,
            f"--network={network}",
            *options,
            "--tag",
            tag,
            context,
        ]
        env = self.host.variables | (variables or {})
        return self.host.account.run(words, cwd=context, env=env)

    def run(self, tag: str, *command: str, options: tuple[str, ...] = ()) -> str:
        return self.host.native("run", "--rm", "--network=none", *options, tag, *command)


BUILDERS = [
    *(pytest.param(name, marks=pytest.mark.soak) for name in ("podman", "docker, classic")),
    "docker, BuildKit",
]


@pytest.fixture(scope="module")
def hosts(root: Account) -> Iterator[dict[str, ContainerHost]]:
    with podman_host(root) as podman, docker_host(root) as docker:
        yield {"podman": podman, "docker": docker}


def make_builder(hosts: dict[str, ContainerHost], name: str) -> Builder:
    engine, _, kind = name.partition(", ")
    host = hosts[engine]
    if engine == "podman":
        # Without a history in the base, as images of mmdebstrap have none, podman cannot keep what steps make.
        return Builder(host=host, options=("--tls-verify=false", "--layers=false"))
    variables = {**host.variables, "DOCKER_BUILDKIT": str(int(kind == "BuildKit"))}
    options = ("--progress=plain",) if kind == "BuildKit" else ()
    return Builder(host=dataclasses.replace(host, variables=variables), options=options)


@pytest.fixture(params=BUILDERS)
def builder(request: pytest.FixtureRequest, hosts: dict[str, ContainerHost]) -> Builder:
    return make_builder(hosts, request.param)


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[IndexServer]:
    folder = tmp_path_factory.mktemp("index")
    make_wheel(folder, "greeting", "1.0", requires=["lib"])
    make_wheel(folder, "lib", "1.0")
    make_wheel(folder, "tool", "1.0")
    make_sdist(folder, "built", "1.0", files={"pyproject.toml": PYPROJECT, "backend.py": BACKEND})
    with IndexServer(folder) as server:
        yield server


@dataclass(frozen=True, kw_only=True)
class Project:
    account: Account
    folder: Path

    def klock(
        self, *arguments: str | Path, status: int = 0, env: Mapping[str, str] | None = None
    ) -> CompletedProcess[str]:
        done = self.account.klock(*arguments, cwd=self.folder, env=env)
        assert done.returncode == status, f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def export(self, name: str, *options: str, env: Mapping[str, str] | None = None) -> Path:
        """The folder that an export to docker or kubetorch makes."""
        folder = self.folder.parent / name
        self.klock("export", "dockerfile", *options, "--output", folder, env=env)
        return folder


def make_project(root: Account, image: str, registry: Registry, index: IndexServer) -> Project:
    folder = root.make_folder("export") / "project"
    (folder / "app/a b").mkdir(parents=True)
    (folder / "app/main.py").write_text("print('hello')\n")
    (folder / "app/main.py").chmod(0o755)
    (folder / "app/a b/é '\".txt").write_text("x\n")
    (folder / "app/link").symlink_to("main.py")
    (folder / "package").mkdir()
    (folder / "package/__init__.py").touch()
    (folder / "project").mkdir()
    backend = BACKEND.replace("built", "local")
    (folder / "project/backend.py").write_text(backend)
    (folder / "project/local.py").write_text("X = 1\n")
    (folder / "project/pyproject.toml").write_text(PYPROJECT + '[project]\nname = "local"\nversion = "1.0"\n')
    (folder / "kimage.py").write_text(image.replace("@HOST@", registry.host))
    (folder / "pyproject.toml").write_text(f'[tool.klock]\nindex-url = "{index.url}"\n')
    return Project(account=root, folder=folder)


@pytest.fixture(scope="module")
def project(root: Account, debian_registry: Registry, index: IndexServer) -> Project:
    made = make_project(root, IMAGE, debian_registry, index)
    made.klock("lock")
    return made


@pytest.fixture(scope="module")
def listed(project: Project) -> dict[str, object]:
    """What is in klock's own environment."""
    project.klock("sync")
    found: dict[str, object] = json.loads(project.klock("run", "--", "python3", "-c", LISTING).stdout)
    return found


@pytest.fixture(scope="module")
def context(project: Project) -> Path:
    return project.export("context")


def test_what_is_built_is_what_is_locked(
    builder: Builder, project: Project, context: Path, listed: dict[str, object]
) -> None:
    done = builder.build(context, "exported")
    assert done.returncode == 0, done.stdout + done.stderr

    assert json.loads(builder.run("exported", "python3", "-c", LISTING)) == listed
    assert builder.run("exported") == "42\n"
    assert builder.run("exported", "sh", "-c", FIND_SERVICE) == "there\n"
    assert builder.run("exported", "sh", "-c", "ls -d /.klock /tmp/klock* 2>/dev/null || true") == ""
    labels = json.loads(builder.host.native("inspect", "--format", "{{json .Config.Labels}}", "exported"))
    fingerprint = project.klock("sync").stderr.split()[-1]
    assert labels["org.klock.locked.fingerprint"] == fingerprint
    assert labels["org.klock.locked.target"].startswith("linux/")
    assert labels["org.klock.locked.lockfile"].startswith("sha256:")


def test_the_context_is_the_same_each_time(project: Project, context: Path) -> None:
    again = project.export("again")
    assert files_of(again) == files_of(context)


def files_of(folder: Path) -> dict[str, object]:
    return {
        str(path.relative_to(folder)): (path.lstat().st_mode, path.read_bytes() if path.is_file() else b"")
        for path in folder.rglob("*")
    }


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("step-01/files/main.py", "./main.py: FAILED"),
        ("step-01/check.sh", "/.klock/step-01/check.sh"),
    ],
)
def test_a_file_that_was_changed_is_not_built(
    hosts: dict[str, ContainerHost], context: Path, tmp_path: Path, file: str, message: str
) -> None:
    tampered = tmp_path / "context"
    shutil.copytree(context, tampered, symlinks=True)
    with (tampered / file).open("a") as opened:
        opened.write("# changed\n")
    done = make_builder(hosts, "docker, BuildKit").build(tampered, "tampered")
    assert done.returncode != 0
    assert message in done.stdout + done.stderr


def test_a_package_that_was_changed_is_not_installed(
    hosts: dict[str, ContainerHost], project: Project, tmp_path: Path
) -> None:
    bundle = project.export("bundle", "--bundle")
    wheels = sorted(path.name for path in bundle.glob("step-*/wheels/*.whl"))
    assert [name.partition("-")[0] for name in wheels] == ["built", "greeting", "lib", "tool"]
    make_wheel(bundle / "step-05/wheels", "greeting", "1.0", files={"greeting/evil.py": ""})
    done = make_builder(hosts, "podman").build(bundle, "tampered", network="none")
    assert done.returncode != 0
    assert "THESE PACKAGES DO NOT MATCH THE HASHES" in done.stdout + done.stderr


OTHER = r"""
import os

import klock as kt

image = (
    kt.Image(python_path="/opt/venv/bin/python")
    .from_docker("@HOST@/library/debian:bookworm")
    .set_env_vars({"URL": f"https://u:{os.environ['INDEX_PASS']}@example.com/simple", "PLAIN": "1"})
    .run_bash("python3 -m venv --without-pip /opt/venv")
    .pip_install(["greeting"])
    .run_bash("printf %s $URL | sha256sum > /srv/url")
    .run_bash(f"echo 'in single quotes: {os.environ['API_TOKEN']}' | sha256sum > /srv/token; echo $PLAIN >> /srv/token")
)
"""
SECRETS = {"INDEX_PASS": "p@ss/w0rd:%[x]", "API_TOKEN": 'tok3n"$HOME-and-more'}


@pytest.fixture(scope="module")
def private(root: Account, debian_registry: Registry, index: IndexServer) -> Project:
    """A project with credentials, and with an interpreter that has no pip."""
    made = make_project(root, OTHER, debian_registry, index)
    made.klock("lock", env=SECRETS)
    made.export("context", "--bundle", env=SECRETS)
    return made


def test_credentials_are_in_no_exported_file(private: Project) -> None:
    context = private.folder.parent / "context"
    dockerfile = (context / "Dockerfile").read_text()
    assert "--mount=type=secret,id=INDEX_PASS,required=true" in dockerfile
    assert sorted(path.name for path in context.rglob("*.whl")) == [
        "greeting-1.0-py3-none-any.whl",
        "lib-1.0-py3-none-any.whl",
        "pip-25.3-py3-none-any.whl",
    ]
    for path in context.rglob("*"):
        content = path.read_bytes() if path.is_file() else b""
        assert not [name for name, secret in SECRETS.items() if secret.encode() in content]


@pytest.mark.parametrize("builder", ["podman", "docker, BuildKit"], indirect=True)
def test_credentials_come_from_build_secrets_and_stay_nowhere(builder: Builder, private: Project) -> None:
    project, context = private, private.folder.parent / "context"
    secrets = [word for name in SECRETS for word in ("--secret", f"id={name},env={name}")]
    done = builder.build(context, "private", *secrets, network="none", variables=SECRETS)
    assert done.returncode == 0, done.stdout + done.stderr

    script = "cat /srv/url /srv/token; /opt/venv/bin/python -c 'import greeting; print(greeting.__version__)'; env"
    found = builder.run("private", "sh", "-c", script)
    expected = project.klock("run", "--", "sh", "-c", script.removesuffix("; env"), env=SECRETS).stdout
    assert found.startswith(expected)
    assert "URL=" not in found
    assert builder.host.native("run", "--rm", "private", "ls", "-A", "/dev/shm") == ""
    history = builder.host.native("history", "--no-trunc", "private")
    assert all(secret not in found + history + done.stdout for secret in SECRETS.values())


def test_a_base_that_no_registry_has(
    hosts: dict[str, ContainerHost], root: Account, debian_registry: Registry, index: IndexServer
) -> None:
    image = f'import klock as kt\nimage = kt.Image().from_docker("{SMALL_BASE}").run_bash("pwd > /place")\n'
    project = make_project(root, image, debian_registry, index)
    files: list[Member] = [("1777:0:tmp/", None), ("4755:0:usr/bin/tool", "tool"), ("0600:1000:home/own", "own")]
    write_small_base(project.folder / "layout", files, WorkingDir="/work")
    project.klock("lock")
    refused = project.klock("export", "dockerfile", "--for", "kubetorch", status=2)
    assert "kubetorch's pods need an image to start from" in refused.stderr

    builder, context = make_builder(hosts, "docker, BuildKit"), project.export("context")
    assert "FROM scratch\nADD base.tar /\n" in (context / "Dockerfile").read_text()
    done = builder.build(context, "from-scratch", network="none")
    assert done.returncode == 0, done.stderr
    script = "cat /place; pwd; echo $PATH; stat -c '%a %u %n' /tmp /usr/bin/tool /home/own /bin/busybox"
    shown = "/work\n/work\n/bin\n1777 0 /tmp\n4755 0 /usr/bin/tool\n600 1000 /home/own\n755 0 /bin/busybox\n"
    assert project.klock("run", "--", "sh", "-c", script).stdout == shown
    assert builder.run("from-scratch", "sh", "-c", script) == shown


def test_without_the_secret_nothing_is_built(
    hosts: dict[str, ContainerHost], root: Account, debian_registry: Registry, index: IndexServer
) -> None:
    image = IMAGE[: IMAGE.index("    .rsync")] + "    .run_bash(f\"echo {os.environ['API_TOKEN']} | wc -c > /n\")\n)\n"
    project = make_project(root, f"import os\n{image}", debian_registry, index)
    project.klock("lock", env={"API_TOKEN": "tok3n-and-more"})
    text = project.klock("export", "dockerfile", env={"API_TOKEN": "tok3n-and-more"}).stdout
    assert "--mount=type=secret,id=API_TOKEN,required=true" in text
    context = project.folder.parent / "context"
    context.mkdir()
    (context / "Dockerfile").write_text(text)
    done = make_builder(hosts, "docker, BuildKit").build(context, "none")
    assert done.returncode != 0
    assert "API_TOKEN" in done.stderr


# -- kubetorch

POD = """
import json, os, shutil, sys
sys.path.append("/kubetorch")
for operation in json.load(open("/context/operations.json")):
    os.makedirs(os.path.dirname(operation["dest"]), exist_ok=True)
    shutil.copy("/context/" + operation["source"], operation["dest"])
import kubetorch.serving.http_server as server
server._DOCKERFILE_CONTENTS = open("/context/contents").read()
server.cached_image_setup()
os.execvp(sys.argv[1], sys.argv[1:])
"""
READ = """
import json, kubetorch, klock
image = kubetorch.Image.from_dockerfile("Dockerfile")
open("contents", "w").write(image.contents)
json.dump(image.copy_operations, open("operations.json", "w"))
again = klock.Image.from_kubetorch(image)
print(json.dumps([image.image_id, image.dockerfile_command, len(again.steps)]))
"""


def in_a_pod(podman: ContainerHost, context: Path, *command: str) -> CompletedProcess[str]:
    """Carries an exported image out as kubetorch does in a pod: its files are there already, its lines are run."""
    (context / "pod.py").write_text(POD)
    image, _, _ = json.loads(run_with_kubetorch("0.5.1", READ, cwd=context))
    mounts = [f"--volume={context}:/context:ro", f"--volume={kubetorch_folder('0.5.1', python='3.11')}:/kubetorch:ro"]
    words = [
        "podman",
        "run",
        "--rm",
        "--network=none",
        "--tls-verify=false",
        *mounts,
        image,
        "python3",
        "/context/pod.py",
    ]
    return podman.account.run([*words, *command], cwd=context, env=podman.variables)


def test_kubetorch_makes_the_same_of_it(
    hosts: dict[str, ContainerHost], project: Project, listed: dict[str, object]
) -> None:
    context = project.export("kubetorch", "--for", "kubetorch", "--bundle")
    instructions = {line.split()[0] for line in joined((context / "Dockerfile").read_text())}
    assert instructions == {"FROM", "COPY", "RUN", "ENV", "CMD"}
    done = in_a_pod(hosts["podman"], context, "python3", "-c", LISTING)
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == listed


def test_kubetorch_fails_where_a_check_fails(hosts: dict[str, ContainerHost], project: Project) -> None:
    context = project.export("kubetorch-changed", "--for", "kubetorch", "--bundle")
    with (context / "step-01.tar").open("ab") as opened:
        opened.write(b"changed")
    done = in_a_pod(hosts["podman"], context, "echo", "the pod is up")
    assert done.returncode != 0
    assert "COPY verified /.klock/verified failed" in done.stderr
    assert "the pod is up" not in done.stdout


def joined(dockerfile: str) -> list[str]:
    lines = re.sub(r"\\\n", "", dockerfile).splitlines()
    return [line for line in lines if line and not line.startswith("#")]


# -- the command


def test_a_dockerfile_that_needs_no_files_goes_to_stdout(
    hosts: dict[str, ContainerHost], root: Account, debian_registry: Registry, index: IndexServer
) -> None:
    image = IMAGE[: IMAGE.index("    .rsync")] + '    .pip_install(["greeting"])\n)\n'
    project = make_project(root, image, debian_registry, index)
    project.klock("lock")
    text = project.klock("export", "dockerfile").stdout
    context = project.folder.parent / "context"
    context.mkdir()
    (context / "Dockerfile").write_text(text)
    done = make_builder(hosts, "docker, BuildKit").build(context, "small")
    assert done.returncode == 0, done.stderr
    builder = make_builder(hosts, "docker, BuildKit")
    assert builder.run("small", "python3", "-c", "import greeting; print(greeting.__version__)") == "1.0\n"


def test_one_that_needs_files_asks_for_a_folder(project: Project) -> None:
    done = project.klock("export", "dockerfile", status=2)
    assert "error: the Dockerfile copies files, such as step-01/files/" in done.stderr
    assert "klock export dockerfile -o DIR" in done.stderr


def test_a_stale_lockfile_is_refused(project: Project, tmp_path: Path) -> None:
    copy = dataclasses.replace(project, folder=tmp_path / "copy")
    shutil.copytree(project.folder, copy.folder, symlinks=True)
    (copy.folder / "app/main.py").write_text("print('changed')\n")
    assert "kimage.lock is stale" in copy.klock("export", "dockerfile", "-o", tmp_path / "out", status=2).stderr
    frozen = copy.klock("export", "dockerfile", "--frozen", "-o", tmp_path / "out", status=2)
    assert "app/main.py is not what was locked" in frozen.stderr
    assert not (tmp_path / "out").exists()


def test_a_folder_of_somebody_else_is_left_alone(project: Project, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM scratch\n")
    done = project.klock("export", "dockerfile", "-o", tmp_path, status=2)
    assert "has files that klock did not export" in done.stderr
    assert (tmp_path / "Dockerfile").read_text() == "FROM scratch\n"
