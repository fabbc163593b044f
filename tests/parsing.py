"""One parse of Python source at a time, for Pythons in which two spoil each other.

From 3.11.0 to 3.11.7 `ast.parse` raises SystemError where another thread parses meanwhile
(CPython issue 106905). pytest and hypothesis parse sources, and so does every traceback that
a thread formats; hypothesis's callback of the collector gives the threads turns within a parse.
"""

import ast
import gc
import sys
import threading
from functools import wraps
from typing import Any

AFFECTED = (3, 11) <= sys.version_info < (3, 11, 8)
_lock = threading.RLock()  # formatting an error of a parse parses


def let_threads_parse_in_turn() -> None:
    """Replace `ast.parse`, on affected Pythons only."""
    if AFFECTED:
        ast.parse = _in_turn(ast.parse)


def _in_turn(parse: Any) -> Any:
    """A parse that no other parse and no collection interrupts."""

    @wraps(parse)
    def parse_alone(*args: Any, **options: Any) -> Any:
        with _lock:
            collects = gc.isenabled()
            gc.disable()
            try:
                return parse(*args, **options)
            finally:
                if collects:
                    gc.enable()

    return parse_alone
