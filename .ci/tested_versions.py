"""Write regionlm/tested_versions.json: lines of constraints.txt for pyproject.toml's packages."""

import json
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def plain(name: str) -> str:
    """A package's name as package indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def direct() -> list[str]:
    """Names of the packages that pyproject.toml names, as they stand there."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    text = text[text.index("dependencies = [") : text.index("[project.scripts]")]
    lines = [line.partition("  #")[0] for line in text.splitlines() if not line.startswith("#")]
    found = re.findall(r'"([\w.-]+)(?:\[[\w,]+\])?(?:[<>=!~].*?)?"', "\n".join(lines))
    return [name for name in dict.fromkeys(found) if name != "regionlm"]


def locked() -> dict[str, list[str]]:
    """Lines by plain name: several where versions differ between Pythons."""
    found: dict[str, list[str]] = {}
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines():
        if "==" in line and not line.startswith("#"):
            found.setdefault(plain(line.partition("==")[0]), []).append(line)
    return found


if __name__ == "__main__":
    lines = locked()
    found = [line for name in direct() for line in lines[plain(name)]]
    target = ROOT / "regionlm/tested_versions.json"
    target.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    print(f"{target.relative_to(ROOT)}: {len(direct())} packages")
