"""Rows of products don't depend on each other."""

import pytest
import torch

from regionlm.relevance.products import by_row


@pytest.mark.parametrize("columns", [1, 5, 64])
@pytest.mark.parametrize("width", [64, 70, 333])
def test_a_row_has_the_bits_that_it_has_alone(width, columns):
    """Also where a row is no multiple of what the processor reads at once."""
    matrix = torch.randn(width, columns)
    for transposed in (matrix, matrix.T.contiguous().T):
        for _ in range(20):
            rows = torch.randn(7, width)
            together = by_row(rows, transposed)
            torch.testing.assert_close(together, rows @ matrix, atol=1e-4, rtol=1e-4)
            for row, found in zip(rows, together, strict=True):
                assert torch.equal(by_row(row[None].clone(), transposed)[0], found)
