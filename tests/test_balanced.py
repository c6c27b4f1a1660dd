"""Class-balanced batches against what the paper counts, and a dealer with one pack of cards a class."""

from collections import Counter

import pytest
import torch

from pullpush import samplers
from pullpush.training import generator

SIZES = (40, 7, 5, 23, 100)


@pytest.fixture
def labels() -> torch.Tensor:
    """Five classes of unlike size, mixed, with names that are not 0 to 4."""
    names = torch.tensor([3, 0, 8, 5, 1]).repeat_interleave(torch.tensor(SIZES))
    return names[torch.randperm(len(names), generator=generator(0))]


def test_the_papers_epoch():
    """227,060 images in batches of 55 = 5 x 11: floor(n / 55) = 4,128 steps, however large each class is."""
    corn, cotton = 19_792, 66_053
    rest = 227_060 - corn - cotton
    sizes = torch.tensor([corn, cotton, *[rest // 9] * 8, rest - 8 * (rest // 9)])
    drawn = samplers.balanced_batches(torch.arange(11).repeat_interleave(sizes), 5, generator(0))
    assert drawn.shape == (4128, 55)


@pytest.mark.parametrize("per_class", [1, 2, 5])
def test_each_batch_holds_as_many_of_every_class_and_none_twice(labels, per_class):
    drawn = samplers.balanced_batches(labels, per_class, generator(1))
    assert drawn.shape == (175 // (5 * per_class), 5 * per_class)
    for batch in drawn.tolist():
        assert len(set(batch)) == len(batch)
        assert labels[batch].tolist() == [c for c in (0, 1, 3, 5, 8) for _ in range(per_class)]


@pytest.mark.parametrize("per_class", [1, 2, 5])
def test_it_is_a_loop_that_deals_from_one_pack_a_class(labels, per_class):
    steps, stream = 175 // (5 * per_class), generator(2)
    expected = [[] for _ in range(steps)]
    for label in (0, 1, 3, 5, 8):
        members = [i for i in range(175) if labels[i] == label]
        passes = -(-steps // (len(members) // per_class))
        keys = torch.rand(passes, len(members), generator=stream, dtype=torch.float64).tolist()
        pack = []
        for batch in expected:
            if len(pack) < per_class:
                key = keys.pop(0)
                pack = [members[j] for j in sorted(range(len(members)), key=key.__getitem__)]
            batch += pack[:per_class]
            pack = pack[per_class:]
    assert samplers.balanced_batches(labels, per_class, generator(2)).tolist() == expected


def test_passes_of_equal_classes_use_every_sample_once():
    labels = torch.arange(4).repeat(15)
    drawn = samplers.balanced_batches(labels, 5, generator(3))
    assert drawn.flatten().sort().values.tolist() == list(range(60))


def test_all_samples_of_a_class_are_as_likely(labels):
    stream, counts = generator(4), Counter()
    for _ in range(400):
        counts.update(samplers.balanced_batches(labels, 5, stream).flatten().tolist())
    for label in labels.unique():
        mine = torch.tensor([counts[i] for i in (labels == label).nonzero().flatten().tolist()]).double()
        assert mine.sum() == 400 * 7 * 5
        assert (mine / mine.mean() - 1).abs().max() < 0.35  # a sample of the largest class is drawn 140 times


def test_the_generator_decides_and_moves_on(labels):
    stream = generator(5)
    first, second = (samplers.balanced_batches(labels, 5, stream) for _ in range(2))
    assert torch.equal(samplers.balanced_batches(labels, 5, generator(5)), first)
    assert not torch.equal(first, second)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: samplers.balanced_batches(torch.arange(3), 0, generator(0)), "per_class=0"),
        (lambda: samplers.balanced_batches(torch.arange(0), 2, generator(0)), "number of labels=0"),
        (
            lambda: samplers.balanced_batches(torch.tensor([4, 4, 4, 7, 7]), 3, generator(0)),
            "Class 7 has 2 samples, too few for per_class=3. Give at most 2",
        ),
    ],
)
def test_bad_input_says_what_was_given(call, message):
    with pytest.raises(ValueError, match=message):
        call()
