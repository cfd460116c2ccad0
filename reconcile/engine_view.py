"""How the engine sees a root: the state with its journals, and the disk behind the models.

Read-only. `view_of` is what every command starts from; `observe_models` looks at just the
directories a plan is about, and at the recorded files whose bytes it could reuse.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Container
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from wanrec.reconcile.disk import Root
from wanrec.reconcile.errors import ErrorCode, WanrecError
from wanrec.reconcile.settings import Settings
from wanrec.reconcile.version import __version__
from wanrec.state.file import FileStore
from wanrec.state.store import StateStore

if TYPE_CHECKING:
    from wanrec.reconcile.actions import PlanOptions
    from wanrec.reconcile.desired import SelectArgs
    from wanrec.reconcile.model import Desired, DesiredModel, FileSpec, Observed
    from wanrec.state.model import FileRecord, State

__all__ = ["View", "drift_scope", "observe_models", "open_store", "state_place", "view_of"]


@attrs.frozen(kw_only=True)
class View:
    """The state as of now.

    `fresh`: nothing was ever recorded here. `pending`: a swap is announced and not recorded, so
    the disk has a say in what the state is.
    """

    state: State
    busy: frozenset[str]
    fresh: bool
    pending: bool = False


def state_place(settings: Settings) -> str | None:
    """Where ``--state`` keeps the state, on this host; None for the file below the root."""
    place = settings.state
    if place is None or "{host}" not in place:
        return place
    from wanrec.state.lock_info import host_name

    return place.replace("{host}", host_name())


def open_store(settings: Settings, now: Callable[[], int]) -> StateStore:
    """The store that `--state` names, or the file below the root.

    Raises:
        WanrecError: INVALID_CONFIG for a place no store knows.
    """
    place = state_place(settings)
    if place is not None and "://" in place:
        raise WanrecError(
            ErrorCode.INVALID_CONFIG,
            f"no state store for {place.partition('://')[0]}://",
            hint="give a path, or leave --state out to keep the state under the root",
        )
    if place is not None and not Path(place).parent.is_dir():
        raise WanrecError(
            ErrorCode.INVALID_CONFIG,
            "the folder of the state file does not exist",
            where=place,
            hint=f"mkdir -p {Path(place).parent}",
        )
    return FileStore(
        settings.require_root(),
        Path(place) if place is not None else None,
        version=__version__,
        now=now,
        lock_timeout_s=settings.lock_timeout,
    )


def view_of(root: Root, store: StateStore) -> View:
    """Read the state; swaps that a dead run finished but could not record count as done.

    Raises:
        WanrecError: STATE_MISSING, STATE_CORRUPT, STATE_NEWER, STATE_FOREIGN.
    """
    seen = store.read_overlay()
    state = seen.state
    if seen.pending:
        from wanrec.reconcile.recover import swap_happened
        from wanrec.state.model import apply_commits

        done = [intent.commit for intent in seen.pending if swap_happened(root, intent)]
        state = apply_commits(state, done)
    return View(state=state, busy=seen.busy, fresh=seen.fresh, pending=bool(seen.pending))


def observe_models(
    root: Root, view: View, desired: Desired, options: PlanOptions, *, rehash_budget: int = 0
) -> Observed:
    """Look at the disk behind the selected models and the project's own recorded ones.

    `rehash_budget`: bytes that may be read to settle doubts, which a plan leaves to its apply.
    """
    from wanrec.reconcile.observe import observe
    from wanrec.state.model import files_by_model

    selection = desired.selection
    recorded = files_by_model(view.state.files)
    directories: dict[str, str] = {}
    wanted: dict[str, dict[str, FileSpec]] = {}
    for model in desired.models:
        if selection.has_model(model.key) and _looked_at(model, view.state, options):
            directories[model.key] = model.directory
            wanted[model.key] = {file.path: file for file in model.files}
    for key, record in view.state.models.items():
        mine = any(owner.project == options.project for owner in record.owners)
        if key not in directories and mine and not selection.partial:
            directories[key] = record.directory
    missing = _missing_content(desired, wanted, recorded)
    known = {key: recorded.get(key, {}) for key in directories}
    for key, donors in _donors(missing, recorded, directories.keys()).items():
        known[key] = donors
    seen = observe(
        root,
        directories,
        wanted,
        known,
        deep=options.deep,
        rehash_budget=rehash_budget,
        busy=view.busy,
    )
    if root.walk(".wanrec/partial"):
        from wanrec.providers.resume import resumable_bytes

        seen = attrs.evolve(seen, partial=resumable_bytes(root))
    return seen


def _looked_at(model: DesiredModel, state: State, options: PlanOptions) -> bool:
    from wanrec.reconcile.model import Presence

    required = model.installed and model.presence is Presence.REQUIRED
    return required or model.key in state.models or model.key in options.ensure


def _missing_content(
    desired: Desired,
    wanted: dict[str, dict[str, FileSpec]],
    recorded: dict[str, dict[str, FileRecord]],
) -> set[str]:
    """sha256 of wanted files that no record of their own model has."""
    hashes = set()
    fingerprints = {model.key: model.spec_sha256 for model in desired.models}
    for key, files in wanted.items():
        have = recorded.get(key, {})
        if not fingerprints.get(key):
            continue
        for path, file in files.items():
            record = have.get(path)
            if file.sha256 and (record is None or record.sha256 != file.sha256):
                hashes.add(file.sha256)
    return hashes


def _donors(
    missing: set[str],
    recorded: dict[str, dict[str, FileRecord]],
    looked_at: Container[str],
) -> dict[str, dict[str, FileRecord]]:
    """Recorded files of other models whose bytes a wanted file could share."""
    if not missing:
        return {}
    found: dict[str, dict[str, FileRecord]] = {}
    for key, files in recorded.items():
        if key in looked_at:
            continue
        donors = {path: record for path, record in files.items() if record.sha256 in missing}
        if donors:
            found[key] = donors
    return found


def drift_scope(state: State, select: SelectArgs | None) -> Container[str] | None:
    """Which records a selected drift run looks at: keys and addresses, None for all.

    Drift compares state and disk, so words select among what the state records; no spec is read.

    Raises:
        WanrecError: MODEL_NOT_FOUND, NOTHING_SELECTED.
    """
    if select is not None and select.marks is not None:
        raise WanrecError(
            ErrorCode.USAGE,
            "drift compares state and disk; marks stand in the specs, which it does not read",
            hint="wanrec drift -k EXPR",
        )
    if select is None or not (select.words or select.keyword or select.exclude):
        return None
    from wanrec.reconcile.expressions import compile_keyword

    chosen = set(state.files)
    if select.words:
        chosen = {address for word in select.words for address in _matching(state, word)}
    if select.keyword is not None:
        keep = compile_keyword(select.keyword)
        chosen = {address for address in chosen if keep((address,))}
    if select.exclude is not None:
        leave = compile_keyword(select.exclude, "--exclude")
        chosen = {address for address in chosen if not leave((address,))}
    if not chosen:
        raise WanrecError(
            ErrorCode.NOTHING_SELECTED, "no recorded file is selected", hint="wanrec state list"
        )
    return chosen


def _matching(state: State, word: str) -> set[str]:
    from fnmatch import fnmatchcase

    spec, sep, rest = word.partition(".toml")
    if sep:
        place = os.path.normpath(spec + sep).replace(os.sep, "/")
        keys = {
            key
            for key, record in state.models.items()
            if any(o.spec == place or o.spec.startswith(place + "/") for o in record.owners)
        }
        word = rest.removeprefix("::")
        if not word:
            return {a for a in state.files if a.partition("::")[0] in keys}
    model, _, path = word.partition("::")
    names = {model, model.replace("@", "[", 2)}
    if model.count("@") == 2:
        head, _, variant = model.rpartition("@")
        names.add(f"{head}[{variant}]")
    found = {
        address
        for address in state.files
        if (key := address.partition("::")[0]) in names
        or key.partition("[")[0] in names
        or key.partition("@")[0] in names
        if not path or fnmatchcase(address.partition("::")[2], path)
    }
    if not found:
        raise WanrecError(
            ErrorCode.MODEL_NOT_FOUND, f"the state knows no {word!r}", hint="wanrec state list"
        )
    return found
