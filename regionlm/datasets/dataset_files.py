"""Find the files of a dataset, or list all that is missing and where to get it."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

from regionlm.datasets.data_errors import DataError, DataWarning


def find_needed(
    dataset: str, root: Path, needs: Mapping[str, Sequence[Path]], download: str
) -> dict[str, list[Path]]:
    """Find everything that a dataset needs, before any of it is read.

    needs: for each thing, the places where it may be, the preferred one first; a name with "*" is a
    pattern. download: where to get the dataset, for the message.

    Returns the existing places, at least one for each thing. Raises DataError: things are missing;
    the message lists them all, and where they were looked for.
    """
    if not root.is_dir():
        raise DataError(
            f"{dataset}: there is no folder {root}; expected one with {', '.join(needs)}. "
            f"Download: {download}"
        )
    found = {what: _existing(places) for what, places in needs.items()}
    missing = [
        f"{what} (looked for {_join(needs[what], root)})" for what in needs if not found[what]
    ]
    if missing:
        raise DataError(f"{dataset}: missing in {root}: {'; '.join(missing)}. Download: {download}")
    return found


def annotation_files(found: Mapping[str, Sequence[Path]]) -> tuple[Path, ...]:
    """Return the files among the places that `find_needed` found; the others are folders."""
    return tuple(path for places in found.values() for path in places if path.is_file())


def _existing(places: Sequence[Path]) -> list[Path]:
    found: list[Path] = []
    for place in places:
        if "*" in place.name:
            found += sorted(place.parent.glob(place.name))
        elif place.exists():
            found.append(place)
    return list(dict.fromkeys(found))


def _join(places: Sequence[Path], root: Path) -> str:
    names = [os.path.relpath(place, root) for place in places]
    return " or ".join(dict.fromkeys(names))


def locate(
    dataset: str,
    what: str,
    names: Sequence[Sequence[str]],
    folders: Sequence[Path],
    download: str,
    allow_missing: bool,
) -> list[str]:
    """Find each file of a long list in one of a few folders, which are listed only once.

    what: such as "images", for messages. names: the names that each file may have, with "/" for
    subfolders. allow_missing: only warn about missing files, and return where they should be;
    reading them fails later.

    Raises DataError: files are missing without `allow_missing`, or all files are.
    """
    listings: dict[Path, frozenset[str]] = {}
    found = [_locate_one(alternatives, folders, listings) for alternatives in names]
    missing = [names[i][0] for i, path in enumerate(found) if path is None]
    if missing:
        looked = " or ".join(str(folder) for folder in folders)
        message = (
            f"{dataset}: {len(missing):,} of {len(names):,} {what} are missing, "
            f"for example {missing[0]}; looked in {looked}"
        )
        if not allow_missing or len(missing) == len(names):
            raise DataError(f"{message}. Download: {download}")
        warnings.warn(message, DataWarning, stacklevel=3)
    pairs = zip(found, names, strict=True)
    return [str(folders[0] / own[0]) if path is None else path for path, own in pairs]


def locate_by_id(
    dataset: str,
    what: str,
    ids: Sequence[str],
    suffix: str,
    folders: Sequence[Path],
    download: str,
    allow_missing: bool,
) -> list[str]:
    """`locate` for files that are named after their images' ids."""
    names = [(image_id + suffix,) for image_id in ids]
    return locate(dataset, what, names, folders, download, allow_missing)


def _locate_one(
    alternatives: Sequence[str], folders: Sequence[Path], listings: dict[Path, frozenset[str]]
) -> str | None:
    for folder in folders:
        for name in alternatives:
            path = folder / name
            if path.parent not in listings:
                listings[path.parent] = _names_in(path.parent)
            if path.name in listings[path.parent]:
                return str(path)
    return None


def _names_in(folder: Path) -> frozenset[str]:
    return frozenset(os.listdir(folder)) if folder.is_dir() else frozenset()


def check_counts(dataset: str, found: Mapping[str, int], published: Mapping[str, int]) -> None:
    """Warn about every count that differs from the published one.

    Copies of datasets differ, so another count is worth a warning but no reason to stop.
    """
    differences = [
        f"{found[what]:,} {what} instead of {number:,}"
        for what, number in published.items()
        if found[what] != number
    ]
    if differences:
        warnings.warn(
            f"{dataset}: found {', '.join(differences)}; results can't be compared with published "
            "ones unless you know why",
            DataWarning,
            stacklevel=3,
        )


def read_ids(path: Path) -> list[str]:
    """Read image ids from a text file: the first word of each line that is not blank."""
    return [line.split()[0] for line in read_lines(path)]


def read_lines(path: Path) -> list[str]:
    """Read the lines of a UTF-8 text file that are not blank; DataError if it can't be read."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as text ({error}): fetch it again") from error
    return [line for line in text.splitlines() if line.strip()]
