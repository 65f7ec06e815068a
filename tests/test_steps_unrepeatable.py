"""What is known to make something else each time, in a command's text and in a list of Debian packages."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from klock.steps.unrepeatable import BROUGHT_BY, DEBIAN_PACKAGES, in_command, in_packages, not_covered

HOST_KEYS = ("/etc/ssh/ssh_host_*",)
SNAKEOIL = ("/etc/ssl/certs/ssl-cert-snakeoil.pem", "/etc/ssl/private/ssl-cert-snakeoil.key")
VARIABLES = {"PG_MAJOR": "15", "KEYS": "/srv"}


@pytest.mark.parametrize(
    ("command", "paths"),
    [
        ("apt-get update && apt-get install -y --no-install-recommends vim openssh-server", HOST_KEYS),
        (
            "apt-get update; \\\n  DEBIAN_FRONTEND=noninteractive apt-get -y install \\\n  openssh-server=1:9.2",
            HOST_KEYS,
        ),
        ("sudo apt install openssh-server/bookworm", HOST_KEYS),
        ("if ! command -v sshd; then apt-get install -y 'openssh-server'; fi", HOST_KEYS),
        ("(apt-get install munge)", ("/etc/munge/munge.key",)),
        ("dpkg-reconfigure openssh-server", HOST_KEYS),
        ("/usr/bin/ssh-keygen -A", HOST_KEYS),
        ("ssh-keygen -q -t rsa -N '' -f ~/.ssh/id_rsa", ("/root/.ssh/id_rsa", "/root/.ssh/id_rsa.pub")),
        (
            "make-ssl-cert generate-default-snakeoil --force-overwrite",
            ("/etc/ssl/certs/ssl-cert-snakeoil.pem", "/etc/ssl/private/ssl-cert-snakeoil.key"),
        ),
        (
            "openssl req -x509 -newkey rsa:2048 -nodes -keyout /etc/nginx/k.pem -out /etc/nginx/c.pem -subj /CN=x",
            ("/etc/nginx/k.pem", "/etc/nginx/c.pem"),
        ),
        ("openssl genrsa -out /srv/key.pem 2048", ("/srv/key.pem",)),
        ("apt-get install -y postfix", SNAKEOIL),
        ('apt-get install -y "postgresql-$PG_MAJOR"', SNAKEOIL),
        ("apt-get install -y postgresql-${PG_MAJOR}-pgvector", SNAKEOIL),
        ("openssl genrsa -out ${KEYS}/key.pem 2048", ("/srv/key.pem",)),
        ("echo 'root:docker' | chpasswd", ("/etc/shadow",)),
        ('adduser x && echo "x:$(dd if=/dev/urandom count=1 | base64)" | /usr/sbin/chpasswd', ("/etc/shadow",)),
        ("htpasswd -bc /etc/nginx/.htpasswd me secret", ("/etc/nginx/.htpasswd",)),
        ("openssl rand -hex 32 > /etc/app/key", ("/etc/app/key",)),
        ("openssl rand -out /etc/app/key 32", ("/etc/app/key",)),
        ("uuidgen >> /etc/app/id", ("/etc/app/id",)),
        ("bash -ec 'true; uuidgen > /etc/app/id'", ("/etc/app/id",)),
        ("bash -e <<EOF\nuuidgen > /etc/app/id\nEOF", ("/etc/app/id",)),
        ("cat <<'a b' > /x; \\\n  uuidgen > /etc/app/id\necho\na b", ("/etc/app/id",)),
        ("cat <<-E > /x\n\techo\n\tE\nuuidgen > /etc/app/id", ("/etc/app/id",)),
    ],
)
def test_what_a_command_makes_anew_is_known(command: str, paths: tuple[str, ...]) -> None:
    (found,) = in_command(command, VARIABLES)
    assert found.paths == paths


@pytest.mark.parametrize(
    "command",
    [
        "apt-get install -y openssh-client",
        "apt-get install -y openssh-server && rm -f /etc/ssh/ssh_host_*",
        "apt-get install -y openssh-server && rm -rf /etc/ssh",
        "apt-get remove -y openssh-server",
        "apt-get update && echo apt-get install openssh-server",
        "pip install openssh-server",
        "apt-get install -y postgresql-client-15",
        "apt-get install -y postgresql-$UNKNOWN",
        "KEYS=$(mktemp -d) && openssl genrsa -out $KEYS/key.pem",
        "for KEYS in /tmp/a /tmp/b; do openssl genrsa -out ${KEYS}/key.pem; done",
        "ssh-keygen -R github.com",
        "ssh-keygen -y -f /root/.ssh/id_rsa > /root/.ssh/id_rsa.pub",
        "ssh-keygen -t rsa -f $HOME/key",
        "ssh-keygen -t rsa -f /srv/key && rm /srv/key /srv/key.pub",
        "openssl x509 -in a -out /srv/b",
        "openssl req -new -key /srv/key -out /srv/request",
        "echo 'root:$6$salt$hash' | chpasswd -e",
        "htpasswd -nb me secret",
        "openssl rand -hex 32",
        "openssl rand -hex 32 > /tmp/key && rm /tmp/key",
        "uuidgen --sha1 -n @dns -N example.com > /etc/app/id",
        "cat > /entry.sh <<'EOF'\necho \"root:$PW\" | chpasswd\nEOF\nchmod +x /entry.sh",
        "cat <<-EOF > /entry.sh && true\n\tuuidgen > /etc/app/id\n\tEOF\n",
        "python3 - <<EOF\nx = 'y'\nuuidgen > /etc/app/id\nEOF",
        "echo 'uuidgen > /etc/app/id; echo x | chpasswd' > /entry.sh",
        'printf "\\"a\\"\\nx | chpasswd\\n" > /entry.sh',
        "echo a \\| chpasswd",
    ],
)
def test_what_may_repeat_is_left_to_the_second_run(command: str) -> None:
    assert list(in_command(command, VARIABLES)) == []


def test_packages_are_known_by_name_with_and_without_a_version() -> None:
    found = [each.package for each in in_packages(["openssh-server=1:9.2p1-2", "munge:amd64", "vim", "munged"])]
    assert found == ["munge", "openssh-server"]
    assert [each.package for each in in_packages(["xrdp"])] == ["ssl-cert", "xrdp"]


@pytest.mark.parametrize(
    ("leave_out", "is_told"),
    [
        ((), True),
        (("/etc/ssh/ssh_host_*",), False),
        (("/etc/ssh/ssh_host_*_key*",), False),
        (("/etc/ssh",), False),
        (("/etc/ssh/ssh_host_rsa_key",), True),
        (("/etc/munge/*",), True),
    ],
)
def test_what_is_left_out_is_not_told(leave_out: tuple[str, ...], is_told: bool) -> None:
    assert bool(not_covered(in_packages(["openssh-server"]), leave_out)) is is_told


def test_the_documentation_shows_the_table() -> None:
    page = (Path(__file__).parent.parent / "docs/shell-steps.md").read_text("utf-8")
    rows = {name: set(re.findall(r"`(/[^`]+)`", rest)) for name, rest in re.findall(r"^\| `([\w-]+)`(.*)$", page, re.M)}
    assert {name: set(row.paths) for name, row in DEBIAN_PACKAGES.items()} == {
        name: rows.get(name, set()) for name in DEBIAN_PACKAGES
    }
    named = {name: set(re.findall(r"`([\w-]+)`", page)) for name in BROUGHT_BY}
    assert all(set(others) <= named[name] for name, others in BROUGHT_BY.items())


def test_what_lies_where_nothing_is_kept_is_not_told() -> None:
    assert not_covered(in_command("openssl genrsa -out /tmp/key.pem", {}), ()) == []
