"""Flags of a graph about its own answer: the outputs `bundle_format.bundle.FLAGS`.

The flags need no HR reference, so the service can check every answer for NaN, saturation, and
structure that does not match its tile.
"""

import torch
from torch import nn
from torch.nn import functional

from bundle_format.trust_record import NOT_JUDGED, TrustRecord
from export.residual import domain_distances, domain_features, explain, residual_score

BLOCK_PX = 2
"""Blocks of LR pixels that are compared: their means hold a quarter of the noise's variance."""

WINDOW_BLOCKS = 7
STRIDE_BLOCKS = 2
EPS = (4.0 / 255.0) ** 2
"""Variance below which a window is flat, so that noise compared with noise counts as agreement."""


class QualityFlags(nn.Module):
    """Judges answers by their inputs.

    - non_finite: share of LR pixels whose part of the answer holds NaN or infinity.
    - saturated: share of LR pixels whose part of the answer left [0, 1] and is cut off there.
    - consistency, consistency_worst: mean and least over windows of 14 LR pixels of the correlation
      between the answer's area means and the tile, both in blocks of 2 x 2 LR pixels. 1: the same
      structure, at any tone; near 0: structure was lost or invented.
    - residual: strongest compact part of the tile that the answer does not explain, divided by the
      bundle's limit.
    - domain_distance: distance of the tile from the training tiles, divided by the bundle's limit;
      with several tools, from the nearest tool's tiles.

    Everything is computed from area means on the LR grid: at full size, the flags would cost more
    memory traffic than the last layer.

    Source: the consistency is that of `training.losses.consistency`: normalised cross-correlation
    (Lewis 1995) with the constants of Wang et al. 2004, eq. 10.
    """

    domain_means: torch.Tensor
    domain_precisions: torch.Tensor
    domain_limits: torch.Tensor

    def __init__(self, *, scale: int, trust: TrustRecord | None) -> None:
        """Take the scale and the trust record; without a record the last two flags are -1."""
        super().__init__()
        self.scale = scale
        self.trust = trust
        if trust is not None:
            for name, values in (
                ("domain_means", [domain.mean for domain in trust.domains]),
                ("domain_precisions", [domain.precision for domain in trust.domains]),
                ("domain_limits", [domain.limit for domain in trust.domains]),
            ):
                self.register_buffer(name, torch.tensor(values))

    def forward(self, lr: torch.Tensor, sr: torch.Tensor, clamped: torch.Tensor) -> torch.Tensor:
        """Judge a batch.

        Args:
            lr: (N, 1, H, W) float32 in [0, 1], H and W at least 8.
            sr: (N, 1, s*H, s*W) float32, as the network gives it.
            clamped: The same, clamped to [0, 1]: the caller needs it too.

        Returns:
            (N, 6) float32.
        """
        raw = functional.avg_pool2d(sr, self.scale)
        seen = functional.avg_pool2d(clamped, self.scale)
        # A sum that holds a NaN or an infinity is one itself.
        broken = torch.isnan(raw) | torch.isinf(raw)
        cut_off = (raw - seen).abs() > 1e-6
        local = _local_correlation(seen, lr)
        return torch.stack(
            [
                broken.float().mean((1, 2, 3)),
                cut_off.float().mean((1, 2, 3)),
                local.mean((1, 2, 3)),
                local.amin((1, 2, 3)),
                *self._trust_flags(lr, seen),
            ],
            dim=1,
        )

    def _trust_flags(
        self, lr: torch.Tensor, seen: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if self.trust is None:
            not_judged = torch.full_like(lr[:, 0, 0, 0], NOT_JUDGED)
            return not_judged, not_judged
        noise = self.trust.noise
        explanation = explain(lr, seen, noise_base=noise.base, noise_slope=noise.slope)
        distances = domain_distances(
            domain_features(lr, explanation),
            means=self.domain_means,
            precisions=self.domain_precisions,
        )
        return (
            residual_score(explanation.residual) / self.trust.residual_limit,
            (distances / self.domain_limits).amin(1),
        )


def _local_correlation(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Return the correlation of two (N, 1, H, W) tensors in each window, (N, 1, h, w)."""
    blocks = functional.avg_pool2d(torch.cat([a, b], dim=1), BLOCK_PX)
    # Tile means off first: variances of large numbers would cancel in float32.
    x, y = (blocks - blocks.mean((2, 3), keepdim=True)).split(1, dim=1)
    moments = functional.avg_pool2d(
        torch.cat([x, y, x * x, y * y, x * y], dim=1),
        WINDOW_BLOCKS,
        stride=STRIDE_BLOCKS,
        padding=WINDOW_BLOCKS // 2,
        count_include_pad=False,
    )
    mean_x, mean_y, xx, yy, xy = moments.split(1, dim=1)
    var_x = (xx - mean_x * mean_x).clamp(min=0.0)
    var_y = (yy - mean_y * mean_y).clamp(min=0.0)
    covariance = xy - mean_x * mean_y
    return (covariance + EPS) / ((var_x + EPS) * (var_y + EPS)).sqrt()
