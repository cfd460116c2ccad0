"""`s3://BUCKET/PREFIX`: objects of S3 and what speaks like it.

Bytes and heads come through the range engine with signed requests: each request is signed when it
is sent, so a signature never gets old, and a file whose size and hash are known costs one GET. Only
listings need the SDK's client. A multipart ETag is a validator and never taken for a hash; a
sha256 that the server vouches for is reported when it covers the whole object.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

import attrs

from wanrec.providers.base import (
    Body,
    CatalogueEntry,
    Located,
    ProviderContext,
    Session,
    SourceFault,
)
from wanrec.providers.checksums import offered
from wanrec.providers.http import HttpProvider
from wanrec.providers.pool import Response
from wanrec.providers.s3_account import Account, AccountError, translated
from wanrec.providers.s3_signing import signed_headers
from wanrec.providers.source_url import SourceUrl
from wanrec.providers.wire import WireFault, parse_url
from wanrec.reconcile.errors import ErrorCode

__all__ = ["S3Provider"]

_region = re.compile(r"[a-z0-9-]{1,40}").fullmatch
_PLAIN = "/-._~"


class _OtherRegionFault(SourceFault):
    """The bucket lies in another region than the request was signed for."""

    region: str = ""


class S3Provider(HttpProvider):
    """One prefix of one bucket.

    Attributes:
        bucket: its name.
        prefix: what every key begins with: empty, or ends with a slash.
    """

    def __init__(self, url: SourceUrl, context: ProviderContext) -> None:
        super().__init__(url, context)
        self.bucket, _, prefix = url.location.partition("/")
        self.prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self._found_region: str | None = None
        self._versions: dict[str, tuple[str | None, str]] = {}
        self._accounts: dict[Session, Account] = {}
        self._checked: dict[str | None, str] = {}

    def _locate(self, path: str, probe: bool) -> Located:
        located = Located(source=self.name, path=path, url=self._address(path))
        if not probe:
            return located
        headers = {"x-amz-checksum-mode": "ENABLED"}
        response = self.probe(attrs.evolve(located, headers=headers))
        response.close()
        told = response.headers
        version = _real_version(told)
        return attrs.evolve(
            located,
            size=response.length,
            etag=told.get("etag"),
            revision=version,
            sha256=_whole_sha256(told),
            checksum=offered(told),
            url=_with_version(located.url, version),
        )

    def _catalogue(self) -> Iterator[CatalogueEntry]:
        query: dict[str, str] = {"Bucket": self.bucket, "Prefix": self.prefix}
        if self.requester_pays:
            query["RequestPayer"] = "requester"
        client = self.client()
        self._reach()
        try:
            with translated():
                for page in client.get_paginator("list_objects_v2").paginate(**query):
                    yield from self._entries(page)
        except AccountError as error:
            raise self.account_fault(error) from None

    def _reach(self) -> None:
        """The SDK is long in doubt about a server that is not there: ask first, in our own time."""
        try:
            origin, target = parse_url(self._base())
            self._pool().request("HEAD", origin, target, {"User-Agent": "wanrec"}).close()
        except WireFault as fault:
            raise self.wire_error(fault, "") from fault

    def _entries(self, page: Mapping[str, Any]) -> Iterator[CatalogueEntry]:
        for item in page.get("Contents", ()):
            path = item["Key"][len(self.prefix) :]
            if path and not path.endswith("/"):  # consoles make such objects to show folders
                tag = item.get("ETag")
                yield CatalogueEntry(path=path, size=item["Size"], etag=tag, blob_id=tag)

    def _open_range(self, located: Located, start: int, stop: int | None) -> Body:
        etag, version = self._versions.get(located.path, (None, ""))
        if located.etag is None:
            self._versions.pop(located.path, None)
        elif located.etag == etag and located.revision is None:
            # Later ranges name the version of the first: an overwrite meanwhile does not matter.
            located = attrs.evolve(located, url=_with_version(located.url, version))
        return super()._open_range(located, start, stop)

    @property
    def requester_pays(self) -> bool:
        """True when whoever asks pays for the traffic."""
        return self._account.requester_pays

    def client(self) -> Any:
        """The SDK's client, once the address was found fit to be asked.

        Raises:
            SourceFault: POLICY_DENIED for plain http; INVALID_CONFIG; AUTH_FAIL.
        """
        self._checked_base()
        try:
            self._account.credentials()  # who has none is told so before the SDK is
            return self._account.client()
        except AccountError as error:
            raise self.account_fault(error) from None

    def send(self, method: str, url: str, headers: Mapping[str, str], path: str) -> Response:
        """As the base class, signed; a bucket in another region is asked there, once."""
        base = self._checked_base()
        try:
            response = super().send(method, url, self._signed(method, url, headers, path), path)
        except _OtherRegionFault as fault:
            self._found_region = fault.region
            url = self._base() + url.removeprefix(base)
            response = super().send(method, url, self._signed(method, url, headers, path), path)
        version = _real_version(response.headers)
        if response.status == 206 and version is not None:
            self._versions[path] = response.headers.get("etag"), version
        return response

    def _signed(
        self, method: str, url: str, headers: Mapping[str, str], path: str
    ) -> dict[str, str]:
        sent = dict(headers)
        if self.requester_pays:
            sent["x-amz-request-payer"] = "requester"
        try:
            credentials = self._account.credentials()
            origin, target = parse_url(url)
        except AccountError as error:
            raise self.account_fault(error) from None
        except WireFault as fault:
            raise self.wire_error(fault, path) from fault
        if credentials is None:
            return sent
        return signed_headers(
            credentials,
            method=method,
            host=origin.authority,
            target=target,
            headers=sent,
            region=self._found_region or self._account.region(),
            now_s=time.time(),
        )

    def _status_error(self, response: Response, path: str) -> SourceFault:
        region = response.headers.get("x-amz-bucket-region", "")
        used = self._found_region or self._account.region()
        if response.status in (301, 400, 403) and _region(region) and region != used:
            elsewhere = _OtherRegionFault(
                ErrorCode.AUTH_FAIL,
                f"the bucket is in {region}, the request was signed for {used}",
                source=self.name,
                hint=f"?region={region}",
            )
            elsewhere.region = region
            elsewhere.retries = 0
            return elsewhere
        fault = super()._status_error(response, path)
        if response.status == 400:  # expired and malformed tokens; the request itself is sound
            hint = self._hint(ErrorCode.AUTH_FAIL)
            fault = self.error(
                ErrorCode.AUTH_FAIL, f"{path!r}: the source refuses the signature", hint=hint
            )
            fault.retries = 0
        return fault

    def _hint(self, code: ErrorCode) -> str:
        if code is not ErrorCode.AUTH_FAIL:
            return ""
        if self._account.anonymous:
            return "the bucket is not public: leave ?anonymous=1 away and give credentials"
        return (
            "check AWS_ACCESS_KEY_ID or AWS_PROFILE, the bucket's policy and the clock;"
            " an archived object must be restored first"
        )

    @property
    def _account(self) -> Account:
        known = self._accounts.get(self.session)
        if known is not None:
            return known
        query = self.url.query
        options = "\n".join(f"{name}={query[name]}" for name in sorted(query))
        account = self.session.shared(
            f"s3\n{self.bucket}\n{options}",
            lambda: Account(self.bucket, query, self.context.environ, self.context.limits),
        )
        assert isinstance(account, Account)
        self._accounts[self.session] = account
        return account

    def _base(self) -> str:
        account = self._account
        return account.address(self.bucket, self._found_region or account.region())

    def _checked_base(self) -> str:
        """The bucket's address; plain http is refused before any credential is looked for."""
        base = self._checked.get(self._found_region)
        if base is not None:
            return base
        try:
            base = self._base()
            self._vet_scheme(parse_url(base)[0], "")
        except AccountError as error:
            raise self.account_fault(error) from None
        except WireFault:
            raise self.error(
                ErrorCode.INVALID_CONFIG, "the S3 endpoint is not an http or https address"
            ) from None
        self._checked[self._found_region] = base
        return base

    def _address(self, path: str) -> str:
        return f"{self._checked_base()}/{quote(self.prefix + path, safe=_PLAIN)}"

    def account_fault(self, error: AccountError) -> SourceFault:
        """Name this source in what kept the account from asking."""
        fault = self.error(error.code, error.text, hint=error.hint)
        if error.code is ErrorCode.AUTH_FAIL and not fault.hint:
            fault.hint = self._hint(error.code)
        fault.retries = 0
        return fault


def _real_version(headers: Mapping[str, str]) -> str | None:
    version = headers.get("x-amz-version-id")
    return version if version and version != "null" else None


def _with_version(url: str | None, version: str | None) -> str | None:
    return url if url is None or not version else f"{url}?versionId={quote(version, safe='-._~')}"


def _whole_sha256(headers: Mapping[str, str]) -> str | None:
    """The sha256 a server vouches for; None when it is made of parts, or is none."""
    import base64
    import binascii

    text = headers.get("x-amz-checksum-sha256", "")
    if headers.get("x-amz-checksum-type", "FULL_OBJECT").upper() != "FULL_OBJECT":
        return None
    try:
        digest = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return digest.hex() if len(digest) == 32 else None
