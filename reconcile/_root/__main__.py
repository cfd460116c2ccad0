"""``python -m wanrec``: the same program as the ``wanrec`` script."""

from __future__ import annotations

import sys

from wanrec.reconcile.cli import main

if __name__ == "__main__":
    sys.exit(main())
