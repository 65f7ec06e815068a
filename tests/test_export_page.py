"""The text of exported instructions: what sh and the builders' rules make of it is what was meant."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from klock.errors import KlockError
from klock.export import ContextFile
from klock.export.settings import write_settings
from klock.lockfile.model import LayerLock, ServiceLock, SettingsLock, ShellLock
from klock.pages.page import Form, Page
from klock.pages.sums import sums_script
from klock.steps.service.export import start_script
from klock.steps.shell.export import write_shell_step

LAYER = LayerLock(digest="sha256:" + "0" * 64, files=0, size=0)
TEXT = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]) | st.sampled_from("'\"\\$`#!<>&|;\n\t"))


def run_line(page: Page) -> str:
    """The shell text of the page's one RUN, as a builder reads it: continuation lines joined."""
    text = page.text
    start = text.index("RUN ") + len("RUN ")
    return text[start:].replace(" \\\n", " ")


@given(text=TEXT.filter(lambda text: text.strip()))
def test_a_command_is_run_as_it_was_written(text: str) -> None:
    page = Page(form=Form.DOCKER)
    command = "cat <<'END OF TEXT'\n" + text + "\nEND OF TEXT"
    write_shell_step(page, ShellLock(command=command, layer=LAYER), variables={})
    done = subprocess.run(["sh", "-c", run_line(page)], capture_output=True, check=True)
    assert done.stdout == text.encode() + b"\n"


def test_a_command_of_one_line_stays_one_line() -> None:
    page = Page(form=Form.DOCKER)
    write_shell_step(page, ShellLock(command="echo 'a b' && [[ 1 ]]", layer=LAYER), variables={})
    assert page.lines == ["""RUN exec $(command -v /bin/bash || echo /bin/sh) -c 'echo '"'"'a b'"'"' && [[ 1 ]]'"""]


def test_a_command_with_control_characters_is_refused() -> None:
    page = Page(form=Form.DOCKER, where="step 3 (kimage.py:7)")
    step = ShellLock(command="echo a\rb", layer=LAYER)
    with pytest.raises(KlockError, match=r"^step 3 \(kimage.py:7\): it has a control character"):
        write_shell_step(page, step, variables={})


BROKEN: dict[str, tuple[Callable[[Page], None], str]] = {
    "ENV": (lambda page: page.env("A", "a\nb"), "the value of A has a line break"),
    "ARG": (lambda page: page.argument("A", "a\nb"), "the value of A has a line break"),
    "WORKDIR": (lambda page: page.work_in("/a\nb"), "the working directory has a line break"),
    "USER": (lambda page: page.become("a\nb"), "the user has a line break"),
    "a label": (
        lambda page: write_settings(page, SettingsLock(labels=(("x", "a\nb"),))),
        "the label x has a line break",
    ),
    "its name": (lambda page: write_settings(page, SettingsLock(labels=(("a\nb", "x"),))), "a label has a line break"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_would_be_two_instructions_is_refused(case: str) -> None:
    write, message = BROKEN[case]
    page = Page(form=Form.DOCKER, where="step 3 (kimage.py:7)")
    with pytest.raises(KlockError, match=rf"^step 3 \(kimage.py:7\): {message}"):
        write(page)
    assert not page.lines


DOCKER_VALUES = {
    "plain": ("x", 'ENV A="x"'),
    "empty": ("", 'ENV A=""'),
    "spaces at its ends": (" x ", 'ENV A=" x "'),
    "quotes": ("'q' \"d\"", """ENV A="'q' \\"d\\"\""""),
    "a reference as text": ("$B ${C}", 'ENV A="\\$B \\${C}"'),
    "backslashes": ("a\\b\\", 'ENV A="a\\\\b\\\\"'),
}


@pytest.mark.parametrize("case", DOCKER_VALUES)
def test_a_variable_for_docker(case: str) -> None:
    value, line = DOCKER_VALUES[case]
    page = Page(form=Form.DOCKER)
    page.env("A", value)
    assert page.lines == [line]


KUBETORCH_REFUSES = {
    "white space at the start": (" x", "starts or ends with white space"),
    "a backslash at the end": ("x\\", "or ends with a backslash"),
    "a line break": ("x\ny", "a line break, which no Dockerfile can hold"),
    "a reference to what is there": ("a ${B}", "contains ${B}, which kubetorch would replace"),
}


@pytest.mark.parametrize("case", KUBETORCH_REFUSES)
def test_a_variable_that_kubetorch_would_change_is_refused(case: str) -> None:
    value, message = KUBETORCH_REFUSES[case]
    with pytest.raises(KlockError) as caught:
        Page(form=Form.KUBETORCH).env("A", value, defined={"B"})
    assert message in caught.value.message


def test_a_variable_for_kubetorch() -> None:
    page = Page(form=Form.KUBETORCH)
    page.env("A", "$C 'x'  \"y\"", defined={"B"})
    page.env("B", "")
    assert page.lines == ["ENV A $C 'x'  \"y\"", "ENV B"]


def test_another_user_than_root_installs_as_root() -> None:
    page = Page(form=Form.DOCKER, user="app")
    page.become("")
    page.become("")
    page.become("app")
    assert page.lines == ["USER root", "USER app"]
    with pytest.raises(KlockError, match="the base's user is app"):
        Page(form=Form.KUBETORCH, user="app").become("")


def test_paths_with_spaces_and_dollars() -> None:
    page = Page(form=Form.DOCKER)
    page.copy_file(ContextFile(path="step-01/file", content=b""), "/a b/$HOME")
    assert page.lines == ['COPY ["step-01/file", "/a b/\\\\$HOME"]']


def test_services_start_before_the_command(tmp_path: Path) -> None:
    services = [ServiceLock(command=f"echo '{n}' \"$TOKEN\" > {tmp_path}/{n} &") for n in ("a", "b")]
    program = tmp_path / "start"
    program.write_bytes(start_script(services))
    wait = f"until [ -s {tmp_path}/a ] && [ -s {tmp_path}/b ]; do :; done; cat {tmp_path}/a {tmp_path}/b"
    env = {"PATH": "/usr/bin:/bin", "TOKEN": "t"}
    done = subprocess.run(["sh", program, "sh", "-c", wait], capture_output=True, text=True, env=env, check=True)
    assert done.stdout == "a t\nb t\n"


def test_sums_name_the_file_that_differs(tmp_path: Path) -> None:
    import hashlib

    names = ["plain", "a b", "back\\slash", "é"]
    for name in names:
        (tmp_path / name).write_text(name)
    sums = [(f"./{name}", hashlib.sha256(name.encode()).hexdigest()) for name in names]
    script = "\n".join(sums_script(sums))
    command = ["sh", "-eu", "-c", script.replace("/tmp/klock-sums", f"{tmp_path}/sums")]
    subprocess.run(command, cwd=tmp_path, check=True)
    (tmp_path / "a b").write_text("changed")
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "./a b: FAILED\n")
