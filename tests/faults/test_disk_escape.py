"""Nothing outside the root is touched, whatever is put in the way and whenever."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from wanrec.reconcile.disk import Root, os_errno
from wanrec.reconcile.errors import ErrorCode, WanrecError
from wanrec.reconcile.model import EntryKind

ROUNDS = 400


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A tree beside the root that must stay as it is."""
    folder = tmp_path / "outside"
    (folder / "sub").mkdir(parents=True)
    (folder / "f").write_bytes(b"precious")
    (folder / "sub" / "g").write_bytes(b"precious too")
    os.chmod(folder / "f", 0o640)
    return folder


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Root]:
    """An open root with a model folder."""
    (tmp_path / "root" / "m").mkdir(parents=True)
    with Root.open(tmp_path / "root") as opened:
        yield opened


def picture(folder: Path) -> dict[str, object]:
    """Everything about a tree that anybody could have changed."""
    found: dict[str, object] = {}
    for path in sorted([folder, *folder.rglob("*")]):
        st = path.lstat()
        data = path.read_bytes() if stat.S_ISREG(st.st_mode) else sorted(os.listdir(path))
        found[str(path)] = (st.st_mode, st.st_uid, st.st_mtime_ns, st.st_ctime_ns, st.st_ino, data)
    return found


@contextlib.contextmanager
def flickering(root: Root, outside: Path) -> Iterator[None]:
    """Swap the folder `m` for a link to the outside and back, as fast as it goes."""
    real, link = root.path / "m", root.path / "decoy"
    link.symlink_to(outside)
    ended = threading.Event()

    def swap() -> None:
        with Root.open(root.path) as other:
            while not ended.is_set():
                other.exchange("m", "decoy")

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        if real.is_symlink():
            root.exchange("m", "decoy")


def attempts(root: Root) -> list[Callable[[], object]]:
    """Every writing step, aimed at names that exist outside too."""
    return [
        lambda: os.close(root.create("m/new")),
        lambda: root.write_atomic("m/f", b"overwritten", 0o600),
        lambda: root.unlink("m/f"),
        lambda: root.make_dirs("m/sub/made", 0o700),
        lambda: root.chmod("m/f", 0o777),
        lambda: root.chmod("m", 0o755),
        lambda: root.rename("m/f", "m/renamed"),
        lambda: root.rename("seed", "m/f"),
        lambda: root.rename_noreplace("m/sub", "taken"),
        lambda: root.exchange("m/sub", "spare"),
        lambda: root.link("seed", "m/linked"),
        lambda: root.clone_or_copy("seed", "m/copied"),
        lambda: root.rmdir("m/sub"),
        lambda: root.remove_tree("m/sub"),
        lambda: root.fsync_dir("m"),
    ]


def test_racing_link_never_leads_out(root: Root, outside: Path) -> None:
    """A parent that flickers between folder and link: each step lands inside, or is refused."""
    before = picture(outside)
    with flickering(root, outside):
        for _ in range(ROUNDS // 10):
            (root.path / "seed").write_bytes(b"seed")
            (root.path / "spare").mkdir(exist_ok=True)
            for attempt in attempts(root):
                with contextlib.suppress(WanrecError):
                    attempt()
    assert picture(outside) == before


def test_racing_link_is_never_read(root: Root, outside: Path) -> None:
    """Reading through the flickering parent gives the file inside, or a refusal."""
    (root.path / "m" / "f").write_bytes(b"inside")
    refused = read = 0
    with flickering(root, outside):
        for _ in range(ROUNDS):
            try:
                fd = root.open_read("m/f")
            except WanrecError as error:
                assert error.code in (ErrorCode.UNSAFE_PATH, ErrorCode.FILESYSTEM_ERROR)
                refused += 1
                continue
            with open(fd, "rb") as handle:
                assert handle.read() == b"inside"
            read += 1
            fact = root.stat("m/f")  # the link may be gone when it is asked what stood in the way
            assert fact.kind is not EntryKind.FILE or fact.size == len(b"inside")
            assert fact.kind is not EntryKind.DIRECTORY
    assert refused + read == ROUNDS


def test_resting_link_is_refused(root: Root, outside: Path) -> None:
    """A link that simply lies there: UNSAFE_PATH for every way through it, nothing changed."""
    (root.path / "m").rmdir()
    (root.path / "m").symlink_to(outside)
    (root.path / "seed").write_bytes(b"seed")
    (root.path / "spare").mkdir()
    before = picture(outside)
    for attempt in attempts(root):
        with pytest.raises(WanrecError) as caught:
            attempt()
        assert caught.value.code is ErrorCode.UNSAFE_PATH
    for read in (root.open_read, root.create):
        with pytest.raises(WanrecError):
            read("m/f")
    assert root.walk("m")[""].kind is EntryKind.SYMLINK
    assert picture(outside) == before
    assert sorted(os.listdir(root.path)) == ["m", "seed", "spare"]


def a_pipe(path: Path) -> None:
    """A FIFO nobody reads."""
    os.mkfifo(path)


def a_socket(path: Path) -> None:
    """A socket nobody listens on; bound by a relative name, which may not be long."""
    here = os.getcwd()
    os.chdir(path.parent)
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path.name)
    finally:
        os.chdir(here)


def a_device(path: Path) -> None:
    """The null device under another name."""
    try:
        os.mknod(path, 0o600 | stat.S_IFCHR, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("making devices needs root")


@pytest.mark.parametrize("make", [a_pipe, a_socket, a_device, Path.mkdir])
def test_odd_target_is_refused_and_never_blocks(root: Root, make: Callable[[Path], None]) -> None:
    """A pipe, socket, device or folder at the target: refused at once, left as it is."""
    target = root.path / "m" / "x"
    make(target)
    before = target.lstat()
    with pytest.raises(WanrecError) as caught:
        root.open_read("m/x")
    assert caught.value.code is ErrorCode.UNSAFE_PATH
    with pytest.raises(WanrecError) as made:
        root.create("m/x")
    assert os_errno(made.value) is not None
    with pytest.raises(WanrecError):
        root.clone_or_copy("m/x", "m/y")
    assert root.stat("m/x").kind in (EntryKind.OTHER, EntryKind.DIRECTORY)
    now = target.lstat()
    assert (now.st_ino, now.st_mode) == (before.st_ino, before.st_mode)
    assert os.listdir(root.path / "m") == ["x"]


def test_root_that_moves_stays_the_same_root(root: Root, tmp_path: Path) -> None:
    """An opened root is the folder, not the name: a decoy under the old name is not touched."""
    os.rename(root.path, tmp_path / "moved")
    (tmp_path / "root" / "m").mkdir(parents=True)
    root.write_atomic("m/f", b"x")
    assert (tmp_path / "moved" / "m" / "f").exists()
    assert os.listdir(tmp_path / "root" / "m") == []
