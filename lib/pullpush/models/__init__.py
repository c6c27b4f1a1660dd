"""Networks: one a file, plain `torch.nn.Module`s that create their weights from torch's global generator."""

from pullpush.models.practicum import PracticumNet

__all__ = ["PracticumNet"]
