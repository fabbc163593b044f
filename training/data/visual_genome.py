"""Visual Genome: boxes with a phrase each.

Krishna et al., Visual Genome, IJCV 2017; https://homes.cs.washington.edu/~ranjay/visualgenome.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from prefix_models.errors import within
from regionlm.datasets.dataset_files import find_needed, locate
from regionlm.datasets.json_records import TableBuilder, scan
from regionlm.errors import InputError
from regionlm.inputs.images import open_image
from regionlm.pretrained.file_digests import file_digest
from training.data.example import Example, Parts
from training.data.source_options import VisualGenomeOptions

_DOWNLOAD = "https://homes.cs.washington.edu/~ranjay/visualgenome/api.html"


class VisualGenome:
    """The images of `region_descriptions.json`, with their regions.

    Boxes that cross the border are cut there. Regions with the same box become one region with
    several captions.

    Raises InputError: a file is missing or has another form.
    """

    def __init__(self, options: VisualGenomeOptions, *, skip_bad: bool = False) -> None:
        root, home = Path(options.root), Path(options.images or options.root)
        name = "region_descriptions.json"
        folders = ["VG_100K", "VG_100K_2", "images", "images/VG_100K", "images/VG_100K_2"]
        needs = {name: [root / name], "images": [home / folder for folder in folders]}
        found = find_needed("visual_genome", root, needs, _DOWNLOAD)
        self.file, self.home, self.skip_bad = found[name][0], home, skip_bad
        self._digest = file_digest(self.file)
        builder = TableBuilder()
        for record in scan(self.file):
            if record.value.get("regions") if isinstance(record.value, dict) else True:
                builder.add(self._number(record.value), record)
        self._ids = builder.image_ids()
        if not self._ids:
            raise InputError(f"{self.file}: expected images with regions, found none")
        self._table = builder.table()
        files = [(f"{number}.jpg",) for number in self._ids]
        self._photos = locate(
            "visual_genome", "images", files, found["images"], _DOWNLOAD, skip_bad
        )

    @property
    def key(self) -> dict[str, Any]:
        """Digest of the annotations, and the folder of the images."""
        return {"annotations": self._digest, "images": str(self.home.resolve())}

    def __len__(self) -> int:
        """Number of images with regions."""
        return len(self._ids)

    def __getitem__(self, index: int) -> Example:
        """Decode an image. Raises InputError: it, or all its regions, can't be used."""
        number, photo = self._ids[index], self._photos[index]
        place = f"{self.file}, image {number}"
        with within(place):
            image = open_image(photo)
        parts = Parts(place, self.skip_bad)
        said: dict[tuple[int, ...], list[str]] = {}
        for record in self._table.of_image(number):
            for region in record["regions"]:
                parts.place = f"{place}, region {region.get('region_id')}"
                with parts.checked():
                    said.setdefault(_box(region, image.size), []).extend(
                        parts.texts([region.get("phrase")])
                    )
        for (x0, y0, x1, y1), texts in said.items():
            mask = np.zeros((image.height, image.width), bool)
            mask[y0:y1, x0:x1] = True
            parts.add(mask, texts)
        return parts.example(image)

    def _number(self, value: Any) -> int:
        try:
            regions = value["regions"]
            if not isinstance(regions, list) or not all(isinstance(one, dict) for one in regions):
                raise TypeError
            return int(value["id"] if "id" in value else regions[0]["image_id"])
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"{self.file}: expected images with id and regions, found {str(value)[:60]}"
            ) from error


def _box(region: dict[str, Any], size: tuple[int, int]) -> tuple[int, int, int, int]:
    """The part of a box inside the image, as x0, y0, x1, y1 in pixels with exclusive ends."""
    numbers = [region.get(name) for name in ("x", "y", "width", "height")]
    if any(type(number) not in (int, float) or number != number for number in numbers):
        raise InputError(f"expected numbers x, y, width and height, found {str(numbers)[:60]}")
    x, y, width, height = (max(min(float(n or 0), 1e9), -1e9) for n in numbers)
    x0, y0 = max(round(x), 0), max(round(y), 0)
    x1, y1 = min(round(x + width), size[0]), min(round(y + height), size[1])
    if x1 <= x0 or y1 <= y0:
        raise InputError(f"its box {numbers} covers no pixel of the image, {size[0]} x {size[1]}")
    return x0, y0, x1, y1
