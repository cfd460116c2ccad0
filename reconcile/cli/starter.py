"""The files `init` writes, with every line a newcomer needs and none that must be deleted."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable

__all__ = ["SPEC", "config_text", "model_name", "models_text"]

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


def model_name(url: str) -> str:
    """A model name made of the last part of a source URL."""
    bare = re.split(r"[?#]", url, maxsplit=1)[0].partition("://")[2].rstrip("/")
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", bare.rpartition("/")[2].partition("@")[0])
    return name.strip("-._") or "model"


def models_text(urls: Iterable[str]) -> str:
    """A block for each source URL; the files are the lock file's business."""
    blocks: dict[str, str] = {}
    for url in urls:
        name, more = model_name(url), 1
        while (model := f"{name}{'' if more == 1 else f'-{more}'}@1.0.0") in blocks:
            more += 1
        source = json.dumps(url, ensure_ascii=False)
        blocks[model] = f"\n[models.{json.dumps(model)}]\nsources = [{source}]\n"
    return "".join(blocks.values())
