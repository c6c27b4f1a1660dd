"""The two heads of Contrastive Clustering (AAAI 2021): one for images, one for clusters.

Taught in "CC against RCC".
"""

from torch import Tensor, nn

from pullpush.models._inputs import check_size, unit_rows, widen


class InstanceHead(nn.Module):
    """Linear, ReLU, Linear, then unit length: from h to the embedding z that images are compared by.

    z = v / ||v||,  v = W_2 relu(W_1 h + b_1) + b_2      Li et al. 2021 (arXiv:2009.09687), section 3.2.

    inputs: length of a row of h, at least 1. Robust Contrastive Clustering (2022) has 3.
    hidden: width between the two layers, at least 1; 512 in both papers' code.
    outputs: length of a row of z, at least 2; 128 in both.
    The weights are torch's default, drawn from its global generator: call `torch.manual_seed(seed)` before.
    Raises ValueError if a size is below what it must be.

    >>> import torch
    >>> InstanceHead(inputs=3)(torch.zeros(5, 3)).shape
    torch.Size([5, 128])
    """

    def __init__(self, inputs: int, hidden: int = 512, outputs: int = 128) -> None:
        super().__init__()
        check_size("outputs", outputs, 2)
        self.inputs = inputs
        self.layers = _two_layers(inputs, hidden, outputs)

    def forward(self, h: Tensor) -> Tensor:
        """The embeddings z: (n, outputs), rows of unit length, in at least fp32, under autocast too.

        h: (n, inputs), floating point. Raises ValueError if h has another shape or type.
        """
        _check_rows(h, self.inputs)
        return unit_rows(self.layers(h))


class ClusterHead(nn.Module):
    """Linear, ReLU, Linear, Softmax: from h to the soft cluster assignment p.

    p = softmax(W_2 relu(W_1 h + b_1) + b_2)             Li et al. 2021 (arXiv:2009.09687), section 3.3.

    inputs: length of a row of h, at least 1. Robust Contrastive Clustering (2022) has 3.
    clusters: k, at least 2.
    hidden: width between the two layers, at least 1; 512 in both papers' code.
    The weights are torch's default, drawn from its global generator: call `torch.manual_seed(seed)` before.
    Raises ValueError if a size is below what it must be.

    >>> import torch
    >>> ClusterHead(inputs=3, clusters=10)(torch.zeros(5, 3)).shape
    torch.Size([5, 10])
    """

    def __init__(self, inputs: int, clusters: int, hidden: int = 512) -> None:
        super().__init__()
        check_size("clusters", clusters, 2)
        self.inputs = inputs
        self.layers = _two_layers(inputs, hidden, clusters)

    def forward(self, h: Tensor) -> Tensor:
        """The probabilities p: (n, clusters), each row sums to 1, in at least fp32, under autocast too.

        h: (n, inputs), floating point. Raises ValueError if h has another shape or type.
        """
        _check_rows(h, self.inputs)
        return widen(self.layers(h)).softmax(dim=1)


def _two_layers(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    check_size("inputs", inputs, 1)
    check_size("hidden", hidden, 1)
    return nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, outputs))


def _check_rows(h: Tensor, inputs: int) -> None:
    if h.ndim != 2 or h.shape[1] != inputs:
        raise ValueError(f"h has shape {tuple(h.shape)}; this head was built for rows (n, {inputs}).")
    if not h.is_floating_point():
        raise ValueError(f"h is {h.dtype}; it must be floating point.")
