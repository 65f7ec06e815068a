"""The reference's seven complete examples, verbatim: locked as root, then replayed by an account without privileges
that has nothing but the project and its lockfile. `make test` makes four of them, one with docker too; `make soak` all
seven on all engines.

What is not to be had here, or large, the base images, numpy, torch and a compiler, comes from servers of this machine,
named by configuration alone: registry mirrors, an index URL, a certificate, a line in /etc/hosts
(`example_servers.py`).
"""

from __future__ import annotations

import base64
import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import uv

from klock.oci.reference import Reference
from tests.integration.container_engines import ContainerHost, docker_host, podman_host, some_of
from tests.integration.example_servers import ARCHIVE, PASSWORD, USER, VENDOR_TORCH, ExampleServers, example_servers
from tests.integration.pods import running_pod
from tests.integration.unprivileged import Account

pytestmark = pytest.mark.integration

EXAMPLES = Path(__file__).parents[2] / "fixtures" / "examples"


@dataclass(frozen=True, kw_only=True)
class Example:
    """`program` runs in the environment and must print `prints`. With `company_index` pip steps use that one instead of
    PyPI. `packages` are some of those in the lockfile, by name and version; None is for any version."""

    base: str
    program: str
    prints: str
    company_index: bool = False
    packages: Mapping[str, str | None]


CASES = {
    "basic": Example(
        base="python:3.12-slim",
        program="""
import matplotlib, numpy, pandas, scipy, sklearn
print(matplotlib.__version__, numpy.__version__, pandas.__version__, scipy.__version__, sklearn.__name__)
""",
        prints="3.9.2 2.1.1 2.2.3 1.14.1 sklearn\n",
        company_index=True,
        packages={"numpy": None, "pandas": None, "scikit-learn": None, "matplotlib": None, "scipy": None},
    ),
    "pytorch-training": Example(
        base="nvcr.io/nvidia/pytorch:24.08-py3",
        program="""
import os, accelerate, datasets, torch, tqdm, transformers, wandb
print(torch.__version__, tqdm.__version__, os.environ["CUDA_VISIBLE_DEVICES"], os.environ["NCCL_DEBUG"], os.getcwd())
exec(open("/workspace/scripts/train.py").read())
""",
        # The vendor's torch and its constraints hold.
        prints=f"{VENDOR_TORCH} 4.66.5 0,1,2,3 INFO /workspace\ntraining\n",
        company_index=True,
        packages={"transformers": "4.46.0", "datasets": "3.1.0", "accelerate": "1.1.0", "tqdm": "4.66.5"},
    ),
    "private-registry": Example(
        base="ghcr.io/run-house/server:v3",
        program="""
import os, my_private_package, iniconfig
print(my_private_package.__version__, os.environ["UV_EXTRA_INDEX_URL"], os.environ["UV_PRERELEASE"])
""",
        # Inside, the variable is whole; in the lockfile the password is a reference.
        prints=f"1.2.3 https://{USER}:{PASSWORD}@my-registry.com/simple allow\n",
        packages={},
    ),
    "local-code": Example(
        base="ghcr.io/run-house/server:v3",
        program="""
import numpy, torch, my_project
exec(open("/app/my_project/main.py").read())
print(torch.__version__, numpy.__version__, my_project.__file__)
""",
        prints="hello\n2.4.1 2.1.1 /app/my_project/__init__.py\n",
        company_index=True,
        packages={"torch": "2.4.1", "numpy": None},
    ),
    "editable-install": Example(
        base="ghcr.io/run-house/server:v3",
        program="""
import iniconfig, importlib.metadata, my_lib, os
print(my_lib.ANSWER, my_lib.__file__, importlib.metadata.version("my_lib"), os.environ["UV_EXTRA_INDEX_URL"])
""",
        prints="42 /my_lib/my_lib/__init__.py 0.1.0 https://my-pypi.com/simple\n",
        packages={},
    ),
    "multi-stage": Example(
        base="ghcr.io/run-house/ubuntu:v1",
        program="""
import fastapi, os, pydantic, shutil, torch, torchaudio, torchvision, uvicorn
print(torch.__version__, pydantic.VERSION.split(".")[0], open("/models/models/weights.txt").read().strip())
print(*(shutil.which(tool) for tool in ("cc", "make", "cmake", "uv")), os.environ["PYTHONPATH"])
exec(open("/app/main.py").read())
""",
        prints="2.4.1 2 0.25 0.5\n/usr/bin/cc /usr/bin/make /usr/bin/cmake /usr/local/bin/uv /app\n/models\n",
        company_index=True,
        packages={"torch": "2.4.1", "torchvision": "0.19.1", "torchaudio": "2.4.1", "fastapi": None, "pydantic": None},
    ),
    "chaining": Example(
        base="ghcr.io/run-house/server:v3",
        program="""
import numpy, pandas, sklearn, torch
exec(open("/app/src/main.py").read())
print(torch.__version__, pandas.__version__, open("/app/config/config/settings.toml").read().strip())
""",
        prints='my_local_lib\n2.4.1 2.2.3 level = "info"\n',
        company_index=True,
        packages={"pandas": None, "scikit-learn": None},
    ),
}


IN_SHORT = ("basic", "private-registry", "local-code", "multi-stage")
"""What the other three are made of is in one of these, and in `test_kubetorch`; `make soak` makes all seven."""


@dataclass(frozen=True, kw_only=True)
class Project:
    """A project folder with an example in it, and everything klock said when it worked there."""

    name: str
    folder: Path
    servers: ExampleServers
    home: Path
    said: list[str]

    @property
    def example(self) -> Example:
        return CASES[self.name]

    @property
    def lockfile(self) -> Path:
        return self.folder / "kimage.lock"

    def klock(
        self,
        account: Account,
        *arguments: str,
        store: Path,
        password: str = PASSWORD,
        status: int = 0,
        variables: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        env = {
            **(variables or {}),
            "HOME": str(self.home),
            "KLOCK_CACHE_DIR": str(store),
            "REGISTRY_USER": USER,
            "REGISTRY_PASS": password,
        }
        done = account.klock(*arguments, cwd=self.folder, env=env, enter=self.servers.names.enter)
        said = f"{done.args}: exit status {done.returncode}\n{done.stdout}\n{done.stderr}"
        assert done.returncode == status, said
        self.said.append(said if arguments[0] != "run" else done.stderr)
        return done


@pytest.fixture(scope="module")
def servers(
    root: Account, debian_oci_layout: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ExampleServers]:
    assert root.uid == 0
    with example_servers(tmp_path_factory.mktemp("servers"), debian_oci_layout) as running:
        yield running


def make_project(name: str, folder: Path, servers: ExampleServers) -> Project:
    """The example's folder, with configuration beside `kimage.py` and what it expects around it: a home with a
    repository, and a package that is installed editably in the project's virtual environment."""
    project = folder / name
    shutil.copytree(EXAMPLES / name, project, ignore=shutil.ignore_patterns("home", "my_local_lib", "__pycache__"))
    home = folder / f"{name}-home"
    home.mkdir()
    if (EXAMPLES / name / "home").is_dir():
        shutil.copytree(EXAMPLES / name / "home", home, dirs_exist_ok=True)
    home.chmod(0o777)  # podman keeps files of its own there
    index = f'index-url = "{servers.company.url}"\n' if CASES[name].company_index else ""
    mirrors = "".join(f'"{host}" = "{url}"\n' for host, url in servers.mirrors.items())
    shutil.copy(servers.names.ca_certificate, project / "company.pem")
    hosts = f'["my-pypi.com", "my-registry.com", "{ARCHIVE}"]'
    settings = f'[tool.klock]\n{index}ca-bundle = "company.pem"\nlocal-hosts = {hosts}\n'
    (project / "pyproject.toml").write_text(f"{settings}\n[tool.klock.registry-mirrors]\n{mirrors}")
    return Project(name=name, folder=project, servers=servers, home=home, said=[])


def install_editably(source: Path, project: Path) -> None:
    for command in (["venv", "--quiet", ".venv"], ["pip", "install", "--quiet", "--editable", str(source)]):
        done = subprocess.run([uv.find_uv_bin(), *command], cwd=project, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def workplace(root: Account) -> Path:
    """A folder everybody can read, with root's store."""
    folder = root.make_folder("examples")
    folder.chmod(0o755)
    root.store.rename(folder / "store")
    return folder


@pytest.fixture(scope="module")
def projects() -> dict[str, Project]:
    """The examples that are locked already, by name: tests ask for them in turns."""
    return {}


@pytest.fixture(scope="module", params=some_of(CASES, *IN_SHORT))
def project(
    request: pytest.FixtureRequest,
    root: Account,
    workplace: Path,
    servers: ExampleServers,
    projects: dict[str, Project],
) -> Project:
    """An example, locked as root. The store is shared: what one example made the next one may take from it."""
    name = str(request.param)
    if name in projects:
        return projects[name]
    project = projects[name] = make_project(name, workplace, servers)
    if name == "chaining":
        shutil.copytree(EXAMPLES / name / "my_local_lib", workplace / "my_local_lib")
        install_editably(workplace / "my_local_lib", project.folder)
    project.klock(root, "lock", "--verbose", store=workplace / "store")
    return project


@pytest.fixture(scope="module")
def other_store(unprivileged: Account) -> Path:
    """Somebody else's, empty at first."""
    return unprivileged.make_folder("store")


@pytest.fixture(scope="module")
def replayed(project: Project, unprivileged: Account, other_store: Path) -> Path:
    """That store, after `klock sync` of the example."""
    project.klock(unprivileged, "sync", "--verbose", store=other_store)
    return other_store


def test_all_seven_are_here() -> None:
    assert sorted(CASES) == sorted(path.name for path in EXAMPLES.iterdir())


def test_it_is_locked_to_digests(project: Project) -> None:
    assert (project.folder / "kimage.py").read_bytes() == (EXAMPLES / project.name / "kimage.py").read_bytes()
    document = tomllib.loads(project.lockfile.read_text())
    (base,) = document["base"]
    assert base["reference"] == project.example.base
    assert base["manifest"]["digest"].startswith("sha256:")
    found = {package["name"]: package["version"] for package in document.get("packages", [])}
    assert {
        name: version and found[name] for name, version in project.example.packages.items()
    } == project.example.packages


def test_it_is_replayed_to_the_same_fingerprint(project: Project, replayed: Path) -> None:
    locked, synced = (re.findall("sha256:[0-9a-f]{64}$", said, re.MULTILINE) for said in project.said[:2])
    assert replayed.exists()
    assert locked[-1] == synced[-1]
    ((ran, steps),) = re.findall("([0-9]+) of ([0-9]+) steps? ran", project.said[1])
    assert f"{steps} layer" in project.said[0]
    # `pip install uv` is the first step of several examples on one base: one layer, made once.
    assert int(ran) >= int(steps) - 1


def test_check_finds_nothing(project: Project, replayed: Path, unprivileged: Account) -> None:
    project.klock(unprivileged, "check", store=replayed)
    project.klock(unprivileged, "check", "--env", store=replayed)


def test_its_program_runs(project: Project, replayed: Path, unprivileged: Account) -> None:
    run = project.klock(unprivileged, "run", "--", "python3", "-c", project.example.program, store=replayed)
    assert run.stdout == project.example.prints


@pytest.fixture(scope="module")
def hosts(root: Account, unprivileged: Account) -> Iterator[Mapping[str, ContainerHost]]:
    with podman_host(root) as podman, podman_host(unprivileged) as rootless, docker_host(root) as docker:
        yield {"podman": podman, "podman, unprivileged": rootless, "docker": docker}


ENGINES = {
    "podman": (),
    "podman, unprivileged": (),
    "docker": ("local-code",),
}
"""The examples that `make test` makes on an engine."""


def on_some(*names: str) -> pytest.MarkDecorator:
    """For a test that `make test` runs on these examples."""
    examples = [pytest.param(name, marks=[] if name in names else [pytest.mark.soak]) for name in CASES]
    return pytest.mark.parametrize("project", examples, indirect=True)


@pytest.mark.parametrize(
    ("project", "engine"),
    [
        pytest.param(name, engine, marks=[] if name in names else [pytest.mark.soak])
        for engine, names in ENGINES.items()
        for name in CASES
    ],
    indirect=["project"],
)
def test_another_engine_holds_the_same(
    engine: str, project: Project, replayed: Path, workplace: Path, hosts: Mapping[str, ContainerHost]
) -> None:
    """Every file of the container is compared with the lockfile; a difference would be listed by path."""
    host = hosts[engine]
    store = replayed if host.account.name != "root" else workplace / "store"

    def klock(verb: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        words = (verb, "--engine", host.engine, *arguments)
        return project.klock(host.account, *words, store=store, variables=host.variables)

    klock("sync")
    (fingerprint,) = re.findall(r"sha256:[0-9a-f]{64}$", project.said[-1], re.MULTILINE)
    assert fingerprint in project.said[0]
    klock("check", "--env")
    assert klock("run", "--", "python3", "-c", project.example.program).stdout == project.example.prints


@on_some("private-registry")
def test_a_running_container_becomes_the_same(
    project: Project, replayed: Path, workplace: Path, hosts: Mapping[str, ContainerHost], servers: ExampleServers
) -> None:
    """It was started from the base image alone; klock runs inside."""
    host = hosts["podman"]
    (base,) = tomllib.loads(project.lockfile.read_text())["base"]
    reference = Reference.parse(project.example.base)
    registry = servers.mirrors[reference.registry].removeprefix("http://")
    source = f"{registry}/{reference.repository}@{base['manifest']['digest']}"
    image = host.native("pull", "--quiet", "--tls-verify=false", source).strip()
    variables = {"HOME": str(project.home), "REGISTRY_USER": USER, "REGISTRY_PASS": PASSWORD}
    mounts = {workplace: str(workplace)}
    store = workplace / "store"
    with running_pod(host, image, project=project.folder, mounts=mounts, store=store, is_open=True) as pod:

        def klock(*arguments: str) -> subprocess.CompletedProcess[str]:
            done = pod.klock(*arguments, env=variables)
            assert done.returncode == 0, f"{done.args}: exit status {done.returncode}\n{done.stdout}\n{done.stderr}"
            return done

        synced = klock("sync", "--here").stderr
        (fingerprint,) = re.findall(r"sha256:[0-9a-f]{64}$", synced, re.MULTILINE)
        assert fingerprint in project.said[0]
        klock("check", "--here", "--env")
        run = klock("run", "--here", "--", "python3", "-c", project.example.program)
        assert run.stdout == project.example.prints


@on_some()
def test_the_exported_dockerfile_builds_one_like_it(
    project: Project, replayed: Path, hosts: Mapping[str, ContainerHost], servers: ExampleServers
) -> None:
    """Without privileges. Packages come from the bundle. Shell steps fetch what they fetch, as in any Dockerfile."""
    host = hosts["podman, unprivileged"]
    folder = host.account.make_folder("export")
    context = folder / "context"
    project.klock(host.account, "export", "dockerfile", "--bundle", "--output", str(context), store=replayed)
    # Where podman finds the base image, and shell steps the certificates of this machine and of the test's servers.
    registries = folder / "registries.conf"
    registries.write_text(
        "".join(
            f'[[registry]]\nprefix = "{name}"\nlocation = "{url.removeprefix("http://")}"\ninsecure = true\n'
            for name, url in servers.mirrors.items()
        )
    )
    system = Path(host.account.environment.get("SSL_CERT_FILE", "/etc/ssl/certs/ca-certificates.crt"))
    certificates = folder / "certificates.pem"
    certificates.write_bytes(system.read_bytes() + servers.names.ca_certificate.read_bytes())
    dockerfile = context / "Dockerfile"
    first, start, rest = dockerfile.read_text().partition("\nARG SOURCE_DATE_EPOCH")
    trust = "\nENV SSL_CERT_FILE=/certificates.pem PIP_CERT=/certificates.pem"
    dockerfile.write_text(first + trust + start + rest)
    names = sorted(set(re.findall("type=secret,id=([A-Z_]+)", rest)))
    secrets = {"REGISTRY_USER": USER, "REGISTRY_PASS": PASSWORD}
    tag = f"exported-{project.name}"
    options = ["--layers=false", "--network=host", f"--volume={certificates}:/certificates.pem:ro"]
    options += [f"--secret=id={name},env={name}" for name in names]
    built = host.account.run(
        ["podman", "build", *options, "--tag", tag, context],
        cwd=folder,
        env={**host.variables, **secrets, "CONTAINERS_REGISTRIES_CONF": str(registries)},
        enter=servers.names.enter,
    )
    assert built.returncode == 0, built.stdout + built.stderr

    # Variables with credentials are in no image: who starts a container gives them.
    given = [f"--env=UV_EXTRA_INDEX_URL=https://{USER}:{PASSWORD}@my-registry.com/simple"] if names else []
    program = ["python3", "-c", project.example.program]
    assert host.native("run", "--rm", "--network=none", *given, tag, *program) == project.example.prints
    host.native("rmi", "--force", tag)


def test_locking_again_changes_no_byte(project: Project, root: Account, workplace: Path) -> None:
    locked = project.lockfile.read_bytes()
    project.klock(root, "lock", store=workplace / "store")
    assert project.lockfile.read_bytes() == locked


@pytest.mark.parametrize("project", ["private-registry"], indirect=True)
def test_the_password_of_the_private_registry_is_neither_kept_nor_shown(
    project: Project, replayed: Path, workplace: Path, root: Account, unprivileged: Account
) -> None:
    wrong = "Wr0ng-" + PASSWORD
    other = make_project(project.name, root.make_folder("wrong"), project.servers)
    # Another version: the store has the layer with this one, and would ask nobody.
    image = other.folder / "kimage.py"
    image.write_text(image.read_text().replace("1.2.3", "1.3.0"))
    refused = other.klock(root, "lock", "--verbose", store=workplace / "store", password=wrong, status=2)
    assert "step 3 (kimage.py:16) failed" in refused.stderr
    assert "my-private-package" in refused.stderr
    assert not other.lockfile.exists()

    assert "https://${REGISTRY_USER}:${REGISTRY_PASS}@my-registry.com/simple" in project.lockfile.read_text()
    project.klock(unprivileged, "check", "--env", store=replayed)
    project.klock(unprivileged, "run", "--", "python3", "-c", "import my_private_package", store=replayed)

    everything = "\n".join([*project.said, *other.said]) + project.lockfile.read_text()
    for secret in (PASSWORD, base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()):
        assert secret not in everything
        command = ["grep", "-rlF", "-e", secret, str(replayed), str(workplace / "store")]
        found = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (found.returncode, found.stdout, found.stderr) == (1, "", "")


def test_the_chaining_pattern_needs_its_package(root: Account, servers: ExampleServers) -> None:
    folder = root.make_folder("without")
    project = make_project("chaining", folder, servers)
    done = project.klock(root, "lock", store=folder / "store", status=2)
    assert "Could not locate local package my_local_lib" in done.stderr
    assert "kimage.py:14" in done.stderr
    assert not project.lockfile.exists()
