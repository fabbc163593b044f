"""Manifests of any form."""

from __future__ import annotations

from pathlib import Path

from regionlm.bulk.manifest import Lines, Manifest


def open_manifest(path: str | Path, *, skip_bad: bool = False) -> Lines:
    """Open JSON lines, or by their ending, ``.tar`` or ``.parquet``, files of these forms.

    path: of a file; of the latter also a pattern with ``*``, or a name with braces.
    skip_bad: let tar files and Parquet hold samples and rows that can't be used.

    Raises InputError: there is no such file, or a line has another form (says which).
    """
    endings = [one.lower() for one in Path(path).suffixes]
    if {".tar", ".tgz"} & set(endings):  # also .tar.gz, to say that it must be unpacked
        from regionlm.bulk.tars import TarManifest

        return TarManifest(str(path), skip_bad=skip_bad)
    if endings[-1:] == [".parquet"]:
        from regionlm.bulk.parquet import ParquetManifest

        return ParquetManifest(str(path), skip_bad=skip_bad)
    return Manifest(path)
