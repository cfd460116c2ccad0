"""A drift report in the forms that monitoring and CI read: five layouts of one report.

Prometheus text for the textfile collector, a Nagios status line with performance data, JUnit XML,
TAP and GitHub workflow annotations. "Could not look" is never told as drift: it is an `error` in
JUnit, UNKNOWN in Nagios, its own metric in Prometheus.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from wanrec.reconcile.actions import DriftKind, DriftReport
from wanrec.reconcile.errors import WanrecError
from wanrec.reconcile.model import split_key
from wanrec.reconcile.render_drift import drift_verdict, finding
from wanrec.reconcile.render_words import escaped

__all__ = ["drift_monitoring", "error_monitoring", "nagios_status"]

_SECOND = 1_000_000_000
_NAGIOS_WORDS = ("OK", "WARNING", "CRITICAL", "UNKNOWN")
_METRICS = {
    "wanrec_drift_files": "Recorded files that differ from the state, by kind.",
    "wanrec_drift_success": "1 when the check could look at every file, whatever it found.",
    "wanrec_drift_unreadable_files": "Recorded files that could not be looked at.",
    "wanrec_drift_suspect_files": "Doubtful files that were not hashed in this run.",
    "wanrec_drift_busy_models": "Models a live run is working on; not judged.",
    "wanrec_drift_checked_files": "Recorded files that were looked at.",
    "wanrec_drift_last_run_timestamp_seconds": "When the check ran, seconds since the epoch.",
}


class _Case(NamedTuple):
    """One line of a test report; `verdict` is passed, failed, error or skipped."""

    suite: str
    name: str
    verdict: str
    message: str = ""


def drift_monitoring(report: DriftReport, form: str, at_ns: int) -> str:
    """Return the report as ``prometheus``, ``nagios``, ``junit``, ``tap`` or ``github``."""
    match form:
        case "prometheus":
            return _prometheus(report, at_ns)
        case "nagios":
            return _nagios(report)
        case "junit":
            return _junit(list(_cases(report)))
        case "tap":
            return _tap(list(_cases(report)))
        case "github":
            return _github(report)
    raise ValueError(f"not a monitoring form: {form!r}")


def error_monitoring(error: WanrecError, form: str, at_ns: int) -> str:
    """Return the same form for a check that failed before it could report."""
    message = escaped(f"Error[{error.code}]: {error.summary}")
    match form:
        case "prometheus":
            return _failed_metrics(at_ns)
        case "nagios":
            return f"WANREC UNKNOWN - {_pipeless(message)}\n"
        case "junit":
            return _junit([_Case("wanrec", "drift", "error", message)])
        case "tap":
            return f"TAP version 13\nBail out! {message}\n"
        case "github":
            return _annotation("error", "wanrec could not look", message)
    raise ValueError(f"not a monitoring form: {form!r}")


def nagios_status(report: DriftReport | None) -> int:
    """Return Nagios' exit code: 0 clean, 1 suspect or busy, 2 differs, 3 everything else.

    Unreadable files outrank differing ones, as exit 6 outranks exit 2. None: the check failed.
    """
    if report is None or report.unreadable:
        return 3
    if report.items:
        return 2
    return 1 if report.suspects or report.busy else 0


def _prometheus(report: DriftReport, at_ns: int) -> str:
    tally = {(model, kind): 0 for model in map(_model_id, report.models) for kind in DriftKind}
    for item in report.items:
        model = _model_id(item.address)
        for kind in DriftKind:
            tally.setdefault((model, kind), 0)
        tally[model, item.kind] += 1
    samples = [
        f'wanrec_drift_files{{model_id="{_label(model)}",kind="{kind}"}} {count}'
        for (model, kind), count in sorted(tally.items())
    ]
    values = {
        "wanrec_drift_success": int(not report.unreadable),
        "wanrec_drift_unreadable_files": len(report.unreadable),
        "wanrec_drift_suspect_files": len(report.suspects),
        "wanrec_drift_busy_models": len(report.busy),
        "wanrec_drift_checked_files": report.checked,
        "wanrec_drift_last_run_timestamp_seconds": at_ns // _SECOND,
    }
    return _metric("wanrec_drift_files", samples) + _single_metrics(values)


def _failed_metrics(at_ns: int) -> str:
    values = {
        "wanrec_drift_success": 0,
        "wanrec_drift_unreadable_files": 0,
        "wanrec_drift_suspect_files": 0,
        "wanrec_drift_last_run_timestamp_seconds": at_ns // _SECOND,
    }
    return _single_metrics(values)


def _single_metrics(values: dict[str, int]) -> str:
    return "".join(_metric(name, [f"{name} {value}"]) for name, value in values.items())


def _metric(name: str, samples: Iterable[str]) -> str:
    lines = [f"# HELP {name} {_METRICS[name]}", f"# TYPE {name} gauge", *samples]
    return "\n".join(lines) + "\n"


def _model_id(key_or_address: str) -> str:
    return split_key(key_or_address.partition("::")[0])[0]


def _label(value: str) -> str:
    return escaped(value).replace("\\", "\\\\").replace('"', '\\"')


def _nagios(report: DriftReport) -> str:
    word = _NAGIOS_WORDS[nagios_status(report)]
    differ, suspect, unread = map(len, (report.items, report.suspects, report.unreadable))
    numbers = (
        f"differ={differ};;0;0 suspect={suspect};0;;0 unreadable={unread};;;0"
        f" busy={len(report.busy)};0;;0 checked={report.checked};;;0"
    )
    lines = [f"WANREC {word} - {drift_verdict(report)} | {numbers}"]
    lines += [_pipeless(finding(item)) for item in report.items]
    lines += [
        _pipeless(f"{escaped(path)}  unreadable: {escaped(why)}") for path, why in report.unreadable
    ]
    lines += [_pipeless(f"{escaped(name)}  suspect, not hashed") for name in report.suspects]
    lines += [_pipeless(f"{escaped(key)}  busy") for key in report.busy]
    return "\n".join(lines) + "\n"


def _pipeless(text: str) -> str:
    return text.replace("|", "¦")


def _cases(report: DriftReport) -> Iterator[_Case]:
    """Yield the findings of each model, or one passed case for a model without any."""
    found: dict[str, list[_Case]] = {key: [] for key in sorted(report.models)}
    for item in report.items:
        _file(found, item.address, "failed", finding(item))
    for path, why in report.unreadable:
        _file(found, path, "error", f"unreadable: {escaped(why)}")
    for address in report.suspects:
        _file(found, address, "skipped", "suspect, not hashed")
    for key in report.busy:
        found.setdefault(key, []).append(
            _Case(escaped(key), "busy", "skipped", "a run is working on it")
        )
    for key, cases in found.items():
        yield from cases or [_Case(escaped(key), "matches the state", "passed")]


def _file(found: dict[str, list[_Case]], name: str, verdict: str, message: str) -> None:
    key, sep, path = name.partition("::")
    suite = key if sep else "root"
    case = _Case(escaped(suite), escaped(path or name), verdict, message)
    found.setdefault(suite, []).append(case)


def _junit(cases: list[_Case]) -> str:
    suites: dict[str, list[_Case]] = {}
    for case in cases:
        suites.setdefault(case.suite, []).append(case)
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        f'<testsuites name="wanrec drift"{_tally(cases)}>',
    ]
    for suite, members in suites.items():
        lines.append(f'  <testsuite name="{_xml(suite)}"{_tally(members)}>')
        lines += [_testcase(case) for case in members]
        lines.append("  </testsuite>")
    return "\n".join([*lines, "</testsuites>"]) + "\n"


def _tally(cases: list[_Case]) -> str:
    failed, errors, skipped = (
        sum(case.verdict == verdict for case in cases) for verdict in ("failed", "error", "skipped")
    )
    counts = f' tests="{len(cases)}" failures="{failed}" errors="{errors}"'
    return f'{counts} skipped="{skipped}" time="0"'


def _testcase(case: _Case) -> str:
    head = f'    <testcase classname="{_xml(case.suite)}" name="{_xml(case.name)}" time="0"'
    if case.verdict == "passed":
        return f"{head}/>"
    element = "failure" if case.verdict == "failed" else case.verdict
    kind = "" if element == "skipped" else ' type="drift"'
    return f'{head}>\n      <{element}{kind} message="{_xml(case.message)}"/>\n    </testcase>'


def _xml(text: str) -> str:
    for char, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ('"', "&quot;")):
        text = text.replace(char, entity)
    return text


def _tap(cases: list[_Case]) -> str:
    lines = ["TAP version 13", f"1..{len(cases)}"]
    for number, case in enumerate(cases, start=1):
        name = f"{case.suite}::{case.name}".replace("#", "\\#")
        passed = "ok" if case.verdict in ("passed", "skipped") else "not ok"
        skip = f" # SKIP {case.message}" if case.verdict == "skipped" else ""
        lines.append(f"{passed} {number} - {name}{skip}")
        if passed == "not ok":
            message = case.message.replace("\\", "\\\\").replace('"', '\\"')
            lines += ["  ---", f'  message: "{message}"', f"  severity: {case.verdict}", "  ..."]
    return "\n".join(lines) + "\n"


def _github(report: DriftReport) -> str:
    marks = [_annotation("error", "wanrec drift", finding(item)) for item in report.items]
    marks += [
        _annotation("error", "wanrec could not look", f"{escaped(path)}: {escaped(why)}")
        for path, why in report.unreadable
    ]
    marks += [
        _annotation("warning", "wanrec drift", f"{escaped(name)}  suspect, not hashed")
        for name in report.suspects
    ]
    marks += [_annotation("notice", "wanrec drift", f"{escaped(key)}  busy") for key in report.busy]
    return "".join([*marks, _annotation("notice", "wanrec drift", drift_verdict(report))])


def _annotation(level: str, title: str, message: str) -> str:
    return f"::{level} title={title}::{message.replace('%', '%25')}\n"
