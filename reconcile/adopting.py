"""`wanrec adopt`: files that lie somewhere already become models, and nothing is fetched.

Finds what the specs want by size and hash, stages it, and lets an ordinary apply put the whole
models in place: plan and apply stay the only writers of model directories. Models that are not
whole afterwards keep what was found in the stage; the next plan counts it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Container, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from wanrec.reconcile.adopting_scan import Candidate
from wanrec.reconcile.adopting_search import Search
from wanrec.reconcile.adopting_take import Link
from wanrec.reconcile.content import inspect_content
from wanrec.reconcile.desired import SelectArgs
from wanrec.reconcile.engine_apply import ApplySession
from wanrec.reconcile.engine_requests import ApplyRequest, PlanRequest
from wanrec.reconcile.errors import ErrorCode, WanrecError
from wanrec.reconcile.model import Presence, Via
from wanrec.reconcile.telemetry import EventSink, Silent

if TYPE_CHECKING:
    from wanrec.reconcile.actions import Action, ApplyResult, Plan
    from wanrec.reconcile.model import Desired, DesiredModel
    from wanrec.reconcile.workbench import Workbench

__all__ = ["AdoptRequest", "Adopted", "Match", "adopt"]


def _quiet(_: object) -> None:
    """Nobody listens."""


@attrs.frozen(kw_only=True)
class AdoptRequest:
    """What `wanrec adopt` is asked to do.

    Attributes:
        folder: where to look.
        select: which models.
        link: how files are brought in.
        dry_run: look only; with `plan_only`, the plan is made as if the files had come in.
        keep_going: pass over what cannot be looked at; else it is an error, and nothing is written.
        copies: see `find_content`; when given, content that is not needed is looked for, too.
        plan_only: bring files in and make the plan, but do not apply it.
        announce: told what was found, before anything is written.
        warn, progress, stop: as for `find_content`.
        sink: gets the events of the apply.
    """

    folder: Path
    select: SelectArgs
    link: Link = Link.COPY
    dry_run: bool = False
    keep_going: bool = False
    plan_only: bool = False
    copies: dict[str, list[str]] | None = None
    announce: Callable[[Adopted], None] = _quiet
    warn: Callable[[str], None] = _quiet
    progress: Callable[[int], None] = _quiet
    stop: threading.Event = attrs.field(factory=threading.Event)
    sink: EventSink = attrs.field(factory=Silent)


@attrs.frozen(kw_only=True)
class Match:
    """Content that was found: where, and the addresses that want it."""

    sha256: str
    size: int
    place: str
    addresses: tuple[str, ...]


@attrs.frozen(kw_only=True)
class Adopted:
    """What came of it.

    Attributes:
        matches: what was found, by first address.
        missing: address → size of what was found nowhere.
        models: keys that can be whole now.
        result: of the apply; None when there was none.
        plan: what was or would be applied.
    """

    matches: tuple[Match, ...] = ()
    missing: Mapping[str, int] = attrs.field(factory=dict)
    models: tuple[str, ...] = ()
    result: ApplyResult | None = None
    plan: Plan | None = None


def adopt(bench: Workbench, request: AdoptRequest) -> Adopted:
    """Find, bring in, apply.

    Raises:
        WanrecError: INVALID_CONFIG for a folder that is none, or that may not be moved from;
            UNSAFE_PATH, PERMISSION_DENIED, FILESYSTEM_ERROR or CONCURRENT_MODIFICATION for what
            lies in it and cannot be looked at; of specs, state, plan and disk; INTERRUPTED.
    """
    _check_folder(bench, request)
    desired = bench.collect(request.select)
    chosen = {m.key: m for m in desired.models if desired.selection.has_model(m.key)}
    plan = bench.plan(request.select, PlanRequest(ensure=frozenset(chosen)))
    search = Search(bench, request)
    fetches = [a for a in plan.actions if a.via is Via.FETCH and a.sha256 and a.size is not None]
    found = search.found(_wanted(fetches, None if request.copies is None else chosen.values()))
    whole = _whole(plan, chosen, desired, found)
    waiting = {a.key for a in fetches if a.size and not a.bytes_to_fetch}  # an earlier run's
    partly = request.link is not Link.MOVE  # a part of a model is never taken from elsewhere
    useful = {
        a.sha256 for a in fetches if a.key in whole or (partly and _is_required(chosen.get(a.key)))
    }
    outcome = Adopted(
        matches=_matches(fetches, {s: c for s, c in found.items() if s in useful}),
        missing=_missing(fetches, found, chosen),
        models=tuple(sorted(whole)),
    )
    request.announce(outcome)
    if not (outcome.matches or waiting & whole) or (request.dry_run and not request.plan_only):
        return outcome
    if request.dry_run:
        made = _plan(bench, [chosen[key] for key in sorted(whole)]) if whole else None
        return attrs.evolve(outcome, plan=made and _foreseen(made, found))
    if request.link is Link.MOVE:
        _inspect(outcome.matches, chosen)
    left = search.stage({match.sha256: found[match.sha256] for match in outcome.matches})
    if not whole:
        return outcome
    ordinary = _plan(bench, [chosen[key] for key in sorted(whole)])
    if request.plan_only:
        return attrs.evolve(outcome, plan=ordinary)
    apply = ApplyRequest(sink=request.sink, stop=request.stop, offline=True)
    result = ApplySession(bench, apply, "adopt").apply(ordinary)
    if not result.failures:
        _remove(left, request.warn)
    return attrs.evolve(outcome, result=result, plan=ordinary)


def _check_folder(bench: Workbench, request: AdoptRequest) -> None:
    folder = request.folder
    if not folder.is_dir():
        what = "not a folder" if folder.exists() else "no such folder"
        raise WanrecError(ErrorCode.INVALID_CONFIG, f"{folder}: {what}", where=str(folder))
    if request.link is Link.MOVE and folder.resolve().is_relative_to(bench.root.resolve()):
        raise WanrecError(
            ErrorCode.INVALID_CONFIG,
            "files under the root are not moved: other models may own them",
            where=str(folder),
            hint="leave --link out",
        )


def _wanted(fetches: Iterable[Action], also: Iterable[DesiredModel] | None) -> dict[str, int]:
    """sha256 → size of what has to come from somewhere, and of all files of some models."""
    wanted = {
        a.sha256: a.size for a in fetches if a.bytes_to_fetch and a.sha256 and a.size is not None
    }
    for model in also or ():
        wanted |= {f.sha256: f.size for f in model.files if f.sha256 and f.size is not None}
    return wanted


def _foreseen(plan: Plan, found: Container[str]) -> Plan:
    """The plan of the moment when what was found has been brought in."""
    actions = tuple(
        attrs.evolve(action, bytes_to_fetch=0)
        if action.via is Via.FETCH and action.sha256 in found
        else action
        for action in plan.actions
    )
    left = sum(action.bytes_to_fetch for action in actions)
    return attrs.evolve(
        plan, actions=actions, summary=attrs.evolve(plan.summary, bytes_to_fetch=left)
    )


def _whole(
    plan: Plan, chosen: Mapping[str, DesiredModel], desired: Desired, found: Mapping[str, object]
) -> set[str]:
    """Keys of models that need nothing but what was found, and whose requirements do not either."""
    lacking = {
        action.key
        for action in plan.actions
        if action.via is Via.FETCH and action.bytes_to_fetch and action.sha256 not in found
    }
    requires = {model.key: model.requires for model in desired.models}
    while more := {
        key for key in chosen if key not in lacking and lacking.intersection(requires[key])
    }:
        lacking |= more
    gains = {action.key for action in plan.actions}
    return {key for key in chosen if key in gains and key not in lacking}


def _inspect(matches: tuple[Match, ...], chosen: Mapping[str, DesiredModel]) -> None:
    """Apply removes staged bytes that may not land; of a moved file they would be the only ones.

    Raises:
        WanrecError: POLICY_DENIED, INCOMPLETE_MODEL; nothing was moved yet.
    """
    for match in matches:
        for address in match.addresses:
            key, _, path = address.partition("::")
            spec = next(file for file in chosen[key].files if file.path == path)
            allowed = chosen[key].policy.allow_pickle or spec.allow_pickle is not None
            with open(match.place, "rb") as file:
                fault = inspect_content(file.fileno(), match.size, path, allow_pickle=allowed)
            if fault is not None:
                raise WanrecError(fault.code, fault.message, address=address, where=match.place)


def _is_required(model: DesiredModel | None) -> bool:
    return model is not None and model.installed and model.presence is Presence.REQUIRED


def _matches(fetches: list[Action], found: Mapping[str, Candidate]) -> tuple[Match, ...]:
    addresses: dict[str, list[str]] = {}
    for action in fetches:
        if action.sha256 is not None and action.sha256 in found:
            addresses.setdefault(action.sha256, []).append(action.address)
    return tuple(
        Match(
            sha256=sha256,
            size=found[sha256].size,
            place=found[sha256].place,
            addresses=tuple(names),
        )
        for sha256, names in sorted(addresses.items(), key=lambda item: item[1])
    )


def _missing(
    fetches: list[Action], found: Mapping[str, object], chosen: Mapping[str, DesiredModel]
) -> dict[str, int]:
    """What stays missing; of on-demand models only where a part was found."""
    begun = {action.key for action in fetches if action.sha256 in found}
    return {
        action.address: action.size or 0
        for action in fetches
        if action.bytes_to_fetch
        and action.sha256 not in found
        and (action.key in begun or _is_required(chosen.get(action.key)))
    }


def _plan(bench: Workbench, models: list[DesiredModel]) -> Plan:
    words = tuple(f"{model.spec}::{model.key}" for model in models)
    ensure = frozenset(model.key for model in models)
    return bench.plan(SelectArgs(words=words), PlanRequest(ensure=ensure))


def _remove(places: list[str], warn: Callable[[str], None]) -> None:
    """The end of a move across file systems."""
    for place in places:
        try:
            os.unlink(place)
        except OSError as error:
            warn(f"{place}: was copied, but cannot be removed: {error.strerror}")
