"""What every run that changes the disk does first: prove the locks, end dead runs, look around.

Shared by apply and gc. Leaves the root as the last finished run meant it to be.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from wanrec.reconcile.disk import Root
from wanrec.reconcile.disk_probe import fs_type, is_network_fs, probe_exchange
from wanrec.reconcile.errors import ErrorCode, WanrecError
from wanrec.reconcile.recover import (
    due_retired,
    recover_runs,
    release_retired,
)
from wanrec.reconcile.settings import Settings
from wanrec.reconcile.stage import STAGE, TREES, Modes
from wanrec.reconcile.stage_identity import IdentityLog
from wanrec.state.run import RunHeader
from wanrec.state.store import StateStore

if TYPE_CHECKING:
    import threading

    from wanrec.reconcile.workbench import Workbench

__all__ = ["can_exchange", "check_locks", "modes_of", "release", "tidy"]


def check_locks(root: Root, store: StateStore, settings: Settings) -> None:
    """Refuse a root whose locks keep nobody out.

    Raises:
        WanrecError: LOCK_UNRELIABLE; disk errors.
    """
    kind = fs_type(root.path)
    if is_network_fs(kind) and not settings.trust_locks:
        raise WanrecError(
            ErrorCode.LOCK_UNRELIABLE,
            f"locks cannot be relied on: the root is on {kind}",
            where=str(root.path),
            hint="trust_locks = true in wanrec.toml, if yours do work",
        )
    root.make_dirs(".wanrec/locks", 0o755)
    store.locks.probe()


def tidy(engine: Workbench, root: Root, store: StateStore, operation: str) -> None:
    """End what dead runs began and let go of old directories, also when nothing is to do.

    Raises:
        WanrecError: state, lock and disk errors.
    """
    grace_ns = int(engine.settings.swap_grace * 1e9)
    recover_runs(root, store, swap_grace_ns=grace_ns, clock=engine.now)
    release(engine, root, store, operation)


def release(
    engine: Workbench, root: Root, store: StateStore, operation: str, *, force: bool = False
) -> None:
    """Remove retired directories; what their unlinking does to clocks is recorded at once.

    The records have to say so before anything is planned again, or each file that an old
    directory shared with a model would look touched.
    """
    if not due_retired(root, engine.now(), force=force):
        return
    lock = store.locks.try_acquire("retired", operation)
    if lock is None:  # somebody else is at it
        return
    header = RunHeader(operation=operation, project=engine.settings.project)
    with lock, store.begin_run(header) as run:
        log = IdentityLog()
        release_retired(root, log, now_ns=engine.now(), force=force)
        with contextlib.suppress(WanrecError):  # unrecorded, those files are read once more
            run.fold(log.steps(engine.now))


def can_exchange(root: Root, store: StateStore, stop: threading.Event | None = None) -> bool:
    """True when two directories of this root can change places in one step."""
    root.make_dirs(TREES, 0o755)
    # One at a time: whatever probe is there was left by a process that is gone.
    with store.locks.acquire("probe", 30.0, "probe", stop=stop):
        for name in root.folders(STAGE):
            if name.startswith("probe-"):
                root.rmdir(f"{STAGE}/{name}")
        return probe_exchange(root, STAGE)


def modes_of(settings: Settings) -> Modes:
    """How files are put in place: permission bits, and how equal bytes are shared."""
    return Modes(
        file=settings.file_mode,
        directory=settings.dir_mode,
        links=settings.link_mode in ("auto", "hardlink"),
        clones=settings.link_mode in ("auto", "reflink"),
    )
