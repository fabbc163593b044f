"""The manifest of the tests as tar files and as Parquet."""

import io
import json
import tarfile
from pathlib import Path
from typing import Any


def write_tar(path: Path, members: dict[str, bytes | object]) -> Path:
    """A tar file; what are no bytes are written as JSON."""
    with tarfile.open(path, "w") as file:
        for name, value in members.items():
            data = value if isinstance(value, bytes) else json.dumps(value).encode()
            info = tarfile.TarInfo(name)
            info.size = len(data)
            file.addfile(info, io.BytesIO(data))
    return path


def tar_of(path: Path, folder: Path, lines: list[dict], first: int = 0) -> Path:
    """A tar file as img2dataset writes it, with the regions among the other keys of the JSON."""
    members: dict[str, Any] = {}
    for number, line in enumerate(lines, first):
        key = f"{number:09d}"
        members[f"{key}.png"] = (folder / line["image"]).read_bytes()
        members[f"{key}.txt"] = b"a caption of the web"
        members[f"{key}.json"] = {
            "key": key, "status": "success", "width": 40, "sha256": "0", "url": "http://a",
            "regions": line["regions"],
        }  # fmt: skip
    return write_tar(path, members)


def without_files(lines: list[dict]) -> list[dict]:
    """The lines without regions that are files, which tar files can't hold."""
    kept = [
        {**line, "regions": [one for one in line["regions"] if "mask" not in one]} for line in lines
    ]
    return [line for line in kept if line["regions"]]
