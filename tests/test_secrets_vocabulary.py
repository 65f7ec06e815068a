"""One vocabulary: what is a credential in one place is one in every other, and says so with the same words.

Every name of the table is put into every place that a lockfile, a log or an exported file could take it from.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from klock.errors import ImageError
from klock.export.dockerfile import export_dockerfile
from klock.image.builder import Image
from klock.lockfile.model import (
    EnvLock,
    LayerLock,
    LockedVariable,
    Lockfile,
    OciBlob,
    OciLock,
    ServiceLock,
    ShellLock,
    StepLock,
    TargetLock,
)
from klock.lockfile.writing import to_text
from klock.locking.draft import draft_image, draft_steps
from klock.pages.page import Form
from klock.recorder.exchange import Request
from klock.recorder.locking import Asked, LockedAnswer, Question, lock_requests
from klock.recorder.redaction import Redaction
from klock.secrets.masking import masked
from klock.secrets.vocabulary import (
    NAMES,
    PROGRAMS,
    TOKENS,
    CredentialName,
    ProgramOption,
    TokenForm,
    credential_name,
    variable_name,
    words_of,
)
from klock.steps.context import Context
from klock.targets import Target
from tests.memory_workshop import memory_context

BLOB: Final = OciBlob(digest="sha256:" + "a" * 64, size=2, media_type="x/y")
BASE: Final = OciLock(reference="python:3.12", index_digest=None, manifest=BLOB, config=BLOB, layers=())

VALUE: Final = "s3cr3t.Value-42"
WRITTEN: Final = [name for entry in NAMES for name in entry.examples]
NO_VARIABLES: Final = {"X-Goog-Signature"}
"""A variable named like this one may hold a public signature."""

BUILDERS: Final[dict[str, Callable[[str], Image]]] = {
    "pip": lambda text: Image().pip_install([text]),
    "install_cmd": lambda text: Image(install_cmd=text),
    "bash": lambda text: Image().run_bash(text),
    "private_urls": lambda text: Image().run_bash("true", private_urls=[text]),
    "variable": lambda text: Image().set_env_vars(dict([text.split("=", 1)])),
}
# Places for names of query parameters and headers: what of the image has it, and the text.
IN_REQUESTS: Final = {
    "the query of an index": ("pip", "-i https://h/simple?{name}={value} x"),
    "the query of an archive": ("pip", "x @ https://h/x-1.zip?a=1&{name}={value}"),
    "the query of the installer's index": ("install_cmd", "uv pip install -i https://h/simple?{name}={value}"),
    "a variable that is a URL": ("variable", "DATA=https://h/x?{name}={value}#top"),
    "a variable that names indexes": (
        "variable",
        "UV_EXTRA_INDEX_URL=https://a/simple https://h/simple?{name}={value}",
    ),
    "the query of a URL in a command": ("bash", 'curl "https://h/x?{name}={value}" -o x'),
    "a later parameter in a command": ("bash", "wget 'https://h/x?a=b&{name}={value}&c=d'"),
    "a URL within a URL": ("bash", "curl https://p/?u=https%3A%2F%2Fh%2F%3F{name}%3D{value}"),
    "a header of curl": ("bash", 'curl -H "{name}: {value}" https://h/x'),
    "a header of wget": ("bash", "wget --header='{name}: {value}' https://h/x"),
    "a header with a scheme": ("bash", 'curl -H "{name}: Bearer {value}" https://h/x'),
    "a service": ("bash", "serve --upstream 'https://h/x?{name}={value}' &"),
    "a pattern of private URLs": ("private_urls", "https://h/x?{name}={value}"),
}
# Places for names of variables, options and keys.
IN_VARIABLES: Final = {
    "a variable of that name": ("variable", "{NAME}={value}"),
    "an export": ("bash", "export {NAME}={value}; x"),
    "an export in quotes": ("bash", 'export {NAME}="{value}"; x'),
    "a lower-case variable": ("bash", "{snake}={value} x"),
    "an option": ("bash", "x --{option} {value} y"),
    "an option with =": ("bash", "x --{option}='{value}' y"),
    "JSON": ("bash", """curl -d '{{"a": 1, "{name}": "{value}"}}' https://h/x"""),
    "JSON in double quotes": ("bash", 'curl -d "{{\\"{name}\\": \\"{value}\\"}}" https://h/x'),
    "YAML": ("bash", "cat > x.yaml <<END\na:\n  {name}: {value}\nEND"),
    "TOML": ("bash", 'cat > x.toml <<END\n[a]\n{name} = "{value}"\nEND'),
    "a form": ("bash", "curl -d 'a=1&{name}={value}' https://h/x"),
}
IN_USERINFO: Final = {
    "the user and password of an index": ("pip", "-i https://{name}:{value}@h/simple x"),
    "the user and password of a URL in a variable": ("variable", "DATA=https://{name}:{value}@h/x"),
    "the user and password of a URL in a command": ("bash", "git clone https://{name}:{value}@h/x"),
}
EVERYWHERE: Final = {**IN_REQUESTS, **IN_VARIABLES, **IN_USERINFO}

# What programs print.
PRINTED_REQUESTS: Final = {
    "a URL": "GET https://h/x?a=1&{name}={value} HTTP/1.1",
    "a command": "+ curl 'https://u:{value}@h/x?{name}={value}'",
    "a header of a command": "+ curl -H '{name}: {value}' https://h/x",
    "a header that is sent": "> {name}: {value}\r",
    "a header that is received": "< {name}: {value}\r",
}
PRINTED_VARIABLES: Final = {
    "a variable": "{NAME}={value}",
    "an export": "+ export {NAME}={value}",
    "an option": "+ login --{option} {value}",
    "JSON": '{{"{name}": "{value}"}}',
}
PRINTED: Final = {**PRINTED_REQUESTS, **PRINTED_VARIABLES}

HOLDS_VARIABLES: Final = {*IN_VARIABLES, *PRINTED_VARIABLES}


def names_in(place: str) -> list[str]:
    """The names of the table that are credentials in a place. A test goes through all of them: a test for each would
    take longer to set up than to run."""
    return [name for name in WRITTEN if place not in HOLDS_VARIABLES or name not in NO_VARIABLES]


def filled(template: str, name: str) -> str:
    """A template with the name as each place has it, and the value."""
    words = words_of(name)
    snake = "_".join(words)
    return template.format(name=name, NAME=snake.upper(), snake=snake, option="-".join(words), value=VALUE)


def image_with(place: str, name: str) -> Image:
    builder, template = EVERYWHERE[place]
    return BUILDERS[builder](filled(template, name))


def draft(image: Image, environ: dict[str, str]) -> str:
    """The text of the lockfile, as far as it follows from the image."""
    steps = draft_steps(image.steps, root=Path("/project"), base=BASE, environ=environ)
    target = TargetLock(target=Target(), base=BASE, steps=tuple(steps), interpreter=None, packages=())
    return to_text(Lockfile(image=draft_image(image, environ), normalisation=1, targets=(target,)))


@pytest.mark.parametrize("place", EVERYWHERE)
def test_a_literal_is_refused_in_the_same_words(place: str) -> None:
    for name in names_in(place):
        with pytest.raises(ImageError) as caught:
            draft(image_with(place, name), {})
        assert re.search(r" has a credential written into it: \S", caught.value.message)
        hint = re.fullmatch(
            r'take it from a variable of your shell, as in os\.environ\["([A-Z0-9_]+)"\]: the lockfile then only names '
            r"it, \$\{([A-Z0-9_]+)\}",
            caught.value.hint or "",
        )
        assert hint is not None and hint[1] == hint[2]
        assert VALUE not in caught.value.message


WITHOUT_REFERENCES: Final = {
    "the query of an index",
    "the query of an archive",
    "the query of the installer's index",
    "a variable that names indexes",
    "a URL within a URL",  # the value would have to be encoded
    "a pattern of private URLs",
}


@pytest.mark.parametrize("place", [place for place in EVERYWHERE if place not in WITHOUT_REFERENCES])
def test_the_value_of_a_variable_of_the_shell_is_locked_by_its_name(place: str) -> None:
    for name in names_in(place):
        text = draft(image_with(place, name), {"HELD_HERE": VALUE})
        assert "${HELD_HERE}" in text
        assert VALUE not in text


@pytest.mark.parametrize(
    "place",
    [
        "the query of an index",
        "the query of an archive",
        "the query of the installer's index",
        "a variable that names indexes",
    ],
)
def test_an_index_takes_credentials_as_user_and_password_only(place: str) -> None:
    with pytest.raises(ImageError, match="the credential HELD_HERE in the path or the query of a URL") as caught:
        draft(image_with(place, "access_key"), {"HELD_HERE": VALUE})
    assert caught.value.hint == "give it as user or password, https://user:password@host, or by netrc"


def test_a_credential_in_the_path_of_an_index_is_none_that_can_be_left_out() -> None:
    with pytest.raises(ImageError, match="the credential SOME_TOKEN in the path or the query of a URL"):
        draft(Image().pip_install([f"-i https://h/{VALUE}/simple x"]), {"SOME_TOKEN": VALUE})


@pytest.mark.parametrize("option", PROGRAMS, ids=lambda option: option.example)
def test_a_password_for_a_program_is_refused(option: ProgramOption) -> None:
    command = option.example.replace("PASSWORD", "hunter2")
    with pytest.raises(ImageError, match="has a credential written into it: a password for "):
        draft(Image().run_bash(f"true && {command}"), {})
    locked = draft(Image().run_bash(command), {"DB_PASS": "hunter2"})
    assert option.example.replace("PASSWORD", "${DB_PASS}") in locked


FORMS: Final = {
    "a GitHub token": "ghp_" + "a1B2" * 9,
    "a GitLab token": "glpat-" + "a1B2" * 5,
    "a Hugging Face token": "hf_" + "a1B2" * 8,
    "an OpenAI or Anthropic key": "sk-ant-" + "a1B2" * 8,
    "an NVIDIA key": "nvapi-" + "a1B2" * 8,
    "an npm token": "npm_" + "a1B2" * 9,
    "a PyPI token": "pypi-AgEI" + "a1B2" * 9,
    "a Docker token": "dckr_pat_" + "a1B2" * 7,
    "an AWS access key id": "ASIAIOSFODNN7EXAMPLE",
    "a Google API key": "AIza" + "a1B2c" * 7,
    "a Slack token": "xoxb-" + "a1B2" * 5,
    "a Stripe key": "sk_live_" + "a1B2" * 6,
    "a Vault token": "hvs." + "a1B2" * 6,
    "a JSON web token": "eyJhbGciOiJub25lIn0.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJl",
    "a private key": "-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----",
}


@pytest.mark.parametrize("form", TOKENS, ids=lambda form: form.words)
def test_a_token_is_known_by_its_form_wherever_it_stands(form: TokenForm) -> None:
    token = FORMS[form.words]
    for image in (Image().run_bash(f"login '{token}'"), Image().set_env_vars({"A": f"x {token} y"})):
        with pytest.raises(ImageError, match=f"has a credential written into it: {form.words}"):
            draft(image, {})
    assert token not in shown(f"x {token} y\n")


# -- the recorder


def locked(request: Request) -> str:
    """The locked requests of a step that asked this, and then something with the same value in its path."""
    redaction = Redaction(secrets=(), private_urls=())
    again = Request(method="GET", url=f"https://h/files/{VALUE}/x", headers=(("Accept", f"x/{VALUE}"),))
    for one in (request, again):
        for name, value in one.headers:
            redaction.add_header(name, value)
    answer = LockedAnswer(status=200, size=1, headers=())
    return str(lock_requests(Asked(question=Question.of(one, redaction), answer=answer) for one in (request, again)))


def test_a_value_in_a_recorded_request_is_not_locked() -> None:
    for name in WRITTEN:
        in_query = Question.of(
            Request(method="GET", url=f"https://u:{VALUE}@h/x?a=1&{name}={VALUE}&b=2"),
            Redaction(secrets=(), private_urls=()),
        )
        assert in_query.url == f"https://h/x?a=1&{name}=***&b=2"
        assert VALUE not in locked(Request(method="GET", url="https://h/x", headers=((name, VALUE),)))


# -- what programs print


def shown(text: str, size: int = 3) -> str:
    """What is passed on of a program's output that comes in pieces."""
    passed_on: list[bytes] = []
    content = text.encode()
    with masked(passed_on.append, ()) as write:
        for start in range(0, len(content), size):
            write(content[start : start + size])
    return b"".join(passed_on).decode()


@pytest.mark.parametrize("size", [1, 3, 1000])
@pytest.mark.parametrize("place", PRINTED)
def test_a_value_that_is_printed_is_masked(place: str, size: int) -> None:
    for name in names_in(place):
        said = shown(f"before\n{filled(PRINTED[place], name)}\nafter\n", size)
        assert VALUE not in said
        assert said.startswith("before\n") and "***" in said and said.endswith("\nafter\n")


# -- export


@pytest.fixture
def context(tmp_path: Path) -> Context:
    return memory_context(tmp_path)


LAYER: Final = LayerLock(digest="sha256:" + "b" * 64, files=0, size=0)


def locked_variable(text: str) -> EnvLock:
    name, _, value = text.partition("=")
    return EnvLock(variables=(LockedVariable(name=name, written=value, value=value),))


LOCKED_BEFORE: Final[dict[str, tuple[Callable[[str], StepLock], str]]] = {
    "a variable that is a URL": (locked_variable, "DATA=https://h/x?{name}={value}"),
    "a variable of that name": (locked_variable, "{NAME}={value}"),
    "a command": (lambda text: ShellLock(command=text, layer=LAYER), "curl 'https://h/x?{name}={value}'"),
    "a header in a command": (lambda text: ShellLock(command=text, layer=LAYER), "curl -H '{name}: {value}' https://h"),
    "a service": (lambda text: ServiceLock(command=text), "serve 'https://h/x?{name}={value}' &"),
}


@pytest.mark.parametrize("place", LOCKED_BEFORE)
@pytest.mark.parametrize("form", Form)
def test_what_an_older_lockfile_holds_is_not_exported(place: str, form: Form, context: Context) -> None:
    step, template = LOCKED_BEFORE[place]
    for name in names_in(place):
        steps = (step(filled(template, name)),)
        lock = TargetLock(target=Target(), base=BASE, steps=steps, interpreter=None, packages=())
        with pytest.raises(ImageError, match="has a credential written into it"):
            export_dockerfile(lock, image=Image(), lock_digest="sha256:x", form=form, context=context)


def test_what_starts_with_a_container_is_not_exported_with_a_credential(context: Context) -> None:
    lock = TargetLock(target=Target(), base=BASE, steps=(), interpreter=None, packages=())
    image = Image().cmd(["serve", "--api-key", VALUE])
    with pytest.raises(ImageError, match="cmd of the image has a credential written into it: the value of --api-key"):
        export_dockerfile(lock, image=image, lock_digest="sha256:x", form=Form.DOCKER, context=context)


# -- the table itself


@pytest.mark.parametrize("entry", NAMES, ids=lambda entry: entry.words)
def test_the_examples_of_an_entry_are_found_by_it(entry: CredentialName) -> None:
    assert entry.examples
    for name in entry.examples:
        assert credential_name(name) is entry
        assert (variable_name("_".join(words_of(name)).upper()) is entry) is (name not in NO_VARIABLES)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("REGISTRY_PASS", ["registry", "pass"]),
        ("X-Api-Key", ["x", "api", "key"]),
        ("accessToken", ["access", "token"]),
        ("AWSAccessKeyId", ["aws", "access", "key", "id"]),
        ("user[password]", ["user", "password"]),
        ("_authToken", ["auth", "token"]),
        ("", []),
        ("---", []),
    ],
)
def test_the_words_of_a_name(name: str, words: list[str]) -> None:
    assert words_of(name) == words
