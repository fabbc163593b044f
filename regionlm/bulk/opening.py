"""Manifests of any form."""

from __future__ import annotations

from pathlib import Path

from regionlm.bulk.manifest import Lines, Manifest
from regionlm.errors import InputError

_COMPRESSED = (".gz", ".bz2", ".xz", ".zst")


def open_manifest(path: str | Path, *, skip_bad: bool = False) -> Lines:
    """Open JSON lines, or by their ending, ``.tar`` or ``.parquet``, files of these forms.

    path: of a file; of the latter also a pattern with ``*``, or a name with braces.
    skip_bad: let tar files and Parquet hold samples and rows that can't be used.

    Raises InputError: there is no such file, it is compressed or a pipe, or a line has another form
    (says which).
    """
    file = Path(path)
    if not str(path).strip():
        raise InputError(f"manifest {str(path)!r}: no name given: expected the name of a file")
    if file.exists() and not file.is_file() and not file.is_dir():  # a pipe: it is read twice
        raise InputError(f"manifest {path} is not a regular file: write it to a file first")
    endings = [one.lower() for one in Path(str(path).rstrip("}")).suffixes]
    is_packed = endings[-2:-1] == [".tar"] and endings[-1] in _COMPRESSED
    if is_packed or endings[-1:] == [".tgz"]:
        raise InputError(f"manifest {path}: expected an uncompressed tar file: unpack it first")
    if endings[-1:] == [".tar"]:
        from regionlm.bulk.tars import TarManifest

        return TarManifest(str(path), skip_bad=skip_bad)
    if endings[-1:] == [".parquet"]:
        from regionlm.bulk.parquet import ParquetManifest

        return ParquetManifest(str(path), skip_bad=skip_bad)
    return Manifest(path)
