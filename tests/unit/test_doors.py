"""Who may import whom: read from the source, and from `sys.modules` of real runs."""

from __future__ import annotations

import ast
import fnmatch
import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]

# First match decides. Patterns are paths without `.py`, relative to the checkout.
LEVELS: tuple[tuple[str, int], ...] = (
    ("reconcile/_root/*", 6),
    ("reconcile/cli/*", 6),
    ("reconcile/pytest_*", 6),
    ("reconcile/aio", 5),
    ("reconcile/api*", 5),
    ("reconcile/pipeline*", 5),
    ("reconcile/engine*", 5),
    ("reconcile/live_state", 5),
    ("reconcile/workbench", 5),
    ("reconcile/doctor", 5),
    ("reconcile/sources", 5),
    ("reconcile/locking*", 5),
    ("reconcile/adopting_scan", 4),
    ("reconcile/adopting_take", 4),
    ("reconcile/adopting*", 5),
    ("reconcile/mirroring*", 5),
    ("reconcile/verifying", 5),
    ("reconcile/schema*", 5),
    ("reconcile/version", 0),
    ("reconcile/quantities", 0),
    ("reconcile/facts", 0),
    ("reconcile/model", 0),
    ("reconcile/errors", 0),
    ("reconcile/names", 0),
    ("reconcile/findings", 1),
    ("reconcile/actions", 1),
    ("reconcile/manifest*", 1),
    ("reconcile/toml_lines", 1),
    ("reconcile/lockfile*", 1),
    ("reconcile/expressions", 1),
    ("reconcile/collect*", 1),
    ("reconcile/select_args", 1),
    ("reconcile/desired*", 1),
    ("state/model", 1),
    ("state/clocks", 1),
    ("reconcile/part_digests", 1),
    ("reconcile/buffers", 1),
    ("reconcile/trust", 2),
    ("reconcile/planfile*", 2),
    ("reconcile/plan*", 2),
    ("reconcile/graph", 2),
    ("reconcile/render*", 2),
    ("reconcile/content_rules", 2),
    ("state/codec*", 2),
    ("providers/*", 3),
    ("state/*", 3),
    ("reconcile/disk*", 3),
    ("reconcile/content*", 3),
    ("reconcile/telemetry*", 3),
    ("reconcile/hooks*", 3),
    ("reconcile/observe*", 4),
    ("reconcile/part_records", 4),
    ("reconcile/settled", 4),
    ("reconcile/spec_cache", 4),
    ("reconcile/user_cache", 4),
    ("reconcile/apply*", 4),
    ("reconcile/gather*", 4),
    ("reconcile/locking*", 4),
    ("reconcile/settled", 4),
    ("reconcile/preflight*", 4),
    ("reconcile/stage*", 4),
    ("reconcile/live_state", 5),
    ("reconcile/workbench", 5),
    ("reconcile/model_commit", 4),
    ("reconcile/commit_records", 4),
    ("reconcile/recover*", 4),
    ("reconcile/drift*", 4),
    ("reconcile/status*", 4),
    ("reconcile/lifecycle*", 4),
    ("reconcile/settings*", 4),
)
# The rooms of level 3: an edge never imports another room, nor what decides (plan, actions).
EDGE_ROOMS = ("providers", "state", "disk", "content", "telemetry", "hooks")
# Only the registry names concrete providers, and it does so as strings.
CONCRETE_PROVIDERS = ("providers/local", "providers/s3", "providers/hub", "providers/web")


def modules() -> Iterator[str]:
    """Every module of the product, as a path without suffix; empty package files left out."""
    for room in ("reconcile", "providers", "state"):
        for path in sorted((TOP / room).rglob("*.py")):
            relative = path.relative_to(TOP).with_suffix("").as_posix()
            if "__pycache__" not in relative and "/templates/" not in relative:
                yield relative


def level(module: str) -> int | None:
    """The level of a module, None when the table does not know it."""
    for pattern, number in LEVELS:
        if fnmatch.fnmatchcase(module, pattern):
            return number
    return None


def imports(module: str, *, for_types: bool = True) -> set[str]:
    """Modules of this project that `module` names in any import, at any depth."""
    tree = ast.parse((TOP / f"{module}.py").read_bytes())
    named: set[str] = set()
    type_only = () if for_types else _type_only(tree)
    for node in ast.walk(tree):
        if node in type_only:
            continue
        if isinstance(node, ast.Import):
            named |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            named |= {f"{base}.{alias.name}" for alias in node.names} | {base}
    return {found for name in named if (found := _as_module(name))}


def _type_only(tree: ast.Module) -> set[ast.AST]:
    """Every node below an `if TYPE_CHECKING:`."""
    return {
        node
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
        for line in block.body
        for node in ast.walk(line)
    }


def _as_module(name: str) -> str | None:
    if not name.startswith("wanrec."):
        return None
    path = name.removeprefix("wanrec.").replace(".", "/")
    if (TOP / f"{path}.py").is_file():
        return path
    if (TOP / path / "__init__.py").is_file() and (TOP / path / "__init__.py").stat().st_size > 200:
        return f"{path}/__init__"
    return None


def room(module: str) -> str:
    """The edge room of a level 3 module."""
    top, _, rest = module.partition("/")
    return top if top != "reconcile" else rest.split("_")[0].split("/")[0]


def family(module: str) -> str:
    """Modules of one family may import one another: `plan`, `plan_deletes`, all of a folder."""
    folder, _, name = module.rpartition("/")
    return folder if folder != "reconcile" else f"{folder}/{name.split('_')[0]}"


def wrong_doors(module: str) -> Iterator[str]:
    """Each import of `module` that goes up, sideways between rooms, or to a concrete class."""
    own = level(module)
    assert own is not None
    for other in sorted(imports(module)):
        target = level(other)
        if target is None or other == module:
            continue
        if target > own:
            yield f"{module} (level {own}) imports {other} (level {target})"
        elif own == 3 and (target == 3 and room(other) != room(module)):
            yield f"edge {module} imports the edge {other}"
        elif own == 3 and (other.startswith("reconcile/plan") or other == "reconcile/actions"):
            yield f"edge {module} imports what decides: {other}"
        elif other in CONCRETE_PROVIDERS and family(other) != family(module):
            yield f"{module} imports the concrete provider {other}; ask the registry"


@pytest.mark.parametrize("module", list(modules()))
def test_imports_go_down(module: str) -> None:
    """No module imports from a higher level, nor one edge from another."""
    if module.endswith("/__init__") and module.count("/") == 1 and level(module) is None:
        assert not imports(module), "package files import nothing"
        return
    assert level(module) is not None, f"{module} has no level: add it to LEVELS and the docs"
    assert not list(wrong_doors(module))


def test_no_cycles() -> None:
    """Modules never import each other in a circle, not even inside functions; types may."""
    edges = {module: imports(module, for_types=False) - {module} for module in modules()}
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " -> ".join([*path, module])
        if module not in done:
            for other in sorted(edges.get(module, ())):
                visit(other, (*path, module))
            done.add(module)

    for module in edges:
        if not module.startswith(("reconcile/cli/", "reconcile/_root/")):
            visit(module, ())


HEAVY = ("networkx", "boto3", "botocore", "huggingface_hub", "opentelemetry", "rich", "jinja2")


def loaded_by(code: str) -> set[str]:
    """Top-level and dotted module names that a fresh interpreter has after `code`."""
    program = f"{code}\nimport sys; sys.stderr.write('\\n'.join(sys.modules))"
    # A measured child would load what the measuring needs.
    clean = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    done = subprocess.run(
        [sys.executable, "-P", "-c", program],
        capture_output=True,
        text=True,
        check=True,
        cwd=TOP,
        env=clean,
    )
    return set(done.stderr.split())


def test_import_is_light() -> None:
    """`import wanrec` loads nothing but its own package file."""
    before = loaded_by("pass")
    new = loaded_by("import wanrec") - before
    assert {name for name in new if name.startswith("wanrec")} == {"wanrec"}
    assert not new & {*HEAVY, "click", "attrs", "importlib.metadata"}


def test_version_is_light() -> None:
    """`wanrec --version` loads no SDK, no graph library and no package metadata."""
    run = "from wanrec.reconcile.cli import main; main(['--version'])"
    code = f"try:\n    {run}\nexcept SystemExit: pass"
    loaded = loaded_by(code)
    assert not {name for name in loaded if name.split(".")[0] in HEAVY}
    assert not loaded & {"importlib.metadata", "asyncio", "http.client", "concurrent.futures"}


@pytest.mark.parametrize("command", ["path m@1", "plan", "drift"])
def test_commands_without_changes_are_light(command: str, tmp_path: Path) -> None:
    """`path`, and a `plan` or `drift` that finds nothing to do, load no library they do not need.

    The second time `plan` and `drift` do not even load the codec of the state.
    """
    (tmp_path / "a.txt").write_bytes(b"one")
    digest = hashlib.sha256(b"one").hexdigest()
    (tmp_path / "specs").mkdir()
    (tmp_path / "specs" / "m.toml").write_text(
        'schema_version = 1\nfamily = "t"\n'
        f'[models."m@1".sources]\npriority = ["local://{tmp_path}"]\n'
        f'[[models."m@1".files]]\npath = "a.txt"\nsize = 3\nsha256 = "{digest}"\n'
    )
    program = "from wanrec.reconcile.cli import main; main({words})"

    def run(words: str) -> set[str]:
        root = str(tmp_path / "root")
        line = program.format(words=["--root", root, *words.split()])
        return loaded_by(f"import os; os.chdir({str(tmp_path)!r}); {line}")

    run("apply -y --create-root")
    notes = tmp_path / "root" / ".wanrec" / "cache"
    for loaded in (run(command), run("plan") and run(command)):
        assert not {name for name in loaded if name.split(".")[0] in HEAVY}
        assert not loaded & {"asyncio", "http.client", "concurrent.futures", "fasteners"}
    if command != "path m@1" and any(notes.glob("settled-*")):
        assert not run(command) & {"wanrec.state.codec", "msgspec", "tomllib"}
