"""Source URLs: what is accepted, what is refused and how, and what of them may be shown."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wanrec.providers import known_schemes, provider_for, register
from wanrec.providers.base import ProviderContext
from wanrec.providers.source_url import parse_source, redacted
from wanrec.reconcile.errors import ErrorCode, WanrecError

CANARY = "s3cr3t-canary"


@pytest.mark.parametrize(
    ("text", "location"),
    [
        ("local://mirror/t2v@2.2.0", "mirror/t2v@2.2.0"),
        ("local:///srv/models", "/srv/models"),
        ("LOCAL://mirror", "mirror"),
        ("file:///srv/my%20models", "/srv/my models"),
        ("file://localhost/srv", "/srv"),
        ("file:///C:/models", "C:/models"),
        ("package://silero-vad/data", "silero-vad/data"),
        ("package://torch.nn/x", "torch.nn/x"),
        ("package://demo", "demo"),
        ("s3://ai-models/wan22/t2v", "ai-models/wan22/t2v"),
        ("s3://ai-models", "ai-models/"),
        ("https://example.org/a/b?sig=1", "example.org/a/b"),
        ("https://[::1]:8443/a", "[::1]:8443/a"),
        ("http://127.0.0.1:8000", "127.0.0.1:8000"),
    ],
)
def test_location_is_what_the_provider_resolves(text: str, location: str) -> None:
    """Each kind of URL gives its location, free of scheme, query and encoding."""
    assert parse_source(text).location == location


@pytest.mark.parametrize(
    ("text", "revision", "subpath"),
    [
        ("hf://Wan-AI/Wan2.2", None, ""),
        ("hf://Wan-AI/Wan2.2@5be7df9", "5be7df9", ""),
        ("hf://Wan-AI/Wan2.2@main/vae", "main", "vae"),
        ("hf://Wan-AI/Wan2.2/vae/x", None, "vae/x"),
        ("hf://Wan-AI/Wan2.2@refs/pr/7/vae", "refs%2Fpr%2F7", "vae"),
    ],
)
def test_hub_url_has_repository_revision_and_subpath(
    text: str, revision: str | None, subpath: str
) -> None:
    """hf:// splits into repository, revision and sub-path."""
    url = parse_source(text)
    assert (url.location, url.revision, url.subpath) == ("Wan-AI/Wan2.2", revision, subpath)


def test_query_of_s3_is_parsed() -> None:
    """Options of an s3 source come as a mapping."""
    url = parse_source("s3://bucket/x?endpoint_url=http://127.0.0.1:9000&anonymous=1")
    assert dict(url.query) == {"endpoint_url": "http://127.0.0.1:9000", "anonymous": "1"}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "models/t2v",
        "C:\\models",
        "local://",
        "local://a?b=c",
        "local://a\nb",
        "file://host/share",
        "file://relative",
        "file:///a%00b",
        "package:///x",
        "package://a b/x",
        "package://pkg/../other",
        "s3:///prefix",
        "s3://b/x?regoin=eu",
        "hf://only-one",
        "hf://org/name@/x",
        "hf://org/name/../../other",
        "https:///path",
        "https://host name/x",
        "https://host/x#frag",
        f"https://user:{CANARY}@host/x",
        f"s3://AKIA:{CANARY}@bucket/x",
        f"hf://{CANARY}@org/name",
        f"gopher://user:{CANARY}@host/x?token={CANARY}",
    ],
)
def test_what_is_no_source_is_refused_without_its_secrets(text: str) -> None:
    """A bad URL is INVALID_MANIFEST, and its text never shows user info or query."""
    with pytest.raises(WanrecError) as caught:
        parse_source(text)
    assert caught.value.code is ErrorCode.INVALID_MANIFEST
    assert CANARY not in str(caught.value)
    assert CANARY not in str(caught.value.to_dict())


@pytest.mark.parametrize(
    ("text", "close"),
    [("locl://x", "local://"), ("htps://x/y", "https://"), ("pakage://x/y", "package://")],
)
def test_unknown_scheme_names_the_nearest(text: str, close: str) -> None:
    """A misspelt scheme gets the one that was meant."""
    with pytest.raises(WanrecError) as caught:
        parse_source(text)
    assert close in caught.value.hint


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"https://user:{CANARY}@host/a?sig={CANARY}#{CANARY}", "https://host/a"),
        (f"s3://{CANARY}@bucket/x@y?a={CANARY}", "s3://bucket/x@y"),
        ("local://mirror@1/t2v@2.2.0", "local://mirror@1/t2v@2.2.0"),
        ("hf://org/name@rev/sub", "hf://org/name@rev/sub"),
        (f"odd://{CANARY}@x/y?{CANARY}", "odd://x/y"),
    ],
)
def test_redacted_keeps_what_identifies_and_drops_what_authorises(text: str, shown: str) -> None:
    """User info, query and fragment go; names and revisions with an @ stay."""
    assert redacted(text) == shown


def test_secrets_are_not_in_the_repr() -> None:
    """A parsed URL may be logged by accident."""
    assert CANARY not in repr(parse_source(f"https://host/a?sig={CANARY}"))


@given(st.text(max_size=60))
def test_any_text_is_parsed_or_refused_with_the_code(text: str) -> None:
    """No text makes the parser fail in another way."""
    for candidate in (text, "https://" + text, "hf://" + text, "file:///" + text):
        try:
            parse_source(candidate)
        except WanrecError as error:
            assert error.code is ErrorCode.INVALID_MANIFEST


def test_a_taken_scheme_cannot_be_registered() -> None:
    """Nobody replaces a provider by accident."""
    with pytest.raises(ValueError, match="taken"):
        register("local", "elsewhere:Provider")
    with pytest.raises(ValueError, match="module:Class"):
        register("mine", "elsewhere")
    assert "mine" not in known_schemes()


def test_relative_source_url_of_no_provider_names_those_there_are(tmp_path: object) -> None:
    """A scheme nobody provides is INVALID_MANIFEST."""
    from pathlib import Path

    with pytest.raises(WanrecError) as caught:
        provider_for("gopher://x/y", ProviderContext(base=Path()))
    assert caught.value.code is ErrorCode.INVALID_MANIFEST
