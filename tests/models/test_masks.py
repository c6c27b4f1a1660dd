"""Masks against loops over gates, and their gradients against the derivatives that they stand for."""

import math

import pytest
import torch
from torch import Tensor

from pullpush import losses
from pullpush.models import MaskNetwork, mask, masks


def logits(n: int = 6, d: int = 8, seed: int = 0) -> Tensor:
    stream = torch.Generator().manual_seed(seed)
    return 2 * torch.randn(n, d, generator=stream, dtype=torch.float64)


def noise(n: int = 6, d: int = 8, seed: int = 1) -> Tensor:
    return torch.rand(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def slope(x: float) -> float:
    return sigmoid(x) * (1 - sigmoid(x))


def concrete(a: float, u: float, temperature: float) -> float:
    return (a + math.log(u) - math.log(1 - u)) / temperature


def each_gate(kind, a, u, temperature, k):
    """Mask and its derivative of one row, gate by gate."""
    if kind == "hard":
        return [(float(sigmoid(x) > 0.5), slope(x)) for x in a]
    if kind == "soft":
        return [(sigmoid(x), slope(x)) for x in a]
    if kind == "top_k":
        return [(float(sum(y > x for y in a) < k), slope(x)) for x in a]
    if kind == "gumbel":
        y = [concrete(x, v, temperature) for x, v in zip(a, u, strict=True)]
        return [(float(sigmoid(x) > 0.5), slope(x) / temperature) for x in y]
    return [(float(v < 0.375) if kind == "random" else 1.0, 0.0) for v in u]


@pytest.mark.parametrize("kind", masks.KINDS)
@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_values_and_gradients_are_those_of_each_gate(kind, temperature):
    a, u, weight = logits().requires_grad_(), noise(), logits(seed=2)
    m = mask(a, kind, uniform=u, temperature=temperature, share=0.375)
    expected = [
        each_gate(kind, row, draws, temperature, k=3)
        for row, draws in zip(a.tolist(), u.tolist(), strict=True)
    ]
    values, slopes = torch.tensor(expected, dtype=torch.float64).unbind(2)
    torch.testing.assert_close(m.detach(), values, rtol=1e-12, atol=0)
    if kind in ("random", "none"):
        assert not m.requires_grad
    else:
        (m * weight).sum().backward()
        torch.testing.assert_close(a.grad, weight * slopes, rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("kind", ["hard", "gumbel", "top_k", "random", "none"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_masks_are_0_or_1_exactly_and_at_least_fp32(kind, dtype):
    m = mask((30 * logits(50, 32)).to(dtype), kind, uniform=noise(50, 32))
    assert m.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert ((m == 0) | (m == 1)).all()


@pytest.mark.parametrize("temperature", [0.5, 1.0, 5.0])
def test_a_gumbel_gate_is_open_with_the_probability_sigmoid_a(temperature):
    a = torch.tensor([[-2.0, 0.0, 1.0, 3.0]]).expand(20_000, 4)
    share = mask(a, "gumbel", uniform=noise(20_000, 4), temperature=temperature).mean(0)
    expected = a[0].sigmoid()
    assert ((share - expected).abs() < 5 * (expected * (1 - expected) / 20_000).sqrt()).all()


def test_a_gumbel_mask_without_surprise_is_the_hard_mask():
    assert torch.equal(mask(logits(), "gumbel", uniform=torch.full((6, 8), 0.5)), mask(logits()))


def test_noise_of_0_shuts_a_gate_without_nan():
    a = logits().requires_grad_()
    m = mask(a, "gumbel", uniform=torch.zeros(6, 8))
    m.sum().backward()
    assert not m.any()
    assert torch.equal(a.grad, torch.zeros(6, 8, dtype=torch.float64))


@pytest.mark.parametrize(("share", "k"), [(1 / 32, 1), (0.5, 16), (1, 32)])
def test_top_k_opens_k_gates_whatever_the_level(share, k):
    a = logits(40, 32)
    m = mask(a, "top_k", share=share)
    assert (m.sum(1) == k).all()
    assert torch.equal(m, mask(a - 100, "top_k", share=share))
    assert (a.where(m == 1, torch.inf).amin(1) >= a.where(m == 0, -torch.inf).amax(1)).all()


def test_the_random_mask_has_its_share_and_ignores_the_logits():
    u = noise(2000, 32)
    m = mask(logits(2000, 32), "random", uniform=u, share=0.7)
    assert abs(m.mean().item() - 0.7) < 5 * (0.7 * 0.3 / 64_000) ** 0.5
    assert torch.equal(m, mask(-logits(2000, 32), "random", uniform=u, share=0.7))


class TestInNTXent:
    """What a masked row means to the loss."""

    def test_a_row_with_all_gates_shut_has_similarity_0_to_every_other(self):
        z_a, z_b = logits(5, 4, seed=3), logits(5, 4, seed=4)
        open_gates = torch.ones(5, 1, dtype=torch.float64)
        open_gates[2] = 0
        rows = [*(z_a * open_gates).tolist(), *(z_b * open_gates).tolist()]

        def similarity(x, y):
            lengths = math.hypot(*x) * math.hypot(*y)
            return sum(p * q for p, q in zip(x, y, strict=True)) / lengths if lengths else 0.0

        expected = 0.0
        for i, x in enumerate(rows):
            others = sum(math.exp(similarity(x, y) / 0.5) for k, y in enumerate(rows) if k != i)
            expected -= math.log(math.exp(similarity(x, rows[(i + 5) % 10]) / 0.5) / others) / 10
        assert losses.nt_xent(z_a * open_gates, z_b * open_gates).item() == pytest.approx(expected)

    def test_it_has_finite_gradients_and_none_of_its_own(self):
        z_a, z_b = (logits(5, 4, seed).requires_grad_() for seed in (3, 4))
        a = logits(5, 4, seed=5)
        a[2] = -1
        a[3] = 1
        a.requires_grad_()
        m = mask(a)
        losses.nt_xent(z_a * m, z_b * m).backward()
        for gradient in (z_a.grad, z_b.grad, a.grad):
            assert gradient.isfinite().all()
            assert not gradient[2].any()
            assert gradient[3].any()

    def test_all_gates_shut_is_log_of_2n_minus_1(self):
        z, a = logits(5, 4), torch.full((5, 4), -1.0, requires_grad=True)
        m = mask(a)
        loss = losses.nt_xent(z * m, -z * m)
        loss.backward()
        assert loss.item() == pytest.approx(math.log(9))
        assert torch.equal(a.grad, torch.zeros(5, 4))

    def test_training_the_gates_alone_shuts_out_noise(self):
        """Numbers 0 to 3 agree in both views, 4 to 7 do not: the mask network learns which to compare."""
        torch.manual_seed(0)
        stream, network = torch.Generator().manual_seed(0), MaskNetwork(8)
        adam = torch.optim.Adam(network.parameters(), 0.01)
        for _ in range(150):
            z_a, z_b = (torch.randn(32, 8, generator=stream) for _ in range(2))
            z_a[:, :4] = z_b[:, :4]
            m = mask(network(z_b))
            adam.zero_grad()
            losses.nt_xent(z_a * m, z_b * m).backward()
            adam.step()
        assert m[:, :4].mean() > m[:, 4:].mean() + 0.5


A = torch.zeros(4, 8)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mask(A, "gumble"), "Unknown mask 'gumble'. Did you mean 'gumbel'? Allowed: hard"),
        (lambda: mask(A, "gumbel"), "The gumbel mask needs noise: give uniform="),
        (lambda: mask(A, "random"), "The random mask needs noise"),
        (lambda: mask(A, "random", uniform=A[:3]), r"uniform has shape \(3, 8\).* \(4, 8\)"),
        (lambda: mask(A, "gumbel", uniform=A, temperature=0), "temperature 0 must be above 0"),
        (lambda: mask(A, "top_k", share=0), "share=0 of open gates must be above 0"),
        (lambda: mask(A, "random", uniform=A, share=1.1), "share=1.1"),
        (lambda: mask(A, "top_k", share=0.01), "k=0 open gates must be between 1 and .* 8"),
        (lambda: masks.top_k_mask(A, 9), "k=9 open gates"),
        (lambda: mask(A[0]), r"shape \(8,\)"),
        (lambda: mask(A.long(), "none"), "torch.int64, must be"),
    ],
)
def test_bad_input_says_what_was_given(call, message):
    with pytest.raises(ValueError, match=message.replace("?", r"\?")):
        call()
