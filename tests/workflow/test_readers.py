"""A reader that holds one directory of a model while the model is updated under it, again."""

from __future__ import annotations

import subprocess
import sys

from support.faults import MODEL, leftovers, models_on_disk, want
from support.program import Program

from wanrec.reconcile.desired import SelectArgs
from wanrec.reconcile.engine import Engine

UPDATES = 50
VERSIONS = [
    {f"f{n}.txt": f"{version}-{n}".encode() * 300 for n in range(4)}
    | {"deep/g.txt": f"{version}-g".encode(), "same.txt": b"same" * 100}
    for version in "ab"
]

READER = """
import os, sys
home, paths = sys.argv[1], sys.argv[2:]
rounds, seen = 0, set()
print("reading", flush=True)
os.set_blocking(0, False)
while True:
    try:
        if os.read(0, 1) == b"":
            break
    except BlockingIOError:
        pass
    top = os.open(home, os.O_RDONLY | os.O_DIRECTORY)
    kinds = set()
    for path in paths:
        fd = os.open(path, os.O_RDONLY, dir_fd=top)
        data = os.read(fd, 1 << 20)
        os.close(fd)
        if not path.startswith("same"):
            kinds.add(data[:1].decode())
    os.close(top)
    if len(kinds) != 1:
        print("mix", kinds)
        sys.exit(1)
    seen |= kinds
    rounds += 1
print(rounds, "".join(sorted(seen)))
"""


def test_a_reader_never_sees_a_mix(wanrec: Program) -> None:
    """50 updates under a reader: each handle shows one version whole; the user's files are kept."""
    want(wanrec, tiny=VERSIONS[0])
    wanrec.ok("apply", "-y")
    home = wanrec.root / "wan22" / MODEL
    (home / "own.txt").write_bytes(b"mine")
    (home / "deep/own.txt").write_bytes(b"mine too")
    command = [sys.executable, "-c", READER, str(home), *VERSIONS[0]]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as reader:
        assert reader.stdout is not None
        assert reader.stdout.readline() == "reading\n"
        for number in range(1, UPDATES + 1):
            want(wanrec, tiny=VERSIONS[number % 2])
            engine = Engine.from_config(cwd=wanrec.project, environ=wanrec.environment())
            result = engine.apply(engine.plan(SelectArgs()))
            assert result.replaced == 5, result
            assert result.failures == ()
        out, err = reader.communicate(timeout=60)
    assert reader.returncode == 0, f"{out}\n{err}"
    rounds, seen = out.split()
    assert int(rounds) > UPDATES
    assert seen == "ab"
    own = {"own.txt": b"mine", "deep/own.txt": b"mine too"}
    assert models_on_disk(wanrec) == {MODEL: VERSIONS[UPDATES % 2] | own}
    assert leftovers(wanrec) == []
    wanrec.ok("drift", "--deep")
