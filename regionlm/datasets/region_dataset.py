"""What all datasets share: numbered images, decoded when asked for."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from torch.utils.data import Dataset

from regionlm.datasets.data_errors import DataError
from regionlm.datasets.sample import Sample


class RegionDataset(Dataset[Sample], ABC):
    """Images with regions and texts; `dataset[i]` decodes one and is a `Sample`.

    Opening reads annotations only. Instances are small and can be pickled, so a `DataLoader`
    decodes in its workers; give it `collate_fn=list`, since samples differ in size.

    name: as `open_dataset` knows it. split: as given. classes: names of all classes, () if the
    dataset has texts of its own. relatives: for each class those that contain it and those that it
    contains, as indices; () where no hierarchy is known. annotations: the files they were read
    from, but for label maps.
    """

    name: str
    split: str
    annotations: tuple[Path, ...]
    classes: tuple[str, ...] = ()
    relatives: tuple[frozenset[int], ...] = ()

    def __init__(self, ids: Sequence[str], photos: Sequence[str]) -> None:
        """Number the images. ids: of all images of the split. photos: their files."""
        self._ids = tuple(ids)
        self._photos = tuple(photos)
        self._rows = tuple(range(len(self._ids)))

    def __len__(self) -> int:
        """How many images."""
        return len(self._rows)

    def id_of(self, index: int) -> str:
        """Id of an image, without decoding it."""
        return self._ids[self._rows[index]]

    def __getitem__(self, index: int) -> Sample:
        """Decode an image and its masks.

        Raises IndexError; DataError: a file is damaged, missing, or of another picture.
        """
        return self._load(self._rows[index])

    def limited(self, count: int, seed: int = 0) -> RegionDataset:
        """Draw `count` images at random, in the dataset's order: the same ones for the same seed.

        With a larger count, all images. Raises DataError: count < 1.
        """
        if count < 1:
            raise DataError(f"{self.name}: expected a limit of at least 1 image, found {count}")
        drawn = np.random.default_rng(seed).permutation(len(self._rows))[:count]
        smaller = copy.copy(self)
        smaller._rows = tuple(self._rows[index] for index in sorted(drawn.tolist()))
        return smaller

    @abstractmethod
    def _load(self, row: int) -> Sample:
        """Decode the image of a row of `ids`."""
