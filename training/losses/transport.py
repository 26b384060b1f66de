"""Weights of the negatives in MoNCE: an optimal transport plan between queries and keys.

PatchNCE treats all negatives of a query alike. MoNCE distributes a weight of 1 over the negatives
of each query such that each key also receives 1 in total. "hard" moves weight to similar negatives,
"easy" to dissimilar ones.

On patterns with a pitch, a query's most similar negatives are repeats of its own place, which are
no errors: "hard" then pushes equal places apart, and "easy" ignores them. On 256 features of 8
repeated prototypes, PatchNCE gives 1.31, "hard" at beta 0.1 gives 3.16 and "easy" 0.003. The
thesis's run used "hard" at beta 1.0.

Source: Zhan et al. 2022, "Modulated contrast for versatile image synthesis" (MoNCE), eq. A.8 of the
thesis; Sinkhorn's iterations after Cuturi 2013.
"""

from typing import Literal, get_args

import torch

from training.losses.patch_nce import OWN_PLACE

Kind = Literal["hard", "easy"]

ITERATIONS = 50
"""Sinkhorn iterations of the published code."""


def transport_weights(
    similarity: torch.Tensor,
    *,
    beta: float,
    kind: Kind,
    has_positives: bool = True,
    iterations: int = ITERATIONS,
) -> torch.Tensor:
    """Return the weights of each query's negatives.

    K = exp(s / beta) for "hard", exp((1 - s) / beta) for "easy". On the diagonal, the argument
    before the division by beta is -10, so that a query's own key gets no weight. Sinkhorn's
    iterations scale rows and columns in turn, u = 1 / (K v) and v = 1 / (K' u), in logarithms: in
    single precision, K itself overflows at small beta.

    Args:
        similarity: (N, P, P) or (P, P) cosines q_i . k_j; they get no gradient.
        beta: Entropy of the plan. At 1.0 the weights of random features, times P - 1, span 0.79 to
            1.24; at 0.1 they span 0.08 to 7.6.
        kind: Negatives that gain weight, see above.
        has_positives: Whether the diagonal holds the positives, which then get no weight; False
            where all entries are negatives, such as those of another image.
        iterations: Number of iterations. The columns are scaled last: their sums are 1 up to
            rounding, those of the rows after convergence, which takes longer at small beta.

    Returns:
        Weights of the shape of `similarity`, non-negative, float32 (float64 for such
        similarities), without gradient, also under autocast.

    Raises:
        ValueError: A shape, kind, beta or number of iterations is out of range.

    Source: Zhan et al. 2022, in the form of their code. Their text contradicts itself on which kind
    suits unpaired images; their code takes "hard" there.
    """
    if kind not in get_args(Kind):
        raise ValueError(f"kind is {kind!r}, expected one of {', '.join(get_args(Kind))}")
    if beta <= 0 or iterations < 1:
        raise ValueError(
            f"beta is {beta} and iterations are {iterations}, expected more than 0 and at least 1"
        )
    places = similarity.shape[-1]
    if similarity.ndim not in (2, 3) or similarity.shape[-2] != places or places < 2:
        raise ValueError(
            f"similarity has shape {tuple(similarity.shape)}, expected (N, P, P) or (P, P), P >= 2"
        )
    with torch.no_grad(), torch.autocast(similarity.device.type, enabled=False):
        exact = similarity.to(torch.promote_types(similarity.dtype, torch.float32))
        gain = exact if kind == "hard" else 1 - exact
        if has_positives:
            own = torch.eye(places, dtype=torch.bool, device=gain.device)
            gain = gain.masked_fill(own, OWN_PLACE)
        log_kernel = gain / beta
        log_v = torch.zeros_like(log_kernel[..., :1, :])
        log_u = torch.zeros_like(log_kernel[..., :1])
        for _ in range(iterations):
            log_u = -torch.logsumexp(log_kernel + log_v, dim=-1, keepdim=True)
            log_v = -torch.logsumexp(log_kernel + log_u, dim=-2, keepdim=True)
        return torch.exp(log_u + log_kernel + log_v)
