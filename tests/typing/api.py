"""The public API as users write it. Only type-checked, never run: `mypy tests/typing`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import assert_type

import wanrec
from wanrec import aio, pipelines
from wanrec.reconcile.actions import ApplyResult, DriftReport, ModelStatus, Plan
from wanrec.reconcile.telemetry import Event


def heard(event: Event) -> None:
    """A progress callback."""


def functions() -> None:
    """What a server calls."""
    assert_type(wanrec.ensure("t2v-A14B@2.2.0", variant="bf16"), Path)
    assert_type(wanrec.ensure("a@1", offline=True, force=True, progress=heard), Path)
    assert_type(wanrec.ensure_many(["a@1", "b@1"], max_concurrent=2), dict[str, Path])
    assert_type(wanrec.status("a@1"), ModelStatus)
    assert_type(wanrec.status("a@1").bytes_needed, int)
    assert_type(wanrec.status("a@1").missing_files, tuple[str, ...])
    assert_type(wanrec.status("a@1").last_verified, str | None)
    assert_type(wanrec.plan("a@1"), Plan)
    assert_type(wanrec.apply(wanrec.plan()), ApplyResult)
    assert_type(wanrec.drift(deep=True), DriftReport)
    assert_type(wanrec.pin("a@1"), str)
    with wanrec.use("a@1") as path:
        assert_type(path, Path)


async def awaiting() -> None:
    """The same, awaited."""
    assert_type(await wanrec.aio.ensure("a@1"), Path)
    assert_type(await aio.ensure_many(["a@1"]), dict[str, Path])
    assert_type(await aio.status("a@1"), ModelStatus)
    assert_type(await aio.apply(await aio.plan("a@1"), progress=heard), ApplyResult)
    assert_type(await aio.drift(deep=True), DriftReport)
    assert_type(await aio.pin("a@1"), str)
    await aio.gc(dry_run=True)
    async with aio.use("a@1") as path:
        assert_type(path, Path)


def loader() -> None:
    """The pipeline loader."""
    paths = wanrec.get_wan_paths("t2v-A14B@2.2.0")
    assert_type(paths, pipelines.PipelinePaths)
    assert_type(paths.components, Mapping[str, Path])
    assert_type(paths["vae"], Path)
    assert_type(paths.pipeline_class, str | None)
    assert_type(Path(paths), Path)
    paths.check_inputs(image=None, frames=81)


def earlier_names() -> None:
    """The earlier orchestrator's."""
    assert_type(wanrec.ModelEnsurer.from_config().ensure("a@1"), Path)
    assert_type(wanrec.ModelEnsurer.from_config(), wanrec.ModelEnsurer)
    assert_type(wanrec.ModelRegistry.from_config().status(), tuple[ModelStatus, ...])
    assert_type(list(wanrec.ModelRegistry()), list[str])
    wanrec.GarbageCollector.from_config().collect(dry_run=True)


def errors() -> None:
    """Every error has a code and an exit code."""
    try:
        wanrec.Engine.from_config(root="/srv/models").ensure("a@1")
    except wanrec.WanrecError as error:
        assert_type(str(error.code), str)
        assert_type(int(error.exit_code), int)
