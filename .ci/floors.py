"""Check that what is installed here is the lowest version that pyproject.toml allows of each.

Prints those that are not, with exit code 1: a bound that can't be reached promises what nobody ran.
"""

import sys
from importlib.metadata import requires, version

from packaging.requirements import Requirement
from packaging.version import Version

failed = False
for line in requires("regionlm"):
    wanted = Requirement(line)
    applies = wanted.marker is None or any(
        wanted.marker.evaluate({"extra": name})
        for name in ("", "bulk", "train", "eval", "lora", "serve", "mcp", "ray", "docs", "dev")
    )
    floors = [one.version for one in wanted.specifier if one.operator == ">="]
    if wanted.name == "regionlm" or not applies:
        continue
    found = Version(version(wanted.name))
    if not floors or found != Version(floors[0]):
        failed = True
        print(f"{wanted.name}: pyproject.toml says {wanted.specifier}, the lowest found is {found}")
print("lower bounds:", "not all were reached" if failed else "all were reached")
sys.exit(failed)
