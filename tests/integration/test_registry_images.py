"""Images in registries: pushed without an engine, equal wherever they were made, run by engines, pulled by klock."""

from __future__ import annotations

import base64
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from tests.integration.container_engines import ContainerHost, docker_host, podman_host
from tests.integration.cutting_proxy import cutting_proxy
from tests.integration.private_names import PrivateNames
from tests.integration.registry_server import Registry, registry
from tests.integration.small_base import SMALL_BASE, write_small_base
from tests.integration.unprivileged import Account

pytestmark = pytest.mark.integration

IMAGE = f"""\
import klock as kt

image = (
    kt.Image()
    .from_docker("{SMALL_BASE}")
    .set_env_vars({{"GREETING": "hello"}})
    .rsync("./app", "/srv/app", contents=True)
    .run_bash("rm /bin/rev; ln /srv/app/main.sh /srv/hard; chown 1000:1000 /srv/hard; mkdir -m 1777 /srv/all")
)
"""
RUN = ("sh", "-c", "sh /srv/app/main.sh; test ! -e /bin/rev && stat -c '%a %u %h' /srv/hard")
SAID = "hello\n644 1000 2\n"


def succeeded(done: CompletedProcess[str]) -> CompletedProcess[str]:
    assert done.returncode == 0, f"{done.args}: exit status {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with registry(tmp_path_factory.mktemp("one")) as made:
        yield made


@pytest.fixture(scope="module")
def podman(root: Account) -> Iterator[ContainerHost]:
    with podman_host(root) as made:
        yield made


@pytest.fixture(scope="module")
def project(root: Account) -> Path:
    """A project that is locked with its image digest."""
    folder = root.make_folder("project")
    (folder / "app").mkdir()
    (folder / "app/main.sh").write_text("echo $GREETING\n")
    (folder / "app/main.sh").chmod(0o644)
    (folder / "kimage.py").write_text(IMAGE)
    (folder / "pyproject.toml").touch()
    write_small_base(folder / "layout")
    succeeded(root.klock("lock", "--image-digest", cwd=folder))
    return folder


@pytest.fixture(scope="module")
def pushed(root: Account, project: Path, server: Registry) -> str:
    """The image by its digest, as `klock push` printed it."""
    return succeeded(root.klock("push", f"{server.host}/team/app:v1", cwd=project)).stdout.strip()


def locked_digest(project: Path) -> str:
    (line,) = (line for line in (project / "kimage.lock").read_text().splitlines() if line.startswith('digest = "sha'))
    return line.split('"')[1]


def test_two_stores_two_users_two_registries_one_digest(
    unprivileged: Account, project: Path, pushed: str, server: Registry, tmp_path: Path
) -> None:
    other = unprivileged.make_folder("project")
    subprocess.run(["cp", "--recursive", f"{project}/.", other], check=True)
    unprivileged.give(other)
    store = unprivileged.make_folder("store")
    with registry(tmp_path) as second:
        done = unprivileged.klock(
            "push", f"{second.host}/another/name:latest", cwd=other, env={"KLOCK_CACHE_DIR": str(store)}
        )
        again = succeeded(done).stdout.strip()
    assert again.partition("@")[2] == pushed.partition("@")[2] == locked_digest(project)
    assert pushed == f"{server.host}/team/app@{locked_digest(project)}"


def test_a_second_push_sends_nothing(root: Account, project: Path, pushed: str, server: Registry) -> None:
    server.forget_requests()
    done = succeeded(root.klock("push", f"{server.host}/team/app:v2", cwd=project))
    assert done.stdout.strip() == pushed
    assert "0 blobs sent (0 B), 0 mounted, 3 there already" in done.stderr
    assert {method for method, _ in server.requests()} == {"HEAD", "PUT"}


def test_blobs_are_mounted_from_the_repository_of_the_base(root: Account, project: Path, server: Registry) -> None:
    server.push_layout(project / "layout", "bases/small", "1", layout_tag="image")
    folder = root.make_folder("mounted")
    (folder / "app").mkdir()
    (folder / "kimage.py").write_text(
        f'import klock as kt\nimage = kt.Image().from_docker("{server.host}/bases/small:1")\n'
    )
    succeeded(root.klock("lock", cwd=folder))
    done = succeeded(root.klock("push", f"{server.host}/team/mounted:v1", cwd=folder))
    assert "0 blobs sent (0 B), 1 mounted, 0 there already" in done.stderr


@pytest.mark.parametrize("compression", ["gzip", pytest.param("zstd", marks=pytest.mark.soak), "none"])
def test_podman_pulls_and_runs_it(
    root: Account, project: Path, server: Registry, compression: str, podman: ContainerHost
) -> None:
    tag = f"{server.host}/team/{compression}:v1"
    name = succeeded(root.klock("push", "--compression", compression, tag, cwd=project)).stdout.strip()
    podman.native("pull", "--quiet", "--tls-verify=false", name)
    assert podman.native("run", "--rm", "--network=none", name, *RUN) == SAID


def test_docker_pulls_runs_and_loads_it(root: Account, project: Path, pushed: str) -> None:
    with docker_host(root) as docker:
        docker.native("pull", "--quiet", pushed)
        assert docker.native("run", "--rm", "--network=none", pushed, *RUN) == SAID
        archive = project / "out.tar"
        succeeded(root.klock("export", "image", "--name", "app:1", archive, cwd=project))
        assert "Loaded image: app:1" in docker.native("load", "--input", str(archive))
        assert docker.native("run", "--rm", "--network=none", "app:1", *RUN) == SAID


def test_podman_and_skopeo_read_the_folder_and_the_archive(
    root: Account, project: Path, podman: ContainerHost, tmp_path: Path
) -> None:
    folder, archive = project / "image", project / "image.tar"
    for output in (folder, archive):
        done = succeeded(root.klock("export", "image", "--name", "localhost/app:1", output, cwd=project))
        assert done.stderr.splitlines()[-1].endswith(locked_digest(project))
    for source in (f"oci:{folder}", f"oci-archive:{archive}"):
        assert _inspect(source)["Digest"] == locked_digest(project)
    assert "localhost/app:1" in podman.native("load", "--input", str(archive))
    assert podman.native("run", "--rm", "--network=none", "localhost/app:1", *RUN) == SAID


def _inspect(source: str) -> dict[str, object]:
    tls = ["--tls-verify=false"] if source.startswith("docker:") else []
    done = subprocess.run(["skopeo", "inspect", *tls, source], capture_output=True, text=True, check=True)
    shown: dict[str, object] = json.loads(done.stdout)
    return shown


def test_an_empty_machine_syncs_from_the_registry_alone(root: Account, project: Path, pushed: str) -> None:
    store = {"KLOCK_CACHE_DIR": str(root.make_folder("store"))}
    (project / "layout").rename(project / "gone")
    try:
        done = succeeded(root.klock("pull", pushed, cwd=project, env=store))
        assert "pulled: the base and 2 layers" in done.stderr
        done = succeeded(root.klock("sync", "--offline", cwd=project, env=store))
        assert "environment synced: linux/amd64/cpu, sha256:" in done.stderr
        assert succeeded(root.klock("run", "--", *RUN, cwd=project, env=store)).stdout == SAID
        succeeded(root.klock("check", "--deep", cwd=project, env=store))
        again = succeeded(root.klock("pull", pushed, cwd=project, env=store))
        assert "everything was in the store" in again.stderr
    finally:
        (project / "gone").rename(project / "layout")


def test_several_targets_are_an_index_of_their_images(
    root: Account, project: Path, server: Registry, podman: ContainerHost
) -> None:
    """An engine takes the one without an accelerator; each is pulled and verified by its target."""
    folder = root.make_folder("targets")
    subprocess.run(["cp", "--recursive", f"{project}/.", folder], check=True)
    (folder / "kimage.lock").unlink()
    (folder / "pyproject.toml").write_text('[tool.klock]\ntargets = ["linux/amd64/cuda12.4", "linux/amd64"]\n')
    succeeded(root.klock("lock", "--image-digest", cwd=folder))
    tag = f"{server.host}/team/several:v1"
    name = succeeded(root.klock("push", tag, cwd=folder)).stdout.strip()
    listed = _inspect_raw(f"docker://{name}")["manifests"]
    assert [entry["annotations"]["org.klock.target"] for entry in listed] == ["linux/amd64/cpu", "linux/amd64/cuda12.4"]
    assert {entry["digest"] for entry in listed} <= {*_digests(folder / "kimage.lock")}
    podman.native("pull", "--quiet", "--tls-verify=false", tag)
    assert podman.native("run", "--rm", "--network=none", tag, *RUN) == SAID
    assert _inspect(f"docker://{server.host}/team/several:v1-linux-amd64-cuda12.4")["Digest"] == listed[1]["digest"]
    for target in ("linux/amd64/cpu", "linux/amd64/cuda12.4"):
        store = {"KLOCK_CACHE_DIR": str(root.make_folder("store"))}
        done = succeeded(root.klock("pull", "--target", target, tag, cwd=folder, env=store))
        assert "the base and 2 layers" in done.stderr
    done = succeeded(root.klock("verify", name, cwd=folder))
    assert f"{name} is the image of kimage.lock: linux/amd64/cpu, linux/amd64/cuda12.4" in done.stderr


def _digests(lockfile: Path) -> list[str]:
    return [line.split('"')[1] for line in lockfile.read_text().splitlines() if line.startswith('digest = "sha')]


def test_a_layer_that_is_not_the_locked_one_is_refused(root: Account, project: Path, server: Registry) -> None:
    """Somebody pushed another image of the same form under the tag."""
    other = root.make_folder("other")
    subprocess.run(["cp", "--recursive", f"{project}/.", other], check=True)
    (other / "app/main.sh").write_text("echo evil\n")
    succeeded(root.klock("lock", cwd=other))
    assert "oci-image" not in (other / "kimage.lock").read_text(), "it is another image, so the digest went"
    succeeded(root.klock("push", f"{server.host}/team/evil:v1", cwd=other))
    store = {"KLOCK_CACHE_DIR": str(root.make_folder("store"))}
    done = root.klock("pull", f"{server.host}/team/evil:v1", cwd=project, env=store)
    assert done.returncode == 2
    assert "is not the image of this lockfile: it has no layer sha256:" in done.stderr


def test_a_wrong_password_and_none_are_told_apart(root: Account, project: Path, tmp_path: Path) -> None:
    def pushed_as(user: str | None) -> CompletedProcess[str]:
        logins = {private.host: {"auth": base64.b64encode(user.encode()).decode()}} if user else {}
        (tmp_path / "config.json").write_text(json.dumps({"auths": logins}))
        return root.klock(
            "push", f"{private.host}/team/app:v1", cwd=project, env={"DOCKER_CONFIG": os.fspath(tmp_path)}
        )

    with registry(tmp_path, password=True) as private:
        done = pushed_as(None)
        assert done.returncode == 2
        assert f"{private.host} wants credentials, or there is no such repository" in done.stderr
        assert f"if it is private, run `docker login {private.host}`" in done.stderr
        done = pushed_as("user:wrong")
        assert done.returncode == 2
        assert f"{private.host} does not accept the login that this machine has" in done.stderr
        assert "the account may push it" in done.stderr
        assert succeeded(pushed_as("user:secret")).stdout.strip().endswith(locked_digest(project))


def test_verify_says_whether_it_is_the_locked_image_offline_too(root: Account, project: Path, pushed: str) -> None:
    done = succeeded(root.klock("verify", "--offline", pushed, cwd=project))
    assert done.stderr == f"{pushed} is the image of kimage.lock: linux/amd64/cpu\n"
    assert root.klock("verify", pushed, cwd=project).returncode == 0
    other = f"{pushed.partition('@')[0]}@sha256:{'0' * 64}"
    done = root.klock("verify", "--offline", other, cwd=project)
    assert (done.returncode, done.stdout) == (1, f"{other}: it is not the image of this lockfile\n")
    done = root.klock("verify", other, cwd=project)
    assert (done.returncode, done.stderr.splitlines()[0]) == (2, f"error: there is no image {other}")


def test_verify_names_the_layers_that_differ(root: Account, project: Path, server: Registry) -> None:
    other = root.make_folder("other")
    subprocess.run(["cp", "--recursive", f"{project}/.", other], check=True)
    (other / "app/main.sh").write_text("echo other\n")
    succeeded(root.klock("lock", cwd=other))
    name = succeeded(root.klock("push", f"{server.host}/team/other:v1", cwd=other)).stdout.strip()
    done = root.klock("verify", name, cwd=project)
    assert done.returncode == 1
    assert f"{name}: it lacks the layer sha256:" in done.stdout
    assert f"{name}: it has another layer sha256:" in done.stdout


def test_provenance_is_attached_signed_and_verified(root: Account, project: Path, server: Registry) -> None:
    """The registry does not know referrers, so they are under the tag that the image's digest gives."""
    for name in ("ours", "theirs"):
        succeeded(root.klock("sign", "--make-key", name, cwd=project))
    tag = f"{server.host}/team/signed:v1"
    done = succeeded(root.klock("push", "--attest", "--key", "ours", tag, cwd=project))
    name = done.stdout.strip()
    assert "bills of materials (CycloneDX, SPDX) and signed provenance attached" in done.stderr
    listed = _inspect_raw(f"docker://{name.replace('@sha256:', ':sha256-')}")
    kinds = [entry["artifactType"] for entry in listed["manifests"]]
    assert kinds == [
        "application/vnd.cyclonedx+json",
        "application/spdx+json",
        "application/vnd.dsse.envelope.v1+json",
    ]
    again = succeeded(root.klock("push", "--attest", "--key", "ours", tag, cwd=project))
    assert again.stdout.strip() == name
    assert len(_inspect_raw(f"docker://{name.replace('@sha256:', ':sha256-')}")["manifests"]) == 3

    done = succeeded(root.klock("verify", "--key", "ours.pub", name, cwd=project))
    assert f"{name} is the image of kimage.lock: linux/amd64/cpu, signed by key " in done.stderr
    done = root.klock("verify", "--key", "theirs.pub", name, cwd=project)
    assert (done.returncode, done.stdout) == (1, f"{name}: no trusted key vouches for it: no trusted key signed it\n")


def _inspect_raw(source: str) -> dict[str, Any]:
    command = ["skopeo", "inspect", "--raw", "--tls-verify=false", source]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    shown: dict[str, Any] = json.loads(done.stdout)
    return shown


@pytest.mark.parametrize("times", [1, pytest.param(3, marks=pytest.mark.soak)])
def test_an_upload_over_a_line_that_breaks_arrives_whole(
    root: Account, project: Path, server: Registry, times: int
) -> None:
    """A real registry forgets what it has of an upload or not: either way the blob that counts is whole."""
    with cutting_proxy(server.host, after=300_000, times=times) as address:
        done = succeeded(root.klock("push", f"{address}/team/broken-{times}:v1", cwd=project))
    assert done.stdout.strip().endswith(locked_digest(project))
    assert "3 blobs sent" in done.stderr
    succeeded(root.klock("verify", f"{server.host}/team/broken-{times}@{locked_digest(project)}", cwd=project))


def test_a_registry_whose_certificate_a_private_authority_signed(
    root: Account, project: Path, pushed: str, tmp_path: Path
) -> None:
    names = PrivateNames(tmp_path, {})
    names.server_context("127.0.0.1")
    settings = project / "pyproject.toml"
    with registry(tmp_path, tls=(tmp_path / "127.0.0.1.pem", tmp_path / "127.0.0.1.key")) as server:
        settings.write_text(f'[tool.klock]\nregistry-mirrors = {{ "{server.host}" = "https://{server.host}" }}\n')
        refused = root.klock("push", f"{server.host}/team/app:v1", cwd=project)
        with settings.open("a") as file:
            file.write(f'ca-bundle = "{names.ca_certificate}"\n')
        done = succeeded(root.klock("push", f"{server.host}/team/app:v1", cwd=project))
        name = done.stdout.strip()
        pulled = root.klock("pull", name, cwd=project, env={"KLOCK_CACHE_DIR": str(root.make_folder("store"))})
        succeeded(root.klock("verify", name, cwd=project))
    settings.write_text("")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "TLS certificate" in refused.stderr
    assert "ca-bundle" in refused.stderr
    assert name.partition("@")[2] == pushed.partition("@")[2]
    assert "the base and 2 layers" in succeeded(pulled).stderr


@pytest.mark.soak
def test_an_upload_that_never_arrives_leaves_no_tag(root: Account, project: Path, server: Registry) -> None:
    with cutting_proxy(server.host, after=300_000, times=1000) as address:
        done = root.klock("push", f"{address}/team/never:v1", cwd=project)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-3].startswith("error: ")
    assert _tags(server, "team/never") == []
    again = succeeded(root.klock("push", f"{server.host}/team/never:v1", cwd=project))
    assert "there already" in again.stderr


def _tags(server: Registry, name: str) -> list[str]:
    folder = server.folder / f"images/docker/registry/v2/repositories/{name}/_manifests/tags"
    return [path.name for path in folder.iterdir()] if folder.exists() else []
