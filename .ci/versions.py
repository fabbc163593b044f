"""Print what is installed here in another version than a file of constraints says.

Exit code 1 if anything is.
"""

import sys
from importlib.metadata import distributions
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

wanted = {}
for line in Path(sys.argv[1]).read_text(encoding="utf-8").splitlines():
    if "==" in line and not line.startswith("#"):
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate():
            wanted[canonicalize_name(requirement.name)] = str(requirement.specifier)[2:]
ours = {"regionlm", "pip", "setuptools"}
found = {canonicalize_name(d.metadata["Name"]): d.version for d in distributions()}
names = sorted(n for n in found if n not in ours and found[n] != wanted.get(n))
for name in names:
    print(f"{name}: {wanted.get(name, 'not there')} -> {found[name]}")
print(f"{len(names)} of {len(found)} installed packages differ from {sys.argv[1]}")
sys.exit(bool(names))
