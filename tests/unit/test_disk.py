"""The door to the root: what it creates, refuses, and leaves behind."""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from wanrec.reconcile import disk_linux, disk_walk
from wanrec.reconcile.disk import Root, identity, os_errno, translate_os_error
from wanrec.reconcile.disk_errors import printable
from wanrec.reconcile.disk_probe import (
    PROBE_FOLDER,
    fs_type,
    is_network_fs,
    probe_case_insensitive,
    probe_exchange,
    probe_links,
    probe_reflink,
    same_mount,
)
from wanrec.reconcile.errors import ErrorCode, WanrecError
from wanrec.reconcile.model import EntryKind, Via


@pytest.fixture(params=["handles", "plain paths"])
def root(
    tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Root]:
    """An open root with one file `m/a` of five bytes, on both kinds of platform."""
    if request.param == "plain paths":
        monkeypatch.setattr(disk_walk, "HAS_DIR_FD", False)
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "a").write_bytes(b"hello")
    with Root.open(tmp_path) as opened:
        yield opened


def mode_of(path: Path) -> int:
    """Permission bits."""
    return stat.S_IMODE(path.lstat().st_mode)


@pytest.fixture
def strict_umask() -> Iterator[None]:
    """A umask that takes everything from others."""
    before = os.umask(0o077)
    yield
    os.umask(before)


@pytest.mark.parametrize(
    ("what", "help_"),
    [
        ("missing", "wanrec init --root {}/missing"),
        ("link", "--root {}/real"),
        ("file", "give --root a directory"),
    ],
)
def test_only_a_folder_is_a_root(tmp_path: Path, what: str, help_: str) -> None:
    """A missing root, a link or a file is refused before anything is touched, and told apart."""
    (tmp_path / "real").mkdir()
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "link").symlink_to("real")
    with pytest.raises(WanrecError) as caught:
        Root.open(tmp_path / what)
    assert caught.value.code is ErrorCode.INVALID_CONFIG
    assert caught.value.hint.startswith(help_.format(tmp_path))


@pytest.mark.parametrize("bad", ["/etc", "../x", "a/../b", "a//b", "a/", "./a", "a\0b", "a/\ud800"])
def test_names_that_lead_elsewhere_are_refused(root: Root, bad: str) -> None:
    """No spelling of a path leaves the root or stands for two places."""
    for use in (root.stat, root.create, root.unlink, root.walk, root.make_dirs):
        with pytest.raises(WanrecError) as caught:
            use(bad)
        assert caught.value.code is ErrorCode.UNSAFE_PATH


def test_stat_tells_what_lies_there(root: Root) -> None:
    """Files, folders, links, things on the way and nothing are told apart, links never followed."""
    (root.path / "out").symlink_to("/etc")
    os.mkfifo(root.path / "pipe")
    kinds = {
        "m/a": EntryKind.FILE,
        "m": EntryKind.DIRECTORY,
        "": EntryKind.DIRECTORY,
        "out": EntryKind.SYMLINK,
        "out/passwd": EntryKind.SYMLINK,
        "m/a/b": EntryKind.OTHER,
        "pipe": EntryKind.OTHER,
        "none": EntryKind.MISSING,
        "none/deeper": EntryKind.MISSING,
    }
    assert {path: root.stat(path).kind for path in kinds} == kinds
    fact = root.stat("m/a")
    real = (root.path / "m" / "a").stat()
    assert (fact.size, fact.mtime_ns, fact.ino, fact.nlink) == (5, real.st_mtime_ns, real.st_ino, 1)


def test_walk_lists_everything_once(root: Root) -> None:
    """A walk names files, links, odd entries and empty folders, and does not follow links."""
    (root.path / "m" / "empty").mkdir()
    (root.path / "m" / "deep" / "er").mkdir(parents=True)
    (root.path / "m" / "deep" / "er" / "f").write_bytes(b"1")
    (root.path / "m" / "loop").symlink_to(".")
    os.mkfifo(root.path / "m" / "pipe")
    found = {path: fact.kind for path, fact in root.walk("m").items()}
    assert found == {
        "a": EntryKind.FILE,
        "deep/er/f": EntryKind.FILE,
        "empty": EntryKind.DIRECTORY,
        "loop": EntryKind.SYMLINK,
        "pipe": EntryKind.OTHER,
    }
    assert root.folders("m") == ("deep", "deep/er", "empty")
    assert root.walk("none") == {}
    assert root.walk("m/loop")[""].kind is EntryKind.SYMLINK


@pytest.mark.usefixtures("strict_umask")
def test_modes_do_not_depend_on_the_umask(root: Root) -> None:
    """New folders and files get the mode that was asked for; existing folders keep theirs."""
    root.make_dirs("m/x/y", 0o755)
    root.write_atomic("m/x/f", b"data", 0o444)
    assert [mode_of(root.path / p) for p in ("m/x", "m/x/y", "m/x/f")] == [0o755, 0o755, 0o444]
    root.make_dirs("m/x/y", 0o700)
    assert mode_of(root.path / "m/x/y") == 0o755
    root.chmod("m/x/f", 0)
    root.chmod("m/x/f", 0o640)
    assert mode_of(root.path / "m/x/f") == 0o640


def test_create_never_takes_what_is_there(root: Root) -> None:
    """A new file is new: an existing name, even a dangling link, is refused."""
    (root.path / "dangling").symlink_to(root.path / "made")
    for path in ("m/a", "dangling"):
        with pytest.raises(WanrecError) as caught:
            root.create(path)
        assert os_errno(caught.value) == errno.EEXIST
    assert not (root.path / "made").exists()


def test_write_atomic_replaces_whole(root: Root) -> None:
    """The new bytes stand under the name, a link there is replaced, no draft stays."""
    (root.path / "l").symlink_to("m/a")
    root.write_atomic("l", b"new")
    root.write_atomic("m/a", b"newer")
    assert (root.path / "l").read_bytes() == b"new"
    assert not (root.path / "l").is_symlink()
    with pytest.raises(WanrecError) as caught:
        root.write_atomic("m", b"x")
    assert caught.value.code is ErrorCode.UNSAFE_PATH
    assert sorted(os.listdir(root.path)) == ["l", "m"]


def test_link_shares_and_says_when_it_cannot(root: Root, monkeypatch: pytest.MonkeyPatch) -> None:
    """A link shares the inode; a refusal of the file system is False, an existing name an error."""
    assert root.link("m/a", "m/b")
    assert root.stat("m/a").ino == root.stat("m/b").ino
    with pytest.raises(WanrecError) as caught:
        root.link("m/a", "m/b")
    assert os_errno(caught.value) == errno.EEXIST
    for code in (errno.EMLINK, errno.EXDEV, errno.EPERM):

        def refuse(*_: object, code: int = code, **__: object) -> None:
            raise OSError(code, os.strerror(code))

        monkeypatch.setattr(os, "link", refuse)
        assert root.link("m/a", "m/c") is False


def test_exchange_swaps_folders_in_one_step(root: Root) -> None:
    """Two folders change places."""
    root.make_dirs("n/inner")
    assert root.exchange("m", "n")
    assert list(root.walk("n")) == ["a"]
    assert list(root.walk("m")) == ["inner"]
    with pytest.raises(WanrecError) as caught:
        root.exchange("m", "none")
    assert os_errno(caught.value) == errno.ENOENT


def test_rename_noreplace_keeps_what_is_there(root: Root, monkeypatch: pytest.MonkeyPatch) -> None:
    """With and without kernel support, a name that is taken is kept."""
    (root.path / "b").write_bytes(b"b")
    assert not root.rename_noreplace("m/a", "b")
    monkeypatch.setattr(disk_linux, "rename_noreplace", lambda *_: False)
    assert not root.rename_noreplace("m/a", "b")
    assert (root.path / "b").read_bytes() == b"b"
    assert root.rename_noreplace("m/a", "c")
    assert not root.exists("m/a")


@pytest.mark.parametrize("ways", ["all", "no reflink", "none"])
def test_copy_is_exact_whatever_the_kernel_offers(
    root: Root, ways: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reflink, in-kernel copy and plain copy give the same bytes."""
    data = os.urandom(3_000_001)
    (root.path / "big").write_bytes(data)
    if ways != "all":
        monkeypatch.setattr(disk_linux, "reflink", lambda *_: False)
    if ways == "none":
        monkeypatch.setattr(disk_linux, "copy_range", lambda *_: False)
    via = root.clone_or_copy("big", "copy", 0o640)
    assert via is Via.COPY or ways == "all"
    assert (root.path / "copy").read_bytes() == data
    root.clone_or_copy("m/a", "small")
    assert (root.path / "small").read_bytes() == b"hello"


def test_failed_copy_leaves_nothing(root: Root, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy that breaks removes its beginning and names the file."""

    def full(*_: int) -> bool:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(disk_linux, "reflink", full)
    with pytest.raises(WanrecError) as caught:
        root.clone_or_copy("m/a", "m/b")
    assert caught.value.code is ErrorCode.NO_SPACE
    assert caught.value.where == "m/b"
    assert os.listdir(root.path / "m") == ["a"]


def test_remove_tree_takes_only_what_it_was_told(root: Root) -> None:
    """By recorded identity: an entry that is new, or no longer the same, stays with its folders."""
    (root.path / "m" / "sub").mkdir()
    for name in ("sub/kept", "changed"):
        (root.path / "m" / name).write_bytes(b"1")
    known = {path: identity(fact) for path, fact in root.walk("m").items()}
    del known["sub/kept"]
    (root.path / "m" / "changed").write_bytes(b"22")
    assert root.remove_tree("m", known) == ("changed", "sub/kept")
    assert sorted(root.walk("m")) == ["changed", "sub/kept"]
    assert root.remove_tree("m") == ()
    assert root.remove_tree("m") == ()
    assert not root.exists("m")


def test_remove_tree_does_not_follow_links(
    root: Root, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A link inside goes, what it points to stays; a link as the tree itself is refused."""
    outside = tmp_path_factory.mktemp("outside")
    (outside / "precious").write_bytes(b"1")
    (root.path / "m" / "out").symlink_to(outside)
    (root.path / "alias").symlink_to(outside)
    assert root.remove_tree("m") == ()
    with pytest.raises(WanrecError) as caught:
        root.remove_tree("alias")
    assert caught.value.code is ErrorCode.UNSAFE_PATH
    assert (outside / "precious").exists()


def test_small_steps(root: Root) -> None:
    """Flushing, measuring and removing do what they say, also where nothing is yet."""
    root.fsync_file("m/a")
    root.fsync_dir("m")
    root.fsync_dir()
    assert root.free_bytes("not/there/yet") > 0
    assert root.device("not/there/yet") == root.device("m") == root.path.stat().st_dev
    assert root.rmdir("m") is False
    assert root.rmdir("none") is False
    root.unlink("m/a")
    root.unlink("m/a", missing_ok=True)
    with pytest.raises(WanrecError):
        root.unlink("m/a")
    assert root.rmdir("m") is True


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("ENOSPC", ErrorCode.NO_SPACE),
        ("EDQUOT", ErrorCode.NO_SPACE),
        ("EFBIG", ErrorCode.NO_SPACE),
        ("EACCES", ErrorCode.PERMISSION_DENIED),
        ("EPERM", ErrorCode.PERMISSION_DENIED),
        ("EROFS", ErrorCode.READ_ONLY),
        ("EMFILE", ErrorCode.TOO_MANY_FILES),
        ("ENFILE", ErrorCode.TOO_MANY_FILES),
        ("EBUSY", ErrorCode.IN_USE),
        ("ETXTBSY", ErrorCode.IN_USE),
        ("ELOOP", ErrorCode.UNSAFE_PATH),
        ("ENOTDIR", ErrorCode.UNSAFE_PATH),
        ("ENAMETOOLONG", ErrorCode.PATH_TOO_LONG),
        ("EIO", ErrorCode.FILESYSTEM_ERROR),
        ("EXDEV", ErrorCode.FILESYSTEM_ERROR),
    ],
)
def test_errors_are_translated(code: str, expected: ErrorCode) -> None:
    """Each errno has one code, a path that is safe to print, and a hint."""
    number = getattr(errno, code)
    error = translate_os_error(OSError(number, os.strerror(number)), "m/\x1b[31mx", "write")
    assert error.code is expected
    assert error.where == r"m/\x1b[31mx"
    assert error.hint
    assert os_errno(error) == number


def test_printable_keeps_ordinary_names() -> None:
    """Emoji and accents stay, control and bidi characters and stray bytes do not."""
    assert printable("modèle 🐻") == "modèle 🐻"
    assert printable("a\nb\u202ec\udcff") == r"a\nb\u202ec\udcff"


def test_probes_answer_and_leave_nothing(root: Root) -> None:
    """Probes know this file system and clean up after themselves."""
    assert probe_links(root)
    assert probe_exchange(root)
    assert not probe_case_insensitive(root)
    assert probe_reflink(root) in (True, False)
    assert same_mount(root, "m", "")
    assert root.walk(PROBE_FOLDER) == {}
    assert list(root.walk("m")) == ["a"]


def test_file_system_is_named() -> None:
    """The file system of a path is found by its mount, and network ones are known."""
    assert fs_type(Path("/proc/self")) == "proc"
    assert fs_type(Path("/")) != ""
    assert [is_network_fs(kind) for kind in ("nfs4", "cifs", "9p", "lustre", "ext4", "")] == [
        *([True] * 4),
        *([False] * 2),
    ]


def test_same_mount_sees_another_file_system(tmp_path: Path) -> None:
    """A folder on another file system is told apart without touching either."""
    shm = Path("/dev/shm")
    if not shm.is_dir() or shm.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("no second file system at hand")
    with Root.open(Path("/")) as top:
        assert not same_mount(top, str(tmp_path)[1:], "dev/shm")


def test_no_descriptor_is_lost(root: Root) -> None:
    """Whatever is asked, refused or done, the number of open files stays the same."""
    (root.path / "out").symlink_to("/etc")
    before = len(os.listdir("/proc/self/fd"))
    for path in ("m/a", "out/x", "none/x", "m/a/b", "out", "m"):
        for use in (
            root.stat,
            root.open_read,
            root.create,
            root.unlink,
            root.rmdir,
            root.fsync_dir,
        ):
            try:
                fd = use(path)
            except WanrecError:
                continue
            if type(fd) is int:
                os.close(fd)
    assert len(os.listdir("/proc/self/fd")) == before


def test_threads_share_a_root(root: Root) -> None:
    """Many threads work through one handle without hindering one another."""
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for step in range(40):
                root.write_atomic(f"m/{number}-{step}", b"x")
                root.unlink(f"m/{number}-{step}")
        except BaseException as exc:  # noqa: BLE001  (reported below)
            failures.append(exc)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert list(root.walk("m")) == ["a"]
