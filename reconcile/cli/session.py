"""One run of the program: what it was told globally, and its three ways of speaking.

Data goes to stdout, everything else to stderr. A reader that went away ends the output, not the
work; a full disk behind stdout is an error, because data was lost.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
import threading
from typing import TYPE_CHECKING, TextIO

from wanrec.reconcile.errors import ErrorCode, WanrecError

if TYPE_CHECKING:
    from wanrec.reconcile.engine import Engine
    from wanrec.reconcile.settings import Settings

__all__ = ["Session"]

# Options that are about this program, not about the engine.
_OWN = ("verbose", "quiet", "no_color", "trace_file", "trace_plugins")


class Session:
    """Made before the arguments are parsed; commands find it as the object of their context.

    Attributes:
        given: global options as they came, last one wins.
        format: the output format of the running command; errors follow it.
        stop: set by the first SIGINT or SIGTERM while `graceful`.
        graceful: True while work is under way that ends cleanly when `stop` is set.
        signal: number of the signal that came, 0 when none did.
    """

    def __init__(self) -> None:
        self.given: dict[str, object] = {}
        self.format = "text"
        self.stop = threading.Event()
        self.graceful = False
        self.signal = 0
        self.reader_gone = False
        self._drawn = ""
        self._drawing = threading.Lock()

    @property
    def verbosity(self) -> int:
        """-1 quiet, 0 normal, 1 and more verbose."""
        if self.given.get("quiet"):
            return -1
        verbose = self.given.get("verbose")
        return verbose if isinstance(verbose, int) else 0

    @property
    def color(self) -> bool:
        """True when stdout is a terminal that wants colour."""
        return self._colorful(sys.stdout)

    @property
    def live(self) -> bool:
        """True when a progress bar on stderr would be seen and not be in the way."""
        return self.verbosity >= 0 and self._json_log is False and _is_terminal(sys.stderr)

    def _colorful(self, stream: TextIO | None) -> bool:
        plain = self.given.get("no_color") or os.environ.get("NO_COLOR")
        return not plain and os.environ.get("TERM") != "dumb" and _is_terminal(stream)

    @property
    def _json_log(self) -> bool:
        chosen = self.given.get("log_format") or os.environ.get("WANREC_LOG_FORMAT")
        return chosen == "json"

    def engine(self, **settings: object) -> Engine:
        """The engine for the global options plus those of the command; None was not given.

        Raises:
            WanrecError: INVALID_CONFIG, or USAGE for a malformed option.
        """
        from wanrec.reconcile.engine import Engine

        return Engine.from_config(**self._chosen(settings))  # type: ignore[arg-type]

    def settings(self) -> Settings:
        """As `engine`, for commands that read specs and open no root.

        Raises:
            WanrecError: INVALID_CONFIG, or USAGE for a malformed option.
        """
        from wanrec.reconcile.settings import load

        return load(self._chosen({}), os.environ)

    def _chosen(self, more: dict[str, object]) -> dict[str, object]:
        chosen = {name: value for name, value in self.given.items() if name not in _OWN}
        return chosen | {name: value for name, value in more.items() if value is not None}

    def write(self, text: str) -> None:
        """Print data.

        Raises:
            WanrecError: NO_SPACE or FILESYSTEM_ERROR when stdout cannot take it.
        """
        self.draw("")
        if self.reader_gone or sys.stdout is None:
            return
        try:
            sys.stdout.write(text)
            sys.stdout.flush()
        except BrokenPipeError:
            self._reader_left()
        except OSError as error:
            self._reader_left()
            full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
            code = ErrorCode.NO_SPACE if full else ErrorCode.FILESYSTEM_ERROR
            raise WanrecError(code, f"cannot write the output: {error.strerror}") from None

    def _reader_left(self) -> None:
        # Python would flush what is left at exit, and complain with a traceback.
        self.reader_gone = True
        null = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(null, sys.stdout.fileno())
        except (OSError, ValueError):
            pass
        finally:
            os.close(null)

    def draw(self, text: str) -> None:
        """Replace the one line at the end of a terminal that shows how far a long work is."""
        with self._drawing:
            if self._drawn == text or sys.stderr is None:
                return
            blank = " " * len(self._drawn)
            self._drawn = text
            try:
                sys.stderr.write(f"\r{blank}\r{text}")
                sys.stderr.flush()
            except (OSError, ValueError):
                return  # nobody is left to be told

    def say(self, text: str, level: str = "info", **fields: object) -> None:
        """Tell the user something that is not data. Levels: debug, info, warning, error."""
        lowest = {"debug": 1, "info": 0, "warning": -1, "error": -1}[level]
        if self.verbosity < lowest or sys.stderr is None:
            return
        self.draw("")
        line = self._log_line(text, level, fields) if self._json_log else text
        try:
            sys.stderr.write(line.rstrip("\n") + "\n")
            sys.stderr.flush()
        except (OSError, ValueError):
            return  # nobody is left to be told

    def _log_line(self, text: str, level: str, fields: dict[str, object]) -> str:
        import json

        from wanrec.reconcile.cli.output import utc_now

        document = {"time": utc_now(), "level": level, "message": text.rstrip("\n"), **fields}
        return json.dumps(document, ensure_ascii=False)

    @property
    def ending(self) -> ErrorCode:
        """What an interruption is called: by the signal, which whoever raises one cannot know."""
        killed = self.signal not in (0, signal.SIGINT)
        return ErrorCode.TERMINATED if killed else ErrorCode.INTERRUPTED

    def blame(self, error: WanrecError) -> WanrecError:
        """Give an interruption the code of its signal."""
        if error.code is ErrorCode.INTERRUPTED:
            error.code = self.ending
        return error

    def report(self, error: WanrecError, *, document: bool = True) -> None:
        """Tell the user about an error; stdout gets it too, as JSON or as Nagios' status line.

        Args:
            error: what happened.
            document: False when stdout already has its one document.
        """
        from wanrec.reconcile.render_apply import error_text

        text = error_text(self.blame(error), color=self._colorful(sys.stderr))
        self.say(text, "error", error=error.to_dict())
        if document and self.format == "json":
            from wanrec.reconcile.render_state import document as json_document

            self.write(json_document(error=error.to_dict()))
        elif document and self.format == "nagios":
            from wanrec.reconcile.render import DriftFormat, render_drift_error

            self.write(render_drift_error(error, DriftFormat.NAGIOS, at_ns=0))


def _is_terminal(stream: TextIO | None) -> bool:
    try:
        return stream is not None and stream.isatty()
    except ValueError:
        return False
