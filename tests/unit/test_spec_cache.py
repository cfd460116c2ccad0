"""`spec_cache`: what is kept is what was parsed, and whatever is doubtful is parsed again."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from wanrec.reconcile import desired_expand
from wanrec.reconcile.collect import Collection, load
from wanrec.reconcile.collect_find import find_specs
from wanrec.reconcile.desired import expand_all
from wanrec.reconcile.desired_expanded import Expanded, from_rows, to_rows
from wanrec.reconcile.spec_cache import SpecCache

RICH = """\
schema_version = 1
family = "fam"
[policy]
max_delete = 3
[models."rich@1.0"]
description = "Grüße"
variants = ["fp16", "bf16"]
default_variant = "fp16"
install = ["fp16", "bf16"]
presence = "on-demand"
protect = true
marks = ["gpu(mem=80)", "video"]
requires = ["plain"]
sources = ["local://a/{variant}", "s3://b/c"]
fps = 24.0
defaults = { steps = 40, sizes = [1, 2.5], deep = { on = true } }
moved = [{ from = "old.json", to = "top.json" }]
files = [
  { path = "top.json", size = 1, sha256 = "%(a)s" },
  { path = "vae/x.json", size = 0, sha256 = "%(a)s", component = "other", optional = true },
  { path = "w.bin", size = 7, sha256 = "%(a)s", variant = "bf16", allow_pickle = "ours" },
  { path = "w.txt", size = 7, sha256 = "%(a)s", variant = "fp16", source_path = "far/w" },
]
[models."plain@2"]
sources = ["local://plain"]
files = [{ path = "p/q.json", size = 9, sha256 = "%(b)s" }]
[[removed]]
model = "gone@1"
delete = false
""" % {"a": "a" * 64, "b": "b" * 64}  # noqa: UP031 - braces are the spec's own
PLAIN = """\
schema_version = 1
[models."m%d@1"]
sources = ["local://m"]
files = [{ path = "f.json", size = 1, sha256 = "%s" }]
meta = { note = "%s" }
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project that is worth a cache."""
    top = tmp_path / "project"
    (top / "specs/sub").mkdir(parents=True)
    (top / "specs/defaults.toml").write_text('[defaults]\nmarks = ["far"]\n')
    (top / "specs/rich.toml").write_text(RICH)
    for number in range(8):
        text = PLAIN % (number, "c" * 64, "x" * 6000)
        (top / f"specs/sub/m{number}.toml").write_text(text)
    return top


def read(project: Path, folder: Path | None) -> tuple[Collection, list[Expanded]]:
    """One run over the project."""
    cache = SpecCache(folder, str(project))
    collection = load(project, find_specs(project), recall=cache.recall)
    specs = expand_all(collection)
    cache.keep(collection.keys, specs, collection.size)
    return collection, specs


def test_rows_lose_nothing(project: Path) -> None:
    """Rows through JSON give the spec back: every key, every type, shared files still shared."""
    _, specs = read(project, None)
    for spec in specs:
        again = from_rows(spec.path, json.loads(json.dumps(to_rows(spec))))
        assert again == spec
        assert repr(again) == repr(spec)  # lists stay lists, floats floats
    rich = next(spec for spec in specs if spec.path == "specs/rich.toml")
    again = from_rows(rich.path, json.loads(json.dumps(to_rows(rich))))
    first, second = (model for model in again.models if model.id == "rich@1.0")
    assert first.files[0] is second.files[0]


def test_known_specs_are_not_parsed(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second run parses nothing and comes to the same, digests of all sources included."""
    first, wanted = read(project, tmp_path / "cache")
    assert first.recalled == {}

    def parsed(*_: object) -> None:
        raise AssertionError("parsed again")

    monkeypatch.setattr(desired_expand, "expand", parsed)
    second, specs = read(project, tmp_path / "cache")
    assert specs == wanted
    assert (second.manifests, second.sources) == ((), first.sources)


@pytest.mark.parametrize(
    ("path", "text", "parsed"),
    [
        ("specs/sub/m3.toml", PLAIN % (3, "d" * 64, "y"), ["specs/sub/m3.toml"]),
        ("specs/sub/defaults.toml", '[defaults]\nmarks = ["near"]\n', "all of sub"),
        ("specs/defaults.toml", "", "all"),
        ("specs/sub/m4.lock.toml", "schema_version = 1\n", ["specs/sub/m4.toml"]),
        ("specs/new.toml", PLAIN % (9, "e" * 64, "z"), ["specs/new.toml"]),
    ],
)
def test_what_changed_is_parsed(
    project: Path, tmp_path: Path, path: str, text: str, parsed: str | list[str]
) -> None:
    """A changed, added or emptied spec, lock or defaults file is parsed, and only what it is of."""
    read(project, tmp_path / "cache")
    (project / path).write_text(text)
    collection, specs = read(project, tmp_path / "cache")
    everything = [spec.path for spec in specs]
    below = [name for name in everything if name.startswith("specs/sub/")]
    expected = {"all": everything, "all of sub": below}.get(str(parsed), parsed)
    assert [manifest.path for manifest in collection.manifests] == expected
    assert specs == read(project, None)[1]
    assert read(project, tmp_path / "cache")[0].manifests == ()


def test_faults_are_told_again(project: Path, tmp_path: Path) -> None:
    """A spec with a fault is never kept, nor is one that cannot be expanded."""
    (project / "specs/sub/m1.toml").write_text(
        'schema_version = 1\n[models."m1@1"]\nsources = ["local://m"]\n'
    )
    for _ in range(2):
        collection, specs = read(project, tmp_path / "cache")
        assert [spec.path for spec in specs if spec.faults] == ["specs/sub/m1.toml"]
    assert [manifest.path for manifest in collection.manifests] == ["specs/sub/m1.toml"]


def _forged(data: bytes) -> bytes:
    """Another digest of the same file, rightly sealed: only permissions keep it out."""
    body = data[64:].replace(b"b" * 64, b"f" * 64)
    return hashlib.sha256(body).hexdigest().encode() + body


def _sealed(body: bytes) -> Callable[[bytes], bytes]:
    return lambda data: hashlib.sha256(body).hexdigest().encode() + body


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[:-1],
        lambda data: data.replace(b"b" * 64, b"f" * 64),
        lambda data: b"0" * len(data),
        _sealed(b"[[]]"),
        _sealed(b"null"),
        _sealed(b"\xff"),
        _sealed(b"[" * 100_000),
    ],
)
def test_what_is_torn_is_not_believed(
    project: Path, tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    """A cut, altered or emptied file is as good as none, and is replaced."""
    _, wanted = read(project, tmp_path / "cache")
    (kept,) = (tmp_path / "cache").iterdir()
    kept.write_bytes(damage(kept.read_bytes()))
    collection, specs = read(project, tmp_path / "cache")
    assert len(collection.manifests) == len(specs)
    assert specs == wanted
    assert read(project, tmp_path / "cache")[0].manifests == ()


def test_rows_of_another_kind_are_not_believed(project: Path, tmp_path: Path) -> None:
    """What is sealed rightly but holds no rows is parsed again."""
    read(project, tmp_path / "cache")
    (kept,) = (tmp_path / "cache").iterdir()
    mark, specs = json.loads(kept.read_bytes()[64:])
    for number, path in enumerate(sorted(specs)):
        specs[path][1] = [None, 1, [], {}, "x", [[]] * 7, [[], [], {}, [], {}, [], [[1]]]][
            number % 7
        ]
    body = json.dumps([mark, specs]).encode()
    kept.write_bytes(_sealed(body)(b""))
    collection, found = read(project, tmp_path / "cache")
    assert len(collection.manifests) == len(found)


@pytest.mark.skipif(os.name == "nt", reason="modes and owners of POSIX")
@pytest.mark.parametrize("what", ["file", "folder", "link", "folder link"])
def test_what_others_can_write_is_not_believed(project: Path, tmp_path: Path, what: str) -> None:
    """A file or folder that others may write to, or a link, is passed over."""
    cache = tmp_path / "cache"
    read(project, cache)
    (kept,) = cache.iterdir()
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert stat.S_IMODE(cache.stat().st_mode) == 0o700
    kept.write_bytes(_forged(kept.read_bytes()))
    assert "f" * 64 in str(read(project, cache)[1])  # believed: the user's own
    if what == "file":
        kept.chmod(0o620)
    elif what == "folder":
        cache.chmod(0o777)
    elif what == "link":
        kept.rename(tmp_path / "elsewhere")
        kept.symlink_to(tmp_path / "elsewhere")
    else:
        cache.rename(tmp_path / "elsewhere")
        cache.symlink_to(tmp_path / "elsewhere")
    assert "f" * 64 not in str(read(project, cache)[1])


def test_another_wanrec_wrote_it(project: Path, tmp_path: Path) -> None:
    """What another version, or other parsing code of the same version, kept is parsed again."""
    read(project, tmp_path / "cache")
    (kept,) = (tmp_path / "cache").iterdir()
    (_, version, code), specs = json.loads(kept.read_bytes()[64:])
    for mark in ([1, version + "x", code], [1, version, "0" * 64], [2, version, code]):
        kept.write_bytes(_sealed(json.dumps([mark, specs]).encode())(b""))
        assert read(project, tmp_path / "cache")[0].manifests


def test_no_place_to_keep(project: Path, tmp_path: Path) -> None:
    """A place that cannot be written to, or is no folder, changes nothing."""
    _, wanted = read(project, None)
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file/below", Path("/proc/none/wanrec")):
        assert read(project, folder)[1] == wanted
        assert read(project, folder)[1] == wanted


def test_small_projects_leave_nothing(project: Path, tmp_path: Path) -> None:
    """Specs that are parsed in no time are not kept."""
    for spec in (project / "specs/sub").iterdir():
        spec.unlink()
    read(project, tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_old_projects_make_room(project: Path, tmp_path: Path) -> None:
    """The folder keeps the projects that changed last."""
    cache = tmp_path / "cache"
    cache.mkdir(mode=0o700)
    for number in range(100):
        (cache / f"old{number}").write_text("")
        os.utime(cache / f"old{number}", ns=(number, number))
    read(project, cache)
    left = {path.name for path in cache.iterdir()}
    assert len(left) == 64
    assert "old99" in left
    assert "old10" not in left
