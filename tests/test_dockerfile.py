"""Reading Dockerfiles: the reference point by point, as steps of an image, and the line of what is refused."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import re
import tarfile
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

import klock as kt
from klock.errors import ImageError, KlockError
from klock.image.dockerfile import read_dockerfile
from klock.image.steps import (
    Argument,
    Configure,
    DeclareArguments,
    FromContext,
    HealthCheck,
    Location,
    RegistryBase,
    RunCommand,
    RunMount,
    SetEnvVars,
    SetWorkingDir,
    Step,
)
from klock.lockfile.model import (
    ArgumentsLock,
    CopyLock,
    EnvLock,
    LockedRequest,
    OciBlob,
    OciLock,
    SettingsLock,
    ShellLock,
    StageLock,
    StepLock,
    TargetLock,
    WorkdirLock,
)
from klock.locking import lapsing, lock_image
from klock.locking.draft import draft_image, draft_steps
from klock.places.containers.image import image_config
from klock.places.layered import image_config as config_of
from klock.steps import describe
from klock.steps.kind import UNKNOWN_LAYER
from klock.targets import Target
from tests.memory_workshop import memory_context

BLOB = OciBlob(digest="sha256:" + "0" * 64, size=1, media_type="x")
BASE = OciLock(
    reference="x",
    index_digest=None,
    manifest=BLOB,
    config=BLOB,
    layers=(),
    environment=(("PATH", "/bin"), ("EMPTY", "")),
    settings=SettingsLock(home="/root"),
)
FROM = "FROM x\n"
REFUSALS = (
    (Path(__file__).parents[1] / "docs/dockerfile.md")
    .read_text("utf-8")
    .partition("## What is refused\n")[2]
    .partition("\n## ")[0]
)


def steps(folder: Path, text: str, **options: Any) -> list[Step]:
    (folder / "Dockerfile").write_text(text, encoding="utf-8")
    return list(read_dockerfile(folder / "Dockerfile", **options).target.steps)


def drafts(folder: Path, text: str, **options: Any) -> list[StepLock]:
    found = tuple(steps(folder, FROM + text, **options))
    return draft_steps(found, root=folder, base=BASE, environ={})


def run(command: str = "", **fields: Any) -> RunCommand:
    return RunCommand(escape="\\", context="", command=command, **fields)


def env(*pairs: tuple[str, str]) -> SetEnvVars:
    return SetEnvVars(variables=pairs, escape="\\")


def copy(*sources: str, dest: str, **fields: Any) -> FromContext:
    return FromContext(escape="\\", context="", sources=sources, dest=dest, **fields)


def set_to(**fields: Any) -> Configure:
    return Configure(escape="\\", **fields)


READ: dict[str, tuple[str, list[Step]]] = {
    "comments, blank lines and spaces before an instruction": ("# a\n\n  # b\n  RUN c\n", [run("c")]),
    "instructions in any case": ("run a\nEnv B=c\n", [run("a"), env(("B", "c"))]),
    "Windows line ends": ("RUN a\r\nRUN b\r\n", [run("a"), run("b")]),
    "a return ends no line, and stays in a heredoc": (
        "RUN a\rb\r\nRUN <<E\r\nc\r\nE\r\nRUN d \\\r\n # why\r\n e\r\n",
        [run("a\rb"), run("c\r\n"), run("d  e")],
    ),
    "continued lines keep their spaces": ("RUN a && \\\n    b \\  \n  c\nRUN d", [run("a &&     b   c"), run("d")]),
    "comments and blank lines inside a continued one": ("RUN a \\\n# why\n\n  b\n", [run("a   b")]),
    "a number sign elsewhere is text": ("RUN echo a # b\n", [run("echo a # b")]),
    "the exec form": ('RUN ["echo", "a b", "$HOME"]', [run(words=("echo", "a b", "$HOME"))]),
    "broken JSON is the shell form": ('RUN ["a", ]', [run('["a", ]')]),
    "a heredoc is the text of the shell": ("RUN <<EOF\na\n\\b\nEOF\nRUN c", [run("a\n\\b\n"), run("c")]),
    "a heredoc with tabs": ("RUN <<-EOF\n\ta\n\t\tb\n\tEOF\n", [run("a\nb\n")]),
    "a heredoc with a first line is a script": (
        "RUN <<'EOF'\n#!/usr/bin/env python3\na\nEOF\n",
        [run("#!/usr/bin/env python3\na\n", is_script=True)],
    ),
    "a heredoc of a longer command": ("RUN cat > /x <<EOF\na\nEOF\n", [run("cat > /x <<EOF\na\nEOF")]),
    "a heredoc whose name has a space": ('RUN <<-"E O"\n\ta\n\tE O\nRUN b', [run("a\n"), run("b")]),
    "a heredoc in front of a program": ("RUN <<E sh\na\nE\n", [run("<<E sh\na\nE")]),
    "two heredocs": ("RUN cat <<A <<B\n1\nA\n2\nB\nRUN c", [run("cat <<A <<B\n1\nA\n2\nB"), run("c")]),
    "<< in quotes and <<< are not heredocs": ("RUN echo '<<EOF' <<< x\nRUN b", [run("echo '<<EOF' <<< x"), run("b")]),
    "mounts": (
        "RUN --mount=type=cache,id=p,target=/c,sharing=locked --mount=source=a,dst=b,ro --mount=type=tmpfs,target=/t a",
        [
            run(
                "a",
                mounts=(
                    RunMount(kind="cache", target="/c"),
                    RunMount(kind="bind", source="a", target="b"),
                    RunMount(kind="tmpfs", target="/t"),
                ),
            )
        ],
    ),
    "a mount without a target is at the working directory": (
        "RUN --mount=from=x,source=a --mount=type=CACHE,sharing=locked a",
        [run("a", mounts=(RunMount(kind="bind", source="a", stage="x", target=""), RunMount(kind="cache", target="")))],
    ),
    "a mount that can be written": (
        "RUN --mount=target=a,rw --mount=target=b,ro=false --mount=target=c,rw,ro --mount=target=d,readwrite=0 a",
        [run("a", mounts=tuple(RunMount(kind="bind", target=t, writable=t in "ab") for t in "abcd"))],
    ),
    "a secret by its source": (
        "RUN --mount=type=secret,src=tok,required=false a",
        [run("a", mounts=(RunMount(kind="secret", secret="tok", target="/run/secrets/tok"),))],
    ),
    "a secret": (
        "RUN --mount=type=secret,id=tok --mount=type=secret,id=n,env=NPM,required a",
        [
            run(
                "a",
                mounts=(
                    RunMount(kind="secret", secret="tok", target="/run/secrets/tok"),
                    RunMount(kind="secret", secret="n", target="", variable="NPM", required=True),
                ),
            )
        ],
    ),
    "what a later step names below /tmp is kept": (
        "RUN a > /tmp/x && b > /var/tmp/y.$V\nCOPY x /tmp/z/\nRUN cat /tmp/x '/var/tmp/y.1' /tmp/$V /x/tmp/w",
        [
            run("a > /tmp/x && b > /var/tmp/y.$V", keep=("/tmp/*", "/tmp/x", "/tmp/z", "/var/tmp/y.1")),
            copy("x", dest="/tmp/z/"),
            run("cat /tmp/x '/var/tmp/y.1' /tmp/$V /x/tmp/w"),
        ],
    ),
    "a place that a later step mounts something at is not kept": (
        "RUN a\nRUN --mount=type=cache,target=/tmp/pip b",
        [run("a"), run("b", mounts=(RunMount(kind="cache", target="/tmp/pip"),))],
    ),
    "klock's comments": (
        "# klock: leave-out=/etc/a /etc/b*\n# why\n# klock: keep-layer\nRUN a\nRUN b",
        [run("a", leave_out=("/etc/a", "/etc/b*"), keep_layer=True), run("b")],
    ),
    "klock's comments, in one line": (
        "# klock: leave-out=/a,b '/c d', private-urls=https://h/t*, force\nRUN a",
        [run("a", leave_out=("/a,b", "/c d"), private_urls=("https://h/t*",), force=True)],
    ),
    "ENV in both forms": (
        'ENV A=1 B="x y"\nENV C x  y="z"',
        [env(("A", "1"), ("B", '"x y"')), env(("C", 'x  y="z"'))],
    ),
    "ARG": (
        "ARG A B=c",
        [DeclareArguments(arguments=(Argument(name="A"), Argument(name="B", default="c")), escape="\\")],
    ),
    "WORKDIR, USER, SHELL": (
        'WORKDIR /a b\nUSER me:us\nSHELL ["/bin/bash", "-c"]',
        [SetWorkingDir(path="/a b", escape="\\"), set_to(user="me:us"), set_to(shell=("/bin/bash", "-c"))],
    ),
    "tabs behind a name": (
        "USER\tme\nWORKDIR\t /a b\nRUN\ta\tb\nSTOPSIGNAL\t9",
        [set_to(user="me"), SetWorkingDir(path="/a b", escape="\\"), run("a\tb"), set_to(stop_signal="9")],
    ),
    "CMD and ENTRYPOINT": (
        'CMD ["a", "b c"]\nENTRYPOINT ["d"]\nCMD e f',
        [set_to(command=("a", "b c")), set_to(entrypoint=("d",)), set_to(command=("e f",), in_shell=("command",))],
    ),
    "an ENTRYPOINT takes the base's CMD away": (
        "ENTRYPOINT a",
        [set_to(entrypoint=("a",), command=(), in_shell=("entrypoint",))],
    ),
    "an empty ENTRYPOINT": ("ENTRYPOINT []", [set_to(entrypoint=(), command=())]),
    "CMD, ENTRYPOINT and RUN with nothing behind them are commands that do nothing": (
        "CMD\nENTRYPOINT \nRUN\nRUN <<E\nE\n",
        [
            set_to(command=("",), in_shell=("command",)),
            set_to(entrypoint=("",), in_shell=("entrypoint",)),
            run(""),
            run(""),
        ],
    ),
    "LABEL, MAINTAINER, EXPOSE, VOLUME, STOPSIGNAL": (
        'LABEL a=b "c d"="e f"\nMAINTAINER me\nEXPOSE 80 90/udp\nVOLUME /a /b\nVOLUME ["/c d"]\nSTOPSIGNAL 9',
        [
            set_to(labels=(("a", "b"), ('"c d"', '"e f"'))),
            set_to(author="me"),
            set_to(ports=("80", "90/udp")),
            set_to(volumes=("/a", "/b")),
            set_to(volumes=("/c d",)),
            set_to(stop_signal="9"),
        ],
    ),
    "HEALTHCHECK": (
        'HEALTHCHECK --interval=1m30s --retries=2 CMD ["a"]\nHEALTHCHECK CMD a b\nHEALTHCHECK NONE',
        [
            set_to(health=HealthCheck(test=("CMD", "a"), interval=90 * 10**9, retries=2)),
            set_to(health=HealthCheck(test=("CMD-SHELL", "a b"))),
            set_to(health=HealthCheck(test=("NONE",))),
        ],
    ),
    "times and numbers as Go reads them": (
        "HEALTHCHECK --interval=+1.5h.5m1ms --timeout=0 --start-period= --start-interval=2s --retries=+3 CMD a",
        [
            set_to(
                health=HealthCheck(
                    test=("CMD-SHELL", "a"),
                    interval=5_430_001_000_000,
                    start_interval=2 * 10**9,
                    retries=3,
                )
            )
        ],
    ),
    "empty flags": ("COPY --chown= --chmod= a /b", [copy("a", dest="/b")]),
    "ONBUILD": ("ONBUILD RUN a", [set_to(on_build=("RUN a",))]),
    "heredocs in ONBUILD": (
        "ONBUILD COPY <<a <<-'b' /t/\nONBUILD RUN x\na\n\t$B\n\tb\n  onbuild run \\\n <<E\nc\nE\n"
        "RUN <<F\nONBUILD RUN d <<G\nF\nRUN e \\\nONBUILD RUN f",
        [
            set_to(on_build=("COPY <<a <<-'b' /t/\nONBUILD RUN x\na\n\t$B\nb",)),
            set_to(on_build=("run  <<E\nc\nE",)),
            run("ONBUILD RUN d <<G\n"),
            run("e ONBUILD RUN f"),
        ],
    ),
    "COPY's flags": (
        "COPY --chown=a:b --chmod=755 --link --exclude=*.md --exclude=x --parents a b /c/",
        [copy("a", "b", dest="/c/", owner="a:b", mode="755", exclude=("*.md", "x"), parents=True)],
    ),
    "COPY with spaces": ('COPY ["a b", "/c d/"]', [copy("a b", dest="/c d/")]),
    "ADD": (
        "ADD --checksum=sha256:00 https://h/x /y\nADD a.tar /z",
        [copy("https://h/x", dest="/y", unpacks=True, checksum="sha256:00"), copy("a.tar", dest="/z", unpacks=True)],
    ),
}


@pytest.mark.parametrize("case", READ)
def test_what_is_read(case: str, tmp_path: Path) -> None:
    text, expected = READ[case]
    assert steps(tmp_path, FROM + text) == expected


def test_directives_and_another_escape_character(tmp_path: Path) -> None:
    text = "# syntax=docker/dockerfile:1\n# check=skip=all\n# escape=`\nFROM x\nRUN a `\n b\nCOPY c:\\d /e\n"
    first, second = steps(tmp_path, text)
    assert isinstance(first, RunCommand) and isinstance(second, FromContext)
    assert (first.command, first.escape, second.sources) == ("a  b", "`", ("c:\\d",))


def test_steps_know_their_lines(tmp_path: Path) -> None:
    found = steps(tmp_path, "# a\nFROM b\nRUN c \\\n d\n\nRUN <<EOF\nEOF x\nEOF\nENV A=1\n")
    assert [s.location for s in found] == [Location(file=str(tmp_path / "Dockerfile"), line=n) for n in (3, 6, 9)]


# -- FROM, ARG before it, and stages


def base(folder: Path, text: str, **options: Any) -> str:
    (folder / "Dockerfile").write_text(text)
    return read_dockerfile(folder / "Dockerfile", **options).target.base


FROMS = {
    "ARG x=1\nFROM a:$x": "a:1",
    "ARG x\nFROM a:${x:-2}": "a:2",
    "ARG x=1\nARG y=${x}2\nFROM a:${y%2}": "a:1",
    "FROM --platform=$TARGETPLATFORM a-${TARGETARCH}": "a-amd64",
    "FROM --platform=$BUILDPLATFORM a AS b\nFROM b": "a",
    "FROM a AS Name\nRUN x\nFROM b\nFROM name": "a",
}


@pytest.mark.parametrize("text", FROMS)
def test_from(text: str, tmp_path: Path) -> None:
    assert base(tmp_path, text) == FROMS[text]


@pytest.mark.parametrize(
    ("text", "platform"),
    [
        ("FROM a", None),
        ("FROM --platform=$TARGETPLATFORM a", None),
        ("FROM a\nARG TARGETARCH\nENV A=$TARGETARCH", None),
        ("FROM a-${TARGETARCH}", "linux/amd64"),
        ("FROM --platform=linux/amd64 a", "linux/amd64"),
    ],
)
def test_a_platform_in_from_is_the_only_one_of_the_image(text: str, platform: str | None, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text(text)
    image = kt.Image.from_dockerfile(tmp_path / "Dockerfile")
    assert image.platform == platform
    context = memory_context(tmp_path)
    with pytest.raises(KlockError) as raised:
        lock_image(image, [Target.parse("linux/arm64")], previous=None, context=replace(context, offline=True))
    elsewhere = "FROM --platform=linux/amd64 is another platform than the image's" in raised.value.message
    assert elsewhere is ("linux/amd64" in text), "what follows from the platform is read for each"


def test_answers_of_a_stage_that_lapse_are_counted() -> None:
    request = LockedRequest(method="GET", url="http://h/x", status=200, size=7, sha256="1" * 64)
    step = ShellLock(command="x", layer=UNKNOWN_LAYER, requests=(request,))
    stage = StageLock(name="b", base=BASE, steps=(step,))
    lock = TargetLock(target=Target(), base=BASE, interpreter=None, steps=(), packages=(), stages=(stage,))
    assert lapsing(lock) == (1, 7)


def test_build_arguments(tmp_path: Path) -> None:
    text = "ARG V=1\nARG W=2\nFROM a:$V\nARG V\nARG W=3\nARG X\nARG Y=${X}\n"
    (tmp_path / "Dockerfile").write_text(text)
    read = read_dockerfile(
        tmp_path / "Dockerfile", build_args={"V": "9", "Z": "1", "HTTP_PROXY": "p", "BUILDKIT_X": "1"}
    )
    assert (read.target.base, read.unused_arguments) == ("a:9", ("Z",))
    first, second, third, _ = read.target.steps
    assert [first, second, third] == [
        DeclareArguments(arguments=(Argument(name="V", given="9"),), escape="\\"),
        DeclareArguments(arguments=(Argument(name="W", default="3"),), escape="\\"),
        DeclareArguments(arguments=(Argument(name="X"),), escape="\\"),
    ]


def test_a_stage_over_another_one_begins_with_its_steps(tmp_path: Path) -> None:
    text = "FROM a AS one\nRUN 1\nCMD x\nFROM b AS two\nRUN 2\nFROM one\nRUN 3\nENTRYPOINT y\n"
    assert [s.command for s in steps(tmp_path, text) if isinstance(s, RunCommand)] == ["1", "3"]
    assert [s.command for s in steps(tmp_path, text, stage="two") if isinstance(s, RunCommand)] == ["2"]
    assert [s.command for s in steps(tmp_path, text, stage="0") if isinstance(s, RunCommand)] == ["1"]
    *_, last = steps(tmp_path, text)
    assert isinstance(last, Configure) and last.command == (), "the CMD was another stage's"


def test_stages_of_one_name_are_told_apart(tmp_path: Path) -> None:
    text = (
        "FROM a AS x\nRUN 1\nFROM b AS mid\nCOPY --from=x /1 /1\nFROM c AS X\nRUN 2\nFROM d\n"
        "COPY --from=mid /1 /1\nCOPY --from=x /2 /2\nCOPY --from=0 /1 /3\n"
    )
    (tmp_path / "Dockerfile").write_text(text)
    read = read_dockerfile(tmp_path / "Dockerfile")
    assert [(stage.name, stage.base) for stage in read.stages] == [("0", "a"), ("mid", "b"), ("x", "c")]
    assert [s.stage for s in read.stages[1].steps if isinstance(s, FromContext)] == ["0"]
    assert [s.stage for s in read.target.steps if isinstance(s, FromContext)] == ["mid", "x", "0"]


def test_only_the_stages_that_are_needed_are_read(tmp_path: Path) -> None:
    text = (
        "FROM a AS one\nRUN 1\nFROM b AS two\nRUN 2\nFROM c\nCOPY --from=one /x /y\nFROM d\n"
        "COPY --from=2 /x /y\nRUN --mount=from=busybox:1,target=/m 3\n"
    )
    (tmp_path / "Dockerfile").write_text(text)
    read = read_dockerfile(tmp_path / "Dockerfile")
    assert [(stage.name, stage.base, len(stage.steps)) for stage in read.stages] == [
        ("busybox:1", "busybox:1", 0),
        ("one", "a", 1),
        ("2", "c", 1),
    ]
    assert [s.stage for s in read.target.steps if isinstance(s, FromContext)] == ["2"]
    image = kt.Image.from_dockerfile(tmp_path / "Dockerfile")
    assert [stage.name for stage in image.stages] == ["busybox:1", "one", "2"]


# -- what words become


EXPANDED: dict[str, tuple[str, StepLock | list[str]]] = {
    "an unset variable is empty": ("ENV P=/a:$UNSET", ["P=/a:"]),
    "modifiers": (
        "ENV A=x/y.z\n"
        "ENV B=${A:-1} C=${U:-1} D=${U-1} E=${EMPTY-1} F=${EMPTY:-1} G=${A:+1} H=${U+1} I=${A#*/} J=${A%.*}",
        ["A=x/y.z", "B=x/y.z", "C=1", "D=1", "E=", "F=1", "G=1", "H=", "I=y.z", "J=x/y"],
    ),
    "replacing": ("ENV A=foobarbaz\nENV B=${A/ba/X} C=${A//ba/X}", ["A=foobarbaz", "B=fooXrbaz", "C=fooXrXz"]),
    "a nested default": ("ENV A=${U:-${EMPTY:-/b}}", ["A=/b"]),
    "quotes and escapes": (
        r"""ENV A="x y" B='z' C=a\ b D= E="a\"b" F='a"b' G='$PATH' H=\$PATH I="\$PATH" J="$PATH" """,
        ["A=x y", "B=z", "C=a b", "D=", 'E=a"b', 'F=a"b', "G=$PATH", "H=$PATH", "I=$PATH", "J=/bin"],
    ),
    "the old form": ('ENV A b c=d "e"', ["A=b c=d e"]),
    "one ENV takes the values from before it": ("ENV A=1\nENV A=2 B=$A", ["A=1", "A=2", "B=1"]),
    "ARG and ENV, the later wins": (
        "ARG A=1\nENV B=$A\nENV A=2\nENV C=$A\nARG A=3\nENV D=$A",
        ["B=1", "A=2", "C=2", "D=3"],
    ),
    "HOME is not a variable of the build": ("ENV A=$HOME/x", ["A=/x"]),
    "the target's platform": ("ARG TARGETARCH\nENV A=$TARGETARCH", ["A=amd64"]),
}


@pytest.mark.parametrize("case", EXPANDED)
def test_variables_are_expanded(case: str, tmp_path: Path) -> None:
    text, expected = EXPANDED[case]
    locked = [step for step in drafts(tmp_path, text) if isinstance(step, EnvLock)]
    assert [f"{v.name}={v.value}" for step in locked for v in step.variables] == expected


def test_a_maintainer_is_the_author_as_it_is_written(tmp_path: Path) -> None:
    (step,) = drafts(tmp_path, 'MAINTAINER Conan O\'Brien "the $tall" <c@x.org>\n')
    assert isinstance(step, SettingsLock)
    assert (step.author, step.labels) == ('Conan O\'Brien "the $tall" <c@x.org>', ())


def test_a_backslash_escapes_in_heredocs_of_any_dockerfile(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("# escape=`\nFROM x\nARG A=1\nCOPY <<E /f\n\\$A `$A a\\\\b\nE\n")
    read = tuple(read_dockerfile(tmp_path / "Dockerfile").target.steps)
    *_, step = draft_steps(read, root=tmp_path, base=BASE, environ={})
    assert isinstance(step, CopyLock) and step.texts[0].content == "$A `1 a\\b\n"


def test_arguments_and_settings_are_expanded(tmp_path: Path) -> None:
    text = (
        "ENV D=/d P=80\nARG A=$P\nWORKDIR $D\nWORKDIR e/../f\nUSER ${U:-me}\nLABEL $A=$D\nEXPOSE $P 9$P/UDP\n"
        'VOLUME $D\nSTOPSIGNAL SIG${X:-INT}\nCMD echo $D\nSHELL ["/bin/ash", "-c"]\nENTRYPOINT echo\nHEALTHCHECK CMD a'
    )
    _, argument, *rest = drafts(tmp_path, text)
    assert isinstance(argument, ArgumentsLock) and argument.arguments[0].value == "80"
    assert [step.working_dir for step in rest if isinstance(step, WorkdirLock)] == ["/d", "/d/f"]
    settings = SettingsLock()
    for step in rest:
        settings = settings.then(step) if isinstance(step, SettingsLock) else settings
    assert (settings.user, settings.labels, settings.ports) == ("me", (("80", "/d"),), ("80/tcp", "980/udp"))
    assert (settings.volumes, settings.stop_signal) == (("/d",), "SIGINT")
    assert settings.command == ("/bin/sh", "-c", "echo $D"), "the shell of that moment, and the shell's variable"
    assert settings.entrypoint == ("/bin/ash", "-c", "echo")
    assert settings.health is not None and settings.health.test == ("CMD-SHELL", "a"), "the image's shell, at the end"


def test_an_absolute_working_directory_is_in_the_config_as_it_is_written(tmp_path: Path) -> None:
    text = "WORKDIR /app/\nWORKDIR $U\nWORKDIR /a/../b/./c//\nWORKDIR ./d/\nWORKDIR ${U}\nWORKDIR /app/\n"
    found = [step for step in drafts(tmp_path, text) if isinstance(step, WorkdirLock)]
    assert [(step.working_dir, step.written) for step in found] == [
        ("/app", "/app/"),
        ("/app", None),
        ("/b/c", "/a/../b/./c//"),
        ("/b/c/d", None),
        ("/b/c/d", None),
        ("/app", "/app/"),
    ]
    lock = TargetLock(target=Target(), base=BASE, interpreter=None, steps=tuple(found), packages=())
    assert (lock.working_dir, config_of(lock).working_dir) == ("/app", "/app/")


def test_each_port_of_a_range_is_exposed(tmp_path: Path) -> None:
    (step,) = drafts(tmp_path, "EXPOSE 80 8000-8002/UDP 127.0.0.1:1:90 5/sctp\n")
    assert isinstance(step, SettingsLock)
    assert step.ports == ("80/tcp", "8000/udp", "8001/udp", "8002/udp", "90/tcp", "5/sctp")


@pytest.mark.parametrize("name", ["SIGTERM", "quit", "9", "100", "SIGRTMIN+3", "RTMAX-14", "cld", "$S"])
def test_a_stop_signal(name: str, tmp_path: Path) -> None:
    _, step = drafts(tmp_path, f"ENV S=SIGINT\nSTOPSIGNAL {name}\n")
    assert isinstance(step, SettingsLock) and step.stop_signal == name.replace("$S", "SIGINT")


def test_steps_are_described(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    text = 'ARG A=1\nUSER me\nWORKDIR /w\nCOPY a <<EOF /b/\nEOF\nRUN ["x", "y z"]\nLABEL a=b\nENTRYPOINT ["e"]'
    assert [describe(step) for step in drafts(tmp_path, text)] == [
        "arg A",
        "user me",
        "workdir /w",
        "copy a, <<EOF -> /b",
        "run x 'y z'",
        "label a=b",
        'entrypoint ["e"]',
    ]


# -- what COPY and ADD copy


@pytest.fixture
def context(tmp_path: Path) -> Path:
    for name in ("a.py", "b.py", "src/c.txt", "src/sub/d.md", "src/sub/e.txt", ".git/x", "src/y.pyc", "photos/p.jpeg"):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).write_text(name)
    (tmp_path / "src/link").symlink_to("c.txt")
    return tmp_path


def copied(folder: Path, text: str) -> tuple[str, dict[str, str]]:
    """The destination, and by the path below it where in the context a file is; folders end in a slash."""
    *_, step = drafts(folder, text)
    assert isinstance(step, CopyLock)
    files = {f"{file.path}{'/' if file.is_folder else ''}": file.in_context for file in step.files}
    return step.destination, files


COPIES: dict[str, tuple[str, str, list[str]]] = {
    "a file": ("COPY a.py /x", "/x", [""]),
    "a file into a folder": ("COPY a.py /x/", "/x", ["a.py"]),
    "a relative destination": ("WORKDIR /w\nCOPY a.py .", "/w", ["a.py"]),
    "a path above the context is below it": ("COPY ../../a.py /x", "/x", [""]),
    "the contents of a folder": ("COPY src /x", "/x", ["/", "c.txt", "link", "sub/", "sub/d.md", "sub/e.txt"]),
    "all of it, but for what no checkout shares": (
        "COPY . /x",
        "/x",
        [
            *("/", "a.py", "b.py", "photos/", "photos/p.jpeg", "src/", "src/c.txt", "src/link", "src/sub/"),
            *("src/sub/d.md", "src/sub/e.txt", "Dockerfile"),
        ],
    ),
    "what is named is copied": ("COPY .git /x/", "/x", ["/", "x"]),
    "several, with wildcards": ("COPY *.py sr?/[ab-d]*.txt /x/", "/x", ["a.py", "b.py", "c.txt"]),
    "a wildcard that matches nothing": ("COPY a.py *.lock /x/", "/x", ["a.py"]),
    "a variable": ("ARG D=src\nCOPY $D/c.txt ${D:+/x/}", "/x", ["c.txt"]),
    "exclude": ("COPY --exclude=**/*.md --exclude=link src /x", "/x", ["/", "c.txt", "sub/", "sub/e.txt"]),
    "parents": ("COPY --parents src/sub/e.txt a.py /x", "/x", ["/", "a.py", "src/", "src/sub/", "src/sub/e.txt"]),
    "a class, which ^ negates": ("COPY [^b].py [!b].py /x/", "/x", ["a.py", "b.py"]),
    "a named file that is excluded": ("COPY --exclude=b.* a.py b.py /x/", "/x", ["a.py"]),
    "two stars are one without --parents": ("COPY **/e.txt src/**/e.txt /x/", "/x", ["e.txt"]),
    "two stars are any folders with it": (
        "COPY --parents **/*.md src/./**/e.txt b.py /x",
        "/x",
        ["/", "b.py", "src/", "src/sub/", "src/sub/d.md", "sub/", "sub/e.txt"],
    ),
    "parents behind a pivot": ("COPY --parents ./src/./sub /x/", "/x", ["/", "sub/", "sub/d.md", "sub/e.txt"]),
    "parents behind a wildcard": ("COPY --parents sr*/./sub/*.md /x/", "/x", ["/", "sub/", "sub/d.md"]),
    "parents of a link, which stays one": ("COPY --parents src/link /x/", "/x", ["/", "src/", "src/link"]),
    "parents of what nothing matches": ("COPY --parents *.lock /x/", "/x", ["/"]),
    "parents of all": ("COPY --parents src/./ /x/", "/x", ["/", "c.txt", "link", "sub/", "sub/d.md", "sub/e.txt"]),
    "parents of what copies leave out": ("COPY --parents .git/x /x/", "/x", ["/", ".git/", ".git/x"]),
    "parents without what is excluded below the root": (
        "COPY --parents --exclude=src/sub/d.md --exclude=e.txt src/sub /x/",
        "/x",
        ["/", "src/", "src/sub/", "src/sub/e.txt"],
    ),
    "parents without what is excluded below the pivot": (
        "COPY --parents --exclude=sub/d.md src/./sub /x/",
        "/x",
        ["/", "sub/", "sub/e.txt"],
    ),
    "parents of a named file that is excluded": (
        "COPY --parents --exclude=src/c.txt src/c.txt a.py /x/",
        "/x",
        ["/", "a.py"],
    ),
}


@pytest.mark.parametrize("case", COPIES)
def test_what_is_copied(case: str, context: Path) -> None:
    text, destination, paths = COPIES[case]
    found, files = copied(context, text)
    assert found == destination
    assert sorted(files) == sorted(paths)


@pytest.mark.parametrize(
    ("source", "what"),
    [
        ("src/nothing", "there is no src/nothing in the build context"),
        ("src/./nothing", "there is no src/nothing in the build context"),
        ("nothing/./x", "there is no nothing in the build context"),
        ("photos/p.jpeg", ".dockerignore leaves out photos/p.jpeg"),
        ("here/c.txt", "here is a symlink, and --parents follows none"),
    ],
)
def test_parents_of_what_is_not_there(source: str, what: str, context: Path) -> None:
    (context / "here").symlink_to("src")
    (context / ".dockerignore").write_text("photos\n")
    with pytest.raises(ImageError, match=re.escape(f"step 1 (Dockerfile:2): {what}")):
        copied(context, f"COPY --parents a.py {source} /x/")
    assert "sub/d.md" in copied(context, "COPY --parents here/./sub /x/")[1], "a pivot may be a symlink"


@pytest.mark.parametrize(
    ("source", "hint"),
    [
        ("src/C.txt", "did you mean src/c.txt?"),
        ("--parents sr/c.txt", "did you mean src/c.txt?"),
        ("src/sub/else", "check the path: it begins at the build context, which --context names"),
        ("srv/zzz", "check the path: it begins at the build context, which --context names"),
        ("../zzz", "a source cannot be above the build context: take a higher one, as in --context .."),
        ("/etc/passwd", "a source begins at the build context, even after a slash: copy it there, or name its folder"),
        ("--parents src/../../zzz", "a source cannot be above the build context"),
        ("--parents src/./C.txt", "did you mean src/c.txt?"),
        ("..zzz", "check the path: it begins at the build context, which --context names"),
        ("z" * 300, "check the path: it begins at the build context, which --context names"),
        (f"--parents {'z' * 300}/./{'z' * 300}/z", "check the path"),
    ],
)
def test_what_was_meant_by_a_source_that_is_not_there(source: str, hint: str, context: Path) -> None:
    with pytest.raises(ImageError, match="there is no ") as caught:
        copied(context, f"COPY {source} /x/")
    assert caught.value.hint and caught.value.hint.startswith(hint)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ('ENV A="b', "close it, or write \\ before a quote that is part of the text"),
        ("ENV A=${B", "close the variable: ${NAME}"),
    ],
)
def test_the_way_out_of_a_broken_value(text: str, hint: str, context: Path) -> None:
    with pytest.raises(KlockError) as caught:
        drafts(context, text)
    assert caught.value.hint == hint


def test_a_dockerfile_in_utf_16(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_bytes("FROM x\n".encode("utf-16"))
    with pytest.raises(ImageError, match=r"^Dockerfile is written in UTF-16$"):
        kt.Image.from_dockerfile(tmp_path / "Dockerfile")


IGNORED: dict[str, tuple[str, list[str]]] = {
    "an exception": ("*\n!photos/*.jpeg", ["photos/", "photos/p.jpeg"]),
    "the last line decides": ("!a.py\n*.py\n!b.py\n# c\n\n", ["a.py"]),
    "a folder with all below it": ("/src/\nphotos", ["photos/", "photos/p.jpeg", "src/", "src/c.txt"]),
    "two stars": ("**/*.md\n", ["src/sub/d.md"]),
}


@pytest.mark.parametrize("name", [".dockerignore", "Dockerfile.dockerignore"])
def test_dockerignore(name: str, context: Path) -> None:
    every = set(copied(context, "COPY . /x")[1])
    (context / name).write_text("*\n!photos/*.jpeg")
    assert set(copied(context, "COPY . /x")[1]) == {"/", "photos/", "photos/p.jpeg"}
    (context / name).write_text("# c\n!a.py\n*.py\n!b.py\n/src/sub/\nphotos\n**/c.txt\n")
    left_out = {"a.py", "photos/", "photos/p.jpeg", "src/sub/", "src/sub/d.md", "src/sub/e.txt", "src/c.txt"}
    assert set(copied(context, "COPY . /x")[1]) == (every - left_out) | {name}
    (context / "a\fb").touch()
    (context / name).write_text("a\fb\r\n")
    assert set(copied(context, "COPY . /x")[1]) == {*every, name}, "a line ends in a newline alone"
    (context / "a\fb").unlink()
    (context / name).write_text("a.py\n")
    with pytest.raises(ImageError, match=rf"^step 1 \(Dockerfile:2\): {name} leaves out a.py$"):
        copied(context, "COPY a.py /x")
    (context / ".dockerignore").write_text("b.py")
    (context / "Dockerfile.dockerignore").write_text("a.py")
    assert "b.py" in copied(context, "COPY . /x")[1], "the Dockerfile's own file wins"


NOWHERE = {
    "a link to a file that is not there": "nowhere",
    "a link out of the context": "../../../../etc/passwd",
    "a link to a file that is ignored": "a.py",
}


@pytest.mark.parametrize("case", NOWHERE)
@pytest.mark.parametrize("source", ["ln/up", "ln/u*"])
def test_a_symlink_to_what_the_context_does_not_hold(case: str, source: str, context: Path) -> None:
    (context / "ln").mkdir()
    (context / "ln/up").symlink_to(f"../{NOWHERE[case]}")
    (context / ".dockerignore").write_text("a.py\n")
    with pytest.raises(ImageError, match=r": ln/up is a symlink to what is not in the build context$"):
        copied(context, f"COPY {source} /x/")
    assert "up" in copied(context, "COPY ln /x")[1], "in a folder it stays a symlink"


def test_symlinks_of_the_context_start_at_the_context(context: Path) -> None:
    (context / "absolute").symlink_to("/src")
    assert set(copied(context, "COPY absolute/*.txt /x/")[1]) == {"c.txt"}
    assert set(copied(context, "COPY absolute /x/")[1]) == {"/", "c.txt", "link", "sub/", "sub/d.md", "sub/e.txt"}
    assert set(copied(context, "COPY src/l* /x/")[1]) == {"link"}, "a file that a wildcard finds by a link"
    (context / "here").symlink_to("src")
    assert copied(context, "COPY h*/c.txt *e/c.txt /x/")[1] == {}, "a wildcard goes into no symlink"
    assert set(copied(context, "COPY here/s*/*.md /x/")[1]) == {"d.md"}


@pytest.mark.filterwarnings("error")
def test_a_bracket_in_a_pattern_is_no_warning_of_python(context: Path) -> None:
    (context / "br[a").touch()
    (context / ".dockerignore").write_text("src/br[[]a\n")
    assert set(copied(context, "COPY --parents --exclude=[[]x br[[]a /x/")[1]) == {"/", "br[a"}


def test_an_ignored_folder_of_which_nothing_comes_back(context: Path) -> None:
    (context / ".dockerignore").write_text("src\n!src/*.nothing\n")
    with pytest.raises(ImageError, match=r": .dockerignore leaves out src$"):
        copied(context, "COPY src /x/")


def test_what_a_single_file_is_called_in_a_folder_that_is_there(context: Path) -> None:
    *_, first = drafts(context, "COPY src/c.txt a.py <<conf <<EOF /x\n1\nconf\n2\nEOF\n")
    assert isinstance(first, CopyLock)
    assert [(file.path, file.own_name) for file in first.files] == [("", "a.py"), ("", "c.txt")]
    assert [(text.path, text.own_name) for text in first.texts] == [("", "conf"), ("", "EOF")]
    *_, second = drafts(context, "COPY src/c.txt src/../src/c.txt /x")
    assert isinstance(second, CopyLock) and len(second.files) == 1, "of two with one name the later one is there"


def test_what_layers_leave_out_of_a_stage_is_told(tmp_path: Path) -> None:
    text = (
        "FROM y AS b\nFROM x\nCOPY --from=b /root/.cache/pip /p\nCOPY --from=b /tmp/x /srv /d/\n"
        "COPY --from=b:1 /root/.npm /n\nCOPY --from=b run/y /y\n"
    )
    notes: list[str] = []
    draft_steps(tuple(steps(tmp_path, text)), root=tmp_path, base=BASE, environ={}, notes=notes)
    assert notes == [
        "Dockerfile:3 copies /root/.cache/pip of a stage, and layers leave out what is in it, as docs/layers.md says",
        "Dockerfile:6 copies /run/y of a stage, and layers leave out what is in it, as docs/layers.md says",
    ]


def test_modes_owners_and_texts(context: Path) -> None:
    (context / "src/c.txt").chmod(0o640)
    (context / "a.py").chmod(0o700)
    text = (
        "ARG A=b\nCOPY --chown=$A:1 --chmod=u=rwX,go=rX,g-x src a.py <<EOF <<'E2' /x/\nhi $A \\$A \"q\"\nEOF\n$A\nE2\n"
    )
    *_, step = drafts(context, text)
    assert isinstance(step, CopyLock)
    modes = {file.path: oct(file.mode) for file in step.files}
    assert (modes["c.txt"], modes["a.py"], modes["sub"], modes["link"]) == ("0o644", "0o745", "0o745", "0o777")
    assert modes[""] == "0o755", "letters change nothing of a folder that is there, or is made"
    *_, octal = drafts(context, "COPY --chmod=4700 src /x/")
    assert isinstance(octal, CopyLock)
    assert {file.path: oct(file.mode) for file in octal.files if file.is_folder} == {"": "0o700", "sub": "0o4700"}
    assert step.owner == "b:1"
    assert [(t.path, t.content) for t in step.texts] == [("EOF", 'hi b $A "q"\n'), ("E2", "$A\n")]
    *_, plain = drafts(context, "COPY src a.py /x/")
    assert isinstance(plain, CopyLock)
    assert {oct(file.mode) for file in plain.files} == {"0o644", "0o755", "0o777"}, "a checkout's umask is not locked"


def test_add_knows_archives_by_their_content(context: Path) -> None:
    with tarfile.open(context / "plain", "w") as archive:
        archive.add(context / "a.py", "a.py")
    tar = (context / "plain").read_bytes()
    archives = {"gz": gzip.compress(tar), "bz2": bz2.compress(tar), "xz": lzma.compress(tar)}
    archives["zst"] = zstandard.compress(tar)
    others = {"text": b"text", "empty": b"", "zeros": bytes(10240), "text.gz": gzip.compress(b"a")}
    others |= {"text.zst": zstandard.compress(b"a"), "cut": tar[:100], "cut.zst": archives["zst"][:20]}
    for name, content in {**archives, **others}.items():
        (context / name).write_bytes(content)
    *_, step = drafts(context, f"ADD plain {' '.join((*archives, *others))} /y/")
    assert isinstance(step, CopyLock)
    assert {file.in_context for file in step.files if file.archive} == {"plain", *archives}
    assert {file.path for file in step.files if not file.archive} == {*others}
    *_, step = drafts(context, "ADD zst a.py plain gz /y/")
    assert isinstance(step, CopyLock)
    assert [file.in_context for file in step.files] == ["zst", "plain", "gz", "a.py"], "the later archive wins"


def test_the_image_of_podman_and_docker_starts_as_the_dockerfile_says(tmp_path: Path) -> None:
    text = (
        'LABEL a=b\nEXPOSE 80\nVOLUME /v\nSTOPSIGNAL 9\nSHELL ["/bin/ash", "-c"]\nONBUILD RUN x\n'
        'HEALTHCHECK --interval=1s --retries=2 CMD ["t"]\nUSER me\nWORKDIR /w\nENTRYPOINT ["e"]\nCMD c'
    )
    lock = TargetLock(target=Target(), base=BASE, interpreter=None, steps=tuple(drafts(tmp_path, text)), packages=())
    config = json.loads(image_config(config_of(lock), {"org.klock": "1"}, []))["config"]
    assert config == {
        "Cmd": ["/bin/ash", "-c", "c"],
        "Entrypoint": ["e"],
        "Env": ["HOME=/root", "PATH=/bin", "EMPTY="],
        "ExposedPorts": {"80/tcp": {}},
        "Healthcheck": {"Test": ["CMD", "t"], "Interval": 10**9, "Retries": 2},
        "Labels": {"a": "b", "org.klock": "1"},
        "OnBuild": ["RUN x"],
        "Shell": ["/bin/ash", "-c"],
        "StopSignal": "9",
        "User": "me",
        "Volumes": {"/v": {}},
        "WorkingDir": "/w",
    }
    plain = json.loads(image_config(config_of(replace(lock, steps=())), {}, []))["config"]
    assert (plain["Cmd"], plain["WorkingDir"], plain["User"]) == (["/bin/sh"], "/", "")


# -- what is refused


REFUSED = {
    "no FROM": ("RUN a", "Dockerfile has no FROM"),
    "something before FROM": ("RUN a\nFROM x", "Dockerfile:1: RUN is before FROM"),
    "an unknown instruction": ("FROM x\n\nFOO a", "Dockerfile:3: unknown instruction: FOO"),
    "FROM of nothing": ("FROM $X", "Dockerfile:1: FROM $X is empty: its variable is not set"),
    "FROM with more": ("FROM a b", "Dockerfile:1: FROM takes an image, and perhaps AS and a name"),
    "FROM for another platform": (
        "FROM --platform=linux/arm64 a",
        "Dockerfile:1: FROM --platform=linux/arm64 is another platform than the image's, linux/amd64",
    ),
    "an unknown flag": ("FROM x\nCOPY --foo a b", "Dockerfile:2: COPY has no flag --foo"),
    "ssh": (
        "FROM x\nRUN --mount=type=ssh a",
        "Dockerfile:2: klock cannot lock what a step fetches over ssh (--mount=type=ssh)",
    ),
    "a device": (
        "FROM x\nRUN --device=nvidia.com/gpu=all a",
        "Dockerfile:2: a step sees no device (--device=nvidia.com/gpu=all): what it makes would depend on the machine",
    ),
    "more rights": (
        "FROM x\nRUN --security=insecure a",
        "Dockerfile:2: RUN --security=insecure needs more rights than a step has",
    ),
    "a mount's sharing": (
        "FROM x\nRUN --mount=type=cache,target=/c,sharing=all a",
        "Dockerfile:2: --mount: there is no sharing=all",
    ),
    "a mount's switch": (
        "FROM x\nRUN --mount=target=/c,rw=yes a",
        "Dockerfile:2: --mount: readwrite=yes is neither true nor false",
    ),
    "a bind mount's owner": (
        "FROM x\nRUN --mount=target=/c,uid=1 a",
        "Dockerfile:2: --mount: a mount of type bind has no 'uid'",
    ),
    "a heredoc without an end": ("FROM x\nRUN <<EOF\nb\n", "Dockerfile:2: unterminated heredoc"),
    "an empty command": ("FROM x\nRUN []\n", "Dockerfile:2: RUN has an empty command"),
    "a switch's value": ("FROM x\nCOPY --link=1 a b", "Dockerfile:2: --link=1 is neither true nor false"),
    "FROM with a gap": ("FROM debian:$TAG", "Dockerfile:1: FROM debian:$TAG is 'debian:': its variable is not set"),
    "FROM with a gap in front": ("FROM ${R}/a", "Dockerfile:1: FROM ${R}/a is '/a': its variable is not set"),
    "an empty platform": (
        "FROM --platform=$NOPE x",
        "Dockerfile:1: FROM --platform=$NOPE is empty: its variable is not set",
    ),
    "an empty switch": ("FROM x\nCOPY --link= a b", "Dockerfile:2: --link= is neither true nor false"),
    "too short a time": (
        "FROM x\nHEALTHCHECK --timeout=999us CMD a",
        "Dockerfile:2: --timeout=999us is shorter than 1ms",
    ),
    "a time that goes back": (
        "FROM x\nHEALTHCHECK --timeout=-5s CMD a",
        "Dockerfile:2: --timeout=-5s is not a duration",
    ),
    "an empty volume": ('FROM x\nVOLUME ["/a", " "]', "Dockerfile:2: VOLUME has an empty path"),
    "ENV without =": (
        "FROM x\nENV A=1 B",
        'Dockerfile:2: Syntax error - can\'t find = in "B". Must be of the form: name=value',
    ),
    "SHELL without JSON": ("FROM x\nSHELL /bin/sh -c", "Dockerfile:2: SHELL takes the JSON form only"),
    "COPY with one path": ("FROM x\nCOPY a", "Dockerfile:2: COPY needs a source and a destination"),
    "JSON of numbers": ("FROM x\nCMD [1]", "Dockerfile:2: Only strings are supported in JSON arrays"),
    "a comment that klock does not know": (
        "FROM x\n# klock: keep-layers\nRUN a",
        "Dockerfile:2: klock does not know keep-layers",
    ),
    "a comment with a quote that does not end": (
        "FROM x\n# klock: leave-out='/a\nRUN a",
        "Dockerfile:3: `# klock: leave-out`: No closing quotation",
    ),
    "a comment with what is no URL": (
        "FROM x\n# klock: private-urls=/a\nRUN a",
        "# klock: private-urls has '/a', which is not the pattern of a URL without credentials",
    ),
    "comments that exclude each other": (
        "FROM x\n# klock: force\n# klock: keep-layer\nRUN a",
        "Dockerfile:4: force runs it at every sync, keep-layer at none",
    ),
    "a comment in the wrong place": (
        "FROM x\n# klock: keep-layer\nENV A=1",
        "Dockerfile:3: `# klock: keep-layer` is above ENV",
    ),
    "a stage that comes later": (
        "FROM x AS a\nCOPY --from=y a b\nFROM x AS y\nFROM a",
        "Dockerfile:2: there is no earlier stage 'y'",
    ),
    "a variable as the origin": ("FROM x\nCOPY --from=$y a b", "Dockerfile:2: docker takes no variable in from=$y"),
    "ONBUILD of what is not an instruction": (
        "FROM x\n\nONBUILD RAN a",
        "Dockerfile:3: ONBUILD unknown instruction: RAN",
    ),
    "ONBUILD of ONBUILD": ("FROM x\nONBUILD ONBUILD RUN a", "Dockerfile:2: ONBUILD cannot hold ONBUILD"),
    "two escapes": ("# escape=`\n# escape=`\nFROM x", "Dockerfile:2: only one escape parser directive can be used"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused(case: str, tmp_path: Path) -> None:
    text, message = REFUSED[case]
    with pytest.raises(ImageError) as caught:
        steps(tmp_path, text)
    assert caught.value.message == message
    assert caught.value.hint
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("FROM x\nRUM a", "did you mean RUN?"),
        ("FROM x\nENTRYPIONT a", "did you mean ENTRYPOINT?"),
        ("FROM x\nRUN a &&\n  ls -l", "if it belongs to the line above, end that one in a backslash"),
        (
            "FROM x\nRUN <<EOF\na\n EOF\n",
            "end it with a line that holds nothing but its name; after <<-NAME, tabs may stand before it",
        ),
        ("FROM debian bookworm", "write FROM debian AS bookworm for a name, or debian:bookworm for a tag"),
        ("FROM debian: bookworm", "write FROM debian AS bookworm for a name, or debian:bookworm for a tag"),
        ("FROM debian:12 build", "write FROM debian:12 AS build"),
        ("FROM debian:12 BUILD as x y", "write FROM python:3.12 AS name"),
        ("FROM x\nRUN --mount=cache,target=/x y", "write type=cache"),
        ("FROM x\nRUN --mount=type=cahce,target=/x y", "did you mean cache?"),
        ("FROM x\nRUN --mount=type=cache,taget=/x y", "did you mean target?"),
        ("FROM x\nCOPY --chown a:b c /d", "write --chown=VALUE, with no space"),
        ("FROM x\nHEALTHCHECK curl localhost", "write HEALTHCHECK CMD curl localhost"),
        ("FROM x\nHEALTHCHECK NONE x", "write HEALTHCHECK NONE"),
        ("FROM x\nLABEL x", "write LABEL NAME=value"),
        ("FROM x\nENV A=1 B", "write NAME=value for each; quote a value that has spaces"),
    ],
)
def test_a_mistake_and_the_way_out(text: str, hint: str, tmp_path: Path) -> None:
    with pytest.raises(ImageError) as caught:
        steps(tmp_path, text)
    assert caught.value.hint == hint


def test_what_a_dockerfile_can_do_instead(tmp_path: Path) -> None:
    with pytest.raises(KlockError) as caught:
        drafts(tmp_path, "USER me:us\nRUN sudo make")
    assert caught.value.hint == "write USER root above it, and USER me:us below it"
    with pytest.raises(KlockError) as caught:
        drafts(tmp_path, "ENV A_TOKEN=ghp_abcdefghijklmnopqrstuvwxyz0123456789")
    assert caught.value.hint == (
        "in a RUN use --mount=type=secret,id=github-token; elsewhere write ARG GITHUB_TOKEN, and lock "
        "with --build-arg GITHUB_TOKEN: the lockfile then only names your variable"
    )


def test_a_credential_as_a_build_argument(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM x\nARG GH\n")
    image = kt.Image.from_dockerfile(
        tmp_path / "Dockerfile", build_args={"GH": "ghp_abcdefghijklmnopqrstuvwxyz0123456789"}
    )
    with pytest.raises(ImageError, match=r"^build argument GH: the value of GH has a credential written") as caught:
        draft_image(image, {})
    assert caught.value.hint == "set the variable GH of your shell to it, and give --build-arg GH without a value"


LIST = "is not a JSON list, so the shell runs it; such a list needs double quotes, commas and both brackets"
LIKELY_MISTAKES = {
    "COPY --from=biuld /x /y": ["Dockerfile:2: no stage is named biuld, so it is an image; did you mean build?"],
    "RUN --mount=from=buidl,target=/x y": [
        "Dockerfile:2: no stage is named buidl, so it is an image; did you mean build?"
    ],
    "COPY --from=build:1 /x /y": [],
    "COPY --from=busybox /x /y": [],
    "CMD ['a', 'b']": [f"Dockerfile:2: ['a', 'b'] {LIST}"],
    'ENTRYPOINT ["a", "b"': [f'Dockerfile:2: ["a", "b" {LIST}'],
    'CMD ["a", "b"]': [],
    "RUN [ -f /x ]": [],
    "ENV A = b": ["Dockerfile:2: A is '= b', with the equals sign; write A=... without spaces"],
    "ENV A b=c": [],
    "ENV A=b C=": [],
}


@pytest.mark.parametrize("text", LIKELY_MISTAKES)
def test_likely_mistakes(text: str, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text(f"FROM y AS build\n{text}\n")
    dockerfile = kt.Image.from_dockerfile(tmp_path / "Dockerfile")._dockerfile
    assert dockerfile is not None and list(dockerfile.notes) == LIKELY_MISTAKES[text]


def test_a_number_after_from_is_an_image(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM x AS one\nRUN a\nFROM 0\nCOPY --from=0 /a /a\n")
    image = kt.Image.from_dockerfile(tmp_path / "Dockerfile")
    assert image.base == RegistryBase(reference="0", keeps_settings=True)
    assert [stage.name for stage in image.stages] == ["one"], "after --from= it is a stage"


DOCUMENTED = re.findall(r"^\| (`.+`) \| (.+) \| (.+) \|$", REFUSALS, re.MULTILINE)


@pytest.mark.parametrize(("lines", "message", "hint"), DOCUMENTED)
def test_the_documented_refusals(lines: str, message: str, hint: str, tmp_path: Path) -> None:
    """The table of docs/dockerfile.md has each message and each way out word for word."""
    assert len(DOCUMENTED) > 5
    text = "\n".join(re.findall(r"`([^`]+)`", lines))
    text = text if text.startswith("FROM") else FROM + text
    with pytest.raises(KlockError) as caught:
        draft_steps(tuple(steps(tmp_path, text)), root=tmp_path, base=BASE, environ={})
    said = re.sub(r"^(?:step \d+ \()?Dockerfile:\d+\)?: ", "", caught.value.message)
    assert (said, caught.value.hint) == (message.replace("`", ""), hint.replace("`", ""))


NOT_DRAFTED = {
    "no pattern": ("COPY [a- /x/", r"\[a- is not a pattern: a class has no end"),
    "a port's name": ("EXPOSE http", r"EXPOSE http is not a port"),
    "a range that goes down": ("EXPOSE 9-8", r"EXPOSE 9-8 is not a port"),
    "a port too high": ("EXPOSE 65536", r"EXPOSE 65536 is not a port"),
    "a protocol": ("EXPOSE 80/http", r"EXPOSE 80/http is not a port"),
    "a signal": ("STOPSIGNAL SIGFOO", r"STOPSIGNAL SIGFOO is not a signal"),
    "the number of no signal": ("STOPSIGNAL 0", r"STOPSIGNAL 0 is not a signal"),
    "a real-time signal that is none": ("STOPSIGNAL RTMIN+16", r"STOPSIGNAL RTMIN\+16 is not a signal"),
    "an empty path of a volume": ("VOLUME $U", r"VOLUME \$U is empty: its variable is not set"),
    "a mount over everything": ("RUN --mount=from=y a", r"--mount=type=bind would hide the whole environment"),
    "a file that is not there": ("COPY nowhere /x", r"there is no nowhere in the build context "),
    "a bad substitution": ("ENV A=${", r"cannot expand '\$\{': "),
    "a required variable": ("ENV A=${U:?unset}", r"cannot expand '\$\{U:\?unset\}': U: unset"),
    "a variable that must be there": ("ENV A=${U?}", r"cannot expand '\$\{U\?\}': U: is not allowed to be unset"),
    "git://": ("ADD git://h/x.git /y", r"nothing protects git://, so klock does not use it: git://h/x.git"),
    "a commit that is none": ("ADD --checksum=abc https://h/x.git /y", r"--checksum=abc is not a commit"),
    "a checksum for two": ("ADD --checksum=sha256:0 https://h/x https://h/y /z/", r"--checksum is for one URL, or one"),
    "a checksum of a file": ("ADD --checksum=sha256:0 a.py /z/", r"--checksum is for one URL, or one git repository"),
    "a token in a git URL": (
        "ADD https://x:ghp_abcdefghijklmnopqrstuvwxyz0123456789@h/x.git /y",
        r"has a credential written into it",
    ),
    "a URL for COPY": ("COPY https://h/x /y", r"COPY takes no URL"),
    "a mode": ("COPY --chmod=rwx a.py /y", r"--chmod=rwx is not a mode"),
    "sudo of a user": ("USER me\nRUN sudo make", r"sudo cannot make the step root"),
    "a credential": ("ENV A_TOKEN=ghp_abcdefghijklmnopqrstuvwxyz0123456789", r"has a credential written into it"),
}


@pytest.mark.parametrize("case", NOT_DRAFTED)
def test_what_cannot_be_locked(case: str, context: Path) -> None:
    text, message = NOT_DRAFTED[case]
    with pytest.raises(KlockError, match=rf"^step \d \(Dockerfile:\d\): .*{message}"):
        drafts(context, text)


def test_a_stage_of_another_platform_that_nobody_needs(tmp_path: Path) -> None:
    """As where a file has a stage for each platform, and takes one of them by its name."""
    text = (
        "FROM --platform=linux/amd64 a AS on-amd64\nRUN 1\nFROM --platform=linux/arm64 b AS on-arm64\nRUN 2\n"
        "FROM on-$TARGETARCH\nRUN 3\n"
    )
    assert steps(tmp_path, text) == [run("1"), run("3")]
    assert steps(tmp_path, text, platform="linux/arm64") == [run("2"), run("3")]
    assert read_dockerfile(tmp_path / "Dockerfile").platform == "linux/amd64"
    with pytest.raises(ImageError, match=r"^Dockerfile:3: FROM --platform=linux/arm64 is another platform"):
        steps(tmp_path, text, stage="on-arm64")


def test_what_a_later_run_may_find_in_its_working_directory(tmp_path: Path) -> None:
    text = "FROM x\nWORKDIR /tmp/w\nWORKDIR x\nRUN a\nRUN b\nWORKDIR /tmp\nRUN c\nUSER u\nRUN d\nWORKDIR /srv\n"
    kept = {step.command: step.keep for step in steps(tmp_path, text) if isinstance(step, RunCommand)}
    assert kept == {"a": ("/tmp/w",), "b": ("/tmp/w",), "c": ("/tmp/*",), "d": ()}


HANDED_ON = {
    "to a COPY of another stage": ("RUN a\nFROM y\nCOPY --from=0 /tmp/out/x tmp/b /x /d/", ("/tmp/b", "/tmp/out")),
    "to a mount of another stage": (
        "RUN a\nFROM y\nRUN --mount=from=0,source=/tmp/.flags,target=/tmp/.flags --mount=src=/var/tmp/y,from=0 b",
        ("/tmp/.flags", "/var/tmp/y"),
    ),
    "all of it": ("RUN a\nFROM y\nCOPY --from=0 /tmp/ /x/", ("/tmp/*",)),
    "not from another stage": ("RUN a\nFROM y AS b\nFROM z\nCOPY --from=b /tmp/out /x\nRUN cat /tmp/y", ()),
    "to a stage that begins with it": ("RUN a\nFROM first AS b\nFROM b\nRUN cat /tmp/x", ("/tmp/x",)),
    "to what takes it from such a stage": ("RUN a\nFROM first AS b\nFROM z\nCOPY --from=b /tmp/x /x", ("/tmp/x",)),
    "to a stage that goes on where it ended": ("WORKDIR /tmp/w\nRUN a\nFROM first\nRUN b", ("/tmp/w",)),
    "by a variable": ("ARG D=/tmp/d\nENV E=$D/e\nRUN a\nRUN make -C ${E}\nCOPY x $D/y", ("/tmp/d",)),
    "by a variable of another stage": ("RUN a\nFROM y\nARG D=/tmp/d\nCOPY --from=first ${D}/x /x", ("/tmp/d",)),
    "by a command that goes there": (
        "RUN a\nRUN cd /tmp && tar xf y.tgz && cd y && ./configure --with-z=a.b && make install\n"
        "RUN cd /var/tmp/; dpkg -i *.deb; wget https://h/q.txt",
        ("/tmp/a.b", "/tmp/configure", "/tmp/y", "/tmp/y.tgz", "/var/tmp/*.deb"),
    ),
    "only to be removed": ("RUN a\nRUN b && rm -rf /tmp/* /var/tmp/x && rm -r -f /tmp/z; rm --force /tmp/y", ()),
    "to be removed if it is there": ("RUN a\nRUN rm /tmp/x", ("/tmp/x",)),
    "to a command beside a removal": ("RUN a\nRUN rm -rf /tmp/x; cat /tmp/y", ("/tmp/y",)),
}


@pytest.mark.parametrize("case", HANDED_ON)
def test_what_of_tmp_is_handed_on(case: str, tmp_path: Path) -> None:
    text, kept = HANDED_ON[case]
    found = steps(tmp_path, f"FROM x AS first\n{text}\n", stage="first")
    assert [step.keep for step in found if isinstance(step, RunCommand) and step.command == "a"] == [kept]


def test_a_run_without_network(tmp_path: Path) -> None:
    assert steps(tmp_path, "FROM x\nRUN --network=none a\n") == [run("a", without_network=True)]
    assert steps(tmp_path, "FROM x\nRUN --network=host a\n") == [run("a")]
    with pytest.raises(ImageError, match=r"^Dockerfile:2: --network=mine is not a network"):
        steps(tmp_path, "FROM x\nRUN --network=mine a\n")


# -- ONBUILD


def test_the_triggers_of_a_base_are_the_first_steps(tmp_path: Path) -> None:
    triggers = {"x": ("COPY . /src", "RUN make", "ENV A=1"), "y": ("RUN never",)}
    read = steps(tmp_path, "FROM x\nRUN b\n", triggers=triggers)
    assert read == [copy(".", dest="/src"), run("make"), env(("A", "1")), run("b")]
    assert {step.location.line for step in read[:3] if step.location} == {1}, "they stand where FROM does"


def test_the_triggers_of_a_stage_are_for_those_who_begin_with_it_alone(tmp_path: Path) -> None:
    text = "FROM x AS a\nRUN a\nONBUILD RUN t\nFROM a AS b\nRUN b\nONBUILD RUN u\nFROM b\nRUN c\n"
    assert steps(tmp_path, text) == [run("a"), run("t"), run("b"), run("u"), run("c")]
    assert steps(tmp_path, text, stage="b") == [run("a"), run("t"), run("b"), set_to(on_build=("RUN u",))]


def test_a_stage_and_heredocs_in_one_copy(tmp_path: Path) -> None:
    text = "ARG A=1\nCOPY --from=y /f <<E <<'F' /t/\n$A\nE\n$A\nF\n"
    *_, step = drafts(tmp_path, text)
    assert isinstance(step, CopyLock)
    assert (step.stage, step.sources, step.files) == ("y", ("/f",), ())
    assert [(each.path, each.content) for each in step.texts] == [("E", "1\n"), ("F", "$A\n")]


def test_a_trigger_takes_files_from_a_stage(tmp_path: Path) -> None:
    text = "FROM x AS tools\nRUN a\nFROM x AS base\nONBUILD COPY --from=tools /t /t\nFROM base\n"
    (tmp_path / "Dockerfile").write_text(text)
    read = read_dockerfile(tmp_path / "Dockerfile")
    assert [stage.name for stage in read.stages] == ["tools"]
    assert read.target.steps == [copy("/t", dest="/t", stage="tools")]


def test_a_trigger_holds_a_heredoc(tmp_path: Path) -> None:
    text = "FROM x AS base\nONBUILD COPY <<-E /t\n\t$A\n\tE\nONBUILD RUN <<E\n b\nE\nFROM base\nRUN c\n"
    first, *rest = steps(tmp_path, text)
    assert isinstance(first, FromContext) and [(t.name, t.content) for t in first.texts] == [("E", "$A\n")]
    assert rest == [run(" b\n"), run("c")]


def test_an_argument_that_only_a_trigger_asks_for(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM x\n")
    image = kt.Image.from_dockerfile(tmp_path / "Dockerfile", build_args={"A": "1", "B": "2"})
    assert image._dockerfile is not None
    assert (image._dockerfile.unused, image.build_args) == (("A", "B"), {})
    again = image._with_triggers({"x": ("ARG A",)})
    assert again._dockerfile is not None
    assert (again._dockerfile.unused, again.build_args) == (("B",), {"A": "1"})


@pytest.mark.parametrize("text", ["FROM y", "ONBUILD RUN a", "MAINTAINER a", "", "# a", "RUN a\nRUN b"])
def test_what_no_trigger_is(text: str, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"^Dockerfile:1: ONBUILD cannot hold "):
        steps(tmp_path, "FROM x\n", triggers={"x": (text,)})


def test_what_is_chained_on_stays_when_triggers_are_found(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM x\nCOPY --from=y /a /a\nRUN b\n")
    image = kt.Image.from_dockerfile(tmp_path / "Dockerfile").run_bash("last")
    image.copy("/c", "/c", from_image="z")
    again = image._with_triggers({"x": ("RUN t",)})
    assert [type(step).__name__ for step in again.steps] == [
        *("RunCommand", "FromContext", "RunCommand", "RunBash", "FromContext")
    ]
    assert [stage.name for stage in again.stages] == ["y", "z"]
    assert again._with_triggers({}).steps == image.steps == image._with_triggers({}).steps


def test_a_dockerfile_in_another_encoding(tmp_path: Path) -> None:
    file = tmp_path / "Dockerfile"
    file.write_bytes("# Jos\u00e9\nFROM x\nRUN a \\\n # \u00e9\n b\n".encode("latin1"))
    assert read_dockerfile(file).target.steps == [run("a  b")]
    file.write_bytes("FROM x\nRUN a\nMAINTAINER Jos\u00e9\n".encode("latin1"))
    with pytest.raises(ImageError, match=r"^Dockerfile:3: MAINTAINER is not written in UTF-8$"):
        read_dockerfile(file)


def test_a_missing_dockerfile(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"Dockerfile not found: .*/nowhere"):
        kt.Image.from_dockerfile(tmp_path / "nowhere")


# -- as an image


def test_cases_61_and_62_the_builder_reads_and_goes_on(tmp_path: Path) -> None:
    (tmp_path / "docker").mkdir()
    file = tmp_path / "docker/Dockerfile"
    file.write_text('ARG V=1\nFROM python:$V\nENV A=1 B=2\nCOPY a /b\nENTRYPOINT ["python", "-m"]\nCMD ["x", "a b"]\n')
    image = kt.Image.from_dockerfile(str(file), name="mine", build_args={"V": "3.12", "W": "1"}, context=tmp_path)
    assert image.base == RegistryBase(reference="python:3.12", keeps_settings=True)
    assert (image.name, image.context, image.build_args) == ("mine", "..", {"V": "3.12"})
    assert image.dockerfile_command == "python -m x 'a b'"
    assert [s.context for s in image.steps if isinstance(s, FromContext)] == [str(tmp_path)]
    image.run_bash("make").workdir("/w").cmd(["y"])
    assert image.contents.splitlines()[-4:] == ['CMD ["x", "a b"]', "RUN make", "WORKDIR /w", 'CMD ["y"]']
    with pytest.raises(ValueError, match="not yet supported"):
        image.from_docker("d")


@given(st.text(alphabet="RUNEVCOPYFM =$\\<>-\"'[]{}#\n\tab.:", max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "Dockerfile")
        path.write_text("FROM x\n" + text, encoding="utf-8")
        try:
            found = tuple(read_dockerfile(path).target.steps)
            draft_steps(found, root=Path(folder), base=BASE, environ={})
        except KlockError as error:
            assert error.hint, error


LINES = (
    *("RUN a && b", "RUN <<E\na 'b'\nc\nE", "RUN --mount=type=cache,target=/x y", "# klock: keep-layer\nRUN z"),
    *("RUN --mount=target=a,rw --mount=type=secret,id=s,mode=0440,uid=1,required b", "ONBUILD RUN <<E\na\nE"),
    *('CMD ["a", "b c"]', "USER x", "WORKDIR /a b", "COPY --chown=x <<E /y/\nz\nE", "ENV A=$B", "ARG A=1"),
    *("EXPOSE 1/udp", "VOLUME /x", 'SHELL ["/bin/sh"]', "LABEL a=b", "STOPSIGNAL 9", "ONBUILD RUN x"),
    *('HEALTHCHECK CMD ["a"]', "ENTRYPOINT []", 'RUN ["a", "b c"]', "MAINTAINER a 'b'", "CMD", "RUN", "ENTRYPOINT"),
    "HEALTHCHECK --interval=90s --start-interval=1ms --retries=2 CMD a b",
)


@given(st.lists(st.sampled_from(LINES)))
def test_contents_are_a_dockerfile_with_the_same_meaning(lines: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "Dockerfile")
        path.write_text("\n".join(["FROM x", *lines]), encoding="utf-8")
        image = kt.Image.from_dockerfile(path)
        path.write_text(image.contents, encoding="utf-8")
        assert kt.Image.from_dockerfile(path).steps == image.steps
