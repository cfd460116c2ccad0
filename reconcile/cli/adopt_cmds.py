"""`adopt`: bring in model files that lie somewhere already."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from wanrec.reconcile.cli.options import format_option, global_options, select_options
from wanrec.reconcile.cli.session import Session
from wanrec.reconcile.errors import ExitCode

if TYPE_CHECKING:
    from wanrec.reconcile.adopting import Adopted

__all__ = ["adopt"]

_MEANS = {
    "hard": "the files found will share their inode with the root: who edits one edits both",
    "move": "the files found are moved: they are gone from where they lie",
}


@click.command()
@click.argument("folder", metavar="DIR")
@select_options
@click.option(
    "--link",
    type=click.Choice(["copy", "hard", "move"]),
    default="copy",
    show_default=True,
    help="How files are brought in; copy shares blocks where the disk can.",
)
@click.option("--dry-run", is_flag=True, help="Say what was found and what is missing; no more.")
@click.option("--keep-going", is_flag=True, help="Pass over what cannot be read, with a warning.")
@click.option("--write-spec", metavar="FILE", help="Write a spec and lock of what lies in DIR.")
@format_option("text", "json")
@global_options
@click.pass_obj
def adopt(
    session: Session,
    /,
    folder: str,
    link: str,
    dry_run: bool,
    keep_going: bool,
    write_spec: str | None,
    fmt: str,
    **options: Any,
) -> int:
    """Find what the specs want below DIR, under any name, and bring it in; fetch nothing.

    Files are told by size, then by hash. A model whose files were all found is put in place;
    of the others the found files wait in the stage, and the next apply fetches only the rest.
    Loops of links, sockets, and files that cannot be read or change meanwhile are errors, told
    before anything is written.
    """
    from wanrec.reconcile.adopting import AdoptRequest
    from wanrec.reconcile.adopting import adopt as adopt_files
    from wanrec.reconcile.adopting_take import Link
    from wanrec.reconcile.cli.apply_cmds import exit_of
    from wanrec.reconcile.cli.lock_cmds import ByteCounter
    from wanrec.reconcile.cli.sinks import Warnings, tell_result
    from wanrec.reconcile.desired import SelectArgs

    engine = session.engine()
    if link in _MEANS:
        session.say(f"Note: {_MEANS[link]}.", "warning")
    warn = _warner(session)
    if write_spec is not None:
        from wanrec.reconcile.adopting_spec import write_spec_of

        if dry_run:
            raise click.UsageError("--dry-run writes nothing, and --write-spec does")
        passed = warn if keep_going else None
        session.say(write_spec_of(engine, Path(folder), Path(write_spec), passed))
        options["words"] = (*options["words"], write_spec)

    def announce(found: Adopted) -> None:
        if fmt == "text":
            session.write(_found_text(found))

    request = AdoptRequest(
        folder=Path(folder),
        select=SelectArgs(**options),
        link=Link(link),
        dry_run=dry_run,
        keep_going=keep_going,
        announce=announce,
        warn=warn,
        progress=ByteCounter(session, "Hashed"),
        stop=session.stop,
        sink=Warnings(session),
    )
    session.graceful = True
    try:
        done = adopt_files(engine, request)
    finally:
        session.graceful = False
    if fmt == "json":
        session.write(_as_json(done, dry_run))
    elif done.result is not None:
        tell_result(session, done.result)
    return int(ExitCode.OK) if done.result is None else exit_of(done.result)


def _warner(session: Session) -> Callable[[str], None]:
    return lambda text: session.say(f"Warning: {text}", "warning")


def _found_text(found: Adopted) -> str:
    from wanrec.reconcile.render_words import escaped, human_bytes, plural

    lines = []
    for match in found.matches:
        first, *more = match.addresses
        also = f" and {len(more)} more" if more else ""
        lines.append(f"  @  {first}{also}  {human_bytes(match.size)}  {escaped(match.place)}")
    lines += [
        f"  ?  {address}  {human_bytes(size)}  not found"
        for address, size in sorted(found.missing.items())
    ]
    size = human_bytes(sum(match.size for match in found.matches))
    lines.append(
        f"Found {plural(len(found.matches), 'file')} ({size}),"
        f" {len(found.missing)} missing; {plural(len(found.models), 'model')} can be whole."
    )
    return "\n".join(lines) + "\n"


def _as_json(done: Adopted, dry_run: bool) -> str:
    import attrs

    from wanrec.reconcile.render_state import document

    failed = [failure.error.to_dict() for failure in done.result.failures] if done.result else []
    return document(
        dry_run=dry_run,
        found=[attrs.asdict(match) for match in done.matches],
        missing=[{"address": a, "size": s} for a, s in sorted(done.missing.items())],
        models=list(done.models),
        failed=failed,
    )
