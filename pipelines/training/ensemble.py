"""Joining trained networks to one model."""

import numpy as np
import numpy.typing as npt
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from fatescope.config import Train
from fatescope.networks.network import Ensemble, Network
from pipelines.training.cost import ModelCost
from pipelines.training.device import select_device
from pipelines.training.examples import Examples, Indices
from pipelines.training.prediction import predict

SAMPLE = 20_000
"""The most training cells whose embeddings are kept at once: more would hardly change a mean, a covariance or a linear
layer, and a million embeddings of 2,048 numbers would take 8 GB."""


def join_networks(networks: list[Network], examples: Examples, classes: int, join: str) -> Network | Ensemble:
    """Return the only network, or the ensemble of several, whose own linear layer is fitted on the training cells."""
    if len(networks) == 1:
        return networks[0]
    ensemble = Ensemble(networks, classes, join).to(select_device()).eval()
    if ensemble.linear is not None:
        rows = sample_classes(examples.targets, examples.train)
        embedding = predict(ensemble, examples.pixels, rows).embedding
        _fit_linear(ensemble.linear, embedding, examples.targets[rows])
    return ensemble


def sample_evenly(rows: Indices, most: int) -> Indices:
    """Return up to `most` of `rows`, evenly spaced, in their order."""
    positions = np.unique(np.linspace(0, len(rows) - 1, min(most, len(rows))).astype(int))
    sample: Indices = rows[positions]
    return sample


def sample_classes(targets: Indices, rows: Indices) -> Indices:
    """Return up to SAMPLE of `rows` in ascending order, up to an equal share of each class."""
    classes = np.unique(targets[rows])
    share = SAMPLE // len(classes)
    return np.sort(np.concatenate([sample_evenly(rows[targets[rows] == k], share) for k in classes]))


def class_prior(examples: Examples, classes: int, members: list[Train], join: str) -> npt.NDArray[np.float64]:
    """Return (K,) the shares of classes that the probabilities of one network, or of several joined ones, assume."""
    equal, counts = np.full(classes, 1 / classes), np.bincount(examples.targets[examples.train], minlength=classes)
    # The layer on embeddings weighs all classes the same, whatever its members do (`_fit_linear`).
    if len(members) > 1 and join == "embeddings":
        return equal
    # Averaged probabilities assume the average of the members' priors.
    priors = [counts / counts.sum() if member.balance == "none" else equal for member in members]
    prior: npt.NDArray[np.float64] = np.mean(priors, axis=0)
    return prior


def model_cost(network: nn.Module, shape: tuple[int, ...]) -> ModelCost:
    """Return the size of `network`, and what it costs to classify a cell of `shape`, (H, W) or (C, H, W)."""
    counter = FlopCounterMode(display=False)
    with counter, torch.inference_mode():
        cell = torch.zeros(shape, device=next(network.parameters()).device)
        network(cell.reshape(1, -1, *shape[-2:]))
    parameters = sum(tensor.numel() for tensor in network.parameters())
    return ModelCost(parameters, counter.get_total_flops() / 2)


def _fit_linear(linear: nn.Linear, embedding: npt.NDArray[np.float32], targets: Indices) -> None:
    """Fit the layer on embeddings (n, C) by logistic regression.

    The regularisation is strong, because the members were trained on the same cells.
    """
    scaler = StandardScaler().fit(embedding)
    model = LogisticRegression(C=1e-3, class_weight="balanced", max_iter=500)
    model.fit(scaler.transform(embedding), targets)
    weights, bias = model.coef_, model.intercept_
    if len(weights) == 1:  # scikit-learn has one row for two classes
        weights, bias = np.concatenate([-weights, weights]) / 2, np.concatenate([-bias, bias]) / 2
    weights = weights / scaler.scale_
    with torch.no_grad():
        linear.weight.copy_(torch.from_numpy(weights))
        linear.bias.copy_(torch.from_numpy(bias - weights @ scaler.mean_))
