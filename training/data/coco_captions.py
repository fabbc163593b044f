"""COCO captions: five sentences per image (Chen et al. 2015; https://cocodataset.org)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefix_models.errors import within
from regionlm.datasets.dataset_files import locate
from regionlm.datasets.json_records import TableBuilder, scan
from regionlm.errors import InputError
from regionlm.inputs.images import open_image
from regionlm.pretrained.file_digests import file_digest
from training.data.example import Example, Parts
from training.data.source_options import CocoCaptionsOptions

_DOWNLOAD = "http://images.cocodataset.org/annotations/annotations_trainval2014.zip"


class CocoCaptions:
    """The images of a `captions_*.json` that have captions, in the order of their first ones.

    Raises InputError: a file is missing or has another form.
    """

    def __init__(self, options: CocoCaptionsOptions, *, skip_bad: bool = False) -> None:
        self.file, self.folder = Path(options.annotations), Path(options.images)
        self.skip_bad = skip_bad
        self._digest = file_digest(self.file)
        builder, names = TableBuilder(), {}
        for record in scan(self.file):
            value = record.value
            try:
                if record.key == "annotations":
                    builder.add(int(value["image_id"]), record)
                    value["caption"]
                elif record.key == "images":
                    names[int(value["id"])] = str(value["file_name"])
            except (KeyError, TypeError, ValueError) as error:
                raise InputError(
                    f"{self.file}: expected images with id and file_name, and annotations with"
                    f" image_id and caption, found {str(value)[:60]}"
                ) from error
        self._ids = builder.image_ids()
        if not self._ids:
            raise InputError(f"{self.file}: expected a list of annotations, found none")
        self._table = builder.table()
        files = [
            (names.get(number, f"image {number}, which it does not list"),) for number in self._ids
        ]
        self._photos = locate("coco_captions", "images", files, [self.folder], _DOWNLOAD, skip_bad)

    @property
    def key(self) -> dict[str, Any]:
        """Digest of the annotations, and the folder of the images."""
        return {"annotations": self._digest, "images": str(self.folder.resolve())}

    def __len__(self) -> int:
        """Number of images."""
        return len(self._ids)

    def __getitem__(self, index: int) -> Example:
        """Decode an image. Raises InputError: it, or all its captions, can't be used."""
        number, photo = self._ids[index], self._photos[index]
        parts = Parts(f"{self.file}, image {number}", self.skip_bad)
        texts: list[str] = []
        for annotation in self._table.of_image(number):
            parts.place = f"{self.file}, image {number}, annotation {annotation.get('id')}"
            texts += parts.texts([annotation["caption"]])
        with within(f"{self.file}, image {number}"):
            image = open_image(photo)
        return parts.whole(image, texts)
