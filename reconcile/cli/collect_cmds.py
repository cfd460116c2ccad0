"""`validate` and `collect`: they read spec files and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from wanrec.reconcile.cli.options import format_option, global_options, select_options
from wanrec.reconcile.cli.session import Session
from wanrec.reconcile.errors import ExitCode

if TYPE_CHECKING:
    from wanrec.reconcile.errors import FaultGroup
    from wanrec.reconcile.model import Desired

__all__ = ["collect", "validate"]


def _desired(session: Session, options: dict[str, Any]) -> Desired:
    from wanrec.reconcile.engine_specs import collect  # the engine opens roots: not needed
    from wanrec.reconcile.select_args import SelectArgs

    return collect(session.settings(), SelectArgs(**options))


@click.command()
@select_options
@format_option("text", "json")
@global_options
@click.pass_obj
def validate(session: Session, /, fmt: str, **options: Any) -> None:
    """Check specs, lock files, names and policies; no disk, no network."""
    desired = _desired(session, options)
    specs = [source.path for source in desired.sources]
    models = [model for model in desired.models if desired.selection.has_model(model.key)]
    files = sum(len(model.files) for model in models)
    if fmt == "json":
        from wanrec.reconcile.render_state import document

        text = document(valid=True, specs=specs, models=[m.key for m in models], files=files)
    else:
        from wanrec.reconcile.render_words import plural

        chosen = {model.spec for model in models}
        shown = [
            path
            for path in specs
            if path in chosen or not (any(options.values()) or path.endswith(".lock.toml"))
        ]
        counts = (plural(len(models), "model"), plural(files, "file"))
        text = f"Valid: {plural(len(shown), 'spec file')}, {', '.join(counts)}.\n"
    session.write(text)


@click.command()
@select_options
@format_option("text", "json")
@global_options
@click.pass_obj
def collect(session: Session, /, fmt: str, **options: Any) -> int:
    """List the node ids (SPEC::MODEL::PATH) of what is selected.

    Faulty spec files do not hide the others: those are listed, then the faults, and it exits 3.
    With -v, below the first file of each model: the values it has by default, and from where.
    """
    from wanrec.reconcile.render_state import collect_text, document

    ids, faults = _node_ids(session, options)
    origins = _origins(session, ids) if session.verbosity > 0 else None
    if fmt == "json":
        extra: dict[str, Any] = {} if origins is None else {"origins": origins}
        if faults is not None:
            extra["error"] = faults.to_dict()
        session.write(document(node_ids=ids, **extra))
    else:
        session.write(collect_text(ids, origins))
    if faults is None:
        return int(ExitCode.OK)
    session.report(faults, document=False)
    return int(faults.exit_code)


def _node_ids(session: Session, options: dict[str, Any]) -> tuple[list[str], FaultGroup | None]:
    """List what is selected; everything may have been listed by an earlier run."""
    from wanrec.reconcile import engine_listing

    settings = session.settings()
    whole = all(value is None or value == () for value in options.values())
    kept = engine_listing.recall(settings) if whole else None
    if kept is not None:
        return kept, None
    from wanrec.reconcile.desired import node_ids
    from wanrec.reconcile.engine_specs import collect_sound
    from wanrec.reconcile.select_args import SelectArgs

    desired, faults = collect_sound(settings, SelectArgs(**options))
    ids = node_ids(desired)
    if whole and faults is None:
        engine_listing.keep(settings, desired, ids)
    return ids, faults


def _origins(session: Session, ids: list[str]) -> dict[str, tuple[str, ...]]:
    """First node id of each model → where its default values come from."""
    from wanrec.reconcile.collect_origins import model_origins

    project = session.settings().project_dir
    specs: dict[str, dict[str, tuple[str, ...]]] = {}
    found: dict[str, tuple[str, ...]] = {}
    seen = set()
    for node_id in ids:
        spec, key, _ = node_id.split("::", 2)
        if spec not in specs:
            specs[spec] = model_origins(project, spec)
        if (spec, key) not in seen:
            seen.add((spec, key))
            found[node_id] = specs[spec].get(key.partition("[")[0], ())
    return found
