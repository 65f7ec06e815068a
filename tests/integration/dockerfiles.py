"""Small Dockerfiles, each about one rule of the Dockerfile reference, and the build context they share.

Each begins below FROM, writes below a folder of its own, and is built by podman and by klock; the trees must be equal.
What podman 4.3 does not know has its result here: the contents by path.
"""

from __future__ import annotations

import io
import tarfile
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["CASES", "EVERY_RUN", "Case", "write_context"]


@dataclass(frozen=True, kw_only=True)
class Case:
    """`ignored` are the lines of a .dockerignore. With `expected`, podman is not asked."""

    text: str
    arguments: dict[str, str] = field(default_factory=dict)
    ignored: str = ""
    expected: dict[str, str] | None = None


def write_context(folder: Path) -> None:
    files = {
        "a.txt": "a",
        "b.txt": "b",
        "sp ace.txt": "space",
        "run.sh": "#!/bin/sh\necho run\n",
        "src/c.txt": "c",
        "src/sub/d.txt": "d",
        "src/sub/e.md": "e",
        "other/c.txt": "other c",
        "photos/p.jpeg": "p",
        "photos/q.png": "q",
    }
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        path.chmod(0o755 if name.endswith(".sh") else 0o644)
    (folder / "src/link").symlink_to("c.txt")
    (folder / "src/empty").mkdir()
    for suffix, mode in (("", "w"), (".gz", "w:gz"), (".xz", "w:xz")):
        with tarfile.open(folder / f"x.tar{suffix}", mode) as archive:  # type: ignore[call-overload]
            for name, size in (("t", None), ("t/f", 3), ("t/g", 0)):
                member = tarfile.TarInfo(name)
                member.type = tarfile.DIRTYPE if size is None else tarfile.REGTYPE
                member.mode, member.size, member.uid, member.gid = (0o750 if size is None else 0o640), size or 0, 7, 8
                archive.addfile(member, io.BytesIO(b"tar"[: size or 0]))
    for path in (folder, *folder.rglob("*")):
        if path.is_dir():
            path.chmod(0o755)


def _case(text: str, **fields: object) -> Case:
    return Case(text=text, **fields)  # type: ignore[arg-type]


CASES: dict[str, Case] = {
    # text
    "continued lines and comments": _case("RUN mkdir /t && \\\n# why\n\n  echo a \\\n   b > /t/f\n"),
    "spaces in a continued string": _case('RUN mkdir /t; echo "a\\\n   b" > /t/f\n'),
    "instructions in any case": _case("run mkdir /t\neNv A=1\nrUn echo $A > /t/f\n"),
    "another escape character": _case("RUN mkdir /t && \\\n echo 'a\\b' > /t/f\n"),
    "a number sign in a command": _case("RUN mkdir /t; echo 'a # b' > /t/f # c\n"),
    "Windows line ends": _case("RUN mkdir /t\r\nRUN echo a > /t/f\r\n"),
    # RUN
    "RUN is sh": _case('RUN mkdir /t; echo "a\\nb" > /t/f; echo $0 > /t/g\n'),
    "RUN in the exec form": _case('RUN ["/bin/mkdir", "/t", "/t/$HOME", "/t/a b"]\n'),
    "broken JSON is a line of shell": _case('RUN mkdir /t; touch "/t/[a"\n'),
    "SHELL": _case('SHELL ["/bin/sh", "-eu", "-c"]\nRUN mkdir /t; echo $- > /t/f\n'),
    "a command's variables do not last": _case("RUN A=1; export A; mkdir /t\nRUN echo a$A > /t/f\nRUN pwd > /t/g\n"),
    "cd does not last": _case("RUN mkdir /t; cd /t\nRUN pwd > /t/f\n"),
    "a file of /tmp for the next RUN": _case("RUN echo a > /tmp/x\nRUN mkdir /t; cat /tmp/x > /t/f\n"),
    "COPY to /tmp for the next RUN": _case("COPY a.txt src /tmp/in/\nRUN mkdir /t; cp -r /tmp/in /t/f\n"),
    "a file of /tmp that the next RUN finds where it begins": _case(
        "WORKDIR /tmp/w/x\nRUN echo a > f\nRUN mkdir /t; cat f > /t/f\nWORKDIR /tmp\nRUN echo b > g\nRUN cat g > /t/g\n"
    ),
    "COPY and ADD to /tmp itself": _case(
        "COPY a.txt /tmp\nADD b.txt /tmp\nRUN mkdir /t; cat /tmp/a.txt /tmp/b.txt > /t/f; echo a > /tmp/c\n"
        "RUN --mount=type=bind,source=a.txt,target=/m cat /tmp/a.txt > /t/g\n"
    ),
    "what a RUN removes": _case("RUN mkdir /t; touch /t/a /t/b\nRUN rm /t/a\n"),
    "modes and owners": _case(
        "RUN mkdir -m 700 /t; touch /t/f; chmod 4755 /t/f; chown 5:6 /t/f; ln -s f /t/l; ln /t/f /t/h\n"
    ),
    "a user's umask and ids": _case("RUN mkdir -m 777 /t\nUSER app\nRUN touch /t/f; id -u > /t/g; id -g >> /t/g\n"),
    "a user by number": _case("RUN mkdir -m 777 /t\nUSER 1234:55\nRUN touch /t/f; id -u > /t/g; id -g >> /t/g\n"),
    "USER and back": _case("RUN mkdir -m 777 /t\nUSER app\nRUN touch /t/f\nUSER root\nRUN touch /t/g\n"),
    "a user's home": _case("RUN mkdir -m 777 /t\nRUN echo $HOME > /t/f\nUSER app\nRUN echo $HOME > /t/g\n"),
    "a cache mount is empty and not kept": _case(
        "RUN --mount=type=cache,target=/c ls -A /c | wc -l > /f && echo a > /c/x\nRUN test ! -e /c/x && mkdir /t\n"
    ),
    "a RUN without network": _case(
        "RUN --network=none mkdir /t; (wget -T 2 -q -O /t/f http://example.com/ || echo none > /t/f)\n",
        expected={"/t/f": "none\n"},
    ),
    "a tmpfs mount": _case("RUN --mount=type=tmpfs,target=/m touch /m/a && mkdir /t && ls /m > /t/f\n"),
    "a bind mount of the context": _case("RUN --mount=type=bind,source=src,target=/m mkdir /t && cp -r /m/sub /t/f\n"),
    "a bind mount of a file": _case("RUN --mount=type=bind,source=a.txt,target=/m/x mkdir /t && cat /m/x > /t/f\n"),
    # variables
    "ENV in both forms": _case('ENV A=1 B="x y" C=z\\ w\nENV D e  f\nRUN mkdir /t; echo "$A|$B|$C|$D" > /t/f\n'),
    "an unset variable": _case('ENV P=/a:$UNSET Q=${UNSET}x\nRUN mkdir /t; echo "$P|$Q" > /t/f\n'),
    "defaults and alternatives": _case(
        "ENV A=1 E=\nENV B=${A:-2} C=${U:-2} D=${E:-2} F=${A:+2} G=${U:+2}\n"
        'RUN mkdir /t; echo "$B|$C|$D|$F|$G" > /t/f\n'
    ),
    "unset and empty": _case("ENV E=\nENV A=${E-1} B=${U-1} C=${E+1} D=${U+1}\nRUN mkdir /t; echo $A.$B.$C.$D > /t/f\n",
        expected={"/t/f": ".1.1.\n"}),
    "parts of a value": _case(
        "ENV A=x/y.tar.gz\nENV B=${A#*/} C=${A##*.} D=${A%.*} E=${A%%.*} F=${A/t/T} G=${A//a/b}\n"
        "RUN mkdir /t; echo $B $C $D $E $F $G > /t/f\n",
        expected={"/t/f": "y.tar.gz gz x/y.tar x/y x/y.Tar.gz x/y.tbr.gz\n"},
    ),
    "escapes and quotes": _case(
        r"""ENV A=\$X B='$X' C="\$X" D="a\"b" E='a"b'""" '\nRUN mkdir /t; echo "$A|$B|$C|$D|$E" > /t/f\n'
    ),
    "one ENV takes the old values": _case("ENV A=1\nENV A=2 B=$A\nRUN mkdir /t; echo $A $B > /t/f\n"),
    "PATH of the base": _case("ENV PATH=/t:$PATH\nRUN mkdir /t; echo $PATH > /t/f\n"),
    "ARG with a default": _case("ARG A=1\nARG B\nRUN mkdir /t; echo $A.$B > /t/f\n"),
    "ARG that is given": _case("ARG A=1\nARG B\nRUN mkdir /t; echo $A.$B > /t/f\n", arguments={"A": "2", "B": "3"}),
    "ARG in an ENV": _case("ARG A=1\nENV B=${A}x\nARG A=2\nRUN mkdir /t; echo $B > /t/f\n"),
    "ENV over ARG": _case("ARG A=1\nENV A=2\nRUN mkdir /t; echo $A > /t/f\n", arguments={"A": "3"}),
    "variables in WORKDIR, USER and COPY": _case(
        "ENV D=/t F=a.txt U=app\nWORKDIR $D/x\nCOPY ${F} $D/y/\nRUN chmod 777 /t/x\nUSER $U\nRUN touch z\n"
    ),
    # folders
    "WORKDIR makes it": _case("WORKDIR /t/a/b\nRUN pwd > f\n"),
    "RUN --mount with variables": _case(
        "ARG U=7\nARG D=c\nRUN --mount=type=cache,target=/$D,uid=$U,gid=${U},mode=0770 "
        "mkdir /t && stat -c '%u %g %a' /c > /t/f\n",
        expected={"/t/f": "7 7 770\n"},
    ),
    # podman 4.3 makes only the folder that a later instruction uses; the reference says that each is made.
    "WORKDIR is relative": _case(
        "WORKDIR /t\nWORKDIR a\nWORKDIR ../b\nRUN pwd > f\n", expected={"/t/a": "0", "/t/b": "0", "/t/b/f": "/t/b\n"}
    ),
    "WORKDIR of a user": _case("USER app\nWORKDIR /t\n", expected={"/t": "1000"}),
    # FROM
    "FROM scratch": _case(
        "RUN mkdir -p /t/lib && echo x > /t/lib/x\nFROM scratch\nCOPY --from=0 /bin /bin\nCOPY --from=0 /t /t\n"
        'COPY a.txt /t/\nENV A=b\nWORKDIR /t/w\nRUN echo "$A $PATH" > f\n'
    ),
    # COPY
    "COPY a file to a name": _case("COPY a.txt /t/x\n"),
    "COPY a file into a new folder": _case("COPY a.txt /t/x/\n"),
    "COPY a file into a folder that is there": _case("RUN mkdir -p /t/x\nCOPY a.txt /t/x\n"),
    "COPY over a file": _case("COPY a.txt /t/x\nCOPY b.txt /t/x\n"),
    "COPY several": _case("COPY a.txt b.txt run.sh /t/\n"),
    "COPY a folder's contents": _case("COPY src /t\n"),
    "COPY a folder over another": _case("COPY src /t/\nCOPY other /t\n"),
    "COPY the context": _case("COPY . /t/\n", ignored="Dockerfile\n.dockerignore\n"),
    "COPY with wildcards": _case("COPY ?.txt sr*/c.* /t/\n"),
    "COPY with a class": _case("COPY [a-b].txt /t/\n"),
    "COPY with spaces": _case('COPY ["sp ace.txt", "/t/x y/"]\n'),
    "COPY to the working directory": _case("WORKDIR /t\nCOPY a.txt .\nCOPY b.txt x/\nCOPY run.sh ./y\n"),
    "COPY above the context": _case("COPY ../a.txt /t/\n", expected={"/t/a.txt": "a"}),
    "COPY keeps links": _case("COPY src/ /t/\nCOPY src/link /t/followed\n"),
    "COPY through a link of the image": _case("RUN mkdir -p /t/real; ln -s real /t/l\nCOPY a.txt /t/l/\n"),
    "COPY is root's": _case("RUN mkdir -m 777 /t\nUSER app\nCOPY a.txt /t/x/\n"),
    "COPY --chown by name": _case("COPY --chown=app:more src /t/x\n"),
    "COPY --chown by number": _case("COPY --chown=5:6 a.txt /t/\n"),
    "COPY --chmod": _case("COPY --chmod=600 a.txt run.sh /t/\n"),
    "COPY --link": _case("COPY --link a.txt /t/\n", expected={"/t/a.txt": "a"}),
    "COPY --exclude": _case("COPY --exclude=**/*.md --exclude=link src /t\n",
        expected={"/t/c.txt": "c", "/t/sub/d.txt": "d"}),
    "COPY --parents": _case("COPY --parents src/sub/*.txt ./src/./sub /t/\n",
        expected={"/t/src/sub/d.txt": "d", "/t/sub/d.txt": "d", "/t/sub/e.md": "e"}),
    "a .dockerignore that begins with a star": _case("COPY . /t/\n", ignored="*\n!photos/*.jpeg\n"),
    "a .dockerignore with exceptions in order": _case("COPY src /t/\n", ignored="src/*\n!src/sub\nsrc/sub/*.md\n"),
    "a .dockerignore with two stars": _case("COPY src /t/\n", ignored="# no text\n**/*.txt\n/src/link\n"),
    # ADD
    "ADD a file": _case("ADD a.txt /t/\n"),
    "ADD unpacks": _case("ADD x.tar /t/\nADD x.tar.gz /t/gz/\nADD x.tar.xz /t/xz\n"),
    "COPY does not unpack": _case("COPY x.tar.gz /t/\n"),
    # stages
    "COPY --from a stage": _case(
        "RUN mkdir /o; echo a > /o/f; chmod 750 /o/f; chown 5:6 /o/f; ln -s f /o/l\n"
        "FROM ${BASE} AS no\nRUN false\nFROM ${BASE}\nCOPY --from=0 /o /t\nCOPY --from=0 /o/f /t/g/\n"
    ),
    "COPY --from with an owner": _case(
        "RUN mkdir /o; echo a > /o/f\nFROM ${BASE}\nCOPY --from=0 --chown=app:more /o/f /t/\n"
    ),
    "a stage over a stage": _case(
        "RUN mkdir /t; echo a > /t/f\nFROM ${BASE} AS two\nENV A=1\nWORKDIR /t\nFROM two\nRUN echo $A > f; pwd > g\n"
    ),
    "a mount from a stage": _case(
        "RUN mkdir /o; echo a > /o/f\nFROM ${BASE}\n"
        "RUN --mount=type=bind,from=0,source=/o,target=/m mkdir /t; cp /m/f /t\n",
        expected={"/t/f": "a\n"},
    ),
    "a cache mount that begins with files": _case(
        "RUN mkdir /o; echo a > /o/f\nFROM ${BASE}\n"
        "RUN --mount=type=cache,target=/c,from=0,source=/o cat /c/f > /f; echo b > /c/f\n"
        "RUN --mount=type=cache,target=/c,from=0,source=/o mkdir /t; cp /c/f /t/f\n",
        expected={"/t/f": "a\n"},
    ),
    # heredocs
    "a heredoc is a script": _case("RUN <<EOF\nmkdir /t\necho $0 > /t/f\nEOF\n", expected={"/t/f": "/bin/sh\n"}),
    "a heredoc for a program": _case(
        "RUN mkdir /t && cat > /t/f <<EOF\na $HOME\nEOF\n", expected={"/t/f": "a /root\n"}
    ),
    "a heredoc with an interpreter": _case(
        "RUN <<EOF\n#!/bin/sh -e\nmkdir /t\necho a > /t/f\nfalse || echo b >> /t/f\nEOF\n", expected={"/t/f": "a\nb\n"}
    ),
    "COPY of heredocs": _case(
        "ARG A=1\nCOPY <<x <<-'y' /t/\n$A \\$A\nx\n\t$A\n\ty\n", expected={"/t/x": "1 $A\n", "/t/y": "$A\n"}
    ),
}  # fmt: skip

EVERY_RUN = (
    "RUN is sh",
    "an unset variable",
    "ARG that is given",
    "COPY a folder's contents",
    "COPY --chown by name",
    "a .dockerignore with exceptions in order",
    "ADD unpacks",
    "a user's umask and ids",
)
"""Whose rules are tried in each run of the tests, all in one Dockerfile."""
