"""The three small perceptrons of CLAWS (2021): its projection head, its attention and its label head.

Taught in "CLAWS".

    z = projector(h)        a = attention(z)        m = masks.mask(a)        logits = label_head(z)

One projector follows each of the two backbones. NT-Xent compares z * m, cross-entropy reads the logits.
"""

from torch import Tensor, nn

from pullpush.models._inputs import check_size, widen


class Projector(nn.Module):
    """Linear, ReLU, Linear by default: from h to the embedding z, which the losses bring to unit length.

    z = W_2 relu(W_1 h + b_1) + b_2, the hidden layer as wide as h: SimCLR's projection head
    (Chen et al. 2020, arXiv:2002.05709, section 4.2). CLAWS says only that there is one, with 32 outputs.

    inputs: length of a row of h, at least 1. 1280 makes 1,680,672 parameters, 128 makes 20,640.
    outputs: length of a row of z, at least 2.
    kind: mlp, as above; linear, one layer, which is a backbone of `outputs` features without a projection;
        norm, an mlp with batch normalisation before its ReLU.
    The weights are torch's default, drawn from its global generator: call `torch.manual_seed(seed)` before.
    Raises ValueError if a size is below what it must be, or for another kind.

    >>> import torch
    >>> Projector(inputs=1280)(torch.zeros(5, 1280)).shape
    torch.Size([5, 32])
    """

    def __init__(self, inputs: int, outputs: int = 32, kind: str = "mlp") -> None:
        super().__init__()
        check_size("inputs", inputs, 1)
        check_size("outputs", outputs, 2)
        if kind not in ("mlp", "linear", "norm"):
            raise ValueError(f"Unknown kind '{kind}' of a projector. Allowed: mlp, linear, norm.")
        if kind == "linear":
            self.layers = nn.Sequential(nn.Linear(inputs, outputs))
        else:
            self.layers = _two_layers(inputs, inputs, outputs)
        if kind == "norm":
            self.layers.insert(1, nn.BatchNorm1d(inputs))

    def forward(self, h: Tensor) -> Tensor:
        """The embeddings z: (n, outputs), of any length, in at least fp32, under autocast too.

        h: (n, inputs), floating point. Raises ValueError if h has another shape or type.
        """
        _check_rows("h", h, self.layers)
        return widen(self.layers(h))


class MaskNetwork(nn.Module):
    """Linear, ReLU, Linear: from an embedding to the logit a of one gate for each number of z.

    a = W_2 relu(W_1 z + b_1) + b_2, which `masks.mask` makes a mask of. CLAWS: "a 2-layer perceptron".

    Every number of b_2 starts at 1, so that most gates start open: they open for a > 0, and a row whose gates
    are all shut has no direction left that the loss could turn.

    dimensions: length of a row of z, at least 1. 32 makes 2,112 parameters.
    hidden: width between the two layers, at least 1.
    inputs: length of the rows that it reads, at least 1: those of z by default, those of h where gates are
        opened by what comes before the projection.
    Other weights are torch's default, drawn from its global generator: call `torch.manual_seed(seed)` before.
    Raises ValueError if a size is below 1.

    >>> import torch
    >>> MaskNetwork()(torch.zeros(5, 32)).shape
    torch.Size([5, 32])
    """

    def __init__(self, dimensions: int = 32, hidden: int = 32, inputs: int | None = None) -> None:
        super().__init__()
        inputs = dimensions if inputs is None else inputs
        check_size("dimensions", dimensions, 1)
        check_size("hidden", hidden, 1)
        check_size("inputs", inputs, 1)
        self.layers = _two_layers(inputs, hidden, dimensions)
        nn.init.ones_(self.layers[2].bias)  # type: ignore[arg-type]

    def forward(self, z: Tensor) -> Tensor:
        """The logits a: (n, dimensions), in at least fp32, under autocast too.

        z: (n, inputs), floating point. Raises ValueError if z has another shape or type.
        """
        _check_rows("z", z, self.layers)
        return widen(self.layers(z))


class LabelHead(nn.Module):
    """Linear, ReLU, Linear: from an embedding z to the logits of its class, for cross-entropy.

    logits = W_2 relu(W_1 z + b_1) + b_2. CLAWS: "an MLP to generate labels"; it is not used after training.

    classes: number of them, at least 2. With 11 there are 2,827 parameters, and 65 more for each further one.
    inputs: length of a row of z, at least 1.
    hidden: width between the two layers, at least 1.
    The weights are torch's default, drawn from its global generator: call `torch.manual_seed(seed)` before.
    Raises ValueError if a size is below what it must be.

    >>> import torch
    >>> LabelHead(classes=11)(torch.zeros(5, 32)).shape
    torch.Size([5, 11])
    """

    def __init__(self, classes: int, inputs: int = 32, hidden: int = 64) -> None:
        super().__init__()
        check_size("classes", classes, 2)
        check_size("inputs", inputs, 1)
        check_size("hidden", hidden, 1)
        self.layers = _two_layers(inputs, hidden, classes)

    def forward(self, z: Tensor) -> Tensor:
        """The logits: (n, classes), in at least fp32, under autocast too.

        z: (n, inputs), floating point. Raises ValueError if z has another shape or type.
        """
        _check_rows("z", z, self.layers)
        return widen(self.layers(z))


def _two_layers(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, outputs))


def _check_rows(name: str, rows: Tensor, layers: nn.Sequential) -> None:
    inputs = layers[0].in_features
    if rows.ndim != 2 or rows.shape[1] != inputs:
        raise ValueError(
            f"{name} has shape {tuple(rows.shape)}; this network was built for rows (n, {inputs})."
        )
    if not rows.is_floating_point():
        raise ValueError(f"{name} is {rows.dtype}; it must be floating point.")
