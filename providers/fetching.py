"""What a fetch is asked for, what it gives back, and how its failures are told.

Values only; `transfer` does the work.
"""

from __future__ import annotations

import attrs

from wanrec.providers.base import Provider, ProviderContext
from wanrec.providers.salvage import Salvage
from wanrec.reconcile.errors import ErrorCode, ExitCode, WanrecError
from wanrec.reconcile.model import Via
from wanrec.reconcile.part_digests import PartDigests

__all__ = [
    "LIES",
    "FetchRequest",
    "Fetched",
    "all_failed",
    "check_sha256",
    "check_size",
    "failure_line",
    "is_sources_fault",
]

LIES = frozenset({ErrorCode.CHECKSUM_FAIL})
"""What a source that is asked again would do again."""


@attrs.frozen(kw_only=True)
class FetchRequest:
    """One file to bring.

    Attributes:
        address: for errors and events.
        path: the file's path at the source.
        size, sha256: what it must be; None where neither spec nor lock says.
        sources: (URL, context) in the order they are tried.
        optional: for the caller; a transfer treats all files alike.
        salvage: a damaged file of ours that may have most of the content already.
    """

    address: str
    path: str
    size: int | None = None
    sha256: str | None = None
    sources: tuple[tuple[str, ProviderContext], ...] = attrs.field(repr=False)
    optional: bool = False
    salvage: Salvage | None = attrs.field(default=None, repr=False)


@attrs.frozen(kw_only=True)
class Fetched:
    """One verified file in the stage.

    Attributes:
        staged: root-relative path of the file, named by its sha256.
        source: who delivered, without secrets.
        bytes_fetched: bytes that came over in this run.
        failovers: one line for each source that failed before, without secrets.
        digests: of its parts, made from the same bytes as the sha256, where they cost nothing.
        content: the bytes themselves, of a small file that came over in one answer.
    """

    sha256: str
    size: int
    source: str
    revision: str | None
    etag: str | None
    bytes_fetched: int
    via: Via
    staged: str
    failovers: tuple[str, ...] = ()
    digests: PartDigests | None = attrs.field(default=None, repr=False)
    content: memoryview | None = attrs.field(default=None, repr=False)


def check_sha256(request: FetchRequest, provider: Provider, sha256: str) -> None:
    """Raise CHECKSUM_FAIL, on the source's account, when other bytes came."""
    if request.sha256 is not None and sha256 != request.sha256:
        raise provider.error(
            ErrorCode.CHECKSUM_FAIL,
            f"{request.path!r} has wrong bytes at the source",
            detail=f"expected sha256 {request.sha256}\nreceived sha256 {sha256}",
        )


def check_size(request: FetchRequest, provider: Provider, size: int) -> None:
    """Raise SIZE_MISMATCH, on the source's account, when the size is another."""
    if request.size is not None and size != request.size:
        raise provider.error(
            ErrorCode.SIZE_MISMATCH,
            f"{request.path!r} has {size} bytes at the source, {request.size} are expected",
        )


def is_sources_fault(error: WanrecError) -> bool:
    """An error that names a source is that source's; one that names none is our own."""
    return error.source is not None and error.exit_code in (
        ExitCode.SOURCE,
        ExitCode.INTEGRITY,
        ExitCode.REFUSED,
    )


def failure_line(error: WanrecError) -> str:
    """Return a failed source as one line for people."""
    return f"{error.source}: {error.code} {error.summary}"


def all_failed(request: FetchRequest, failures: list[WanrecError]) -> WanrecError:
    """Return the error of a file that no source delivered: wrong bytes outrank silence."""
    if not failures:
        return WanrecError(
            ErrorCode.INVALID_MANIFEST, "the file has no source", address=request.address
        )
    wrong = [error for error in failures if error.code in LIES]
    chosen = wrong[-1] if wrong else failures[-1]
    if len(failures) == 1:
        chosen.address = request.address
        return chosen
    return WanrecError(
        chosen.code,
        f"none of {len(failures)} sources delivered {request.path!r}",
        detail="\n".join(failure_line(error) for error in failures),
        address=request.address,
        source=chosen.source,
        hint=chosen.hint,
    )
