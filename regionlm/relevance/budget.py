"""Memory limits of relevance maps."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch


@dataclass(frozen=True)
class Budget:
    """Buffer sizes in float32 elements; they bound memory whatever the image size or mask count."""

    chunk: int  # per group of masks worked on together
    piece: int  # part of the attention gradient worked on at once
    keep: int  # of the attention gradient's sign pattern kept for the backward pass

    @classmethod
    def for_device(cls, device: torch.device) -> Budget:
        """Cache-sized on a CPU; large enough to fill an accelerator elsewhere."""
        if device.type == "cpu":
            return cls(chunk=4_000_000, piece=700_000, keep=64_000_000)
        return cls(chunk=400_000_000, piece=200_000_000, keep=400_000_000)

    def shared_by(self, count: int) -> Budget:
        """The budget of each of several maps that exist at once."""
        return replace(self, chunk=self.chunk // count, keep=self.keep // count)
