"""Running weight of the adversarial term, from the losses' gradients at the output image."""

from typing import Any

import torch


class GradientBalance:
    """Weight that makes an adversarial loss as strong as the structure losses.

    Gradient penalties make a discriminator's image gradient small; structure losses with fixed
    weights would then keep the texture from changing. The weight
    |dL_structure / dSR| / |dL_GAN / dSR| (Euclidean norms over the batch), as a running mean over
    the steps, makes both gradients equally large.

    Args:
        momentum: Factor of the old mean in a step's new mean.
        limit: Upper bound of a step's ratio; also its value for a zero adversarial gradient.

    Source: the adaptive weight of Esser et al. 2021 (VQGAN), eq. 7, here with respect to the image
    and as a running mean.
    """

    def __init__(self, *, momentum: float = 0.95, limit: float = 200.0) -> None:
        if not 0 <= momentum < 1 or not limit > 0:
            raise ValueError(
                "a gradient balance needs momentum in [0, 1) and limit > 0, got "
                f"{momentum} and {limit}"
            )
        self.momentum = momentum
        self.limit = limit
        self._mean: float | None = None

    @property
    def weight(self) -> float:
        """Factor for the adversarial loss, in [0, limit]; 1 before the first update."""
        return 1.0 if self._mean is None else self._mean

    def update(
        self, loss_structure: torch.Tensor, loss_gan: torch.Tensor, sr: torch.Tensor
    ) -> float:
        """Update the running mean by one step's gradient ratio and return the weight.

        The graph is retained, so that the losses can still be differentiated. A NaN ratio (both
        gradients zero, or a diverged loss) leaves the mean unchanged.

        Args:
            loss_structure: Scalar computed from `sr`.
            loss_gan: Scalar computed from `sr`.
            sr: The generator's output, any shape, in the graph.
        """
        structure, gan = (_gradient_norm(loss, sr) for loss in (loss_structure, loss_gan))
        ratio = float((structure / gan).clamp(0.0, self.limit))
        if ratio == ratio:  # not NaN
            # The first ratio starts the mean: from 0 it would need dozens of steps to arrive.
            kept = ratio if self._mean is None else self._mean
            self._mean = self.momentum * kept + (1 - self.momentum) * ratio
        return self.weight

    def state_dict(self) -> dict[str, Any]:
        """Return the running mean."""
        return {"mean": self._mean}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a saved running mean."""
        self._mean = state["mean"]


def _gradient_norm(loss: torch.Tensor, sr: torch.Tensor) -> torch.Tensor:
    (gradient,) = torch.autograd.grad(loss, sr, retain_graph=True)
    return gradient.detach().float().norm()
