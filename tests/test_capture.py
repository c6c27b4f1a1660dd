"""The recorded update against the ordinary one, where there is a GPU; and its refusal of other shapes."""

import pytest
import torch
from torch import nn

from pullpush import capture, samplers, training

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


def trained(capture_with, device):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 3)).to(device)
    x, y = torch.randn(192, 6, device=device), torch.randint(3, (192,), device=device)
    stream = training.generator(0)
    optimizer = torch.optim.Adam(model.parameters(), 0.01, capturable=device == "cuda")
    history = training.fit(
        lambda batch: {"loss": nn.functional.cross_entropy(model(batch[0]), batch[1])},
        lambda epoch: ((x[i], y[i]) for i in samplers.batches(192, 32, stream)),
        model=model, optimizer=optimizer, epochs=3, generator=stream, capture=capture_with,
    )  # fmt: skip
    return model, [row["loss"] for row in history]


@needs_cuda
def test_a_recorded_update_trains_as_the_ordinary_one():
    plain, expected = trained(None, "cuda")
    recorded, found = trained(capture.cuda_graph, "cuda")
    assert found == pytest.approx(expected, rel=1e-5)
    for a, b in zip(plain.state_dict().values(), recorded.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b)


@needs_cuda
def test_results_of_one_replay_survive_the_next():
    replay = capture.cuda_graph(lambda batch: {"loss": batch.sum()})
    kept = [replay(torch.full((4,), float(k), device="cuda"))["loss"] for k in range(6)]
    assert [value.item() for value in kept] == [0, 4, 8, 12, 16, 20]


def test_batches_of_views_can_stand_in_for_index_batches():
    """What a graph needs, tensors prepared outside the update, trains on a CPU as well."""
    _, losses = trained(None, "cpu")
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("part", [torch.zeros(31, 2), torch.zeros(32, 2).double()])
def test_other_shapes_are_refused(part):
    with pytest.raises(ValueError, match=r"graph was recorded with .*\(32, 2\).*incomplete batches"):
        capture._check_same([torch.zeros(32, 2)], [part])
