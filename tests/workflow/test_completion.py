"""Completion in the shells themselves: specs, model ids, addresses and node ids."""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
from support.program import Program, command_line
from support.small import declare

TIMEOUT_S = 60
MODELS = {
    "a@1": {"vae/x,1.txt": b"x", "vae/y.txt": b"y"},
    "b@1": {"z.txt": b"z"},
}
VARIANTS = """\
schema_version = 1
[models."v@2"]
variants = ["bf16", "fp16"]
default_variant = "fp16"
sources = ["local://mirror/v"]
files = [{ path = "w.txt", size = 1, sha256 = "%s" }]
"""


@pytest.fixture
def project(wanrec: Program) -> Program:
    """A project with two specs, a variant, and a path that a shell could trip over."""
    declare(wanrec, MODELS)
    wanrec.write("specs/variants.toml", VARIANTS % ("a" * 64))
    return wanrec


def environment(program: Program, **more: str) -> dict[str, str]:
    """Where the shell finds `wanrec`, and nothing of the user's own."""
    here = str(Path(command_line()[0]).parent)
    return program.environment(PATH=f"{here}:/usr/bin:/bin", TERM="dumb", **more)


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("wanrec plan spe", ["specs/models.toml", "specs/variants.toml"]),
        ("wanrec plan a@", ["1"]),
        ("wanrec plan a@1::v", ["vae/x,1.txt", "vae/y.txt"]),
        ("wanrec plan specs/models.toml::b", ["b@1"]),
        ("wanrec plan specs/models.toml::b@1::", ["z.txt"]),
        ("wanrec ensure ", ["a@1", "b@1", "v@2[bf16]", "v@2[fp16]"]),
        ("wanrec models ensure --only b", ["b@1"]),
        ("wanrec dri", ["drift"]),
        ("wanrec plan --last-f", ["--last-failed"]),
    ],
)
def test_bash(project: Program, line: str, offered: list[str]) -> None:
    """Bash completes specs, model ids, addresses and node ids, though it cuts words at : and @."""
    script = (
        'eval "$(_WANREC_COMPLETE=bash_source wanrec)"\n'
        f"COMP_LINE={line!r}; COMP_POINT=${{#COMP_LINE}}\n"
        '_wanrec_completion wanrec; printf "%s\\n" "${COMPREPLY[@]}"\n'
    )
    done = subprocess.run(
        ["bash", "--norc", "-c", script],
        env=environment(project),
        cwd=project.project,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == offered, done.stderr


FISH = {
    "wanrec plan spe": ["specs/models.toml", "specs/variants.toml"],
    "wanrec plan a@1::v": ["a@1::vae/x,1.txt", "a@1::vae/y.txt"],
    "wanrec plan v@2[b": ["v@2[bf16]"],
    "wanrec plan 'v@2[bf16]::": ["v@2[bf16]::w.txt"],
    "wanrec plan specs/models.toml::b@1::": ["specs/models.toml::b@1::z.txt"],
    "wanrec ensure ": ["a@1", "b@1", "v@2[bf16]", "v@2[fp16]"],
    "wanrec dri": ["drift"],
}


@pytest.mark.skipif(shutil.which("fish") is None, reason="needs fish")
def test_fish(project: Program) -> None:
    """Fish completes the same, whole words with brackets, colons and commas."""
    script = "_WANREC_COMPLETE=fish_source wanrec | source\n" + "".join(
        f'echo "= {line}"; complete -C "{line}"\n' for line in FISH
    )
    done = subprocess.run(
        ["fish", "--no-config", "-c", script],
        env=environment(project),
        cwd=project.project,
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, list[str]] = {}
    for line in done.stdout.splitlines():
        if line.startswith("= "):
            offered = found[line[2:]] = []
        else:
            offered.append(line.partition("\t")[0])
    assert found == FISH, done.stderr


# What the widget offers goes to a file; ^T tells what the line became, and leaves.
ZSH = """\
PS1= RPS1=; setopt no_beep no_prompt_sp no_prompt_cr; unset zle_bracketed_paste
compadd() {
  if [[ ${@[1,(i)(-|--)]} == *-(O|A|D)\\ * ]] { builtin compadd "$@"; return }
  local -a hits; builtin compadd -A hits "$@"; print -rl -- $hits >> $OUT
  builtin compadd "$@"
}
became() { print -r -- "=> $BUFFER" >> $OUT; BUFFER=" exit"; zle accept-line }
zle -N became; bindkey "^T" became
%s
eval "$(_WANREC_COMPLETE=zsh_source wanrec)"
print READ''Y
"""
# Only the widget: the whole completion system reads a thousand files first.
WIDGET = """\
compdef() { }
zle -C completed complete-word _wanrec_completion; bindkey "^I" completed
"""
SYSTEM = "autoload -Uz compinit; compinit -D -u"


def typed_in_zsh(program: Program, line: str, setup: str) -> tuple[list[str], str]:
    """Type a line and a tab into an interactive zsh; what it offered, and what the line became."""
    import pty

    out = program.project / "out"
    script = program.write("setup.zsh", ZSH % setup)
    env = environment(program, OUT=str(out))
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(program.project)
        os.execvpe("zsh", ["zsh", "-f", "-i"], env)
    try:
        os.write(terminal, f" source {script}\n".encode())
        _read_until(terminal, b"READY")
        os.write(terminal, f"{line}\t\x14".encode())
        _read_until(terminal, None)
    finally:
        os.close(terminal)
        os.kill(pid, signal.SIGKILL)  # a shell that lost its terminal may turn in circles for ever
        os.waitpid(pid, 0)
    *offered, became = out.read_text().splitlines()
    return offered, became.removeprefix("=> ").rstrip()


def _read_until(terminal: int, end: bytes | None) -> None:
    """Read what the shell says, up to some text or its end."""
    seen = b""
    while end is None or end not in seen:
        assert select.select([terminal], [], [], TIMEOUT_S)[0], seen
        try:
            data = os.read(terminal, 4096)
        except OSError:  # Linux says so when the other side is gone
            return
        if not data:
            return
        seen += data


needs_zsh = pytest.mark.skipif(shutil.which("zsh") is None, reason="needs zsh")


@needs_zsh
@pytest.mark.parametrize(
    ("line", "offered", "became"),
    [
        ("wanrec plan specs/m", ["specs/models.toml"], "wanrec plan specs/models.toml"),
        (
            "wanrec plan a@1::v",
            ["a@1::vae/x,1.txt", "a@1::vae/y.txt"],
            "wanrec plan a@1::vae/",
        ),
        (
            "wanrec plan v@2[bf16]::",
            [r"v@2\[bf16\]::w.txt"],
            r"wanrec plan v@2\[bf16\]::w.txt",
        ),
        ("wanrec plan 'v@2[b", ["v@2[bf16]"], "wanrec plan 'v@2[bf16]'"),
        (
            "wanrec plan specs/models.toml::b@1::",
            ["specs/models.toml::b@1::z.txt"],
            "wanrec plan specs/models.toml::b@1::z.txt",
        ),
        ("wanrec ensure b", ["b@1"], "wanrec ensure b@1"),
    ],
)
def test_zsh(project: Program, line: str, offered: list[str], became: str) -> None:
    """Zsh completes the same, and escapes what its own globbing would take."""
    assert typed_in_zsh(project, line, WIDGET) == (offered, became)


@needs_zsh
@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "became"),
    [("wanrec dri", "wanrec drift"), ("wanrec plan --last-f", "wanrec plan --last-failed")],
)
def test_zsh_with_its_completion_system(project: Program, line: str, became: str) -> None:
    """Commands and options, which zsh shows with their help, are completed by `compinit`."""
    assert typed_in_zsh(project, line, SYSTEM)[1] == became


def test_completion_is_silent_about_faults(wanrec: Program) -> None:
    """A broken spec offers nothing and prints nothing."""
    wanrec.write("specs/models.toml", "x")
    env: dict[str, str | None] = {
        "_WANREC_COMPLETE": "bash_complete",
        "WANREC_COMP_LINE": "wanrec plan a",
    }
    done = wanrec.run(env=env)
    assert (done.stdout.strip(), done.stderr) == ("", "")
