"""A credential of the user's shell, in more than 300 shapes: in no byte that klock writes, and no word that it says."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import pytest

from tests.integration.small_base import SMALL_BASE, write_small_base
from tests.integration.test_secrets_in_network import forms
from tests.integration.unprivileged import Account
from tests.test_secrets_shapes import AROUND, PEM, VALUES

pytestmark = pytest.mark.integration

ENV: Final = {
    **{f"SECRET_{n}_TOKEN": value for n, value in enumerate(VALUES)},
    "UNNAMED": "plain0ldCredential",
    "DEPLOY_KEY": PEM,
}
SECRETS: Final = (*VALUES, ENV["UNNAMED"], *PEM.splitlines()[1:-1])
"""Of a key each line."""

IMAGE: Final = f"""import os
import klock as kt
VALUES = [os.environ[f"SECRET_{{n}}_TOKEN"] for n in range({len(VALUES)})] + [os.environ["UNNAMED"]]
SHAPES = {list(AROUND.values())!r}
text = "\\n".join(shape.format(value, value) for shape in SHAPES for value in VALUES).replace("\\n", "; ")
image = kt.Image().from_docker({SMALL_BASE!r})
# A variable that its name does not give away: where it stands does.
image.set_env_vars({{"API_TOKEN": os.environ["UNNAMED"], "OTHER": f"pre{{VALUES[0]}}post{{VALUES[1]}}"}})
image.run_bash(f"cat > /dev/null <<'E'\\n{{text}}\\nE\\necho made > /made")
image.run_bash(f"cat <<'E'\\n{{text}}\\nE\\ncat /made")
KEY = os.environ["DEPLOY_KEY"]
image.run_bash(f"cat > /dev/null <<'E'\\n{{KEY}}\\nx{{KEY}}y\\nE")
image.rsync("./src", "/srv")
"""


@pytest.fixture
def project(unprivileged: Account) -> Path:
    folder = unprivileged.make_folder("project")
    (folder / "src").mkdir()
    (folder / "src/app.py").write_text("import os\n")
    (folder / "src/.env").write_text("".join(f"{name}={value}\n" for name, value in ENV.items()))
    (folder / "src/id_rsa").write_text(SECRETS[0])
    (folder / "pyproject.toml").write_text('[tool.klock]\ncredential-files = "leave-out"\n')
    (folder / "kimage.py").write_text(IMAGE)
    (folder / "tmp").mkdir()
    write_small_base(folder / "layout")
    unprivileged.give(folder)
    return folder


class Talk:
    """What klock says."""

    def __init__(self, account: Account, project: Path) -> None:
        self.account, self.project = account, project
        self.said = ""

    def klock(self, *arguments: str | Path, status: int = 0) -> str:
        env = {**ENV, "TMPDIR": str(self.project / "tmp")}
        done = self.account.klock(*map(str, arguments), cwd=self.project, env=env)
        assert done.returncode == status, done.stdout + done.stderr
        self.said += done.stdout + done.stderr
        return done.stdout + done.stderr


def places(folder: Path, *, without: frozenset[Path]) -> dict[str, bytes]:
    """All that is below a folder: contents, names, the texts of links."""
    found: dict[str, bytes] = {}
    for here, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if Path(here, name) not in without]
        for name in (*folders, *files):
            path = Path(here, name)
            if path in without:
                continue
            found[f"name {path}"] = os.fsencode(name)
            if path.is_symlink():
                found[f"link {path}"] = os.fsencode(path.readlink())
            elif path.is_file():
                found[str(path)] = path.read_bytes()
    return found


def traces(where: dict[str, bytes]) -> list[str]:
    wanted = {form: secret for secret in SECRETS for form in forms(secret)}
    return [
        f"{place}: {secret}" for place, content in where.items() for form, secret in wanted.items() if form in content
    ]


def test_no_byte_has_a_secret(unprivileged: Account, project: Path) -> None:
    # The base that the account has already.
    before = frozenset(path for kind in ("trees/*", "blobs/*/*/*") for path in unprivileged.store.glob(kind))
    talk = Talk(unprivileged, project)
    talk.klock("lock", "-v")
    talk.klock("sync", "-v")
    talk.klock("check", "--env")
    assert talk.klock("run", "--", "sh", "-c", "cat /made; ls -A /srv/src") == "made\napp.py\n"
    vault, export = project / "vault", project / "export"
    talk.klock("vault", "push", vault)
    talk.klock("export", "dockerfile", "--bundle", "-o", export, status=2)  # a command by reference cannot be exported
    written = (project / "kimage.lock").read_text()
    assert "${SECRET_0_TOKEN}" in written and "${UNNAMED}" in written
    # Another command, which fails, and a definition that is wrong.
    source = (project / "kimage.py").read_text()
    (project / "kimage.py").write_text(source + "image.run_bash(f'cat <<E\\n{text}\\nE\\nfalse')\n")
    talk.klock("lock", status=2)
    (project / "kimage.py").write_text(source + "image.pip_install([f'x y{VALUES[0]} =={VALUES[1]}'])\n")
    talk.klock("lock", status=2)
    (project / "kimage.py").write_text(source)
    found = places(project, without=frozenset([project / "src"])) | places(unprivileged.store, without=before)
    assert {"kimage.lock", "vault"} <= {path.name for path in project.iterdir()}
    assert sum(name.startswith(str(unprivileged.store / "records")) for name in found) > 3
    assert traces({**found, "what klock said": talk.said.encode()}) == []
    assert list((project / "tmp").iterdir()) == []
    assert "***" in talk.said


def test_the_search_finds(tmp_path: Path) -> None:
    (tmp_path / "a").write_text(f"x{SECRETS[0]}y")
    (tmp_path / f"b{SECRETS[1]}").write_text("")
    (tmp_path / "c").symlink_to(SECRETS[2])
    assert len(traces(places(tmp_path, without=frozenset()))) == 3
