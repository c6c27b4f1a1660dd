"""The cluster loss against a loop over the authors' code, known answers, properties and derivatives."""

import doctest
import importlib
import math

import pytest
import torch
from torch import Tensor

from pullpush.losses import cluster_contrast, nt_xent


@pytest.fixture
def assigned(rows):
    """`assigned(n, k, seed)`: rows of probabilities in float64."""
    return lambda n, k, seed=0: rows(n, k, seed).softmax(dim=1)


def by_the_code(p_a: Tensor, p_b: Tensor, temperature: float) -> float:
    """Nested loops over columns, in the order of the authors' `ClusterLoss`."""
    k = p_a.shape[1]
    columns = [*p_a.T.tolist(), *p_b.T.tolist()]

    def similarity(i: int, j: int) -> float:
        dot = sum(a * b for a, b in zip(columns[i], columns[j], strict=True))
        return dot / (math.hypot(*columns[i]) * math.hypot(*columns[j])) / temperature

    total = 0.0
    for i in range(2 * k):
        partner = (i + k) % (2 * k)
        negatives = sum(math.exp(similarity(i, j)) for j in range(2 * k) if j not in (i, partner))
        positive = math.exp(similarity(i, partner))
        total -= math.log(positive / (positive + negatives))
    entropy = 0.0
    for p in (p_a, p_b):
        shares = [column / p.sum().item() for column in p.sum(0).tolist()]
        entropy += math.log(k) + sum(share * math.log(share) for share in shares)
    return total / (2 * k) + entropy


@pytest.mark.parametrize("temperature", [0.5, 1.0])
@pytest.mark.parametrize(("n", "k"), [(1, 2), (4, 2), (12, 5), (7, 10)])
def test_equals_the_authors_code(assigned, n, k, temperature):
    p_a, p_b = assigned(n, k, 1), assigned(n, k, 2)
    found = cluster_contrast(p_a, p_b, temperature).item()
    assert found == pytest.approx(by_the_code(p_a, p_b, temperature), rel=1e-12)


def test_the_default_temperature_is_one(assigned):
    p_a, p_b = assigned(6, 3, 1), assigned(6, 3, 2)
    assert cluster_contrast(p_a, p_b) == cluster_contrast(p_a, p_b, 1.0)


def test_the_sign_of_the_entropy(assigned):
    """Its three settings differ by the missing entropy of both views, above zero for an unequal batch."""
    p_a, p_b = assigned(8, 3, 1) ** 3, assigned(8, 3, 2) ** 3
    p_a, p_b = p_a / p_a.sum(1, keepdim=True), p_b / p_b.sum(1, keepdim=True)
    official, without, printed = (cluster_contrast(p_a, p_b, entropy_sign=s) for s in (1, 0, -1))
    assert without.item() == pytest.approx(nt_xent(p_a.T, p_b.T, 1.0).item())
    assert (official - without).item() == pytest.approx((without - printed).item())
    assert official > without


def test_clusters_in_equal_use_miss_no_entropy_and_one_cluster_misses_all():
    even, one = torch.eye(4, dtype=torch.float64), torch.zeros(4, 4, dtype=torch.float64)
    one[:, 2] = 1
    for p, missing in ((even, 0.0), (one, 2 * math.log(4))):
        entropy = cluster_contrast(p, p) - cluster_contrast(p, p, entropy_sign=0)
        assert entropy.item() == pytest.approx(missing, abs=1e-9)


@pytest.mark.parametrize("entropy_sign", [1, -1])
def test_an_empty_cluster_is_safe(assigned, entropy_sign):
    p_a = torch.cat([assigned(6, 3, 1), torch.zeros(6, 1, dtype=torch.float64)], 1).requires_grad_()
    p_b = torch.cat([assigned(6, 3, 2), torch.zeros(6, 1, dtype=torch.float64)], 1)
    loss = cluster_contrast(p_a, p_b, entropy_sign=entropy_sign)
    loss.backward()
    assert loss.isfinite()
    assert p_a.grad.isfinite().all()


def test_the_printed_sign_collapses_the_clusters():
    """Gradient descent on free assignments: the official sign keeps four clusters, the printed one."""
    used = {}
    for sign in (1, -1):
        logits = torch.randn(64, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
        optimizer = torch.optim.Adam([logits], 0.1)
        for _ in range(200):
            p = logits.softmax(1)
            optimizer.zero_grad()
            cluster_contrast(p, p, entropy_sign=sign).backward()
            optimizer.step()
        used[sign] = logits.argmax(1).unique().numel()
    assert used == {1: 4, -1: 1}


class TestProperties:
    def test_names_of_clusters_and_order_of_samples_do_not_matter(self, assigned):
        p_a, p_b = assigned(9, 4, 1), assigned(9, 4, 2)
        expected = cluster_contrast(p_a, p_b)
        renamed = cluster_contrast(p_a[:, [2, 0, 3, 1]], p_b[:, [2, 0, 3, 1]])
        torch.testing.assert_close(renamed, expected, rtol=1e-12, atol=0)
        torch.testing.assert_close(cluster_contrast(p_a.flip(0), p_b.flip(0)), expected, rtol=1e-12, atol=0)
        torch.testing.assert_close(cluster_contrast(p_b, p_a), expected, rtol=1e-12, atol=0)

    def test_first_and_second_derivatives(self, assigned):
        inputs = assigned(5, 3, 1).requires_grad_(), assigned(5, 3, 2).requires_grad_()
        assert torch.autograd.gradcheck(cluster_contrast, inputs)
        assert torch.autograd.gradgradcheck(cluster_contrast, inputs)


def test_half_precision_is_computed_in_single(assigned):
    p_a, p_b = assigned(32, 5, 1), assigned(32, 5, 2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = cluster_contrast(p_a.bfloat16(), p_b.bfloat16())
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(cluster_contrast(p_a, p_b).item(), rel=1e-2)


def test_wrong_input_is_refused(assigned):
    with pytest.raises(ValueError, match="must have the same shape"):
        cluster_contrast(assigned(4, 3), assigned(4, 2))
    with pytest.raises(ValueError, match=r"temperature 0\.0 must be above 0"):
        cluster_contrast(assigned(4, 3), assigned(4, 3), 0.0)


def test_the_example_in_the_docstring():
    assert doctest.testmod(importlib.import_module("pullpush.losses.cluster_contrast")) == (0, 2)
