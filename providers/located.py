"""What a source says of its files, before their bytes and with them.

Values only; `base` has who gives them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import attrs

from wanrec.providers.checksums import Checksum
from wanrec.reconcile.errors import ErrorCode

__all__ = ["CatalogueEntry", "Located", "SourceHealth", "Whole", "amount"]


@attrs.frozen(kw_only=True)
class Located:
    """Where one file is, as far as the source said so without being asked for its bytes.

    Attributes:
        source: the source URL without secrets; what state and events may hold.
        path: the file's path at the source.
        size: bytes, or None when it is not known before the first answer.
        etag: the validator to pin, or None.
        revision: commit or version the bytes belong to, or None.
        sha256: what the source says the content is; a hint, never the identity of the spec.
        checksum: another checksum that the source vouches for, or None.
        local_path: a file of this machine to read directly, or None.
        url: where ranges are asked for; may hold a signature, never printed.
        headers: request headers; may hold a token, never printed.
    """

    source: str
    path: str
    size: int | None = None
    etag: str | None = None
    revision: str | None = None
    sha256: str | None = None
    checksum: Checksum | None = None
    local_path: Path | None = None
    url: str | None = attrs.field(default=None, repr=False)
    headers: Mapping[str, str] = attrs.field(factory=dict, repr=False)


@attrs.frozen(kw_only=True)
class CatalogueEntry:
    """One file of a source's listing. `blob_id` is the source's own content id (git, S3)."""

    path: str
    size: int
    sha256: str | None = None
    etag: str | None = None
    blob_id: str | None = None


@attrs.frozen(kw_only=True)
class SourceHealth:
    """The answer of `check`: usable or not, and what to do about it."""

    source: str
    ok: bool
    code: ErrorCode | None = None
    detail: str = ""
    hint: str = ""


class Whole(NamedTuple):
    """A small file as one answer brought it, with the source's validator and revision for it."""

    content: memoryview
    etag: str | None
    revision: str | None


def amount(found: int, most: int) -> str:
    """Say how many bytes came, as far as they were counted."""
    return f"more than {most} bytes" if found > most else f"{found} bytes"
