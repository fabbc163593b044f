"""Write tested_versions.json of the doctor: lines of constraints.txt for our own dependencies."""

import json
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def plain(name: str) -> str:
    """A package's name as package indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def requirements() -> list[str]:
    """What pyproject.toml asks for, extras included, as it stands there."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    text = text[text.index("dependencies = [") : text.index("[project.scripts]")]
    lines = [
        line.split("  #")[0] for line in text.splitlines() if not line.lstrip().startswith("#")
    ]
    found = re.findall(r'"([^"]+)"', "\n".join(lines))
    return [one for one in found if not one.startswith("regionlm[")]


def direct() -> list[str]:
    """Plain names of the packages that pyproject.toml asks for, each once."""
    names = (re.split(r"[^\w.-]", one)[0] for one in requirements())
    return list(dict.fromkeys(map(plain, names)))


def locked() -> dict[str, list[str]]:
    """Lines by plain name: several where versions differ between Pythons."""
    found: dict[str, list[str]] = {}
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines():
        if "==" in line and not line.startswith("#"):
            found.setdefault(plain(line.partition("==")[0]), []).append(line)
    return found


if __name__ == "__main__":
    lines = locked()
    found = [line for name in direct() for line in lines[name]]
    target = ROOT / "regionlm/doctor/tested_versions.json"
    target.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    print(f"{target.relative_to(ROOT)}: {len(direct())} packages")
