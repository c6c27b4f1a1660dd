"""What the tests of the losses share."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import nbformat
import pytest
import torch
from torch import Tensor


@pytest.fixture
def rows() -> Callable[..., Tensor]:
    """`rows(n, d, seed)`: random embeddings (n, d) in float64, of no particular length."""

    def draw(n: int, d: int, seed: int = 0) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return 2 * torch.randn(n, d, generator=generator, dtype=torch.float64)

    return draw


@pytest.fixture
def circle() -> Callable[[Sequence[float]], Tensor]:
    """`circle([0, 60, 90])`: points on the unit circle by their angle in degrees, (n, 2) in float64.

    Two points an angle apart have its cosine and a distance of 2 sin(angle / 2): 0, 60, 90, 120, 180 degrees
    are cosines 1, 1/2, 0, -1/2, -1 and distances 0, 1, sqrt 2, sqrt 3, 2.
    """

    def place(degrees: Sequence[float]) -> Tensor:
        angles = torch.tensor(degrees, dtype=torch.float64).deg2rad()
        return torch.stack([angles.cos(), angles.sin()], dim=1)

    return place


@pytest.fixture(scope="session")
def eight() -> dict[str, Any]:
    """The eight points that "One family" draws, as its own cell makes them: the figure is the fixture.

    degrees: the angles, whole numbers. z: (8, 2) unit rows. labels: (8,). view_of: (8,) the other view of
    each image. first: (4,) one view of each image.
    """
    chapter = Path(__file__).parents[2] / "book" / "foundations" / "one_family.ipynb"
    cell = next(one for one in nbformat.read(chapter, 4).cells if one.source.startswith("angles = "))
    names: dict[str, Any] = {"torch": torch}
    exec(cell.source, names)
    return names | {"degrees": names["angles"].rad2deg().round().int().tolist()}
