"""`verify` and `mirror`: models without a network, and without a state."""

from __future__ import annotations

from typing import Any

import click

from wanrec.reconcile.cli.options import global_options, json_option, select_options
from wanrec.reconcile.cli.session import Session
from wanrec.reconcile.errors import ExitCode

__all__ = ["mirror", "verify"]


@click.command()
@click.argument("word", required=False, metavar="[DIR | MODEL]")
@json_option
@global_options
@click.pass_obj
def verify(session: Session, /, word: str | None, as_json: bool) -> int:
    """Hash the files of a folder or model, and compare them with the specs; needs no state.

    Exits 0 when all is as specified, 2 when files are missing, 4 when bytes are wrong, 6 when
    something cannot be read.
    """
    from wanrec.reconcile import verifying
    from wanrec.reconcile.cli.lock_cmds import ByteCounter
    from wanrec.reconcile.render_state import document
    from wanrec.reconcile.render_words import plural

    session.graceful = True
    try:
        done = verifying.verify(
            session.engine(), word, progress=ByteCounter(session, "Hashed"), stop=session.stop
        )
    finally:
        session.graceful = False
    if as_json:
        session.write(document(**verifying.as_json(done)))
        return int(done.exit_code)
    lines = [
        f"  !  {item.address}  {item.kind}: {item.found}, not {item.expected}"
        for item in done.findings
    ]
    what = f"{plural(done.checked, 'file')} of {plural(len(done.models), 'model')}"
    verdict = f"{len(done.findings)} wrong" if done.findings else "all as specified"
    session.write("".join(f"{line}\n" for line in (*lines, f"Verified {what}: {verdict}.")))
    return int(done.exit_code)


@click.command()
@click.argument("dest", metavar="DEST")
@select_options
@json_option
@global_options
@click.pass_obj
def mirror(session: Session, /, dest: str, as_json: bool, **options: Any) -> int:
    """Copy specs, locks, the selected models and SHA256SUMS into a folder.

    Only models that lie whole under the root are copied; 2 says that some do not. The folder is a
    source for others: wanrec apply --mirror 'local:///DEST/{directory}'.
    """
    import attrs

    from wanrec.reconcile.cli.lock_cmds import ByteCounter
    from wanrec.reconcile.desired import SelectArgs
    from wanrec.reconcile.mirroring import mirror as mirror_models
    from wanrec.reconcile.render_state import document
    from wanrec.reconcile.render_words import human_bytes, plural

    session.graceful = True
    try:
        done = mirror_models(
            session.engine(),
            dest,
            SelectArgs(**options),
            progress=ByteCounter(session, "Copied"),
            stop=session.stop,
        )
    finally:
        session.graceful = False
    if as_json:
        session.write(document(**attrs.asdict(done)))
    else:
        copied = f"{plural(done.copied, 'file')} ({human_bytes(done.bytes_copied)})"
        session.write(
            f"Mirrored {plural(len(done.models), 'model')}: {copied} copied, {done.kept} kept.\n"
        )
    for model in done.absent:
        session.say(
            f"Warning: {model} is not whole under the root: wanrec apply {model}", "warning"
        )
    return int(ExitCode.DIFFERS if done.absent else ExitCode.OK)
