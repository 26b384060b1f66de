"""PatchNCE: each place of the output must resemble its own place of the source most of all.

Flow: features of output and source at the same places -> `training.methods.parts.feature_sampler`
-> unit vectors -> a scalar. The loss maximises a bound of the mutual information between a place of
the output and the same place of the source. It needs no pairs.

MoNCE weights the negatives of each query; the weights come from `training.losses.transport`.

Source: Park, Efros, Zhang and Zhu 2020 (CUT), "Contrastive learning for unpaired image-to-image
translation", eq. 2 and 3; Zhan et al. 2022 (MoNCE), eq. A.7 of the thesis.
"""

import torch
from torch.nn import functional

from training.losses.shapes import check_same_shape

OWN_PLACE = -10.0
"""Similarity that replaces a query's own place among its negatives: exp(-10 / 0.07) is 0 in single
precision. The published code has the same constant."""

LEAST_WEIGHT = 1e-8
"""Constant that is added to a negative's factor before its logarithm, as in the published code. In
half precision it is 0, and the logarithm infinite."""


def patch_nce(
    queries: torch.Tensor,
    keys: torch.Tensor,
    *,
    temperature: float = 0.07,
    weights: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return the cross-entropy of telling a query's own key from those of the image's other places.

    The logits of query i are q_i . k_i and, for all j other than i, q_i . k_j, divided by the
    temperature. With weights, negative j counts (P - 1) w_ij times. P is the number of places that
    were sampled. The published code of MoNCE takes the constant 256 instead, which is wrong on maps
    of fewer places.

    Args:
        queries: (N, P, D) or (P, D) unit vectors of the output.
        keys: The same shape, of the source at the same places; they get no gradient.
        temperature: Divisor of the logits, tau.
        weights: (N, P, P) or (P, P), non-negative, from `transport.transport_weights`; their
            diagonal is ignored. None weights all negatives by 1, which is the same as 1 / (P - 1).

    Returns:
        Scalar float32 (float64 for such queries), also under autocast: the mean over places and
        images. Equal vectors give ln P.

    Raises:
        ValueError: Shapes differ, or the temperature is not positive.

    Source: Park et al. 2020, eq. 2; with weights Zhan et al. 2022 (eq. A.7 of the thesis). Equal to
    their code (tests/training/losses/test_patch_nce.py).
    """
    check_same_shape(queries, keys)
    if queries.ndim not in (2, 3):
        raise ValueError(f"queries have shape {tuple(queries.shape)}, expected (N, P, D) or (P, D)")
    if temperature <= 0:
        raise ValueError(f"temperature is {temperature}, expected more than 0")
    with torch.autocast(queries.device.type, enabled=False):
        exact = torch.promote_types(queries.dtype, torch.float32)
        query, key = queries.to(exact), keys.detach().to(exact)
        similarity = query @ key.transpose(-1, -2)
        places = similarity.shape[-1]
        own = torch.eye(places, dtype=torch.bool, device=similarity.device)
        positive = similarity.diagonal(dim1=-2, dim2=-1)[..., None]
        negatives = similarity
        if weights is not None:
            check_same_shape(similarity, weights)
            factor = (places - 1) * weights.detach().to(exact)
            negatives = negatives + temperature * torch.log(factor + LEAST_WEIGHT)
        negatives = negatives.masked_fill(own, OWN_PLACE)
        logits = torch.cat([positive, negatives], dim=-1).flatten(0, -2) / temperature
        right = torch.zeros(len(logits), dtype=torch.int64, device=logits.device)
        return functional.cross_entropy(logits, right)
