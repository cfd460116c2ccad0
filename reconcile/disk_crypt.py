"""Is what lies on this file system encrypted below us? Looks only, on Linux only.

wanrec encrypts nothing itself. dm-crypt shows in the chain of block devices under the root,
fscrypt in the flags of its directory; anything else (a disk that encrypts by itself, a network
share) cannot be seen from here.
"""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["encryption_of"]

_GET_FLAGS = 0x80086601
"""FS_IOC_GETFLAGS, the same number on all 64-bit Linux machines."""
_ENCRYPTED = 0x800
_DEEPEST = 8
"""Layers of mapped devices that are followed down."""


def encryption_of(path: Path) -> str | None:
    """Return ``"fscrypt"`` or ``"dm-crypt"``, None when neither is to be seen."""
    if _has_policy(path):
        return "fscrypt"
    try:
        device = os.stat(path).st_dev
        top = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}")
    except (OSError, AttributeError):
        return None
    return "dm-crypt" if _on_crypt(top, _DEEPEST) else None


def _on_crypt(device: Path, depth: int) -> bool:
    try:
        if (device / "dm/uuid").read_text(encoding="ascii").startswith("CRYPT-"):
            return True
    except (OSError, ValueError):
        pass  # no mapped device, or nothing we may read
    try:
        below = sorted((device / "slaves").iterdir())
    except OSError:
        return False
    # A stripe over several devices is encrypted only when all of them are.
    return depth > 0 and bool(below) and all(_on_crypt(one, depth - 1) for one in below)


def _has_policy(path: Path) -> bool:
    try:
        import array
        import fcntl
    except ImportError:
        return False
    flags = array.array("L", [0])
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return False
    try:
        fcntl.ioctl(fd, _GET_FLAGS, flags, True)
    except OSError:
        return False
    finally:
        os.close(fd)
    return bool(flags[0] & _ENCRYPTED)
