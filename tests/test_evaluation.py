"""Probes and embeddings against scikit-learn used plainly, and against answers known in advance."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import top_k_accuracy_score
from sklearn.neighbors import KNeighborsClassifier
from torch import nn

from pullpush import evaluation


@pytest.fixture(scope="module")
def digits():
    x, y = load_digits(return_X_y=True)
    return x / 16, y


def test_linear_probe_is_scikit_learns(digits):
    x, y = digits
    result = evaluation.linear_probe(x[:800], y[:800], x[800:], y[800:])
    plain = LogisticRegression(max_iter=1000).fit(x[:800], y[:800])
    assert result["accuracy"] == plain.score(x[800:], y[800:])
    assert result["top3"] == pytest.approx(top_k_accuracy_score(y[800:], plain.predict_proba(x[800:]), k=3))
    assert result["confusion"].sum() == 997
    assert np.trace(result["confusion"]) / 997 == pytest.approx(result["accuracy"])
    np.testing.assert_allclose(
        result["recall"], [(result["predictions"][y[800:] == c] == c).mean() for c in range(10)]
    )
    assert result["converged"]


def test_linear_probe_takes_tensors_and_classes_missing_from_a_part(digits):
    x, y = torch.tensor(digits[0]), torch.tensor(digits[1])
    fit, score = y[:900] != 3, y[900:] != 5
    result = evaluation.linear_probe(x[:900][fit], y[:900][fit], x[900:][score], y[900:][score])
    assert result["classes"].tolist() == list(range(10))
    assert result["recall"][3] == 0
    assert np.isnan(result["recall"][5])


def test_knn_probe_is_scikit_learns(digits):
    x, y = digits
    result = evaluation.knn_probe(x[:800], y[:800], x[800:], y[800:])
    assert result["accuracy"] == KNeighborsClassifier(30).fit(x[:800], y[:800]).score(x[800:], y[800:])
    assert evaluation.knn_probe(x[:800], y[:800], x[:800], y[:800], neighbours=1)["accuracy"] == 1


def test_split_probe_averages_its_splits(digits):
    x, y = digits
    both = evaluation.split_probe(x, y, splits=2, seed=4)
    scores = []
    for split in range(2):
        order = np.random.default_rng([4, split]).permutation(len(x))
        fit, score = order[:1437], order[1437:]
        scores.append(LogisticRegression(max_iter=1000).fit(x[fit], y[fit]).score(x[score], y[score]))
    assert both["accuracy"] == pytest.approx(np.mean(scores))
    assert both["accuracy_std"] == pytest.approx(np.std(scores, ddof=1))
    assert both["confusion"].sum() == 2 * 360
    assert 0.9 < both["accuracy"] <= both["top3"] <= 1


def test_split_probe_with_shuffled_labels_is_chance(digits):
    x, y = digits
    assert evaluation.split_probe(x, np.random.default_rng(0).permutation(y))["accuracy"] < 0.2


FOUR, THREE = np.ones((4, 2)), np.ones(3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: evaluation.linear_probe(FOUR, THREE, FOUR, FOUR[:, 0]),
            r"train features \(4, 2\).*labels \(3,\)",
        ),
        (
            lambda: evaluation.knn_probe(FOUR, FOUR[:, 0], FOUR, FOUR[:, 0]),
            "neighbours=30 must be between 1 and",
        ),
        (
            lambda: evaluation.embed(nn.Identity(), torch.ones(1), lambda x: x, bn="train"),
            "Unknown bn 'train'",
        ),
    ],
)
def test_bad_input_says_what_was_given(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.fixture
def network():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.Flatten())
    return model, torch.randint(256, (50, 1, 5, 5), dtype=torch.uint8)


def prepare(images):
    return images.float() / 255


def test_embed_with_running_averages_is_eval_mode_in_order(network):
    model, images = network
    model.train()(prepare(images))  # averages move away from their start
    z = evaluation.embed(model, images, prepare, batch_size=7)
    with torch.no_grad():
        expected = model.eval()(prepare(images))
    np.testing.assert_allclose(z, expected.numpy(), rtol=1e-5, atol=1e-6)


def test_embed_with_batch_statistics_is_train_mode_without_dropout(network):
    model, images = network
    z = evaluation.embed(model, images, prepare, bn="batch", batch_size=50)
    model.train()
    model[2].eval()
    with torch.no_grad():
        expected = model(prepare(images))
    np.testing.assert_allclose(z, expected.numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("bn", ["running", "batch"])
def test_embed_leaves_the_network_as_it_was(network, bn):
    model, images = network
    model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    evaluation.embed(model, images, prepare, bn=bn)
    assert model.training
    assert model[1].training
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_batch_statistics_depend_on_the_company_an_image_keeps(network):
    model, images = network
    small = evaluation.embed(model, images, prepare, bn="batch", batch_size=5)
    large = evaluation.embed(model, images, prepare, bn="batch", batch_size=50)
    assert np.abs(small - large).max() > 0.01


def test_class_spread_of_points_on_a_line():
    """Two points at -1 and 1, and two at 9 and 11: total variance 26, within each class 1."""
    found = evaluation.class_spread(np.array([[-1.0], [9.0], [1.0], [11.0]]), np.array([0, 1, 0, 1]))
    np.testing.assert_allclose(found["centre"], [[0], [10]])
    np.testing.assert_allclose(found["spread"], [1 / 26, 1 / 26])


def test_class_spread_ignores_scale_and_place_and_is_one_for_labels_at_random():
    stream = np.random.default_rng(0)
    z, labels = stream.normal(size=(4000, 3)), stream.integers(0, 4, 4000)
    spread = evaluation.class_spread(z, labels)["spread"]
    np.testing.assert_allclose(evaluation.class_spread(7 * z - 2, labels)["spread"], spread)
    np.testing.assert_allclose(spread, 1, atol=0.1)
