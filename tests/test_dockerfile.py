"""Reading Dockerfiles: what is understood, and the line of what is not."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import klock as kt
from klock.errors import ImageError
from klock.image.dockerfile import read_dockerfile
from klock.image.steps import CopyFiles, Location, PipInstall, RegistryBase, RunBash, SetEnvVars, Step


def read(folder: Path, text: str) -> kt.Image:
    (folder / "Dockerfile").write_text(text, encoding="utf-8")
    return kt.Image.from_dockerfile(folder / "Dockerfile")


def env(**variables: str) -> SetEnvVars:
    return SetEnvVars(variables=tuple(variables.items()))


def run(command: str) -> RunBash:
    return RunBash(command=command)


def copy(source: str, dest: str, *, contents: bool = False) -> CopyFiles:
    return CopyFiles(source=source, root="", dest=dest, contents=contents)


STEPS: dict[str, tuple[str, list[Step]]] = {
    "61: comments and blank lines": ("# a\n\n  # b\nRUN c\n", [run("c")]),
    "61: parser directives": ("# syntax=docker/dockerfile:1\n# escape=\\\nRUN c", [run("c")]),
    "61: instructions in any case": ("run a\nEnv B=c\n", [run("a"), env(B="c")]),
    "61: Windows line ends": ("RUN a\r\nRUN b\r\n", [run("a"), run("b")]),
    "61: a byte order mark": ("\ufeffRUN a\n", [run("a")]),
    "61: continuation lines": ("RUN a && \\\n    b \\  \n  c\nRUN d", [run("a &&     b   c"), run("d")]),
    "61: comments and blank lines inside a continued one": ("RUN a \\\n# why\n\n  b\n", [run("a   b")]),
    "61: a continuation at the end": ("RUN a \\\n", [run("a")]),
    "62: shell form": ("RUN echo \"a  b\" 'c'", [run("echo \"a  b\" 'c'")]),
    "62: exec form": ('RUN ["echo", "a b", "$HOME"]', [run("echo 'a b' '$HOME'")]),
    "62: two variables": ("ENV A=1 B=2", [env(A="1", B="2")]),
    "62: quotes in the form with =": ("ENV A=\"x y\" B='z' C=a\\ b D=", [env(A="x y", B="z", C="a b", D="")]),
    "62: quotes inside quotes": (r"""ENV A="a\"b" B='a"b' C="a\nb" """, [env(A='a"b', B='a"b', C=r"a\nb")]),
    "62: a dollar that is not expanded": (
        r"""ENV A='$X' B=\$X C="\$X" D=$X""",
        [env(A=r"\$X", B=r"\$X", C=r"\$X", D="$X")],
    ),
    "62: the form with a space": ('ENV A b c=d "e"', [env(A='b c=d "e"')]),
    "62: an empty value": ("ENV A", [env(A="")]),
    "62: the last value of a name": ("ENV A=1 A=2", [env(A="2")]),
    "62: ENV across lines": ("ENV A=1 \\\n    B=2\n", [env(A="1", B="2")]),
    "9: the Python path is no variable": ("ENV KT_PYTHON_PATH /v/bin/python\nENV A=1 KT_PYTHON_PATH=/x", [env(A="1")]),
    "36: a heredoc is a script": ("RUN <<EOF\na\n\\b\nEOF\nRUN c", [run("a\n\\b"), run("c")]),
    "36: a heredoc with its shell": ("RUN <<'EOF'\n#!/usr/bin/env bash\na\nEOF\n", [run("#!/usr/bin/env bash\na")]),
    "36: a heredoc with tabs": ("RUN <<-EOF\n\ta\n\t\tb\n\tEOF\n", [run("a\nb")]),
    "36: a heredoc for a command": ("RUN cat > /x <<EOF\na\nEOF\n", [run("cat > /x <<EOF\na\nEOF")]),
    "36: two heredocs": ("RUN cat <<A <<B\n1\nA\n2\nB\nRUN c", [run("cat <<A <<B\n1\nA\n2\nB"), run("c")]),
    "36: << in quotes and <<< are no heredocs": (
        "RUN echo '<<EOF' <<< x\nRUN b",
        [run("echo '<<EOF' <<< x"), run("b")],
    ),
    "40: force": ("RUN a # force\n", [RunBash(command="a", force=True)]),
    "43: force in a value": ("ENV A x # force\n", [env(A="x # force")]),
    "klock's own pip lines": ("RUN $KT_PIP_INSTALL_CMD 'numpy>=1'\n", [PipInstall(requirements=("numpy>=1",))]),
    "45: a folder's contents": ("COPY src /app", [copy("src", "/app", contents=True)]),
    "44: files": ("COPY a.py b.py /app/", [copy("a.py", "/app/"), copy("b.py", "/app/")]),
    "44: a pattern": ("COPY *.py /app/", [copy("a.py", "/app/"), copy("b.py", "/app/")]),
    "54: spaces": ('COPY ["src/a b", "/c d/"]', [copy("src/a b", "/c d/")]),
    "a home as destination": ("COPY a.py ~/x.py", [copy("a.py", "x.py")]),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "src").mkdir()
    for name in ("a.py", "b.py", "src/a b"):
        (tmp_path / name).touch()
    return tmp_path


@pytest.mark.parametrize("case", STEPS)
def test_what_is_understood(case: str, folder: Path) -> None:
    text, steps = STEPS[case]
    assert list(read(folder, text).steps) == steps


def test_case_61_base_and_commands(tmp_path: Path) -> None:
    image = read(tmp_path, 'FROM python:3.12 AS build\nENTRYPOINT ["python", "-m"]\nCMD ["http.server", "a b"]\n')
    assert image.base == RegistryBase(reference="python:3.12")
    assert (image.entrypoint, image.cmd) == ("python -m", "http.server 'a b'")
    assert image.dockerfile_command == "python -m http.server 'a b'"
    assert image.steps == ()
    assert read(tmp_path, "CMD python main.py\nCMD python other.py").dockerfile_command == "python other.py"
    assert read(tmp_path, "").dockerfile_command is None


def test_it_can_be_built_on(tmp_path: Path) -> None:
    (tmp_path / "base.dockerfile").write_text("FROM a\nENV KT_PYTHON_PATH=/v/bin/python\nRUN b\n")
    image = kt.Image.from_dockerfile(str(tmp_path / "base.dockerfile"), name="mine").pip_install(["c"])
    assert (image.name, image.python_path) == ("mine", "/v/bin/python")
    assert image.contents == "FROM a\nENV KT_PYTHON_PATH /v/bin/python\nRUN b\nRUN $KT_PIP_INSTALL_CMD c\n"
    with pytest.raises(ValueError, match="not yet supported"):
        image.from_docker("d")


def test_steps_know_their_lines(tmp_path: Path) -> None:
    image = read(tmp_path, "# a\nFROM b\nRUN c \\\n d\n\nRUN <<EOF\nEOF x\nEOF\nENV A=1\n")
    file = str(tmp_path / "Dockerfile")
    assert image.base is not None and image.base.location == Location(file=file, line=2)
    assert [s.location for s in image.steps] == [Location(file=file, line=n) for n in (3, 6, 9)]


def test_case_62_copy_starts_at_the_dockerfile(tmp_path: Path) -> None:
    (tmp_path / "docker").mkdir()
    (step,) = read(tmp_path / "docker", "COPY x /x").steps
    assert isinstance(step, CopyFiles) and step.root == str(tmp_path / "docker")


SUPPORTED = "klock supports: CMD, COPY, ENTRYPOINT, ENV, FROM, RUN."
WRONG = {
    "61: another instruction": (
        "FROM a\n\nWORKDIR /app\n",
        f"Unsupported Dockerfile instruction 'WORKDIR' at line 3. {SUPPORTED}",
    ),
    "61: an instruction after a continued one": (
        "RUN a \\\n  b\nARG X\n",
        f"Unsupported Dockerfile instruction 'ARG' at line 3. {SUPPORTED}",
    ),
    "61: nothing after the instruction": ("RUN\n", "Invalid RUN instruction at line 1: it says nothing"),
    "two stages": ("FROM a\nFROM b\n", "Dockerfile: a second FROM (a multi-stage build) is not supported at line 2"),
    "FROM scratch": ("FROM scratch", "Dockerfile: FROM scratch is not supported at line 1"),
    "FROM with a variable": ("FROM python:$V", "Dockerfile: a variable in FROM is not supported at line 1"),
    "FROM with a flag": ("FROM --platform=linux/arm64 a", "Dockerfile: FROM --platform is not supported at line 1"),
    "FROM with more": ("FROM a b", "Dockerfile: FROM takes one image reference at line 1"),
    "RUN with a flag": ("RUN --mount=type=cache a", "Dockerfile: RUN --mount is not supported at line 1"),
    "an empty heredoc": ("RUN <<EOF\nEOF\n", "Dockerfile: RUN has an empty command at line 1"),
    "a heredoc without an end": (
        "RUN a\nRUN <<EOF\nb\n",
        "Dockerfile line 2: the heredoc <<EOF has no line EOF that ends it",
    ),
    "a heredoc for Python": (
        "RUN <<EOF\n#!/usr/bin/env python3\nEOF",
        "Dockerfile: a heredoc for #!/usr/bin/env python3 is not supported at line 1",
    ),
    "broken JSON": ('RUN ["a", ]', "Dockerfile: RUN is not valid JSON at line 1"),
    "JSON of numbers": ("CMD [1]", "Dockerfile: CMD is not a JSON list of strings at line 1"),
    "ENV without =": ("ENV A=1 B", "Dockerfile: ENV B has no '=' at line 1"),
    "ENV with a quote that does not close": ('ENV A="b', "Dockerfile: ENV has a quote that is not closed at line 1"),
    "ENV with a default": (
        "ENV A=${B:-c}",
        "Dockerfile: ${NAME:-default} in the value of A is not supported at line 1",
    ),
    "ENV that reads what it sets": (
        "ENV A=1\nENV B=2 C=$B",
        "Dockerfile: ENV uses $B, which the same instruction sets at line 2",
    ),
    "ENV without a name": ("ENV =1", "Dockerfile line 1: ENV: the name of a variable is empty"),
    "COPY with a flag": ("COPY --from=x a b", "Dockerfile: COPY --from is not supported at line 1"),
    "COPY with one path": ("COPY a", "Dockerfile: COPY needs a source and a destination at line 1"),
    "COPY of several to one": (
        "COPY a b /c",
        "Dockerfile: COPY of several sources needs a destination that ends in '/' at line 1",
    ),
    "COPY of a pattern without files": ("COPY *.c /c/", "Dockerfile: COPY *.c matches no file at line 1"),
    "COPY of a heredoc": ("COPY <<EOF /x\na\nEOF\n", "Dockerfile: a heredoc in COPY is not supported at line 1"),
    "COPY above the root": (
        "COPY a /../b",
        "Dockerfile line 1: COPY: dest leaves the root of the environment: '/../b'",
    ),
    "another escape character": (
        "# escape=`\nRUN a",
        "Dockerfile: an escape character other than a backslash is not supported at line 1",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_refused(case: str, tmp_path: Path) -> None:
    text, message = WRONG[case]
    with pytest.raises(ImageError) as caught:
        read(tmp_path, text)
    assert str(caught.value) == message
    assert isinstance(caught.value, ValueError)


def test_a_missing_dockerfile(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"Dockerfile not found: .*/nowhere"):
        kt.Image.from_dockerfile(tmp_path / "nowhere")


NAMES = st.from_regex(r"[A-Z][A-Z0-9_]{0,5}", fullmatch=True)


@given(st.text(alphabet="RUNEVCOPYFM =$\\<>-\"'[]{}#\n\tab.", max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "Dockerfile")
        path.write_text(text, encoding="utf-8")
        try:
            read_dockerfile(path)
        except ImageError as error:
            assert "line" in str(error)


@given(st.lists(st.text(alphabet="ab &;|'\"$#{}=<>", min_size=1, max_size=30), max_size=4), st.booleans())
def test_a_script_of_several_lines_comes_back(lines: list[str], force: bool) -> None:
    import tempfile

    script = "\n".join(["set -e", *lines, "echo done"])
    image = kt.Image().run_bash(script, force=force)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "Dockerfile")
        path.write_text(image.contents, encoding="utf-8")
        assert tuple(read_dockerfile(path).steps) == image.steps


@given(st.dictionaries(NAMES, st.text(alphabet="ab$'\"=/{}:, ", max_size=12).map(str.strip), min_size=1))
def test_variables_come_back(variables: dict[str, str]) -> None:
    import tempfile

    image = kt.Image().set_env_vars(variables)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "Dockerfile")
        path.write_text(image.contents, encoding="utf-8")
        try:
            steps = read_dockerfile(path).steps
        except ImageError as error:
            assert "default" in str(error)
            return
        found = [pair for step in steps if isinstance(step, SetEnvVars) for pair in step.variables]
        assert found == list(variables.items())


def test_a_dockerignore_is_not_passed_over(tmp_path: Path) -> None:
    """What it leaves out may be secrets."""
    (tmp_path / "Dockerfile").write_text("FROM x\nCOPY a.txt /\nCOPY src /srv/\n")
    (tmp_path / "src").mkdir()
    (tmp_path / "a.txt").touch()
    assert len(read_dockerfile(tmp_path / "Dockerfile").steps) == 2
    for name in (".dockerignore", "Dockerfile.dockerignore"):
        (tmp_path / name).write_text(".env\n")
        with pytest.raises(ImageError) as caught:
            read_dockerfile(tmp_path / "Dockerfile")
        assert caught.value.message.startswith(f"Dockerfile: COPY of a folder would copy what {name} leaves out")
        assert caught.value.message.endswith("at line 3")
        assert ".klockignore" in (caught.value.hint or "")
        (tmp_path / ".klockignore").write_text(".env\n")
        assert len(read_dockerfile(tmp_path / "Dockerfile").steps) == 2
        (tmp_path / ".klockignore").unlink()
        (tmp_path / name).unlink()
