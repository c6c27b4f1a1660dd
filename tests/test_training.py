"""The loop: what it computes, and that a killed run goes on as if nothing had happened."""

import pytest
import torch
from torch import nn

from pullpush import samplers, training


def setting(seed: int = 0, dropout: float = 0.3):
    """A small network with every kind of state: weights, BatchNorm averages, Adam moments, dropout."""
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(dropout), nn.Linear(16, 3)
    )
    x, y = torch.randn(200, 6), torch.randint(3, (200,))
    stream = training.generator(seed)

    def step(i):
        noisy = x[i] + 0.1 * torch.randn(x[i].shape, generator=stream)
        return {"loss": nn.functional.cross_entropy(model(noisy).float(), y[i])}

    def run(epochs, **options):
        optimizer = torch.optim.Adam(model.parameters(), 0.01)
        return training.fit(
            step, lambda epoch: samplers.batches(200, 32, stream),
            model=model, optimizer=optimizer, epochs=epochs, generator=stream, **options,
        )  # fmt: skip

    return model, run


def plain_fit(step, batches, model, **options):
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    return training.fit(step, lambda epoch: batches, model=model, optimizer=optimizer, **options)


def numbers(history):
    return [{name: value for name, value in row.items() if name != "seconds"} for row in history]


def test_fit_is_the_plain_loop():
    model, run = setting(dropout=0.0)
    history = run(3)

    torch.manual_seed(0)
    other, _ = setting(dropout=0.0)
    torch.manual_seed(0)
    nn.Sequential(nn.Linear(6, 16), nn.Linear(16, 3))  # draws what the model drew, so that x and y are equal
    x, y = torch.randn(200, 6), torch.randint(3, (200,))
    stream, optimizer = training.generator(0), torch.optim.Adam(other.parameters(), 0.01)
    for row in history:
        losses = []
        for i in torch.randperm(200, generator=stream).split(32):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(
                other(x[i] + 0.1 * torch.randn(x[i].shape, generator=stream)), y[i]
            )
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert row["loss"] == pytest.approx(sum(losses) / len(losses), rel=1e-6)
    for a, b in zip(model.state_dict().values(), other.state_dict().values(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("stop", [1, 2, 4])
def test_resume_is_bit_identical(tmp_path, stop):
    whole, run = setting()
    expected = run(5)

    _, run = setting()
    run(stop, checkpoint=tmp_path / "seed.pt", identity="a")
    torch.manual_seed(99)  # a new process has another global stream
    torch.rand(17)
    resumed, run = setting(seed=0)
    torch.manual_seed(123)
    history = run(5, checkpoint=tmp_path / "seed.pt", identity="a")

    assert numbers(history) == numbers(expected)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_a_finished_run_is_only_read(tmp_path, capsys):
    _, run = setting()
    history = run(2, checkpoint=tmp_path / "seed.pt", identity="a")
    _, run = setting()
    assert run(2, checkpoint=tmp_path / "seed.pt", identity="a") == history
    assert "resumed after epoch 2" in capsys.readouterr().out


def test_checkpoint_of_another_run_is_not_loaded(tmp_path, capsys):
    _, run = setting()
    run(2, checkpoint=tmp_path / "seed.pt", identity="temperature 0.5")
    _, run = setting()
    history = run(1, checkpoint=tmp_path / "seed.pt", identity="temperature 0.1")
    assert len(history) == 1
    assert "other parameters or older code" in capsys.readouterr().out


def test_only_whole_checkpoints_exist(tmp_path):
    _, run = setting()
    run(2, checkpoint=tmp_path / "deep" / "seed.pt", identity="a")
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["seed.pt"]


def test_one_line_an_epoch_with_time_left(capsys):
    _, run = setting()
    run(3)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert lines[0].startswith("epoch 1/3  loss ")
    assert "ETA" in lines[0]


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_epoch(tmp_path):
    model, _ = setting()
    stream, path = training.generator(0), tmp_path / "seed.pt"
    calls = []

    def step(batch):
        calls.append(batch)
        return {"loss": model[0].weight.sum() * (torch.nan if len(calls) > 4 else 1.0)}

    with pytest.raises(FloatingPointError, match="loss of epoch 2/3 is nan"):
        plain_fit(step, range(4), model, epochs=3, generator=stream, checkpoint=path)
    assert len(torch.load(path)["history"]) == 1


def test_bf16_reaches_the_step_and_fp32_does_not():
    seen = []
    model = nn.Linear(4, 4)

    def step(batch):
        z = model(torch.ones(2, 4))
        seen.append(z.dtype)
        return {"loss": z.float().sum()}

    for precision in ("fp32", "bf16"):
        dtype = training.pick_precision(precision, torch.device("cpu"))
        plain_fit(step, [0], model, epochs=1, generator=training.generator(0), precision=dtype)
    assert seen == [torch.float32, torch.bfloat16]


def test_auto_device_and_precision():
    expected = "cuda" if torch.cuda.is_available() else "cpu"
    assert training.pick_device("auto").type == expected
    assert training.pick_precision("auto", torch.device("cpu")) is torch.float32
    assert training.pick_precision("auto", torch.device("cuda")) is torch.bfloat16
    with pytest.raises(ValueError, match="Unknown precision 'fp16'"):
        training.pick_precision("fp16", torch.device("cpu"))
    if expected == "cpu":
        with pytest.raises(RuntimeError, match="finds no GPU here"):
            training.pick_device("cuda")


def test_the_loop_stays_short_enough_to_read():
    with open(training.__file__, encoding="utf-8") as source:
        assert len(source.readlines()) <= 150


def test_capture_replaces_the_update_and_may_wrap_it():
    """What a CUDA graph does on a GPU: the loop calls what it was given, with the same result."""
    plain, run = setting()
    expected = run(2)
    seen = []

    def capture(update):
        def replay(batch):
            seen.append(len(batch))
            return update(batch)

        return replay

    captured, run = setting()
    assert numbers(run(2, capture=capture)) == numbers(expected)
    assert seen == 2 * [32, 32, 32, 32, 32, 32, 8]
    for a, b in zip(plain.state_dict().values(), captured.state_dict().values(), strict=True):
        assert torch.equal(a, b)
