"""Matrix products whose rows don't depend on each other's company.

A row of ``a @ b`` has other last bits when ``a`` has another number of rows, because libraries
choose their kernel by the shape. Ten steps of AdamW make different vectors of that. So wherever
the rows belong to different masks, tokens or images, each is a product of its own.
"""

from __future__ import annotations

import torch
from torch import Tensor


def by_row(rows: Tensor, matrix: Tensor) -> Tensor:
    """``rows [m, K] @ matrix [K, N]``, each row as if it were alone: ``[m, N]``."""
    # In memory of its own: the order of a sum also depends on where a row begins.
    return torch.stack([torch.mv(matrix.T, row.clone()) for row in rows])
