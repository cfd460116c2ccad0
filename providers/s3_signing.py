"""AWS Signature Version 4 for requests without a body: pure, and without an SDK.

A model may be thousands of small files; an SDK takes milliseconds to sign one request, this takes
microseconds. The signature goes into headers, so no URL holds a secret.
"""

from __future__ import annotations

import functools
import hashlib
import hmac
import time
from collections.abc import Mapping
from typing import NamedTuple

import attrs

__all__ = ["Credentials", "signed_headers"]

_EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()


@attrs.frozen(kw_only=True)
class Credentials:
    """Who asks. Never printed."""

    access_key: str = attrs.field(repr=False)
    secret_key: str = attrs.field(repr=False)
    token: str | None = attrs.field(default=None, repr=False)


def signed_headers(
    credentials: Credentials,
    *,
    method: str,
    host: str,
    target: str,
    headers: Mapping[str, str],
    region: str,
    now_s: float,
) -> dict[str, str]:
    """Return the headers with date and signature added.

    Args:
        credentials: the secrets.
        method: GET or HEAD.
        host: the Host header as it will be sent.
        target: path and query as they will be sent; the query is empty or one encoded pair.
        headers: what will be sent besides; the ``x-amz-`` ones are signed.
        region: the bucket's region.
        now_s: seconds since the epoch; servers accept a clock that is off by minutes.
    """
    bound = tuple(item for item in headers.items() if item[0].lower().startswith("x-amz-"))
    frame = _frame(credentials, host, bound, region, _stamp(int(now_s)))
    path, _, query = target.partition("?")
    canonical = f"{method}\n{path}\n{query}\n{frame.canonical}"
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    signature = _hmac(frame.key, frame.text + digest).hex()
    return {**headers, **frame.sent, "Authorization": frame.authorization + signature}


class _Frame(NamedTuple):
    """What the requests of one second share."""

    sent: Mapping[str, str]
    canonical: str
    text: str
    key: bytes
    authorization: str


@functools.lru_cache(maxsize=8)
def _frame(
    credentials: Credentials,
    host: str,
    bound: tuple[tuple[str, str], ...],
    region: str,
    stamp: str,
) -> _Frame:
    sent = {"x-amz-content-sha256": _EMPTY_SHA256, "x-amz-date": stamp}
    if credentials.token:
        sent["x-amz-security-token"] = credentials.token
    signed = {name.lower(): value.strip() for name, value in (*bound, *sent.items())}
    signed["host"] = host
    names = sorted(signed)
    lines = (*(f"{name}:{signed[name]}" for name in names), "", ";".join(names), _EMPTY_SHA256)
    scope = f"{stamp[:8]}/{region}/s3/aws4_request"
    return _Frame(
        sent=sent,
        canonical="\n".join(lines),
        text=f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n",
        key=_signing_key(credentials.secret_key, scope),
        authorization=(
            f"AWS4-HMAC-SHA256 Credential={credentials.access_key}/{scope},"
            f" SignedHeaders={';'.join(names)}, Signature="
        ),
    )


@functools.lru_cache(maxsize=2)
def _stamp(now_s: int) -> str:
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now_s))


@functools.lru_cache(maxsize=8)
def _signing_key(secret_key: str, scope: str) -> bytes:
    """The key of one day and region; thousands of requests share it."""
    key = f"AWS4{secret_key}".encode()
    for part in scope.split("/"):
        key = _hmac(key, part)
    return key


def _hmac(key: bytes, text: str) -> bytes:
    return hmac.digest(key, text.encode(), "sha256")
