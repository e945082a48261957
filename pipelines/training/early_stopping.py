"""Early stopping: the best epoch of a fit, and when to give up on a better one."""

from copy import deepcopy

from fatescope.config import Train
from fatescope.networks.network import Network
from pipelines.training import distributed


class BestEpoch:
    """Keeps the state of a network after the epoch with the lowest validation loss, and says when to stop."""

    def __init__(self, network: Network, params: Train) -> None:
        self._network, self._patience = network, params.patience
        # References to the weights themselves: without validation they are those of the last epoch.
        self._state, self._loss = network.state_dict(), float("inf")
        self.epoch = params.epochs - 1

    def update(self, epoch: int, loss: float) -> bool:
        """Keep the state where `loss` is the lowest so far; return whether training has lost its patience."""
        if loss < self._loss:
            self._state, self._loss, self.epoch = deepcopy(self._network.state_dict()), loss, epoch
            return False
        return epoch - self.epoch >= self._patience

    def restore(self) -> None:
        """Load the best state into the network, in all processes."""
        self._network.load_state_dict(self._state)
        distributed.broadcast_state(self._network)
