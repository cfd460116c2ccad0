"""Faults of specs: whatever stage finds them, one run tells them all, each with its own line."""

from __future__ import annotations

from support.program import Program

SPEC = """\
schema_version = 1
familly = "x"

[models."a@1.0.0"]
requires = ["b@1.0.0"]
sources = ["ftp://host/a"]
[[models."a@1.0.0".files]]
path = "../escapes.txt"
size = 1
sha256 = "00"

[models."b@1.0.0"]
description = "sound but for what it requires"
requires = ["a@1.0.0", "nobody@1.0.0"]
sources = ["local://m"]
[[models."b@1.0.0".files]]
path = "b.txt"
size = 1
sha256 = "%s"
""" % ("a" * 64)
OTHER = """\
schema_version = 1
[models."c@1.0.0"]
sources = ["gopher://host/c"]
[[models."c@1.0.0".files]]
path = "c.txt"
size = 1
sha256 = "%s"
""" % ("c" * 64)


def told(wanrec: Program, *args: str) -> set[str]:
    """``FILE:LINE AT CODE`` of every fault of one run."""
    refused = wanrec.run("validate", "--format", "json", *args)
    assert refused.exit == 3
    faults = refused.json()["error"]["faults"]
    return {f"{fault['file']}:{fault['line']} {fault['at']} {fault['code']}" for fault in faults}


def test_one_run_tells_the_faults_of_every_stage(wanrec: Program) -> None:
    """A misspelt key hides neither a circle, an unknown requirement nor a source of no kind."""
    wanrec.write("specs/a.toml", SPEC)
    wanrec.write("specs/c.toml", OTHER)
    assert told(wanrec) == {
        "specs/a.toml:2 familly INVALID_MANIFEST",
        'specs/a.toml:5 models."a@1.0.0".requires INVALID_MANIFEST',
        'specs/a.toml:6 models."a@1.0.0".sources INVALID_MANIFEST',
        'specs/a.toml:8 models."a@1.0.0".files[0].path UNSAFE_PATH',
        'specs/a.toml:10 models."a@1.0.0".files[0].sha256 INVALID_MANIFEST',
        'specs/a.toml:14 models."b@1.0.0".requires MODEL_NOT_FOUND',
        'specs/c.toml:3 models."c@1.0.0".sources INVALID_MANIFEST',
    }
    assert told(wanrec, "specs/c.toml") == {
        'specs/c.toml:3 models."c@1.0.0".sources INVALID_MANIFEST'
    }


def test_a_spec_that_cannot_be_read_hides_what_others_require(wanrec: Program) -> None:
    """What a torn spec declares is not known: nobody is blamed for requiring it."""
    wanrec.write("specs/b.toml", SPEC.replace('familly = "x"', "").replace("nobody", "torn"))
    wanrec.write("specs/torn.toml", '[models."torn@1.0.0"\n')
    assert not [fault for fault in told(wanrec) if fault.endswith("MODEL_NOT_FOUND")]


def test_a_source_of_another_spec_stops_nobody(wanrec: Program) -> None:
    """A bad source is a fault of the runs that its spec takes part in, and of no others."""
    wanrec.write("specs/c.toml", OTHER)
    wanrec.write("specs/d.toml", OTHER.replace("gopher://host/c", "local://m").replace("c@", "d@"))
    wanrec.ok("validate", "specs/d.toml")
    wanrec.write(
        "specs/d.toml",
        OTHER.replace("c@", "d@")
        .replace("sources", "requires")
        .replace("gopher://host/c", "c@1.0.0")
        .replace('[[models."d', 'sources = ["local://m"]\n[[models."d'),
    )
    assert told(wanrec, "specs/d.toml") == {
        'specs/c.toml:3 models."c@1.0.0".sources INVALID_MANIFEST'
    }
