"""The edge loss against loops, closed forms, torch's cross-entropy, umap-learn's gradient; its negatives."""

import doctest
import importlib
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from pullpush.losses import soft_contrast

A, B = 1.5769, 0.8951
FORMS = ["logit", "umap"]


def distances(n: int, seed: int = 0, *, longest: float = 6.0) -> Tensor:
    """Random distances in float64, from touching to far apart."""
    generator = torch.Generator().manual_seed(seed)
    return longest * torch.rand(n, generator=generator, dtype=torch.float64) ** 2


def by_the_definition(positive: Tensor, negative: Tensor, a: float, b: float, form: str) -> float:
    """Cross-entropy, term by term, on q(d) = sigmoid(log p(d)) or p(d)."""

    def q(d: float) -> float:
        p = 1 / (1 + a * d ** (2 * b))
        return 1 / (1 + math.exp(-math.log(p))) if form == "logit" else p

    terms = [-math.log(q(d)) for d in positive.tolist()]
    for d in negative.flatten().tolist():
        terms.append(-math.log(1 - q(d if form == "logit" else math.sqrt(d * d + 0.001))))
    return sum(terms) / len(terms)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("a", "b"), [(A, B), (1.0, 1.0), (0.3, 0.4), (5.0, 1.6)])
@pytest.mark.parametrize(("m", "negatives"), [(1, 1), (3, 10), (20, 5)])
def test_equals_its_definition_term_by_term(form, a, b, m, negatives):
    positive, negative = distances(m, 1), distances(m * negatives, 2).view(m, negatives)
    loss = soft_contrast(positive, negative, a, b, form=form)
    assert loss.shape == ()
    assert loss.dtype == torch.float64
    assert loss.item() == pytest.approx(by_the_definition(positive, negative, a, b, form), rel=1e-12)


def test_the_defaults_are_umaps_curve_in_logit_form():
    positive, negative = distances(4, 1), distances(40, 2)
    expected = soft_contrast(positive, negative, 1.5769, 0.8951, form="logit")
    assert soft_contrast(positive, negative) == expected


def test_the_defaults_fit_the_curve_of_spread_1_and_min_dist_0_1():
    """Least squares on 300 points, as umap-learn finds a and b."""
    from scipy.optimize import curve_fit

    x = np.linspace(0, 3, 300)
    wanted = np.where(x < 0.1, 1.0, np.exp(-(x - 0.1)))
    found, _ = curve_fit(lambda d, a, b: 1 / (1 + a * d ** (2 * b)), x, wanted)
    assert found == pytest.approx([A, B], abs=1e-4)


@pytest.mark.parametrize(
    ("form", "d", "positive", "negative"),
    [
        ("logit", 0.0, math.log(2), math.log(2)),  # a coin toss, and the most that a negative costs
        ("logit", 1.0, math.log(3), math.log(3 / 2)),  # for a = 1: p = 1/2, q = 1/3
        ("logit", 3.0, math.log(11), math.log(11 / 10)),  # for b = 1: p = 1/10, q = 1/11
        ("umap", 0.0, 0.0, math.log(1 + 1 / 0.001)),
        ("umap", 1.0, math.log(2), math.log(1 + 1 / 1.001)),
        ("umap", 3.0, math.log(10), math.log(1 + 1 / 9.001)),
    ],
)
def test_closed_form_for_a_and_b_of_1(form, d, positive, negative):
    one, none = torch.tensor([d], dtype=torch.float64), torch.tensor([1e9], dtype=torch.float64)
    # A negative that is far away costs nothing; a positive at distance 0 costs log 2 or nothing.
    assert 2 * soft_contrast(one, none, 1, 1, form=form).item() == pytest.approx(positive, abs=1e-12)
    together = math.log(2) if form == "logit" else 0
    loss = soft_contrast(torch.zeros_like(one), one, 1, 1, form=form).item()
    assert 2 * loss - together == pytest.approx(negative, abs=1e-12)


def test_what_the_docstring_says_of_a_negative_at_distance_0():
    loss = soft_contrast(torch.zeros(1), torch.zeros(1), form="umap").item()
    assert 2 * loss == pytest.approx(5.73, abs=5e-3)


def test_logit_form_is_cross_entropy_with_log_p_as_the_logit():
    positive, negative = distances(7, 1), distances(70, 2)
    d = torch.cat([positive, negative])
    log_p = -(A * d ** (2 * B)).log1p()
    target = torch.cat([torch.ones(7), torch.zeros(70)]).double()
    expected = torch.nn.functional.binary_cross_entropy_with_logits(log_p, target)
    torch.testing.assert_close(soft_contrast(positive, negative), expected, rtol=1e-12, atol=0)


def test_umap_form_is_cross_entropy_with_p_as_the_probability():
    positive, negative = distances(7, 1), distances(70, 2)
    d = torch.cat([positive, (negative.square() + 0.001).sqrt()])
    p = 1 / (1 + A * d ** (2 * B))
    target = torch.cat([torch.ones(7), torch.zeros(70)]).double()
    expected = torch.nn.functional.binary_cross_entropy(p, target)
    torch.testing.assert_close(soft_contrast(positive, negative, form="umap"), expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("form", FORMS)
def test_flat_negatives_and_rows_of_them_are_the_same(form):
    positive, negative = distances(6, 1), distances(60, 2)
    flat = soft_contrast(positive, negative, form=form)
    torch.testing.assert_close(soft_contrast(positive, negative.view(6, 10), form=form), flat)
    shuffled = soft_contrast(positive.flip(0), negative.flip(0), form=form)
    torch.testing.assert_close(shuffled, flat, rtol=1e-12, atol=0)


@pytest.mark.parametrize("form", FORMS)
def test_all_terms_weigh_the_same(form):
    """A batch is the mean over its positives and negatives, weighted by how many there are: 1 to 10."""
    positive, negative, far = distances(5, 1), distances(50, 2), torch.full((1,), 1e9, dtype=torch.float64)
    pull = 2 * soft_contrast(positive, far.expand(5), form=form)
    push = soft_contrast(torch.zeros(1).double(), negative, form=form) * 51
    push = (push - (math.log(2) if form == "logit" else 0)) / 50
    expected = (pull + 10 * push) / 11
    torch.testing.assert_close(soft_contrast(positive, negative, form=form), expected)


@pytest.mark.parametrize("form", FORMS)
class TestGradient:
    def test_positives_are_always_pulled_and_negatives_always_pushed(self, form):
        positive = torch.linspace(0.01, 50, 400, dtype=torch.float64, requires_grad=True)
        negative = positive.detach().clone().requires_grad_()
        pull, push = torch.autograd.grad(soft_contrast(positive, negative, form=form), (positive, negative))
        assert pull.min() > 0 > push.max()

    def test_first_and_second_derivatives(self, form):
        positive, negative = distances(5, 1) + 0.1, (distances(20, 2) + 0.1).view(5, 4)

        def loss(positive: Tensor, negative: Tensor) -> Tensor:
            return soft_contrast(positive, negative, form=form)

        given = (positive.requires_grad_(), negative.requires_grad_())
        assert torch.autograd.gradcheck(loss, given)
        assert torch.autograd.gradgradcheck(loss, given)

    @pytest.mark.parametrize("b", [0.3, 0.5, B, 1.0])  # infinite slope, kink, infinite curvature, none
    @pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
    def test_at_distance_0_it_is_0_and_never_nan(self, form, b, dtype):
        positive = torch.tensor([0.0, 1.0], dtype=dtype, requires_grad=True)
        negative = torch.tensor([[0.0, 1.0], [2.0, 0.0]], dtype=dtype, requires_grad=True)
        loss = soft_contrast(positive, negative, A, b, form=form)
        first = torch.autograd.grad(loss, (positive, negative), create_graph=True)
        second = torch.autograd.grad(sum(g.sum() for g in first), (positive, negative))
        assert first[0][0] == first[1][0, 0] == first[1][1, 1] == 0
        assert all(g.isfinite().all() for g in (*first, *second))

    def test_points_in_one_place_have_finite_gradients(self, form):
        """As the notebooks form distances: `norm` has slope 0 at 0, also where both ends are one point."""
        z = torch.tensor([[1.0, 2.0], [1.0, 2.0], [3.0, 0.0]], requires_grad=True)
        positive = (z[[0, 0]] - z[[1, 2]]).norm(dim=1)
        negative = (z[[0, 1]][:, None] - z[torch.tensor([[0, 2], [0, 1]])]).norm(dim=2)
        soft_contrast(positive, negative, form=form).backward()
        assert z.grad.isfinite().all()
        assert z.grad.abs().max() > 0


def test_logit_repulsion_is_bounded_where_umaps_is_not():
    """Near 0 UMAP pushes the harder the nearer, up to where it is softened; the logit form lets go."""
    d = torch.tensor([0.03, 0.1, 0.5], dtype=torch.float64)
    push = {}
    for form in FORMS:
        negative = d.clone().requires_grad_()
        soft_contrast(torch.zeros(3).double(), negative, form=form).backward()
        push[form] = -6 * negative.grad
    assert push["umap"].argmax() == 0
    assert push["umap"].max() > 15
    assert push["logit"].argmin() == 0
    assert push["logit"].max() < 0.5


def test_umap_form_has_umap_learns_gradient(rows):
    """Its layout code moves by 2 a b s^(b-1) / (1 + a s^b) and 2 b / ((0.001 + s) (1 + a s^b)) times the gap,
    s the squared distance; ours softens s in both factors, which differs by about 0.001 / s.
    """
    z_a, z_b = rows(50, 2, 1).requires_grad_(), rows(50, 2, 2)
    gap = z_a.detach() - z_b
    s = gap.square().sum(1, keepdim=True)
    assert s.min() > 0.1
    far = torch.full((50,), 1e9, dtype=torch.float64)
    attraction = soft_contrast((z_a - z_b).norm(dim=1), far, form="umap") * 100
    (pull,) = torch.autograd.grad(attraction, z_a)
    torch.testing.assert_close(pull, 2 * A * B * s ** (B - 1) / (1 + A * s**B) * gap)
    repulsion = soft_contrast(far, (z_a - z_b).norm(dim=1), form="umap") * 100
    (push,) = torch.autograd.grad(repulsion, z_a)
    torch.testing.assert_close(push, -2 * B / ((0.001 + s) * (1 + A * s**B)) * gap, rtol=0.01, atol=0)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_input_is_computed_in_single(form, dtype):
    positive, negative = distances(100, 1).to(dtype), distances(1000, 2, longest=200).to(dtype)
    half = positive.clone().requires_grad_()
    loss = soft_contrast(half, negative, form=form)
    loss.backward()
    assert loss.dtype == torch.float32
    assert half.grad.dtype == dtype
    expected = soft_contrast(positive.double(), negative.double(), form=form).item()
    assert loss.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("form", FORMS)
def test_autocast_changes_nothing(form):
    positive, negative = distances(16, 1).float(), distances(160, 2).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = soft_contrast(positive, negative, form=form)
    assert torch.equal(inside, soft_contrast(positive, negative, form=form))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("side", [0, 1])
def test_a_nan_stays_one(form, side):
    given = [distances(2, 1), distances(20, 2)]
    given[side][0] = torch.nan
    assert soft_contrast(*given, form=form).isnan()


@pytest.mark.parametrize(
    ("positive", "negative", "message"),
    [
        (torch.ones(3, 2), torch.ones(3, 10), r"d_positive has shape \(3, 2\); it must be \(m,\)"),
        (torch.ones(0), torch.ones(10), r"d_positive has shape \(0,\); it must be \(m,\).*not empty"),
        (
            torch.ones(3),
            torch.ones(4, 10),
            r"d_negative has shape \(4, 10\); it must be \(3, negatives\) or flat",
        ),
        (torch.ones(3), torch.ones(0), r"d_negative has shape \(0,\).*not empty"),
        (torch.ones(3), torch.ones(3, 2, 2), r"d_negative has shape \(3, 2, 2\)"),
        (torch.ones(3).int(), torch.ones(3), "d_positive is torch.int32; distances must be floating point"),
        (torch.ones(3), torch.tensor([1, -0.5, 0]), "d_negative holds -0.5; a distance is at least 0"),
    ],
)
def test_wrong_distances_are_refused(positive, negative, message):
    with pytest.raises(ValueError, match=message):
        soft_contrast(positive, negative)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"form": "logits"}, "Unknown form 'logits'. Allowed: logit, umap"),
        ({"a": 0.0}, "a 0.0 must be above 0"),
        ({"b": -1.0}, "b -1.0 must be above 0"),
        ({"b": math.nan}, "b nan must be above 0"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        soft_contrast(torch.ones(2), torch.ones(20), **options)


def test_the_examples_in_the_docstrings():
    assert doctest.testmod(importlib.import_module("pullpush.losses.soft_contrast")) == (0, 1)
