"""Pool of earlier generated images that replace some of the newest in a discriminator's batch."""

from typing import Any

import torch


class ImagePool:
    """Mix old generated images into a discriminator's batches.

    Until the pool is full, it stores and returns every image. Then, with the given probability, a
    new image takes the place of a random stored image, which is returned instead.

    Args:
        generator: Source of all draws, on the CPU. Its state is part of `state_dict`.
        capacity: Images held; 0 returns every batch unchanged.
        exchange_probability: Share of images that are exchanged once the pool is full.

    Raises:
        ValueError: An argument is out of range, or images change their shape.

    Source: Shrivastava et al. 2017, section 2.3, with the figures (50 images, 0.5) of Zhu et al.
    2017 (CycleGAN).
    """

    def __init__(
        self,
        *,
        generator: torch.Generator,
        capacity: int = 50,
        exchange_probability: float = 0.5,
    ) -> None:
        if capacity < 0 or not 0 <= exchange_probability <= 1:
            raise ValueError(
                "an image pool needs capacity >= 0 and a probability in [0, 1], got "
                f"{capacity} and {exchange_probability}"
            )
        self.generator = generator
        self.capacity = capacity
        self.exchange_probability = exchange_probability
        self._images: list[torch.Tensor] = []

    def exchange(self, images: torch.Tensor) -> torch.Tensor:
        """Return a batch (N, C, H, W) with some images exchanged for stored ones, detached."""
        if self.capacity == 0:
            return images.detach()
        returned = []
        for image in images.detach():
            if self._images and self._images[0].shape != image.shape:
                raise ValueError(
                    f"the pool holds images of shape {tuple(self._images[0].shape)}, "
                    f"got {tuple(image.shape)}"
                )
            if len(self._images) < self.capacity:
                self._images.append(image.clone())
                returned.append(image)
            elif self._draw() < self.exchange_probability:
                place = int(self._draw() * self.capacity)
                returned.append(self._images[place])
                self._images[place] = image.clone()
            else:
                returned.append(image)
        return torch.stack(returned)

    def state_dict(self) -> dict[str, Any]:
        """Return the stored images, (M, C, H, W) or None, and the generator's state."""
        images = torch.stack(self._images) if self._images else None
        return {"images": images, "generator": self.generator.get_state()}

    def load_state_dict(self, state: dict[str, Any], *, device: torch.device | str = "cpu") -> None:
        """Restore a state from `state_dict`, with the images on `device`."""
        images = state["images"]
        self._images = [] if images is None else [image.clone() for image in images.to(device)]
        self.generator.set_state(state["generator"].cpu())

    def _draw(self) -> float:
        return float(torch.rand((), generator=self.generator))
