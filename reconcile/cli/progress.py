"""The progress bars of an apply, on a terminal only: one for all bytes, one per file under way."""

from __future__ import annotations

import threading
from types import TracebackType

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, TaskID, TextColumn, TransferSpeedColumn
from rich.progress import Progress as Bars
from rich.table import Column

from wanrec.reconcile.actions import Plan
from wanrec.reconcile.model import ActionKind
from wanrec.reconcile.telemetry import Event, EventKind

__all__ = ["Progress"]

_NAME_COLUMNS = 30


def _one_line() -> Column:
    return Column(no_wrap=True, overflow="ellipsis")


class Progress:
    """An event sink that draws. Used as a context manager around the apply."""

    def __init__(self, plan: Plan, *, color: bool) -> None:
        self._bars = Bars(
            TextColumn("{task.description}", table_column=_one_line()),
            BarColumn(bar_width=16),
            DownloadColumn(binary_units=True, table_column=_one_line()),
            TransferSpeedColumn(table_column=_one_line()),
            console=Console(stderr=True, no_color=not color),
            transient=True,
        )
        self._sizes = {
            action.address: action.size or 0
            for action in plan.actions
            if action.action.brings_bytes or action.action is ActionKind.VERIFY
        }
        self._all = self._bars.add_task("total", total=sum(self._sizes.values()))
        self._files: dict[str, TaskID] = {}
        self._done: dict[str, int] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> Progress:
        self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bars.stop()

    def emit(self, event: Event) -> None:
        """Move the bars."""
        address = str(event.fields.get("address"))
        with self._lock:
            match event.kind:
                case EventKind.ACTION_PROGRESS:
                    done = event.fields.get("bytes_done")
                    self._move(address, done if isinstance(done, int) else 0)
                case EventKind.ACTION_COMPLETE | EventKind.ACTION_ERROR:
                    self._move(address, self._sizes.get(address, 0))
                    self._drop(address)
                case _:
                    return

    def _move(self, address: str, done: int) -> None:
        if address not in self._sizes:
            return
        task = self._files.get(address)
        if task is None:
            name = address if len(address) <= _NAME_COLUMNS else "…" + address[1 - _NAME_COLUMNS :]
            task = self._bars.add_task(escape(name), total=self._sizes[address])
            self._files[address] = task
        self._bars.update(task, completed=done)
        self._done[address] = done
        self._bars.update(self._all, completed=sum(self._done.values()))

    def _drop(self, address: str) -> None:
        task = self._files.pop(address, None)
        if task is not None:
            self._bars.remove_task(task)
