"""An update of the weights recorded as a CUDA graph: one launch instead of hundreds.

Small networks keep a GPU waiting: an eager step of ResNet18 on 256 images of 64 pixels spends 6 to 8 ms in
launching kernels that compute for one or two.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Update = Callable[[Any], dict[str, Tensor]]

ORDINARY = 3  # calls before recording: libraries choose their kernels and make their workspaces in these


def cuda_graph(update: Update) -> Update:
    """For `training.fit(capture=...)`: `update` as it is for three batches, then recorded and replayed.

    update(batch): forward pass to changed weights, on CUDA tensors only; must not read a value back to the
        host, and its optimizer must be `capturable`. It may draw from CUDA's default generator, as dropout
        and stochastic depth do, which goes on from replay to replay; from no other. batch: a tensor, or a
        tuple of tensors, of the same shapes and types in every call.
    Returns a function with the same results. Raises ValueError for a batch of other shapes or types: a graph
    has fixed ones, so leave incomplete batches out.
    """
    graph, side = torch.cuda.CUDAGraph(), torch.cuda.Stream()
    buffers: list[Tensor] = []
    recorded: dict[str, Tensor] = {}
    calls = 0

    def replay(batch: Any) -> dict[str, Tensor]:
        nonlocal calls, recorded
        calls += 1
        parts = [batch] if isinstance(batch, Tensor) else list(batch)
        if calls <= ORDINARY:
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                result = update(batch)
            torch.cuda.current_stream().wait_stream(side)
            return result
        if not buffers:
            buffers.extend(part.clone() for part in parts)
            with torch.cuda.graph(graph):
                recorded = update(buffers[0] if isinstance(batch, Tensor) else tuple(buffers))
        _check_same(buffers, parts)
        for buffer, part in zip(buffers, parts, strict=True):
            buffer.copy_(part)
        graph.replay()
        return {name: value.clone() for name, value in recorded.items()}  # the next replay overwrites them

    return replay


def _check_same(buffers: list[Tensor], parts: list[Tensor]) -> None:
    expected, given = ([(tuple(part.shape), part.dtype) for part in each] for each in (buffers, parts))
    if expected != given:
        raise ValueError(
            f"This batch has {given}, the graph was recorded with {expected}. Leave incomplete batches out."
        )
