"""From arguments to an exit code: signals, errors, defects and the end of tracing.

Every way out of the program passes here, so that the exit codes of the contract hold whatever the
option parser or a library thinks of it.
"""

from __future__ import annotations

import os
import signal
import sys
from itertools import pairwise
from types import FrameType

import click

from wanrec.reconcile.cli.session import Session
from wanrec.reconcile.errors import ErrorCode, ExitCode, WanrecError

__all__ = ["run"]

_NAGIOS_UNKNOWN = 3
_SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)


class _Stopped(BaseException):
    """A signal came while nothing was under way that could end by itself."""


def run(argv: list[str]) -> int:
    """Run one command line and return the process exit code."""
    session = Session()
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    _handle_signals(session)
    if _asks_for_nagios(argv):
        session.format = "nagios"  # also when the options cannot even be parsed
    try:
        code = _guarded(argv, session)
    except _Stopped:
        code = _signal_exit(session.signal)
        session.say("Interrupted.", "warning")
    finally:
        _end_tracing(session)
    return _signal_exit(session.signal) if session.signal else code


def _asks_for_nagios(argv: list[str]) -> bool:
    asked = "--format=nagios" in argv or ("--format", "nagios") in pairwise(argv)
    return asked and "drift" in argv


def _handle_signals(session: Session) -> None:
    def note(number: int, frame: FrameType | None) -> None:
        if session.signal:
            # The second one: nothing is lost by leaving at once, a crash is recovered from.
            os._exit(_signal_exit(number))
        session.signal = number
        if not session.graceful:
            raise _Stopped
        session.stop.set()
        session.say("Stopping: what was begun is finished or undone. Once more to stop at once.")

    for number in _SIGNALS:
        try:
            if signal.getsignal(number) is not signal.SIG_IGN:  # nohup stays in force
                signal.signal(number, note)
        except ValueError:  # not the main thread: whoever embeds us handles signals
            return


def _signal_exit(number: int) -> int:
    return int(ExitCode.SIGINT if number == signal.SIGINT else ExitCode.SIGTERM)


def _guarded(argv: list[str], session: Session) -> int:
    try:
        return _dispatch(argv, session)
    except click.exceptions.Exit as leave:
        return leave.exit_code
    except click.UsageError as error:
        return _usage(error, session)
    except click.Abort:
        return _answerless(session)
    except click.ClickException as error:
        return _fail(WanrecError(ErrorCode.USAGE, error.format_message()), session)
    except WanrecError as error:
        return _fail(error, session)
    except BrokenPipeError:
        return int(ExitCode.OK)
    except RecursionError as error:
        return _defect(error, session)
    except KeyboardInterrupt:
        session.signal = signal.SIGINT
        return int(ExitCode.SIGINT)
    except Exception as error:  # noqa: BLE001 - the last line of defence: a defect, exit 1
        return _defect(error, session)


def _dispatch(argv: list[str], session: Session) -> int:
    from wanrec.reconcile.cli.commands import program

    if "_WANREC_COMPLETE" in os.environ:  # the shell asks for completions
        from wanrec.reconcile.cli.completion import install

        install()
        program.main(argv, prog_name="wanrec")
    with program.make_context("wanrec", list(argv), obj=session) as context:
        result = program.invoke(context)
    return result if isinstance(result, int) else int(ExitCode.OK)


def _fail(error: WanrecError, session: Session) -> int:
    try:
        session.report(error)
    except WanrecError as lost:  # stdout cannot even take the error document
        session.report(lost, document=False)
    return _NAGIOS_UNKNOWN if session.format == "nagios" else int(error.exit_code)


def _usage(error: click.UsageError, session: Session) -> int:
    path = error.ctx.command_path if error.ctx else "wanrec"
    if isinstance(error, getattr(click.exceptions, "NoArgsIsHelpError", ())):
        session.say(error.format_message(), "error")
        return int(ExitCode.USAGE)
    message = error.format_message().rstrip(".")
    return _fail(
        WanrecError(ErrorCode.USAGE, message[:1].lower() + message[1:], hint=f"{path} --help"),
        session,
    )


def _answerless(session: Session) -> int:
    error = WanrecError(ErrorCode.USAGE, "a question that nobody could answer")
    return _fail(error, session)


def _defect(error: BaseException, session: Session) -> int:
    from wanrec.reconcile.cli.defects import keep_traceback

    place = keep_traceback(error)
    reason = f"{type(error).__name__}: {error}".splitlines()[0]
    log = f" with {place}" if place else ""
    code = _fail(WanrecError(ErrorCode.DEFECT, f"{reason}; please report this{log}"), session)
    if session.verbosity > 0 or place is None:
        import traceback

        session.say("".join(traceback.format_exception(error)), "error")
    return code


def _end_tracing(session: Session) -> None:
    telemetry = sys.modules.get("wanrec.reconcile.telemetry")
    if telemetry is not None and not telemetry.shutdown():
        session.say("Warning: not all traces could be delivered.", "warning")
