"""One base class, the contract's error codes and exit codes, and the payload people need.

An error says what happened, where, why, and which command helps. Text is made in `__str__` only;
everything else is an attribute, so that the JSON form and the terminal form cannot disagree.
Foreign exceptions are translated where they enter (`providers.base`, `state.store`, `disk`).
"""

from __future__ import annotations

import enum
from collections.abc import Iterable

__all__ = ["ErrorCode", "ExitCode", "Fault", "FaultGroup", "WanrecError", "worst_exit"]


class ExitCode(enum.IntEnum):
    """Process exit codes of the contract."""

    OK = 0
    DEFECT = 1
    DIFFERS = 2
    REFUSED = 3
    INTEGRITY = 4
    SOURCE = 5
    LOCAL_IO = 6
    LOCK = 7
    STATE = 8
    PARTIAL = 9
    USAGE = 64
    SIGINT = 130
    SIGTERM = 143


_BY_EXIT = {
    ExitCode.REFUSED: (
        "INVALID_CONFIG MISSING_MANIFEST INVALID_MANIFEST SCHEMA_VERSION_MISMATCH MODEL_NOT_FOUND"
        " VARIANT_NOT_FOUND INVALID_MODEL_ID UNSAFE_PATH PATH_TOO_LONG NAME_COLLISION LOCK_MISSING"
        " LOCK_OUTDATED POLICY_DENIED NOTHING_SELECTED DELETE_BUDGET PROTECTED FOREIGN_FILE"
        " PROJECT_UNNAMED"
    ),
    ExitCode.INTEGRITY: "CHECKSUM_FAIL SIZE_MISMATCH SIGNATURE_FAIL ROLLBACK INCOMPLETE_MODEL",
    ExitCode.SOURCE: (
        "AUTH_FAIL RATE_LIMIT NETWORK_TIMEOUT SOURCE_UNAVAILABLE NOT_FOUND_AT_SOURCE"
        " RANGE_MISMATCH SOURCE_CHANGED STALLED OFFLINE"
    ),
    ExitCode.LOCAL_IO: (
        "NO_SPACE PERMISSION_DENIED READ_ONLY FILESYSTEM_ERROR TOO_MANY_FILES IN_USE"
    ),
    ExitCode.LOCK: "LOCK_TIMEOUT LOCK_UNRELIABLE",
    ExitCode.STATE: (
        "PLAN_STALE PLAN_FOREIGN PLAN_CORRUPT PLAN_NEWER STATE_MISSING STATE_CORRUPT STATE_NEWER"
        " STATE_FOREIGN CONCURRENT_MODIFICATION"
    ),
    ExitCode.USAGE: "USAGE",
    ExitCode.DEFECT: "DEFECT",
    ExitCode.SIGINT: "INTERRUPTED",
    ExitCode.SIGTERM: "TERMINATED",
}


class ErrorCode(enum.StrEnum):
    """The closed set of error codes; each belongs to exactly one exit code."""

    @staticmethod
    def _generate_next_value_(name: str, start: int, count: int, last_values: list[str]) -> str:
        return name

    INVALID_CONFIG = enum.auto()
    MISSING_MANIFEST = enum.auto()
    INVALID_MANIFEST = enum.auto()
    SCHEMA_VERSION_MISMATCH = enum.auto()
    MODEL_NOT_FOUND = enum.auto()
    VARIANT_NOT_FOUND = enum.auto()
    INVALID_MODEL_ID = enum.auto()
    UNSAFE_PATH = enum.auto()
    PATH_TOO_LONG = enum.auto()
    NAME_COLLISION = enum.auto()
    LOCK_MISSING = enum.auto()
    LOCK_OUTDATED = enum.auto()
    POLICY_DENIED = enum.auto()
    NOTHING_SELECTED = enum.auto()
    DELETE_BUDGET = enum.auto()
    PROTECTED = enum.auto()
    FOREIGN_FILE = enum.auto()
    PROJECT_UNNAMED = enum.auto()
    CHECKSUM_FAIL = enum.auto()
    SIZE_MISMATCH = enum.auto()
    SIGNATURE_FAIL = enum.auto()
    ROLLBACK = enum.auto()
    INCOMPLETE_MODEL = enum.auto()
    AUTH_FAIL = enum.auto()
    RATE_LIMIT = enum.auto()
    NETWORK_TIMEOUT = enum.auto()
    SOURCE_UNAVAILABLE = enum.auto()
    NOT_FOUND_AT_SOURCE = enum.auto()
    RANGE_MISMATCH = enum.auto()
    SOURCE_CHANGED = enum.auto()
    STALLED = enum.auto()
    OFFLINE = enum.auto()
    NO_SPACE = enum.auto()
    PERMISSION_DENIED = enum.auto()
    READ_ONLY = enum.auto()
    FILESYSTEM_ERROR = enum.auto()
    TOO_MANY_FILES = enum.auto()
    IN_USE = enum.auto()
    LOCK_TIMEOUT = enum.auto()
    LOCK_UNRELIABLE = enum.auto()
    PLAN_STALE = enum.auto()
    PLAN_FOREIGN = enum.auto()
    PLAN_CORRUPT = enum.auto()
    PLAN_NEWER = enum.auto()
    STATE_MISSING = enum.auto()
    STATE_CORRUPT = enum.auto()
    STATE_NEWER = enum.auto()
    STATE_FOREIGN = enum.auto()
    CONCURRENT_MODIFICATION = enum.auto()
    USAGE = enum.auto()
    DEFECT = enum.auto()
    INTERRUPTED = enum.auto()
    TERMINATED = enum.auto()

    @property
    def exit_code(self) -> ExitCode:
        """The exit code this error code belongs to."""
        return _EXIT_OF[self]

    @property
    def retryable(self) -> bool:
        """True when the same command, later, may succeed without anybody changing anything."""
        return self in _RETRYABLE


_EXIT_OF = {ErrorCode(name): exit_ for exit_, names in _BY_EXIT.items() for name in names.split()}
_RETRYABLE = frozenset(
    ErrorCode(name)
    for name in (
        "RATE_LIMIT NETWORK_TIMEOUT SOURCE_UNAVAILABLE STALLED SOURCE_CHANGED RANGE_MISMATCH"
        " LOCK_TIMEOUT IN_USE CONCURRENT_MODIFICATION NO_SPACE TOO_MANY_FILES"
    ).split()
)


class WanrecError(Exception):
    """Base of every error wanrec raises on purpose.

    Attributes:
        code: the contract's error code.
        summary: one line, what happened.
        detail: why, may be several lines.
        address: model key or address it is about.
        source: source URL without user info and query.
        where: file (and line), or path, it is about.
        hint: the command or edit that helps.
    """

    def __init__(
        self,
        code: ErrorCode,
        summary: str,
        *,
        detail: str = "",
        address: str | None = None,
        source: str | None = None,
        where: str | None = None,
        hint: str = "",
    ) -> None:
        super().__init__(summary)
        self.code = code
        self.summary = summary
        self.detail = detail
        self.address = address
        self.source = source
        self.where = where
        self.hint = hint

    @property
    def exit_code(self) -> ExitCode:
        """The process exit code of this error."""
        return self.code.exit_code

    def to_dict(self) -> dict[str, object]:
        """The JSON form: code, exit, summary, detail, address, source, hint."""
        return {
            "code": self.code.value,
            "exit": int(self.exit_code),
            "summary": self.summary,
            "detail": self.detail,
            "address": self.address,
            "source": self.source,
            "where": self.where,
            "hint": self.hint,
            "retryable": self.code.retryable,
        }

    def __str__(self) -> str:
        lines = [f"Error[{self.code}]: {self.summary}"]
        for label, value in (
            ("where", self.where or self.address),
            ("source", self.source),
            ("why", self.detail),
            ("help", self.hint),
        ):
            if value:
                first, *rest = value.splitlines()
                lines.append(f"  {label + ':':<8}{first}")
                lines.extend(f"          {line}" for line in rest)
        return "\n".join(lines)

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.__dict__.copy()))


def _rebuild(cls: type[WanrecError], payload: dict[str, object]) -> WanrecError:
    error = cls.__new__(cls)
    Exception.__init__(error, payload["summary"])
    error.__dict__.update(payload)
    return error


class Fault:
    """One thing wrong with a user's file: ``FILE:LINE: message (at PATH)``."""

    __slots__ = ("at", "code", "file", "line", "message")

    def __init__(
        self,
        file: str,
        line: int | None,
        message: str,
        at: str = "",
        code: ErrorCode = ErrorCode.INVALID_MANIFEST,
    ) -> None:
        self.file = file
        self.line = line
        self.message = message
        self.at = at
        self.code = code

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        return f"{place}: {self.message}" + (f" (at {self.at})" if self.at else "")


class FaultGroup(WanrecError):
    """All faults of all files of one run; its code is that of the first fault."""

    def __init__(self, faults: Iterable[Fault], *, hint: str = "") -> None:
        self.faults = tuple(faults)
        first = self.faults[0]
        count = len(self.faults)
        summary = str(first) if count == 1 else f"{count} faults in the spec files"
        detail = "" if count == 1 else "\n".join(str(fault) for fault in self.faults)
        super().__init__(first.code, summary, detail=detail, where=first.file, hint=hint)

    def to_dict(self) -> dict[str, object]:
        """As the base class, with `faults[]`: file, line, message, at, code."""
        return super().to_dict() | {
            "faults": [
                {"file": f.file, "line": f.line, "message": f.message, "at": f.at, "code": f.code}
                for f in self.faults
            ]
        }


_ORDER = (
    ExitCode.INTEGRITY,
    ExitCode.LOCAL_IO,
    ExitCode.STATE,
    ExitCode.REFUSED,
    ExitCode.LOCK,
    ExitCode.SOURCE,
)


def worst_exit(codes: Iterable[ErrorCode]) -> ExitCode:
    """The exit code of a run that did nothing and failed several times: 4, 6, 8, 3, 7, 5."""
    seen = {code.exit_code for code in codes}
    for exit_code in _ORDER:
        if exit_code in seen:
            return exit_code
    return max(seen, default=ExitCode.OK)
