"""Checks of tensor shapes that several losses share."""

import torch


def check_same_shape(image: torch.Tensor, target: torch.Tensor) -> None:
    """Reject tensors of different shapes, which PyTorch would broadcast silently."""
    if image.shape != target.shape:
        raise ValueError(
            f"two tensors of one shape needed, got {tuple(image.shape)} and {tuple(target.shape)}"
        )


def check_grey_batch(images: torch.Tensor, name: str) -> None:
    """Reject tensors that are not a non-empty batch of grey images (N, 1, H, W)."""
    if images.ndim != 4 or images.shape[1] != 1 or images.shape[0] == 0:
        raise ValueError(f"{name} must be grey images (N, 1, H, W), got {tuple(images.shape)}")
