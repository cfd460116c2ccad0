"""The files `init` writes, with every line a newcomer needs and none that must be deleted."""

from __future__ import annotations

import json

__all__ = ["SPEC", "config_text"]

SPEC = """\
# What must lie under the root. `wanrec validate` checks this file, `wanrec plan` shows what
# apply would do. Every key is described in the spec reference; an unknown key is an error.
schema_version = 1

# [policy]
# allow_pickle = false        # .pt .ckpt .bin .pkl run code when they are loaded
# max_delete = 0.5            # a plan that deletes more models than this needs --allow-delete

# One table per model, NAME@VERSION:
#
# [models."my-model@1.0.0"]
# description = "What it is for"
# sources = ["local://../mirror/my-model", "https://example.org/my-model"]
#
# [[models."my-model@1.0.0".files]]
# path = "model.safetensors"
# size = 90868376             # bytes: wc -c FILE
# sha256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"  # sha256sum FILE
"""

_CONFIG = """\
# Settings of this project; the command line and WANREC_* variables win over this file.
# `wanrec config` shows each value and where it came from.
{root}
# project = "my-project"      # name it when several projects share the root
# parallelism = 4
# bwlimit = "50MiB"           # a second
"""


def config_text(root: str | None) -> str:
    """The starter config; `root` is written as it was given."""
    line = (
        '# root = "/srv/models"'
        if root is None
        else f"root = {json.dumps(root, ensure_ascii=False)}"
    )
    return _CONFIG.format(root=line)
