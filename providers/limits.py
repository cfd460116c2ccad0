"""Every limit of moving bytes, with its unit, in one place.

A frozen value that the engine fills from the settings. Nothing else in this room holds a number
that decides how long, how much or how often.
"""

from __future__ import annotations

import attrs

__all__ = ["MIB", "Limits"]

MIB = 1 << 20


@attrs.frozen(kw_only=True, cache_hash=True)
class Limits:
    """Bounds of one run's transfers.

    Attributes:
        bwlimit: bytes a second over all sources together, None for no cap.
        small_file: below this many bytes a file is read, hashed and written by one thread.
        quick_file: up to so many bytes a first attempt is made without preparing for a second.
        copy_step: bytes a local copy moves between two looks at the stop event.
        progress_interval_s: progress events of one file are at least this far apart.
        max_listing: entries a catalogue may have.
        dead_source_s: how long a source that did not answer is asked last.
        connect_timeout_s: name look-up to established connection, TLS included.
        stall_window_s: this long below `stall_bytes_per_s` ends an attempt (STALLED).
        stall_bytes_per_s: the slowest a source may be.
        file_deadline_s: wall time of one file from one source, retries included; None: none.
        retries: attempts after the first, for one range that makes no progress.
        retry_budget: retries of all files together that may follow one another without success.
        backoff_s: first pause before a retry; doubles, with jitter.
        backoff_cap_s: longest pause that wanrec chooses.
        retry_after_cap_s: longest pause that a server may ask for.
        max_redirects: hops of one request.
        max_header_bytes: size of a response head.
        connections_per_host: connections to one host at a time.
        workers_per_file: most ranges of one file in flight.
        first_workers: ranges of one file in flight while the source answers fast.
        range_bytes: length of ranges.
        first_range_bytes: length of the first ranges of a run that goes on after a kill, because
            the next kill loses those under way.
        range_share: these ranges grow to one in so many of the bytes that the run has received.
        max_range_bytes: length that ranges grow to when answers take long to begin.
        journal_bytes: most bytes of one range between two entries of the resume journal.
        sync_bytes: bytes of one file between two flushes that make journaled ranges durable.
        writeback_bytes: so many bytes of one file arrive before the kernel is asked to write them.
        alone_bytes: so much of a file comes before it gets a second receiver.
        first_receivers: receivers of all files together while sources answer fast; each file
            has one in any case.
        undeclared_size: most bytes of a file whose size nobody declared.
        receive_buffer: bytes of a receiver's buffer.
        pipe_bytes: bytes of a receiver's pipe, where bytes go to the file inside the kernel; 0:
            they never do.
    """

    bwlimit: int | None = None
    small_file: int = MIB
    quick_file: int = MIB // 4
    copy_step: int = 8 * MIB
    progress_interval_s: float = 0.1
    max_listing: int = 200_000
    dead_source_s: float = 30.0
    connect_timeout_s: float = 10.0
    stall_window_s: float = 20.0
    stall_bytes_per_s: int = 1024
    file_deadline_s: float | None = None
    retries: int = 5
    retry_budget: int = 20
    backoff_s: float = 0.25
    backoff_cap_s: float = 10.0
    retry_after_cap_s: float = 60.0
    max_redirects: int = 10
    max_header_bytes: int = 65536
    connections_per_host: int = 8
    workers_per_file: int = 4
    first_workers: int = 3
    first_range_bytes: int = MIB // 2
    range_share: int = 64
    range_bytes: int = 64 * MIB
    max_range_bytes: int = 64 * MIB
    journal_bytes: int = MIB // 4
    sync_bytes: int = 256 * MIB
    writeback_bytes: int = 8 * MIB
    first_receivers: int = 4
    alone_bytes: int = 32 * MIB
    undeclared_size: int = 256 * 1024 * MIB
    receive_buffer: int = 256 * 1024
    pipe_bytes: int = 512 * 1024
