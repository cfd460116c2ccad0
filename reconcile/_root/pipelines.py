"""The pipeline loader; see `wanrec.reconcile.pipelines`."""

from __future__ import annotations

from wanrec.reconcile.pipelines import (
    Lora,
    PipelinePaths,
    Task,
    Vram,
    check_indexes,
    get_wan_paths,
    index_faults,
    load,
    resolve,
    tensor_names,
)

__all__ = [
    "Lora",
    "PipelinePaths",
    "Task",
    "Vram",
    "check_indexes",
    "get_wan_paths",
    "index_faults",
    "load",
    "resolve",
    "tensor_names",
]
