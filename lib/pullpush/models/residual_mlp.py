"""The encoder of LNSCC's release: a perceptron with residual blocks, for rows of any kind of numbers."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pullpush.models._inputs import check_size, widen

SLOPE = 0.1  # of LeakyReLU below 0


class ResidualMLP(nn.Module):
    """From a row of numbers to the embedding z, without convolution. Taught in "Locally normalised clusters".

    For each width w:  x = Dropout(LayerNorm(leaky(Linear(x, w))))
                       x = leaky(x + Dropout(LayerNorm(Linear(u, w))))
                           u = Dropout(LayerNorm(leaky(Linear(x, 2w))))
    At the end:        z = Linear(x, outputs)                          leaky: LeakyReLU with slope 0.1

    The release of "Locally Normalized Soft Contrastive Clustering" (Ma & Kim, IJCAI 2022,
    doi:10.24963/ijcai.2022/460) has 512 and 256 for the widths: 1,648,130 parameters from 384 inputs to 2
    outputs, 512 more for each further input and 257 for each further output. Weights are normal with variance
    2 / inputs of their layer (He et al. 2015, arXiv:1502.01852), biases 0, drawn from torch's global
    generator: call `torch.manual_seed(seed)` before.

    inputs: length of a row, at least 1.
    outputs: length of z, at least 1; the release has 2.
    widths: at least one, each at least 1.
    dropout: in [0, 1). The release declares 0.3, but trains in evaluation mode, where dropout is off: 0.
    Raises ValueError if a size or dropout is not what it must be.

    >>> ResidualMLP(inputs=384, outputs=2)(torch.zeros(5, 384)).shape
    torch.Size([5, 2])
    """

    def __init__(
        self, inputs: int, outputs: int, widths: Sequence[int] = (512, 256), dropout: float = 0.0
    ) -> None:
        super().__init__()
        if not widths:
            raise ValueError("widths must hold at least one width, as (512, 256) does.")
        for name, size in [("inputs", inputs), ("outputs", outputs), *(("width", width) for width in widths)]:
            check_size(name, size, 1)
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout {dropout} must be at least 0 and below 1.")
        self.inputs = inputs
        stages: list[nn.Module] = []
        for before, width in zip([inputs, *widths], widths, strict=False):
            stages += [nn.Sequential(*_layer(before, width, dropout)), _Residual(width, dropout)]
        self.stages = nn.Sequential(*stages)
        self.output = nn.Linear(widths[-1], outputs)
        self.apply(_he_normal)

    def forward(self, x: Tensor) -> Tensor:
        """The embeddings z: (n, outputs), in at least fp32, under autocast too.

        The last layer never computes in bf16, which would place points that are 20 from the origin on a grid
        of 0.125: neighbours would fall together. x: (n, inputs), floating point.
        Raises ValueError if x has another shape or type.
        """
        if x.ndim != 2 or x.shape[1] != self.inputs:
            raise ValueError(
                f"x has shape {tuple(x.shape)}; this network was built for rows (n, {self.inputs})."
            )
        if not x.is_floating_point():
            raise ValueError(f"x is {x.dtype}; it must be floating point.")
        h = self.stages(x)
        with torch.autocast(x.device.type, enabled=False):
            return self.output(widen(h))


class _Residual(nn.Module):
    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        back = [nn.Linear(2 * width, width), nn.LayerNorm(width), nn.Dropout(dropout)]
        self.layers = nn.Sequential(*_layer(width, 2 * width, dropout), *back)
        self.leaky = nn.LeakyReLU(SLOPE)

    def forward(self, x: Tensor) -> Tensor:
        return self.leaky(x + self.layers(x))


def _layer(inputs: int, outputs: int, dropout: float) -> list[nn.Module]:
    return [nn.Linear(inputs, outputs), nn.LeakyReLU(SLOPE), nn.LayerNorm(outputs), nn.Dropout(dropout)]


def _he_normal(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        nn.init.zeros_(module.bias)
