"""The losses on the eight points that the chapter "One family" draws, against sums over their angles."""

import math
from itertools import combinations, permutations

import pytest
import torch
from torch.nn import functional as F

from pullpush import losses


def cosine(eight, i, k):
    return math.cos(math.radians(eight["degrees"][i] - eight["degrees"][k]))


def distance(eight, i, k):
    return 2 * abs(math.sin(math.radians(eight["degrees"][i] - eight["degrees"][k]) / 2))


def alike(eight, i, k):
    return int(eight["labels"][i]) == int(eight["labels"][k])


def given_all_others(eight, i, k, tau=0.5):
    """-log of the share of k among all that i may choose."""
    total = sum(math.exp(cosine(eight, i, other) / tau) for other in range(8) if other != i)
    return -math.log(math.exp(cosine(eight, i, k) / tau) / total)


def test_pairs(eight):
    i, k = torch.tensor(list(combinations(range(8), 2))).T
    terms = [
        distance(eight, a, b) ** 2 / 2 if alike(eight, a, b) else max(0, 1 - distance(eight, a, b)) ** 2 / 2
        for a, b in combinations(range(8), 2)
    ]
    ours = losses.margin_contrastive(eight["z"][i], eight["z"][k], eight["labels"][i] != eight["labels"][k])
    assert ours.item() == pytest.approx(sum(terms) / len(terms), rel=1e-9)


def test_triplets(eight):
    found = [
        (a, p, n) for a, p, n in permutations(range(8), 3) if alike(eight, a, p) and not alike(eight, a, n)
    ]
    terms = [max(0, distance(eight, a, p) - distance(eight, a, n) + 1) for a, p, n in found]
    a, p, n = (eight["z"][list(places)] for places in zip(*found, strict=True))
    ours = F.triplet_margin_loss(a, p, n, eps=0)
    assert len(found) == len(eight["anchor"]) and ours.item() == pytest.approx(
        sum(terms) / len(terms), rel=1e-9
    )


@pytest.mark.parametrize("tau", [0.1, 0.5, 2.0])
def test_nt_xent(eight, tau):
    terms = [given_all_others(eight, i, int(eight["view_of"][i]), tau) for i in range(8)]
    ours = losses.nt_xent(eight["z"][eight["first"]], eight["z"][eight["view_of"][eight["first"]]], tau)
    assert ours.item() == pytest.approx(sum(terms) / 8, rel=1e-6)


@pytest.mark.parametrize("tau", [0.1, 0.5, 2.0])
def test_sup_con(eight, tau):
    friends = [[k for k in range(8) if k != i and alike(eight, i, k)] for i in range(8)]
    terms = [sum(given_all_others(eight, i, k, tau) for k in friends[i]) / len(friends[i]) for i in range(8)]
    ours = losses.sup_con(eight["z"], eight["labels"], temperature=tau)
    assert ours.item() == pytest.approx(sum(terms) / 8, rel=1e-6)


def test_alignment_and_uniformity(eight):
    first = eight["first"]
    pairs = [distance(eight, int(i), int(eight["view_of"][i])) ** 2 for i in first]
    ours = losses.alignment(eight["z"][first], eight["z"][eight["view_of"][first]])
    assert ours.item() == pytest.approx(sum(pairs) / len(pairs), rel=1e-9)
    all_pairs = [math.exp(-2 * distance(eight, i, k) ** 2) for i, k in combinations(range(8), 2)]
    expected = math.log(sum(all_pairs) / len(all_pairs))
    assert losses.uniformity(eight["z"]).item() == pytest.approx(expected, rel=1e-9)
