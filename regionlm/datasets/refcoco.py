"""RefCOCO and RefCOCO+: sentences that single out an object among all those of a COCO image.

Kazemzadeh et al., ReferItGame, EMNLP 2014; Yu et al., Modeling Context in Referring Expressions,
ECCV 2016; files as in https://github.com/lichengunc/refer.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from prefix_models.checks import check_choice
from regionlm.datasets.data_errors import DataError, DataWarning
from regionlm.datasets.dataset_files import annotation_files, check_counts, find_needed, locate
from regionlm.datasets.dataset_options import RefCocoOptions, RefCocoPlusOptions
from regionlm.datasets.image_files import read_photo
from regionlm.datasets.instances import Photo, annotation_masks, read_instances
from regionlm.datasets.refs_pickle import Ref, Sentence, read_refs
from regionlm.datasets.region_dataset import RegionDataset
from regionlm.datasets.sample import Expression, Sample, referring_sample

DOWNLOAD = (
    "https://bvisionweb1.cs.unc.edu/licheng/referit/data/{name}.zip (mirrors: "
    "https://github.com/lichengunc/refer/issues/14) and "
    "http://images.cocodataset.org/zips/train2014.zip"
)

# Counts of the "unc" splits. No source that we trust has RefCOCO+'s sentences per split.
_PUBLISHED = {
    ("refcoco", "train"): {"images": 16_994, "refs": 42_404, "sentences": 120_624},
    ("refcoco", "val"): {"images": 1_500, "refs": 3_811, "sentences": 10_834},
    ("refcoco", "testA"): {"images": 750, "refs": 1_975, "sentences": 5_657},
    ("refcoco", "testB"): {"images": 750, "refs": 1_810, "sentences": 5_095},
    ("refcoco+", "train"): {"images": 16_992, "refs": 42_278},
    ("refcoco+", "val"): {"images": 1_500, "refs": 3_805},
    ("refcoco+", "testA"): {"images": 750, "refs": 1_975},
    ("refcoco+", "testB"): {"images": 750, "refs": 1_798},
}


class RefCoco(RegionDataset):
    """A sample for each image that sentences refer to, with all its COCO masks and sentences.

    All annotated objects of the image are candidates, in file order, whether a sentence refers to
    them or not. Each sentence is a text; those of one object share a target. `mask_ids` are
    annotation ids, `text_ids` sentence ids.
    """

    def __init__(
        self,
        root: str | Path,
        split: str = RefCocoOptions.default_split,
        *,
        name: str = RefCocoOptions.dataset,
        allow_missing: bool = False,
        **options: Any,
    ) -> None:
        """Open a split.

        root: folder of `refcoco/` and `refcoco+/`, or one of the two, with `instances.json` and
        `refs(unc).p`.
        split: train, val, testA (people) or testB (other things).
        name: "refcoco" or "refcoco+".
        allow_missing: report an image whose file is missing when it is read, not now.
        options: fields of `RefCocoOptions`.

        Raises DataError: unknown name or split, bad option, missing or damaged files, a pickle
        that would run code.
        """
        kinds = {kind.dataset: kind for kind in (RefCocoOptions, RefCocoPlusOptions)}
        check_choice("refcoco: name", name, kinds, DataError)
        chosen = kinds[name](**options)
        self.name, self.split, self._text = name, split, chosen.text
        root, pickled = Path(root), f"refs({chosen.split_by}).p"
        download = DOWNLOAD.format(name=name)
        needs = {
            "instances.json": [root / name / "instances.json", root / "instances.json"],
            pickled: [root / name / pickled, root / pickled],
            "COCO's train2014 images": _image_folders(root, chosen.images, name),
        }
        found = find_needed(name, root, needs, download)
        self.annotations = annotation_files(found)
        refs = _of_split(read_refs(found[pickled][0]), split, found[pickled][0])
        wanted = {ref.image_id for ref in refs}
        self._instances = read_instances(
            found["instances.json"][0], include_crowd=chosen.include_crowd, images=wanted
        )
        self._refs = self._group(refs)
        self._check(refs, chosen.split_by)
        known = {number: self._instances.photos[number] for number in self._refs}
        names = [_file_names(number, photo) for number, photo in known.items()]
        folders = found["COCO's train2014 images"]
        photos = locate(name, "images", names, folders, download, allow_missing)
        super().__init__([str(number) for number in known], photos)

    def _group(self, refs: Sequence[Ref]) -> dict[int, list[Ref]]:
        """Group references by image, without those whose image or object is not annotated."""
        groups: dict[int, list[Ref]] = {}
        annotated = np.isin([ref.ann_id for ref in refs], self._instances.ids)
        lost = 0
        for ref, has_mask in zip(refs, annotated, strict=True):
            if has_mask and ref.image_id in self._instances.photos:
                groups.setdefault(ref.image_id, []).append(ref)
            else:
                lost += 1
        if lost:
            warnings.warn(
                f"{self.name}: {lost:,} of {len(refs):,} references are to objects or images that "
                "are not in instances.json, or to crowds; they are left out",
                DataWarning,
                stacklevel=3,
            )
        return groups

    def _check(self, refs: Sequence[Ref], split_by: str) -> None:
        counts = {
            "images": len({ref.image_id for ref in refs}),
            "refs": len(refs),
            "sentences": sum(len(ref.sentences) for ref in refs),
        }
        published = _PUBLISHED.get((self.name, self.split), {}) if split_by == "unc" else {}
        check_counts(f"{self.name} {self.split}", counts, published)

    def _load(self, row: int) -> Sample:
        number = int(self._ids[row])
        photo, table = self._instances.photos[number], self._instances.table
        texts = [
            Expression(str(sentence.id), self._words(sentence), str(ref.ann_id))
            for ref in self._refs[number]
            for sentence in ref.sentences
        ]
        return referring_sample(
            self._ids[row],
            read_photo(self._photos[row], (photo.width, photo.height)),
            annotation_masks(table.of_image(number), photo, table.name),
            texts,
            {},
        )

    def _words(self, sentence: Sentence) -> str:
        return sentence.raw.lower() if self._text == "raw" else sentence.sent


def _of_split(refs: Sequence[Ref], split: str, file: Path) -> list[Ref]:
    """Select as the official tools do, by letter: "testAB" is in testA and in testB."""
    if split in ("testA", "testB", "testC"):
        found = [ref for ref in refs if split[-1] in ref.split]
    else:
        found = [ref for ref in refs if ref.split == split]
    if not found:
        splits = ", ".join(sorted({ref.split for ref in refs}))
        raise DataError(f"{file}: expected a split among {splits or 'none'}; found {split!r}")
    return found


def _image_folders(root: Path, images: str | Path | None, name: str) -> list[Path]:
    years = ("train2014", "train2017", "val2017")
    if images is not None:
        given = Path(images)
        return [given / below / year for year in years for below in ("", "images")] + [given]
    # If root is DATA/refcoco, the images are beside it.
    data = root.parent if root.name == name else root
    homes = (data / "images/mscoco/images", data / "images", data)
    return [home / year for year in years for home in homes]


def _file_names(number: int, photo: Photo) -> tuple[str, str]:
    # The `file_name` of instances.json, not that of references; COCO 2017 has shorter names.
    return photo.file_name, f"{number:012d}.jpg"
