"""Bring pages that live outside of docs/ onto the site, and keep links between all of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

ROOT = Path(__file__).parents[1]
OUTSIDE = [
    "CHANGELOG.md", "CONTRIBUTING.md", "benchmarks/README.md", "benchmarks/RUNTIME.md",
    "eval/MINI.md", "eval/README.md", "eval/RESULTS.md", "training/README.md",
]  # fmt: skip
DOWNLOADS = [
    str(path.relative_to(ROOT))
    for pattern in ("examples/*.py", "configs/serve/*.yaml")
    for path in sorted(ROOT.glob(pattern))
]


def on_files(files: Any, config: Any) -> Any:
    """Add the pages, and the scripts and configurations to download."""
    for path in OUTSIDE + DOWNLOADS:
        files.append(File.generated(config, path, abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Point links to where the site has the pages: docs/ and the repository are both its root."""
    if page.file.src_uri in OUTSIDE:
        return markdown.replace("](docs/", "](").replace("](../docs/", "](../")
    return markdown.replace("](../", "](")
