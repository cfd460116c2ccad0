"""The command line: arguments in, one engine call, text and an exit code out."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program and return its exit code; never raises for anything a user can cause."""
    if argv is not None:
        from wanrec.reconcile.cli.run import run

        return run(list(argv))
    return _whole_process()


def _whole_process() -> int:
    """Run the program in a process of its own.

    Start-up and tables of 100,000 records make millions of objects and hardly any garbage; looking
    through them again and again, and once more at the end, costs a fifth of a short run.
    """
    import gc
    import sys

    gc.set_threshold(100_000, 20, 100)
    from wanrec.reconcile.cli.run import run

    code = run(sys.argv[1:])
    gc.freeze()
    return code
