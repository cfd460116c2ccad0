"""A drift report for people and for programs: text and JSON.

On the hot path of every cron job: nothing is imported here that a clean report does not need.
"""

from __future__ import annotations

from wanrec.reconcile.findings import Content, DriftItem, DriftKind, DriftReport
from wanrec.reconcile.render_words import escaped, human_bytes, paint, plural, short_digest

__all__ = ["drift_json", "drift_text", "drift_verdict", "finding"]

DRIFT_FORMAT_VERSION = 1
_FOREIGN_SHOWN = 20
_PARTS_SHOWN = 8


def drift_text(report: DriftReport, color: bool = False) -> str:
    """Return one line per finding and the verdict last."""
    lines = []
    for item in report.items:
        lines.append(f"{paint('~', '~', color)} {finding(item)}")
        if len(item.paths) > 1:
            lines += [f"    shared as {escaped(path)}" for path in item.paths]
        lines += _bad_parts(item)
    mark = paint("?", "?", color)
    lines += [f"{mark} {escaped(name)}  suspect, not hashed" for name in report.suspects]
    mark = paint("!", "!", color)
    lines += [f"{mark} {escaped(p)}  unreadable: {escaped(why)}" for p, why in report.unreadable]
    lines += [f"  {escaped(key)}  busy: a run is working on it" for key in report.busy]
    lines += [f"  {escaped(path)}  foreign" for path in report.foreign[:_FOREIGN_SHOWN]]
    if len(report.foreign) > _FOREIGN_SHOWN:
        lines.append(f"  … and {len(report.foreign) - _FOREIGN_SHOWN} more foreign")
    if report.left:
        lines.append(f"  {plural(report.left, 'file')} not hashed yet: the next run goes on there")
    if report.ignored:
        lines.append(f"  {report.ignored} ignored on request")
    lines.append(paint(drift_verdict(report), "bold", color))
    return "\n".join(lines) + "\n"


def drift_verdict(report: DriftReport) -> str:
    """Return the last line; it says ``No drift.`` only when everything could be judged."""
    differ, suspect, unread = map(len, (report.items, report.suspects, report.unreadable))
    if not (differ or suspect or unread):
        files = "1 file matches" if report.checked == 1 else f"{report.checked} files match"
        return f"No drift. {files} the state."
    return (
        f"Drift: {differ} differ, {suspect} suspect, {unread} unreadable;"
        f" {report.checked} files checked."
    )


def finding(item: DriftItem) -> str:
    """Return one finding as ``ADDRESS  KIND  expected …  found …``."""
    found = "nothing" if item.kind is DriftKind.MISSING else _content(item.found)
    if item.kind is DriftKind.TYPE and item.found is None:
        found = "something that is not a regular file"
    expected = _content(item.expected)
    return f"{escaped(item.address)}  {item.kind}  expected {expected}  found {found}"


def _bad_parts(item: DriftItem) -> list[str]:
    lines = [f"    bad part: bytes {a} to {b}" for a, b in item.parts[:_PARTS_SHOWN]]
    if len(item.parts) > _PARTS_SHOWN:
        lines.append(f"    … and {len(item.parts) - _PARTS_SHOWN} more bad parts")
    return lines


def drift_json(report: DriftReport) -> str:
    """Return the contract's JSON document."""
    import json

    document = {
        "format_version": DRIFT_FORMAT_VERSION,
        "drifted": report.drifted,
        "checked": report.checked,
        "items": [_item(item) for item in report.items],
        "suspects": list(report.suspects),
        "busy": list(report.busy),
        "unreadable": [{"path": path, "reason": why} for path, why in report.unreadable],
        "foreign": list(report.foreign),
    }
    if report.left is not None:
        document["left"] = report.left
    return json.dumps(document, indent=2) + "\n"


def _item(item: DriftItem) -> dict[str, object]:
    return {
        "address": item.address,
        "model": item.model,
        "path": item.path,
        "kind": item.kind.value,
        "expected": _content_dict(item.expected),
        "found": _content_dict(item.found),
        "paths": list(item.paths),
        "parts": [list(span) for span in item.parts],
    }


def _content_dict(content: Content | None) -> dict[str, object] | None:
    return None if content is None else {"size": content.size, "sha256": content.sha256}


def _content(content: Content | None) -> str:
    if content is None:
        return "nothing"
    size = "" if content.size is None else human_bytes(content.size)
    return " ".join(part for part in (size, short_digest(content.sha256)) if part) or "unknown"
