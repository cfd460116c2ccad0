"""What an apply did: the frozen line, or what failed and what to do about it; and the JSON summary.

Failures of optional files only warn: they are told, and do not make an apply partial.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from wanrec.reconcile.actions import ApplyResult, Failure, Plan
from wanrec.reconcile.errors import WanrecError
from wanrec.reconcile.render_rows import apply_counts
from wanrec.reconcile.render_words import bullet, escaped, paint, plural

__all__ = [
    "ALREADY_APPLIED",
    "apply_json",
    "apply_text",
    "closing_text",
    "error_text",
    "failed_entries",
    "failures_text",
    "refused_entries",
]

APPLY_FORMAT_VERSION = 1
ALREADY_APPLIED = "Already applied."


def apply_text(result: ApplyResult, color: bool = False) -> str:
    """Return warnings, one block per failure, and the closing line."""
    return failures_text(result, color) + closing_text(result, color)


def failures_text(result: ApplyResult, color: bool = False) -> str:
    """Return warnings and one block per failure, empty when there is neither."""
    lines = [paint(bullet(f"Warning: {text}", ""), "~", color) for text in _warnings(result)]
    for failure in _hard(result.failures):
        lines += [error_text(failure.error, failure.address, color), ""]
    return "".join(f"{line}\n" for line in lines)


def closing_text(result: ApplyResult, color: bool = False) -> str:
    """Return what was done beside the four counted kinds, and the frozen line last."""
    beside = (("adopted", result.adopted), ("moved", result.moved), ("forgotten", result.forgotten))
    also = [f"{count} {word}" for word, count in beside if count]
    if result.records_changed:
        also.append(f"{plural(result.records_changed, 'record')} updated")
    lines = [f"Also: {', '.join(also)}."] if also else []
    lines.append(paint(_closing(result, len(_hard(result.failures))), "bold", color))
    return "\n".join(lines) + "\n"


def error_text(error: WanrecError, address: str | None = None, color: bool = False) -> str:
    """Return an error as ``Error[CODE]: summary`` with where, why and help, safe to print.

    Args:
        error: what happened.
        address: the action it happened to, told when the error itself names no place.
        color: ANSI colour for the first line.
    """
    first, *rest = (escaped(line) for line in str(error).splitlines())
    if address is not None and error.address is None and error.where is None:
        rest.insert(0, f"  where:  {escaped(address)}")
    return "\n".join([paint(first, "!", color), *rest])


def failed_entries(failures: Sequence[Failure]) -> list[dict[str, object]]:
    """Return the contract's ``failed[]``: address, code, exit, retryable, and what was said."""
    return [
        {
            "address": failure.address,
            "code": failure.error.code.value,
            "exit": int(failure.error.exit_code),
            "retryable": failure.error.code.retryable,
            "optional": failure.optional,
            "summary": failure.error.summary,
            "hint": failure.error.hint,
        }
        for failure in failures
    ]


def refused_entries(error: WanrecError, plan: Plan | None = None) -> list[dict[str, object]]:
    """Return ``failed[]`` of a run that was refused whole: what blocks its plan, else the error."""
    blocks = [
        WanrecError(block.code, block.message, address=block.address, hint=block.hint)
        for block in (() if plan is None else plan.blocked)
    ]
    errors = blocks if error.code in {block.code for block in blocks} else [error]
    return failed_entries([Failure(address=e.address or "", error=e) for e in errors])


def apply_json(result: ApplyResult) -> str:
    """Return the JSON summary of an apply, for ``--json-into`` and the last event."""
    document = {
        "format_version": APPLY_FORMAT_VERSION,
        "outcome": _outcome(result),
        "summary": {
            "created": result.created,
            "verified": result.verified,
            "replaced": result.replaced,
            "deleted": result.deleted,
            "adopted": result.adopted,
            "moved": result.moved,
            "forgotten": result.forgotten,
            "bytes_fetched": result.bytes_fetched,
            "records_changed": result.records_changed,
        },
        "failed": failed_entries(result.failures),
        "warnings": _warnings(result),
        "delivered": {
            address: {"source": source, "bytes_fetched": fetched, "assurance": assurance.value}
            for address, (source, fetched, assurance) in sorted(result.delivered.items())
        },
    }
    return json.dumps(document, indent=2) + "\n"


def _hard(failures: Sequence[Failure]) -> list[Failure]:
    return [failure for failure in failures if not failure.optional]


def _outcome(result: ApplyResult) -> str:
    if _hard(result.failures):
        return "partial" if result.done else "failed"
    return "already_applied" if result.already_applied else "complete"


def _closing(result: ApplyResult, failed: int) -> str:
    counts = apply_counts(
        (result.created, result.verified, result.replaced, result.deleted),
        result.bytes_fetched,
    )
    match _outcome(result):
        case "already_applied":
            return ALREADY_APPLIED
        case "complete":
            return f"Apply complete! {counts}"
        case "partial":
            return f"Apply finished in part: {counts} {failed} failed."
    return f"Apply failed: nothing was changed, {failed} failed."


def _warnings(result: ApplyResult) -> list[str]:
    """What is said of the run as a whole, then of each optional file that could not be had."""
    optional = (failure for failure in result.failures if failure.optional)
    return list(result.warnings) + [
        f"optional {failure.address}: [{failure.error.code}] {failure.error.summary}"
        for failure in optional
    ]
