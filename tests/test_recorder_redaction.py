"""What is secret in requests and answers, in whatever form it stands, and what is left when it is taken out."""

from __future__ import annotations

import base64
import json
import threading
from urllib.parse import quote, quote_plus, unquote_plus

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from klock.recorder.redaction import Redaction, TooManyTexts
from klock.secrets.signatures import SIGNATURES

GITHUB = "ghp_" + "a1B2" * 9
JWT = "eyJhbGciOiJub25lIn0.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJl"
AWKWARD = 'p@ss w/rd+100%"&ü'


def redaction(*secrets: str, private: tuple[str, ...] = ()) -> Redaction:
    return Redaction(secrets=secrets, private_urls=private)


def basic(user: str, password: str) -> str:
    return base64.b64encode(f"{user}:{password}".encode()).decode()


# -- URLs


@pytest.mark.parametrize(
    ("url", "redacted"),
    [
        ("https://deb.debian.org/debian/pool/x.deb", "https://deb.debian.org/debian/pool/x.deb"),
        ("HTTPS://PyPI.org:443/Simple/", "https://pypi.org/Simple/"),
        ("http://h:80", "http://h/"),
        ("http://h:443/", "http://h:443/"),
        ("https://h:0443/", "https://h/"),
        ("https://h:/", "https://h/"),
        ("https://h?a=b", "https://h/?a=b"),
        ("https://h/a#part", "https://h/a"),
        ("https://[2001:DB8::1]:443/", "https://[2001:db8::1]/"),
        ("https://h/a%2Fb%20c?d=%C3%A9", "https://h/a%2Fb%20c?d=%C3%A9"),
        ("https://h/ü\n", "https://h/%C3%BC%0A"),
        ("//h/a?sig=b", "//h/a?sig=***"),
        ("../a?jwt=b", "../a?jwt=***"),
        ("", ""),
    ],
)
def test_a_url_has_one_normal_form(url: str, redacted: str) -> None:
    assert redaction().url(url) == redacted


@pytest.mark.parametrize(
    ("url", "redacted"),
    [
        ("https://alice:pw@h/a", "https://h/a"),
        ("https://token@h/a", "https://h/a"),
        ("https://alice:p@ss@h/a", "https://h/a"),
        ("https://alice:p/ss@h/a", "https://h/a"),
        ("https://alice:p?ss@h/a", "https://h/a"),
        ("https://alice:p#ss@h/a", "https://alice:***/"),
        ("https://proxy/https://alice:pw@h/a", "https://proxy/https://***@h/a"),
        ("https://proxy/?u=https%3A%2F%2Falice%3Apw%40h", "https://proxy/?u=https%3A%2F%2F***%40h"),
    ],
)
def test_users_and_passwords_are_dropped(url: str, redacted: str) -> None:
    assert redaction().url(url) == redacted


@pytest.mark.parametrize(
    "name",
    [
        "token", "access_token", "private-token", "accessToken", "X-Plex-Token", "secret", "client_secret", "password",
        "passwd", "api_key", "apikey", "api-key", "ACCESS_KEY", "sig", "signature", "auth", "jwt", "hmac", "session",
        "PHPSESSID", "Key-Pair-Id", "AWSAccessKeyId", "X-Amz-Date", "x-goog-credential", "X-OSS-Security-Token",
        "REGISTRY_PASS", "%74oken",
    ],
)  # fmt: skip
def test_credentials_in_the_query_are_masked(name: str) -> None:
    assert redaction().url(f"https://h/a?b=1&{name}=value&c=2") == f"https://h/a?b=1&{name}=***&c=2"
    assert redaction().url(f"https://h/a?{name}=v?a=l;u:e/") == f"https://h/a?{name}=***"
    assert redaction().url(f"https://h/a?{name}=") == f"https://h/a?{name}="


@pytest.mark.parametrize(
    "query",
    [
        "tokenizer=bert",
        "se=1&sp=2&sv=3",
        "Expires=5&Policy=open",
        "expires=5",
        "author=me",
        "verify=true",
        "x-id=GetObject&response-content-disposition=inline",
        "scope=repository:library/debian:pull&service=registry.docker.io",
        "page=2&per_page=100",
    ],
)
def test_other_parameters_stay(query: str) -> None:
    assert redaction().url(f"https://h/a?{query}") == f"https://h/a?{query}"


@pytest.mark.parametrize(
    ("url", "redacted"),
    [
        (
            "https://cdn.hf.co/x?response-content-disposition=inline&Expires=1&Policy=eyJ&Signature=a~b_&Key-Pair-Id=K",
            "https://cdn.hf.co/x?response-content-disposition=inline&Expires=***&Policy=***&Signature=***&Key-Pair-Id=***",
        ),
        (
            "https://s3/x?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Expires=60&X-Amz-Signature=0a&x-id=GetObject",
            "https://s3/x?X-Amz-Algorithm=***&X-Amz-Expires=***&X-Amz-Signature=***&x-id=GetObject",
        ),
        (
            "https://acct.blob.core.windows.net/c/b?sp=r&sv=2018-11-09&sr=b&se=2024-01-01&rscd=x&sig=ab%2Bc%3D",
            "https://acct.blob.core.windows.net/c/b?sp=***&sv=***&sr=***&se=***&rscd=x&sig=***",
        ),
        (
            "https://production.cloudflare.docker.com/sha256/ab/data?verify=1700000000-aBcDeFgHiJkLmNoPqRs%3D",
            "https://production.cloudflare.docker.com/sha256/ab/data?verify=***",
        ),
        (
            "https://cos/x?q-ak=a&q-signature=b&q-sign-time=1;2",
            "https://cos/x?q-ak=***&q-signature=***&q-sign-time=***",
        ),
        ("https://n/x?md5=abc&expires=17", "https://n/x?md5=***&expires=***"),
        ("https://akamai/exp=17~acl=/a~hmac=ab/x.zip", "https://akamai/exp=***~acl=/a~hmac=***/x.zip"),
        ("https://h/a;jsessionid=0123/b", "https://h/a;jsessionid=***/b"),
    ],
)
def test_signatures_are_masked_with_all_their_parts(url: str, redacted: str) -> None:
    assert redaction().url(url) == redacted


def test_a_signed_url_within_another_is_masked_too() -> None:
    signed = "https://s3/x?X-Amz-Signature=0a1b&a=1"
    assert redaction().url(f"https://h/?u={signed}") == "https://h/?u=https://s3/x?X-Amz-Signature=***&a=1"
    once = redaction().url(f"https://h/?u={quote(signed, safe='')}")
    assert once == "https://h/?u=https%3A%2F%2Fs3%2Fx%3FX-Amz-Signature%3D***%26a%3D1"
    twice = redaction().url(f"https://h/?u={quote(quote(signed, safe=''), safe='')}")
    assert "0a1b" not in twice


@pytest.mark.parametrize("token", [GITHUB, JWT, "hf_" + "a" * 30])
def test_tokens_are_known_by_their_shape(token: str) -> None:
    assert redaction().url(f"https://h/{token}/a?x={token}") == "https://h/***/a?x=***"


@pytest.mark.parametrize(
    "written",
    [
        AWKWARD,
        quote(AWKWARD, safe=""),
        quote(AWKWARD),
        quote_plus(AWKWARD),
        quote(AWKWARD, safe="").lower(),
        quote(quote(AWKWARD, safe=""), safe=""),
        "".join(f"%{byte:02x}" for byte in AWKWARD.encode()),
    ],
)
@pytest.mark.parametrize(
    "place", ["https://h/a/{}/b", "https://h/a?q={}&r=1", "https://h/a-{}-b", "/a?{}", "https://{}@h/"]
)
def test_a_known_secret_is_masked_however_it_is_encoded(place: str, written: str) -> None:
    url = redaction(AWKWARD).url(place.format(written))
    assert url == redaction().url(place.format("SECRET")).replace("SECRET", "***")


def test_a_secret_that_looks_encoded_itself_is_masked() -> None:
    assert redaction("ü%41bcdef").url("https://h/ü%41bcdef/") == "https://h/***/"


def test_a_secret_in_a_host_is_masked_in_any_case() -> None:
    assert redaction("aBcDeF12").url("https://ABCdef12.example.org/") == "https://***.example.org/"


def test_what_a_client_makes_of_a_locked_redirect_is_the_locked_url() -> None:
    locked = redaction("s3cret-value").location("https://h/s3cret-value/x?sig=ab&a=b")
    assert locked == "https://h/***/x?sig=***&a=b"
    for sent in (locked, locked.replace("*", "%2A"), locked.replace("*", "%2a")):
        assert redaction().url(sent) == locked


def test_a_redirect_with_a_password_goes_on_having_one() -> None:
    assert redaction().location("https://alice:pw@H/a#b") == "https://***:***@h/a"
    assert redaction().location("https://alice@h") == "https://***:***@h/"
    assert redaction().location("/a?token=b") == "/a?token=***"


characters = st.characters(codec="utf-8", categories=["L", "M", "N", "P", "S"], exclude_characters="*") | st.just(" ")
secret_texts = st.text(characters, min_size=5, max_size=20).map("s".__add__)
pieces = st.sampled_from(
    "https:// http:// // / ? & = # @ : ; ~ % %25 %2A * *** ftp token sig se verify= Expires Signature X-Amz- a %zz %3F "
    f"%26 %3D %2525 [ ] ghp_ {GITHUB} {JWT} -eyJ -----BEGIN . ..".split()
)
hostile_urls = st.lists(pieces | st.text(max_size=4), max_size=25).map("".join)


@example("https://:https://", [])
@given(hostile_urls, st.lists(st.text(min_size=1, max_size=8) | pieces, max_size=3))
def test_redaction_is_idempotent(url: str, secrets: list[str]) -> None:
    it = redaction(*secrets)
    once = it.url(url)
    assert it.url(once) == once
    assert it.url(it.location(url)) == once
    assert once.isascii()
    assert once.isprintable()


@given(
    secret_texts,
    hostile_urls,
    hostile_urls,
    st.sampled_from([str, quote, quote_plus, lambda s: quote(s, safe=""), lambda s: quote(quote(s, safe=""), safe="")]),
)
def test_no_secret_survives(secret: str, before: str, after: str, encode: object) -> None:
    assert callable(encode)
    it = redaction(secret)
    url = it.url(f"https://h/{before}{encode(secret)}{after}")
    for _ in range(4):
        assert secret not in url.replace("***", "\0")
        url = unquote_plus(url, errors="surrogateescape")


@pytest.mark.parametrize(
    "piece",
    [
        "-eyJ",
        "?a=",
        "?token=",
        "/;a=",
        "a://",
        "%25",
        "@",
        "@/:",
        "&",
        "%",
        "-----BEGIN ",
        "s3cret-",
        "~hmac=",
        "*",
        "a-1",
    ],
)
def test_hostile_urls_take_linear_time(piece: str) -> None:
    # Of this size, what takes quadratic time would not end.
    url = redaction("s3cret-s3cret-").url("https://h/" + piece * (100_000 // len(piece)))
    assert url.startswith("https://")


def test_rules_are_lower_case_and_have_no_part_twice() -> None:
    for signature in SIGNATURES:
        assert all(name == name.lower() for name in signature.marks | signature.parts), signature.name


# -- private URLs


@pytest.mark.parametrize(
    ("pattern", "url", "matches"),
    [
        ("https://auth.x.org/token", "https://auth.x.org/token", True),
        ("https://auth.x.org/token", "https://auth.x.org/token?scope=a", True),
        ("https://auth.x.org/token", "https://auth.x.org/tokens", False),
        ("https://auth.x.org/token", "http://auth.x.org/token", False),
        ("https://Auth.X.org:443/token", "https://auth.x.org/token", True),
        ("https://auth.x.org/Token", "https://auth.x.org/token", False),
        ("auth.x.org/token", "https://auth.x.org/token", True),
        ("Auth.x.org", "http://auth.x.org/any/thing?at=all", True),
        ("https://auth.x.org", "https://auth.x.org/any", True),
        ("https://auth.x.org", "https://auth.x.org.evil/any", False),
        ("*/oauth/token", "https://a.b/c/oauth/token", True),
        ("*/oauth/token", "https://a.b/c/oauth/token/d", False),
        ("*x.org/*", "https://a.x.org/b", True),
        ("https://*.x.org/a/*/c", "https://b.x.org/a/1/2/c", True),
        ("https://h/a?scope=*", "https://h/a?scope=b", True),
        ("https://h/a?scope=*", "https://h/a", False),
        ("https://h/a?token=abc", "https://h/a?token=***", True),
        ("https://h/a.b", "https://h/aXb", False),
        ("https://h/*a*b*", "https://h/b/a", False),
    ],
)
def test_patterns_say_what_is_private(pattern: str, url: str, matches: bool) -> None:
    assert redaction(private=(pattern,)).is_private(redaction().url(url)) is matches


def test_nothing_is_private_unasked() -> None:
    assert not redaction().is_private("https://auth.x.org/token")


# -- bytes


@pytest.mark.parametrize("secret", ["s3cret-value", AWKWARD, 'quo"te\\/</b>'])
@pytest.mark.parametrize("met", [True, False])
def test_a_secret_is_found_and_masked_in_every_form(secret: str, met: bool) -> None:
    it = redaction() if met else redaction(secret)
    if met:
        it.add_secret(secret)
    forms = [
        secret,
        quote(secret),
        quote(secret, safe=""),
        quote(secret, safe="").lower(),
        quote_plus(secret),
        json.dumps(secret),
        json.dumps(secret, ensure_ascii=False).replace("/", "\\/"),
        *(basic("u" * size, secret) for size in range(1, 5)),
        *(base64.urlsafe_b64encode(f"{'u' * size}:{secret}:more".encode()).decode() for size in range(1, 5)),
    ]
    for form in forms:
        data = b"before " + form.encode() + b" after"
        assert it.find_secret(data), form
        masked = it.mask(data)
        assert not it.find_secret(masked), form
        assert masked.startswith(b"before ")
        assert masked.endswith(b" after")
        assert b"***" in masked


def test_masks_are_the_same_when_a_client_encodes_the_stand_in() -> None:
    it = redaction("s3cret value")
    recorded = it.mask(b"user=me&password=s3cret+value&x=1")
    assert recorded == b"user=me&password=***&x=1"
    assert redaction().mask(b"user=me&password=%2A%2A%2A&x=1") == recorded
    assert redaction().mask(b"user=me&password=***&x=1") == recorded


def test_short_values_are_not_searched_for() -> None:
    it = redaction("short")
    it.add_secret("tiny")
    assert not it.find_secret(b"short tiny")
    assert it.values == ()
    assert it.longest == 1


def test_of_two_secrets_the_longer_one_is_masked_first() -> None:
    assert redaction("abcdef", "abcdefghi").mask(b"abcdefghi") == b"***"


@given(st.binary(max_size=100), st.binary(max_size=100), st.integers(1, 40))
def test_a_stream_is_searched_in_parts_that_overlap(before: bytes, after: bytes, size: int) -> None:
    it = redaction(AWKWARD)
    data = before + AWKWARD.encode() + after
    kept = b""
    found = False
    for start in range(0, len(data), size):
        part = kept + data[start : start + size]
        found = found or it.find_secret(part)
        kept = part[-(it.longest - 1) :]
    assert found


@given(st.lists(secret_texts, max_size=4), st.lists(st.binary(max_size=20) | st.sampled_from([b"%2A%2A%2A", b"***"])))
def test_no_secret_is_left_by_the_mask(secrets: list[str], parts: list[bytes]) -> None:
    it = redaction(*secrets)
    joined = b"".join(part + secret.encode() for part, secret in zip(parts, secrets * len(parts), strict=False))
    assert not it.find_secret(it.mask(joined))


def test_secrets_may_be_added_by_many_threads() -> None:
    it = redaction()

    def add(turn: int) -> None:
        for number in range(20):
            it.add_secret(f"secret-{turn}-{number}")

    threads = [threading.Thread(target=add, args=(turn,)) for turn in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(it.values) == 160
    assert all(it.find_secret(value.encode()) for value in it.values)


# -- headers


@pytest.mark.parametrize(
    ("name", "value", "met"),
    [
        ("Authorization", "Bearer abc.def-123", {"abc.def-123"}),
        ("authorization", "token abcdef123", {"abcdef123"}),
        ("Authorization", 'Token token="abcdef123"', {"abcdef123", 'token="abcdef123"'}),
        ("Authorization", "abcdef123", {"abcdef123"}),
        ("Authorization", "Basic " + basic("alice", "s3cret"), {basic("alice", "s3cret"), "s3cret"}),
        ("Proxy-Authorization", "basic " + basic("u", "s3cret"), {basic("u", "s3cret"), "s3cret"}),
        ("Authorization", "Basic " + basic("abc123def", ""), {basic("abc123def", ""), "abc123def"}),
        ("Authorization", "Basic " + basic("abc123def", "oauth2"), {basic("abc123def", "oauth2"), "abc123def"}),
        ("Authorization", "Basic " + basic("__token__", "pypi-abc"), {basic("__token__", "pypi-abc"), "pypi-abc"}),
        ("Authorization", "Basic not base64!", {"not base64!"}),
        ("Authorization", 'Digest username="alice", nonce="abcdefgh", response="0123456789"', set()),
        ("Authorization", "Negotiate YIIabcdef", set()),
        ("Authorization", "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20240101/s3, Signature=0a1b2c3d", {"AKIDEXAMPLE"}),
        ("Cookie", "sid=0123abcd; theme=darkness; n=1234567; q=\"9876fedc\"", {"0123abcd", "9876fedc"}),
        ("Set-Cookie", "sid=0123abcd; Path=/; Expires=Wed, 21 Oct 2015 07:28:00 GMT", {"0123abcd"}),
        ("X-Api-Key", "key-0123", {"key-0123"}),
        ("PRIVATE-TOKEN", "abc-0123", {"abc-0123"}),
        ("X-Amz-Security-Token", "abc-0123", {"abc-0123"}),
        ("X-Amz-Content-Sha256", "e3b0c44298fc1c14", set()),
        ("User-Agent", "curl/8.0-abcdef", set()),
        ("Accept", "application/json", set()),
    ],
)  # fmt: skip
def test_credentials_are_kept_from_headers(name: str, value: str, met: set[str]) -> None:
    it = redaction()
    it.add_header(name, value)
    assert set(it.values) == met


def test_cookies_without_end_do_not_slow_the_search() -> None:
    it = redaction()
    for number in range(1000):
        it.add_header("Set-Cookie", f"sid=0a1b2c-{number}")
    assert len(it.values) == 64
    it.add_header("Authorization", "Bearer still-kept-1")
    assert it.find_secret(b"still-kept-1")


def test_signatures_without_end_do_not_slow_the_search() -> None:
    it = redaction()
    for number in range(1000):
        it.add_url(f"https://files.test/?X-Amz-Signature=0a1b2c3d4e5f60718293-{number}")
    assert len(it.values) == 64
    it.add_header("Authorization", "Bearer still-kept-1")
    assert it.find_secret(b"still-kept-1")


def test_a_redirect_to_no_url_holds_no_signature() -> None:
    it = redaction()
    it.add_url("http://[::1/#?token=0a1b2c3d4e5f60718293")
    assert not it.values
    it.add_url("http://[::1/?token=0a1b2c3d4e5f60718293#top")
    assert it.values == ("0a1b2c3d4e5f60718293",)


def test_private_answers_of_too_many_texts_are_refused() -> None:
    it = redaction()
    it.stand_in(json.dumps([f"text-{number:04}" for number in range(500)]).encode(), "application/json")
    it.stand_in(b'["text-0001", "Bearer", "words only"]', "application/json")
    with pytest.raises(TooManyTexts, match="more than 500 texts"):
        it.stand_in(b"one-more-0", "text/plain")


@given(st.text(max_size=60), st.sampled_from(["Basic ", "Bearer ", "AWS4 ", "", "Token "]))
def test_any_authorization_is_taken(value: str, scheme: str) -> None:
    it = redaction()
    it.add_header("Authorization", scheme + value)
    assert all(len(met) >= 6 for met in it.values)


# -- bodies


@pytest.mark.parametrize(
    ("body", "content_type", "holds"),
    [
        ('{"access_token": "abc", "token_type": "Bearer"}', "application/json", True),
        (' {"refresh_token": "abc"}', "text/plain", True),
        ('{"id_token": "abc"}', "", True),
        ('{"accessToken": "abc", "exp": 1}', "application/json", True),
        ('{"token": "0123456789abcdef"}', "application/json", True),
        ('{"token": "0123456789"}', "application/json", False),
        ('{"token": 12345678901234567890}', "application/json", False),
        ('{"access_token": ""}', "application/json", False),
        ('{"data": {"access_token": "abc"}}', "application/json", False),
        ('["access_token"]', "application/json", False),
        ('{"access_token": "abc"', "application/json", False),
        ("access_token=gho_abc&scope=repo", "application/x-www-form-urlencoded; charset=utf-8", True),
        ("access_token=gho_abc&scope=repo", "text/plain", False),
        ("[" * 30_000 + '"token"', "application/json", False),
        ('{"access_token": "' + "a" * 70_000 + '"}', "application/json", False),
        ("", "application/json", False),
    ],
)
def test_token_endpoints_are_known_by_what_they_answer(body: str, content_type: str, holds: bool) -> None:
    assert redaction().holds_token(body.encode(), content_type) is holds


def test_a_stand_in_has_the_shape_and_none_of_the_values() -> None:
    it = redaction()
    body = {
        "token": "abc0123456789def",
        "token_type": "Bearer",
        "expires_in": 300,
        "issued_at": "2024-05-06T07:08:09.123Z",
        "ok": True,
        "none": None,
        "scope": "read write",
        "url": "https://api.example.org/",
        "nested": [{"key": "k-0123456789"}, 1.5],
    }
    assert json.loads(it.stand_in(json.dumps(body).encode(), "application/json")) == {
        "token": "***",
        "token_type": "Bearer",
        "expires_in": 300,
        "issued_at": "2099-12-31T00:00:00Z",
        "ok": True,
        "none": None,
        "scope": "***",
        "url": "***",
        "nested": [{"key": "***"}, 1.5],
    }
    assert it.values == ("abc0123456789def", "k-0123456789")
    assert it.url("https://h/abc0123456789def/") == "https://h/***/"


def test_a_stand_in_does_not_depend_on_the_moment() -> None:
    bodies = [
        b'{"token": "aaaaaaaaaaaaaaaa", "at": "2024-01-01T00:00:00Z"}',
        b'{"token":"bbbbbbbbbbbbbbbbbbb","at":"2025-02-03T04:05:06+01:00"}',
    ]
    assert len({redaction().stand_in(body, "application/json") for body in bodies}) == 1


@pytest.mark.parametrize(
    ("body", "content_type", "stand_in"),
    [
        (b"access_token=abc123&scope=&a", "application/x-www-form-urlencoded", b"***"),
        (b"access_token=abc123&scope=", "application/x-www-form-urlencoded", b"access_token=***&scope=***"),
        (b"s3cret-as-text\n", "text/plain", b"***"),
        (b'"s3cret-as-json"', "application/json", b'"***"'),
        (b"[]", "application/json", b"[]"),
        (b'{"broken": "s3cret', "application/json", b"***"),
        (b'{"a": ' * 5000, "application/json", b"***"),
        (b"[" * 100_000 + b"]" * 100_000, "application/json", b"***"),
        (b'{"n": ' + b"9" * 5000 + b"}", "application/json", b"***"),
        (b"\xff\xfe\x00binary", "application/octet-stream", b"***"),
        (b"no form at all", "application/x-www-form-urlencoded", b"***"),
        (b"", "", b"***"),
    ],
)  # fmt: skip
def test_stand_ins_of_other_bodies(body: bytes, content_type: str, stand_in: bytes) -> None:
    assert redaction().stand_in(body, content_type) == stand_in


def test_a_secret_that_was_answered_as_text_is_known() -> None:
    it = redaction()
    it.stand_in(b"s3cret-as-text\n", "text/plain")
    assert it.find_secret(b"Authorization: Bearer s3cret-as-text")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


@given(json_values)
def test_no_string_of_a_private_answer_is_left(value: object) -> None:
    body = json.dumps({"value": value}).encode()
    stand_in = json.loads(redaction().stand_in(body, "application/json"))

    def leaves(value: object) -> list[str]:
        if isinstance(value, dict):
            return [leaf for inner in value.values() for leaf in leaves(inner)]
        if isinstance(value, list):
            return [leaf for inner in value for leaf in leaves(inner)]
        return [value] if isinstance(value, str) else []

    assert set(leaves(stand_in)) <= {"***", "2099-12-31T00:00:00Z"}
    assert len(leaves(stand_in)) == len(leaves(json.loads(body)))


@given(st.binary(max_size=200), st.sampled_from(["application/json", "application/x-www-form-urlencoded", ""]))
def test_any_body_has_a_stand_in(body: bytes, content_type: str) -> None:
    it = redaction()
    it.holds_token(body, content_type)
    again = it.stand_in(it.stand_in(body, content_type), content_type)
    assert again == it.stand_in(body, content_type)
