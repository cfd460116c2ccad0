"""`reserving`: the room of a file is there before its bytes, on a disk and in memory."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from wanrec.providers.reserving import reserve

_SHM = Path("/dev/shm")


@pytest.fixture(params=["disk", "memory"])
def file(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[int]:
    """A descriptor of a file that begins with `head`."""
    if request.param == "memory" and not (_SHM.is_dir() and os.access(_SHM, os.W_OK)):
        pytest.skip("no file system in memory here")
    place = tmp_path / "file" if request.param == "disk" else _SHM / f"wanrec-{os.getpid()}"
    fd = os.open(place, os.O_RDWR | os.O_CREAT | os.O_EXCL)
    os.write(fd, b"head")
    yield fd
    os.close(fd)
    place.unlink()


def test_a_file_gets_its_size_and_keeps_its_bytes(file: int) -> None:
    """What was there stays, the rest reads as zeros, and a longer file stays as long as it is."""
    reserve(file, 100_000)
    assert os.fstat(file).st_size == 100_000
    assert os.pread(file, 6, 0) == b"head\0\0"
    reserve(file, 10)
    assert os.fstat(file).st_size == 100_000


def test_more_than_there_is_fails_at_once(file: int) -> None:
    """A file that cannot fit is refused before a byte of it came, and is no longer than before."""
    room = os.fstatvfs(file)
    with pytest.raises(OSError) as caught:
        reserve(file, room.f_blocks * room.f_frsize * 2)
    assert caught.value.errno == errno.ENOSPC
    assert os.fstat(file).st_size == 4
