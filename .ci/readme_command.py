"""Print one of the two commands of README's section "Set-up": main or test."""

import re
import sys
from pathlib import Path

text = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
section = re.search(r"## Set-up\n(.*?)\n## ", text, re.S).group(1)
blocks = re.findall(r"```bash\n(.*?)```", section, re.S)
assert len(blocks) == 2, f"expected two set-up commands in README.md, found {len(blocks)}"
print(dict(zip(("main", "test"), blocks, strict=True))[sys.argv[1]].strip())
