import pytest
import torch

from pipelines.pretraining.objectives import OBJECTIVES, simclr, vicreg


@pytest.mark.parametrize("name", sorted(OBJECTIVES))
def test_views_of_a_cell_that_agree_cost_less_than_those_that_do_not(name):
    torch.manual_seed(0)
    one = torch.randn(64, 16)
    alike, other = OBJECTIVES[name](one, one + 0.05 * torch.randn(64, 16)), OBJECTIVES[name](one, one.flip(0))
    assert alike < 0.5 * other


@pytest.mark.parametrize("name", sorted(OBJECTIVES))
def test_projections_that_collapse_to_a_point_cost_more(name):
    torch.manual_seed(0)
    spread, collapsed = torch.randn(64, 16), torch.ones(64, 16) + 1e-3 * torch.randn(64, 16)
    assert OBJECTIVES[name](collapsed, collapsed) > OBJECTIVES[name](spread, spread) + 1


def test_simclr_is_the_cross_entropy_of_the_partner():
    one, other = torch.eye(2), torch.eye(2)
    # Each view has its partner at similarity 1, and both views of the other cell at 0.
    expected = -torch.log_softmax(torch.tensor([5.0, 0, 0]), 0)[0]
    assert torch.isclose(simclr(one, other), expected)


def test_vicreg_asks_for_the_same_values_spread_and_uncorrelated():
    spread = torch.tensor([[1.0, 1], [1, -1], [-1, 1], [-1, -1]])
    assert vicreg(spread, spread) == 0
    same = torch.tensor([[1.0, 1], [1, 1], [-1, -1], [-1, -1]])
    # Both features are one: of each view the off-diagonal covariances, 4/3, are squared, summed and halved.
    assert torch.isclose(vicreg(same, same), torch.tensor(2 * (4 / 3) ** 2 * 2 / 2))
