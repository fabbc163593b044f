"""The `regionlm` command: find out what is asked for, do it, and end as a command should."""

from __future__ import annotations

import errno
import logging
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version

from prefix_models.errors import DoubtWarning, UserError
from regionlm.cli.added import added_commands, summaries
from regionlm.cli.commands import caption, doctor, embed, match
from regionlm.cli.explain import explain
from regionlm.cli.mcp import mcp
from regionlm.cli.models import models
from regionlm.cli.parser import Command, naming_options, parse
from regionlm.cli.printing import whole_output
from regionlm.cli.serve import serve
from regionlm.cli.tools import tools
from regionlm.distributed.rank import end_with_launcher, is_first_process
from regionlm.errors import InputError
from regionlm.threads import limit_threads, sleep_while_waiting

COMMANDS: dict[str, Command] = {
    "caption": caption,
    "match": match,
    "embed": embed,
    "explain": explain,
    "serve": serve,
    "models": models,
    "doctor": doctor,
    "tools": tools,
    "mcp": mcp,
}
"""Commands of this package; `regionlm.cli.added` finds those that others add."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    0: done. 1: `doctor` found something wrong. 2: the user's input or the model can't be used, said
    in one line on stderr. 130: interrupted. 141: the reader of the output went away. Anything else
    is a bug and keeps its traceback. `--help` and `--version` raise SystemExit(0).
    """
    sleep_while_waiting()
    limit_threads()
    end_with_launcher()
    try:
        with _quiet_libraries(), whole_output():
            code = _run(sys.argv[1:] if argv is None else argv)
            sys.stdout.flush()
        return code
    except KeyboardInterrupt as interrupt:
        if not is_first_process():
            return 0
        if interrupt.args:  # how to resume
            print("regionlm:", interrupt, file=sys.stderr)
        return 130
    except BrokenPipeError:
        _discard_stdout()
        return 141
    except OSError as error:
        if error.errno != errno.ENOSPC or error.filename is not None:
            raise
        _discard_stdout()
        return _complain(InputError(f"standard output cannot be written: {error.strerror}"))
    except UserError as error:
        return _complain(error)


def _discard_stdout() -> None:
    """Python flushes stdout once more at exit; let that go nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run(argv: Sequence[str]) -> int:
    added = {} if argv and argv[0] in COMMANDS else added_commands(but=COMMANDS)
    if argv and argv[0] in added:
        return added[argv[0]].load()(argv[1:]) or 0
    with naming_options(COMMANDS.get(argv[0]) if argv else None):
        command, parts = parse(
            COMMANDS,
            argv,
            description="Say what is in a region of an image, in words or as a vector.",
            version=_version(),
            others=summaries(added),
        )
        return command(*parts) or 0


def _complain(error: UserError) -> int:
    if not is_first_process():
        return 0  # anything else, and Lightning kills the first one before it has ended
    print("regionlm: error:", " ".join(str(error).split()), file=sys.stderr)
    return 2


@contextmanager
def _quiet_libraries() -> Iterator[None]:
    """Keep developers' notices off a user's terminal; -W brings them back."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if sys.warnoptions:
        yield
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("default", DoubtWarning)
        warnings.showwarning = _show_warning
        logging.disable(logging.INFO)  # whatever level a library gives its loggers when imported
        try:
            yield
        finally:
            logging.disable(logging.NOTSET)


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    """One line, without the place in our code that pointed it out."""
    if is_first_process():
        print("regionlm: warning:", " ".join(str(message).split()), file=sys.stderr)


def _version() -> str:
    try:
        return version("regionlm")
    except PackageNotFoundError:  # run from a checkout that was never installed
        return "unknown"
