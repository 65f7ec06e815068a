"""The real `kubetorch.Image`, as PyPI has it, taken over: what it says is what the same code says to klock.

Each case is run with `kt` being kubetorch, taken over, and with `kt` being klock.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

import klock
from klock.errors import ImageError
from tests.integration.container_engines import some_of
from tests.integration.index_server import IndexServer, make_wheel
from tests.integration.kubetorch_packages import KUBETORCHES, kubetorch_folder, run_with_kubetorch
from tests.integration.registry_server import Registry
from tests.integration.small_base import SMALL_BASE, write_small_base
from tests.integration.unprivileged import Account

pytestmark = pytest.mark.integration

EXAMPLES = Path(__file__).parents[2] / "fixtures" / "examples"

CASES = {
    "nothing": "kt.Image()",
    "a name": 'kt.Image("a/b")',
    "all that the constructor takes": 'kt.Image("n", "python:3.12-slim", "/v/bin/python", "uv pip install --pre")',
    "a factory": 'kt.images.pytorch("24.08-py3")',
    "every factory": "[getattr(kt.images, name)() for name in "
    "('Debian', 'Ubuntu', 'Python310', 'Python311', 'Python312', 'Ray', 'Pytorch2312')][-1]",
    "from_docker": 'kt.Image().from_docker("x.io/y@sha256:' + "0" * 64 + '")',
    "one requirement": 'kt.images.Debian().pip_install(["numpy"])',
    "requirements": 'kt.images.Debian().pip_install(["numpy>=1.20", "torch>=2.0,<3.0", "ray[data]==2.50.1"])',
    "quoted requirements": """kt.images.Debian().pip_install(["'torch>=2.2.0'", "'numpy > 2.0.0'"])""",
    "requirements with options": 'kt.images.Debian().pip_install(["--pre torch==2.0.0rc1", "--index-url http://i x"])',
    "no requirement": "kt.images.Debian().pip_install([])",
    "forced requirements, then others": 'kt.images.Debian().pip_install(["a"], force=True).pip_install(["b"])',
    "an installer of one's own": 'kt.Image(install_cmd="python -m pip install").pip_install(["a>=1", "-e /my_lib[x]"])',
    "variables": 'kt.images.Debian().set_env_vars({"A": 1, "B": "$A/b:${C}", "D": None, "E": "", "F": " x  y "})',
    "quotes in variables": r"""kt.images.Debian().set_env_vars({"A": '"q v"', "B": "\\$LITERAL", "C": "a # force"})""",
    "line breaks in variables": r'kt.images.Debian().set_env_vars({"A": "1\n2\n", "B": "# x"})',
    "a variable set twice": 'kt.images.Debian().set_env_vars({"A": "1"}).set_env_vars({"A": "$A:2"})',
    "a command": 'kt.images.Debian().run_bash("apt-get update && apt-get install -y vim; true")',
    "a forced command": 'kt.images.Debian().run_bash("date > /d", force=True)',
    "a command of many lines": r'kt.images.Debian().run_bash("cat > /x <<EOF\n  # a\n\nEOF\necho \\\n  done")',
    "commands that look like JSON": """kt.images.Debian().run_bash("[ -e /x ] || touch /x")""",
    "a service": 'kt.images.Debian().run_bash("jupyter notebook --no-browser --port=8888 &")',
    "installing in the shell": 'kt.Image(install_cmd="pip install").run_bash("pip install uv && uv --version")',
    "a file": 'kt.images.Debian().rsync("./config.yaml", "/app/config.yaml")',
    "a folder": 'kt.images.Debian().rsync("./src", "/app")',
    "its contents": 'kt.images.Debian().rsync("./src", "/app", contents=True, force=True)',
    "filters": """kt.images.Debian().rsync("./src", "app", filter_options="--include='a.log' --exclude='*.log'")""",
    "no destination": 'kt.images.Debian().rsync("./src").rsync("./config.yaml")',
    "a destination in the home": 'kt.images.Debian().rsync("./src", "~/configs")',
    "from the home": 'kt.images.Debian().rsync("~/model.pt")',
    "a path with spaces": 'kt.images.Debian().rsync("./a b/c d.txt", "/e f/")',
    "a package by its path": 'kt.images.Debian().sync_package("./libs/my_package")',
    "a package by its path, forced": 'kt.images.Debian().sync_package("./libs/my_project", force=True)',
    "a plain folder under its own name": 'kt.images.Debian().rsync("./src", "src")',
    "a package under another name": 'kt.images.Debian().rsync("./libs/my_package", "other")',
    "one after the other": 'kt.images.Debian().set_env_vars({"A": "1"}).run_bash("a").pip_install(["x"])'
    '.rsync("./src", "/a").sync_package("./libs/my_package").rsync("./config.yaml").pip_install(["y"])',
}

PROGRAM = """
import json, re, warnings, dataclasses
from pathlib import Path
import kubetorch, klock
from klock.image.steps import PipInstall, SetEnvVars
warnings.simplefilter("ignore", DeprecationWarning)

def joined(steps):
    "As kubetorch 0.5 keeps no trace of it: calls that follow each other are one."
    found = []
    for step in steps:
        last = found[-1] if found else None
        if isinstance(step, PipInstall) and isinstance(last, PipInstall) and step.force == last.force:
            found[-1] = dataclasses.replace(last, requirements=last.requirements + step.requirements)
        elif isinstance(step, SetEnvVars) and isinstance(last, SetEnvVars) and not (
            {n for n, _ in step.variables} & {n for n, _ in last.variables}
        ):
            found[-1] = dataclasses.replace(last, variables=last.variables + step.variables)
        else:
            found.append(step)
    return found

def without_tag(text):
    "The images that kubetorch's factories name have its own version as their tag, since 0.5."
    return re.sub("(ghcr.io/run-house/[a-z]+):.*", "\\\\1", text) if text else text

def said(image):
    names = ("name", "image_id", "python_path", "install_cmd", "docker_secret", "dockerfile_command")
    steps = joined(image.steps) if kubetorch_joins else image.steps
    return {name: without_tag(getattr(image, name)) for name in names} | {
        "steps": [repr(dataclasses.replace(step, location=None)) for step in steps]
    }

def evaluated(code, kt, file):
    scope = {"kt": kt, "klock": klock}
    exec(compile(code, file, "exec"), scope)
    return scope["image"]

def both(code, file):
    taken = evaluated(code + "\\nimage = klock.Image.from_kubetorch(image)", kubetorch, file)
    return {"kubetorch": said(taken), "klock": said(evaluated(code, klock, file))}
"""


@pytest.fixture(scope="module", params=KUBETORCHES)
def answers(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, object]]:
    """Of each case, what was said to kubetorch and to klock."""
    folder = tmp_path_factory.mktemp("project")
    for path in ("src/a.py", "a b/c d.txt", "libs/my_package/__init__.py", "libs/my_project/pyproject.toml"):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).touch()
    for name in ("config.yaml", "model.pt", "pyproject.toml", "kimage.py"):
        (folder / name).touch()
    program = f"""{PROGRAM}
kubetorch_joins = {request.param != "0.4.1"}
cases = json.loads({json.dumps(json.dumps(CASES))})
print(json.dumps({{name: both("image = " + code, "{folder}/kimage.py") for name, code in cases.items()}}))
"""
    home = tmp_path_factory.mktemp("home")
    (home / "model.pt").touch()
    found: dict[str, dict[str, object]] = json.loads(
        run_with_kubetorch(request.param, program, cwd=folder, env={"HOME": str(home)})
    )
    return found


@pytest.mark.parametrize("case", CASES)
def test_it_means_the_same(answers: dict[str, dict[str, object]], case: str) -> None:
    assert answers[case]["kubetorch"] == answers[case]["klock"]


@pytest.mark.parametrize("version", KUBETORCHES)
def test_the_seven_examples_mean_the_same(version: str, tmp_path: Path) -> None:
    names = sorted(path.name for path in EXAMPLES.iterdir())
    for name in names:
        shutil.copytree(EXAMPLES / name, tmp_path / name)
        (tmp_path / name / "pyproject.toml").touch()
    program = f"""{PROGRAM}
import os, sys
kubetorch_joins = {version != "0.4.1"}
found = {{}}
for name in {names}:
    folder = Path.cwd() / name
    os.environ["HOME"] = str(folder / "home")
    sys.path.insert(0, str(folder / "installed"))
    if name == "chaining":
        info = folder / "installed/my_local_lib-0.1.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text("Metadata-Version: 2.1\\nName: my_local_lib\\nVersion: 0.1\\n")
        url = (folder / "my_local_lib").as_uri()
        (info / "direct_url.json").write_text(json.dumps({{"url": url, "dir_info": {{"editable": True}}}}))
        (info / "RECORD").write_text("my_local_lib-0.1.dist-info/direct_url.json,,\\n")
    code = (folder / "kimage.py").read_text().replace("import klock as kt", "")
    os.chdir(folder)
    found[name] = both(code, str(folder / "kimage.py"))
    os.chdir("..")
print(json.dumps(found))
"""
    variables = {"REGISTRY_USER": "bob", "REGISTRY_PASS": "hunter2-Zk9vQ"}
    found = json.loads(run_with_kubetorch(version, program, cwd=tmp_path, env=variables))
    assert {name: said["kubetorch"] for name, said in found.items()} == {
        name: said["klock"] for name, said in found.items()
    }
    assert sorted(found) == names


DOCKERFILE = """\
# a comment
FROM python:3.12-slim
ENV KT_PYTHON_PATH=/opt/venv/bin/python
ENV A=1 B="x y"
ENV C plain value
RUN $KT_PIP_INSTALL_CMD 'numpy>=1.24'
RUN apt-get update && \\
apt-get install -y vim
RUN ["touch", "/a b"]
COPY src /app
COPY config.yaml /app/config.yaml
ENTRYPOINT ["python3", "-u"]
CMD ["main.py"]
"""


def test_one_that_kubetorch_read_from_a_dockerfile(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text(DOCKERFILE)
    (tmp_path / "src").mkdir()
    (tmp_path / "config.yaml").touch()
    (tmp_path / "kimage.py").touch()
    program = f"""{PROGRAM}
kubetorch_joins = True
print(json.dumps(both("image = kt.Image.from_dockerfile('Dockerfile')", "{tmp_path}/kimage.py")))
"""
    found = json.loads(run_with_kubetorch("0.5.1", program, cwd=tmp_path))
    # docker's meaning is another one, which klock's own `from_dockerfile` has: see docs/dockerfile.md.
    kept = found["kubetorch"]
    assert [step.partition("(")[0] for step in kept["steps"]] == [
        *("SetEnvVars", "PipInstall", "RunBash", "RunBash", "CopyFiles", "CopyFiles")
    ]
    assert kept["python_path"] == "/opt/venv/bin/python"
    assert kept["dockerfile_command"] == found["klock"]["dockerfile_command"] == "python3 -u main.py"


def test_a_docker_secret_is_taken_over(tmp_path: Path) -> None:
    program = """
import klock, kubetorch
image = kubetorch.Image()
image.docker_secret = "my-registry-secret"
print(klock.Image.from_kubetorch(image.from_docker("private.io/x:v1")).docker_secret)
"""
    assert run_with_kubetorch("0.5.1", program, cwd=tmp_path) == "my-registry-secret\n"


IMAGE = """
image = (
    kt.Image().from_docker("@HOST@/library/debian:bookworm")
    .set_env_vars({"BASE": "/srv", "APP": "$BASE/app"})
    .pip_install(["greeting>=1", "lib"])
    .rsync("./app", "/srv/app", contents=True)
    .sync_package("./package")
    .run_bash("cp -r $APP /srv/copy")
)
"""


def test_it_is_locked_to_the_same_lockfile(
    root: Account, debian_registry: Registry, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    wheels = tmp_path_factory.mktemp("wheels")
    make_wheel(wheels, "greeting", "1.0")
    make_wheel(wheels, "lib", "1.0")
    steps = IMAGE.replace("@HOST@", debian_registry.host)
    images = {
        "klock": f"import klock as kt\n{steps}",
        "kubetorch": f"import kubetorch as kt\n{steps}\nimport klock\nimage = klock.Image.from_kubetorch(image)\n",
    }
    locks = {}
    with IndexServer(wheels) as index:
        for name, image in images.items():
            folder = tmp_path / name
            (folder / "app").mkdir(parents=True)
            (folder / "app/main.py").write_text("print('hello')\n")
            (folder / "package").mkdir()
            (folder / "package/__init__.py").touch()
            (folder / "pyproject.toml").write_text(f'[tool.klock]\nindex-url = "{index.url}"\n')
            (folder / "kimage.py").write_text(image)
            path = f"{root.source}:{kubetorch_folder('0.5.1')}"
            done = root.klock("lock", cwd=folder, env={"PYTHONPATH": path})
            assert done.returncode == 0, done.stderr
            locks[name] = (folder / "kimage.lock").read_text()
    assert locks["kubetorch"] == locks["klock"]


@pytest.mark.parametrize("value", [None, "FROM x", 3, object()])
def test_another_object_is_refused(value: object) -> None:
    with pytest.raises(ImageError, match=r"^from_kubetorch: this is not a kubetorch\.Image: "):
        klock.Image.from_kubetorch(value)


REFUSED = {
    "an instruction's flag": ("RUN --mount=type=cache,target=/c make", "RUN --mount is not supported"),
    "a copy from another stage": ("COPY --from=build /x /y", "COPY --from is not supported"),
    "a default in a variable": ("ENV A=${B:-c}", "${NAME:-default} in the value of A is not supported"),
}


def test_what_klock_cannot_make_is_refused(tmp_path: Path) -> None:
    for number, (line, _) in enumerate(REFUSED.values()):
        (tmp_path / f"Dockerfile-{number}").write_text(f"FROM x\n{line}\n")
    program = f"""
import klock, kubetorch
for number in range({len(REFUSED)}):
    try:
        klock.Image.from_kubetorch(kubetorch.Image.from_dockerfile(f"Dockerfile-{{number}}"))
    except ValueError as error:
        print(error)
"""
    said = run_with_kubetorch("0.5.1", program, cwd=tmp_path).splitlines()
    for case, message in zip(REFUSED.values(), said, strict=True):
        assert case[1] in message


@pytest.mark.parametrize("version", some_of(KUBETORCHES, "0.5.1"))
def test_the_pushed_image_is_what_a_frozen_compute_starts(root: Account, version: str) -> None:
    """Nothing is installed into its pods, so they are what is locked."""
    project = root.make_folder("pushed")
    (project / "kimage.py").write_text(
        f'import klock as kt\nimage = kt.Image(name="moon").from_docker("{SMALL_BASE}")\nimage.docker_secret = "mine"\n'
    )
    (project / "pyproject.toml").touch()
    write_small_base(project / "layout")
    done = root.klock("lock", "--image-digest", cwd=project)
    assert done.returncode == 0, done.stderr
    program = """
import json
import klock
import kubetorch

image = klock.to_kubetorch("kimage.py", pushed="registry.example.com/team/moon")
assert type(image) is kubetorch.Image
compute = kubetorch.Compute(cpus="1", image=image, freeze=True)
(container,) = compute.pod_spec["containers"]
print(json.dumps([image.name, image.docker_secret, container["image"], compute.freeze]))
"""
    env = {"KLOCK_CACHE_DIR": str(root.store)}
    name, secret, started, is_frozen = json.loads(run_with_kubetorch(version, program, cwd=project, env=env))
    digest = re.search(r'digest = "(sha256:\w+)"\nsize', (project / "kimage.lock").read_text())
    assert digest is not None
    assert (name, secret, is_frozen) == ("moon", "mine", True)
    assert started == f"registry.example.com/team/moon@{digest[1]}"
