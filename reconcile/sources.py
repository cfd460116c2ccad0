"""Tests the sources of models: reachable, authorised, has the files, how fast; brings nothing.

Heads and listings only, and the first bytes of one file for its speed, which are thrown away. The
root is not looked at. Few files are asked for one by one, many are looked up in a listing.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

import attrs

from wanrec.providers import provider_for
from wanrec.providers.base import Located, Provider, ProviderContext, Session
from wanrec.reconcile.doctor import Finding, Verdict
from wanrec.reconcile.errors import ErrorCode, WanrecError
from wanrec.reconcile.mirroring_source import MirrorSource
from wanrec.reconcile.model import Desired, DesiredModel
from wanrec.reconcile.render_words import human_bytes
from wanrec.reconcile.settings_limits import transfer_limits
from wanrec.reconcile.workbench import Workbench

__all__ = ["SAMPLE_BYTES", "SourceReport", "Survey", "describe", "source_findings", "survey"]

SAMPLE_BYTES = 8 << 20
_SAMPLE_S = 3.0
_ASKED_ONE_BY_ONE = 16
_AT_ONCE = 4


@attrs.frozen(kw_only=True)
class SourceReport:
    """What one source answered.

    Attributes:
        source: the URL without secrets.
        models: who lists it.
        code: why it cannot be used; None when it can.
        wanted: files that are asked of it.
        missing: source paths that it does not have.
        differing: source paths that have another size there.
        sampled: bytes that were read for the speed.
        bytes_per_s: None when nothing was sampled.
    """

    source: str
    models: tuple[str, ...]
    code: ErrorCode | None = None
    detail: str = ""
    hint: str = ""
    wanted: int = 0
    missing: tuple[str, ...] = ()
    differing: tuple[str, ...] = ()
    sampled: int = 0
    bytes_per_s: int | None = None

    @property
    def whole(self) -> bool:
        """True when everything that is asked of it could be had."""
        return self.code is None and not self.missing and not self.differing


@attrs.frozen(kw_only=True)
class Survey:
    """All sources, and the addresses of files that none of them has."""

    reports: tuple[SourceReport, ...]
    undeliverable: tuple[str, ...]


@attrs.define(kw_only=True)
class _Case:
    """One source and what the models want from it: source path → size."""

    url: str
    context: ProviderContext
    models: list[str] = attrs.field(factory=list)
    wanted: dict[str, int | None] = attrs.field(factory=dict)


def survey(
    bench: Workbench,
    desired: Desired,
    *,
    offline: bool | None = None,
    sample_bytes: int = SAMPLE_BYTES,
    stop: threading.Event | None = None,
) -> Survey:
    """Ask every source of the selected models.

    Raises:
        WanrecError: INVALID_MANIFEST for a source that nobody provides.
    """
    alone = bench.settings.offline if offline is None else offline
    mirror = _mirror(bench, desired, alone)
    cases = _cases(bench, desired, mirror, alone)
    session = Session(stop)
    try:
        providers = [_provider(case, session) for case in cases.values()]
        reports = _ask_all(providers, list(cases.values()))
        if sample_bytes:
            reports = [
                _with_speed(provider, case, report, sample_bytes)
                for provider, case, report in zip(providers, cases.values(), reports, strict=True)
            ]
    finally:
        session.close()
    found = dict(zip(cases, reports, strict=True))
    return Survey(reports=tuple(reports), undeliverable=tuple(_nowhere(mirror, desired, found)))


def source_findings(bench: Workbench) -> list[Finding]:
    """The sources of all models as `doctor` tells them: a bad one is a weakness, no refusal."""
    from wanrec.reconcile.desired import SelectArgs

    try:
        reports = survey(bench, bench.collect(SelectArgs()), sample_bytes=0).reports
    except WanrecError as error:
        detail = f"not tested: {error.code}: {error.summary}"
        return [Finding(name="sources", verdict=Verdict.WARN, detail=detail, fix=error.hint)]
    return [
        Finding(
            name=f"source {report.source}",
            verdict=Verdict.OK if report.whole else Verdict.WARN,
            detail=describe(report),
            fix=report.hint,
        )
        for report in reports
    ]


def describe(report: SourceReport) -> str:
    """One line about a source, without its URL."""
    if report.code is not None:
        return f"{report.code}: {report.detail}"
    there = report.wanted - len(report.missing)
    words = [f"{there} of {report.wanted} files"]
    if report.differing:
        words.append(f"{len(report.differing)} of another size")
    if report.bytes_per_s is not None:
        words.append(f"{human_bytes(report.bytes_per_s)}/s over {human_bytes(report.sampled)}")
    return ", ".join(words)


def _urls(mirror: MirrorSource, model: DesiredModel) -> list[str]:
    return list(dict.fromkeys((*mirror(model), *model.sources)))


def _mirror(bench: Workbench, desired: Desired, offline: bool) -> MirrorSource:
    specs = {model.spec for model in desired.models}
    contexts = {spec: _context(bench, spec, offline) for spec in specs}
    return MirrorSource(bench.settings.mirror, contexts)


def _cases(
    bench: Workbench, desired: Desired, mirror: MirrorSource, offline: bool
) -> dict[tuple[str, str], _Case]:
    cases: dict[tuple[str, str], _Case] = {}
    for model in desired.models:
        if not desired.selection.has_model(model.key):
            continue
        for url in _urls(mirror, model):
            case = cases.get((url, model.spec))
            if case is None:
                context = _context(bench, model.spec, offline)
                case = cases[url, model.spec] = _Case(url=url, context=context)
            case.models.append(model.key)
            for file in model.files:
                if desired.selection.has_address(f"{model.key}::{file.path}", model.key):
                    case.wanted[file.source_path or file.path] = file.size
    return cases


def _context(bench: Workbench, spec: str, offline: bool) -> ProviderContext:
    settings = bench.settings
    return ProviderContext(
        base=Path(bench.project_dir, spec).parent,
        local_root=settings.local_root,
        offline=offline,
        allow_http=settings.allow_http,
        environ=bench.environ,
        limits=transfer_limits(settings),
    )


def _provider(case: _Case, session: Session) -> Provider:
    provider = provider_for(case.url, case.context)
    provider.session = session
    return provider


def _ask_all(providers: list[Provider], cases: list[_Case]) -> list[SourceReport]:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(max_workers=_AT_ONCE) as pool:
        return list(pool.map(_ask, providers, cases))


def _ask(provider: Provider, case: _Case) -> SourceReport:
    report = SourceReport(source=provider.name, models=tuple(case.models), wanted=len(case.wanted))
    try:
        sizes = _sizes(provider, case.wanted)
    except WanrecError as error:
        return attrs.evolve(report, code=error.code, detail=error.summary, hint=error.hint)
    if not sizes:  # is it only empty, or is there no such bucket, repository, folder?
        health = provider.check()
        if not health.ok:
            return attrs.evolve(report, code=health.code, detail=health.detail, hint=health.hint)
    return attrs.evolve(
        report,
        missing=tuple(sorted(set(case.wanted) - set(sizes))),
        differing=tuple(
            sorted(
                path
                for path, size in sizes.items()
                if None not in (size, case.wanted[path]) and size != case.wanted[path]
            )
        ),
    )


def _sizes(provider: Provider, wanted: Mapping[str, int | None]) -> dict[str, int | None]:
    if provider.lists and len(wanted) > _ASKED_ONE_BY_ONE:
        return {e.path: e.size for e in provider.catalogue() if e.path in wanted}
    sizes: dict[str, int | None] = {}
    for path in wanted:
        try:
            sizes[path] = provider.locate(path, probe=True).size
        except WanrecError as error:
            if error.code is not ErrorCode.NOT_FOUND_AT_SOURCE:
                raise
    return sizes


def _with_speed(provider: Provider, case: _Case, report: SourceReport, most: int) -> SourceReport:
    """Read the first bytes of the biggest file that is there."""
    there = set(case.wanted) - set(report.missing) - set(report.differing)
    if report.code is not None or not there:
        return report
    path = max(sorted(there), key=lambda one: case.wanted[one] or 0)
    try:
        started = time.monotonic()
        count = _read(provider, provider.locate(path), min(most, case.wanted[path] or most))
        seconds = max(time.monotonic() - started, 1e-6)
    except WanrecError as error:
        return attrs.evolve(report, code=error.code, detail=error.summary, hint=error.hint)
    return attrs.evolve(report, sampled=count, bytes_per_s=int(count / seconds))


def _read(provider: Provider, located: Located, most: int) -> int:
    ends, count = time.monotonic() + _SAMPLE_S, 0
    buffer = memoryview(bytearray(256 * 1024))
    if most == 0:
        return 0
    with provider.open_range(located, 0, most) as body:
        while count < most and time.monotonic() < ends:
            got = body.readinto(buffer[: min(len(buffer), most - count)])
            if not got:
                break
            count += got
    return count


def _nowhere(
    mirror: MirrorSource, desired: Desired, found: Mapping[tuple[str, str], SourceReport]
) -> Iterable[str]:
    for model in desired.models:
        if not desired.selection.has_model(model.key):
            continue
        usable = [found[url, model.spec] for url in _urls(mirror, model)]
        usable = [report for report in usable if report.code is None]
        for file in model.files:
            path, address = file.source_path or file.path, f"{model.key}::{file.path}"
            lacking = all(path in (*one.missing, *one.differing) for one in usable)
            if lacking and desired.selection.has_address(address, model.key):
                yield address
