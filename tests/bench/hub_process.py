"""A local Hub in a process of its own, so that its memory is not counted as its clients'.

    python hub_process.py REPOSITORY FOLDER [REPOSITORY FOLDER ...]

Prints its address on one line and serves until its standard input ends.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for `support`

from support.hub_server import running_hub


def main(words: list[str]) -> None:
    """Serve each folder as the repository named before it."""
    with running_hub() as server:
        for repository, folder in zip(words[::2], words[1::2], strict=True):
            top = Path(folder)
            files = sorted(path for path in top.rglob("*") if path.is_file())
            server.push(repository, {p.relative_to(top).as_posix(): p.read_bytes() for p in files})
        print(server.url, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main(sys.argv[1:])
