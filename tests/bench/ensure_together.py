"""Ask for one absent model in several processes at the same moment; ends when all have its path.

    python ensure_together.py COUNT MODEL

The root is MODELS_ROOT, the specs are those of the working directory. The processes are forked
from one that has imported everything, as a preloading server does, so that what is measured is
the call and not sixteen starts of the interpreter.
"""

from __future__ import annotations

import os
import sys

import wanrec


def main(count: int, model: str) -> int:
    """Fork, let all of them go at once, and wait; how many failed."""
    wanrec.status(model)
    gate, opener = os.pipe()
    children = [_child(gate, opener, model) for _ in range(count)]
    os.close(opener)  # what all of them are waiting for
    return sum(os.waitpid(child, 0)[1] != 0 for child in children)


def _child(gate: int, opener: int, model: str) -> int:
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        os.close(opener)
        os.read(gate, 1)
        status = 0 if wanrec.ensure(model).is_dir() else 1
    finally:
        os._exit(status)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2]))
