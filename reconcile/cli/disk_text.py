"""What `usage` and `gc` print: tables and a bar chart for people, documents for programs."""

from __future__ import annotations

from collections.abc import Iterable

from wanrec.reconcile.engine_gc import GcReport
from wanrec.reconcile.lifecycle import Decision, Keep, Remove
from wanrec.reconcile.lifecycle_litter import Fate, Litter
from wanrec.reconcile.lifecycle_usage import Figures, Usage
from wanrec.reconcile.render_state import document
from wanrec.reconcile.render_words import columns, escaped, human_bytes, plural, to_width
from wanrec.reconcile.stage_identity import rfc3339

__all__ = ["gc_json", "gc_text", "usage_json", "usage_text"]

_BAR = 32
_HEAD = ("FILES", "APPARENT", "REAL", "SHARED", "SAVED", "ALLOCATED")

_WORDS: dict[Keep | Remove | Fate, str] = {
    Keep.PINNED: "pinned",
    Keep.PROTECTED: "protected",
    Keep.REQUIRED: "required by its spec",
    Keep.REQUIREMENT: "required by a model that stays",
    Keep.IN_USE: "in use",
    Keep.BUSY: "another run works on it",
    Keep.WITHIN_LIMITS: "within the limits",
    Keep.FREES_NOTHING: "its bytes belong to models that stay, too: frees nothing",
    Keep.FAILED: "could not be removed",
    Remove.ORPHAN: "no project owns it",
    Remove.EXPIRED: "not used for longer than the limit",
    Remove.FAMILY_QUOTA: "its family is over its quota; unused the longest",
    Remove.QUOTA: "the models are over the limit; unused the longest",
    Remove.ROOM: "room is needed; unused the longest",
    Fate.STALE: "old, and nothing reaches it",
    Fate.DUE: "replaced, and its readers have had their time",
    Fate.YOUNG: "not old enough: the next apply may go on with it",
    Fate.LIVE: "a run is at work with it",
    Fate.GRACE: "replaced; readers may still be inside",
    Fate.FAILED: "could not be removed",
}


def usage_text(usage: Usage) -> str:
    """A table of families, models and components, a bar for each model, and what `du` says."""
    rows = [(f"family {name}", *_cells(figures)) for name, figures in usage.families.items()]
    for key, figures in usage.models.items():
        rows.append((key, *_cells(figures)))
        parts = usage.components[key].items()
        rows += [(f"  {name or '(top)'}", *_cells(part)) for name, part in parts]
    rows.append(("all models", *_cells(usage.total)))
    disk = usage.disk
    return (
        columns(("WHAT", *_HEAD), rows)
        + "\n"
        + _bars(usage.models.items())
        + f"\nOn the disk: {human_bytes(disk.total)} ({disk.total} bytes allocated):"
        f" models {human_bytes(disk.models)}, foreign {human_bytes(disk.foreign)},"
        f" wanrec's own {human_bytes(disk.wanrec)}, folders {human_bytes(disk.folders)}.\n"
        f"Sharing saves {human_bytes(usage.total.saved)}.\n"
    )


def _cells(figures: Figures) -> tuple[str, ...]:
    sizes = (figures.apparent, figures.real, figures.shared, figures.saved, figures.allocated)
    return (str(figures.files), *map(human_bytes, sizes))


def _bars(models: Iterable[tuple[str, Figures]]) -> str:
    rows = sorted(models, key=lambda row: (-row[1].real, row[0]))
    largest = max((figures.real for _, figures in rows), default=0)
    wide = max((len(escaped(key)) for key, _ in rows), default=0)
    lines = []
    for key, figures in rows:
        own = figures.real - figures.shared
        full = -(-figures.real * _BAR // largest) if largest else 0
        solid = min(full, -(-own * _BAR // largest)) if largest else 0
        bar = "█" * solid + "░" * (full - solid)
        lines.append(f"{to_width(escaped(key), wide)}  {bar} {human_bytes(figures.real)}\n")
    return "".join(lines) + ("█ its own  ░ shared with other models\n" if rows else "")


def usage_json(usage: Usage) -> str:
    """Every figure in bytes."""
    disk = usage.disk
    return document(
        total=_figures(usage.total),
        disk={
            "total": disk.total,
            "models": disk.models,
            "foreign": disk.foreign,
            "wanrec": disk.wanrec,
            "folders": disk.folders,
        },
        families=[{"family": n, **_figures(f)} for n, f in usage.families.items()],
        models=[
            {
                "model": key,
                **_figures(figures),
                "components": [
                    {"component": name or None, **_figures(part)}
                    for name, part in usage.components[key].items()
                ],
            }
            for key, figures in usage.models.items()
        ],
    )


def _figures(figures: Figures) -> dict[str, int]:
    return {
        "files": figures.files,
        "apparent": figures.apparent,
        "real": figures.real,
        "shared": figures.shared,
        "saved": figures.saved,
        "allocated": figures.allocated,
    }


def gc_text(report: GcReport) -> str:
    """One line for each model and leftover: what becomes of it, and why."""
    goes = "would go" if report.dry_run else "removed"
    rows = [
        (
            goes if row.removes else "kept",
            row.key,
            human_bytes(row.frees if row.removes else row.apparent),
            _when(row.last_used_ns),
            _why(row),
        )
        for row in report.models
    ]
    rows += [
        (
            goes if entry.removes else "kept",
            entry.path,
            human_bytes(entry.size),
            "",
            _WORDS[entry.fate],
        )
        for entry in report.litter
    ]
    table = columns(("", "WHAT", "SIZE", "LAST USED", "WHY"), rows) if rows else ""
    return table + _total(report)


def _total(report: GcReport) -> str:
    evicted = sum(row.removes for row in report.models)
    verb = "Would evict" if report.dry_run else "Evicted"
    text = (
        f"{verb} {plural(evicted, 'model')}. {human_bytes(report.freed)} freed;"
        f" the models take {human_bytes(report.after)}, before {human_bytes(report.before)}.\n"
    )
    if report.over:
        text += f"Still {human_bytes(report.over)} over the limit: nothing else may go.\n"
    return text


def _why(row: Decision) -> str:
    return row.detail or _WORDS[row.reason]


def _when(ns: int) -> str:
    return f"{rfc3339(ns)[:19]}Z" if ns else "never"


def gc_json(report: GcReport) -> str:
    """The same as data; `action` is "evict" or "keep", `reason` a closed word."""
    return document(
        dry_run=report.dry_run,
        before=report.before,
        after=report.after,
        freed=report.freed,
        over=report.over,
        models=[_model_row(row) for row in report.models],
        leftovers=[_litter_row(entry) for entry in report.litter],
        failed=[failure.to_dict() for failure in report.failures],
    )


def _model_row(row: Decision) -> dict[str, object]:
    return {
        "model": row.key,
        "family": row.family,
        "action": "evict" if row.removes else "keep",
        "reason": row.reason.value,
        "detail": row.detail,
        "size": row.apparent,
        "frees": row.frees,
        "last_used": _when(row.last_used_ns),
    }


def _litter_row(entry: Litter) -> dict[str, object]:
    return {
        "path": entry.path,
        "kind": entry.kind.value,
        "action": "remove" if entry.removes else "keep",
        "reason": entry.fate.value,
        "size": entry.size,
    }
