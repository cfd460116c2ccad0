"""Where a mirror is written: a place that takes named files, whole or not at all.

The bytes come from an `Incoming`, which hashes what it gives and raises at the end when they are
not what was promised: a shelf commits only after the end has been reached, and leaves no name
behind when it has not. Names are POSIX paths below the shelf.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import ClassVar, Protocol

__all__ = ["Incoming", "Shelf"]


class Incoming(Protocol):
    """One file on its way out."""

    @property
    def size(self) -> int:
        """The bytes it will give."""
        ...

    @property
    def sha256(self) -> str:
        """What they will hash to."""
        ...

    def read(self, count: int) -> bytes:
        """Give `count` bytes, fewer only at the end; empty once all were given and are right.

        Raises:
            WanrecError: CHECKSUM_FAIL at the end; INTERRUPTED; disk errors.
        """
        ...


class Shelf(ABC):
    """One place for one run.

    Attributes:
        name: the place as people may see it.
        vouches: `holds` knows digests itself; else only name and size.
    """

    vouches: ClassVar[bool] = False
    name: str

    @abstractmethod
    def holds(self, name: str, size: int, sha256: str) -> bool:
        """True when this file is here already.

        Raises:
            WanrecError: of the place.
        """

    @abstractmethod
    def put(self, name: str, incoming: Incoming) -> None:
        """Take a file; an earlier one of that name is replaced in one step.

        Raises:
            WanrecError: of the place, and whatever `incoming` raises.
        """

    @abstractmethod
    def read(self, name: str) -> bytes | None:
        """Return a small file, or None when there is none.

        Raises:
            WanrecError: of the place.
        """

    @abstractmethod
    def write(self, name: str, data: bytes) -> None:
        """Take a small file.

        Raises:
            WanrecError: of the place.
        """

    @abstractmethod
    def present(self, names: Iterable[str]) -> set[str]:
        """Return those of the names that are here.

        Raises:
            WanrecError: of the place.
        """

    def room(self) -> int | None:
        """Bytes that still fit, or None where nobody can say."""
        return None

    def close(self) -> None:  # noqa: B027 - a folder holds nothing open
        """Let go of connections."""
