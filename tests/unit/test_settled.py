"""The note of an empty plan: it answers only while nothing at all has changed."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from wanrec.reconcile.engine import ApplyRequest, DriftRequest, Engine, PlanRequest
from wanrec.reconcile.select_args import SelectArgs

EVERYTHING = SelectArgs()


def write_spec(project: Path, source: Path, files: dict[str, bytes]) -> None:
    """Write one model over `files`, which are put into `source` too."""
    lines = [
        "schema_version = 1",
        'family = "test"',
        '[models."m@1".sources]',
        f'priority = ["local://{source}"]',
    ]
    for path, data in files.items():
        (source / path).parent.mkdir(parents=True, exist_ok=True)
        (source / path).write_bytes(data)
        digest = hashlib.sha256(data).hexdigest()
        lines += ['[[models."m@1".files]]', f'path = "{path}"', f"size = {len(data)}"]
        lines.append(f'sha256 = "{digest}"')
    (project / "specs").mkdir(exist_ok=True)
    (project / "specs" / "m.toml").write_text("\n".join(lines) + "\n")


class Home:
    """A project with one applied model whose plan is empty."""

    def __init__(self, place: Path) -> None:
        self.project, self.source = place / "project", place / "source"
        self.root = place / "root"
        self.project.mkdir()
        write_spec(self.project, self.source, {"a.txt": b"one", "sub/b.txt": b"two"})
        request = PlanRequest(create_root=True)
        engine = self.engine()
        engine.apply(engine.plan(EVERYTHING, request), ApplyRequest())
        self.wait_until_settled()

    def engine(self) -> Engine:
        """A new engine, as a new process would make it."""
        return Engine.from_config(self.project, {}, root=self.root)

    def notes(self) -> list[Path]:
        """The notes that lie below the root."""
        return sorted((self.root / ".wanrec" / "cache").glob("settled-*"))

    def wait_until_settled(self) -> None:
        """Plan until the records are older than the present, so that a note can be left."""
        deadline = time.monotonic() + 60
        while not self.notes() and time.monotonic() < deadline:
            assert not self.engine().plan(EVERYTHING)

    def file(self, path: str = "a.txt") -> Path:
        """Where a file of the model lies."""
        return next(self.root.glob(f"test/*/{path}"), None) or next(self.root.rglob(path))


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """An applied root with a note."""
    made = Home(tmp_path)
    assert made.notes()
    return made


@pytest.fixture
def unread(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Makes reading a state an error, so that only the note can answer."""

    def forbid() -> None:
        def refuse(*_: object) -> object:
            raise AssertionError("the state was read")

        monkeypatch.setattr("wanrec.state.codec.decode", refuse)

    return forbid


def test_note_answers_an_unchanged_plan(home: Home, unread: Callable[[], None]) -> None:
    """The noted plan equals the one that was made properly, and no state is read for it."""
    proper = home.engine().plan(EVERYTHING, PlanRequest(create_root=True))
    unread()
    noted = home.engine().plan(EVERYTHING)
    assert (noted.lineage, noted.serial, noted.specs) == (
        proper.lineage,
        proper.serial,
        proper.specs,
    )
    assert noted == type(noted)(
        lineage=proper.lineage, serial=proper.serial, specs=proper.specs, options=noted.options
    )


def test_note_answers_a_clean_drift(home: Home, unread: Callable[[], None]) -> None:
    """The noted drift report equals the one that was made properly."""
    proper = home.engine().drift(DriftRequest(max_age_s=10**6))
    unread()
    assert home.engine().drift() == proper


@pytest.mark.parametrize(
    "request_",
    [DriftRequest(deep=True), DriftRequest(ignore="x"), DriftRequest(max_age_s=9.0)],
    ids=["deep", "ignore", "max_age"],
)
def test_only_the_plain_form_is_noted(
    home: Home, unread: Callable[[], None], request_: DriftRequest
) -> None:
    """Whoever asks for more than a stat of everything gets it."""
    unread()
    with pytest.raises(AssertionError, match="the state was read"):
        home.engine().drift(request_)


def touch(home: Home) -> None:
    """Change only the times of a file."""
    os.utime(home.file(), ns=(1, 1))


def replace(home: Home) -> None:
    """Put other bytes of the same size and mtime in place of a file."""
    file = home.file()
    found = file.stat()
    draft = file.with_name("draft")
    draft.write_bytes(b"eno")
    draft.replace(file)
    os.utime(file, ns=(found.st_atime_ns, found.st_mtime_ns))


def remove(home: Home) -> None:
    """Take a file away."""
    home.file("sub/b.txt").unlink()


def link(home: Home) -> None:
    """Put a link in place of a file."""
    file = home.file()
    file.rename(home.root.parent / "elsewhere")
    file.symlink_to(home.root.parent / "elsewhere")


@pytest.mark.parametrize("damage", [touch, replace, remove, link])
def test_changed_disk_is_looked_at(home: Home, damage: Callable[[Home], None]) -> None:
    """Whatever happens to a file, the plan is as if there were no note."""
    damage(home)
    with_note = home.engine().plan(EVERYTHING)
    for note in home.notes():
        note.unlink()
    assert with_note == home.engine().plan(EVERYTHING)
    assert with_note or with_note.blocked


def test_foreign_file_is_seen(home: Home) -> None:
    """A file that nobody named is still listed."""
    home.file("sub/b.txt").with_name("mine.txt").write_text("x")
    assert [path.rpartition("/")[2] for path in home.engine().plan(EVERYTHING).foreign] == [
        "mine.txt"
    ]
    assert home.engine().drift().foreign


@pytest.mark.parametrize("place", ["stray.bin", "test/stray.bin", "test/old@1/x", "other/x"])
def test_stranger_beside_models_is_seen(home: Home, unread: Callable[[], None], place: str) -> None:
    """Plan and drift list what comes beside models; when it goes, the note answers again."""
    stray = home.root / place
    fresh = not stray.parent.exists()
    stray.parent.mkdir(exist_ok=True)
    stray.write_text("x")
    shown = place.removesuffix("x") if fresh else place
    for _ in range(2):
        assert home.engine().plan(EVERYTHING).foreign == (shown,)
        assert home.engine().drift().foreign == (shown,)
    stray.unlink()
    if fresh:
        stray.parent.rmdir()
    (home.root / "lost+found").mkdir()
    unread()
    assert home.engine().plan(EVERYTHING).foreign == home.engine().drift().foreign == ()


def test_changed_spec_is_read(home: Home) -> None:
    """A spec with one more file is planned, whatever the note says."""
    write_spec(home.project, home.source, {"a.txt": b"one", "sub/b.txt": b"two", "c.txt": b"3"})
    assert [action.path for action in home.engine().plan(EVERYTHING).actions] == ["c.txt"]


@pytest.mark.parametrize("name", ["defaults.toml", "specs/defaults.toml", "specs/m.lock.toml"])
def test_new_file_beside_the_spec_is_read(home: Home, name: str) -> None:
    """Defaults and lock files that were not there count as changes of the specs."""
    (home.project / name).write_text("not TOML")
    with pytest.raises(Exception, match=name):
        home.engine().plan(EVERYTHING)


def test_lost_state_is_told(home: Home) -> None:
    """A note does not stand in for a state."""
    (home.root / ".wanrec" / "state.json").unlink()
    with pytest.raises(Exception, match="state is gone"):
        home.engine().plan(EVERYTHING)
    with pytest.raises(Exception, match="state is gone"):
        home.engine().drift()


@pytest.mark.parametrize("content", [b"", b"[", b"[1,2]", b"[2,2,3,4,5,6,[],8]", b"\xff" * 99])
def test_damaged_note_is_no_note(home: Home, content: bytes) -> None:
    """Any bytes in its place are passed over, and replaced by a good note."""
    (note,) = home.notes()
    good = note.read_bytes()
    note.write_bytes(content)
    assert not home.engine().plan(EVERYTHING)
    assert home.engine().drift().checked == 2
    assert note.read_bytes() == good
