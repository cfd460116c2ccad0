"""A bucket that a mirror is written into: small files in one request, large ones in parts.

Each object carries the sha256 of the whole file in its metadata (`sha256`); by that and its size
a later run knows what need not be sent again. Each request carries the sha256 of what it sends, so
a byte that flips on the way is refused by the server. An upload that was cut short is taken up
again: parts that are there and equal are not sent twice. One whose bytes turn out wrong is aborted,
and no object ever has the name of a file that was not whole and right.
"""

from __future__ import annotations

import base64
import collections
import contextlib
import hashlib
import itertools
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from wanrec.providers.base import ProviderContext
from wanrec.providers.limits import MIB
from wanrec.providers.s3 import S3Provider
from wanrec.providers.s3_account import AccountError, translated
from wanrec.providers.shelf import Incoming, Shelf
from wanrec.providers.source_url import SourceUrl
from wanrec.reconcile.errors import ErrorCode, WanrecError

__all__ = ["PART_BYTES", "S3Shelf"]

PART_BYTES = 8 * MIB
"""Size of a part; files that would need more parts than S3 takes get larger ones."""
_MOST_PARTS = 10_000
_AT_ONCE = 4
_SMALL_BYTES = 64 * MIB
_DIGEST = "sha256"
_RIGHTS = "the keys need s3:GetObject, s3:PutObject and s3:ListBucket for this prefix"


class S3Shelf(Shelf):
    """One prefix of one bucket."""

    vouches = True

    def __init__(self, url: SourceUrl, context: ProviderContext) -> None:
        self._source = S3Provider(url, context)
        self.name = self._source.name
        self._client = self._source.client()
        self._common: dict[str, str] = {"Bucket": self._source.bucket}
        if self._source.requester_pays:
            self._common["RequestPayer"] = "requester"

    def holds(self, name: str, size: int, sha256: str) -> bool:
        """As the base class: size, and the digest in its metadata or vouched for by the server."""
        try:
            with self._asking():
                head = self._client.head_object(**self._at(name), ChecksumMode="ENABLED")
        except WanrecError as error:
            # Who may not list is told 403 for what is not there; who may not write hears it then.
            if error.code in (ErrorCode.NOT_FOUND_AT_SOURCE, ErrorCode.AUTH_FAIL):
                return False
            raise
        stated = {head.get("Metadata", {}).get(_DIGEST), head.get("ChecksumSHA256")}
        return bool(head["ContentLength"] == size and stated & {sha256, _b64(sha256)})

    def put(self, name: str, incoming: Incoming) -> None:
        """As the base class."""
        if incoming.size > PART_BYTES:
            self._put_in_parts(name, incoming)
            return
        data = incoming.read(PART_BYTES)
        incoming.read(1)  # the end, where it says whether the bytes were right
        self._put_whole(name, data, incoming.sha256)

    def read(self, name: str) -> bytes | None:
        """As the base class."""
        try:
            with self._asking():
                body = self._client.get_object(**self._at(name))["Body"]
                data: bytes = body.read(_SMALL_BYTES)
                body.close()
        except WanrecError as error:
            if error.code is ErrorCode.NOT_FOUND_AT_SOURCE and "NoSuchBucket" not in error.summary:
                return None
            raise
        return data

    def write(self, name: str, data: bytes) -> None:
        """As the base class; equal content is not sent again."""
        sha256 = hashlib.sha256(data).hexdigest()
        if not self.holds(name, len(data), sha256):
            self._put_whole(name, data, sha256)

    def present(self, names: Iterable[str]) -> set[str]:
        """As the base class; one listing."""
        prefix = self._source.prefix
        there: set[str] = set()
        with self._asking():
            pages = self._client.get_paginator("list_objects_v2")
            for page in pages.paginate(**self._common, Prefix=prefix):
                there |= {item["Key"][len(prefix) :] for item in page.get("Contents", ())}
        return there.intersection(names)

    def close(self) -> None:
        """As the base class."""
        self._source.session.close()

    def _at(self, name: str) -> dict[str, str]:
        return {**self._common, "Key": self._source.prefix + name}

    def _put_whole(self, name: str, data: bytes, sha256: str) -> None:
        with self._asking():
            self._client.put_object(
                **self._at(name),
                Body=data,
                ChecksumSHA256=_b64(sha256),
                Metadata={_DIGEST: sha256},
            )

    def _put_in_parts(self, name: str, incoming: Incoming) -> None:
        upload, there = self._begun(name) or (self._begin(name, incoming.sha256), {})
        at = {**self._at(name), "UploadId": upload}
        try:
            parts = self._send(at, incoming, there)
        except WanrecError as error:
            if error.code is ErrorCode.CHECKSUM_FAIL:
                with contextlib.suppress(WanrecError), self._asking():
                    self._client.abort_multipart_upload(**at)
            raise
        with self._asking():
            self._client.complete_multipart_upload(**at, MultipartUpload={"Parts": parts})

    def _begin(self, name: str, sha256: str) -> str:
        with self._asking():
            begun = self._client.create_multipart_upload(
                **self._at(name), ChecksumAlgorithm="SHA256", Metadata={_DIGEST: sha256}
            )
        return str(begun["UploadId"])

    def _begun(self, name: str) -> tuple[str, Mapping[int, tuple[int, str]]] | None:
        """The newest upload of this name that was not ended, and its parts: size and ETag."""
        at = self._at(name)
        where = {key: value for key, value in at.items() if key != "Key"}
        try:
            with self._asking():
                pages = self._client.get_paginator("list_multipart_uploads")
                uploads = [
                    (one["Initiated"], one["UploadId"])
                    for page in pages.paginate(**where, Prefix=at["Key"])
                    for one in page.get("Uploads", ())
                    if one["Key"] == at["Key"]
                ]
                if not uploads:
                    return None
                upload = str(max(uploads)[1])
                pages = self._client.get_paginator("list_parts").paginate(**at, UploadId=upload)
                parts = [part for page in pages for part in page.get("Parts", ())]
        except WanrecError as error:
            # Not allowed to look, or somebody ended it just now: it is sent from the start.
            if error.code in (ErrorCode.AUTH_FAIL, ErrorCode.NOT_FOUND_AT_SOURCE):
                return None
            raise
        return upload, {part["PartNumber"]: (part["Size"], part["ETag"]) for part in parts}

    def _send(
        self, at: Mapping[str, str], incoming: Incoming, there: Mapping[int, tuple[int, str]]
    ) -> list[dict[str, Any]]:
        """Send the parts that are not there, several at once; returns all of them in order."""
        step = _part_bytes(incoming.size)
        sent: list[dict[str, Any]] = []
        waiting: collections.deque[Future[dict[str, Any]]] = collections.deque()
        with ThreadPoolExecutor(_AT_ONCE, "wanrec-mirror") as pool:
            for number in itertools.count(1):
                data = incoming.read(step)
                if not data:
                    break
                waiting.append(pool.submit(self._part, at, number, data, there.get(number)))
                if len(waiting) >= _AT_ONCE:
                    sent.append(waiting.popleft().result())
            sent += [one.result() for one in waiting]
        return sent

    def _part(
        self, at: Mapping[str, str], number: int, data: bytes, there: tuple[int, str] | None
    ) -> dict[str, Any]:
        checksum = base64.b64encode(hashlib.sha256(data).digest()).decode()
        tag = there[1] if there is not None and _is_part(data, *there) else None
        if tag is None:
            with self._asking():
                tag = self._client.upload_part(
                    **at, PartNumber=number, Body=data, ChecksumSHA256=checksum
                )["ETag"]
        return {"PartNumber": number, "ETag": tag, "ChecksumSHA256": checksum}

    @contextlib.contextmanager
    def _asking(self) -> Iterator[None]:
        try:
            with translated():
                yield
        except AccountError as error:
            fault = self._source.account_fault(error)
            if fault.code is ErrorCode.AUTH_FAIL:
                fault.hint = f"{_RIGHTS}; {fault.hint}"
            elif fault.code is ErrorCode.NOT_FOUND_AT_SOURCE:
                fault.hint = "make the bucket first: wanrec makes none"
            elif not fault.hint:
                fault.hint = "check AWS_ENDPOINT_URL and the network, then run it again: it goes on"
            raise fault from None


def _part_bytes(size: int) -> int:
    """The same for every run, so that the parts of an earlier one fit."""
    return max(PART_BYTES, -(-size // (_MOST_PARTS * MIB)) * MIB)


def _is_part(data: bytes, size: int, tag: str) -> bool:
    """A part's ETag is its MD5; of a server that encrypts it is not, and the part is sent again."""
    return len(data) == size and tag.strip('"') == _md5(data)


def _md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def _b64(sha256: str) -> str:
    return base64.b64encode(bytes.fromhex(sha256)).decode()
