"""What a run decides and what came of it: actions, plans, drift reports, apply results.

Frozen values between the pure planner, the renderers, the plan file and the executor. No rule is
decided here and nothing is printed here.
"""

from __future__ import annotations

import enum
import functools
from collections.abc import Mapping

import attrs

from wanrec.reconcile.errors import ErrorCode, WanrecError
from wanrec.reconcile.findings import Content, DriftItem, DriftKind, DriftReport
from wanrec.reconcile.model import ActionKind, Assurance, Reason, Via, model_key

__all__ = [
    "Action",
    "ApplyResult",
    "Block",
    "Content",
    "DriftItem",
    "DriftKind",
    "DriftReport",
    "Failure",
    "ModelStatus",
    "Outcome",
    "Plan",
    "PlanOptions",
    "RecordChange",
    "Status",
    "Summary",
]

PLAN_FORMAT_VERSION = 1

PARTIAL_WARNING = "This run is partial: what it did not select is neither deleted nor forgotten."
"""First of the warnings of a plan that was narrowed; text forms say it in a place of its own."""


@attrs.frozen(kw_only=True)
class Action:
    """One step of a plan, about one file.

    Attributes:
        model: model id ``NAME@VERSION`` (not the key; `variant` stands beside it).
        before: content the record or the disk has now, None when there is none.
        after: content when done, None when nothing stays.
        sources: candidate URLs in order, free of user info and query.
        via: how the bytes come (FETCH, LINK, REFLINK, COPY); None when none move.
        bytes_to_fetch: bytes that come from a source, after stage and partials are counted.
        depends_on: addresses whose actions come first.
        donor: address under this root whose bytes are reused (adopt by hash, move), or None.
        optional: its failure only warns.
    """

    address: str
    model: str
    variant: str | None
    path: str
    action: ActionKind
    reason: Reason
    size: int | None = None
    sha256: str | None = None
    before: Content | None = None
    after: Content | None = None
    sources: tuple[str, ...] = ()
    via: Via | None = None
    bytes_to_fetch: int = 0
    depends_on: tuple[str, ...] = ()
    donor: str | None = None
    optional: bool = False

    @functools.cached_property
    def key(self) -> str:
        """The model key ``ID`` or ``ID[VARIANT]``."""
        return model_key(self.model, self.variant)


@attrs.frozen(kw_only=True)
class Summary:
    """Counts per kind; bytes. `bytes_saved` are bytes shared instead of fetched."""

    create: int = 0
    verify: int = 0
    replace: int = 0
    delete: int = 0
    adopt: int = 0
    move: int = 0
    forget: int = 0
    bytes_to_fetch: int = 0
    bytes_to_free: int = 0
    bytes_saved: int = 0


@attrs.frozen(kw_only=True)
class Block:
    """Why a plan may not be applied; printed with the plan, never hidden."""

    code: ErrorCode
    message: str
    address: str | None = None
    hint: str = ""


@attrs.frozen(kw_only=True)
class RecordChange:
    """An edit that changes only what the state remembers: protect, presence, owners."""

    model: str
    field: str
    before: str | None
    after: str | None


@attrs.frozen(kw_only=True)
class PlanOptions:
    """Everything besides desired, state and disk that a plan depends on."""

    project: str = "default"
    project_directory: str = ""
    wanrec_version: str = ""
    deep: bool = False
    refresh_only: bool = False
    state_only: bool = False
    replace: frozenset[str] = frozenset()
    destroy: bool = False
    allow_delete: bool = False
    allow_foreign: bool = False
    delete_first: bool = False
    ensure: frozenset[str] = frozenset()
    share_via: Via = Via.LINK
    """How equal bytes of several models are to be shared; says what a plan shows, not more."""
    verified_before: str | None = None
    """RFC 3339; records verified earlier are verified again (reason verify_expired)."""


@attrs.frozen(kw_only=True)
class Plan:
    """What an apply would do, in execution order. Falsy when it would do nothing.

    Attributes:
        lineage: of the state it was made from; None when there was none yet.
        specs: spec and lock file path → sha256.
        options: kept in the plan file; an apply of the file plans with the same ones.
    """

    lineage: str | None
    serial: int
    specs: Mapping[str, str]
    actions: tuple[Action, ...] = ()
    records: tuple[RecordChange, ...] = ()
    foreign: tuple[str, ...] = ()
    drift: tuple[DriftItem, ...] = ()
    warnings: tuple[str, ...] = ()
    blocked: tuple[Block, ...] = ()
    summary: Summary = attrs.field(factory=Summary)
    partial: bool = False
    selection: tuple[str, ...] = ()
    """The command-line words that narrowed the run, for the plan file."""
    options: PlanOptions = attrs.field(factory=PlanOptions)

    def __bool__(self) -> bool:
        return bool(self.actions)


class Outcome(enum.StrEnum):
    """What became of one action."""

    DONE = "done"
    SKIPPED = "skipped"
    FAILED = "failed"


@attrs.frozen(kw_only=True)
class Failure:
    """One action (or model, when `address` is a key) that failed."""

    address: str
    error: WanrecError
    optional: bool = False


@attrs.frozen(kw_only=True)
class ApplyResult:
    """What an apply did. Counts are of committed actions only.

    `delivered`: address → (source URL or "link"/"adopt", bytes fetched, assurance).
    """

    created: int = 0
    verified: int = 0
    replaced: int = 0
    deleted: int = 0
    adopted: int = 0
    moved: int = 0
    forgotten: int = 0
    bytes_fetched: int = 0
    failures: tuple[Failure, ...] = ()
    warnings: tuple[str, ...] = ()
    delivered: Mapping[str, tuple[str, int, Assurance]] = attrs.field(factory=dict)
    already_applied: bool = False
    records_changed: int = 0

    @property
    def done(self) -> int:
        """Committed actions of every kind."""
        return (
            self.created
            + self.verified
            + self.replaced
            + self.deleted
            + self.adopted
            + self.moved
            + self.forgotten
        )


class Status(enum.StrEnum):
    """The five states of a model, by the earlier orchestrator's names."""

    NOT_PRESENT = "NOT_PRESENT"
    PARTIAL = "PARTIAL"
    VERIFYING = "VERIFYING"
    COMPLETE = "COMPLETE"
    CORRUPT = "CORRUPT"


@attrs.frozen(kw_only=True)
class ModelStatus:
    """One row of `status`. `last_verified` is RFC 3339, the oldest of its files."""

    model: str
    state: Status
    path: str
    bytes_needed: int
    bytes_present: int
    missing_files: tuple[str, ...] = ()
    last_verified: str | None = None
    presence: str = "required"
    pinned: bool = False
    protect: bool = False
