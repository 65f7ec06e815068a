"""Case 64: credentials are written by reference, never as they are."""

from __future__ import annotations

import base64
from urllib.parse import quote

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from klock.errors import ImageError, KlockError
from klock.secrets.masking import mask
from klock.secrets.references import Redacted, redact, redact_variable, reveal
from klock.secrets.userinfo import PrivateUrl
from klock.secrets.values import may_be_secret

GITHUB = "ghp_" + "a1B2" * 9
ENVIRON = {
    "REGISTRY_USER": "bob",
    "REGISTRY_PASS": "hunter2",
    "HF_TOKEN": "hf_" + "x1Y2" * 6,
    "ODD_PASSWORD": "p@ss/w#rd",
    "ENCODED": "a b+c%",
    "MY_GITHUB": GITHUB,
    "HOME": "/home/bob",
    "USER": "alice",
    "SHLVL": "1",
    "PLAIN": "main",
    "DATABASE_URL": "postgres://u:p4ssw0rdx@h/db",
    "KAGGLE_KEY": "0123456789abcdef0123456789abcdef",
    "SORT_KEY": "name",
    "PIN_PASSWORD": "12345",
    "SIGNATURE": "abcdef0123",
    "FISH_PASSWORD": "swordfish",
    "DB_PASSWORD": "postgres",
    "SHORT_PASSWORD": "letmein",
    "DAY_PASSWORD": "20240101",
}

BY_REFERENCE = {
    "64: user and password": ("https://bob:hunter2@h/simple", "https://${REGISTRY_USER}:${REGISTRY_PASS}@h/simple"),
    "64: in the middle of a text": (
        "curl https://bob:hunter2@h/x | sh",
        "curl https://${REGISTRY_USER}:${REGISTRY_PASS}@h/x | sh",
    ),
    "64: a user no variable has": ("https://carol:hunter2@h", "https://carol:${REGISTRY_PASS}@h"),
    "64: a host's own variable is not a source of a user": (
        "https://alice:hunter2@h",
        "https://alice:${REGISTRY_PASS}@h",
    ),
    "64: a token for a user": ("https://hunter2@h/simple", "https://${REGISTRY_PASS}@h/simple"),
    "64: percent-encoded": ("https://bob:p%40ss%2Fw%23rd@h", "https://${REGISTRY_USER}:${ODD_PASSWORD}@h"),
    "64: not encoded, as an f-string makes it": (
        "https://bob:p@ss/w#rd@h/s",
        "https://${REGISTRY_USER}:${ODD_PASSWORD}@h/s",
    ),
    "64: a variable with an ordinary name": ("https://x:a%20b+c%25@h", "https://x:${ENCODED}@h"),
    "64: a query parameter": ("https://h/x?a=1&token=hunter2&b=2", "https://h/x?a=1&token=${REGISTRY_PASS}&b=2"),
    "64: a signed URL": ("https://h/x?X-Amz-Signature=abcdef0123", "https://h/x?X-Amz-Signature=${SIGNATURE}"),
    "64: a header": ("curl -H 'Authorization: Bearer hunter2' h", "curl -H 'Authorization: Bearer ${REGISTRY_PASS}' h"),
    "64: an assignment": ("export API_KEY=hunter2; x", "export API_KEY=${REGISTRY_PASS}; x"),
    "64: a well-known token": (f"git clone x {GITHUB}", "git clone x ${MY_GITHUB}"),
    "64: a secret's value anywhere": ("login -p hunter2 -u bob", "login -p ${REGISTRY_PASS} -u bob"),
    "a whole URL that a variable holds": ("psql postgres://u:p4ssw0rdx@h/db -c x", "psql ${DATABASE_URL} -c x"),
    "a key by its value": ("kaggle -k 0123456789abcdef0123456789abcdef", "kaggle -k ${KAGGLE_KEY}"),
    "a key that is assigned": ("KAGGLE_KEY=0123456789abcdef0123456789abcdef true", "KAGGLE_KEY=${KAGGLE_KEY} true"),
    "behind the letter of an option": ("mysql -phunter2 db", "mysql -p${REGISTRY_PASS} db"),
    "side by side": (
        f"x hunter2{ENVIRON['KAGGLE_KEY']} y",
        "x ${REGISTRY_PASS}${KAGGLE_KEY} y",
    ),
    "within a word, if nothing else looks so": (f"k{ENVIRON['HF_TOKEN']}k", "k${HF_TOKEN}k"),
    "in JSON": ("""curl -d '{"api_key": "hunter2"}' h""", """curl -d '{"api_key": "${REGISTRY_PASS}"}' h"""),
    "a helper of git": (
        "git config credential.helper '!f() { echo password=hunter2; }; f'",
        "git config credential.helper '!f() { echo password=${REGISTRY_PASS}; }; f'",
    ),
    "beside letters and digits": ("hunter22 xhunter2", "${REGISTRY_PASS}2 x${REGISTRY_PASS}"),
    "letters beside letters": ("kswordfishk", "k${FISH_PASSWORD}k"),
    "a default password as a word": ("psql -U postgres", "psql -U ${DB_PASSWORD}"),
    "two behind an option": (
        f"mysql -phunter2{ENVIRON['KAGGLE_KEY']} db",
        "mysql -p${REGISTRY_PASS}${KAGGLE_KEY} db",
    ),
    "with letters more, where a credential is expected": (
        "login --password=k-hunter2",
        "login --password=k-${REGISTRY_PASS}",
    ),
    "with letters more in a URL": ("https://bob:k-hunter2@h", "https://bob:k-${REGISTRY_PASS}@h"),
    "64: twice": ("hunter2 https://bob:hunter2@h", "${REGISTRY_PASS} https://${REGISTRY_USER}:${REGISTRY_PASS}@h"),
}


@pytest.mark.parametrize("case", BY_REFERENCE)
def test_a_credential_is_written_by_reference(case: str) -> None:
    text, expected = BY_REFERENCE[case]
    redacted = redact(text, ENVIRON, what="the text")
    assert redacted.text == expected
    assert redacted.names == tuple(sorted({n for n in ENVIRON if f"${{{n}}}" in expected}))
    if "p@ss/" not in text and "%2" not in text:
        assert reveal(redacted.text, redacted.names, ENVIRON) == text


UNCHANGED = {
    "no credential": "pip install numpy>=1.20",
    "an @ in a path": "https://registry.npmjs.org/@types/node",
    "an ssh user": "git+ssh://git@github.com/a/b",
    "a container's variables": "https://$USER:${PASS}@h/simple",
    "a default password within a word": "apt-get install postgresql-client",
    "a few letters within a word": "kletmein",
    "a number within a number": "sha256:0020240101aa",
    "short and ordinary": "x 1 main /home/bob",
    "a flag of a tokenizer": "TOKENIZERS_PARALLELISM=false MAX_TOKENS=512 PAD_TOKEN=<pad>",
    "an assignment from a variable": "export API_KEY=$OTHER_KEY",
    "sk is only a prefix": "sk-learn scikit",
    "keys that are none of a lock": "SORT_KEY=name PARTITION_KEY=user_id PUBLIC_KEY=0123456789abcdee0123",
    "a key's fingerprint": "GPG_KEY=A035C8C19219BA821ECEA86B64E628F8D684696D NGINX_GPGKEY=573BFD6B3D8FBC641079A6",
    "a number that a password is too": "x 12345",
}


@pytest.mark.parametrize("case", UNCHANGED)
def test_other_text_stays(case: str) -> None:
    assert redact(UNCHANGED[case], ENVIRON, what="the text") == Redacted(text=UNCHANGED[case])


LITERALS = {
    "user and password of a URL": ("https://u:secret@h/s x", "the user and password of a URL", "REGISTRY_PASS"),
    "a user alone, which may be a token": ("https://token@h/s", "the user and password of a URL", "REGISTRY_PASS"),
    "a password that only a host's own variable has": (
        "https://u:1@h",
        "the user and password of a URL",
        "REGISTRY_PASS",
    ),
    "a query parameter": (
        "https://h/x?access_token=hunter2",
        "access_token in the query of a URL",
        "ACCESS_TOKEN",
    ),
    "a header": ("curl -H 'Authorization: Basic aGk6aGk='", "an Authorization header", "API_TOKEN"),
    "a header of its own": ("curl -H 'X-Api-Key: abc'", "the header X-Api-Key", "API_KEY"),
    "an assignment": ('export WANDB_API_KEY="0123abcd"', "the value of WANDB_API_KEY", "WANDB_API_KEY"),
    "a key": (
        "KAGGLE_KEY=0123456789abcdef0123456789abcdee true",
        "the value of KAGGLE_KEY",
        "KAGGLE_KEY",
    ),
    "an option": ("login --api-key abcd", "the value of --api-key", "API_KEY"),
    "a token": (f"login {GITHUB}", "a GitHub token", "GITHUB_TOKEN"),
    "an AWS key": ("AKIAIOSFODNN7EXAMPLE", "an AWS access key id", "AWS_ACCESS_KEY_ID"),
    "a private key": (
        "echo '-----BEGIN RSA PRIVATE KEY-----\nabc\n-----END RSA PRIVATE KEY-----'",
        "a private key",
        "PRIVATE_KEY",
    ),
    "a JSON web token": ("x eyJhbGciOiJI.eyJzdWIiOiIx.SflKxwRJSMeK", "a JSON web token", "API_TOKEN"),
}


@pytest.mark.parametrize("case", LITERALS)
def test_a_literal_credential_is_an_error_that_says_what_and_where_and_does_not_show_it(case: str) -> None:
    text, where, variable = LITERALS[case]
    with pytest.raises(ImageError) as caught:
        redact(text, {"SHLVL": "1"}, what="the command of run_bash")
    assert str(caught.value) == f"the command of run_bash has a credential written into it: {where}"
    assert caught.value.hint == (
        f'take it from a variable of your shell, as in os.environ["{variable}"]: the lockfile then only names it, '
        f"${{{variable}}}"
    )


@pytest.mark.parametrize(
    "text",
    [
        f"echo {base64.b64encode(ENVIRON['KAGGLE_KEY'].encode()).decode()} | base64 -d",
        f"echo {base64.b64encode(b'bob:' + ENVIRON['KAGGLE_KEY'].encode()).decode()} | base64 -d",
        f"curl https://h/?q={quote(ENVIRON['ODD_PASSWORD'], safe='')}",
    ],
)
def test_an_encoded_value_cannot_be_named_and_is_refused(text: str) -> None:
    with pytest.raises(
        ImageError, match=r"the text has a credential written into it: the value of \w+, encoded"
    ) as caught:
        redact(text, ENVIRON, what="the text")
    assert caught.value.hint is not None and "encode it in the command" in caught.value.hint


@pytest.mark.parametrize(
    "piece",
    [
        "?a=",
        "&token=",
        "a=",
        "a.b",
        '"a": ',
        "--token x ",
        "-H ",
        "a-b: ",
        "cookie: a=1; ",
        "\n- a: b",
        "curl -u a:b ",
        "docker login ",
        "login x password ",
        "%3Fa%3D",
        "-eyJ",
        "-----BEGIN ",
        "a://b@",
        "token=x, ",
        "> a:b\n",
        "x",
    ],
)
def test_hostile_texts_take_linear_time(piece: str) -> None:
    # Of this size, what takes quadratic time would not end.
    assert mask(piece * (100_000 // len(piece)))


VARIABLES = {
    "the whole value": ("HF_TOKEN", "hunter2", Redacted(text="${REGISTRY_PASS}", names=("REGISTRY_PASS",))),
    "a short value of a variable with a secret's name": (
        "DB_PASSWORD",
        "x",
        Redacted(text="${TINY_PASS}", names=("TINY_PASS",)),
    ),
    "an index": (
        "UV_EXTRA_INDEX_URL",
        "https://bob:hunter2@h",
        Redacted(text="https://${REGISTRY_USER}:${REGISTRY_PASS}@h", names=("REGISTRY_PASS", "REGISTRY_USER")),
    ),
    "a short value of another variable": ("A", "12345", Redacted(text="${PIN_PASSWORD}", names=("PIN_PASSWORD",))),
    "a value too short to be told": ("A", "x", Redacted(text="${TINY_PASS}", names=("TINY_PASS",))),
    "a number of one digit": ("A", "1", Redacted(text="1")),
    "a word that switches something on": ("FLAG", "true", Redacted(text="true")),
    "a key": ("KAGGLE_KEY", ENVIRON["KAGGLE_KEY"], Redacted(text="${KAGGLE_KEY}", names=("KAGGLE_KEY",))),
    "a key that is a word": ("SORT_KEY", "name", Redacted(text="name")),
    "a whole URL": (
        "DATABASE_URL",
        ENVIRON["DATABASE_URL"],
        Redacted(text="${DATABASE_URL}", names=("DATABASE_URL",)),
    ),
    "a container's variable": ("HF_TOKEN", "$OTHER", Redacted(text="$OTHER")),
    "a secret's file": ("DB_PASSWORD", "/run/secrets/db", Redacted(text="/run/secrets/db")),
    "nothing": ("HF_TOKEN", "", Redacted(text="")),
    "a number": ("MAX_TOKEN", "512", Redacted(text="512")),
    "an ordinary one": ("PATH", "/a:$PATH", Redacted(text="/a:$PATH")),
}


@pytest.mark.parametrize("case", VARIABLES)
def test_the_value_of_a_variable(case: str) -> None:
    name, value, expected = VARIABLES[case]
    assert (
        redact_variable(name, value, {**ENVIRON, "TINY_PASS": "x", "ONE_PASS": "1", "USE_AUTH_TOKEN": "true"})
        == expected
    )


@pytest.mark.parametrize("value", ["hunter3", "pa$$word"])
def test_a_literal_value_under_a_secrets_name_is_an_error(value: str) -> None:
    with pytest.raises(ImageError) as caught:
        redact_variable("HF_TOKEN", value, {})
    assert str(caught.value) == (
        "the value of HF_TOKEN has a credential written into it: a variable named HF_TOKEN holds one"
    )
    assert caught.value.hint == (
        'take it from a variable of your shell, as in os.environ["HF_TOKEN"]: the lockfile then only names it, '
        "${HF_TOKEN}"
    )


def test_a_name_in_the_text_is_no_reference() -> None:
    assert reveal("${HOME}/${REGISTRY_PASS}", ["REGISTRY_PASS"], ENVIRON) == "${HOME}/hunter2"
    assert reveal("${REGISTRY_PASS}", [], ENVIRON) == "${REGISTRY_PASS}"
    with pytest.raises(ImageError) as caught:
        redact("${REGISTRY_PASS} hunter2", ENVIRON, what="the text")
    assert str(caught.value) == ("the text has both ${REGISTRY_PASS} as text and a credential that REGISTRY_PASS holds")


def test_in_a_url_the_value_is_encoded() -> None:
    assert reveal("https://${U}:${P}@h/${P}", ["U", "P"], {"U": "a@b", "P": "c/d"}) == "https://a%40b:c%2Fd@h/c/d"


@pytest.mark.parametrize("environ", [{}, {"REGISTRY_PASS": ""}])
def test_a_reference_without_its_variable(environ: dict[str, str]) -> None:
    with pytest.raises(KlockError) as caught:
        reveal("${REGISTRY_PASS}", ["REGISTRY_PASS"], environ)
    assert caught.value.message == "REGISTRY_PASS must be set: the lockfile takes a credential from there"
    assert caught.value.hint == "export REGISTRY_PASS=..."


def test_masking() -> None:
    text = f"https://u:p@h git+ssh://git@h {GITHUB} hunter2 p%40ss p@ss"
    assert mask(text, ["hunter2", "p@ss", ""]) == "https://***@h git+ssh://git@h *** *** *** ***"


def test_a_private_url() -> None:
    url = PrivateUrl.parse("https://u:p%40ss@h/s")
    assert (url.url, url.username, url.password) == ("https://h/s", "u", "p@ss")
    assert url.with_credentials == "https://u:p%40ss@h/s"
    assert str(url) == "https://h/s" and "p@ss" not in repr(url)
    assert PrivateUrl.parse("https://token@h").with_credentials == "https://token@h"
    assert PrivateUrl.parse("https://h/@x") == PrivateUrl(url="https://h/@x")
    assert PrivateUrl.parse("git+ssh://git@h/x") == PrivateUrl(url="git+ssh://git@h/x")


SECRET = st.text(alphabet="abXY01!$&'()*+,;=:@/?#% -_.~é", min_size=6, max_size=12).filter(lambda s: s.strip() == s)


@given(SECRET, st.text(alphabet="ab1 =?&$/", max_size=8), st.text(alphabet="ab1 =?&$/", max_size=8))
def test_a_secret_with_a_name_never_shows_and_comes_back(secret: str, before: str, after: str) -> None:
    assume(any(c.isalnum() for c in secret) and "${" not in secret)
    environ = {"SOME_PASSWORD": secret}
    assume(may_be_secret(secret) or len(secret) >= 8)
    text = f"{before} {secret} {after}"
    try:
        redacted = redact(text, environ, what="the text")
    except ImageError:
        return
    if "SOME_PASSWORD" in redacted.names:
        assert reveal(redacted.text, redacted.names, environ) == text
    assert f" {secret} " not in f" {redacted.text} "


@given(SECRET)
def test_a_password_in_a_url_never_shows_and_means_the_same(secret: str) -> None:
    for password in (secret, PrivateUrl(url="", username="", password=secret).with_credentials[4:-1]):
        text = f"https://user:{password}@host/simple"
        redacted = redact(text, {"SOME_PASSWORD": secret}, what="the text")
        assert redacted == Redacted(text="https://user:${SOME_PASSWORD}@host/simple", names=("SOME_PASSWORD",))
        revealed = PrivateUrl.parse(reveal(redacted.text, redacted.names, {"SOME_PASSWORD": secret}))
        assert (revealed.url, revealed.password) == ("https://host/simple", secret)
