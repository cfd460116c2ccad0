"""What the file system under a root can do: tried out, not guessed from its name.

Probes make short-lived files in a folder the caller names (below `.wanrec`) and remove them
again; they answer True or False and raise only what stops any work there. `fs_type` is for
messages and for the file systems whose locks are known to lie.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from wanrec.reconcile import disk_linux
from wanrec.reconcile.disk import Root
from wanrec.reconcile.disk_errors import os_errno, translated
from wanrec.reconcile.disk_paths import WANREC_DIR
from wanrec.reconcile.errors import WanrecError
from wanrec.reconcile.facts import EntryKind

__all__ = [
    "PROBE_FOLDER",
    "fs_type",
    "is_network_fs",
    "probe_case_insensitive",
    "probe_exchange",
    "probe_links",
    "probe_reflink",
    "same_mount",
]

PROBE_FOLDER = f"{WANREC_DIR}/cache"
_NETWORK = frozenset(
    {
        *("nfs", "nfs4", "cifs", "smb2", "smb3", "smbfs", "lustre", "9p", "gpfs", "afs", "beegfs"),
        *("fuse.sshfs", "fuse.glusterfs", "fuse.s3fs", "fuse.gcsfuse", "fuse.rclone"),
    }
)


def probe_links(root: Root, folder: str = PROBE_FOLDER) -> bool:
    """True when two names can share one file."""
    with _names(root, folder) as (a, b):
        os.close(root.create(a))
        return root.link(a, b) and root.stat(a).ino == root.stat(b).ino


def probe_exchange(root: Root, folder: str = PROBE_FOLDER) -> bool:
    """True when two folders can be exchanged in one step."""
    with _names(root, folder) as (a, b):
        root.make_dirs(a, 0o700)
        root.make_dirs(b, 0o700)
        return root.exchange(a, b)


def probe_case_insensitive(root: Root, folder: str = PROBE_FOLDER) -> bool:
    """True when `NAME` and `name` are the same file."""
    with _names(root, folder) as (a, _):
        os.close(root.create(a))
        head, _, name = a.rpartition("/")
        return root.exists(f"{head}/{name.upper()}")


def probe_reflink(root: Root, folder: str = PROBE_FOLDER) -> bool:
    """True when a copy can share blocks with its source."""
    with _names(root, folder) as (a, b):
        first = root.create(a)
        try:
            second = root.create(b)
            try:
                with translated(a, "write"):
                    os.write(first, b"\0" * 4096)
                    return disk_linux.reflink(first, second)
            finally:
                os.close(second)
        finally:
            os.close(first)


def same_mount(root: Root, a: str, b: str) -> bool:
    """True when entries can be renamed between two existing folders; touches nothing.

    A rename of a name that does not exist fails for the name only after the kernel has compared
    the mounts, so a bind mount on the same device is told apart too.

    Raises:
        WanrecError: READ_ONLY, PERMISSION_DENIED, … when no rename can work there at all.
    """
    ghost = f".probe-{os.urandom(8).hex()}"
    try:
        root.rename(_below(a, ghost), _below(b, ghost))
    except WanrecError as error:
        code = os_errno(error)
        if code == errno.ENOENT:
            return True
        if code == errno.EXDEV:
            return False
        raise
    return True


def fs_type(path: Path) -> str:
    """Name of the file system that holds `path` (`ext4`, `nfs4`, `fuse.sshfs`), else `""`."""
    try:
        with open("/proc/self/mountinfo", "rb") as handle:
            lines = handle.read().splitlines()
    except OSError:
        return ""
    target = os.fsencode(os.path.realpath(path)).rstrip(b"/") + b"/"
    best, found = -1, b""
    for line in lines:
        before, _, after = line.partition(b" - ")
        fields = before.split()
        if len(fields) < 5 or not after:
            continue
        place = _unescaped(fields[4]).rstrip(b"/") + b"/"
        # A later mount hides an earlier one at the same place.
        if target.startswith(place) and len(place) >= best:
            best, found = len(place), after.split()[0]
    return found.decode("ascii", "replace")


def is_network_fs(kind: str) -> bool:
    """True for file systems whose locks or inode numbers wanrec does not rely on unasked."""
    return kind in _NETWORK


@contextlib.contextmanager
def _names(root: Root, folder: str) -> Iterator[tuple[str, str]]:
    root.make_dirs(folder)
    stem = _below(folder, f"probe-{os.urandom(8).hex()}")
    names = (f"{stem}-a", f"{stem}-b")
    try:
        yield names
    finally:
        for name in names:
            if root.stat(name).kind is EntryKind.DIRECTORY:
                root.rmdir(name)
            else:
                root.unlink(name, missing_ok=True)


def _below(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder not in ("", ".") else name


def _unescaped(field: bytes) -> bytes:
    """Undo the octal escapes of mountinfo."""
    head, *rest = field.split(b"\\")
    return head + b"".join(bytes([int(part[:3], 8)]) + part[3:] for part in rest)
