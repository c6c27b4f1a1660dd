"""Samplers against loops over samples, as the practicum wrote them."""

import pytest
import torch

from pullpush import samplers
from pullpush.training import generator


@pytest.fixture
def labels() -> torch.Tensor:
    return torch.randint(7, (400,), generator=generator(0))


@pytest.mark.parametrize("per_class", [1, 13, 1000])
def test_first_per_class_is_a_loop_over_the_data_set(labels, per_class):
    expected = [i for c in range(7) for i in [j for j in range(400) if labels[j] == c][:per_class]]
    assert samplers.first_per_class(labels, per_class).tolist() == expected


def test_practicum_sizes_give_50_000_anchors_and_its_steps():
    mnist_sizes = torch.tensor([5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949])
    labels = torch.arange(10).repeat_interleave(mnist_sizes)
    anchors = samplers.first_per_class(labels, 5000)
    assert len(anchors) == 50_000
    assert (torch.bincount(labels[anchors]) == 5000).all()
    assert len(samplers.batches(50_000, 1024, generator(0))) == 49
    assert len(samplers.batches(100_000, 1024, generator(0))) == 98


def test_class_aware_negatives_follow_one_list_a_class(labels):
    anchors = samplers.first_per_class(labels, 20)
    negatives = samplers.class_aware_negatives(labels, anchors, generator(3))
    stream = generator(3)
    for c in range(7):
        others = [j for j in range(400) if labels[j] != c]
        listed = [others[k] for k in torch.randperm(len(others), generator=stream)]
        mine = [int(n) for a, n in zip(anchors, negatives, strict=True) if labels[a] == c]
        assert mine == listed[: len(mine)]


def test_class_aware_negatives_never_share_the_class_nor_repeat_in_it(labels):
    anchors = samplers.first_per_class(labels, 40)
    negatives = samplers.class_aware_negatives(labels, anchors, generator(1))
    assert samplers.false_negative_share(labels, anchors, negatives) == 0
    for c in range(7):
        mine = negatives[labels[anchors] == c]
        assert len(mine.unique()) == len(mine)


def test_too_many_anchors_for_the_other_classes_is_an_error():
    labels = torch.tensor([0] * 9 + [1] * 3)
    with pytest.raises(ValueError, match="Class 0 has 9 anchors, but the other classes have only 3"):
        samplers.class_aware_negatives(labels, torch.arange(12), generator(0))


def test_blind_negatives_reach_all_but_the_anchor_evenly():
    labels = torch.arange(10)
    anchors = torch.full((90_000,), 4)
    negatives = samplers.blind_negatives(labels, anchors, generator(0))
    counts = torch.bincount(negatives, minlength=10)
    assert counts[4] == 0
    assert ((counts[labels != 4] - 10_000).abs() < 500).all()  # 5 standard deviations


def test_share_of_false_negatives_when_blind_is_one_class_in_ten():
    labels = torch.arange(10).repeat(1000)
    anchors = torch.arange(10_000)
    share = samplers.false_negative_share(
        labels, anchors, samplers.blind_negatives(labels, anchors, generator(0))
    )
    assert share == pytest.approx(0.1, abs=0.015)


def test_batches_hold_each_number_once_and_follow_the_generator():
    parts = samplers.batches(1000, 64, generator(5))
    assert torch.cat(parts).sort().values.tolist() == list(range(1000))
    assert [len(part) for part in parts] == [64] * 15 + [40]
    assert torch.equal(torch.cat(parts), torch.cat(samplers.batches(1000, 64, generator(5))))
    stream = generator(5)
    first, second = (torch.cat(samplers.batches(1000, 64, stream)) for _ in range(2))
    assert not torch.equal(first, second)


@pytest.mark.parametrize("how", ["hard", "semi_hard"])
def test_mining_is_a_loop_over_anchors(how):
    stream = generator(2)
    z_a, z_p, z_n = (torch.rand(30, 5, generator=stream) for _ in range(3))
    allowed = torch.rand(30, 30, generator=stream) < 0.6
    allowed.fill_diagonal_(True)
    chosen = samplers.mine(z_a, z_p, z_n, allowed, how)
    for i in range(30):
        candidates = [j for j in range(30) if allowed[i, j]]
        far = {j: (z_a[i] - z_n[j]).norm().item() for j in candidates}
        beyond = [j for j in candidates if far[j] > (z_a[i] - z_p[i]).norm().item()]
        if how == "hard":
            assert chosen[i] == min(candidates, key=far.get)
        else:
            assert chosen[i] == (min(beyond, key=far.get) if beyond else max(candidates, key=far.get))


def test_mining_on_a_line_by_hand():
    anchor, positive = torch.tensor([[0.0]]), torch.tensor([[2.0]])
    negatives, allowed = torch.tensor([[1.0], [3.0], [9.0]]), torch.ones(1, 3, dtype=torch.bool)
    assert samplers.mine(anchor, positive, negatives, allowed, "hard").tolist() == [0]
    assert samplers.mine(anchor, positive, negatives, allowed, "semi_hard").tolist() == [1]
    assert samplers.mine(anchor, 10 * positive, negatives, allowed, "semi_hard").tolist() == [
        2
    ]  # none beyond: the farthest


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: samplers.first_per_class(torch.arange(3), 0), "per_class=0"),
        (lambda: samplers.batches(0, 4, generator(0)), "n=0"),
        (
            lambda: samplers.blind_negatives(torch.zeros(1), torch.zeros(1).long(), generator(0)),
            "at least 2 samples, got 1",
        ),
        (
            lambda: samplers.mine(*[torch.ones(1, 1)] * 3, torch.ones(1, 1) > 0, "soft"),
            "Unknown mining 'soft'. Allowed: semi_hard, hard",
        ),
    ],
)
def test_bad_input_says_what_was_given(call, message):
    with pytest.raises(ValueError, match=message):
        call()


class TestShuffledNegatives:
    def test_every_end_serves_equally_often(self):
        found = samplers.shuffled_negatives(50, 7, torch.Generator().manual_seed(0))
        assert found.shape == (50, 7)
        assert found.dtype == torch.int64
        assert found.flatten().bincount().tolist() == [7] * 50

    def test_it_is_the_release_written_out(self):
        """Repeat the rows, shuffle the "from" ones, pair them up with the "to" ones: the same distances."""
        z_to, z_from = torch.randn(2, 6, 2, generator=torch.Generator().manual_seed(1))
        repeated_to, repeated_from = z_to.repeat_interleave(4, 0), z_from.repeat_interleave(4, 0)
        order = torch.randperm(24, generator=torch.Generator().manual_seed(5))
        expected = (repeated_to - repeated_from[order]).norm(dim=1)
        found = samplers.shuffled_negatives(6, 4, torch.Generator().manual_seed(5))
        assert torch.equal((z_to[:, None] - z_from[found]).norm(dim=2).flatten(), expected)

    def test_all_partners_are_as_likely(self):
        """Over many draws each of the 5 x 5 meetings happens in 1 of 5 cases, the own edge included."""
        generator = torch.Generator().manual_seed(0)
        met = torch.zeros(5, 5)
        for _ in range(2000):
            met.scatter_add_(1, samplers.shuffled_negatives(5, 3, generator), torch.ones(5, 3))
        # 6,000 draws a row: three in ten thousand rows of a fair shuffle would be off by more than 0.02.
        assert (met / 6000 - 0.2).abs().max() < 0.02

    def test_the_generator_decides(self):
        one, same, other = (samplers.shuffled_negatives(50, 10, generator(seed)) for seed in (0, 0, 1))
        assert torch.equal(one, same)
        assert not torch.equal(one, other)

    @pytest.mark.parametrize(("m", "negatives"), [(0, 10), (5, 0), (-1, 3)])
    def test_wrong_sizes_are_refused(self, m, negatives):
        with pytest.raises(ValueError, match=f"m={m} and negatives={negatives} must be at least 1"):
            samplers.shuffled_negatives(m, negatives, torch.Generator())


class TestSupport:
    def test_it_is_a_queue_as_a_list_would_keep_it(self):
        """Batches of changing size, one larger than the whole queue: always the last rows that came."""
        support, stream = samplers.Support(7, 3, generator(0)), generator(1)
        expected = support.rows.clone().tolist()
        for n in (2, 4, 3, 7, 1, 18, 5, 5, 0):
            z = torch.randn(n, 3, generator=stream)
            support.push(z)
            expected = (expected + torch.nn.functional.normalize(z).tolist())[-7:]
            begin = int(support.oldest)
            torch.testing.assert_close(support.rows.roll(-begin, 0), torch.tensor(expected))

    def test_it_starts_as_random_directions(self):
        support = samplers.Support(2000, 3, generator(0))
        torch.testing.assert_close(support.rows.norm(dim=1), torch.ones(2000))
        assert support.rows.mean(0).abs().max() < 0.06
        assert torch.equal(support.rows, samplers.Support(2000, 3, generator(0)).rows)

    def test_what_it_keeps_has_no_gradient_and_a_loss_survives_the_push(self):
        from pullpush.losses import nnclr

        z = torch.randn(4, 3, generator=generator(2), requires_grad=True)
        support = samplers.Support(4, 3, generator(0))
        loss = nnclr(z, z.flip(1), support.rows)
        expected = torch.autograd.grad(nnclr(z, z.flip(1), support.rows), z)[0]
        support.push(z)  # overwrites every row that the loss has looked at
        assert not support.rows.requires_grad
        assert torch.equal(torch.autograd.grad(loss, z)[0], expected)

    def test_it_lies_in_the_checkpoint_of_its_model_and_has_no_weights(self):
        model = torch.nn.ModuleDict({"support": samplers.Support(5, 3, generator(0))})
        model["support"].push(torch.randn(3, 3, generator=generator(1)))
        again = torch.nn.ModuleDict({"support": samplers.Support(5, 3, generator(9))})
        again.load_state_dict(model.state_dict())
        for one in (model, again):
            one["support"].push(torch.ones(1, 3))
        assert torch.equal(again["support"].rows, model["support"].rows)
        assert list(model.parameters()) == []

    def test_wrong_input_is_refused(self):
        with pytest.raises(ValueError, match="size=0 and d=3 must be at least 1"):
            samplers.Support(0, 3, generator(0))
        with pytest.raises(ValueError, match=r"z has shape \(2, 4\); this support holds rows of \(n, 3\)"):
            samplers.Support(5, 3, generator(0)).push(torch.ones(2, 4))

    def test_the_example_in_the_docstring(self):
        import doctest

        assert doctest.testmod(samplers) == (0, 4)
