"""Where the events of an apply go: NDJSON on stdout or into a file, a progress bar, warnings.

Events come from any thread. Somebody who stops reading never stops the apply.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from wanrec.reconcile.cli.output import utc_now
from wanrec.reconcile.cli.session import Session
from wanrec.reconcile.errors import ErrorCode, WanrecError
from wanrec.reconcile.telemetry import Event, EventKind, EventSink
from wanrec.reconcile.version import __version__

if TYPE_CHECKING:
    from wanrec.reconcile.actions import ApplyResult, Plan

__all__ = ["Sinks", "Warnings", "open_sinks", "tell_result"]

EVENTS_FORMAT_VERSION = 1


class Lines:
    """One JSON object a line: `event`, `time`, then what the event says."""

    def __init__(self, write: Callable[[str], object]) -> None:
        self._write = write
        self._lock = threading.Lock()

    def emit(self, event: Event) -> None:
        """Write the event; what cannot be written is dropped."""
        document = {"event": event.kind.value, "time": utc_now(), **event.fields}
        line = json.dumps(document, default=str, ensure_ascii=False) + "\n"
        with self._lock:
            try:
                self._write(line)
            except (OSError, WanrecError):
                self._write = len  # a reader that left, or a full disk, must not stop the apply


class Warnings:
    """Tells people what they should know while it happens; with -v every finished file."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def emit(self, event: Event) -> None:
        """Print failovers and retries; failures are told with the result."""
        field = event.fields.get
        match event.kind:
            case EventKind.ACTION_FAILOVER:
                self._session.say(
                    f"Warning: {field('address')}: {field('source')} gave up"
                    f" [{field('code')}] {field('summary')}; trying the next source",
                    "warning",
                )
            case EventKind.ACTION_COMPLETE:
                self._session.say(f"{field('action')} {field('address')}: done", "debug")
            case EventKind.ACTION_RETRY:
                self._session.say(f"{field('address')}: trying again", "debug")
            case _:
                return


class Sinks:
    """Every listener of one apply, and what the command itself has to tell them."""

    def __init__(self, session: Session, as_json: bool, machine: list[EventSink]) -> None:
        self._session = session
        self._as_json = as_json
        self._machine = machine
        self._listeners: list[EventSink] = [*machine, Warnings(session)]
        self._plan: Plan | None = None

    def emit(self, event: Event) -> None:
        """Pass an event on to everybody; the plan has been told by `planned`, in full."""
        if event.kind is EventKind.PLAN:
            return
        if event.fields.get("code") == ErrorCode.INTERRUPTED:
            ending = self._session.ending
            told = {"code": ending.value, "exit": int(ending.exit_code)}
            event = Event(event.kind, {**event.fields, **told})
        for listener in self._listeners:
            listener.emit(event)

    def _tell(self, kind: EventKind, **fields: object) -> None:
        for listener in self._machine:
            listener.emit(Event(kind, fields))

    def planned(self, plan: Plan) -> None:
        """The plan is made: show it to people, tell programs its size."""
        from wanrec.reconcile.render import render_plan

        self._plan = plan
        if not self._as_json:
            self._session.write(render_plan(plan, color=self._session.color))
        if self._machine:
            import attrs

            summary = attrs.asdict(plan.summary)
            self._tell(
                EventKind.PLAN,
                lineage=plan.lineage,
                serial=plan.serial,
                actions=len(plan.actions),
                summary=summary,
            )

    def refused(self, error: WanrecError) -> None:
        """The whole run failed: the last event says so."""
        from wanrec.reconcile.render_apply import refused_entries

        self._session.blame(error)
        self._tell(
            EventKind.SUMMARY,
            format_version=1,
            outcome="failed",
            error=error.to_dict(),
            failed=refused_entries(error, self._plan),
        )
        if self._as_json:
            self._session.format = "text"  # the error document is part of the summary

    def finished(self, result: ApplyResult) -> None:
        """The apply ended: the frozen line for people, the summary for programs."""
        from wanrec.reconcile.render_apply import apply_json

        for failure in result.failures:
            self._session.blame(failure.error)
        if self._machine:
            self._tell(EventKind.SUMMARY, **json.loads(apply_json(result)))
        if self._as_json:
            return
        nothing_to_do = not self._plan and not result.done and not result.failures
        if nothing_to_do and not result.already_applied and not result.records_changed:
            return  # the plan has said "No changes."
        tell_result(self._session, result, "\n")

    @contextmanager
    def live(self) -> Iterator[None]:
        """Show a progress bar on a terminal while the apply runs."""
        if self._as_json or not self._plan or not self._session.live:
            yield
            return
        from wanrec.reconcile.cli.progress import Progress

        with Progress(self._plan, color=self._session.color) as progress:
            self._listeners.append(progress)
            try:
                yield
            finally:
                self._listeners.remove(progress)


def tell_result(session: Session, result: ApplyResult, before: str = "") -> None:
    """Failures and warnings on stderr, the frozen line on stdout; `before` precedes each."""
    from wanrec.reconcile.render_apply import closing_text, failures_text

    failures = failures_text(result, session.color)
    if failures:
        level = "error" if any(not f.optional for f in result.failures) else "warning"
        session.say(before + failures, level)
    session.write(before + closing_text(result, session.color))


@contextmanager
def open_sinks(session: Session, fmt: str, json_into: str | None) -> Iterator[Sinks]:
    """The listeners that the options ask for, each told the version first.

    Raises:
        WanrecError: what the disk said when the events file cannot be opened.
    """
    machine: list[EventSink] = [Lines(session.write)] if fmt == "json" else []
    file = _open(json_into) if json_into else None
    try:
        if file is not None:
            machine.append(Lines(file.write))
        sinks = Sinks(session, fmt == "json", machine)
        sinks._tell(
            EventKind.VERSION, format_version=EVENTS_FORMAT_VERSION, wanrec_version=__version__
        )
        yield sinks
    finally:
        if file is not None:
            file.close()


def _open(path: str) -> TextIO:
    try:
        return open(path, "w", encoding="utf-8", errors="backslashreplace", buffering=1)
    except OSError as error:
        from wanrec.reconcile.engine_files import file_error

        raise file_error(error, Path(path), "write") from error
