"""Looks a root over before it is trusted with models: each finding comes with its fix.

Makes and removes small probe files below `.wanrec/cache`; touches nothing else, fetches nothing.
A finding with a code is a reason not to apply here; a `warn` is a weakness one can live with.
"""

from __future__ import annotations

import enum
import functools
import os
import time
from collections.abc import Callable, Iterator, Mapping

import attrs

from wanrec.reconcile.disk import Root
from wanrec.reconcile.disk_crypt import encryption_of
from wanrec.reconcile.disk_probe import (
    fs_type,
    is_network_fs,
    probe_case_insensitive,
    probe_exchange,
    probe_links,
    probe_reflink,
)
from wanrec.reconcile.engine_view import open_store
from wanrec.reconcile.errors import ErrorCode, WanrecError
from wanrec.reconcile.render_words import human_bytes, plural
from wanrec.reconcile.settings import Settings

__all__ = ["Finding", "Verdict", "examine"]

_LITTLE_SPACE = 1 << 30
_EPOCH_OF_PROJECT_S = 1_767_225_600
"""2026-01-01: a clock before it is wrong, and every file it stamps looks old."""


_ABILITIES: Mapping[str, tuple[Callable[[Root], bool], str, str]] = {
    "hard links": (
        probe_links,
        "equal files are stored once",
        "none: equal files and unchanged files of an update are copied",
    ),
    "exchange": (
        probe_exchange,
        "a model directory changes in one step",
        "none: a change takes two steps, repaired by the next run after a crash",
    ),
}


class Verdict(enum.StrEnum):
    """How a finding is to be taken."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@attrs.frozen(kw_only=True)
class Finding:
    """One thing that was looked at. `code` is set when an apply would be refused for it."""

    name: str
    verdict: Verdict
    detail: str
    fix: str = ""
    code: ErrorCode | None = None


def examine(settings: Settings, environ: Mapping[str, str]) -> list[Finding]:
    """Look at root, file system, locks, state, space, clock and credentials."""
    try:
        root = Root.open(settings.require_root())
    except WanrecError as error:
        return [_failed("root", error), _clock()]
    try:
        return [
            Finding(name="root", verdict=Verdict.OK, detail=str(root.path)),
            *_file_system(root, settings),
            _guarded("state", lambda: _state(settings)),
            _space(root),
            _encryption(root),
            _clock(),
            *_credentials(environ),
        ]
    finally:
        root.close()


def _failed(name: str, error: WanrecError) -> Finding:
    return Finding(
        name=name,
        verdict=Verdict.FAIL,
        detail=f"{error.code}: {error.summary}",
        fix=error.hint,
        code=error.code,
    )


def _guarded(name: str, look: Callable[[], Finding]) -> Finding:
    try:
        return look()
    except WanrecError as error:
        return _failed(name, error)


def _file_system(root: Root, settings: Settings) -> Iterator[Finding]:
    yield _kind(root, settings)
    writable = _guarded("write", lambda: _writable(root))
    yield writable
    if writable.code is None:
        yield from _abilities(root, settings)
    else:  # one cause, said once
        for name in (*_ABILITIES, "reflinks", "sharing", "case", "locks"):
            detail = "not tried: the root cannot be written to"
            yield Finding(name=name, verdict=Verdict.WARN, detail=detail)


def _kind(root: Root, settings: Settings) -> Finding:
    kind = fs_type(root.path)
    network = is_network_fs(kind)
    return Finding(
        name="file system",
        verdict=Verdict.WARN if network else Verdict.OK,
        detail=f"{kind}, over a network: its locks are not relied on" if network else kind,
        fix=(
            "use a local disk, or set trust_locks = true where locks are known to work"
            if network and not settings.trust_locks
            else ""
        ),
    )


def _abilities(root: Root, settings: Settings) -> Iterator[Finding]:
    for name, (probe, good, bad) in _ABILITIES.items():
        able = functools.partial(_ability, root, name, probe, good, bad)
        yield _guarded(name, able)
    yield _guarded("reflinks", lambda: _reflinks(root))
    yield _guarded("sharing", lambda: _sharing(root, settings.link_mode))
    yield _guarded("case", lambda: _case(root))
    yield _guarded("locks", lambda: _locks(root, settings))


def _writable(root: Root) -> Finding:
    root.make_dirs(".wanrec/cache", 0o755)
    name = f".wanrec/cache/doctor-{os.getpid()}"
    os.close(root.create(name))
    root.unlink(name)
    return Finding(name="write", verdict=Verdict.OK, detail="the root can be written to")


def _ability(root: Root, name: str, probe: Callable[[Root], bool], good: str, bad: str) -> Finding:
    able = probe(root)
    return Finding(
        name=name,
        verdict=Verdict.OK if able else Verdict.WARN,
        detail=good if able else bad,
        fix="" if able else "put the root on a file system that has them (ext4, xfs, btrfs)",
    )


def _reflinks(root: Root) -> Finding:
    able = probe_reflink(root)
    detail = "copies share their blocks" if able else "none here; copies are real copies"
    return Finding(name="reflinks", verdict=Verdict.OK, detail=detail)


def _sharing(root: Root, mode: str) -> Finding:
    """How equal bytes of several models will lie here, given the setting and the file system."""
    links, clones = probe_links(root), probe_reflink(root)
    if mode in ("auto", "hardlink") and links:
        return Finding(name="sharing", verdict=Verdict.OK, detail=f"{mode}: one file, linked")
    if mode in ("auto", "reflink") and clones:
        return Finding(name="sharing", verdict=Verdict.OK, detail=f"{mode}: cloned blocks")
    if mode in ("auto", "copy"):
        verdict = Verdict.OK if mode == "copy" else Verdict.WARN
        return Finding(name="sharing", verdict=verdict, detail=f"{mode}: every model has its copy")
    return Finding(
        name="sharing",
        verdict=Verdict.WARN,
        detail=f"link_mode {mode} cannot be had on this file system: equal files are copied",
        fix='link_mode = "auto"',
    )


def _case(root: Root) -> Finding:
    folded = probe_case_insensitive(root)
    detail = (
        "names that differ only in case are one file" if folded else "upper and lower case differ"
    )
    return Finding(name="case", verdict=Verdict.OK, detail=detail)


def _locks(root: Root, settings: Settings) -> Finding:
    open_store(settings, time.time_ns).locks.probe()
    return Finding(name="locks", verdict=Verdict.OK, detail="another process was kept out")


def _state(settings: Settings) -> Finding:
    state = open_store(settings, time.time_ns).read()
    if state is None:
        return Finding(name="state", verdict=Verdict.OK, detail="none yet: nothing was applied")
    return Finding(
        name="state",
        verdict=Verdict.OK,
        detail=f"{plural(len(state.models), 'model')}, {plural(len(state.files), 'file')},"
        f" serial {state.serial}",
    )


def _space(root: Root) -> Finding:
    free = root.free_bytes()
    little = free < _LITTLE_SPACE
    return Finding(
        name="space",
        verdict=Verdict.WARN if little else Verdict.OK,
        detail=f"{human_bytes(free)} free",
        fix="free some space before the next apply" if little else "",
    )


def _encryption(root: Root) -> Finding:
    found = encryption_of(root.path)
    detail = f"{found}, below wanrec" if found else "none seen (dm-crypt, fscrypt)"
    return Finding(name="encryption at rest", verdict=Verdict.OK, detail=detail)


def _clock() -> Finding:
    wrong = time.time() < _EPOCH_OF_PROJECT_S
    return Finding(
        name="clock",
        verdict=Verdict.WARN if wrong else Verdict.OK,
        detail=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        fix="set the clock: times of files and records decide what is read again" if wrong else "",
    )


def _credentials(environ: Mapping[str, str]) -> Iterator[Finding]:
    """Which credentials the environment offers; never their values."""
    for name, variables in (
        ("credentials hf", ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")),
        ("credentials s3", ("AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_WEB_IDENTITY_TOKEN_FILE")),
    ):
        found = [variable for variable in variables if environ.get(variable)]
        detail = f"{', '.join(found)} set" if found else "none in the environment"
        yield Finding(name=name, verdict=Verdict.OK, detail=detail)
