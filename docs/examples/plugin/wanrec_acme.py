"""The hooks of the plug-in `acme`: loaded on every run, so it imports nothing it may not need."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from wanrec.reconcile.hooks_spec import Veto, Warn, hookimpl

MAX_FETCH = "ACME_MAX_FETCH"


@hookimpl
def wanrec_providers() -> dict[str, str]:
    """Sources of the form zip://ARCHIVE.zip, relative to the spec file."""
    return {"zip": "wanrec_acme_zip:ZipProvider"}


@hookimpl
def wanrec_check_plan(plan: Any) -> Iterator[Veto | Warn]:
    """No plan fetches more than ACME_MAX_FETCH bytes; every delete is pointed out."""
    limit = os.environ.get(MAX_FETCH)
    wanted = plan.summary.bytes_to_fetch
    if limit is not None and wanted > int(limit):
        yield Veto(
            f"the plan fetches {wanted} bytes, {limit} are allowed",
            hint=f"select less, or ask for a higher {MAX_FETCH}",
        )
    if plan.summary.delete:
        yield Warn(f"{plan.summary.delete} files will be deleted")
