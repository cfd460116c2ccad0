"""A plan as bytes and back; the JSON form of a plan; and whether a saved plan may still be applied.

Goes in: a `Plan`, or the bytes of a plan file. Comes out: one JSON document with stable key order
(contract, section 4), or a `PlanFile`. A plan file is bound to its content by a digest over the
whole document, and to its bytes: an edit, be it of a blank, a torn end or a key given twice is
`PLAN_CORRUPT`. It holds no absolute path of the machine it was made on and no secret. Nothing here
reads a disk.
"""

from __future__ import annotations

import enum
import hashlib
import json
import re
from typing import Any

import attrs

from wanrec.reconcile.actions import (
    PLAN_FORMAT_VERSION,
    Action,
    Block,
    Content,
    DriftItem,
    Plan,
    RecordChange,
    Summary,
)
from wanrec.reconcile.errors import ErrorCode, WanrecError
from wanrec.state.model import State

__all__ = [
    "PlanFile",
    "Resume",
    "action_to_dict",
    "check_resumable",
    "decode",
    "encode",
    "looks_like_plan",
    "plan_digest",
    "plan_to_dict",
]

Document = dict[str, Any]  # JSON

_FLAGS = (
    "deep",
    "refresh_only",
    "state_only",
    "destroy",
    "allow_delete",
    "allow_foreign",
    "delete_first",
    "share_via",
    "verified_before",
)
_ABOUT_FILE = ("digest", "format_version", "wanrec_version", "project")
_MAX_PLAN_BYTES = 1 << 30
_is_spec_line = re.compile(rb"^\s*[\"']?schema_version[\"']?\s*=", re.MULTILINE).search


@attrs.frozen(kw_only=True)
class PlanFile:
    """A decoded plan file. `plan_id` is its digest: it names the plan in journals and state."""

    plan: Plan
    plan_id: str


class Resume(enum.StrEnum):
    """What a saved plan is to the state it meets."""

    FRESH = "fresh"
    """The state is the one it was made from."""
    CONTINUES = "continues"
    """The state differs only by what this same plan has done already."""
    STALE = "stale"
    """Something else changed the state: PLAN_STALE."""
    FOREIGN = "foreign"
    """It was made for another root: PLAN_FOREIGN."""


def plan_to_dict(plan: Plan) -> Document:
    """Return the JSON form of a plan; what `--format json` prints and a plan file holds."""
    options = plan.options
    return {
        "format_version": PLAN_FORMAT_VERSION,
        "wanrec_version": options.wanrec_version,
        "project": options.project,
        "lineage": plan.lineage,
        "serial": plan.serial,
        "specs": dict(sorted(plan.specs.items())),
        "options": {
            **{name: getattr(options, name) for name in _FLAGS},
            "replace": sorted(options.replace),
            "ensure": sorted(options.ensure),
        },
        "selection": list(plan.selection),
        "partial": plan.partial,
        "actions": [action_to_dict(action) for action in plan.actions],
        "records": [_fields(change) for change in plan.records],
        "foreign": list(plan.foreign),
        "drift": [_drift(item) for item in plan.drift],
        "warnings": list(plan.warnings),
        "blocked": [_fields(block) for block in plan.blocked],
        "summary": _fields(plan.summary),
    }


def action_to_dict(action: Action) -> Document:
    """Return the JSON form of one action."""
    return {
        "address": action.address,
        "model": action.model,
        "variant": action.variant,
        "path": action.path,
        "action": action.action.value,
        "reason": action.reason.value,
        "size": action.size,
        "sha256": action.sha256,
        "before": _content(action.before),
        "after": _content(action.after),
        "sources": list(action.sources),
        "via": None if action.via is None else action.via.value,
        "bytes_to_fetch": action.bytes_to_fetch,
        "depends_on": list(action.depends_on),
        "donor": action.donor,
        "optional": action.optional,
    }


def _content(content: Content | None) -> Document | None:
    return None if content is None else {"size": content.size, "sha256": content.sha256}


def _drift(item: DriftItem) -> Document:
    return {
        "address": item.address,
        "model": item.model,
        "path": item.path,
        "kind": item.kind.value,
        "expected": _content(item.expected),
        "found": _content(item.found),
        "paths": list(item.paths),
    }


def _fields(value: Block | RecordChange | Summary) -> Document:
    return {
        field.name: getattr(value, field.name) for field in attrs.fields(type(value))
    }  # enums of str print as their words


def plan_digest(plan: Plan) -> str:
    """Return the id of a plan: what `encode` writes into its file as `digest`."""
    return _digest(plan_to_dict(plan))


def encode(plan: Plan) -> bytes:
    """Return the plan file: JSON, one line an action, ending with a newline."""
    document = plan_to_dict(plan)
    document["digest"] = _digest(document)
    return _written(document)


def _written(document: Document) -> bytes:
    lines = []
    for name, value in document.items():
        if isinstance(value, list) and value:
            rows = ",\n".join(f"    {_line(row)}" for row in value)
            lines.append(f"  {_line(name)}: [\n{rows}\n  ]")
        else:
            lines.append(f"  {_line(name)}: {_line(value)}")
    return ("{\n" + ",\n".join(lines) + "\n}\n").encode("ascii")


def _line(value: object) -> str:
    return json.dumps(value, ensure_ascii=True, separators=(", ", ": "), allow_nan=False)


def _digest(document: Document) -> str:
    content = {name: value for name, value in document.items() if name != "digest"}
    text = json.dumps(content, ensure_ascii=True, separators=(",", ":"), sort_keys=True)
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def looks_like_plan(head: bytes, name: str = "") -> bool:
    """Tell a plan file from a spec file by its first bytes, also an emptied or a torn one.

    A spec is TOML and never starts with a brace; what is not even called `.toml` and does not
    say its `schema_version` is no spec, so it was meant as a plan.
    """
    if head.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"{":
        return True
    return not (name.endswith(".toml") or _is_spec_line(head))


def decode(data: bytes, where: str) -> PlanFile:
    """Read a plan file.

    Args:
        data: its bytes.
        where: its path, for messages.

    Raises:
        WanrecError: PLAN_CORRUPT when it was altered, is torn or is no plan file; PLAN_NEWER when
            a newer wanrec wrote it.
    """
    if not data.strip():
        raise _corrupt(where, "it is empty")
    if len(data) > _MAX_PLAN_BYTES:
        raise _corrupt(where, "it is larger than any plan")
    try:
        document = json.loads(data, object_pairs_hook=_object, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise _corrupt(where, str(error)) from None
    version = document.get("format_version") if isinstance(document, dict) else None
    if type(version) is not int:
        raise _corrupt(where, "it has no format_version: it is no plan file")
    if version > PLAN_FORMAT_VERSION:
        raise WanrecError(
            ErrorCode.PLAN_NEWER,
            f"the plan file has format {version}; this wanrec reads {PLAN_FORMAT_VERSION}",
            where=where,
            hint="apply it with the wanrec that wrote it, or plan again",
        )
    digest = document.get("digest")
    if version != PLAN_FORMAT_VERSION or digest != _digest(document):
        raise _corrupt(where, "its content does not match its digest: it was altered")
    if data != _written(document):
        raise _corrupt(where, "it is not the bytes that were saved: it was altered")
    return PlanFile(plan=_plan(document, where), plan_id=digest)


def _object(pairs: list[tuple[str, object]]) -> Document:
    document = dict(pairs)
    if len(document) != len(pairs):
        raise ValueError("a key stands twice")
    return document


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is no value of a plan")


def _plan(document: Document, where: str) -> Plan:
    import msgspec  # only who applies a saved plan needs it

    from wanrec.reconcile.names import check_path

    body = {name: value for name, value in document.items() if name not in _ABOUT_FILE}
    try:
        about = {name: document[name] for name in ("project", "wanrec_version")}
        plan = msgspec.convert({**body, "options": {**body["options"], **about}}, Plan)
    except (msgspec.ValidationError, KeyError, TypeError) as error:
        raise _corrupt(where, f"{type(error).__name__}: {error}") from None
    for action in plan.actions:
        if check_path(action.path) is not None:
            raise _corrupt(where, f"{action.path!r} leaves the model directory")
        if action.address != f"{action.key}::{action.path}":
            raise _corrupt(where, f"{action.address!r} is not the address of its model and path")
    return plan


def _corrupt(where: str, why: str) -> WanrecError:
    return WanrecError(
        ErrorCode.PLAN_CORRUPT,
        "the plan file cannot be used",
        detail=why,
        where=where,
        hint="wanrec plan --out FILE",
    )


def check_resumable(plan_file: PlanFile, state: State | None) -> Resume:
    """Decide whether a saved plan may be applied to the state there is now.

    Args:
        plan_file: the saved plan.
        state: the state with all dead runs' journals folded in; None when there is none yet.
    """
    plan = plan_file.plan
    if state is None:
        return Resume.FRESH if plan.lineage is None else Resume.FOREIGN
    if plan.lineage is not None and state.lineage != plan.lineage:
        return Resume.FOREIGN
    done = state.last_plan
    if done is not None and (done.plan, done.serial) == (plan_file.plan_id, state.serial):
        return Resume.CONTINUES if done.base_serial == plan.serial else Resume.STALE
    if plan.lineage is None:
        untouched = state.serial == plan.serial and not state.models
        return Resume.FRESH if untouched else Resume.STALE
    return Resume.FRESH if state.serial == plan.serial else Resume.STALE
