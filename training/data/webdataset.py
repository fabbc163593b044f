"""WebDataset: tar files of images and captions."""

from __future__ import annotations

from typing import Any

from prefix_models.errors import within
from regionlm.bulk.manifest import decode
from regionlm.errors import InputError
from regionlm.inputs.images import open_image_bytes
from regionlm.inputs.json_lines import without_nulls
from regionlm.inputs.tar_samples import TarSamples, refuse_mask_files, sample_name
from training.data.caption_manifest import check_said, read_said
from training.data.example import Example, Parts
from training.data.source_options import WebDatasetOptions


class WebDataset:
    """The samples of tar files, in order; see `regionlm.inputs.tar_samples`.

    A sample has an image, and either a ``.txt`` with its caption, or a ``.json`` with ``caption``,
    ``captions`` or ``regions`` as in a manifest (box, rle or polygon) and any other keys. If there
    are both, the ``.txt`` is used.

    Raises InputError: a file is missing or not an uncompressed tar file, or there are no samples.
    """

    def __init__(self, options: WebDatasetOptions, *, skip_bad: bool = False) -> None:
        self.skip_bad = skip_bad
        with within("webdataset"):
            self._samples = TarSamples(options.shards, ("txt", "json"), "images and captions")

    @property
    def key(self) -> dict[str, Any]:
        """Digest of the names, sizes, times and members of the files, and their folders."""
        return {
            "shards": self._samples.digest,
            "folders": sorted({str(file.parent.resolve()) for file in self._samples.files}),
        }

    def __len__(self) -> int:
        """Number of samples."""
        return len(self._samples)

    def __getitem__(self, index: int) -> Example:
        """Decode a sample. Raises InputError: its image or captions are missing or unusable."""
        samples = self._samples
        file = samples.file(index)
        parts = Parts(f"{file}, sample {sample_name(samples.member(index))}", self.skip_bad)
        with within(parts.place):
            picture, (text, is_json) = samples.image(index), samples.text(index)
            value = _said(text, is_json)
            image = open_image_bytes(picture, "its image")
        return read_said(value, image, file.parent, parts)


def _said(data: bytes, is_json: bool) -> dict[str, Any]:
    if not is_json:
        try:
            return {"caption": data.decode("utf-8-sig")}
        except UnicodeDecodeError as error:
            raise InputError(f"expected UTF-8, found other bytes ({error.reason})") from error
    value = without_nulls(decode(data))
    check_said(value, None)
    refuse_mask_files(value.get("regions", ()))
    return value
