"""Programs that wait to be killed: a machine may stall between what they do and the kill."""

_CODE = """
import sys, time
from pkgutil import resolve_name
from regionlm.cli.main import main
owner = resolve_name({owner!r})
plain, calls = getattr(owner, {name!r}), []
def wait_after_two(*given):
    plain(*given)
    calls.append(given)
    if len(calls) == 2:
        time.sleep(600)
setattr(owner, {name!r}, wait_after_two)
sys.exit(main(sys.argv[1:]))
"""


def waiting_command(owner: str, name: str) -> str:
    """Source of the `regionlm` command that waits once it has called a function twice.

    owner: the function's module or class, as "module:Class". name: of the function.
    """
    return _CODE.format(owner=owner, name=name)
