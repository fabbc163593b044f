"""Tar files of samples."""

import io
import tarfile

from PIL import Image


def tar(path, members):
    with tarfile.open(path, "w") as file:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            file.addfile(info, io.BytesIO(data))


def jpeg():
    buffer = io.BytesIO()
    Image.new("RGB", (20, 16), "red").save(buffer, "JPEG")
    return buffer.getvalue()
