"""The builder's contract, case by case. The number in a name is the case's.

Cases that are about building are here and in the files named below; what only shows when an image is locked or replayed
is tested where that is done.

    1-3, 5-12, 23, 30, 33, 36, 37, 43-49, 56, 58, 60, 63, 65   this file
    13-22                  tests/test_requirements.py (reading), and here (contents)
    24-30                  tests/test_environment.py
    4, 31, 32, 34, 35, 38-42, 52, 53, 59                       locking, replay and check
    44-55                  tests/test_files_*.py (where files go, filters, content)
    57, 58                 tests/test_image_local_packages.py
    61, 62                 tests/test_dockerfile.py
    64                     tests/test_secrets_references.py
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

import klock as kt
from klock.image.steps import (
    AptInstall,
    CopyFiles,
    DebianBase,
    LayoutBase,
    PipInstall,
    RegistryBase,
    RunBash,
    SetEnvVars,
)

HERE = Path(__file__).parent


def test_case_1_an_empty_image_has_no_contents() -> None:
    assert kt.Image().contents == ""


FACTORIES: dict[str, tuple[Callable[[], kt.Image], str, str]] = {
    "Debian": (kt.images.Debian, "ghcr.io/run-house/server:v3", "debian"),
    "debian": (kt.images.debian, "ghcr.io/run-house/server:v3", "debian"),
    "Ubuntu": (kt.images.Ubuntu, "ghcr.io/run-house/ubuntu:v1", "ubuntu"),
    "ubuntu": (kt.images.ubuntu, "ghcr.io/run-house/ubuntu:v1", "ubuntu"),
    "Python310": (kt.images.Python310, "python:3.10-slim", "python310"),
    "Python311": (kt.images.Python311, "python:3.11-slim", "python311"),
    "Python312": (kt.images.Python312, "python:3.12-slim", "python312"),
    "python 3.12": (lambda: kt.images.python("3.12"), "python:3.12-slim", "python312"),
    "case 3: python 3.9": (lambda: kt.images.python("3.9"), "python:3.9-slim", "python39"),
    "Ray": (kt.images.Ray, "rayproject/ray:latest", "ray"),
    "ray 2.32.0": (lambda: kt.images.ray("2.32.0"), "rayproject/ray:2.32.0", "ray2.32.0"),
    "ray 2.32.0-py311": (lambda: kt.images.ray("2.32.0-py311"), "rayproject/ray:2.32.0-py311", "ray2.32.0-py311"),
    "pytorch": (kt.images.pytorch, "nvcr.io/nvidia/pytorch:23.12-py3", "pytorch2312py3"),
    "pytorch 24.08": (lambda: kt.images.pytorch("24.08-py3"), "nvcr.io/nvidia/pytorch:24.08-py3", "pytorch2408py3"),
    "Pytorch2312": (kt.images.Pytorch2312, "nvcr.io/nvidia/pytorch:23.12-py3", "pytorch2312py3"),
}


@pytest.mark.parametrize("factory", FACTORIES)
def test_case_2_and_3_factories(factory: str) -> None:
    make, image_id, name = FACTORIES[factory]
    image = make()
    assert (image.image_id, image.name) == (image_id, name)
    assert image.contents == f"FROM {image_id}\n"
    assert make() is not image


def test_case_4_a_tag_is_kept_as_written_for_the_lock_to_resolve() -> None:
    assert kt.images.Ray().base == RegistryBase(reference="rayproject/ray:latest")


def test_case_5_a_digest_is_kept_verbatim() -> None:
    reference = "x@sha256:" + "0a" * 32
    assert kt.Image().from_docker(reference).image_id == reference


@pytest.mark.parametrize(
    "image",
    [
        kt.images.Debian(),
        kt.Image().from_docker("a"),
        kt.Image(image_id="a"),
        kt.images.from_debian("bookworm"),
        kt.Image().from_docker("oci:base"),
    ],
    ids=["a factory", "from_docker", "image_id", "from_debian", "a layout"],
)
def test_case_6_a_second_base_is_refused(image: kt.Image) -> None:
    with pytest.raises(ValueError) as caught:
        image.from_docker("b")
    assert str(caught.value) == "Setting both a machine image and docker image is not yet supported."


def test_case_7_a_positional_argument_is_the_name() -> None:
    image = kt.Image("a/b")
    assert (image.name, image.image_id, image.contents) == ("a/b", None, "")


def test_case_8_every_method_returns_the_same_object() -> None:
    image = kt.Image()
    assert image.from_docker("a") is image
    assert image.pip_install(["a"]) is image
    assert image.apt_install(["vim"]) is image
    assert image.set_env_vars({"A": "1"}) is image
    assert image.run_bash("true") is image
    assert image.rsync("x") is image
    assert image.copy("x") is image
    assert image.sync_package("./fixtures") is image
    assert len(image.steps) == 7


def test_case_9_python_path_is_the_second_line() -> None:
    image = kt.Image(image_id="a", python_path="/v/bin/python").run_bash("b")
    assert image.contents == "FROM a\nENV KT_PYTHON_PATH /v/bin/python\nRUN b\n"


def test_case_10_install_cmd_shows_in_contents() -> None:
    assert kt.Image(install_cmd="uv pip install").pip_install("a").contents == "RUN uv pip install a\n"
    assert kt.Image().pip_install("a").contents == "RUN $KT_PIP_INSTALL_CMD a\n"


def test_case_11_a_string_is_a_list_of_one() -> None:
    assert kt.Image().pip_install("numpy").steps == kt.Image().pip_install(["numpy"]).steps
    assert kt.Image().pip_install("numpy").steps == (PipInstall(requirements=("numpy",)),)


def test_case_12_order_is_kept_and_an_empty_list_adds_nothing() -> None:
    image = kt.Image().pip_install(["b", "a"]).pip_install([])
    assert image.steps == (PipInstall(requirements=("b", "a")),)
    assert image.contents == "RUN $KT_PIP_INSTALL_CMD b\nRUN $KT_PIP_INSTALL_CMD a\n"


PIP_LINES = {
    "13: a version is not a redirection": ("numpy>=1.20", "'numpy>=1.20'"),
    "14: two bounds": ("torch>=2.0,<3.0", "'torch>=2.0,<3.0'"),
    "15: quoted": ("'torch>=2.2.0'", "'torch>=2.2.0'"),
    "16: quoted with spaces": ("'numpy > 2.0.0'", "'numpy > 2.0.0'"),
    "16: with spaces": ("numpy > 2.0.0", "'numpy > 2.0.0'"),
    "17: extras": ("ray[data]==2.50.1", "'ray[data]==2.50.1'"),
    "18: a flag": ("--pre torch==2.0.0rc1", "--pre torch==2.0.0rc1"),
    "18: a flag before a quoted requirement": ("--pre 'torch>=2.2.0'", "--pre 'torch>=2.2.0'"),
    "19: an index": ("--index-url https://a.b/simple torch", "--index-url https://a.b/simple torch"),
    "20: no build isolation": ("--no-build-isolation flash-attn==2.7.3", "--no-build-isolation flash-attn==2.7.3"),
    "21: a file": ("-r requirements.txt", "-r requirements.txt"),
    "22: a path": ("-e /my_lib[opora]", "-e '/my_lib[opora]'"),
    "64: credentials": ("--index-url https://u:p@a.b/simple torch", "--index-url https://***@a.b/simple torch"),
    "two requirements": ("torch numpy", "torch numpy"),
    "malformed, found when locked": ("numpy=1", "numpy=1"),
}


@pytest.mark.parametrize("case", PIP_LINES)
def test_cases_13_to_22_contents_are_a_working_dockerfile(case: str) -> None:
    entry, shown = PIP_LINES[case]
    assert kt.Image().pip_install([entry]).contents == f"RUN $KT_PIP_INSTALL_CMD {shown}\n"


def test_case_15_quotes_make_no_difference() -> None:
    assert kt.Image().pip_install(["'torch>=2.2.0'"]).steps == kt.Image().pip_install(["torch>=2.2.0"]).steps
    assert kt.Image().pip_install(['"torch>=2.2.0"']).steps == kt.Image().pip_install(["torch>=2.2.0"]).steps


def test_case_23_values_are_written_as_str_writes_them() -> None:
    image = kt.Image().set_env_vars({"ONE": 1, "NONE": None, "EMPTY": "", "YES": True, "HALF": 0.5, "P": Path("/a")})
    expected = (("ONE", "1"), ("NONE", "None"), ("EMPTY", ""), ("YES", "True"), ("HALF", "0.5"), ("P", "/a"))
    assert image.steps == (SetEnvVars(variables=expected),)
    assert image.contents.splitlines()[:3] == ["ENV ONE 1", "ENV NONE None", "ENV EMPTY "]


def test_case_29_and_30_quotes_spaces_and_newlines_are_kept() -> None:
    image = kt.Image().set_env_vars({"Q": '"q v"', "S": "a  b", "N": "a\nRUN b"})
    assert image.steps == (SetEnvVars(variables=(("Q", '"q v"'), ("S", "a  b"), ("N", "a\nRUN b"))),)
    assert image.contents == 'ENV Q "q v"\nENV S a  b\nENV N a\\nRUN b\n'


@pytest.mark.parametrize("command", ["a && b", "a; b", "cd /x; export A=1"])
def test_case_33_and_34_a_command_is_one_step(command: str) -> None:
    image = kt.Image().run_bash(command)
    assert image.steps == (RunBash(command=command),)
    assert image.contents == f"RUN {command}\n"


def test_case_36_a_command_of_several_lines_is_one_step() -> None:
    command = "cat > /etc/x <<EOF\nEOF\necho done\n"
    image = kt.Image().run_bash(command)
    assert image.steps == (RunBash(command=command),)
    assert image.contents == "RUN <<EOFF\ncat > /etc/x <<EOF\nEOF\necho done\nEOFF\n"


SERVICES = {
    "37: sleep 100 &": True,
    "37: jupyter notebook --no-browser --port=8888 & ": True,
    "39: x & echo y": False,
    "33: a && b": False,
    "33: a &&": False,
}


@pytest.mark.parametrize("case", SERVICES)
def test_case_37_and_39_a_command_that_ends_in_an_ampersand_is_a_service(case: str) -> None:
    (step,) = kt.Image().run_bash(case.partition(": ")[2]).steps
    assert isinstance(step, RunBash)
    assert step.is_service is SERVICES[case]


def test_case_40_force_is_part_of_the_step() -> None:
    image = kt.Image().run_bash("a", force=True).pip_install("b", force=True).copy("c", "/c", force=True)
    assert image.contents == "RUN a # force\nRUN $KT_PIP_INSTALL_CMD b # force\nCOPY c /c # force\n"
    assert all(getattr(step, "force", True) for step in image.steps)


def test_case_43_force_in_a_value_is_text() -> None:
    image = kt.Image().set_env_vars({"A": "x # force"}).run_bash("echo '# force'")
    assert image.steps == (SetEnvVars(variables=(("A", "x # force"),)), RunBash(command="echo '# force'"))


COPIES = {
    "44: a file to a path": (
        ("./c.yaml", "/app/config.yaml"),
        "./c.yaml",
        "/app/config.yaml",
        "COPY ./c.yaml /app/config.yaml",
    ),
    "44: a file into a folder": (("./c.yaml", "/app/"), "./c.yaml", "/app/", "COPY ./c.yaml /app/"),
    "45: a folder": (("./src", "/app"), "./src", "/app", "COPY ./src /app"),
    "46: without a destination": (("./model.pt",), "./model.pt", None, "COPY ./model.pt model.pt"),
    "46: a slash at the end means nothing": (("./src/",), "./src", None, "COPY ./src src"),
    "47: a home in the destination": (("./c", "~/configs"), "./c", "configs", "COPY ./c configs"),
    "47: only a home": (("./c", "~"), "./c", ".", "COPY ./c ."),
    "54: spaces and other letters": (("./a b/ü", "/c d"), "./a b/ü", "/c d", 'COPY ["./a b/ü", "/c d"]'),
}


@pytest.mark.parametrize("case", COPIES)
@pytest.mark.parametrize("method", ["rsync", "copy"])
def test_cases_44_to_54_copies(case: str, method: str) -> None:
    given, source, dest, line = COPIES[case]
    image = getattr(kt.Image(), method)(*given)
    assert image.steps == (CopyFiles(source=source, root="", dest=dest),)
    assert image.contents == f"{line}\n"


def test_case_48_and_50_contents_and_filters_are_kept() -> None:
    options = "--include='important.log' --exclude='*.log'"
    image = kt.Image().rsync("./src", contents=True, filter_options=options).rsync("./src", filter_options="")
    assert image.steps == (
        CopyFiles(source="./src", root="", contents=True, filter_options=options),
        CopyFiles(source="./src", root=""),
    )
    assert image.contents == "COPY ./src .\nCOPY ./src src\n"


def test_case_56_relative_sources_start_at_the_image_file() -> None:
    (step,) = kt.Image().rsync("./src").steps
    assert isinstance(step, CopyFiles)
    assert step.root == str(HERE)


def test_case_60_rsync_gives_no_warning_and_copy_is_its_equal() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert kt.Image().rsync("a", "/b", contents=True).steps == kt.Image().copy("a", "/b", contents=True).steps


def test_case_63_steps_are_in_the_order_defined() -> None:
    image = kt.Image().run_bash("1").pip_install("2").set_env_vars({"A": "3"}).run_bash("4").copy("5").pip_install("6")
    kinds = [type(step) for step in image.steps]
    assert kinds == [RunBash, PipInstall, SetEnvVars, RunBash, CopyFiles, PipInstall]


def test_case_65_docker_secret_chains_and_is_in_nothing_else() -> None:
    image = kt.Image()
    image.docker_secret = "my-registry-secret"
    image = image.from_docker("private-registry.io/my-image:v1")
    plain = kt.Image().from_docker("private-registry.io/my-image:v1")
    assert image.docker_secret == "my-registry-secret"
    assert (image.contents, image.base, image.steps) == (plain.contents, plain.base, plain.steps)


# -- beyond the reference


def test_apt_packages() -> None:
    image = kt.Image().apt_install(["vim", "curl=7.88.1-10+deb12u5", "libc6:amd64"]).apt_install("git").apt_install([])
    assert image.steps[0] == AptInstall(packages=("vim", "curl=7.88.1-10+deb12u5", "libc6:amd64"))
    assert image.steps[1] == AptInstall(packages=("git",))
    assert len(image.steps) == 2
    assert image.contents.splitlines()[1] == "RUN apt-get update && apt-get install -y --no-install-recommends git"


def test_a_base_from_the_debian_archive() -> None:
    image = kt.images.from_debian("bookworm", ["python3", "ca-certificates"])
    assert image.base == DebianBase(suite="bookworm", packages=("python3", "ca-certificates"))
    assert (image.name, image.image_id) == ("bookworm", None)
    assert image.contents == "# FROM the Debian archive: bookworm with python3 ca-certificates\n"
    assert kt.images.from_debian("trixie").contents == "# FROM the Debian archive: trixie\n"


def test_a_base_in_a_layout_folder() -> None:
    image = kt.Image().from_docker("oci:./base:v1")
    assert image.base == LayoutBase(path="./base", tag="v1")
    assert image.contents == "FROM oci:./base:v1\n"
    assert kt.Image(image_id="oci:/base").base == LayoutBase(path="/base")


def test_image_id_can_be_set() -> None:
    image = kt.images.Debian()
    image.image_id = "python:3.12"
    assert image.base == RegistryBase(reference="python:3.12")
    image.image_id = None
    assert image.base is None
