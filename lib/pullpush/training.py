"""The training loop: device, precision, progress, checkpoint and resume. Nothing is hidden behind it.

A study says what one step computes and which batches an epoch holds; the loop does backward, update and
book-keeping. A run that is killed and started again ends with bit-identical weights and numbers on one
machine and thread count: everything random comes from generators whose states are in the checkpoint.
"""

import math
import os
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from tqdm.auto import tqdm

Step = Callable[[Any], dict[str, Tensor]]


def pick_device(device: str = "auto") -> torch.device:
    """`auto` is CUDA where there is a GPU, else the CPU. Raises RuntimeError for cuda without a GPU."""
    if device == "cuda" and not torch.cuda.is_available():
        raise RuntimeError("device=cuda, but torch finds no GPU here. Use device=auto or device=cpu.")
    found = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(device.replace("auto", found))


def pick_precision(precision: str, device: torch.device) -> torch.dtype:
    """`auto` is fp32 on a CPU and bf16 on CUDA; `fp32` and `bf16` are taken at their word."""
    if precision == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    if precision not in ("fp32", "bf16"):
        raise ValueError(f"Unknown precision '{precision}'. Allowed: auto, fp32, bf16.")
    return torch.bfloat16 if precision == "bf16" else torch.float32


def generator(seed: int, device: torch.device | str = "cpu") -> torch.Generator:
    """A random stream of its own on `device`, started from `seed`."""
    return torch.Generator(device=device).manual_seed(seed)


def fit(
    step: Step,
    batches: Callable[[int], Iterable[Any]],
    *,
    model: nn.Module,
    optimizer: Optimizer,
    epochs: int,
    generator: torch.Generator,
    precision: torch.dtype = torch.float32,
    checkpoint: Path | None = None,
    identity: str = "",
    on_epoch: Callable[[int], dict[str, float]] | None = None,
    capture: Callable[[Step], Step] | None = None,
) -> list[dict[str, float]]:
    """Train for `epochs`; one row an epoch: epoch, the mean of each number that `step` gives, seconds.

    step(batch) -> {"loss": scalar tensor with gradient, ...other scalar tensors to log}; runs under autocast
        if `precision` is bf16, so losses should be computed on `.float()` embeddings.
    batches(epoch) -> the batches of that epoch; all randomness of the run comes from `generator`.
    checkpoint: written atomically after each epoch. If it is there and carries the same `identity`, training
        goes on from it; with another identity it is ignored and overwritten.
    on_epoch(epoch) -> further numbers for the row; it must not draw from `generator`.
    capture(update) -> what to call instead of `update`, which takes one batch from forward pass to changed
        weights: the same, recorded as a CUDA graph.
    Raises FloatingPointError if an epoch's loss is not finite; the checkpoint keeps the last sound epoch.
    """
    device = next(model.parameters()).device

    def update(batch: Any) -> dict[str, Tensor]:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == torch.bfloat16):
            logged = step(batch)
        logged["loss"].backward()
        optimizer.step()
        return {key: value.detach() for key, value in logged.items()}

    advance = capture(update) if capture else update
    history = _resume(checkpoint, identity, model, optimizer, generator)
    began, resumed_at = time.perf_counter(), len(history)
    for epoch in range(resumed_at + 1, epochs + 1):
        epoch_began, steps = time.perf_counter(), 0
        totals: dict[str, Tensor] = {}
        model.train()
        name = f"epoch {epoch}/{epochs}"
        for batch in tqdm(batches(epoch), name, leave=False, disable=not sys.stderr.isatty()):
            # Totals stay on the device: reading a number in every step would make a GPU wait for the CPU.
            totals |= {key: totals.get(key, 0) + value.double() for key, value in advance(batch).items()}
            steps += 1
        row = {"epoch": epoch} | {key: total.item() / steps for key, total in totals.items()}
        if not math.isfinite(row["loss"]):
            raise FloatingPointError(f"The loss of {name} is {row['loss']}. Try a smaller learning_rate.")
        if on_epoch is not None:
            row |= on_epoch(epoch)
        numbers = "  ".join(f"{key} {value:.4g}" for key, value in row.items() if key != "epoch")
        row["seconds"] = round(time.perf_counter() - epoch_began, 2)
        history.append(row)
        _save(checkpoint, identity, model, optimizer, generator, history)
        left = (time.perf_counter() - began) / (epoch - resumed_at) * (epochs - epoch)
        print(f"{name}  {numbers}  {row['seconds']:.1f} s  ETA {left / 60:.1f} min", flush=True)
    return history


def _save(
    path: Path | None,
    identity: str,
    model: nn.Module,
    optimizer: Optimizer,
    generator: torch.Generator,
    history: list[dict[str, float]],
) -> None:
    if path is None:
        return
    state = {
        "identity": identity,
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "generator": generator.get_state(),
        # Layers such as dropout draw from torch's global streams.
        "global": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "history": history,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    whole = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    torch.save(state, whole)
    os.replace(whole, path)


def _resume(
    path: Path | None, identity: str, model: nn.Module, optimizer: Optimizer, generator: torch.Generator
) -> list[dict[str, float]]:
    if path is None or not path.exists():
        return []
    state = torch.load(path, map_location="cpu", weights_only=True)
    if state["identity"] != identity:
        print(f"{path.name} belongs to other parameters or older code: starting from the first epoch.")
        return []
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    generator.set_state(state["generator"])
    torch.set_rng_state(state["global"])
    if state["cuda"]:
        torch.cuda.set_rng_state_all(state["cuda"])
    print(f"resumed after epoch {len(state['history'])} from {path.name}", flush=True)
    return list(state["history"])
