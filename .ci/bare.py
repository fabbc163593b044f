"""What an installation without extras must do; run in its environment, outside of the checkout.

Every module imports, or says in one line which extra it needs; caption, match, embed and doctor
work; what needs an extra is refused in one line that names it.
"""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

EXAMPLES, CONFIGS = Path(sys.argv[1]), Path(sys.argv[2])
PACKAGES = ("regionlm", "prefix_models", "training", "eval")
IMAGE, MASK = str(EXAMPLES / "sand.png"), str(EXAMPLES / "sand-fox.png")
failures: list[str] = []


def check(passes: bool, what: str) -> None:
    """Note and print a failure."""
    if not passes:
        failures.append(what)
        print("FAILED:", what, file=sys.stderr)


def names_its_extra(message: str) -> bool:
    """Whether a message is one line that says what to install."""
    return "\n" not in message.strip() and 'pip install "regionlm[' in message


def modules() -> list[str]:
    """Every module of the distribution, by dotted name."""
    found = []
    for package in PACKAGES:
        (folder,) = importlib.util.find_spec(package).submodule_search_locations
        files = pkgutil.walk_packages([folder], f"{package}.", onerror=lambda name: None)
        found += [package, *(one.name for one in files if not one.name.endswith("__main__"))]
        # walk_packages imports packages to look into them; those that need an extra stay unseen.
        for path in sorted(Path(folder).rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            if path.stem not in ("__init__", "__main__"):
                found.append(".".join((package, *parts)))
    return sorted(set(found))


def run(arguments: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    """Run the regionlm command."""
    command = [sys.executable, "-m", "regionlm", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)


names = modules()
refused = []
for name in names:
    try:
        importlib.import_module(name)
    except ImportError as error:
        refused.append(name)
        check(names_its_extra(str(error)), f"import {name}: {error}")
print(f"{len(names)} modules: {len(names) - len(refused)} import, {len(refused)} name their extra")
check(len(refused) < len(names) // 2, "most modules need an extra")
check(not any(n.startswith("prefix_models") for n in refused), "prefix_models needs an extra")

with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(2) as two_at_a_time:
    manifest, output = str(EXAMPLES / "regions.jsonl"), f"{folder}/let.safetensors"
    work = (
        ("caption", IMAGE, "--mask", MASK),
        ("match", IMAGE, "--mask", MASK, "--text", "a fox", "--text", "a fish"),
        ("embed", IMAGE, "--mask", MASK, "--output", output),
        ("doctor",),
        ("tools", "--format", "openai"),
    )
    needs_an_extra = (
        ("caption", "--manifest", manifest, "--output", f"{folder}/out.jsonl"),
        ("train", "fit", "--config", str(CONFIGS / "train/first_hour.yaml")),
        ("eval", "--config", str(CONFIGS / "eval/mini.yaml"), "--output", f"{folder}/run"),
        ("serve",),
        ("mcp",),
        ("caption", IMAGE, "--points", "10,10"),
    )
    commands = (*work, *needs_an_extra)
    for arguments, done in zip(commands, two_at_a_time.map(run, commands), strict=True):
        said = done.stderr.strip()
        if arguments in work:
            print(f"{arguments[0]}: {(done.stdout.strip().splitlines() or [''])[-1]}")
            check(done.returncode == 0, f"{arguments}: exit code {done.returncode}, {said}")
        else:
            print(f"{arguments[0]}: {said}")
            check(done.returncode == 2 and names_its_extra(said), f"{arguments}: {said}")
        if arguments == work[0]:
            check("fox" in done.stdout, "the fox is not named")

sys.exit(bool(failures))
