"""Small things every command needs to answer: files it was asked to write, the time as text."""

from __future__ import annotations

from pathlib import Path

from wanrec.reconcile.cli.session import Session

__all__ = ["deliver", "utc_now"]


def deliver(session: Session, text: str, output: str | None) -> None:
    """Print `text`, or replace the file `output` by it in one step.

    Raises:
        WanrecError: what the disk said.
    """
    if output is None or output == "-":
        session.write(text)
        return
    from wanrec.reconcile.engine_files import write_output

    write_output(Path(output), text.encode("utf-8", "backslashreplace"))


def utc_now() -> str:
    """This moment, RFC 3339 in UTC with milliseconds."""
    from datetime import UTC, datetime

    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
