"""The exponential moving average of a network's weights: what a run saves and ships."""

import torch


@torch.no_grad()
def update_average(
    average: torch.nn.Module, network: torch.nn.Module, *, step: int, decay: float
) -> None:
    """Move the average of a network's parameters towards their current values.

    Buffers are copied: the running statistics of a batch norm are averages already.

    Args:
        average: Copy of the network that holds the averages.
        network: Network that is trained.
        step: Number of steps taken.
        decay: Share of the old average that stays; smaller at the start, so that the average
            forgets the random initial weights.
    """
    decay = min(decay, (1 + step) / (10 + step))
    for averaged, current in zip(average.parameters(), network.parameters(), strict=True):
        averaged.lerp_(current, 1 - decay)
    for averaged, current in zip(average.buffers(), network.buffers(), strict=True):
        averaged.copy_(current)
