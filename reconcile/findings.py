"""What a drift check finds: frozen values between the check, the planner and the renderers.

Apart from `actions`, because each class costs start-up time and a drift check plans nothing.
"""

from __future__ import annotations

import enum

import attrs

__all__ = ["Content", "DriftItem", "DriftKind", "DriftReport"]


@attrs.frozen(kw_only=True)
class Content:
    """Bytes by size and sha256; None where unknown."""

    size: int | None = None
    sha256: str | None = None


class DriftKind(enum.StrEnum):
    """How the disk differs from the state."""

    MISSING = "missing"
    SIZE = "size"
    CONTENT = "content"
    TYPE = "type"


@attrs.frozen(kw_only=True)
class DriftItem:
    """One recorded file that is not what the state says.

    `paths` lists every root-relative name of a damaged inode that several names share; `parts`
    the byte ranges (start, stop) that differ, as far as parts of the content were recorded.
    """

    address: str
    model: str
    path: str
    kind: DriftKind
    expected: Content | None
    found: Content | None
    paths: tuple[str, ...] = ()
    parts: tuple[tuple[int, int], ...] = ()


@attrs.frozen(kw_only=True)
class DriftReport:
    """State against disk. `suspects` were doubtful and not hashed; `unreadable` could not be
    looked at (path, reason); `busy` are models of a live run.
    """

    checked: int
    items: tuple[DriftItem, ...] = ()
    suspects: tuple[str, ...] = ()
    busy: tuple[str, ...] = ()
    unreadable: tuple[tuple[str, str], ...] = ()
    foreign: tuple[str, ...] = ()
    ignored: int = 0
    bytes_hashed: int = 0
    models: tuple[str, ...] = ()
    left: int | None = None
    """Files that a deep check in portions has not come to yet; None: it was not one."""

    @property
    def drifted(self) -> bool:
        """True when it looked, and something differs."""
        return bool(self.items)
