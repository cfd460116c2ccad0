"""What lies beside model directories and leads to nothing known."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.recorded_root import recorded, written

from wanrec.reconcile.disk import Root
from wanrec.reconcile.disk_scan import above, beside
from wanrec.reconcile.engine_beside import report_with_neighbours
from wanrec.reconcile.engine_view import View
from wanrec.reconcile.findings import DriftReport
from wanrec.state.file import FileStore

KNOWN = ("wan22/m@1", "flux/n@2@fp16")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Root]:
    """A root with two families, a model in each, and a wanrec directory."""
    written(tmp_path, {"wan22/m@1/a": b"a", "flux/n@2@fp16/b": b"b", ".wanrec/state.json": b"{}"})
    with Root.open(tmp_path) as root:
        yield root


def strange(disk: Root, known: tuple[str, ...] = KNOWN) -> list[str]:
    """What is found in all folders above what is known."""
    return sorted(beside(disk, sorted(above(known)), known))


def test_folders_above_are_told_once() -> None:
    """The root and every family folder, and no model directory."""
    assert above((*KNOWN, "wan22/o@1")) == {"", "wan22", "flux"}
    assert above(()) == set()


def test_clean_root_has_no_strangers(disk: Root) -> None:
    """Models, `.wanrec`, `lost+found` and empty folders are nothing to tell."""
    (disk.path / "lost+found").mkdir()
    (disk.path / "wan22" / "bare").mkdir()
    assert strange(disk) == []


def test_strangers_are_one_entry_each(disk: Root) -> None:
    """A file or link by its path, a folder once with a final slash, whatever it holds."""
    written(disk.path, {"stray.bin": b"1", "wan22/old@1/deep/x": b"1", "data/a/b": b"1"})
    (disk.path / "flux" / "link").symlink_to("/nowhere")
    (disk.path / "out").symlink_to("/etc")
    os.mkfifo(disk.path / "pipe")
    expected = ["data/", "flux/link", "out", "pipe", "stray.bin", "wan22/old@1/"]
    assert strange(disk) == expected


def test_strange_folder_is_not_walked(disk: Root, monkeypatch: pytest.MonkeyPatch) -> None:
    """A huge unknown tree costs a look at its first entry: nothing below is listed or walked."""
    written(disk.path, {f"huge/{number}/x": b"1" for number in range(5)})
    listed: list[object] = []
    real = os.listdir
    monkeypatch.setattr(os, "listdir", lambda path: listed.append(path) or real(path))
    assert strange(disk) == ["huge/"]
    assert len(listed) == 3  # the root and two families


def test_what_stands_where_a_model_belongs_is_not_a_stranger(disk: Root) -> None:
    """A file at the place of a model directory or family is the planner's business."""
    written(disk.path, {"wan22/late@1": b"file", "third": b"file"})
    assert strange(disk, (*KNOWN, "wan22/late@1", "third/p@1")) == []


@pytest.mark.parametrize(
    ("busy", "told"),
    [("m@1", ("mine", "wan22/new@1/")), ("new@1", ("wan22/m@1/inside",))],
    ids=["recorded", "new"],
)
def test_what_a_live_run_brings_is_not_a_stranger(
    disk: Root, busy: str, told: tuple[str, ...]
) -> None:
    """A directory may be there before its record: until then nothing beside models is told."""
    written(disk.path, {"mine": b"1", "wan22/new@1/a": b"1"})
    places = {"m@1": "wan22/m@1", "n@2[fp16]": "flux/n@2@fp16"}
    view = View(state=recorded(disk.path, places), busy=frozenset({busy}), fresh=False)
    report = DriftReport(checked=1, models=tuple(places), foreign=("wan22/m@1/inside",))
    store = FileStore(disk.path)
    seen = report_with_neighbours(disk, store, view, report, narrowed=False)
    assert set(told) <= set(seen.foreign)
    assert ("mine" in seen.foreign) is (busy == "m@1")
