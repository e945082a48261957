"""The loss of a batch, which a CUDA graph must be able to hold."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional

from pipelines.training.loss import weighted_cross_entropy

LOGITS = torch.randn(17, 4, generator=torch.Generator().manual_seed(0))
TARGETS = torch.arange(17) % 3
WEIGHTS = torch.tensor([0.2, 1.0, 3.0, 0.5])


@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["alike", "weighted"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
def test_it_is_the_loss_of_pytorch_and_so_are_its_gradients(weights, smoothing):
    found, known = (LOGITS.clone().requires_grad_() for _ in range(2))
    loss = weighted_cross_entropy(found, TARGETS, weights, smoothing)
    expected = functional.cross_entropy(known, TARGETS, weights, label_smoothing=smoothing)
    torch.testing.assert_close(loss, expected)
    loss.backward()
    expected.backward()
    torch.testing.assert_close(found.grad, known.grad)


@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["alike", "weighted"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_shape_of_no_result_depends_on_values(weights, smoothing):
    """Tensors without values, of which PyTorch refuses what would have to wait for them."""
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        fake = [each if each is None else mode.from_tensor(each) for each in (LOGITS, TARGETS, weights)]
        assert weighted_cross_entropy(*fake, smoothing).shape == ()
