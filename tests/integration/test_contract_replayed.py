"""The cases of the builder's contract that only show when an image is really made: one image, locked and run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.index_server import IndexServer, make_wheel
from tests.integration.registry_server import Registry
from tests.integration.unprivileged import Account

pytestmark = pytest.mark.integration

IMAGE = """\
import klock as kt

image = (
    kt.Image()
    .from_docker("debian:bookworm")
    .pip_install(["--index-url {index} greeting>=1.0", "--index-url {index} 'parting > 0.5'"])
    .set_env_vars({{"BIN": "/opt/bin", "PATH": "$BIN:$PATH", "UNKNOWN": "$NOSUCH/x", "LINES": "a\\nb", "Q": '"q v"'}})
    .run_bash("cd /opt && export LOST=1 && mkdir bin && printf '#!/bin/sh\\necho tool' > bin/tool; chmod +x bin/tool")
    .run_bash("echo ${{LOST-none}} $PWD > /opt/crossed; tool > /opt/tool-output; false; true")
    .run_bash('''cat > /opt/heredoc <<'END'
    it is $HOME
END
[[ $BASH_VERSION ]] && echo bash > /opt/shell''')
    .run_bash("sleep 300 & echo started > /opt/background")
    .run_bash("sleep 300 &", force=True)
    .rsync("./config.yaml", "/app/config.yaml")
    .rsync("./config.yaml", "/app/inside/")
    .rsync("./src", "/app")
    .rsync("./src", "/app/flat", contents=True)
    .rsync("./src/", "~/configs")
    .rsync("./src", filter_options="--include='important.log' --exclude='*.log'")
    .rsync("./with spaces/é ü.txt", "/app/é/ü x.txt", force=True)
    .rsync("./tools", "/bin")
    .sync_package("./my_lib")
)
"""
FILES = {
    "config.yaml": "a: 1\n",
    "src/main.py": "print('main')\n",
    "src/important.log": "kept\n",
    "src/other.log": "dropped by a filter\n",
    "src/secret.txt": "ignored\n",
    "src/.gitignore": "secret.txt\n",
    "src/__pycache__/main.cpython-311.pyc": "x",
    "with spaces/é ü.txt": "spaces\n",
    "tools/hello": "#!/bin/sh\necho hello\n",
    "my_lib/src/my_lib/__init__.py": "ANSWER = 42\n",
    "my_lib/pyproject.toml": "[project]\nname = 'my-lib'\nversion = '1'\n",
}

SEEN: dict[str, tuple[str, str]] = {
    "13: no file is named after a version": ("ls / /work | grep = || echo none", "none"),
    "14, 16: quoted and ranged requirements are installed": (
        "python3 -c 'import greeting, parting; print(greeting.__name__, parting.__name__)'",
        "greeting parting",
    ),
    "25: PATH is the container's, with the new folder first": (
        "echo $PATH",
        "/opt/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    ),
    "26: an undefined variable stays literal": ("printenv UNKNOWN", "$NOSUCH/x"),
    "29: quotes are kept": ("printenv Q", '"q v"'),
    "30: newlines are kept": ("printenv LINES", "a\nb"),
    "33, 34: `;` continues; cd and export do not cross steps, variables do": (
        "cat /opt/crossed /opt/tool-output",
        "none /work\ntool",
    ),
    "36: a heredoc is one step, under bash": ("cat /opt/heredoc /opt/shell", "    it is $HOME\nbash"),
    "37: a service runs beside the command": (
        "cat /proc/[0-9]*/cmdline | tr '\\0' ' ' | grep -c 'sleep 300' > /tmp/n; test $(cat /tmp/n) -ge 1 && echo yes",
        "yes",
    ),
    "39: a command in the background does not block": ("cat /opt/background", "started"),
    "44: a file is exactly there, or inside": ("cat /app/config.yaml /app/inside/config.yaml", "a: 1\na: 1"),
    "45: a folder, or its contents": (
        "ls /app/src /app/flat",
        "/app/flat:\nimportant.log\nmain.py\nother.log\n\n/app/src:\nimportant.log\nmain.py\nother.log",
    ),
    "46, 50: no dest is the working directory, filters in order": ("ls /work/src", "important.log\nmain.py"),
    "47: ~/x is x below the working directory": ("ls /work/configs", "src"),
    "49: ignored files are not there": ("ls -a /app/src | grep -e secret -e pycache || echo none", "none"),
    "54, 55: spaces, other letters and an absolute dest": ("cat '/app/é/ü x.txt'", "spaces"),
    "a dest is followed through the image's symlinks": (
        "readlink /bin; /usr/bin/tools/hello",
        "usr/bin\nhello",
    ),
    "59: a synced package can be imported": ("python3 -c 'import my_lib; print(my_lib.ANSWER)'", "42"),
}


@pytest.fixture(scope="module")
def synced(
    unprivileged: Account, debian_registry: Registry, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Account, Path]]:
    """An account and its project, locked and synced."""
    packages = tmp_path_factory.mktemp("index")
    make_wheel(packages, "greeting", "1.0")
    make_wheel(packages, "parting", "1.0")
    account = unprivileged
    with IndexServer(packages) as index:
        project = account.make_folder("project")
        for name, text in FILES.items():
            (project / name).parent.mkdir(parents=True, exist_ok=True)
            (project / name).write_text(text)
        (project / "tools/hello").chmod(0o755)
        (project / "kimage.py").write_text(IMAGE.format(index=index.url))
        (project / "pyproject.toml").write_text(
            f'[tool.klock.registry-mirrors]\n"docker.io" = "{debian_registry.url}"\n'
        )
        account.give(project)
        for verb in ("lock", "sync"):
            done = account.klock(verb, cwd=project)
            assert done.returncode == 0, done.stderr
        yield account, project


@pytest.mark.parametrize("case", SEEN)
def test_case(case: str, synced: tuple[Account, Path]) -> None:
    account, project = synced
    script, expected = SEEN[case]
    done = account.klock("run", "--", "sh", "-c", script, cwd=project)
    assert done.stdout.rstrip("\n") == expected, done.stderr


def test_the_environment_is_as_locked_after_all_that(synced: tuple[Account, Path]) -> None:
    account, project = synced
    done = account.klock("check", "--env", cwd=project)
    assert (done.returncode, done.stdout) == (0, ""), done.stdout


def test_case_53_a_deleted_source_file_is_reported_and_then_removed(synced: tuple[Account, Path]) -> None:
    account, project = synced
    (project / "src/other.log").unlink()
    done = account.klock("check", cwd=project)
    assert done.returncode == 1
    assert "src/other.log was removed" in done.stdout
    for verb in ("lock", "sync"):
        assert account.klock(verb, cwd=project).returncode == 0
    done = account.klock("run", "--", "ls", "/app/flat", cwd=project)
    assert done.stdout.split() == ["important.log", "main.py"]
