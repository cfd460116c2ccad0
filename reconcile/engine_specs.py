"""From settings and command-line words to the desired set.

The only place that reads spec files for the engine. A plan file keeps its selection as words
relative to the project directory, so that it means the same from every working directory.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from wanrec.reconcile.collect import SpecFaults, digests, load, read_file
from wanrec.reconcile.collect_find import (
    DEFAULTS_FILE,
    FoundSpecs,
    SpecFile,
    find_specs,
    folders_above,
    lock_name,
    relative_name,
)
from wanrec.reconcile.engine_hooks import spec_reader
from wanrec.reconcile.errors import ErrorCode, Fault, FaultGroup, WanrecError
from wanrec.reconcile.select_args import SelectArgs
from wanrec.reconcile.settings import Settings

__all__ = ["collect", "collect_saved", "collect_sound", "portable_words", "source_digests"]

if TYPE_CHECKING:
    from wanrec.reconcile.desired_expanded import Expanded
    from wanrec.reconcile.model import Desired, DesiredModel
    from wanrec.reconcile.toml_lines import KeyPath

_OPTIONS = ("-k", "-m", "--exclude")
_whole = re.compile(
    r"(?:\.priority)?\[\d+\].*$"
).sub  # a list is one place, whatever is wrong in it
_of_model = re.compile(r'models\.("(?:[^"\\]|\\.)*")\.(\w+)').fullmatch


def collect(settings: Settings, select: SelectArgs) -> Desired:
    """Find, read and check the specs, and build what they want.

    Raises:
        WanrecError: every fault of every spec at once; MISSING_MANIFEST.
    """
    return _collect(settings, _expanded(settings, select), settings.cwd)


def collect_sound(settings: Settings, select: SelectArgs) -> tuple[Desired, FaultGroup | None]:
    """As `collect`; when specs have faults, what the others want, and the faults.

    Raises:
        WanrecError: MISSING_MANIFEST, of the selection, and the faults when they leave nothing.
    """
    try:
        return collect(settings, select), None
    except FaultGroup as group:
        files = frozenset(fault.file for fault in group.faults)
        select = _expanded(settings, select)
        try:
            wanted = _collect(settings, select, settings.cwd, files)
        except WanrecError:
            raise group from None
        found = _without_faulty(settings, _find(settings, select, settings.cwd), files)
        sound = found.named or frozenset()
        models = tuple(model for model in wanted.models if model.spec in sound)
        return attrs.evolve(wanted, models=models), group


def _expanded(settings: Settings, select: SelectArgs) -> SelectArgs:
    from wanrec.reconcile.engine_last_failed import expanded

    return expanded(settings, select)


def _without_faulty(settings: Settings, found: FoundSpecs, files: frozenset[str]) -> FoundSpecs:
    """The same specs; those that are made of one of these files do not stop the run."""
    top = os.path.abspath(settings.project_dir)

    def is_faulty(spec: SpecFile) -> bool:
        layers = (os.path.join(f, DEFAULTS_FILE) for f in folders_above(settings.project_dir, spec))
        made_of = {spec.path, lock_name(spec.path), *(relative_name(f, top) for f in layers)}
        return not made_of.isdisjoint(files)

    sound = frozenset(spec.path for spec in found.files if not is_faulty(spec))
    return attrs.evolve(found, named=sound if found.named is None else found.named & sound)


def collect_saved(settings: Settings, words: tuple[str, ...]) -> Desired:
    """The desired set of a selection that `portable_words` made.

    Raises:
        WanrecError: as `collect`.
    """
    return _collect(settings, _select_of(words), settings.project_dir)


def portable_words(settings: Settings, select: SelectArgs) -> tuple[str, ...]:
    """The words that narrowed a run, with spec files relative to the project directory."""
    select = _expanded(settings, select)
    found = _find(settings, select, settings.cwd)
    words: list[str] = []
    for word in select.words:
        first, sep, rest = word.partition("::")
        paths = found.words.get(word) or (found.words.get(first) if sep else None)
        if paths is None:
            words.append(word)
        elif word in found.words:
            words.extend(paths)
        else:
            words.extend(f"{path}::{rest}" for path in paths)
    for option, value in zip(_OPTIONS, (select.keyword, select.marks, select.exclude), strict=True):
        if value is not None:
            words += [option, value]
    return tuple(words)


def source_digests(settings: Settings) -> dict[str, str] | None:
    """Path → sha256 of every file the project's specs are made of, None when one is unreadable.

    Raises:
        WanrecError: MISSING_MANIFEST.
    """
    return digests(settings.project_dir, _find(settings, SelectArgs(), settings.cwd))


def _collect(
    settings: Settings, select: SelectArgs, cwd: Path, faulty: frozenset[str] = frozenset()
) -> Desired:
    """Faults of specs made of `faulty` files do not stop the run."""
    # not needed to see that no spec has changed
    from wanrec.reconcile.desired import build_expanded, expand_all, further_faults
    from wanrec.reconcile.spec_cache import SpecCache

    found = _find(settings, select, cwd)
    if faulty:
        found = _without_faulty(settings, found, faulty)
    if settings.marks is not None:
        select = attrs.evolve(select, declared_marks=settings.marks)
    finder = (str(settings.project_dir), settings.manifest, settings.spec_paths)
    cache = SpecCache(settings.cache_dir, repr(finder))
    specs: Sequence[Expanded] = ()
    try:
        collection = load(settings.project_dir, found, spec_reader(settings), cache.recall)
        specs = expand_all(collection)
        cache.keep(collection.keys, specs, collection.size)
        desired = build_expanded(collection, specs, select)
    except SpecFaults as group:
        specs = expand_all(group.rest)
        more = further_faults(group.rest, specs, select)
        raise _all_faults(settings, group, _of_run(found, specs), more) from None
    except FaultGroup as group:
        raise _all_faults(settings, group, _of_run(found, specs)) from None
    _check_mirror(settings, desired)
    judged = [
        model
        for model in desired.models
        if found.named is None
        or model.spec in found.named
        or desired.selection.has_model(model.key)  # of another spec, and required
    ]
    faults, hint = _source_faults(settings, judged)
    if faults:
        raise FaultGroup(faults, hint=hint)
    return desired


def _of_run(found: FoundSpecs, specs: Iterable[Expanded]) -> list[DesiredModel]:
    """The models of the specs this run names: all, when it names none."""
    named = found.named
    return [m for spec in specs if named is None or spec.path in named for m in spec.models]


def _all_faults(
    settings: Settings,
    group: FaultGroup,
    models: Iterable[DesiredModel],
    more: Iterable[Fault] = (),
) -> FaultGroup:
    """Join the faults that stopped a run with what the later stages have to say."""
    sources, hint = _source_faults(settings, models)
    faults = [_placed(settings.project_dir, fault) for fault in group.faults]
    told = {(fault.file, _whole("", fault.at), fault.code) for fault in faults}
    for fault in (*more, *sources):
        if (fault.file, fault.at, fault.code) not in told:
            faults.append(_placed(settings.project_dir, fault))
    faults.sort(key=lambda fault: (fault.file, fault.line or 0, fault.at, fault.message))
    return FaultGroup(faults, hint=group.hint or hint)


def _placed(project_dir: Path, fault: Fault) -> Fault:
    """Point at the line of the key itself where a fault knows only that of its model."""
    key = _of_model(fault.at)
    if key is None:
        return fault
    line = _line(project_dir, fault.file, ("models", json.loads(key[1]), key[2])) or fault.line
    return Fault(fault.file, line, fault.message, fault.at, fault.code)


def _check_mirror(settings: Settings, desired: Desired) -> None:
    """Refuse a mirror that could never be asked.

    Raises:
        WanrecError: INVALID_CONFIG; POLICY_DENIED.
    """
    if settings.mirror and desired.models:
        from wanrec.reconcile.desired_expand import source_for

        try:
            _check_source(source_for(settings.mirror, desired.models[0]), settings)
        except WanrecError as error:
            if error.code is ErrorCode.INVALID_MANIFEST:
                error.code = ErrorCode.INVALID_CONFIG
            error.where = "the mirror"
            raise


def _check_source(url: str, settings: Settings) -> None:
    from wanrec.providers.source_url import parse_source

    source = parse_source(url)
    if source.scheme != "http" or settings.allow_http:
        return
    from wanrec.providers.wire import WireFault, is_loopback, parse_url

    try:
        beyond = not is_loopback(parse_url(url)[0].host)
    except WireFault:
        beyond = True
    if beyond:
        raise WanrecError(
            ErrorCode.POLICY_DENIED,
            f"{str(source)!r} is not used: plain http:// is for loopback only",
            hint="use https://, or set allow_http = true in wanrec.toml",
        )


def _source_faults(settings: Settings, models: Iterable[DesiredModel]) -> tuple[list[Fault], str]:
    """Find the source URLs that no provider may ever be asked for, and what helps."""
    from wanrec.reconcile.toml_lines import show_path

    faults: dict[tuple[str, str, str], Fault] = {}
    hint = ""
    for model in models:
        for url in model.sources:
            try:
                _check_source(url, settings)
            except WanrecError as error:
                hint = hint or error.hint
                at = ("models", model.id, "sources")
                faults[model.spec, model.id, url] = Fault(
                    model.spec,
                    _line(settings.project_dir, model.spec, at),
                    error.summary,
                    show_path(at),
                    error.code,
                )
    return list(faults.values()), hint


def _line(project_dir: Path, spec: str, at: KeyPath) -> int | None:
    """Where in a spec file something stands, None when that cannot be seen any more."""
    from wanrec.reconcile.toml_lines import find_lines

    try:
        text = read_file(Path(project_dir, spec)).decode()
    except (OSError, ValueError):
        return None
    return find_lines(text, [at])[at]


def _find(settings: Settings, select: SelectArgs, cwd: Path) -> FoundSpecs:
    words = () if select.of_models else select.words
    return find_specs(settings.project_dir, words, settings.manifest, settings.spec_paths, cwd=cwd)


def _select_of(words: tuple[str, ...]) -> SelectArgs:
    options: dict[str, str | None] = dict.fromkeys(_OPTIONS)
    plain: list[str] = []
    rest: Iterator[str] = iter(words)
    for word in rest:
        if word in options:
            options[word] = next(rest)
        else:
            plain.append(word)
    return SelectArgs(
        words=tuple(plain),
        keyword=options["-k"],
        marks=options["-m"],
        exclude=options["--exclude"],
    )
