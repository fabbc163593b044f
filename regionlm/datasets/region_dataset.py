"""The base class of all datasets: numbered images, decoded when asked for."""

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
    """Images with regions and texts; `dataset[i]` decodes an image and returns a `Sample`.

    Opening a dataset reads annotations only. Instances are small and can be pickled, so the workers
    of a `DataLoader` can decode; pass it `collate_fn=list`, since samples differ in size.

    name: its name in `open_dataset`. split: as given. classes: names of all classes; () if the
    dataset has free texts. relatives: for each class, indices of those that contain it or that it
    contains; () without a hierarchy. annotations: the annotation files, without label maps.
    """

    name: str
    split: str
    annotations: tuple[Path, ...]
    classes: tuple[str, ...] = ()
    relatives: tuple[frozenset[int], ...] = ()

    def __init__(self, ids: Sequence[str], photos: Sequence[str]) -> None:
        """Set up the images. ids: those of all images of the split. photos: their files."""
        self._ids = tuple(ids)
        self._photos = tuple(photos)
        self._rows = tuple(range(len(self._ids)))

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self._rows)

    def id_of(self, index: int) -> str:
        """Return the id of an image without decoding it."""
        return self._ids[self._rows[index]]

    def __getitem__(self, index: int) -> Sample:
        """Decode an image and its masks.

        Raises IndexError; DataError: a file is missing or damaged, or shows another image.
        """
        return self._load(self._rows[index])

    def limited(self, count: int, seed: int = 0) -> RegionDataset:
        """Return a dataset of `count` random images, in the same order; the seed decides which.

        Returns all images if there are fewer. Raises DataError: count < 1.
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
