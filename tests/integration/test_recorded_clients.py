"""The programs people fetch things with, in shell steps: recorded once, then replayed with no network at all.

Each case is locked where the upstream is, and synced with another store, without the layers, in an empty network:
without privileges, and in `make soak` as root too. What several programs do in one step they do alone in `make soak`.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Final

import pytest

from tests.integration.container_engines import some_of
from tests.integration.unprivileged import EMPTY_NETWORK, Account
from tests.integration.upstream import (
    ZONE,
    Case,
    Laboratory,
    World,
    clients_layout,
    upstream_world,
)

pytestmark = pytest.mark.integration

INDEX: Final = f"https://pypi.{ZONE}/simple/"
PACKAGES: Final = f"https://pypi.{ZONE}/files"
REGISTRY: Final = f"https://npm.{ZONE}"
REPOSITORY: Final = f"https://git.{ZONE}/tool.git"
KEY: Final = '.copy("./upstream.asc", "/etc/apt/upstream.asc")'
PIP: Final = f"pip install --break-system-packages --index-url {INDEX}"
WORDS: Final = "first\nsecond\nthird\n"


def apt(scheme: str, install: str) -> str:
    source = f"deb [signed-by=/etc/apt/upstream.asc] {scheme}://debian.{ZONE}/debian stable main"
    return f"echo '{source}' > /etc/apt/sources.list && apt-get update && {install}"


def installs(names: str) -> str:
    return f"apt-get install -y --no-install-recommends {names}"


def got(url: str) -> str:
    return f"GET {url} 200"


def posted(url: str) -> str:
    return f"POST {url} 200"


CASES: Final[dict[str, Case]] = {
    "apt over http": Case(
        steps=(KEY, apt("http", installs("greeter"))),
        script="greeter",
        prints="good morning\ntone = kind\nconfigured\n",
        asks=(
            got(f"http://debian.{ZONE}/debian/dists/stable/InRelease"),
            got(f"http://debian.{ZONE}/debian/pool/greeter_1.0-1_all.deb"),
            got(f"http://debian.{ZONE}/debian/pool/libgreeting_1.0-1_all.deb"),
        ),
    ),
    "apt over https": Case(
        steps=(KEY, apt("https", installs("greeter speaker"))),
        script="greeter; speaker",
        prints="good morning\ntone = kind\nconfigured\nhear, hear\n",
        asks=(
            got(f"https://debian.{ZONE}/debian/dists/stable/InRelease"),
            got(f"https://debian.{ZONE}/debian/pool/libgreeting_1.0-1_all.deb"),
            got(f"https://debian.{ZONE}/debian/pool/speaker_1.0-1_all.deb"),
        ),
    ),
    "apt that installs in a later step": Case(
        steps=(KEY, apt("http", "apt-cache policy greeter > /policy"), installs("greeter")),
        script="greeter; grep -c Candidate:.1.0-1 /policy",
        prints="good morning\ntone = kind\nconfigured\n1\n",
        asks=(got(f"http://debian.{ZONE}/debian/pool/greeter_1.0-1_all.deb"),),
    ),
    "pip with wheels": Case(
        steps=(f"{PIP} greeting",),
        script='python3 -c "import greeting, wording; print(greeting.__version__, wording.__version__)"',
        prints="1.0 1.1\n",
        asks=(
            got(f"{INDEX}greeting/"),
            got(f"{INDEX}wording/"),
            got(f"{PACKAGES}/greeting-1.0-py3-none-any.whl"),
            got(f"{PACKAGES}/wording-1.1-py3-none-any.whl"),
        ),
    ),
    "pip with a source archive": Case(
        steps=(f"{PIP} parting",),
        script='python3 -c "import parting; print(parting.WORD)"',
        prints="farewell\n",
        asks=(got(f"{PACKAGES}/parting-1.0.tar.gz"),),
    ),
    "pip in a virtual environment": Case(
        steps=(f"python3 -m venv /venv && /venv/bin/pip install --index-url {INDEX} greeting",),
        script='/venv/bin/python -c "import wording; print(wording.__version__)"',
        prints="1.1\n",
        asks=(got(f"{PACKAGES}/greeting-1.0-py3-none-any.whl"),),
    ),
    "uv": Case(
        steps=(f"uv pip install --system --break-system-packages --default-index {INDEX} greeting parting",),
        script='python3 -c "import greeting, parting, wording; print(wording.__version__, parting.WORD)"',
        prints="1.1 farewell\n",
        asks=(got(f"{PACKAGES}/wording-1.1-py3-none-any.whl"), got(f"{PACKAGES}/parting-1.0.tar.gz")),
    ),
    "npm, globally": Case(
        steps=(f"npm install --global --registry {REGISTRY} greet-cli",),
        script="greet",
        prints="good day\n",
        asks=(
            got(f"{REGISTRY}/greet-cli"),
            got(f"{REGISTRY}/greet-cli/-/greet-cli-1.2.0.tgz"),
            got(f"{REGISTRY}/@upstream/words/-/words-2.1.0.tgz"),
        ),
    ),
    "npm, in a project": Case(
        steps=(
            f"mkdir -p /srv/app && cd /srv/app && npm init -y && npm install --registry {REGISTRY} greet-cli"
            f" && rm -rf node_modules && npm ci --registry {REGISTRY}",
        ),
        script="cd /srv/app && npx greet",
        prints="good day\n",
        asks=(got(f"{REGISTRY}/@upstream/words/-/words-2.1.0.tgz"),),
    ),
    "git, the whole history": Case(
        steps=(f"git clone {REPOSITORY} /tool",),
        script="cat /tool/words.txt; git -C /tool rev-list --count HEAD; git -C /tool status --short",
        prints=f"{WORDS}3\n",
        asks=(
            got(f"{REPOSITORY}/info/refs?service=git-upload-pack"),
            posted(f"{REPOSITORY}/git-upload-pack"),
        ),
    ),
    "git, shallow": Case(
        steps=(f"git clone --depth 1 {REPOSITORY} /tool",),
        script="cat /tool/words.txt; git -C /tool rev-list --count HEAD",
        prints=f"{WORDS}1\n",
        asks=(posted(f"{REPOSITORY}/git-upload-pack"),),
    ),
    "git, shallow and then deepened": Case(
        steps=(f"git clone --depth 1 {REPOSITORY} /tool && git -C /tool fetch --unshallow",),
        script="git -C /tool rev-list --count HEAD; git -C /tool tag",
        prints="3\nv1.0\n",
        asks=(posted(f"{REPOSITORY}/git-upload-pack"),),
    ),
    "git, a tag over the first protocol": Case(
        steps=(f"git -c protocol.version=0 clone --quiet --branch v1.0 {REPOSITORY} /tool",),
        script="cat /tool/words.txt",
        prints="first\nsecond\n",
        asks=(posted(f"{REPOSITORY}/git-upload-pack"),),
    ),
    "git, without the files of the past": Case(
        steps=(f"git clone --filter=blob:none {REPOSITORY} /tool",),
        script="cat /tool/words.txt; git -C /tool rev-list --count HEAD",
        prints=f"{WORDS}3\n",
        asks=(posted(f"{REPOSITORY}/git-upload-pack"),),
    ),
    "several in one step": Case(
        steps=(
            KEY,
            apt("https", installs("speaker"))
            + f" && {PIP} greeting && npm install --global --registry {REGISTRY} greet-cli"
            + f" && git clone --quiet --depth 1 {REPOSITORY} /tool && curl -fsSL https://files.{ZONE}/hops/2 -o /hops",
        ),
        script='speaker; greet; cat /hops /tool/words.txt; python3 -c "import greeting"',
        prints=f"hear, hear\ngood day\narrived\n{WORDS}",
        asks=(
            got(f"https://debian.{ZONE}/debian/pool/speaker_1.0-1_all.deb"),
            got(f"{PACKAGES}/wording-1.1-py3-none-any.whl"),
            got(f"{REGISTRY}/greet-cli/-/greet-cli-1.2.0.tgz"),
            posted(f"{REPOSITORY}/git-upload-pack"),
            got(f"https://files.{ZONE}/hops/0"),
        ),
    ),
    "proxies that the image names, and nobody has": Case(
        steps=(
            KEY,
            """echo 'Acquire::http::Proxy "http://proxy.none:3128";' > /etc/apt/apt.conf.d/99proxy"""
            " && printf '[global]\\nproxy = http://10.9.8.7:3129\\n' > /etc/pip.conf"
            " && git config --system http.proxy http://127.0.0.1:3130",
            apt("http", installs("greeter")),
            f"{PIP} greeting && git clone --quiet --depth 1 {REPOSITORY} /tool",
            '.set_env_vars({"https_proxy": "http://proxy.none:8888"})',
            f"curl -fsSL https://files.{ZONE}/hops/2 -o /hops",
        ),
        script='greeter; cat /hops /tool/words.txt; python3 -c "import greeting"',
        prints=f"good morning\ntone = kind\nconfigured\narrived\n{WORDS}",
        asks=(
            got(f"http://debian.{ZONE}/debian/pool/greeter_1.0-1_all.deb"),
            got(f"{PACKAGES}/wording-1.1-py3-none-any.whl"),
            posted(f"{REPOSITORY}/git-upload-pack"),
            got(f"https://files.{ZONE}/hops/0"),
        ),
    ),
}


def files(upstream: World) -> dict[str, bytes]:
    """What lies beside `kimage.py`: the key that the archive is signed with."""
    return {"upstream.asc": upstream.archive_key.read_bytes()}


@pytest.fixture(scope="module")
def upstream(root: Account, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    assert root.uid == 0
    with upstream_world(tmp_path_factory.mktemp("upstream") / "world") as world:
        yield world


@pytest.fixture(scope="module")
def laboratories(root: Account, unprivileged: Account, upstream: World) -> dict[str, Laboratory]:
    """One for each account, so that each unpacks the base image but twice."""
    layout = clients_layout()
    accounts = {"root": root, "unprivileged": unprivileged}
    return {name: Laboratory(account=each, upstream=upstream, layout=layout) for name, each in accounts.items()}


@pytest.fixture(scope="module")
def laboratory(laboratories: dict[str, Laboratory]) -> Laboratory:
    return laboratories["unprivileged"]


IN_SHORT: Final = (
    "apt over https",
    "apt that installs in a later step",
    "uv",
    "npm, in a project",
    "git, the whole history",
    "several in one step",
)
"""The others fetch the same in the same way as one of these."""


@pytest.mark.parametrize("who", ["unprivileged", pytest.param("root", marks=pytest.mark.soak)])
@pytest.mark.parametrize("name", some_of(CASES, *IN_SHORT))
def test_is_replayed_without_a_network(
    name: str, who: str, laboratories: dict[str, Laboratory], upstream: World
) -> None:
    CASES[name].holds(laboratories[who], files=files(upstream), env={}, checked=True)


def test_the_packages_that_apt_brought_are_listed(laboratory: Laboratory, upstream: World) -> None:
    project = laboratory.project(KEY, apt("http", installs("greeter")), files=files(upstream))
    project.lock()
    (step,) = project.shell_steps
    assert step["installed"] == ["greeter 1.0-1", "libgreeting 1.0-1"]
    lines = project.lockfile.read_text().splitlines()
    requests = [line for line in lines if line.startswith('    {method = "')]
    assert len(requests) == len(step["requests"])
    urls = [request["url"] for request in step["requests"]]
    assert urls == sorted(urls)


SOURCES: Final = (KEY, apt("http", "rm -rf /var/lib/apt/lists/*"))
DO_NOT_REPEAT: Final[dict[str, tuple[str, str]]] = {
    "a package that makes a key": (".apt_install('keymaker'{options})", "/etc/keys/host other content"),
    "process ids": (".run_bash('echo $$ > /a'{options})", "/a other content: only digits differ"),
    "the number of CPUs": (".run_bash('nproc > /a'{options})", "/a other content: only digits differ"),
}


LEAVE_OUT: Final = "leave_out=['/a', '/etc/keys/*']"
KEEP_LAYER: Final = "keep_layer=True"


@pytest.mark.parametrize(
    ("name", "option"),
    [
        ("a package that makes a key", LEAVE_OUT),
        pytest.param("the number of CPUs", KEEP_LAYER, marks=pytest.mark.soak),
        pytest.param("a package that makes a key", KEEP_LAYER, marks=pytest.mark.soak),
        pytest.param("process ids", LEAVE_OUT, marks=pytest.mark.soak),
        pytest.param("process ids", KEEP_LAYER, marks=pytest.mark.soak),
        pytest.param("the number of CPUs", LEAVE_OUT, marks=pytest.mark.soak),
    ],
)
def test_what_differs_on_another_machine_is_not_locked(
    *, name: str, option: str, laboratory: Laboratory, upstream: World
) -> None:
    step, path = DO_NOT_REPEAT[name]
    project = laboratory.project(*SOURCES, step.format(options=""), files=files(upstream))
    said = project.lock(status=2).stderr
    assert "makes something else each time it runs" in said and f"\n  {path}" in said
    assert option.partition("=")[0] in said
    project.write(*SOURCES, step.format(options=f", {option}"))
    project.lock()
    vault = laboratory.account.make_folder("vault")
    project.klock_online("vault", "push", vault)
    env = {"KLOCK_CACHE_DIR": str(laboratory.account.make_folder("empty"))}
    project.klock("vault", "pull", vault, env=env)
    assert project.locked_fingerprint in project.klock("sync", env=env).stderr
    project.klock("check", "--env", env=env)


def test_an_error_that_a_step_passes_over_is_told(laboratory: Laboratory) -> None:
    project = laboratory.project(f"curl -sS https://files.{ZONE}/status/404 | cat > /a")
    said = project.lock().stderr
    assert f"although it got errors, which are locked now:\n  GET https://files.{ZONE}/status/404: status 404" in said


@pytest.mark.soak
def test_a_replay_where_the_upstream_is_asks_it_nothing(laboratory: Laboratory, upstream: World) -> None:
    """With a store that has the recorded blobs and a network that would answer."""
    project = laboratory.project(f"git clone --quiet --depth 1 {REPOSITORY} /tool && {PIP} greeting")
    project.lock()
    store = laboratory.account.make_folder("blobs")
    shutil.rmtree(store)
    shutil.copytree(laboratory.recording_store / "blobs", store / "blobs")
    laboratory.account.give(store)
    upstream.forget_requests()
    done = project.klock_online("sync", store=store)
    assert upstream.requests() == []
    assert project.locked_fingerprint in done.stderr


def test_a_vault_alone_is_enough(laboratory: Laboratory, upstream: World) -> None:
    """Neither the image's layout nor any store is there any more, nor a network."""
    project = laboratory.project(KEY, apt("https", installs("greeter")), f"{PIP} greeting", files=files(upstream))
    project.lock()
    vault = laboratory.account.make_folder("vault")
    project.klock_online("vault", "push", vault)
    (project.folder / "clients").unlink()
    env = {"KLOCK_CACHE_DIR": str(laboratory.account.make_folder("empty"))}
    project.klock("vault", "pull", vault, env=env)
    synced = project.klock("sync", env=env)
    assert project.locked_fingerprint in synced.stderr
    assert project.prints("greeter | head -n 1", env=env) == "good morning\n"


def test_an_empty_network_is_empty(laboratory: Laboratory) -> None:
    """What all of this rests on: there is nobody to ask where the replays run."""
    program = "import socket; socket.create_connection(('127.0.0.1', 80), 1)"
    account = laboratory.account
    done = account.run(["python3", "-c", program], cwd=account.folder, enter=EMPTY_NETWORK)
    assert "Network is unreachable" in done.stderr


def test_root_and_others_lock_the_same_bytes(laboratories: dict[str, Laboratory], upstream: World) -> None:
    """So a lockfile of the one is replayed by the other."""
    steps = (KEY, f"{PIP} greeting && git clone --quiet {REPOSITORY} /tool")
    locks = set()
    for laboratory in laboratories.values():
        project = laboratory.project(*steps, files=files(upstream))
        project.lock()
        lines = project.lockfile.read_text().splitlines()
        # How git's server cuts its answer into packets (protocol-v2) depends on its timing.
        locks.add("\n".join(line for line in lines if "/git-upload-pack" not in line))
    assert len(laboratories) == 2
    assert len(locks) == 1
