"""The shapes in which commands hold a credential: none of them reaches the lockfile, written out or by a variable."""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Callable
from urllib.parse import quote

import pytest

from klock.errors import ImageError
from klock.secrets.masking import mask
from klock.secrets.references import redact, reveal


def b(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


GH = "ghp_" + "a1B2" * 9

LITERALS: dict[str, str] = {
    "--password X": "login --password hunter2",
    "--password=X": "login --password=hunter2 db",
    "--password 'X'": "login --password 'correct horse'",
    "-ppass": "mysql -phunter2 db",
    "json api_key": """curl -d '{"api_key": "hunter2"}' h""",
    "json escaped": 'curl -d "{\\"api_key\\": \\"hunter2\\"}" h',
    "json nospace": """echo '{"apiKey":"hunter2x"}' > /c.json""",
    "b64 of token": f"echo {b(GH)} | base64 -d > /t",
    "b64 of user:pw": f"echo {b('bob:hunter2')} | base64 -d",
    "docker config auth": """echo '{"auths":{"r.example":{"auth":"Ym9iOmh1bnRlcjI="}}}' > ~/.docker/config.json""",
    "basic header": f"curl -H 'Authorization: Basic {b('bob:hunter2')}' h",
    "git helper": "git config credential.helper '!f() { echo password=hunter2; }; f'",
    "git helper2": "git config --global credential.helper '!f() { echo username=x; echo password=s3cr3tpw; }; f'",
    "git helper3": "git config credential.helper \"!f() { printf 'username=x\\npassword=s3cr3tpw\\n'; }; f\"",
    "git extraheader": f"git -c http.extraHeader='AUTHORIZATION: basic {b('x:tok3nvalue')}' clone h",
    "git-credentials": "echo 'https://bob:hunter2@github.com' > ~/.git-credentials",
    "netrc heredoc": "cat > ~/.netrc <<E\nmachine h\nlogin bob\npassword hunter2\nE",
    "netrc printf": "printf 'machine h\\nlogin bob\\npassword hunter2\\n' > ~/.netrc",
    "netrc echo": "echo 'machine h login bob password hunter2' > ~/.netrc",
    "netrc printf args": "printf 'machine %s login %s password %s\\n' h bob hunter2 > ~/.netrc",
    "netrc no login": "echo 'machine h password hunter2' >> ~/.netrc",
    "pgpass": "echo 'db:5432:app:bob:hunter2' > ~/.pgpass",
    "npmrc": "echo '//registry.npmjs.org/:_authToken=abcd1234efgh' > ~/.npmrc",
    "npmrc _auth": f"echo '_auth={b('bob:hunter2')}' > ~/.npmrc",
    "npmrc _password": f"echo '//r/:_password={b('hunter2')}' > ~/.npmrc",
    "pypirc": "printf '[pypi]\\nusername = __token__\\npassword = s3cr3tpw1\\n' > ~/.pypirc",
    "pypirc heredoc": "cat > ~/.pypirc <<E\n[pypi]\nusername = bob\npassword = hunter\nE",
    "aws credentials": "cat > ~/.aws/credentials <<E\n[default]\naws_secret_access_key = wJalrXUtnFEMIK7MDENG\nE",
    "curl -u": "curl -u bob:hunter2 https://h",
    "curl --user=": "curl --user 'bob:hunter2' https://h",
    "wget --password": "wget --user=bob --password=hunter2 https://h",
    "wget --http-password": "wget --http-password=hunter2 https://h",
    "sshpass": "sshpass -p hunter2 ssh h",
    "sshpass -pX": "sshpass -phunter2 ssh h",
    "chpasswd": "echo 'root:hunter2' | chpasswd",
    "passwd stdin": "echo hunter2 | passwd --stdin root",
    "docker login stdin": "echo hunter2 | docker login -u bob --password-stdin r",
    "query": "curl 'https://h/x?access_key=hunter2'",
    "query sas": "curl 'https://h/x?sv=1&sig=aB3dE5fG7h%3D'",
    "export": "export DB_PASSWORD=hunter2",
    "env lower": "password=hunter2 ./run",
    "yaml": "cat > x.yaml <<E\npassword: hunter2\nE",
    "yaml quoted": "cat > x.yaml <<E\npassword: 'hunter two'\nE",
    "psql url": "psql postgres://u:hunter2@h/db",
    "redis -a": "redis-cli -a hunter2 ping",
    "mongo": "mongosh -u bob -p hunter2",
    "PGPASSWORD inline": "PGPASSWORD=hunter2 psql",
    "openssl pass": "openssl enc -pass pass:hunter2",
    "jwt": "x eyJhbGciOiJI.eyJzdWIiOiIx.SflKxwRJSMeK",
    "key": "echo '-----BEGIN OPENSSH PRIVATE KEY-----\nabc\n-----END OPENSSH PRIVATE KEY-----'",
    "b64 private key": "echo "
    + b("-----BEGIN RSA PRIVATE KEY-----\nabcdef\n-----END RSA PRIVATE KEY-----")
    + " | base64 -d > /k",
    "b64 json api key": "echo " + b('{"api_key": "hunter2xyz"}') + " | base64 -d",
    "bearer": "curl -H 'Authorization: Bearer abc123def456' h",
    "huggingface": "huggingface-cli login --token abc123xyz",
    "wandb": "wandb login 0123456789abcdef0123456789abcdef01234567",
    "python kw": "python -c \"login(token='abc123xyz')\"",
    "gh auth": "echo abc123xyz | gh auth login --with-token",
    "pip config": "pip config set global.index-url https://bob:hunter2@h/simple",
    "ftp lftp": "lftp -u bob,hunter2 h",
    "smb": "smbclient //h/s -U bob%hunter2",
    "mount cred": "mount -o username=bob,password=hunter2 //h/s /mnt",
    "kubectl literal": "kubectl create secret generic x --from-literal=password=hunter2",
    "hex of token": "echo " + GH.encode().hex() + " | xxd -r -p",
    "toml": 'cat > c.toml <<E\napi_key = "hunter2"\nE',
    "xml": "cat > s.xml <<E\n<server><username>bob</username><password>hunter2</password></server>\nE",
    "ansible": "ansible-playbook -e ansible_password=hunter2",
    "java -D": "java -Ddb.password=hunter2 -jar x",
    "properties": "cat > a.properties <<E\ndb.password=hunter2\nE",
    "gcloud json": """echo '{"type": "service_account", "private_key_id": "abc123", "private_key": "x"}' > k.json""",
    "composer auth": """composer config http-basic.repo.example.com bob hunter2""",
    "composer oauth": """composer config github-oauth.github.com abc123xyz456""",
    "nuget": "nuget sources add -username bob -password hunter2",
    "cmdkey": "svn co --username bob --password hunter2 https://h",
    "mysql IDENTIFIED BY": "mysql -e \"CREATE USER bob IDENTIFIED BY 'hunter2'\"",
    "psql PASSWORD": "psql -c \"CREATE ROLE bob LOGIN PASSWORD 'hunter2'\"",
    "ssh-keygen -N": "ssh-keygen -N hunter2 -f k",
    "gpg": "gpg --batch --passphrase hunter2 -c f",
    "zip": "unzip -P hunter2 f.zip",
    "7z": "7z x -phunter2 f.7z",
}


@pytest.mark.parametrize("shape", LITERALS)
def test_a_credential_that_is_written_out_is_refused(shape: str) -> None:
    with pytest.raises(ImageError, match="the command has a credential written into it") as caught:
        redact(LITERALS[shape], {}, what="the command")
    assert caught.value.hint is not None
    for secret in ("hunter2", "hunter two", "abc123xyz", "s3cr3tpw", GH):
        assert secret not in caught.value.message + caught.value.hint


@pytest.mark.parametrize("shape", LITERALS)
def test_no_shape_is_shown(shape: str) -> None:
    shown = mask(LITERALS[shape])
    assert shown != LITERALS[shape]


VALUES = [
    "hunter2",
    "s3cr3t-Value.9",
    "Tr0ub4dor&3",
    "correcthorsebatterystaple",
    GH,
    "0123456789abcdef0123456789abcdef",
]
AROUND = {
    "a word": "login {} now",
    "behind the letter of an option": "mysql -p{} db",
    "after a letter": "k{}",
    "after a digit": "x9{} y",
    "before a letter": "{}k",
    "before a digit": "{}7",
    "between letters": "abc{}def",
    "between digits": "12{}34",
    "twice side by side": "x {}{} y",
    "with underscores": "a_{}_b",
    "an option": "login --password={} db",
    "an option, more letters": "login --password=pre{}post db",
    "a user and a password": "curl -u bob:{} https://h",
    "JSON": """curl -d '{{"api_key": "{}"}}' h""",
    "a helper of git": "git config credential.helper '!f() {{ echo password={}; }}; f'",
    "netrc": "printf 'machine h login bob password {}\\n' > ~/.netrc",
    "a header": "curl -H 'Authorization: Bearer {}' h",
    "a query": "curl 'https://h/?token={}&x=1'",
    "a path": "curl https://h/t/{}/x",
    "a heredoc": "cat > f <<E\nkey={}\nE",
    "a name": "touch /srv/file-{}.txt",
    "SQL": "mysql -e \"ALTER USER bob IDENTIFIED BY '{}'\"",
    "a token as the user of a URL": "pip install git+https://{}@github.com/o/r",
    "cookies": "curl -b 'session={}' h",
    "a header of cookies": "curl -H 'Cookie: a=1; token={}' h",
    "a header of git": "git -c http.extraHeader='PRIVATE-TOKEN: {}' clone h",
    "netrc in a heredoc": "cat > ~/.netrc <<E\nmachine h\nlogin bob\npassword {}\nE",
    "an assignment before a command": "DB_PASSWORD={} ./run",
    "export": "export TOKEN='{}'",
    "ARG": "ARG TOKEN={}",
    "YAML": "cat > x.yaml <<E\npassword: {}\nE",
    "TOML": "cat > x.toml <<E\ntoken = '{}'\nE",
    "XML": "echo '<server><password>{}</password></server>' > s.xml",
    "properties": "echo 'db.password={}' > a.properties",
    "JSON in double quotes": 'curl -d "{{\\"token\\": \\"{}\\"}}" h',
    "a configuration of npm": "echo '//registry.npmjs.org/:_authToken={}' > ~/.npmrc",
    "a here-string": "login <<< {}",
    "a pipe": "printf %s {} | docker login -u bob --password-stdin r",
    "a line of .env": "echo 'SOME_TOKEN={}' >> .env",
    "a comment": "true # {}",
    "a substitution": "x=$(echo {})",
    "backticks": "x=`echo {}`",
    "quotes that join": "x='pre'{}'post'",
    "without spaces": "a&&b={}&&c",
    "brackets": "[{}]",
    "a list": "a,{},b",
    "options of mount": "mount -o username=bob,password={} //h/s /mnt",
    "a property of Java": "java -Ddb.password={} -jar x",
    "behind a comma": "lftp -u bob,{} h",
    "a sheet of colons": "echo 'db:5432:app:bob:{}' > ~/.pgpass",
    "a key of PEM": "echo '-----BEGIN PRIVATE KEY----- {} -----END PRIVATE KEY-----' > k",
    "a second line": "true\n{}\ntrue",
    "tabs": "a\t{}\tb",
    "an argument of Python": "python -c \"login(token='{}')\"",
}


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("place", AROUND)
def test_a_known_value_is_written_by_reference_wherever_it_stands(place: str, value: str) -> None:
    text = AROUND[place].format(*[value] * 2)
    redacted = redact(text, {"DB_PASSWORD": value}, what="the command")
    assert value not in redacted.text and redacted.names == ("DB_PASSWORD",)
    assert reveal(redacted.text, redacted.names, {"DB_PASSWORD": value}) == text


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("place", AROUND)
def test_a_variable_that_is_used_as_a_credential_elsewhere_is_one_everywhere(place: str, value: str) -> None:
    text = AROUND[place].format(*[value] * 2)
    with contextlib.suppress(ImageError):
        redacted = redact(text, {"MINE": value}, what="the command", used=["MINE"])
        assert value not in redacted.text


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("place", AROUND)
def test_a_known_value_is_masked_wherever_it_stands(place: str, value: str) -> None:
    assert value not in mask(AROUND[place].format(*[value] * 2), [value])


ENCODED: dict[str, Callable[[str], str]] = {
    "base64": lambda value: f"echo {b(value)} | base64 -d",
    "base64 after a user": lambda value: f"curl -H 'Authorization: Basic {b('bob:' + value)}' h",
    "base64 within more": lambda value: f"echo {b('{' + chr(34) + 'auth' + chr(34) + ':' + value + '}')} | base64 -d",
    "base64 for URLs": lambda value: "x " + base64.urlsafe_b64encode(f"??>{value}~~".encode()).decode(),
    "hexadecimal": lambda value: f"echo {value.encode().hex()} | xxd -r -p",
    "percent-encoded": lambda value: "curl https://h/?x=" + "".join(f"%{byte:02X}" for byte in value.encode()),
    "percent-encoded where it must be": lambda value: f"curl 'https://h/?token={quote(value + '/=', safe='')}'",
    "JSON's escapes": lambda value: "echo '" + "".join(f"\\u{ord(letter):04x}" for letter in value) + "'",
}
LONG = [value for value in VALUES if len(value) >= 12]


@pytest.mark.parametrize("value", LONG)
@pytest.mark.parametrize("form", ENCODED)
def test_a_known_value_in_another_form_is_refused_or_written_by_reference(form: str, value: str) -> None:
    text = ENCODED[form](value)
    try:
        redacted = redact(text, {"DB_PASSWORD": value}, what="the command")
    except ImageError as error:
        assert value not in error.message + (error.hint or "")
        assert text.split()[1] not in error.message + (error.hint or "")
    else:
        assert value not in redacted.text and redacted.names == ("DB_PASSWORD",)


@pytest.mark.parametrize("value", LONG)
@pytest.mark.parametrize("form", ENCODED)
def test_a_known_value_in_another_form_is_masked(form: str, value: str) -> None:
    text = ENCODED[form](value)
    assert mask(text, [value]) != text


PEM = "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQ\nEFAASCBKcwggSjAgEAAoIBAQ\n-----END PRIVATE KEY-----"


@pytest.mark.parametrize("around", ["cat > k <<E\n{}\nE", "echo '{}' | ssh-add -", "x{}y"])
def test_a_value_of_several_lines_is_written_by_reference(around: str) -> None:
    text = around.format(PEM)
    redacted = redact(text, {"DEPLOY_KEY": PEM}, what="the command")
    assert redacted.text == around.format("${DEPLOY_KEY}")
    assert reveal(redacted.text, redacted.names, {"DEPLOY_KEY": PEM}) == text
    assert "MIIE" not in mask(text, [PEM]) and "EFAA" not in mask(text)
