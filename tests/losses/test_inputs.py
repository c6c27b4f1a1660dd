"""What losses do to their input first: rows at unit length, however short or long they were."""

import pytest
import torch
from torch.nn import functional

from pullpush.losses._inputs import unit_rows


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rows_at_unit_length_are_those_of_torch_with_their_gradients(rows, dtype):
    z, weight = rows(20, 5).to(dtype).requires_grad_(), rows(20, 5, seed=1).to(dtype)
    found = unit_rows(z)
    expected = functional.normalize(z, dim=1)
    torch.testing.assert_close(found, expected)
    (ours,), (theirs,) = (torch.autograd.grad((u * weight).sum(), z) for u in (found, expected))
    torch.testing.assert_close(ours, theirs)
    assert torch.autograd.gradgradcheck(unit_rows, rows(4, 3).double().requires_grad_())


@pytest.mark.parametrize("scale", [2.0**-120, 2.0**-60, 2.0**-3, 2.0**5, 2.0**90, 2.0**120])
def test_a_power_of_two_changes_no_bit(rows, scale):
    """Squares of the first and the last are beyond fp32."""
    z = rows(50, 7).float()
    assert torch.equal(unit_rows(z * scale), unit_rows(z))


def test_the_shortest_rows_point_where_they_did():
    z = torch.tensor([[3e-41, -4e-41], [3e-25, -4e-25], [3e38, -3e38 * 4 / 3 / 2]])
    torch.testing.assert_close(unit_rows(z[:2]), torch.tensor([[0.6, -0.8]]).expand(2, 2), rtol=1e-3, atol=0)
    assert unit_rows(z).norm(dim=1).allclose(torch.ones(3))


def test_double_precision_rows_become_zero_beyond_1e190():
    for scale in (1e-180, 1e180):
        z = torch.tensor([[3.0, -4.0]], dtype=torch.float64) * scale
        torch.testing.assert_close(unit_rows(z), torch.tensor([[0.6, -0.8]], dtype=torch.float64))
    for scale in (1e-200, 1e200):
        assert torch.equal(
            unit_rows(torch.full((1, 2), scale, dtype=torch.float64)), torch.zeros(1, 2).double()
        )


def test_a_row_of_zeros_stays_zero_and_has_gradient_zero():
    z = torch.zeros(2, 3, requires_grad=True)
    u = unit_rows(z)
    u.sum().backward()
    assert torch.equal(u, torch.zeros(2, 3))
    assert torch.equal(z.grad, torch.zeros(2, 3))


def test_half_precision_is_widened():
    assert unit_rows(torch.ones(2, 3, dtype=torch.bfloat16)).dtype == torch.float32
