"""What the builder refuses, and where it says a step was made."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import klock as kt
from klock.errors import ImageError
from klock.image.dockerfile.expansion import Expansion
from klock.image.steps import Configure, DeclareArguments, Location, SetWorkingDir

Image: Any = kt.Image
IMAGES: Any = kt.images

WRONG: dict[str, tuple[Callable[[], object], str]] = {
    "a second Python": (
        lambda: Image().add_python("3.12").add_python("3.13"),
        "add_python: the image has a Python at /opt/python already",
    ),
    "a number as a Python": (
        lambda: Image().add_python(3.12),
        "add_python: version is 3.12 (expected the numbers of a Python 3, as text)",
    ),
    "a number as a mode": (lambda: Image().copy("a", mode=0o644), "copy: mode is an int (expected a string): 420"),
    "no mode": (lambda: Image().copy("a", mode="u+q"), "copy: mode is 'u+q', which is not a mode"),
    "an image without a name": (lambda: Image().copy("a", "b", from_image=""), "copy: from_image is empty"),
    "no shell": (lambda: Image().shell([]), "shell: no words are named"),
    "a command without a program": (lambda: Image().entrypoint(["", "a"]), "entrypoint: word 1 is empty"),
    "a dictionary as a command": (
        lambda: Image().cmd({"a": 1}),
        "cmd: words is {'a': 1} (expected a list of strings)",
    ),
    "a Dockerfile behind a base": (
        lambda: Image().from_docker("x").from_dockerfile("Dockerfile"),
        "from_dockerfile begins an image, and this one has a base already",
    ),
    "a Dockerfile behind steps": (
        lambda: Image().run_bash("x").from_dockerfile("Dockerfile"),
        "from_dockerfile begins an image, and this one has steps already",
    ),
    "a list of build arguments": (
        lambda: Image.from_dockerfile("Dockerfile", build_args=["A=1"]),
        "from_dockerfile: build_args is a list (expected a dict of names and values): ['A=1']",
    ),
    "a number as a requirement": (
        lambda: Image().pip_install(3),
        "pip_install: reqs is an int (expected a string or a list of strings): 3",
    ),
    "a number in the list": (
        lambda: Image().pip_install(["a", 3]),
        "pip_install: requirement 2 is an int (expected a string): 3",
    ),
    "a dict of requirements": (
        lambda: Image().pip_install({"a": "1"}),
        "pip_install: reqs is a dict (expected a string or a list of strings): {'a': '1'}",
    ),
    "an empty requirement": (lambda: Image().pip_install(["  "]), "pip_install: requirement 1 is empty"),
    "force as text": (
        lambda: Image().pip_install("a", force="yes"),
        "pip_install: force is a str (expected True or False): 'yes'",
    ),
    "an empty command": (lambda: Image().run_bash(" \n"), "run_bash: command is empty"),
    "a list as a command": (
        lambda: Image().run_bash(["ls"]),
        "run_bash: command is a list (expected a string): ['ls']",
    ),
    "a command with NUL": (lambda: Image().run_bash("a\0b"), "run_bash: command contains a NUL byte: 'a\\x00b'"),
    "a relative path to leave out": (
        lambda: Image().run_bash("ls", leave_out="etc/ssh"),
        "run_bash: leave_out has 'etc/ssh', which is not the pattern of an absolute path",
    ),
    "everything to leave out": (
        lambda: Image().run_bash("ls", leave_out=["/**"]),
        "run_bash: leave_out has '/**', which is not the pattern of an absolute path",
    ),
    "a private URL without a host": (
        lambda: Image().run_bash("ls", private_urls="token*"),
        "run_bash: private_urls has 'token*', which is not the pattern of a URL without credentials",
    ),
    "a service that keeps a layer": (
        lambda: Image().run_bash("serve &", keep_layer=True),
        "run_bash: a command that ends in '&' is a service: it makes no layer, and klock records nothing of it",
    ),
    "a forced step that keeps its layer": (
        lambda: Image().run_bash("ls", force=True, keep_layer=True),
        "run_bash: force=True runs the step at every sync, keep_layer=True at none",
    ),
    "variables as a list": (
        lambda: Image().set_env_vars([("A", 1)]),
        "set_env_vars: env_vars is a list (expected a dict of names and values): [('A', 1)]",
    ),
    "an empty name": (lambda: Image().set_env_vars({"": "1"}), "set_env_vars: the name of a variable is empty"),
    "a name with =": (
        lambda: Image().set_env_vars({"A=B": "1"}),
        "set_env_vars: the name of a variable has no '=', NUL byte or white space: 'A=B'",
    ),
    "a name with NUL": (
        lambda: Image().set_env_vars({"A\0": "1"}),
        "set_env_vars: the name of a variable has no '=', NUL byte or white space: 'A\\x00'",
    ),
    "a name with a space": (
        lambda: Image().set_env_vars({"A B": "1"}),
        "set_env_vars: the name of a variable has no '=', NUL byte or white space: 'A B'",
    ),
    "a number as a name": (
        lambda: Image().set_env_vars({1: "1"}),
        "set_env_vars: the name of a variable is an int (expected a string): 1",
    ),
    "a list as a value": (
        lambda: Image().set_env_vars({"A": ["b"]}),
        "set_env_vars: the value of A is a list (expected a string or a number): ['b']",
    ),
    "bytes as a value": (
        lambda: Image().set_env_vars({"A": b"b"}),
        "set_env_vars: the value of A is a bytes (expected a string or a number): b'b'",
    ),
    "a value with NUL": (
        lambda: Image().set_env_vars({"A": "b\0"}),
        "set_env_vars: the value of A contains a NUL byte",
    ),
    "a dest above the root": (
        lambda: Image().rsync("a", "/app/../../etc"),
        "rsync: dest leaves the root of the environment: '/app/../../etc'",
    ),
    "an empty dest": (lambda: Image().copy("a", ""), "copy: dest is empty"),
    "no source": (lambda: Image().copy(None), "copy: source is None (expected a string): None"),
    "contents as text": (
        lambda: Image().copy("a", contents="yes"),
        "copy: contents is a str (expected True or False): 'yes'",
    ),
    "an empty reference": (lambda: Image().from_docker(""), "from_docker: image_id is empty"),
    "a reference with a space": (
        lambda: Image().from_docker("a b"),
        "from_docker: an image reference has no spaces: 'a b'",
    ),
    "a layout without a folder": (lambda: Image().from_docker("oci:"), "from_docker: 'oci:' names no folder"),
    "a name that is not text": (lambda: Image(name=3), "Image: name is an int (expected a string): 3"),
    "a Debian package with a space": (
        lambda: Image().apt_install("vim git"),
        "apt_install: 'vim git' is not the name of a Debian package",
    ),
    "a Debian package with an option": (
        lambda: Image().apt_install(["-y"]),
        "apt_install: '-y' is not the name of a Debian package",
    ),
    "a Debian package without its version": (
        lambda: Image().apt_install("vim="),
        "apt_install: 'vim=' is not the name of a Debian package",
    ),
    "a version in from_debian": (
        lambda: kt.images.from_debian("bookworm", ["vim=1"]),
        "from_debian: 'vim=1' is not the name of a Debian package",
    ),
    "no suite": (
        lambda: kt.images.from_debian("Debian 12"),
        "from_debian: 'Debian 12' is not the name of a Debian suite",
    ),
    "a number as a Python version": (
        lambda: IMAGES.python(3.12),
        "images.python: version is 3.12 (expected a string like '3.12')",
    ),
    "a package that is nowhere": (
        lambda: Image().sync_package("no_such_package"),
        "Could not locate local package no_such_package",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_mistakes_are_found_at_the_call(case: str) -> None:
    call, message = WRONG[case]
    with pytest.raises(ImageError) as caught:
        call()
    assert str(caught.value) == message
    assert isinstance(caught.value, ValueError)


def test_an_error_leaves_the_image_as_it_was() -> None:
    image = kt.Image().run_bash("a")
    with pytest.raises(ImageError):
        image.pip_install(["b", 3])  # type: ignore[list-item]
    assert len(image.steps) == 1


LINES = """\
import klock as kt                            # 1
image = (
    kt.images.Debian()                        # 3: base
    .pip_install([                            # 4: step
        "numpy",
    ])
    .run_bash("a").run_bash(                  # 7: step, step
        "b")
    .set_env_vars({                           # 9: step
        **{"A": "1"},
    })
    .copy(*["./src",                          # 12: step
            "/app"],
          **{"force": True})
    .run_bash(**{"command": "c"})             # 15: step
)
image.run_bash(                               # 17: step
    "d")
def more(image):
    return image.run_bash("e")                # 20: step
more(image)
image.rsync("./x")                            # 22: step
"""


def expected_lines(what: str) -> list[int]:
    return [
        n for n, line in enumerate(LINES.splitlines(), 1) if "#" in line for _ in re.findall(what, line.split("#")[1])
    ]


def test_a_step_knows_the_line_of_its_call(tmp_path: Path) -> None:
    file = tmp_path / "kimage.py"
    file.write_text(LINES)
    namespace: dict[str, object] = {}
    exec(compile(LINES, str(file), "exec"), namespace)
    image = namespace["image"]
    assert isinstance(image, kt.Image)
    assert image.base is not None and image.base.location == Location(file=str(file), line=expected_lines("base")[0])
    locations = [step.location for step in image.steps]
    assert locations == [Location(file=str(file), line=n) for n in expected_lines("step")]


def test_a_location_without_a_file_is_still_a_location() -> None:
    namespace: dict[str, object] = {}
    exec("import klock as kt\nimage = kt.Image().copy(*['a',\n'/b'])", namespace)
    image = namespace["image"]
    assert isinstance(image, kt.Image)
    (step,) = image.steps
    assert step.location == Location(file="<string>", line=2)


def test_locations_are_outside_of_equality() -> None:
    first = kt.Image().run_bash("a").steps
    second = kt.Image().run_bash("a").steps
    assert first == second
    assert first[0].location != second[0].location


def test_steps_cannot_be_changed_from_outside() -> None:
    image = kt.Image().run_bash("a")
    assert isinstance(image.steps, tuple)
    with pytest.raises(AttributeError):
        image.steps = ()  # type: ignore[misc]


def test_a_dockerfile_begins_an_image_that_has_a_name(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("ARG V\nFROM x:$V\nRUN a\n")
    image = kt.Image("n", python_path="/p").from_dockerfile(tmp_path / "Dockerfile", build_args={"V": 1}).run_bash("b")
    assert (image.name, image.python_path, image.image_id, len(image.steps)) == ("n", "/p", "x:1", 2)
    other = kt.Image.from_dockerfile(tmp_path / "Dockerfile", "m", build_args={"V": "2"})
    assert (other.name, other.image_id) == ("m", "x:2")
    assert image.image_id == "x:1"


def test_repr_says_what_matters() -> None:
    assert repr(kt.images.Python312().run_bash("a")) == "Image(name='python312', image_id='python:3.12-slim', 1 step)"


def test_importing_klock_loads_nothing_else() -> None:
    code = (
        "import sys; before = set(sys.modules); import klock as kt\n"
        "print(sorted(m for m in set(sys.modules) - before if m.startswith('klock')))\n"
        "kt.Image().pip_install(['a'])\n"
        "heavy = {'packaging', 'tomlkit', 'pip_requirements_parser', 'rich', 'urllib3', 'click', 'json', 'ast'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    completed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert completed.stdout.splitlines()[0] == "['klock', 'klock.version']"
    assert not {"packaging", "tomlkit", "rich", "urllib3", "click"} & set(eval(completed.stdout.splitlines()[1]))


def test_the_public_names() -> None:
    assert kt.KlockError is not None
    assert set(kt.__all__) <= set(dir(kt))
    with pytest.raises(AttributeError, match="module 'klock' has no attribute 'Compute'"):
        _ = kt.Compute


def test_words_of_containers_are_texts_in_which_only_variables_mean_anything() -> None:
    image = (
        kt.Image()
        .from_docker("x")
        .label({"a b": 'it\'s "$A" \\n \\$A C:\\x\\'})
        .workdir("/it's $A")
        .arg("F", '-D="a b"')
    )
    expansion = Expansion(escape="\\", variables={"A": "1"})
    label, workdir, arg = image.steps
    assert isinstance(label, Configure) and isinstance(workdir, SetWorkingDir) and isinstance(arg, DeclareArguments)
    assert [tuple(map(expansion.word, pair)) for pair in label.labels] == [("a b", 'it\'s "1" \\n $A C:\\x\\')]
    assert expansion.word(workdir.path) == "/it's 1"
    assert expansion.word(arg.arguments[0].default or "") == '-D="a b"'
    (command,) = kt.Image().cmd(["a", "", "\t"]).steps
    assert isinstance(command, Configure) and command.command == ("a", "", "\t")
