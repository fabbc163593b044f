"""Tar files as manifests, in the form of WebDataset, which img2dataset writes.

A sample ``7.jpg`` has its regions in ``7.json``, which may hold an ``id`` and any other keys; a
``7.txt`` is not read. The regions are those of `regionlm.bulk.manifest` without mask files.
"""

from __future__ import annotations

from dataclasses import replace

from prefix_models.errors import within
from regionlm.bulk.manifest import IdHashes, Line, decode, id_of, regions_of
from regionlm.errors import InputError
from regionlm.inputs.json_lines import without_nulls
from regionlm.inputs.tar_samples import TarSamples, refuse_mask_files, sample_name


class TarManifest:
    """Opened tar files, as `regionlm.bulk.manifest.Lines`. A sample takes 56 bytes of memory.

    The id of a sample without one is its name.

    Args:
        shards: a path, a pattern with ``*``, or a name with braces, ``{000..003}`` or ``{a,b}``.
        skip_bad: allow samples of another form.

    Raises InputError: there are no such files or no samples, ids repeat or, unless they are
    skipped, a sample has another form (says which).
    """

    def __init__(self, shards: str, *, skip_bad: bool) -> None:
        with within("manifest"):
            self._samples = TarSamples(shards, ("json",), "images with regions in a .json")
        self.digest = self._samples.digest
        hashes = IdHashes()
        for index in range(len(self)):
            line = self._line(index)
            if line.problem and not skip_bad:
                raise InputError(f"{self.place(index)}: {line.problem}")
            hashes.add(line.id)
        hashes.check(self)

    def __len__(self) -> int:
        """Number of samples."""
        return len(self._samples)

    def __getitem__(self, index: int) -> Line:
        """Read a sample. Raises InputError: the file has changed."""
        line = self._line(index)
        if line.problem:
            return line
        try:
            return replace(line, data=self._samples.image(index))
        except InputError as error:
            return replace(line, problem=str(error))

    def place(self, index: int) -> str:
        """The file and name of a sample, for messages."""
        name = sample_name(self._samples.member(index))
        return f"{self._samples.file(index)}, sample {name}"

    def _line(self, index: int) -> Line:
        """A sample without the bytes of its image."""
        file, member = self._samples.file(index), self._samples.member(index)
        name = sample_name(member)
        line = Line(index + 1, name, f"{file.name}/{member}", [], file.parent)
        try:
            self._samples.check_image(index)
            value = without_nulls(decode(self._samples.text(index)[0]))
            if not isinstance(value, dict):
                raise InputError(
                    'expected an object such as {"regions": [{"box": [3, 120, 148, 271]}]}; found'
                    f" {type(value).__name__}"
                )
            line = replace(line, id=id_of(value, name))
            regions = regions_of(value)
            refuse_mask_files(regions)
            return replace(line, regions=regions)
        except InputError as error:
            return replace(line, problem=str(error))
