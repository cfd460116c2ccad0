"""Settings: which place wins, what is refused, and what a run without a config file costs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from wanrec.providers.limits import Limits
from wanrec.reconcile.errors import ErrorCode, WanrecError
from wanrec.reconcile.settings import load
from wanrec.reconcile.settings_limits import transfer_limits
from wanrec.reconcile.settings_units import parse_duration, parse_rate, parse_size


def refused(
    problem: str, cli: dict[str, object], environ: dict[str, str], cwd: Path
) -> WanrecError:
    """Load settings that must be refused, for this reason."""
    with pytest.raises(WanrecError) as caught:
        load(cli, environ, cwd)
    assert problem in str(caught.value)
    return caught.value


def test_defaults(tmp_path: Path) -> None:
    """Without any place that says something, the defaults of the contract hold."""
    found = load({}, {}, tmp_path)
    assert (found.project, found.root, found.state) == ("default", None, None)
    assert (found.lock_timeout, found.swap_grace, found.rehash_budget) == (600, 600, 1 << 30)
    assert (found.file_mode, found.dir_mode) == (0o444, 0o755)
    assert (found.project_dir, found.cwd) == (tmp_path, tmp_path)
    assert set(found.origins.values()) == {"default"}


def test_first_place_wins(tmp_path: Path) -> None:
    """Command line before WANREC_*, before the contract's own names, before the config file."""
    (tmp_path / "wanrec.toml").write_text('root = "from-file"\nproject = "file"\noffline = true\n')
    environ = {"WANREC_PROJECT": "env", "MODELS_ROOT": "from-env", "WANREC_OFFLINE": ""}
    found = load({"project": "cli", "state": None}, environ, tmp_path)
    assert found.project == "cli"
    assert found.root == tmp_path / "from-env"
    assert found.offline is True
    assert found.origins["project"] == "command line --project"
    assert found.origins["root"] == "environment MODELS_ROOT"
    assert found.origins["offline"] == "wanrec.toml"
    assert load({}, {**environ, "WANREC_ROOT": "/w"}, tmp_path).root == Path("/w")


def test_config_of_the_nearest_folder(tmp_path: Path) -> None:
    """The project directory is the nearest folder upwards with a wanrec config in it."""
    (tmp_path / "pyproject.toml").write_text('[tool.wanrec]\nroot = "models"\n')
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    (tmp_path / "a" / "pyproject.toml").write_text('[project]\nname = "not-about-wanrec"\n')
    found = load({}, {}, inner)
    assert found.project_dir == tmp_path
    assert found.root == tmp_path / "models"
    assert found.origins["root"] == "pyproject.toml [tool.wanrec]"
    (tmp_path / "a" / "wanrec.toml").write_text("")
    assert load({}, {}, inner).project_dir == tmp_path / "a"


def test_config_by_name(tmp_path: Path) -> None:
    """--config names the file, and its folder is the project directory."""
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "my.toml").write_text('spec_paths = ["models", "more/*.toml"]\n')
    found = load({"config": "x/my.toml"}, {}, tmp_path)
    assert found.project_dir == tmp_path / "x"
    assert found.spec_paths == ("models", "more/*.toml")
    assert load({}, {"WANREC_CONFIG": "x/my.toml"}, tmp_path) == found
    error = refused("cannot read", {"config": "none.toml"}, {}, tmp_path)
    assert error.code is ErrorCode.INVALID_CONFIG


def test_home_is_expanded(tmp_path: Path) -> None:
    """`~` means the home folder of the environment that was handed in."""
    assert load({"root": "~/models"}, {"HOME": "/h"}, tmp_path).root == Path("/h/models")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("roots = 1", 'unknown setting "roots"; did you mean "root"?'),
        ("[apply]\nx = 1", 'unknown setting "apply"'),
        ("parallelism = 0", "parallelism: expected a whole number"),
        ("parallelism = true", "parallelism: expected a whole number"),
        ("file_mode = 444", "file_mode: a file mode"),
        ('file_mode = "0044"', "lets its owner read"),
        ('dir_mode = "0555"', "gives its owner everything"),
        ('dir_mode = "rwx"', "octal mode"),
        ('offline = "maybe"', "true or false"),
        ("root = 3", "root: expected a text"),
        ('root = ""', "root: expected a text"),
        ('lock_timeout = "soon"', "lock_timeout: 'soon' is not a duration"),
        ("lock_timeout = -1", "negative"),
        ("connect_timeout = 0", "connect_timeout: a deadline is more than zero"),
        ("retries = -1", "retries: expected a whole number from 0"),
        ('retries = "many"', "retries: expected a whole number from 0"),
        ('rehash_budget = "1 XB"', "is not a size"),
        ('bwlimit = "0"', "more than zero"),
        ("spec_paths = [1]", "spec_paths: expected a text"),
        ("spec_paths = 1", "expected a list"),
        ('log_format = "yaml"', 'expected "text" or "json"'),
        ('project = "a b"', "not a project name"),
        ("root =", "not TOML"),
    ],
)
def test_bad_config_is_refused(tmp_path: Path, text: str, problem: str) -> None:
    """A wrong key or value is INVALID_CONFIG and says which setting, and what it expects."""
    (tmp_path / "wanrec.toml").write_text(text)
    assert refused(problem, {}, {}, tmp_path).code is ErrorCode.INVALID_CONFIG


def test_bad_option_is_a_usage_error(tmp_path: Path) -> None:
    """The same wrong value on the command line is a usage error, in the environment it is not."""
    assert refused("a size", {"bwlimit": "x"}, {}, tmp_path).code is ErrorCode.USAGE
    error = refused("environment WANREC_BWLIMIT", {}, {"WANREC_BWLIMIT": "x"}, tmp_path)
    assert error.code is ErrorCode.INVALID_CONFIG


def test_broken_pyproject(tmp_path: Path) -> None:
    """A pyproject.toml that speaks of wanrec must be readable; others need not be."""
    file = tmp_path / "pyproject.toml"
    file.write_text("= broken")
    assert load({}, {}, tmp_path).config_file is None
    file.write_text("[tool.wanrec]\nroot =")
    assert refused("not TOML", {}, {}, tmp_path).code is ErrorCode.INVALID_CONFIG
    file.write_text("tool = {wanrec = 3}")
    refused("not a table", {}, {}, tmp_path)


def test_typed_values(tmp_path: Path) -> None:
    """Sizes, durations, modes and lists are accepted as people write them."""
    (tmp_path / "wanrec.toml").write_text(
        'lock_timeout = "10m"\nverify_max_age = "7d"\nrehash_budget = "10 GiB"\n'
        'bwlimit = "50MB/s"\nfile_mode = 0o440\ndir_mode = "0700"\nmarks = ["gpu", "video"]\n'
        'mirror = "s3://bucket/x"\nstate = "s3://bucket/state"\n"x-mine" = 1\n'
    )
    found = load({"parallelism": "8"}, {}, tmp_path)
    assert (found.lock_timeout, found.verify_max_age) == (600, 7 * 86400)
    assert (found.rehash_budget, found.bwlimit) == (10 * 2**30, 50_000_000)
    assert (found.file_mode, found.dir_mode, found.parallelism) == (0o440, 0o700, 8)
    assert found.marks == ("gpu", "video")
    assert found.state == "s3://bucket/state"
    assert load({"state": "s.json"}, {}, tmp_path).state == str(tmp_path / "s.json")


def test_deadlines_reach_the_transfers(tmp_path: Path) -> None:
    """How long and how often a source is asked is the user's; the rest is default."""
    words = {
        "CONNECT_TIMEOUT": "500ms",
        "STALL_TIMEOUT": "3s",
        "FILE_TIMEOUT": "1h",
        "RETRIES": "0",
    }
    environ = {f"WANREC_{name}": value for name, value in words.items()}
    limits = transfer_limits(load({}, environ, tmp_path), bwlimit=7)
    assert (limits.connect_timeout_s, limits.stall_window_s) == (0.5, 3)
    assert (limits.file_deadline_s, limits.retries, limits.bwlimit) == (3600, 0, 7)
    assert transfer_limits(load({}, {}, tmp_path)) == Limits()


def test_root_is_asked_for_only_when_needed(tmp_path: Path) -> None:
    """No root is no fault until a command needs one; then the message has an example."""
    found = load({}, {}, tmp_path)
    with pytest.raises(WanrecError) as caught:
        found.require_root()
    assert caught.value.code is ErrorCode.INVALID_CONFIG
    assert "MODELS_ROOT=" in caught.value.hint
    assert load({"root": tmp_path / "m"}, {}, tmp_path).require_root() == tmp_path / "m"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0, 0),
        ("0", 0),
        ("1k", 1024),
        ("1 KB", 1000),
        ("1.5 GiB", 3 << 29),
        ("7b", 7),
        ("2T", 2 << 40),
    ],
)
def test_sizes(value: str | int, expected: int) -> None:
    """Binary and decimal units are kept apart."""
    assert parse_size(value) == expected
    if expected:
        assert parse_rate(f"{value}/s") == expected


@pytest.mark.parametrize("value", [-1, True, "", "GiB", "1e9", "9" * 40, "٣", None])
def test_no_sizes(value: object) -> None:
    """What is not a size is a ValueError, never a number."""
    with pytest.raises(ValueError, match="size"):
        parse_size(value)  # type: ignore[arg-type]  # wrong types are the point


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0, 0),
        (1.5, 1.5),
        ("90", 90),
        ("1h30m", 5400),
        ("7d", 604800),
        ("250ms", 0.25),
        ("1 w", 604800),
    ],
)
def test_durations(value: str | float, expected: float) -> None:
    """Seconds, or parts with units."""
    assert parse_duration(value) == expected


@pytest.mark.parametrize(
    "value", [-1, False, "", "m", "1y", "1m2", "1e400", 10**12, float("nan"), []]
)
def test_no_durations(value: object) -> None:
    """What is not a duration is a ValueError."""
    with pytest.raises(ValueError, match="duration"):
        parse_duration(value)  # type: ignore[arg-type]  # wrong types are the point


def test_no_config_loads_no_parser(tmp_path: Path) -> None:
    """Where no config file is read, tomllib is not imported."""
    program = (
        "import sys; from pathlib import Path; from wanrec.reconcile.settings import load;"
        f"load({{}}, {{}}, Path({str(tmp_path)!r})); print('tomllib' in sys.modules)"
    )
    # A coverage run would start itself in the child and read its own TOML.
    environ = {key: value for key, value in os.environ.items() if not key.startswith("COV")}
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        env=environ,
    )
    assert done.stdout.strip() == "False"
