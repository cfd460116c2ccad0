"""Collection: which spec files a run reads, what applies to them, and what stops it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from wanrec.reconcile.collect import Collection, collect, load
from wanrec.reconcile.collect_find import find_specs
from wanrec.reconcile.errors import ErrorCode, FaultGroup, WanrecError

DIGEST = "ab" * 32


def spec(model: str = "a@1", extra: str = "", top: str = "") -> str:
    """A sound spec of one model with one file."""
    return (
        f'schema_version = 1\n{top}\n[models."{model}"]\nsources = ["local://m"]\n{extra}\n'
        f'files = [{{path = "x.json", size = 1, sha256 = "{DIGEST}"}}]\n'
    )


def write(folder: Path, files: dict[str, str]) -> None:
    """Write text files below a folder."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def paths(collection: Collection) -> list[str]:
    """The specs of a collection."""
    return [manifest.path for manifest in collection.manifests]


def test_specs_of_a_project(tmp_path: Path) -> None:
    """specs/**/*.toml, in order, without lock files, defaults and hidden files."""
    write(
        tmp_path,
        {
            "specs/b.toml": spec("b@1"),
            "specs/sub/a.toml": spec("a@1"),
            "specs/sub/a.lock.toml": "schema_version = 1\n",
            "specs/defaults.toml": "[defaults]\n",
            "specs/.hidden.toml": "broken",
            "specs/.git/x.toml": "broken",
            "specs/notes.md": "text",
            "other/c.toml": "broken",
        },
    )
    found = collect(tmp_path)
    assert paths(found) == ["specs/b.toml", "specs/sub/a.toml"]
    assert [source.path for source in found.sources] == [
        "specs/b.toml",
        "specs/defaults.toml",
        "specs/sub/a.lock.toml",
        "specs/sub/a.toml",
    ]
    assert list(found.locks) == ["specs/sub/a.toml"]


def test_spec_paths(tmp_path: Path) -> None:
    """spec_paths holds folders, files and globs; a file found twice is read once."""
    write(tmp_path, {"m/a.toml": spec("a@1"), "m/n/b.toml": spec("b@1"), "c.toml": spec("c@1")})
    found = collect(tmp_path, spec_paths=("m", "m/*.toml", "c.toml", "none"))
    assert paths(found) == ["c.toml", "m/a.toml", "m/n/b.toml"]
    assert paths(collect(tmp_path, spec_paths=("**/b.toml",))) == ["m/n/b.toml"]
    write(tmp_path, {"pyproject.toml": "", "wanrec.toml": ""})
    assert paths(collect(tmp_path, spec_paths=(".",))) == ["c.toml", "m/a.toml", "m/n/b.toml"]


def test_manifest_variable(tmp_path: Path) -> None:
    """WAN_MODELS_MANIFEST takes the place of the spec folders, a file or a folder."""
    write(tmp_path, {"specs/a.toml": "broken", "x/b.toml": spec("b@1")})
    assert paths(collect(tmp_path, manifest="x/b.toml")) == ["x/b.toml"]
    assert paths(collect(tmp_path, manifest=str(tmp_path / "x"))) == ["x/b.toml"]
    with pytest.raises(WanrecError, match="WAN_MODELS_MANIFEST") as caught:
        collect(tmp_path, manifest="none.toml")
    assert caught.value.code is ErrorCode.MISSING_MANIFEST


@pytest.mark.parametrize(
    ("word", "problem"),
    [
        (None, "no spec file found in specs"),
        ("none.toml", "no spec file none.toml"),
        ("none.toml::a@1", "no spec file none.toml"),
        ("no/folder", "no spec file no/folder"),
        ("empty", "the folder empty holds no spec file"),
        ("x.lock.toml", "is a lock file"),
        ("defaults.toml", "holds defaults"),
    ],
)
def test_no_spec_file(tmp_path: Path, word: str | None, problem: str) -> None:
    """A missing spec is MISSING_MANIFEST and says what to do."""
    write(tmp_path, {"x.lock.toml": "", "defaults.toml": "", "empty/notes.md": ""})
    with pytest.raises(WanrecError, match=problem) as caught:
        collect(tmp_path, (word,) if word else ())
    assert caught.value.code is ErrorCode.MISSING_MANIFEST
    assert caught.value.hint


def test_words(tmp_path: Path) -> None:
    """Words that name specs are told from models; relative ones start at the working directory."""
    write(tmp_path, {"specs/a.toml": spec("a@1"), "specs/in/b.toml": spec("b@1")})
    found = find_specs(
        tmp_path, ("b.toml::b@1", "b@1", "name", "b@1::x"), cwd=tmp_path / "specs" / "in"
    )
    assert found.words == {"b.toml": ("specs/in/b.toml",)}
    assert found.named is None
    from_root = find_specs(tmp_path, ("specs/in",), cwd=tmp_path / "specs" / "in")
    assert from_root.words == {"specs/in": ("specs/in/b.toml",)}
    assert from_root.named == from_root.given == {"specs/in/b.toml"}
    assert [file.path for file in from_root.files] == ["specs/a.toml", "specs/in/b.toml"]


def test_guests(tmp_path: Path) -> None:
    """A named spec outside the project's spec folders is a guest; its path may start with ../."""
    project = tmp_path / "project"
    write(project, {"specs/a.toml": spec("a@1")})
    write(tmp_path, {"b.toml": spec("b@1")})
    found = find_specs(project, (str(tmp_path / "b.toml"), "specs/a.toml"))
    assert found.guests == {"../b.toml"}
    assert found.given == {"../b.toml", "specs/a.toml"}


def test_defaults_cascade(tmp_path: Path) -> None:
    """The nearest defaults.toml wins, a spec's own [defaults] over it, the model over all."""
    write(
        tmp_path,
        {
            "defaults.toml": 'family = "top"\n[defaults]\nmarks = ["top"]\nprotect = true\n',
            "specs/defaults.toml": '[defaults]\nmarks = ["mid"]\npipeline = "P"\n',
            "specs/sub/defaults.toml": '[defaults]\nmarks = ["near"]\n',
            "specs/sub/a.toml": spec("a@1"),
            "specs/sub/b.toml": spec("b@1", top='[defaults]\nmarks = ["own"]'),
            "specs/sub/c.toml": spec("c@1", 'marks = ["model"]', '[defaults]\nmarks = ["own"]'),
            "specs/d.toml": spec("d@1", "protect = false"),
        },
    )
    found = {decl.id: decl for manifest in collect(tmp_path).manifests for decl in manifest.models}
    assert {name: decl.marks for name, decl in found.items()} == {
        "a@1": ("near",),
        "b@1": ("own",),
        "c@1": ("model",),
        "d@1": ("mid",),
    }
    assert [decl.protect for decl in found.values()] == [False, True, True, True]
    assert {decl.family for decl in found.values()} == {"top"}
    assert found["a@1"].facts["pipeline"] == "P"


def test_all_faults_of_all_files(tmp_path: Path) -> None:
    """One run tells the faults of every spec, lock and defaults file, each once."""
    write(
        tmp_path,
        {
            "specs/a.toml": spec("a@1", "sise = 1\nmark = 2"),
            "specs/b.toml": "schema_version = 2",
            "specs/c.toml": spec("c@1"),
            "specs/c.lock.toml": "schema_version =",
            "specs/d.toml": spec("d@1"),
            "specs/defaults.toml": "[defaults]\nfamly = 1\n",
        },
    )
    with pytest.raises(FaultGroup) as caught:
        collect(tmp_path)
    told = [(fault.file, fault.code) for fault in caught.value.faults]
    invalid = ErrorCode.INVALID_MANIFEST
    assert told == [
        ("specs/a.toml", invalid),
        ("specs/a.toml", invalid),
        ("specs/b.toml", ErrorCode.SCHEMA_VERSION_MISMATCH),
        ("specs/c.lock.toml", invalid),
        ("specs/defaults.toml", invalid),
    ]


def test_faults_of_unnamed_specs_do_not_stop(tmp_path: Path) -> None:
    """Who names a sound spec is not stopped by another one; without names, any fault stops."""
    write(tmp_path, {"specs/a.toml": spec("a@1"), "specs/b.toml": "broken"})
    found = collect(tmp_path, ("specs/a.toml",))
    assert paths(found) == ["specs/a.toml"]
    assert list(found.problems) == ["specs/b.toml"]
    for words in ((), ("a@1",), ("specs/b.toml",), ("specs/a.toml", "a@1")):
        with pytest.raises(FaultGroup, match=r"specs/b\.toml:1: not TOML"):
            collect(tmp_path, words)


def test_unreadable_files(tmp_path: Path) -> None:
    """A spec that is a pipe or a folder is a fault beside the others, and never blocks."""
    write(tmp_path, {"specs/a.toml": spec("a@1"), "specs/b.toml": "broken"})
    os.mkfifo(tmp_path / "specs" / "a.lock.toml")
    with pytest.raises(FaultGroup) as caught:
        collect(tmp_path)
    assert str(caught.value.faults[0]) == ("specs/a.lock.toml: cannot be read: not a regular file")
    assert len(caught.value.faults) == 2


def test_reader_is_exchangeable(tmp_path: Path) -> None:
    """What cannot be read has the code that fits, file by file."""
    write(tmp_path, {"specs/a.toml": spec("a@1"), "specs/b.toml": spec("b@1")})

    def read(path: Path) -> bytes:
        if path.name == "a.toml":
            raise PermissionError(13, "Permission denied")
        if path.name == "b.toml":
            raise FileNotFoundError(2, "No such file or directory")
        if path.name == "defaults.toml":
            raise OSError(5, "Input/output error")
        raise FileNotFoundError(2, "")

    with pytest.raises(FaultGroup) as caught:
        load(tmp_path, find_specs(tmp_path), read)
    assert {fault.file: fault.code for fault in caught.value.faults} == {
        "specs/a.toml": ErrorCode.PERMISSION_DENIED,
        "specs/b.toml": ErrorCode.MISSING_MANIFEST,
        "defaults.toml": ErrorCode.FILESYSTEM_ERROR,
        "specs/defaults.toml": ErrorCode.FILESYSTEM_ERROR,
    }
