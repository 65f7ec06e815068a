"""Small Dockerfiles, each about one rule of the Dockerfile reference, and the build context they share.

Each begins below FROM, writes below a folder of its own, and is built by podman and by klock; the trees must be equal.
What podman 4.3 does not know has its result here: the contents by path.
"""

from __future__ import annotations

import bz2
import gzip
import io
import tarfile
from dataclasses import dataclass, field
from pathlib import Path

import zstandard

__all__ = ["CASES", "EVERY_RUN", "Case", "write_context"]


@dataclass(frozen=True, kw_only=True)
class Case:
    """`before` stands before FROM, `ignored` are the lines of a .dockerignore. With `expected`, podman is not asked;
    `modes` are those of paths then."""

    text: str
    arguments: dict[str, str] = field(default_factory=dict)
    ignored: str = ""
    before: str = ""
    expected: dict[str, str] | None = None
    modes: dict[str, int] = field(default_factory=dict)


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
    (folder / "absolute").symlink_to("/src")
    (folder / "src/empty").mkdir()
    for suffix, mode in (("", "w"), (".gz", "w:gz"), (".xz", "w:xz")):
        with tarfile.open(folder / f"x.tar{suffix}", mode) as archive:  # type: ignore[call-overload]
            for name, size in (("t", None), ("t/f", 3), ("t/g", 0)):
                member = tarfile.TarInfo(name)
                member.type = tarfile.DIRTYPE if size is None else tarfile.REGTYPE
                member.mode, member.size, member.uid, member.gid = (0o750 if size is None else 0o640), size or 0, 7, 8
                archive.addfile(member, io.BytesIO(b"tar"[: size or 0]))
    _write_odd_archives(folder)
    for path in (folder, *folder.rglob("*")):
        if path.is_dir():
            path.chmod(0o755)


def _write_odd_archives(folder: Path) -> None:
    tar = (folder / "x.tar").read_bytes()
    (folder / "x.tar.bz2").write_bytes(bz2.compress(tar))
    (folder / "x.tar.zst").write_bytes(zstandard.compress(tar))
    (folder / "a.gz").write_bytes(gzip.compress(b"a", mtime=0))
    (folder / "a.zst").write_bytes(zstandard.compress(b"a"))
    (folder / "empty.tar").write_bytes(bytes(10240))
    with tarfile.open(folder / "links.tar", "w") as archive:
        for name, kind, target, size in (
            ("./l/f", tarfile.REGTYPE, "", 3),
            ("l/h", tarfile.LNKTYPE, "l/f", 0),
            ("/l/s", tarfile.SYMTYPE, "../l/f", 0),
            ("l/nowhere", tarfile.SYMTYPE, "/nowhere", 0),
            ("deep/er/x", tarfile.REGTYPE, "", 0),
            ("l/p", tarfile.FIFOTYPE, "", 0),
        ):
            member = tarfile.TarInfo(name)
            member.type, member.linkname, member.size, member.mode = kind, target, size, 0o4711
            archive.addfile(member, io.BytesIO(b"tar"[:size]))


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
    "a file of /tmp that a RUN finds where it goes": _case(
        "RUN cd /tmp && mkdir d && echo a > d/x && echo b > y.txt\n"
        "RUN mkdir /t; cd /tmp && cp y.txt /t/f && cd d && cp x /t/g\n"
    ),
    "files of /tmp that other stages take": _case(
        "RUN mkdir -p /tmp/o; echo a > /tmp/o/f; echo b > /tmp/g\nFROM ${BASE}\nCOPY --from=0 /tmp/o /t/o\n"
        "RUN --mount=type=bind,from=0,source=/tmp/g,target=/m cp /m /t/g\n",
        expected={"/t/o/f": "a\n", "/t/g": "b\n"},
    ),
    # rules that are easy to get wrong
    "comments inside a continued ENV": _case(
        'ENV A=1 \\\n  # why\n  B="x \\\n y" \\\n\n  C=\'a\\\n b\'\nRUN mkdir /t; echo "$A|$B|$C" > /t/f\n',
    ),
    "a comment that is none": _case(
        'RUN mkdir /t; echo a \\\n#b\n  c > /t/f\nENV A=a#b B="# c"\nRUN echo $A $B > /t/g\n',
    ),
    "tabs behind the names": _case(
        "ENV\tA=1\nWORKDIR\t/t\nRUN\techo $A\t> f; chmod 777 .\nUSER\tapp\nRUN\tid -u > g\n",
    ),
    "a line that ends in a backslash and spaces": _case("RUN mkdir /t && \\  \n echo a > /t/f\n"),
    # podman 4.3 takes the backslash for its escape all the same.
    "another escape directive": _case(
        'ENV A=`$X B=a\\b\nRUN mkdir /t; `\n echo "$A|$B" > /t/f\n',
        before="# escape=`\n",
        expected={"/t/f": "$X|a\\b\n"},
    ),
    "directives in any case, behind others": _case(
        "RUN mkdir /t; `\n echo a > /t/f\n",
        before="# syntax=docker/dockerfile:1\n#  EsCape =  `\n",
        expected={"/t/f": "a\n"},
    ),
    "a directive behind a comment is none": _case(
        "RUN mkdir /t; echo a` > /t/f; echo b`\n",
        before="# hello\n# escape=`\n",
    ),
    "ARG before FROM in two FROMs": _case(
        'RUN mkdir /o; echo a > /o/f\nFROM ${BASE}\nARG BASE\nARG V\nRUN mkdir /t; echo "$V|$W|" > /t/f\n'
        "COPY --from=0 /o/f /t/g\n",
        before="ARG V=1\nARG W=${V}2\n",
    ),
    "a default of a stage is another": _case("ARG V=2\nRUN mkdir /t; echo $V > /t/f\n", before="ARG V=1\n"),
    "a given argument before FROM": _case(
        "ARG V\nRUN mkdir /t; echo $V > /t/f\n",
        arguments={"V": "9"},
        before="ARG V=1\n",
    ),
    # The later one wins in BuildKit; podman 4.3, as the reference says, lets ENV win.
    "ENV and ARG of one name": _case(
        "ENV A=env\nARG A=arg\nRUN mkdir /t; echo $A > /t/f\nENV B=$A\nRUN echo $B > /t/g\n",
        expected={"/t/f": "arg\n", "/t/g": "arg\n"},
    ),
    "an ARG that is declared again": _case(
        'ARG A=1\nRUN mkdir /t; echo $A > /t/f\nARG A\nRUN echo "$A." > /t/g\nARG A=3\nRUN echo $A > /t/h\n',
    ),
    # BuildKit expands one after the other; podman 4.3 all with the values from before.
    "an ARG of another one": _case(
        'ARG A=1 B=${A}2\nARG C=$B.$A\nRUN mkdir /t; echo "$B $C" > /t/f\n',
        expected={"/t/f": "12 12.1\n"},
    ),
    "an ARG with quotes": _case('ARG A="x y" B=\'z $A\' C=a\\ b\nRUN mkdir /t; echo "$A|$B|$C" > /t/f\n'),
    "arguments of a platform": _case(
        "ARG TARGETARCH\nARG TARGETOS\nARG TARGETPLATFORM\nARG TARGETVARIANT\nARG BUILDPLATFORM\n"
        'RUN mkdir /t; echo $TARGETOS $TARGETARCH $TARGETPLATFORM "[$TARGETVARIANT]" $BUILDPLATFORM > /t/f\n',
        expected={"/t/f": "linux amd64 linux/amd64 [] linux/amd64\n"},
    ),
    "a platform's argument with a default": _case(
        "ARG TARGETARCH=arm64\nRUN mkdir /t; echo $TARGETARCH > /t/f\n",
        expected={"/t/f": "arm64\n"},
    ),
    "a platform's argument without ARG": _case('RUN mkdir /t; echo "[$TARGETARCH]" > /t/f\n'),
    "variables that a shell would read": _case(
        "ENV A=b\nENV C=${A}_$A-$A.x ${A}=1\nRUN mkdir /t; env | grep -E '^(C|b)=' | sort > /t/f\n",
    ),
    # `$$` is a special parameter of the shell, which no variable has.
    "an escaped variable": _case(
        'ENV A=1\nENV B=\\${A} C=\\\\$A D="\\$A" E=$$A\nRUN mkdir /t; echo "$B|$C|$D|$E" > /t/f\n',
        expected={"/t/f": "${A}|\\1|$A|A\n"},
    ),
    "a quoted part in a word": _case('ENV A=a"b c"d\'e f\'g\nRUN mkdir /t; echo "$A" > /t/f\n'),
    "an empty value": _case(
        'ENV A= B="" C=\'\'\nRUN mkdir /t; echo "[$A][$B][$C]" > /t/f; env | grep -c \'^[ABC]=\' >> /t/f\n',
    ),
    "WORKDIR with quotes and variables": _case(
        'ENV D=/t\nWORKDIR "${D}/a b"\nRUN pwd > f\nWORKDIR /t/c/../d/\nRUN pwd > f; ls /t > g\n',
    ),
    # bubblewrap sets PWD, so that a plain `pwd` names the link; docker's and podman's say where it leads.
    "WORKDIR through a link": _case(
        "RUN mkdir -p /t/real; ln -s real /t/l\nWORKDIR /t/l\nRUN pwd -P > f\nCOPY a.txt .\n",
    ),
    "a user and a group": _case(
        "RUN mkdir -m 777 /t\nUSER app:more\nRUN touch /t/f; id -u > /t/g; id -g >> /t/g\nUSER 5\n"
        "RUN id -u > /t/h; id -g >> /t/h\n",
    ),
    "a user that the Dockerfile makes": _case(
        "RUN echo 'new:x:77:78::/home/new:/bin/sh' >> /etc/passwd; echo 'grp:x:79:' >> /etc/group; mkdir -m 777 /t\n"
        "COPY --chown=new a.txt /t/\nCOPY --chown=new:grp b.txt /t/\nCOPY --chown=:grp run.sh /t/\nUSER new\n"
        "RUN id -u > /t/f; id -g >> /t/f\n",
    ),
    "SHELL in the middle": _case(
        'RUN mkdir /t; echo $0 > /t/a\nSHELL ["/bin/sh", "-ec"]\nRUN false || true; echo $- > /t/b\n'
        'SHELL ["/bin/echo"]\nRUN hello\nSHELL ["/bin/sh", "-c"]\nRUN echo $- > /t/c\n',
    ),
    "a SHELL for one stage": _case(
        'SHELL ["/bin/sh", "-eu", "-c"]\nRUN true\nFROM ${BASE}\nRUN mkdir /t; echo $- > /t/f\n',
    ),
    "an exec form with a shell's words": _case(
        'ENV A=1\nRUN ["/bin/sh", "-c", "mkdir /t; echo $A \\"$0\\" > /t/f", "zero"]\n',
    ),
    "VOLUME, then a later write": _case(
        "RUN mkdir -p /t/v; echo a > /t/v/a\nVOLUME /t/v\nCOPY b.txt /t/v/\n",
        expected={"/t/v/a": "a\n", "/t/v/b.txt": "b"},
    ),
    "COPY of a folder with a slash at its end": _case("COPY src/ /t\nCOPY other /t/other/\n"),
    "COPY of two folders": _case("COPY src other /t/\n"),
    "COPY into a file's name with dots": _case("COPY a.txt /t/x/../y\n"),
    "COPY two stars": _case("COPY src/**/*.txt /t/\n"),
    "COPY a star that matches folders": _case("COPY s* o* /t/\n"),
    "COPY with an escaped wildcard": _case("COPY sp?ace.txt [!b].txt /t/\n"),
    "COPY --chmod with letters": _case(
        "COPY --chmod=u+x,go-r a.txt /t/a\nCOPY --chmod=a=rX src /t/src\n",
        expected={"/t/a": "a", "/t/src/c.txt": "c"},
        modes={"/t/a": 0o700, "/t/src": 0o555, "/t/src/c.txt": 0o444},
    ),
    "COPY --exclude of a named file": _case(
        "COPY --exclude=b.* a.txt b.txt /t/\nCOPY --exclude=*/d.txt --exclude=link src /t/src/\n",
        expected={"/t/a.txt": "a", "/t/src/c.txt": "c", "/t/src/sub/e.md": "e"},
    ),
    "COPY over a link to a folder": _case("RUN mkdir -p /t/r; ln -s r /t/l\nCOPY src /t/l\n"),
    # podman 4.3 replaces the link.
    "COPY over a link to a file": _case(
        "RUN mkdir /t; echo x > /t/r; ln -s r /t/l\nCOPY a.txt /t/l\n", expected={"/t/r": "a"}
    ),
    "COPY to a folder that is a user's": _case("RUN mkdir /t; chown 5:6 /t; chmod 700 /t\nCOPY src /t\n"),
    "COPY --from a number of a named stage": _case(
        "RUN mkdir /o; echo a > /o/f\nFROM ${BASE} AS second\nRUN mkdir /o; echo b > /o/f\nFROM ${BASE}\n"
        "COPY --from=1 /o/f /t/f\nCOPY --from=SECOND o/f /t/g\n",
        expected={"/t/f": "b\n", "/t/g": "b\n"},
    ),
    "COPY --from with wildcards": _case(
        "RUN mkdir -p /o/x /o/y; echo a > /o/x/a.txt; echo b > /o/y/b.txt; echo c > /o/c.txt\nFROM ${BASE}\n"
        "COPY --from=0 /o/*/*.txt /o/c* /t/\n",
    ),
    "COPY --from follows a link": _case(
        "RUN mkdir -p /o/r; echo a > /o/r/f; ln -s r /o/l; ln -s r/f /o/g\nFROM ${BASE}\nCOPY --from=0 /o/l /t/l\n"
        "COPY --from=0 /o/g /t/g\n",
    ),
    "COPY --from --parents": _case(
        "RUN mkdir -p /o/x/y; echo a > /o/x/y/f\nFROM ${BASE}\nCOPY --parents --from=0 /o/./x/y/f /t/\n",
        expected={"/t/x/y/f": "a\n"},
    ),
    "a .dockerignore with a slash and a class": _case(
        "COPY . /t/\n",
        ignored="/src/\nphotos/*.[jp]*g\n!photos/q.png\n*.tar*\n",
    ),
    "a .dockerignore that leaves out all but one below": _case("COPY . /t/\n", ignored="**\n!src/sub/d.txt\n"),
    "a .dockerignore with spaces and comments": _case(
        "COPY . /t/\n",
        ignored="  a.txt  \n#b.txt\n\n./b.txt\nsrc/../other\n*.tar*\n",
    ),
    "ADD a folder and an archive": _case("ADD src x.tar.gz a.txt /t/\n"),
    "ADD an archive over files": _case("RUN mkdir -p /t/t; echo old > /t/t/f; chmod 777 /t/t\nADD x.tar /t\n"),
    # BuildKit gives all that it unpacks to the owner; podman 4.3 only the folder that it makes.
    "ADD --chown of an archive": _case(
        "ADD --chown=5:6 x.tar /t/\nADD --chown=5:6 a.txt /t/\n",
        expected={"/t": "5", "/t/t": "5", "/t/t/f": "tar", "/t/a.txt": "a"},
    ),
    "a secret that is not there": _case(
        "RUN --mount=type=secret,id=klock_none mkdir /t; ls /run/secrets 2>/dev/null | wc -l > /t/f\n",
    ),
    "a bind mount that is written": _case(
        "RUN --mount=type=bind,source=src,target=/m,rw mkdir /t && echo x > /m/new && ls /m > /t/f\n",
    ),
    "a bind mount at the working directory": _case(
        "WORKDIR /t/w\nRUN --mount=source=src ls > /t/f\n",
        expected={"/t/f": "c.txt\nempty\nlink\nsub\n"},
    ),
    "a cache mount of a user": _case(
        "RUN mkdir -m 777 /t\nUSER app\n"
        "RUN --mount=type=cache,target=/c,uid=1000,gid=1001,mode=0750 touch /c/x && stat -c '%u %g %a' /c > /t/f\n",
        expected={"/t/f": "1000 1001 750\n"},
    ),
    # podman 4.3 removes the folder.
    "a cache below a folder of the image": _case(
        "RUN mkdir -p /t/c; echo a > /t/c/f\nRUN --mount=type=cache,target=/t/c ls -A /t/c | wc -l > /t/g\n",
        expected={"/t/c/f": "a\n", "/t/g": "0\n"},
    ),
    "a heredoc with quotes and a tab": _case(
        'ARG A=1\nRUN <<-"E O"\n\tmkdir /t\n\t\techo "$A" > /t/f\n\tE O\n',
        expected={"/t/f": "1\n"},
    ),
    "a heredoc for another program": _case(
        "RUN mkdir /t; tee /t/f <<A >/dev/null; cat > /t/g <<'B'\n$(echo 1)\nA\n$(echo 1)\nB\n",
        expected={"/t/f": "1\n", "/t/g": "$(echo 1)\n"},
    ),
    "COPY a heredoc to a folder and to a name": _case(
        'COPY --chmod=750 --chown=5:6 <<EOF /t/x/\n a\n\n"b"\nEOF\nCOPY <<EOF a.txt /t/y/\nc\nEOF\n',
        expected={"/t/x/EOF": ' a\n\n"b"\n', "/t/y/EOF": "c\n", "/t/y/a.txt": "a"},
    ),
    "COPY to a folder by a dot at the end": _case("COPY a.txt /t/./z/.\n", expected={"/t/z/a.txt": "a"}),
    "COPY --parents with two stars": _case(
        "COPY --parents **/c.txt ./src/./**/*.md /t/\n",
        expected={"/t/src/c.txt": "c", "/t/other/c.txt": "other c", "/t/sub/e.md": "e"},
    ),
    "COPY --from --parents with two stars": _case(
        "RUN mkdir -p /o/x/y; echo a > /o/x/y/f; echo b > /o/f\nFROM ${BASE}\n"
        "COPY --parents --from=0 /o/./**/f /t/\n",
        expected={"/t/x/y/f": "a\n", "/t/f": "b\n"},
    ),
    "a heredoc in ONBUILD": _case(
        "FROM ${BASE} AS of\nONBUILD COPY <<-E /t/f\n\ta\n\tE\nONBUILD RUN <<E\necho b > /t/g\nE\nFROM of\n",
        expected={"/t/f": "a\n", "/t/g": "b\n"},
    ),
}  # fmt: skip

CASES |= {
    # odd, and legal
    "an escape that is none in a heredoc": _case(
        "ARG A=1\nCOPY <<E /t/f\n\\$A `$A a\\\\b\nE\nRUN echo a`\n > /t/g\n",
        before="# escape=`\n",
        expected={"/t/f": "$A `1 a\\b\n", "/t/g": "a\n"},
    ),
    "Windows line ends in heredocs": _case(
        "COPY <<E /t/f\r\na\r\nE\r\nRUN echo a \\\r\n  # why\r\n  b > /t/g\r\n",
        expected={"/t/f": "a\r\n", "/t/g": "a b\n"},
    ),
    "a return in a line": _case("RUN mkdir /t; echo 'a\rb' > /t/f\n"),
    "a user's home, by number": _case("RUN mkdir -m 777 /t\nUSER 1000\nRUN echo $HOME > /t/f; id -G > /t/g\n"),
    "a user's other groups": _case(
        "RUN mkdir -m 777 /t\nUSER app\nRUN id -G > /t/f\nUSER app:more\nRUN id -G > /t/g\nUSER app:app\n"
        "RUN id -G > /t/h\n"
    ),
    "HOME that is set": _case(
        "ENV HOME=/t\nRUN mkdir -m 777 /t; echo $HOME > /t/f\nUSER app\nRUN echo $HOME > /t/g\nWORKDIR $HOME/w\n"
        "USER root\nRUN chown 0:0 /t/w\n"
    ),
    "variables that are not set": _case(
        "ARG U\nENV W=\nRUN mkdir /t\nUSER ${U}\nWORKDIR /t/${W}\nWORKDIR a${U}b\nCOPY $U/a.txt ${W}c/\nRUN id -u > f\n"
    ),
    "ENV as it was written once": _case(
        'ENV A -Xmx1g -Dfoo="bar baz"  -Dq=\\"r\\" \'x\'\nENV B $A:c\nRUN mkdir /t; echo "$A|$B" > /t/f\n'
    ),
    "names that no shell knows": _case(
        "ENV foo.bar=1 my-flag=2\nRUN mkdir /t; env | sort | head -n 40 > /t/all; rm /t/all\n"
    ),
    "an owner by number alone": _case(
        "COPY --chown=5 a.txt /t/\nCOPY --chown=1000 b.txt /t/\nCOPY --chown=5:more run.sh /t/\n",
        expected={"/t/a.txt": "a", "/t/b.txt": "b"},
    ),
    "a name and a number as owner": _case("COPY --chown=app:7 a.txt /t/\nCOPY --chown=7:more b.txt /t/\n"),
    "an archive of links": _case("ADD links.tar /t/\n"),
    "an archive in bzip2 and zstd": _case("ADD x.tar.bz2 /t/\nADD x.tar.zst /t/z/\nADD x.tar.bz2 a.txt /t/y/\n"),
    "what is compressed and no archive": _case("ADD a.gz /t/\nADD a.zst /t/\nADD empty.tar /t/x/\n"),
    "an archive over a link to a folder": _case("RUN mkdir -p /t/r; ln -s r /t/t\nADD x.tar /t/\n"),
    "an archive over a link to a file": _case("RUN mkdir -p /t/t; echo r > /t/r; ln -s ../r /t/t/f\nADD x.tar /t/\n"),
    "an archive over a file with two names": _case("RUN mkdir -p /t/t; echo r > /t/r; ln /t/r /t/t/f\nADD x.tar /t/\n"),
    "COPY over a file with two names": _case("RUN mkdir -p /t; echo r > /t/r; ln /t/r /t/f\nCOPY a.txt /t/f\n"),
    "COPY over a file that others may write": _case(
        "RUN mkdir -p /t; echo r > /t/f; chown 5:6 /t/f; chmod 666 /t/f\nCOPY a.txt /t/f\n"
    ),
    # podman 4.3 makes a folder of what the link names.
    "COPY to a link that leads nowhere": _case(
        "RUN mkdir -p /t; ln -s nowhere /t/l; ln -s no/where /t/m\nCOPY a.txt /t/l\nCOPY b.txt /t/m/\n",
        expected={"/t/nowhere": "a", "/t/no/where/b.txt": "b"},
    ),
    "COPY several to a folder without a slash": _case(
        "RUN mkdir /t\nCOPY a.txt b.txt /t\nCOPY *.sh src /t\nCOPY src other /t/new\n"
    ),
    "COPY --from a folder that is closed": _case(
        "RUN mkdir -p /o/sub; echo x > /o/sub/f; chmod 701 /o /o/sub; chown -R 7:8 /o\nFROM ${BASE}\n"
        "RUN mkdir -p /t/sub; chmod 711 /t /t/sub; chown 3:4 /t/sub\n"
        "COPY --from=0 /o /t\nCOPY --from=0 /o /t/u\nCOPY --from=0 /o/sub/ /t/v/w/\n"
    ),
    "COPY through a link of the context to its root": _case(
        "COPY absolute /t/x\nCOPY absolute/*.txt absolute/sub/d.txt /t/\n"
    ),
    "COPY --from a stage, and heredocs": _case(
        "RUN mkdir /o; echo x > /o/f\nFROM ${BASE}\nCOPY --from=0 /o/f <<E <<'F' /t/\n$PATH\nE\n$PATH\nF\n",
        expected={"/t/f": "x\n", "/t/E": "/bin\n", "/t/F": "$PATH\n"},
    ),
    "nothing behind RUN and CMD": _case("RUN mkdir /t\nRUN\nCMD\nENTRYPOINT\n", expected={"/t": "0"}),
    "COPY below a link that leads up": _case("RUN mkdir -p /t/a /t/b; ln -s ../b /t/a/l\nCOPY src /t/a/l/new/\n"),
    "a folder that is removed and copied again": _case("COPY src /t\nRUN rm -rf /t\nCOPY other /t\n"),
    "a folder that is made again": _case(
        "COPY src /t/x\nRUN rm -rf /t/x; mkdir /t/x; touch /t/x/new; chown 5:6 /t/x\n"
    ),
    "a folder that is moved": _case("COPY src /t/x\nRUN mv /t/x /t/y; mv /t/y/sub /t/z; ln /t/y/c.txt /t/d\n"),
    "a file that becomes a folder": _case(
        "RUN mkdir /t; touch /t/x; ln -s x /t/y\nRUN rm /t/x /t/y; mkdir /t/x; touch /t/x/f /t/y\n"
    ),
    "owners of all that is there": _case("COPY src /t\nRUN chown -R 5:6 /t; chmod -R go-rx /t\n"),
    "bits that programs look at": _case(
        "RUN mkdir -p /o/s; touch /o/f; chmod 6755 /o/f; chmod 1777 /o/s; mkfifo /o/p; ln -s /nowhere /o/l\n"
        "FROM ${BASE}\nCOPY --from=0 /o /t\nCOPY --from=0 /o/f /t/x/\n"
    ),
    "a program by its own path": _case(
        'WORKDIR /t\nCOPY run.sh .\nRUN ["./run.sh"]\nENV PATH=/t:$PATH\nRUN ["run.sh"]\nRUN run.sh > f\n'
    ),
    "an exec form over lines": _case('RUN ["/bin/sh", "-c", \\\n  # why\n  "mkdir /t; \\\n   echo a > /t/f"]\n'),
    "WORKDIR that is there": _case(
        "RUN mkdir -p /t/w; chown 5:6 /t/w; chmod 700 /t/w\nWORKDIR /t/w/\nWORKDIR x//y/./z\nRUN pwd > f\n",
        expected={"/t/w": "5", "/t/w/x/y/z/f": "/t/w/x/y/z\n"},
    ),
    "names in quotes": _case(
        'ENV N="a.txt"\nCOPY "sp ace.txt" \'/t/x y/\'\nCOPY sp\\ ace.txt "/t/$N"\nWORKDIR \'/t/w w\'\nRUN touch f\n',
        expected={"/t/x y/sp ace.txt": "space", "/t/a.txt": "space"},
    ),
    "files that may be missing": _case("COPY a.txt no* [x]* /t/\n"),
    "COPY of paths with dots": _case("COPY ./src/./c.txt src/../b.txt /src//sub/d.txt /t/\nCOPY src/. /t/dot\n"),
    "a .dockerignore with Windows line ends": _case("COPY . /t/\n", ignored="*\r\n!src\r\nsrc/sub/*.md\r\n\r\n# c\r\n"),
    "a .dockerignore of all but some": _case("COPY . /t/\n", ignored="*\n!src/\n!?.txt\n!run*\n**/*.md\n"),
    "a .dockerignore with stars inside": _case(
        "COPY . /t/\n", ignored="src/**/e*\n**/c.txt\n!other/**\n*.tar*\n*.gz\n*.zst\n"
    ),
    "a .dockerignore and a named file": _case("COPY src/sub/e.md src /t/\n", ignored="src\n!src/sub\n"),
    # podman 4.3 gives a stage's ARG to no stage above it.
    "a stage's own ARG in the next": _case(
        'ARG A=1\nENV B=$A\nFROM ${BASE} AS one\nARG A=2\nRUN mkdir /o; echo "$A|$B" > /o/f\nFROM one\n'
        "RUN mkdir /t; cp /o/f /t/f; echo $A > /t/g\n",
        expected={"/t/f": "2|\n", "/t/g": "2\n"},
    ),
    "stages of one name": _case(
        "FROM ${BASE} AS x\nRUN mkdir /o; echo a > /o/f\nFROM ${BASE} AS X\nRUN mkdir /o; echo b > /o/f\n"
        "FROM ${BASE}\n"
        "COPY --from=x /o/f /t/f\nCOPY --from=1 /o/f /t/g\n",
        expected={"/t/f": "b\n", "/t/g": "a\n"},
    ),
    # podman 4.3 drops what is written below a volume, as docker did before BuildKit.
    "VOLUME of a user": _case(
        "RUN mkdir -p /t/v; chown app:app /t/v\nUSER app\nVOLUME /t/v\nRUN touch /t/v/a\n", expected={"/t/v/a": ""}
    ),
    "ONBUILD for who, what and where": _case(
        "FROM ${BASE} AS of\nONBUILD ARG V=1\nONBUILD ENV W=${V}2\nONBUILD USER app\nONBUILD WORKDIR /t/w\n"
        "ONBUILD COPY --chown=app src /t/src\nFROM of\nRUN echo $V $W > f; id -u >> f\n",
        expected={"/t/w/f": "1 12\n1000\n", "/t/src/c.txt": "c"},
    ),
}

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
