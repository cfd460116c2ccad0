"""`init`, `config`, `schema` and `doctor`: before the first apply, and when something is odd."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import click

from wanrec.reconcile.cli.options import format_option, global_options, json_option
from wanrec.reconcile.cli.session import Session
from wanrec.reconcile.errors import ErrorCode, ExitCode, WanrecError

__all__ = ["config", "doctor", "init", "schema"]


@click.command()
@click.argument("urls", nargs=-1, metavar="[URL]...")
@global_options
@click.pass_obj
def init(session: Session, /, urls: tuple[str, ...]) -> None:
    """Write a commented starter spec and config into this directory; keep what is there.

    With source URLs the spec declares a model for each, and its lock file is written as well.
    With --root DIR the root is created, and the config names it.
    """
    from wanrec.reconcile.cli import starter

    _check_urls(session, urls)
    root = session.given.get("root")
    if root is not None:
        _create_root(Path(str(root)))
    here = Path.cwd()
    _write_starter(
        session, here, "wanrec.toml", starter.config_text(None if root is None else str(root))
    )
    spec = starter.SPEC + starter.models_text(urls)
    written = _write_starter(session, here, "specs/models.toml", spec)
    if urls and not written and not _is_begun(here / "specs", spec):
        raise WanrecError(
            ErrorCode.INVALID_CONFIG,
            "specs/models.toml is there already: the URLs were not added",
            where="specs/models.toml",
            hint="add them to it, then: wanrec lock specs/models.toml",
        )
    if urls:
        from wanrec.reconcile.cli.lock_cmds import run_lock
        from wanrec.reconcile.select_args import SelectArgs

        run_lock(session, SelectArgs(words=("specs/models.toml",)))
        session.say("Wrote specs/models.lock.toml. Next: `wanrec plan`.")
        return
    session.say("Next: edit specs/models.toml, then `wanrec validate` and `wanrec plan`.")


def _is_begun(specs: Path, text: str) -> bool:
    """True where an earlier run wrote this very spec and then could not lock it."""
    try:
        same = (specs / "models.toml").read_text(encoding="utf-8") == text
    except (OSError, ValueError):
        return False
    return same and not (specs / "models.lock.toml").exists()


def _check_urls(session: Session, urls: tuple[str, ...]) -> None:
    """Refuse what is no source before anything is written; plug-ins may know more schemes."""
    if not urls:
        return
    from wanrec.providers.source_url import parse_source
    from wanrec.reconcile.engine_hooks import activate

    activate(session.settings())
    for url in urls:
        parse_source(url)


def _write_starter(session: Session, folder: Path, name: str, text: str) -> bool:
    written = _write_new(folder / name, text)
    session.say(f"Wrote {name}." if written else f"Kept {name}: it is there already.")
    return written


def _create_root(root: Path) -> None:
    if root.is_symlink():
        raise WanrecError(
            ErrorCode.INVALID_CONFIG,
            "the root is a symbolic link",
            where=str(root),
            hint=f"wanrec init --root {os.path.realpath(root)}",
        )
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WanrecError(
            ErrorCode.INVALID_CONFIG, f"cannot create the root: {error.strerror}", where=str(root)
        ) from None


def _write_new(path: Path, text: str) -> bool:
    from wanrec.reconcile.disk_errors import translate_os_error

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        return False
    except OSError as error:
        raise translate_os_error(error, str(path), "write") from None
    return True


@click.command()
@format_option("text", "json")
@global_options
@click.pass_obj
def config(session: Session, /, fmt: str) -> None:
    """Print every setting, its value (secrets masked) and where it came from."""
    from wanrec.reconcile.render_state import config_text, document
    from wanrec.reconcile.settings import SETTING_NAMES

    settings = session.engine().settings
    rows = [
        (name, _plain(name, getattr(settings, name)), settings.origins.get(name, "default"))
        for name in SETTING_NAMES
    ]
    if fmt == "json":
        found = {name: {"value": value, "from": origin} for name, value, origin in rows}
        file = settings.config_file
        session.write(
            document(
                project_dir=str(settings.project_dir),
                config_file=None if file is None else str(file),
                settings=found,
            )
        )
        return
    session.write(config_text([(name, _shown(value), origin) for name, value, origin in rows]))


def _plain(name: str, value: object) -> object:
    """A setting as plain JSON: modes as octal text, URLs without their secrets."""
    match value:
        case None | bool() | float():
            return value
        case int():
            return f"{value:04o}" if name.endswith("_mode") else value
        case tuple() if name == "quotas":
            return dict(value)
        case tuple():
            return [_masked(str(item)) for item in value]
        case _:
            return _masked(str(value))


def _masked(text: str) -> str:
    scheme, separator, rest = text.partition("://")
    if not separator:
        return text
    bare, question, _ = rest.partition("?")
    place, slash, path = bare.partition("/")
    user, at, host = place.rpartition("@")
    hidden = "***@" if at and user else ""
    return f"{scheme}://{hidden}{host}{slash}{path}" + ("?***" if question else "")


def _shown(value: object) -> str:
    match value:
        case None:
            return "-"
        case str():
            return value
        case _:
            return json.dumps(value)


@click.command()
@click.argument(
    "kind", type=click.Choice(["manifest", "lock", "state", "plan", "events"]), metavar="KIND"
)
@global_options
@click.pass_obj
def schema(session: Session, /, kind: str) -> None:
    """Print the JSON Schema of manifest, lock, state, plan or events."""
    from wanrec.reconcile.schema import schema_for

    document: dict[str, Any] = schema_for(kind)
    session.write(json.dumps(document, indent=2) + "\n")


@click.command()
@json_option
@global_options
@click.pass_obj
def doctor(session: Session, /, as_json: bool) -> int:
    """Test root, file system, locks, clock, space and sources; each problem comes with its fix."""
    from wanrec.reconcile.doctor import examine
    from wanrec.reconcile.sources import source_findings

    engine = session.engine()
    findings = [*examine(engine.settings, os.environ), *source_findings(engine)]
    if as_json:
        import attrs

        from wanrec.reconcile.render_state import document

        session.write(document(findings=[attrs.asdict(finding) for finding in findings]))
    else:
        for finding in findings:
            session.write(f"{finding.verdict:<5} {finding.name}: {finding.detail}\n")
            if finding.fix:
                session.write(f"      fix: {finding.fix}\n")
    exits = [finding.code.exit_code for finding in findings if finding.code is not None]
    return int(exits[0]) if exits else int(ExitCode.OK)
