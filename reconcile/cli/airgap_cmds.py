"""`verify` and `mirror`: models without a network, and without a state."""

from __future__ import annotations

import os
from typing import Any

import click

from wanrec.reconcile.cli.options import global_options, json_option, select_options
from wanrec.reconcile.cli.session import Session
from wanrec.reconcile.errors import ExitCode

__all__ = ["mirror", "verify"]


@click.command()
@select_options
@json_option
@global_options
@click.pass_obj
def verify(session: Session, /, words: tuple[str, ...], as_json: bool, **options: Any) -> int:
    """Hash the files of a folder or model, and compare them with the specs; needs no state.

    A word that is a folder (DIR: a root, a mirror, one model's directory) is where the files are
    looked for; the other words and options select models and files. Exits 0 when all is as
    specified, 2 when files are missing, 4 when bytes are wrong, 6 when something cannot be read.
    """
    from wanrec.reconcile import verifying
    from wanrec.reconcile.cli.lock_cmds import ByteCounter
    from wanrec.reconcile.render_state import document
    from wanrec.reconcile.render_words import plural
    from wanrec.reconcile.select_args import SelectArgs

    folders = [word for word in words if os.path.isdir(word)]
    if len(folders) > 1:
        raise click.UsageError(f"one folder at a time, not {' and '.join(folders)}")
    select = SelectArgs(words=tuple(word for word in words if word not in folders), **options)
    session.graceful = True
    try:
        done = verifying.verify(
            session.engine(),
            folders[0] if folders else None,
            select,
            progress=ByteCounter(session, "Hashed"),
            stop=session.stop,
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
    """Copy specs, locks, the selected models and SHA256SUMS into a folder or s3://BUCKET/PREFIX.

    Only models that lie whole under the root are copied; 2 says that some do not. What is there
    already is kept. DEST is a source for others: wanrec apply --mirror s3://BUCKET/PREFIX, or
    local:///FOLDER.
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
