"""The command line: parse, call, print. Everything that computes is imported after the arguments were read."""

import _thread
import os
import signal
import sys
import threading
import warnings
from collections.abc import Sequence
from typing import Any

from aevb.errors import AevbError, OutputError

from ._fit_options import TOPICS
from ._parser import make_parser
from ._words import as_flags, survive_any_encoding


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: arguments; None: those of the process.

    Returns:
        The exit code: 0, or that of `aevb.errors`, or 130 after Ctrl-C.
    """
    survive_any_encoding()
    parser = make_parser()
    words = list(sys.argv[1:] if argv is None else argv)
    if words[:1] in (["-h"], ["--help"]) and len(words) > 1:  # on a command, or a topic of the one that has some
        words = ["fit", "--help", words[1]] if words[1] in TOPICS else [words[1], "--help"]
    args = parser.parse_args(words)
    args.words = words  # for a message that says what to write in their place
    before = warnings.formatwarning, sys.unraisablehook
    warnings.formatwarning, sys.unraisablehook = _in_one_line, _keep_ctrl_c
    try:
        from . import _commands

        code: int = getattr(_commands, args.command.replace("-", "_"))(args)
        sys.stdout.flush()
        return code
    except AevbError as e:
        return _fail(as_flags(str(e)), e.exit_code)
    except BrokenPipeError:
        # Whoever read our output has gone; keep the interpreter from complaining at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as e:
        return _fail(f"cannot write the output: {e.strerror or e}", OutputError.exit_code)
    except KeyboardInterrupt as e:
        _fail(str(e) or "stopped by Ctrl-C", 130)
        sys.stdout.flush()
        os._exit(130)  # the device may still be computing, and the interpreter's own exit would not wait for it
    finally:
        warnings.formatwarning, sys.unraisablehook = before


def _fail(message: str, code: int) -> int:
    print(f"aevb: {' '.join(message.split())}", file=sys.stderr)
    return code


def _keep_ctrl_c(lost: Any) -> None:
    """Python prints and forgets what is raised within a callback, such as JAX's on garbage: not so Ctrl-C."""
    if not issubclass(lost.exc_type, KeyboardInterrupt):
        sys.__unraisablehook__(lost)
        return
    # From another thread and a little later: raised here and now it would be lost once more.
    threading.Timer(0.05, _interrupt_again).start()


def _interrupt_again() -> None:
    if os.name == "posix":
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)  # ends a wait, too
    else:
        _thread.interrupt_main()


def _in_one_line(message: Warning | str, *where: Any, **more: Any) -> str:
    """A warning as a note to the user, who has no use for the line of our source that it comes from."""
    return f"aevb: note: {as_flags(' '.join(str(message).split()))}\n"
