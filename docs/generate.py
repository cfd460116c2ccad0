"""Writes the tables of the docs that come from code, between their markers.

    python docs/generate.py            rewrite the pages
    python docs/generate.py --check    exit 1 and name the pages that would change

A block stands between ``<!-- generated: NAME -->`` and ``<!-- end -->``; everything else on a page
is written by hand. The man page (`manpage.py`) is generated whole. Needs an installed wanrec.
Errors are described in `error-codes.toml`; a code without a description, or a description without
a code, ends the run.
"""

from __future__ import annotations

import ast
import inspect
import re
import sys
import tomllib
from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path

import attrs
import click
from manpage import man_page

from wanrec.providers import known_schemes
from wanrec.providers.source_url import SCHEMES
from wanrec.reconcile import manifest_schema as schema
from wanrec.reconcile.cli.commands import program
from wanrec.reconcile.cli.examples import examples_of
from wanrec.reconcile.cli.options import global_options
from wanrec.reconcile.errors import ErrorCode, ExitCode
from wanrec.reconcile.settings import SETTING_NAMES, Settings

HERE = Path(__file__).parent
_BLOCK = re.compile(r"(<!-- generated: ([\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)
_CELL = str.maketrans({"|": "\\|", "\n": " "})

EXIT_MEANINGS = {
    ExitCode.OK: "done; nothing to report",
    ExitCode.DEFECT: "a defect in wanrec; the traceback goes to a log, one line to the user",
    ExitCode.DIFFERS: "it looked, and there are differences: `plan --detailed-exitcode`, `drift`,"
    " `status --check`",
    ExitCode.REFUSED: "refused: spec, name, policy, configuration, nothing selected, delete budget",
    ExitCode.INTEGRITY: "integrity: hash, size, completeness",
    ExitCode.SOURCE: "source: network, authentication, rate limit, range, stall",
    ExitCode.LOCAL_IO: "local I/O: space, permission, read-only, too many files",
    ExitCode.LOCK: "lock",
    ExitCode.STATE: "state or plan file: stale, foreign, corrupt, from a newer version",
    ExitCode.PARTIAL: "apply finished in part: at least one action done and at least one failed",
    ExitCode.USAGE: "usage: bad option, missing argument, a question that nobody could answer",
    ExitCode.SIGINT: "SIGINT: stopped cleanly, state saved, locks freed",
    ExitCode.SIGTERM: "SIGTERM or SIGHUP: as 130",
}
"""What each exit code says to a script."""

SETTING_MEANINGS = {
    "root": "the directory all models live under; also `MODELS_ROOT`",
    "project": "who wants the models; name it when several projects share a root",
    "state": "where the state is kept when it is not below the root",
    "mirror": "a source tried before every listed one",
    "local_root": "where relative `local://` paths start; else the spec file's folder",
    "manifest": "one spec file or folder instead of `spec_paths`; also `WAN_MODELS_MANIFEST`",
    "spec_paths": "folders, files or globs below the project directory that hold the specs",
    "parallelism": "files worked on at the same time",
    "lock_timeout": "how long a run waits for a lock",
    "bwlimit": "bytes a second over all transfers",
    "connect_timeout": "how long a connection may take, name look-up, proxy and TLS included",
    "stall_timeout": "a source that sends less than 1 KiB a second for so long is given up",
    "file_timeout": "how long one file may take from one source, retries included",
    "retries": "how often a source is asked again for a range that makes no progress",
    "swap_grace": "how long a replaced directory stays for its readers",
    "file_mode": "permission bits of model files",
    "dir_mode": "permission bits of model directories",
    "trust_locks": "believe the locks of a network file system",
    "rehash_budget": "bytes of doubtful files that one `drift` may read",
    "verify_max_age": "files verified longer ago are verified again",
    "offline": "local sources only",
    "no_failover": "the first source only",
    "allow_http": "plain `http://` also for other hosts than loopback",
    "max_size": "bytes that all models may take; gc evicts on-demand ones above it",
    "quotas": 'the same for single families: `{ wan22 = "500 GiB" }`',
    "max_age": "on-demand models unused for longer are evicted by gc",
    "stale_after": "what an unfinished run left is cleared by gc once it is older",
    "auto_gc": "an apply that would not fit evicts first",
    "link_mode": "how equal bytes are shared: `auto`, `hardlink`, `reflink` or `copy`",
    "cache_dir": "where [parsed specs are kept](performance.md#specs-that-are-kept);"
    " not set: nowhere",
    "metrics_file": "where applies, ensures and gc leave their [counters](monitoring.md#counters)"
    " for Prometheus' textfile collector",
    "marks": "the closed list of marks; open when not set",
    "log_format": "`text` or `json` messages on stderr",
    "plugins": "modules to load as plug-ins, `no:NAME` to leave one out, `no:auto` (or false): no"
    " installed ones; see [plug-ins](plugins.md)",
}
"""What each setting does."""


def main(arguments: list[str]) -> int:
    """Rewrite or check the pages; returns the exit code."""
    if arguments not in ([], ["--check"]):
        sys.stderr.write(f"{__doc__}\n")
        return 64
    stale = []
    for page, text in _pages():
        old = page.read_text(encoding="utf-8") if page.exists() else ""
        new = text(old)
        if new != old:
            stale.append(page.relative_to(HERE).as_posix())
            if not arguments:
                page.write_text(new, encoding="utf-8")
    verb = "is out of date" if arguments else "rewritten"
    sys.stdout.writelines(f"docs/{name}: {verb}\n" for name in stale)
    return 1 if stale and arguments else 0


def _pages() -> Iterable[tuple[Path, Callable[[str], str]]]:
    """Each file, and what makes its text of the present one."""
    for page in sorted(HERE.rglob("*.md")):
        yield page, lambda old: _BLOCK.sub(_filled, old)
    page = man_page(EXIT_MEANINGS, SETTING_MEANINGS, _global_parameters())
    yield HERE / "man" / "wanrec.1", lambda _old: page


def _filled(match: re.Match[str]) -> str:
    return match[1] + BLOCKS[match[2]]() + match[3]


def _table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = tuple(header)
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(cell.translate(_CELL) for cell in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def _keys(table: Mapping[str, schema.Key]) -> str:
    return _table(
        ("key", "value", "meaning"),
        ((f"`{name}`", _value(key), key.doc) for name, key in table.items()),
    )


def _value(key: schema.Key) -> str:
    text = " or ".join(f'`"{choice}"`' for choice in key.choices) or str(key.kind)
    if key.minimum is not None and key.maximum is not None:
        top = key.maximum
        text += f", {key.minimum} to {'2^63 - 1' if top == schema.MAX_SIZE else top}"
    elif key.minimum is not None:
        text += f", at least {key.minimum}"
    return text + (", **required**" if key.required else "")


def _model_keys() -> str:
    own = {name: key for name, key in schema.MODEL_KEYS.items() if name not in schema.FACT_KEYS}
    return _keys(own)


def _limits() -> str:
    rows = (
        ("size of one spec file", f"{schema.MAX_MANIFEST_BYTES >> 20} MiB"),
        ("values in one spec file", f"{schema.MAX_ENTRIES:,}"),
        ("parts of one dotted key", str(schema.MAX_KEY_PARTS)),
        ("suffixes that the pickle policy refuses", " ".join(schema.PICKLE_SUFFIXES)),
        ("words in source templates", " ".join(f"`{{{word}}}`" for word in schema.TEMPLATE_WORDS)),
    )
    return _table(("what", "value"), rows)


def _sources() -> str:
    usable = known_schemes()
    rows = ((f"`{name}://`", "yes" if name in usable else "no") for name in SCHEMES)
    return _table(("scheme", "delivers files in this version"), rows)


def _exit_codes() -> str:
    return _table(("code", "meaning"), ((str(int(c)), EXIT_MEANINGS[c]) for c in ExitCode))


def _error_codes() -> str:
    known = tomllib.loads((HERE / "error-codes.toml").read_text(encoding="utf-8"))
    odd = set(known).symmetric_difference(code.value for code in ErrorCode)
    if odd:
        raise SystemExit(f"error-codes.toml and reconcile/errors.py differ: {sorted(odd)}")
    sections = []
    for exit_code in ExitCode:
        codes = [code for code in ErrorCode if code.exit_code is exit_code]
        if not codes:
            continue
        rows = (
            (
                f"`{code}`",
                known[code]["means"],
                known[code]["fix"] + (" *Retryable.*" if code.retryable else ""),
            )
            for code in codes
        )
        title = EXIT_MEANINGS[exit_code].partition(":")[0].partition(";")[0]
        sections.append(
            f"### Exit {int(exit_code)}: {title}\n\n"
            + _table(("code", "means", "what helps"), rows)
        )
    return "\n" + "\n".join(sections) + "\n"


def _settings() -> str:
    defaults = {field.name: field.default for field in attrs.fields(Settings)}
    options = {param.name for param in _global_parameters()}
    rows = (
        (
            f"`{name}`",
            SETTING_MEANINGS[name],
            _default(name, defaults[name]),
            f"`WANREC_{name.upper()}`"
            + (f", `--{name.replace('_', '-')}`" if name in options else ""),
        )
        for name in SETTING_NAMES
    )
    return _table(("setting", "meaning", "default", "environment, option"), rows)


def _default(name: str, value: object) -> str:
    match value:
        case None:
            return "—"
        case bool():
            return "`true`" if value else "`false`"
        case int() if name.endswith("_mode"):
            return f'`"{value:04o}"`'
        case int() if name == "rehash_budget":
            return f"{value >> 30} GiB"
        case int() | float() if name.endswith(("_timeout", "_after", "_grace")):
            return f"{value} s"
        case tuple():
            return f"`{list(value)}`".replace("'", '"')
        case _:
            return f"`{value}`"


def _global_parameters() -> list[click.Option]:
    @click.command()
    @global_options
    def bare() -> None:
        """Take nothing but the global options."""

    return [param for param in bare.params if isinstance(param, click.Option)]


def _options(params: Iterable[click.Parameter]) -> str:
    rows = [
        (f"`{', '.join(p.opts)}{_metavar(p)}`", p.help or "")
        for p in params
        if isinstance(p, click.Option)
    ]
    return _table(("option", "does"), rows)


def _metavar(param: click.Option) -> str:
    if param.is_flag or param.count:
        return ""
    if isinstance(param.type, click.Choice):
        return " " + "|".join(map(str, param.type.choices))
    return f" {param.metavar or param.type.name.upper()}"


def _commands() -> str:
    return "\n" + "\n".join(_walk(program, ())) + "\n"


def _walk(group: click.Group, path: tuple[str, ...]) -> Iterable[str]:
    shared = {param.name for param in _global_parameters()}
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if command is None:
            continue
        if isinstance(command, click.Group):
            yield from _walk(command, (*path, name))
            continue
        arguments = [p.make_metavar(context) for p in command.params if _is_argument(p)]
        yield f"### `wanrec {' '.join((*path, name, *arguments))}`\n"
        paragraphs = inspect.cleandoc(command.help or "").split("\n\n")
        yield "\n\n".join(text.replace("\n", " ") for text in paragraphs) + "\n"
        examples = examples_of(" ".join((*path, name)))
        if examples:
            yield "\n".join(("```sh", *examples, "```")) + "\n"
        own = [p for p in command.params if not _is_argument(p) and p.name not in shared]
        if own:
            yield _options(own)


def _is_argument(param: click.Parameter) -> bool:
    return isinstance(param, click.Argument)


def _modules() -> str:
    """Every module with the first sentence of its contract, by level of `test_doors.py`."""
    top = HERE.parent
    levels = _levels(top / "tests" / "unit" / "test_doors.py")
    rows = []
    for room in ("reconcile", "providers", "state"):
        for path in sorted((top / room).rglob("*.py")):
            name = path.relative_to(top).with_suffix("").as_posix()
            text = path.read_text(encoding="utf-8")
            contract = ast.get_docstring(ast.parse(text)) or ""
            if path.name == "__init__.py" and len(text) < 200:
                continue
            level = next((str(n) for pattern, n in levels if fnmatchcase(name, pattern)), "—")
            rows.append((level, f"`{name}`", _first_sentence(contract)))
    return _table(("level", "module", "what it does"), sorted(rows))


def _levels(doors: Path) -> list[tuple[str, int]]:
    for node in ast.parse(doors.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            target = node.target if isinstance(node, ast.AnnAssign) else node.targets[0]
            if isinstance(target, ast.Name) and target.id == "LEVELS":
                return list(ast.literal_eval(node.value))
    raise SystemExit(f"{doors.name} has no LEVELS")


def _first_sentence(docstring: str) -> str:
    paragraph = " ".join(docstring.partition("\n\n")[0].split())
    return re.split(r"(?<=\.) (?=[A-Z`])", paragraph)[0].rstrip(".").replace("``", "`")


BLOCKS: Mapping[str, Callable[[], str]] = {
    "commands": _commands,
    "error-codes": _error_codes,
    "exit-codes": _exit_codes,
    "fact-keys": lambda: _keys(schema.FACT_KEYS),
    "file-keys": lambda: _keys(schema.FILE_KEYS),
    "global-options": lambda: _options(_global_parameters()),
    "limits": _limits,
    "model-keys": _model_keys,
    "modules": _modules,
    "moved-keys": lambda: _keys(schema.MOVED_KEYS),
    "policy-keys": lambda: _keys(schema.POLICY_KEYS),
    "removed-keys": lambda: _keys(schema.REMOVED_KEYS),
    "schemes": _sources,
    "settings": _settings,
    "sources-keys": lambda: _keys(schema.SOURCES_KEYS),
    "top-keys": lambda: _keys(schema.TOP_KEYS),
}
"""Block name → its text."""

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
