from __future__ import annotations

import pytest
import torch

from molmeta.domains.molecules.sparse import SparseRows, product

pytestmark = pytest.mark.usefixtures("float64")


@pytest.fixture
def dense() -> torch.Tensor:
    """Rows of 3, 0, 1 and 2 entries, one column twice in a row, one in none."""
    return torch.tensor([[0.5, 0.0, 1.0, 0.0, 2.0], [0.0] * 5, [0.0, 0.0, 0.0, 0.0, -1.0], [3.0, 0.0, 0.0, 0.0, 0.0]])


@pytest.fixture
def rows() -> SparseRows:
    values = torch.tensor([0.5, 1.0, 2.0, -1.0, 1.0, 2.0])
    return SparseRows(values, torch.tensor([0, 2, 4, 4, 0, 0]), torch.tensor([0, 3, 3, 4, 6]), 5)


def test_it_is_the_product_with_the_dense_matrix(rows: SparseRows, dense: torch.Tensor) -> None:
    other, back = torch.randn(5, 3), torch.randn(4, 3)
    torch.testing.assert_close(product(rows, other), dense @ other)
    torch.testing.assert_close(product(rows.transposed, back), dense.T @ back)
    assert rows.transposed.transposed is rows


def test_its_derivatives_are_finite_differences(rows: SparseRows) -> None:
    other = torch.randn(5, 3, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: product(rows, x), (other,))
    assert torch.autograd.gradgradcheck(lambda x: product(rows, x.sin()), (other,))


def test_rows_of_one_entry_are_a_gather_and_back_a_sum() -> None:
    columns, other = torch.tensor([3, 0, 3]), torch.randn(4, 2, requires_grad=True)
    found = product(SparseRows(None, columns, None, 4), other)
    torch.testing.assert_close(found, other[columns])
    (gradient,) = torch.autograd.grad(found.sum(), other)
    torch.testing.assert_close(gradient, torch.tensor([1.0, 0, 0, 2])[:, None].expand(4, 2))


def test_a_matrix_may_have_no_entries_and_no_rows() -> None:
    none = torch.zeros(0, dtype=torch.int64)
    assert (
        product(SparseRows(None, none, torch.zeros(3, dtype=torch.int64), 4), torch.ones(4, 2)).tolist() == [[0, 0]] * 2
    )
    assert product(SparseRows(None, none, None, 4), torch.ones(4, 2)).shape == (0, 2)
    assert product(SparseRows(None, none, torch.zeros(1, dtype=torch.int64), 4), torch.ones(4, 2)).shape == (0, 2)


def test_columns_beyond_16_bits_are_ordered_too() -> None:
    columns = torch.randint(0, 300_000, (1000,))
    back = SparseRows(None, columns, None, 300_000).transposed
    torch.testing.assert_close(back.columns, torch.argsort(columns, stable=True))
