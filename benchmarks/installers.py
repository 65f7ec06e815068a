"""Steps that install servers, other languages' packages, conda's and TeX's: what installers leave behind."""

from __future__ import annotations

from typing import Final

from benchmarks.shell_step import ShellStep, all_of, apt, pip, write

__all__ = ["CONDA", "LANGUAGES", "PYTHON", "SERVERS", "TEX", "TOOLS"]

_SNAKEOIL: Final = ("/etc/ssl/certs/ssl-cert-snakeoil.pem", "/etc/ssl/private/ssl-cert-snakeoil.key")

_CHANNEL: Final = all_of(
    "mkdir -p /srv/channel/noarch /srv/channel/linux-64",
    "cat > /tmp/channel.py <<'END'\n"
    + """
import hashlib, io, json, os, tarfile

CHANNEL = {"linux-64": {}, "noarch": {}}

def package(subdir, name, version, files, depends=(), **more):
    index = dict(name=name, version=version, build="0", build_number=0, depends=list(depends), subdir=subdir, **more)
    paths = [
        dict(_path=path, path_type="hardlink", sha256=hashlib.sha256(data).hexdigest(), size_in_bytes=len(data))
        for path, data, _ in files
    ]
    info = {"index.json": index, "paths.json": dict(paths=paths, paths_version=1)}
    if more:
        info["link.json"] = {
            "noarch": {"type": "python", "entry_points": ["hello = hello:main"]}, "package_metadata_version": 1
        }
    members = [(f"info/{name}", json.dumps(data).encode(), 0o644) for name, data in info.items()]
    file = f"{name}-{version}-0.tar.bz2"
    with tarfile.open(f"/srv/channel/{subdir}/{file}", "w:bz2") as tar:
        for path, data, mode in [*members, *files]:
            member = tarfile.TarInfo(path)
            member.size, member.mode = len(data), mode
            tar.addfile(member, io.BytesIO(data))
    with open(f"/srv/channel/{subdir}/{file}", "rb") as packed:
        data = packed.read()
    CHANNEL[subdir][file] = index | dict(
        md5=hashlib.md5(data).hexdigest(), sha256=hashlib.sha256(data).hexdigest(), size=len(data)
    )

def binary(path):
    with open(os.path.realpath(path), "rb") as file:
        return file.read()

package("linux-64", "env", "1.0", [("bin/env", binary("/usr/bin/env"), 0o755)])
package("linux-64", "python", "3.11.2", [("bin/python3", binary("/usr/bin/python3"), 0o755)])
source = b"def main():\\n    print(1)\\n"
package("noarch", "hello", "1.0", [("site-packages/hello.py", source, 0o644)], ["python"], noarch="python")
for subdir, packages in CHANNEL.items():
    with open(f"/srv/channel/{subdir}/repodata.json", "w") as file:
        json.dump({"info": {"subdir": subdir}, "packages": packages}, file)
""".strip()
    + "\nEND\npython3 /tmp/channel.py",
    "cat > /usr/local/bin/install-from-channel <<'END'\n"
    + """
#!/usr/bin/python3
import asyncio, os, sys
from rattler import install, solve

async def main():
    records = await solve(["http://127.0.0.1:8123"], sys.argv[2:], platforms=["linux-64", "noarch"])
    await install(records, target_prefix=sys.argv[1])

asyncio.run(main())
os._exit(0)
""".strip()
    + "\nEND\nchmod +x /usr/local/bin/install-from-channel",
)

TOOLS: Final = {
    "languages": apt(
        *("golang-go", "cargo", "ruby", "perl", "autoconf", "automake", "libtool", "cmake", "ninja-build", "ccache"),
        *("g++", "make", "git", "zip", "sqlite3", "openssl", "apache2-utils", "gnupg", "swig", "protobuf-compiler"),
        *("gettext", "bison", "flex", "python3-dev"),
    ),
    "channel": all_of(pip("py-rattler==0.28.0"), _CHANNEL),
    "r": apt("r-base-core"),
    "tex": apt("texlive-latex-base"),
}
"""Scripts by name. `channel` is a channel of conda with three small packages, and a program that installs from it."""

_SERVE: Final = "python3 -m http.server -d /srv/channel -b 127.0.0.1 8123 > /dev/null 2>&1 & server=$!; sleep 2"

CONDA: Final = (
    ShellStep(
        name="rattler: an environment from a channel",
        script=f"{_SERVE}; install-from-channel /opt/env hello env; kill $server",
        tools=("channel",),
    ),
    ShellStep(
        name="rattler: an environment, changed once more",
        script=f"{_SERVE}; install-from-channel /opt/env env; install-from-channel /opt/env hello env; kill $server",
        tools=("channel",),
    ),
)

TEX: Final = (
    ShellStep(name="apt: texlive-base", script=apt("texlive-base")),
    ShellStep(name="apt: texlive-latex-base", script=apt("texlive-latex-base")),
    ShellStep(
        name="apt: texlive-latex-base; mktexlsr, fmtutil-sys",
        script=all_of(apt("texlive-latex-base"), "mktexlsr 2> /dev/null", "fmtutil-sys --all > /dev/null 2>&1"),
    ),
    ShellStep(
        name="pdflatex, tex",
        script=all_of(
            "mkdir /src",
            "cd /src",
            write("x.tex", r"\documentclass{article}\begin{document}\today\end{document}"),
            "pdflatex -interaction=batchmode x > /dev/null",
            write("y.tex", r"\number\year\bye"),
            "tex -interaction=batchmode y > /dev/null",
            "rm *.log",
        ),
        tools=("tex",),
        remark="plain `tex` writes the time into a .dvi file: make a PDF, or leave the file out",
    ),
)

SERVERS: Final = (
    ShellStep(
        name="apt: postgresql, no cluster, leave_out",
        script=all_of(
            apt("postgresql-common"),
            "sed -i 's/^#create_main_cluster.*/create_main_cluster = false/' /etc/postgresql-common/createcluster.conf",
            apt("postgresql"),
        ),
        leave_out=_SNAKEOIL,
    ),
    ShellStep(
        name="apt: mariadb-server",
        script=apt("mariadb-server"),
        remark="a new database has random ids and times: leave /var/lib/mysql/** out; `mariadb-install-db` at start",
    ),
    ShellStep(name="apt: mariadb-server, leave_out", script=apt("mariadb-server"), leave_out=("/var/lib/mysql/**",)),
    ShellStep(
        name="apt: slapd",
        script=apt("slapd"),
        remark="a new directory has random ids, a password and times: leave /etc/ldap/slapd.d and /var/lib/ldap out, "
        "and `dpkg-reconfigure slapd` at start",
    ),
    ShellStep(
        name="apt: slapd, leave_out", script=apt("slapd"), leave_out=("/etc/ldap/slapd.d/**", "/var/lib/ldap/**")
    ),
    ShellStep(name="apt: postfix, leave_out", script=apt("postfix"), leave_out=_SNAKEOIL),
    ShellStep(name="apt: dovecot-core, leave_out", script=apt("dovecot-core"), leave_out=_SNAKEOIL),
    ShellStep(name="apt: cups-daemon, leave_out", script=apt("cups-daemon"), leave_out=_SNAKEOIL),
    ShellStep(name="apt: munge, leave_out", script=apt("munge"), leave_out=("/etc/munge/munge.key",)),
    ShellStep(name="apt: bind9, leave_out", script=apt("bind9"), leave_out=("/etc/bind/rndc.key",), clock=False),
    ShellStep(
        name="apt: rabbitmq-server, leave_out",
        script=apt("rabbitmq-server"),
        leave_out=("/var/lib/rabbitmq/.erlang.cookie",),
    ),
    *(
        ShellStep(name=f"apt: {', '.join(packages)}", script=apt(*packages))
        for packages in (
            ("snmpd",),
            ("avahi-daemon",),
            ("memcached",),
            ("mosquitto",),
            ("haproxy",),
            ("squid",),
            ("samba",),
            ("chrony",),
            ("openvpn", "easy-rsa"),
            ("fail2ban",),
            ("lighttpd",),
            ("supervisor",),
            ("rsyslog", "logrotate", "at"),
            ("xvfb", "x11-utils"),
            ("imagemagick", "graphviz"),
            ("plocate",),
            ("unattended-upgrades",),
            ("exim4-daemon-light",),
            ("tmux", "htop", "jq", "rsync"),
        )
    ),
)

_PROJECT: Final = all_of(
    "mkdir -p /src",
    "cd /src",
    write(
        "pyproject.toml",
        "[build-system]",
        'requires = ["hatchling"]',
        'build-backend = "hatchling.build"',
        "[project]",
        'name = "x"',
        'version = "1"',
        'requires-python = ">=3.11"',
        'dependencies = ["six==1.16.0"]',
    ),
    "echo 'X = 1' > x.py",
)

PYTHON: Final = (
    ShellStep(name="poetry install", script=all_of(pip("poetry"), _PROJECT, "poetry install -q --no-root")),
    ShellStep(name="hatch env create", script=all_of(pip("hatch"), _PROJECT, "hatch -q env create")),
    ShellStep(
        name="uv sync, uv tool install",
        script=all_of("uv tool install -q cowsay", _PROJECT, "uv sync -q"),
        tools=("uv",),
    ),
    ShellStep(
        name="virtualenv", script=all_of(pip("virtualenv"), "virtualenv -q /opt/v", "/opt/v/bin/pip install -q six")
    ),
    ShellStep(name="python3 -m build", script=all_of(pip("build"), _PROJECT, "python3 -m build -w > /dev/null 2>&1")),
    ShellStep(name="pip-compile", script=all_of(pip("pip-tools"), _PROJECT, "pip-compile -q pyproject.toml")),
    ShellStep(
        name="jupyter notebook --generate-config",
        script=all_of(pip("notebook"), "jupyter notebook --generate-config -y > /dev/null"),
    ),
    ShellStep(
        name="pytest, ruff, run once",
        script=all_of(
            pip("pytest", "ruff"), _PROJECT, "echo 'def test_x(): pass' > test_x.py", "pytest -q", "ruff check -q"
        ),
    ),
    ShellStep(
        name="ansible localhost",
        script=all_of(pip("ansible-core"), "ansible localhost -m ping > /dev/null 2>&1"),
        clock=False,
    ),
    ShellStep(
        name="cythonize",
        script=all_of(
            pip("cython", "setuptools"), "mkdir /src", "cd /src", "echo 'x = 1' > x.pyx", "cythonize -q -i x.pyx"
        ),
        tools=("build",),
    ),
    ShellStep(
        name="sphinx-build",
        script=all_of(
            pip("sphinx"),
            "mkdir /src",
            "cd /src",
            "touch conf.py",
            write("index.rst", "X", "="),
            "sphinx-build -q . out",
        ),
    ),
)

_GO: Final = all_of(
    "mkdir -p /src",
    "cd /src",
    "go mod init example.org/m 2> /dev/null",
    write("main.go", "package main", 'import "fmt"', "func main() { fmt.Println(1) }"),
)
_C: Final = all_of("mkdir -p /src", "cd /src", write("x.c", "int main(void) { return 0; }"))
_CMAKE: Final = write("CMakeLists.txt", "cmake_minimum_required(VERSION 3.20)", "project(x C)", "add_executable(x x.c)")
_GIT: Final = all_of(
    "git config --global user.email n@example.org",
    "git config --global user.name N",
    "git init -q /opt/r",
    "cd /opt/r",
    "echo x > x",
    "git add x",
    "git commit -qm x",
)


_R_PACKAGE: Final = all_of(
    "mkdir -p /src/moon/R",
    "cd /src",
    write(
        "moon/DESCRIPTION",
        *("Package: moon", "Version: 1.0", "Title: X", "Description: X.", "License: GPL-2", "Author: N"),
        "Maintainer: N <n@example.org>",
    ),
    write("moon/NAMESPACE", "export(f)"),
    write("moon/R/f.R", "f <- function() 1"),
)


def _step(name: str, *commands: str, remark: str = "") -> ShellStep:
    return ShellStep(name=name, script=all_of(*commands), tools=("languages",), remark=remark)


LANGUAGES: Final = (
    _step("go build", _GO, "go build -o /usr/local/bin/m ."),
    _step("go install", _GO, "go install ."),
    _step("cargo install --path", "cd /srv", "cargo init -q --vcs none hello", "cargo install -q --path hello"),
    _step("cargo build", "cd /srv", "cargo init -q --vcs none --lib hello", "cd hello", "cargo build -q"),
    _step(
        "gem build, gem install",
        "mkdir -p /src/lib",
        "cd /src",
        write("lib/x.rb", "X = 1"),
        write(
            "x.gemspec",
            "Gem::Specification.new { |s|",
            's.name = "x"; s.version = "1"; s.summary = "x"; s.authors = ["N"]; s.files = ["lib/x.rb"] }',
        ),
        "gem build -q x.gemspec",
        "gem install -q --local x-1.gem",
    ),
    _step(
        "perl Makefile.PL, make install",
        "mkdir -p /src/lib",
        "cd /src",
        write("lib/X.pm", "package X;", "our $VERSION = 1;", "1;"),
        write("Makefile.PL", "use ExtUtils::MakeMaker;", 'WriteMakefile(NAME => "X", VERSION_FROM => "lib/X.pm");'),
        "perl Makefile.PL > /dev/null 2>&1",
        "make -s install > /dev/null",
    ),
    _step(
        "autoreconf, configure, make install",
        _C,
        write("configure.ac", "AC_INIT([x],[1])", "AM_INIT_AUTOMAKE([foreign])", "AC_PROG_CC")
        + "; "
        + "echo 'AC_CONFIG_FILES([Makefile]) AC_OUTPUT' >> configure.ac",
        write("Makefile.am", "bin_PROGRAMS = x", "x_SOURCES = x.c"),
        "autoreconf -fi > /dev/null 2>&1",
        "./configure -q",
        "make -s -j2 install",
    ),
    _step(
        "cmake -G Ninja, its build folder kept", _C, _CMAKE, "cmake -G Ninja -B b > /dev/null", "ninja -C b > /dev/null"
    ),
    _step("ccache gcc", _C, "ccache gcc -c x.c", "ccache gcc -c x.c"),
    _step("gcc -flto, installed", _C, "gcc -O2 -flto -c x.c", "gcc -flto -o /usr/local/bin/x x.o", "rm x.o"),
    _step("gcc --coverage -frandom-seed", _C, "gcc --coverage -frandom-seed=x -c x.c"),
    _step(
        "gcc -g, objcopy, strip, ar",
        _C,
        "gcc -g -c x.c",
        "ar rcs x.a x.o",
        "objcopy --only-keep-debug x.o x.d",
        "strip -g x.a",
    ),
    _step(
        "swig, protoc, msgfmt, bison, flex",
        "mkdir -p /src",
        "cd /src",
        write("x.i", "%module x", "int f(void);"),
        "swig -python x.i",
        write("x.proto", 'syntax = "proto3";', "message M { int32 a = 1; }"),
        "protoc --python_out=. x.proto",
        write("x.po", 'msgid "a"', 'msgstr "b"'),
        "msgfmt -o x.mo x.po",
        "printf '%%%%\\ns: ;\\n%%%%\\n' > x.y",
        "bison x.y 2> /dev/null",
        "printf '%%%%\\na ;\\n%%%%\\n' > x.l",
        "flex x.l",
    ),
    _step("sqlite3, a database", "sqlite3 /srv/x.db 'create table t(a); insert into t values (1)'"),
    _step("git init, commit, tag", _GIT, "git tag -a v1 -m v1"),
    _step("git worktree, stash", _GIT, "git worktree add -q ../w", "echo y >> x", "git stash -q"),
    _step("zip -X, touch -d", "mkdir -p /src/d", "cd /src", "echo x > d/x", "touch -d @0 d d/x", "zip -qrX x.zip d"),
    ShellStep(
        name="R CMD INSTALL",
        script=all_of(_R_PACKAGE, "R CMD INSTALL moon > /dev/null 2>&1"),
        tools=("r",),
        remark="`R CMD INSTALL --built-timestamp=2000-01-01`",
    ),
    ShellStep(
        name="R CMD INSTALL --built-timestamp",
        script=all_of(_R_PACKAGE, "R CMD INSTALL --built-timestamp=2000-01-01 moon > /dev/null 2>&1"),
        tools=("r",),
    ),
)
