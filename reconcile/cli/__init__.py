"""The command line: arguments in, one engine call, text and an exit code out."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program and return its exit code; never raises for anything a user can cause."""
    import sys

    if argv is None:
        import gc

        # The process is ours: start-up and tables of 100,000 records make millions of objects
        # and no garbage, and looking through them again and again costs a fifth of a short run.
        gc.set_threshold(100_000, 20, 100)
    from wanrec.reconcile.cli.run import run

    return run(list(sys.argv[1:] if argv is None else argv))
