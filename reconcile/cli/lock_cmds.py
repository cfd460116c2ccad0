"""`lock`: pin what the specs want to what their sources have."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import click

from wanrec.reconcile.cli.options import format_option, global_options, select_options
from wanrec.reconcile.cli.session import Session
from wanrec.reconcile.errors import ExitCode

if TYPE_CHECKING:
    from wanrec.reconcile.lockfile import LockedFile, LockedModel
    from wanrec.reconcile.locking import LockChange
    from wanrec.reconcile.select_args import SelectArgs

__all__ = ["ByteCounter", "lock", "run_lock"]

_SAY_EVERY = 1024 * 1024 * 1024
_DRAW_AFTER_S = 0.5
_DRAW_EVERY_S = 0.2


class ByteCounter:
    """Tells on stderr how much has been read; thread-safe.

    On a terminal one line that is drawn again and again, elsewhere a line for each GiB.
    """

    def __init__(self, session: Session, what: str) -> None:
        self._session = session
        self._what = what
        self._live = session.live
        self._lock = threading.Lock()
        self._done = 0
        self._begun = time.monotonic()
        self._next = self._begun + _DRAW_AFTER_S

    def __call__(self, count: int) -> None:
        """Count bytes."""
        from wanrec.reconcile.render_words import human_bytes

        with self._lock:
            before, self._done = self._done, self._done + count
            if self._live:
                now = time.monotonic()
                if now >= self._next:
                    self._next = now + _DRAW_EVERY_S
                    speed = human_bytes(int(self._done / (now - self._begun)))
                    self._session.draw(f"{self._what} {human_bytes(self._done)}, {speed}/s")
            elif before // _SAY_EVERY != self._done // _SAY_EVERY:
                self._session.say(f"{self._what} {human_bytes(self._done)} …")


@click.command()
@select_options
@click.option("--upgrade", is_flag=True, help="Ask again for what is pinned, too.")
@click.option("--check", is_flag=True, help="Write nothing; exit 2 if --upgrade would change it.")
@click.option("--fetch", is_flag=True, help="Read large files whose sha256 no source states.")
@click.option("--offline", is_flag=True, default=None, help="Use local sources only.")
@format_option("text", "json")
@global_options
@click.pass_obj
def lock(
    session: Session,
    /,
    upgrade: bool,
    check: bool,
    fetch: bool,
    offline: bool | None,
    fmt: str,
    **options: Any,
) -> int:
    """Ask the sources, and write revision, size and sha256 of every file into NAME.lock.toml.

    Only what is not pinned yet is asked for, unless --upgrade or --check is given. When two
    sources do not agree, both answers are shown and nothing is written.
    """
    from wanrec.reconcile.select_args import SelectArgs

    changes = run_lock(
        session,
        SelectArgs(**options),
        upgrade=upgrade or check,
        fetch=fetch,
        offline=offline,
        write=not check,
    )
    changed = [change for change in changes if change.changed]
    if fmt == "json":
        from wanrec.reconcile.render_state import document

        session.write(document(changed=bool(changed), locks=[_as_json(c) for c in changes]))
    else:
        session.write("".join(f"{line}\n" for change in changes for line in _lines(change, check)))
    return int(ExitCode.DIFFERS if check and changed else ExitCode.OK)


def run_lock(
    session: Session,
    select: SelectArgs,
    *,
    upgrade: bool = False,
    fetch: bool = False,
    offline: bool | None = None,
    write: bool = True,
) -> tuple[LockChange, ...]:
    """Work out the lock files and write them; warnings and progress go to stderr."""
    from wanrec.reconcile.locking import LockRequest, lock_specs, write_locks

    request = LockRequest(
        select=select,
        upgrade=upgrade,
        fetch=fetch,
        offline=offline,
        warn=lambda text: session.say(f"Warning: {text}", "warning"),
        progress=ByteCounter(session, "Read"),
        stop=session.stop,
    )
    changes = lock_specs(session.engine(), request)  # writes nothing: it may end at any moment
    if write:
        write_locks(changes)
    return changes


def _lines(change: LockChange, check: bool) -> Iterator[str]:
    if not change.changed:
        needless = f"{change.path} is not needed: the spec states every size and sha256."
        yield f"{change.path} is up to date." if change.text else needless
        return
    models = _models(change)
    for model, (before, after) in models.items():
        if before == after:
            continue
        yield model
        yield from _revision_lines(before, after)
        yield from _file_lines(before, after)
    verb = "would change" if check else "written" if change.text else "removed"
    yield f"{change.path} {verb}."


def _models(
    change: LockChange,
) -> dict[str, tuple[LockedModel | None, LockedModel | None]]:
    old: Mapping[str, LockedModel] = change.before.models if change.before else {}
    new = change.after.models
    return {model: (old.get(model), new.get(model)) for model in sorted({*old, *new})}


def _revision_lines(before: LockedModel | None, after: LockedModel | None) -> Iterator[str]:
    from wanrec.providers.source_url import redacted

    old = before.revisions if before else {}
    new = after.revisions if after else {}
    for url in sorted({*old, *new}):
        if old.get(url) != new.get(url):
            yield f"  {redacted(url)}  {old.get(url) or '-'} → {new.get(url) or '-'}"


def _file_lines(before: LockedModel | None, after: LockedModel | None) -> Iterator[str]:
    old, new = _by_name(before), _by_name(after)
    for name in sorted({*old, *new}):
        was, now = old.get(name), new.get(name)
        if was is None and now is not None:
            yield f"  + {name}  {_content(now)}"
        elif now is None and was is not None:
            yield f"  - {name}  {_content(was)}"
        elif was and now and (was.size, was.sha256) != (now.size, now.sha256):
            yield f"  ~ {name}  {_content(was)} → {_content(now)}"


def _by_name(model: LockedModel | None) -> dict[str, LockedFile]:
    files = model.files if model else ()
    return {file.path + (f" [{file.variant}]" if file.variant else ""): file for file in files}


def _content(file: LockedFile) -> str:
    from wanrec.reconcile.render_words import human_bytes, short_digest

    return f"{human_bytes(file.size)} {short_digest(file.sha256)}"


def _as_json(change: LockChange) -> dict[str, object]:
    rows = []
    for model, (before, after) in _models(change).items():
        old, new = _by_name(before), _by_name(after)
        rows.append(
            {
                "model": model,
                "revisions": _shown_revisions(after),
                "added": sorted(new.keys() - old.keys()),
                "removed": sorted(old.keys() - new.keys()),
                "changed": sorted(
                    name
                    for name in old.keys() & new.keys()
                    if (old[name].size, old[name].sha256) != (new[name].size, new[name].sha256)
                ),
            }
        )
    return {"path": change.path, "changed": change.changed, "models": rows}


def _shown_revisions(model: LockedModel | None) -> dict[str, str]:
    from wanrec.providers.source_url import redacted

    return {redacted(url): commit for url, commit in (model.revisions if model else {}).items()}
