"""The vocabulary every stage speaks: addresses, files, models, what is wanted, what is there.

Frozen values only; nothing here reads a disk, a network, a clock or the environment, and nothing
here imports another room. A *model key* is the string ``ID`` or ``ID[VARIANT]``; an *address* is
``KEY::PATH``. Both stay plain strings inside the big tables, because a plan of 100,000 files
compares them 100,000 times; `Address` is the parsed form. What a drift check needs of this
vocabulary stands in `facts`, and is found here too.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Mapping

import attrs

from wanrec.reconcile.facts import Assurance, EntryKind, FileFact, Presence, Via

__all__ = [
    "ActionKind",
    "Address",
    "Assurance",
    "Desired",
    "DesiredModel",
    "EntryKind",
    "FileFact",
    "FileSpec",
    "ModelFacts",
    "MoveRule",
    "Observed",
    "Policy",
    "Presence",
    "Reason",
    "RemovedRule",
    "Selection",
    "SpecSource",
    "Via",
    "model_key",
    "split_key",
]


class ActionKind(enum.StrEnum):
    """What a plan does to one file. Values are the JSON words."""

    CREATE = "create"
    VERIFY = "verify"
    REPLACE = "replace"
    DELETE = "delete"
    ADOPT = "adopt"
    MOVE = "move"
    FORGET = "forget"

    @property
    def glyph(self) -> str:
        """The symbol of the human form, up to three columns."""
        return _GLYPHS[self]

    @property
    def brings_bytes(self) -> bool:
        """True when, after the action, verified bytes lie at the path that may be new there."""
        return self in (ActionKind.CREATE, ActionKind.REPLACE, ActionKind.ADOPT, ActionKind.MOVE)


_GLYPHS = {
    ActionKind.CREATE: "+",
    ActionKind.VERIFY: "?",
    ActionKind.REPLACE: "-/+",
    ActionKind.DELETE: "-",
    ActionKind.ADOPT: "@",
    ActionKind.MOVE: ">",
    ActionKind.FORGET: ".",
}


class Reason(enum.StrEnum):
    """Why an action is in the plan; people read it, the engine never branches on it."""

    MISSING = "missing"
    SIZE_DIFFERS = "size_differs"
    HASH_DIFFERS = "hash_differs"
    STAT_CHANGED = "stat_changed"
    NEVER_VERIFIED = "never_verified"
    VERIFY_EXPIRED = "verify_expired"
    REQUESTED = "requested"
    SPEC_CHANGED = "spec_changed"
    CORRUPT = "corrupt"
    NOT_IN_SPEC = "not_in_spec"
    FOUND_BY_HASH = "found_by_hash"
    MOVED = "moved"
    REMOVED_BLOCK = "removed_block"


def model_key(model_id: str, variant: str | None) -> str:
    """Return ``ID`` or ``ID[VARIANT]``, the key of a model in plans and state."""
    return model_id if variant is None else f"{model_id}[{variant}]"


def split_key(key: str) -> tuple[str, str | None]:
    """Return ``(ID, VARIANT or None)`` of a model key."""
    if key.endswith("]"):
        model_id, _, variant = key[:-1].rpartition("[")
        return model_id, variant
    return key, None


@attrs.frozen(order=True)
class Address:
    """One file of one model: ``MODEL::PATH`` or ``MODEL[VARIANT]::PATH``."""

    key: str
    path: str

    def __str__(self) -> str:
        return f"{self.key}::{self.path}"

    @classmethod
    def parse(cls, text: str) -> Address:
        """Split an address at its first ``::``; raises ValueError when there is none."""
        key, sep, path = text.partition("::")
        if not sep or not key or not path:
            raise ValueError(f"not an address: {text!r}")
        return cls(key, path)


@attrs.frozen(kw_only=True)
class FileSpec:
    """One wanted file, as declared or as pinned by the lock file.

    Attributes:
        path: POSIX path relative to the model directory.
        size: bytes, or None when neither spec nor lock says.
        sha256: 64 lower-case hex digits, or None.
        component: part of a pipeline the file belongs to (first folder by default), or None.
        variant: only in this variant, or None for every one.
        optional: installed, but its failure only warns.
        allow_pickle: the reason that lifts the pickle policy for this file, or None.
        source_path: its name at the source when that differs, or None.
    """

    path: str
    size: int | None = None
    sha256: str | None = None
    component: str | None = None
    variant: str | None = None
    optional: bool = False
    allow_pickle: str | None = None
    source_path: str | None = None


@attrs.frozen(kw_only=True)
class Policy:
    """What a project allows. `max_delete`: a float is a share, an int a count of models."""

    allow_pickle: bool = False
    require_sha256: bool = True
    max_delete: float | int = 0.5


@attrs.frozen(kw_only=True)
class MoveRule:
    """A rename inside a model that needs no download."""

    from_path: str
    to_path: str


@attrs.frozen(kw_only=True)
class RemovedRule:
    """A `[[removed]]` block: let go of a model, with or without deleting its files."""

    model: str
    delete: bool
    spec: str


@attrs.frozen(kw_only=True)
class ModelFacts:
    """Facts that no plan depends on: for people and for the pipeline loader."""

    description: str = ""
    marks: tuple[str, ...] = ()
    values: Mapping[str, object] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class DesiredModel:
    """One model in one variant, resolved: what must lie in its directory.

    Attributes:
        key: ``ID`` or ``ID[VARIANT]``.
        id: ``NAME@VERSION``.
        directory: POSIX path of the model directory relative to the root.
        files: the wanted files, sorted by path; variant, components and patterns already applied.
        sources: source URLs in the order they are tried, templates expanded.
        presence: after `requires` of required models has been taken into account.
        installed: False for a variant outside `install`; kept only when it was ensured on demand.
        requires: keys of the models that must be there first.
        default_variant: the variant that its id alone means, None without variants.
        spec: spec file, POSIX path relative to the project directory.
        spec_sha256: digest over the parts of this model that decide its bytes.
        moved: renames on disk.
        policy: of the spec file it stands in.
    """

    key: str
    id: str
    name: str
    version: str
    variant: str | None
    family: str
    directory: str
    files: tuple[FileSpec, ...]
    sources: tuple[str, ...]
    presence: Presence
    installed: bool = True
    protect: bool = False
    requires: tuple[str, ...] = ()
    default_variant: str | None = None
    spec: str = ""
    spec_sha256: str = ""
    moved: tuple[MoveRule, ...] = ()
    policy: Policy = attrs.field(factory=Policy)
    facts: ModelFacts = attrs.field(factory=ModelFacts)


@attrs.frozen(kw_only=True)
class Selection:
    """Which part of the desired set a run is about.

    Attributes:
        keys: selected model keys, None for all of them.
        addresses: selected addresses inside those models, None for all files.
        specs: spec files named on the command line, None when none was: deletes of dropped
            blocks are allowed for the models that came from them.
        partial: True when -k, -m, --exclude, node ids, models or addresses narrowed the run;
            such a run never deletes or forgets.
        pulled_in: keys that came along only because a selected model requires them.
        named: keys of the whole models that MODEL words name and no expression narrows: what a
            partial run with --destroy deletes.
    """

    keys: frozenset[str] | None = None
    addresses: frozenset[str] | None = None
    specs: frozenset[str] | None = None
    partial: bool = False
    pulled_in: frozenset[str] = frozenset()
    named: frozenset[str] = frozenset()

    def has_model(self, key: str) -> bool:
        """True when the model takes part in this run."""
        return self.keys is None or key in self.keys

    def has_address(self, address: str, key: str) -> bool:
        """True when the file takes part in this run."""
        return self.has_model(key) and (self.addresses is None or address in self.addresses)


@attrs.frozen
class SpecSource:
    """One spec or lock file that was read: its digest, and nothing of its content."""

    path: str
    sha256: str


@attrs.frozen(kw_only=True)
class Desired:
    """Everything the project's specs want, before the disk has been looked at.

    Attributes:
        models: every model and variant of every loaded spec, sorted by key.
        removed: `[[removed]]` blocks.
        policy: the strictest policy of the loaded specs (decides `max_delete`).
        sources: spec and lock files, sorted by path.
        selection: what this run is about.
        warnings: faults of specs that were read for look-ups only, and incomplete models.
    """

    models: tuple[DesiredModel, ...] = ()
    removed: tuple[RemovedRule, ...] = ()
    policy: Policy = attrs.field(factory=Policy)
    sources: tuple[SpecSource, ...] = ()
    selection: Selection = attrs.field(factory=Selection)
    warnings: tuple[str, ...] = ()


@attrs.frozen(kw_only=True)
class Observed:
    """The disk as one run saw it.

    Attributes:
        facts: address → what lies there; an absent key means nothing lies there.
        foreign: root-relative paths inside model directories that neither state nor spec names.
        staged: sha256 → size of verified bytes of an earlier run that wait in the stage.
        partial: sha256 → bytes already fetched and journaled by an earlier run.
        busy: keys of models a live run is working on.
        trusted: addresses whose record may be believed without reading the file (the trust rule);
            their facts are there too, and cost a look-up that a planner in a hurry can spare.
    """

    facts: Mapping[str, FileFact] = attrs.field(factory=dict)
    foreign: tuple[str, ...] = ()
    staged: Mapping[str, int] = attrs.field(factory=dict)
    partial: Mapping[str, int] = attrs.field(factory=dict)
    busy: frozenset[str] = frozenset()
    trusted: Collection[str] = frozenset()
