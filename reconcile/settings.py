"""Settings: command line, then environment, then one config file, then defaults.

In come the options a command was given, the environment and the working directory; out comes one
frozen `Settings` that also knows where each value came from. The config file is ``wanrec.toml``,
or the table ``[tool.wanrec]`` of ``pyproject.toml``, of the nearest folder upwards that has one;
that folder is the project directory. Without any such file the working directory is it, and no
TOML parser is loaded. The root itself is not looked at here: `disk.Root.open` does that.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import attrs

from wanrec.reconcile.errors import ErrorCode, WanrecError
from wanrec.reconcile.settings_values import READERS, Place

__all__ = ["SETTING_NAMES", "Settings", "load"]

CONFIG_FILE = "wanrec.toml"
PYPROJECT = "pyproject.toml"
_MAX_CONFIG_BYTES = 1 << 20


@attrs.frozen(kw_only=True)
class Settings:
    """Everything a run is told besides specs and words.

    Attributes:
        project_dir: spec paths and node ids are relative to it.
        cwd: where relative words of the command line start.
        config_file: the file that was read, or None.
        root: where models live; see `require_root`.
        project: who wants the models.
        state: path or URL of the state when it is not below the root; ``{host}`` not expanded.
        mirror: a source tried before every listed one.
        local_root: what a relative ``local://`` path starts at; None: the spec file's folder.
        manifest: ``WAN_MODELS_MANIFEST``.
        spec_paths: folders, files or globs below the project directory that hold the specs.
        bwlimit: bytes a second, None for no limit.
        connect_timeout: seconds from the look-up of a host to an established connection.
        stall_timeout: seconds a source may say next to nothing.
        file_timeout: seconds for one file from one source, retries included; None for no limit.
        retries: attempts after the first, for a range that makes no progress.
        lock_timeout, swap_grace, verify_max_age: seconds.
        max_size: bytes that all models may take before gc evicts on-demand ones.
        quotas: the same for single families.
        max_age: seconds after which an unused on-demand model may be evicted.
        stale_after: seconds after which gc clears what an unfinished run left.
        auto_gc: an apply that would not fit evicts first.
        link_mode: how equal bytes of several models share the disk.
        metrics_file: where runs leave their counters for Prometheus; see `engine_metrics`.
        cache_dir: where parsed specs are kept between runs, None: nowhere; see `spec_cache`.
        marks: the closed list of marks, None when any mark may be used.
        plugins: ``MODULE``, ``no:NAME`` and ``no:auto`` words, see `hooks.find`.
        origins: setting name → where its value came from.
    """

    project_dir: Path
    cwd: Path = Path()
    config_file: Path | None = None
    root: Path | None = None
    project: str = "default"
    state: str | None = None
    mirror: str | None = None
    local_root: Path | None = None
    manifest: str | None = None
    spec_paths: tuple[str, ...] = ("specs",)
    parallelism: int = 4
    lock_timeout: float = 600
    bwlimit: int | None = None
    connect_timeout: float = 10
    stall_timeout: float = 20
    file_timeout: float | None = None
    retries: int = 5
    swap_grace: float = 600
    file_mode: int = 0o444
    dir_mode: int = 0o755
    trust_locks: bool = False
    rehash_budget: int = 1 << 30
    verify_max_age: float | None = None
    offline: bool = False
    no_failover: bool = False
    allow_http: bool = False
    max_size: int | None = None
    quotas: tuple[tuple[str, int], ...] = ()
    max_age: float | None = None
    stale_after: float = 7 * 86400
    auto_gc: bool = False
    link_mode: str = "auto"
    metrics_file: Path | None = None
    cache_dir: Path | None = None
    marks: tuple[str, ...] | None = None
    log_format: str = "text"
    plugins: tuple[str, ...] = ()
    origins: Mapping[str, str] = attrs.field(factory=dict)

    def require_root(self) -> Path:
        """Return the root.

        Raises:
            WanrecError: INVALID_CONFIG, with an example, when none is set.
        """
        if self.root is None:
            raise WanrecError(
                ErrorCode.INVALID_CONFIG,
                "no root is set: wanrec does not know where the models live",
                hint=(
                    "wanrec --root /srv/models COMMAND, or MODELS_ROOT=/srv/models,"
                    ' or root = "/srv/models" in wanrec.toml;'
                    " `wanrec init --root DIR` creates it"
                ),
            )
        return self.root


SETTING_NAMES = tuple(READERS)
_OTHER_VARIABLES = {"root": "MODELS_ROOT", "manifest": "WAN_MODELS_MANIFEST"}


def load(
    cli: Mapping[str, object], environ: Mapping[str, str], cwd: Path | None = None
) -> Settings:
    """Merge all places of settings; an option that is None was not given.

    Args:
        cli: setting name → value, and ``config``: the file to read instead of looking for one.
        environ: ``WANREC_<NAME>``, ``MODELS_ROOT``, ``WAN_MODELS_MANIFEST``.
        cwd: working directory; relative paths of command line and environment start there.

    Raises:
        WanrecError: INVALID_CONFIG for an unknown key, a wrong value or an unreadable file.
    """
    here = Path.cwd() if cwd is None else Path(cwd)
    config = cli.get("config") or environ.get("WANREC_CONFIG") or None
    project_dir, config_file, table, label = _find_config(here, config)
    _refuse_unknown(table, label, config_file)
    values: dict[str, Any] = {}
    origins = dict.fromkeys(SETTING_NAMES, "default")
    for name, reader in READERS.items():
        found = _first(name, cli, environ, table)
        if found is None:
            continue
        value, origin = found
        base = project_dir if origin == "config" else here
        place = Place(base, environ, label if origin == "config" else origin)
        values[name] = _read_value(name, reader, value, place)
        origins[name] = place.label
    return Settings(
        project_dir=project_dir, cwd=here, config_file=config_file, origins=origins, **values
    )


def _first(
    name: str, cli: Mapping[str, object], environ: Mapping[str, str], table: Mapping[str, object]
) -> tuple[object, str] | None:
    given = cli.get(name)
    if given is not None:
        return given, f"command line --{name.replace('_', '-')}"
    for variable in (f"WANREC_{name.upper()}", _OTHER_VARIABLES.get(name, "")):
        text = environ.get(variable) if variable else None
        if text:
            return text, f"environment {variable}"
    return (table[name], "config") if name in table else None


def _read_value(
    name: str, reader: Callable[[Any, Place], object], value: object, place: Place
) -> object:
    try:
        return reader(value, place)
    except ValueError as exc:
        usage = place.label.startswith("command line")
        raise WanrecError(
            ErrorCode.USAGE if usage else ErrorCode.INVALID_CONFIG,
            f"{name}: {exc}",
            where=place.label,
        ) from None


def _find_config(
    here: Path, given: object | None
) -> tuple[Path, Path | None, Mapping[str, object], str]:
    """Return (project directory, config file, its table, its name for people)."""
    if given:
        file = Path(os.path.normpath(here / str(given)))
        return file.parent, file, _table_of(file, required=True) or {}, _label(file)
    for folder in (here, *here.parents):
        for name in (CONFIG_FILE, PYPROJECT):
            file = folder / name
            if os.path.isfile(file):
                table = _table_of(file, required=False)
                if table is not None:
                    return folder, file, table, _label(file)
    return here, None, {}, ""


def _label(file: Path) -> str:
    return f"{PYPROJECT} [tool.wanrec]" if file.name == PYPROJECT else file.name


def _table_of(file: Path, *, required: bool) -> Mapping[str, object] | None:
    """Return the settings of a file; None when a ``pyproject.toml`` is not about wanrec."""
    data = _read(file)
    in_pyproject = file.name == PYPROJECT
    if in_pyproject and not required and b"wanrec" not in data:
        return None
    import tomllib

    try:
        document: Any = tomllib.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError) as exc:
        raise WanrecError(ErrorCode.INVALID_CONFIG, f"not TOML: {exc}", where=str(file)) from None
    if in_pyproject:
        tool = document.get("tool", {})
        document = tool.get("wanrec") if isinstance(tool, dict) else None
        if document is None:
            return {} if required else None
    if not isinstance(document, dict):
        raise WanrecError(ErrorCode.INVALID_CONFIG, "tool.wanrec is not a table", where=str(file))
    return document


def _read(file: Path) -> bytes:
    try:
        with open(file, "rb") as stream:
            data = stream.read(_MAX_CONFIG_BYTES + 1)
    except OSError as exc:
        raise WanrecError(
            ErrorCode.INVALID_CONFIG,
            f"cannot read the config file: {exc.strerror}",
            where=str(file),
        ) from None
    if len(data) > _MAX_CONFIG_BYTES:
        raise WanrecError(
            ErrorCode.INVALID_CONFIG, "a config file is at most 1 MiB", where=str(file)
        )
    return data


def _refuse_unknown(table: Mapping[str, object], label: str, file: Path | None) -> None:
    unknown = [key for key in table if key not in READERS and not key.startswith("x-")]
    if not unknown:
        return
    from wanrec.reconcile.names import nearest

    problems = []
    for key in sorted(unknown):
        guess = nearest(key, SETTING_NAMES)
        problems.append(
            f'unknown setting "{key}"' + (f'; did you mean "{guess}"?' if guess else "")
        )
    raise WanrecError(
        ErrorCode.INVALID_CONFIG,
        f"{label}: {problems[0]}",
        detail="\n".join(problems[1:]),
        where=str(file),
        hint="`wanrec config` lists every setting",
    )
