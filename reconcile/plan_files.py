"""The table of the planner: one file's spec, record and fact in, at most one action or block out.

Goes in: models from `plan_scope`, records and facts. Comes out: actions without an order and
without donors of other models (`plan_share` and `graph` add those), blocks, and drift. A file that
needs nothing costs a few comparisons; nothing is allocated for it.
"""

from __future__ import annotations

from typing import NamedTuple

from wanrec.reconcile.actions import Action, Block, Content
from wanrec.reconcile.model import (
    ActionKind,
    Assurance,
    DesiredModel,
    EntryKind,
    FileFact,
    FileSpec,
    Reason,
    Via,
)
from wanrec.reconcile.plan_context import NOT_FILES, Context, Findings, Records, note_drift
from wanrec.reconcile.plan_drops import let_go
from wanrec.reconcile.plan_refusals import clash, fits, foreign, matches, unsafe
from wanrec.reconcile.plan_scope import has_other_owner
from wanrec.reconcile.trust import Trust, is_trusted, judge, verified_ns
from wanrec.state.model import FileRecord, ModelRecord

__all__ = ["plan_model", "public_source"]

_NO_RECORDS: Records = {}


class _Case(NamedTuple):
    """One wanted file that is not plainly fine."""

    ctx: Context
    spec: FileSpec
    address: str
    place: str
    record: FileRecord | None
    fact: FileFact | None
    moved_from: str | None


class _Step(NamedTuple):
    kind: ActionKind
    reason: Reason
    before: Content | None = None
    donor: str | None = None


def public_source(url: str) -> str:
    """Return a source URL without user info, query and fragment."""
    bare = url.partition("?")[0].partition("#")[0]
    scheme, sep, rest = bare.partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}{sep}{host.rpartition('@')[2]}{slash}{path}" if sep else bare


def plan_model(
    ctx: Context,
    model: DesiredModel,
    record: ModelRecord | None,
    records: Records | None,
    found: Findings,
) -> None:
    """Add what one wanted model needs to `found`."""
    records = records if records is not None else _NO_RECORDS
    shared = record is not None and has_other_owner(record, ctx.options.project)
    if shared and (refusal := clash(model, records)):
        found.blocks.append(refusal)
        return
    addresses = None if model.key in ctx.selection.pulled_in else ctx.selection.addresses
    cases = _cases(ctx, model, records, addresses)
    sources = tuple(public_source(url) for url in model.sources) if cases else ()
    renamed: set[str | None] = set()
    for case in cases:
        note_drift(ctx, model.key, case.record, case.fact, case.address, found)
        step = _judge_case(case)
        if isinstance(step, Block):
            found.blocks.append(step)
        elif step is not None:
            found.actions.append(_action(case, step, model, sources))
            if step.kind is ActionKind.MOVE:
                renamed.add(step.donor)
    if not shared and ctx.may_delete and addresses is None:
        _unwanted_files(ctx, model, records, renamed, found)


def _cases(
    ctx: Context, model: DesiredModel, records: Records, addresses: frozenset[str] | None
) -> list[_Case]:
    """The hot loop: every file of every wanted model passes here, the fine ones go no further."""
    prefix, folder = model.key + "::", model.directory + "/"
    facts, trusted, expired_before = ctx.facts, ctx.trusted, ctx.expired_before
    moves = _moves(ctx, model, records) if model.moved and addresses is None else {}
    requested = ctx.options.replace
    cases = []
    for spec in model.files:
        path = spec.path
        address = prefix + path
        if addresses is not None and address not in addresses:
            continue
        record, place = records.get(path), folder + path
        if (
            record is not None
            and (address in trusted or _seen_fine(record, facts.get(address)))
            and record.sha256 == spec.sha256
            and record.size == spec.size
            and record.assurance is not Assurance.ASSUMED
            and record.path == place
            and not (expired_before and verified_ns(record.verified_at) < expired_before)
            and not (requested and address in requested)
        ):
            continue
        fact = facts.get(address)
        cases.append(_Case(ctx, spec, address, place, record, fact, moves.get(path)))
    return cases


def _seen_fine(record: FileRecord, fact: FileFact | None) -> bool:
    return (
        fact is not None
        and fact.kind is EntryKind.FILE
        and is_trusted(record, fact.size, fact.mtime_ns, fact.ctime_ns, fact.ino)
        and (fact.sha256 is None or fact.sha256 == record.sha256)
    )


def _moves(ctx: Context, model: DesiredModel, records: Records) -> dict[str, str]:
    """Return wanted path → address whose file is renamed to it."""
    wanted = {spec.path: spec for spec in model.files}
    moves: dict[str, str] = {}
    for rule in model.moved:
        spec, record = wanted.get(rule.to_path), records.get(rule.from_path)
        if spec is None or record is None or rule.from_path in wanted or rule.to_path in records:
            continue
        address = f"{model.key}::{rule.from_path}"
        if matches(spec, record) and (
            ctx.options.state_only
            or judge(record, ctx.facts.get(address)) in (Trust.TRUSTED, Trust.DOUBTFUL)
        ):
            moves.setdefault(rule.to_path, address)
    return moves


def _judge_case(case: _Case) -> _Step | Block | None:
    if case.record is None:
        return _unrecorded(case)
    if case.record.path != case.place:
        return _relocated(case, case.record, judge(case.record, case.fact))
    if case.ctx.options.state_only:
        return _by_record(case, case.record)
    return _recorded(case, case.record)


def _unrecorded(case: _Case) -> _Step | Block:
    fact, spec = case.fact, case.spec
    if case.ctx.options.state_only or fact is None or fact.kind is EntryKind.MISSING:
        if case.moved_from is not None:
            return _Step(ActionKind.MOVE, Reason.MOVED, donor=case.moved_from)
        return _Step(ActionKind.CREATE, Reason.MISSING)
    if fact.kind in NOT_FILES:
        return unsafe(case.address, fact)
    if fact.sha256 is not None and fits(spec, fact.size, fact.sha256):
        return _Step(ActionKind.ADOPT, Reason.FOUND_BY_HASH, _found(case))
    if not case.ctx.options.allow_foreign:
        return foreign(case.address, fact, spec)
    other_size = spec.size is not None and fact.size != spec.size
    return _replace(case, Reason.SIZE_DIFFERS if other_size else Reason.HASH_DIFFERS)


def _relocated(case: _Case, record: FileRecord, trust: Trust) -> _Step:
    """The model directory has another name now; the fact is of the recorded file's old place."""
    there = case.ctx.options.state_only or trust in (Trust.TRUSTED, Trust.DOUBTFUL)
    known_bad = case.fact is not None and case.fact.sha256 not in (None, record.sha256)
    if there and not known_bad and matches(case.spec, record):
        return _Step(ActionKind.MOVE, Reason.MOVED, donor=case.address)
    return _Step(ActionKind.CREATE, Reason.MISSING)


def _by_record(case: _Case, record: FileRecord) -> _Step | None:
    """Spec against state, the disk not looked at."""
    if not matches(case.spec, record):
        return _replace(case, Reason.SPEC_CHANGED)
    if case.address in case.ctx.options.replace:
        return _replace(case, Reason.REQUESTED)
    return None


def _recorded(case: _Case, record: FileRecord) -> _Step | Block | None:
    fact, trust = case.fact, judge(record, case.fact)
    if fact is None or trust is Trust.MISSING:
        return _Step(ActionKind.CREATE, Reason.MISSING)
    if trust is Trust.TYPE_CHANGED:
        return unsafe(case.address, fact)
    if not matches(case.spec, record):
        if fact.sha256 is not None and fits(case.spec, fact.size, fact.sha256):
            return _Step(ActionKind.ADOPT, Reason.FOUND_BY_HASH, _found(case))
        return _replace(case, Reason.SPEC_CHANGED)
    if trust is Trust.SIZE_CHANGED:
        return _replace(case, Reason.SIZE_DIFFERS)
    if fact.sha256 is not None and fact.sha256 != record.sha256:
        known_good = record.assurance is Assurance.VERIFIED
        return _replace(case, Reason.CORRUPT if known_good else Reason.HASH_DIFFERS)
    if case.address in case.ctx.options.replace:
        return _replace(case, Reason.REQUESTED)
    reason = _doubt(case.ctx, record, trust)
    return None if reason is None else _Step(ActionKind.VERIFY, reason, _recorded_content(record))


def _doubt(ctx: Context, record: FileRecord, trust: Trust) -> Reason | None:
    """Why a file of the right size has to be hashed, None when it has not."""
    if trust is not Trust.TRUSTED:
        return Reason.STAT_CHANGED
    if record.assurance is Assurance.ASSUMED:
        return Reason.NEVER_VERIFIED
    if ctx.expired_before and verified_ns(record.verified_at) < ctx.expired_before:
        return Reason.VERIFY_EXPIRED
    return None


def _replace(case: _Case, reason: Reason) -> _Step:
    return _Step(ActionKind.REPLACE, reason, _found(case))


def _recorded_content(record: FileRecord) -> Content:
    return Content(size=record.size, sha256=record.sha256)


def _found(case: _Case) -> Content | None:
    """What lies at the path now; the hash only where it is known."""
    record, fact = case.record, case.fact
    if fact is None:
        return None if record is None else _recorded_content(record)
    if fact.kind is EntryKind.UNREADABLE:
        return Content()
    known = fact.sha256
    if known is None and record is not None and judge(record, fact) is Trust.TRUSTED:
        known = record.sha256
    return Content(size=fact.size, sha256=known)


def _action(case: _Case, step: _Step, model: DesiredModel, sources: tuple[str, ...]) -> Action:
    spec, record = case.spec, case.record
    size, sha256 = spec.size, spec.sha256
    if step.kind is ActionKind.VERIFY and record is not None:
        size, sha256 = record.size, record.sha256
    elif step.kind is ActionKind.ADOPT and step.before is not None:
        size, sha256 = step.before.size, step.before.sha256
    fetched = step.kind in (ActionKind.CREATE, ActionKind.REPLACE)
    return Action(
        address=case.address,
        model=model.id,
        variant=model.variant,
        path=spec.path,
        action=step.kind,
        reason=step.reason,
        size=size,
        sha256=sha256,
        before=step.before,
        after=Content(size=size, sha256=sha256),
        sources=sources,
        via=Via.FETCH if fetched else None,
        bytes_to_fetch=(size or 0) if fetched else 0,
        donor=step.donor,
        optional=spec.optional,
    )


def _unwanted_files(
    ctx: Context, model: DesiredModel, records: Records, renamed: set[str | None], found: Findings
) -> None:
    """Recorded files of a wanted model that its spec has dropped; renamed ones are not dropped."""
    if len(records) == len(model.files) and all(spec.path in records for spec in model.files):
        return
    wanted = {spec.path for spec in model.files}
    for path, record in records.items():
        if path not in wanted and f"{model.key}::{path}" not in renamed:
            let_go(ctx, model.key, path, record, Reason.NOT_IN_SPEC, True, found)
