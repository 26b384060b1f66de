"""QS-Attn: choice of the places that a contrast compares, by the source's attention to itself.

A place that attends to few others is distinctive. The rows of the attention with the least entropy
are chosen, and features of source and output are averaged by these rows ("routed") before they are
compared.

On patterns with a pitch the published form degenerates. Dot products of 256 channels without a
divisor saturate the softmax: most rows have an entropy of 0, and the choice among them is the order
of the sort, a few rows of the image. "repaired" compares centred features by cosines at a
temperature, breaks ties at random, and spreads the choice over the image's rows. At the fifth block
of an untrained ResNet-9 of width 64, on eight simulated tiles whose defects take 7 % of the cells,
55 % of the repaired choice lie on a defect, and 7 % of the published one.

Flow: source features -> `select_queries` -> `route` of both images' features -> F-MLP ->
`training.losses.patch_nce`. The choice depends on the source alone.

Source: Hu et al. 2022, "QS-Attn: query-selected attention for contrastive learning in I2I
translation", section 3.
"""

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch.nn import functional

Mode = Literal["global", "local"]
Form = Literal["official", "repaired"]

WINDOW = 7
"""Side of the window of local attention, in cells."""

REPAIRED_TEMPERATURE = 0.1
"""Divisor of the cosines of the repaired form."""

CHUNK = 512
"""Rows of the attention that are computed at once: the whole matrix of 4096 places is 67 MB."""

ROWS_OF_IMAGE = 16
"""The repaired form takes at most this part of the queries from one row of the map."""


@dataclass(frozen=True)
class Routing:
    """Chosen rows of an attention.

    Attributes:
        ids: (N, P) row-major ids of the chosen places, on the CPU.
        rows: (N, P, K) weights of the keys of each chosen place, sum 1, without gradient.
        keys: (N, P, K) ids of the keys in the map with a margin of 3 cells; None where the keys are
            all K = h * w places of the map.
    """

    ids: torch.Tensor
    rows: torch.Tensor
    keys: torch.Tensor | None = None


def attention_entropy(features: torch.Tensor, *, mode: Mode, form: Form) -> torch.Tensor:
    """Return the entropy of each place's attention.

    Args:
        features: (N, C, h, w) of the source.
        mode: "global": over all places of the map. "local": over a window of 7x7 cells. Beyond the
            border, "official" attends to zeros, as its padding does, "repaired" to nothing.
        form: "official": softmax of dot products. "repaired": softmax of cosines / 0.1, of features
            that are centred over the map.

    Returns:
        (N, h * w) float32 in [0, ln K], without gradient, also under autocast.

    Source: Hu et al. 2022, section 3, and the form of their code.
    """
    _check(features, mode=mode, form=form)
    with torch.no_grad(), torch.autocast(features.device.type, enabled=False):
        prepared = _prepared(features, form)
        if mode == "local":
            return _entropy(_window_logits(prepared, form), axis=1).flatten(1)
        flat = prepared.flatten(2)
        parts = [
            _entropy(chunk.transpose(1, 2) @ flat, axis=2) for chunk in flat.split(CHUNK, dim=2)
        ]
        return torch.cat(parts, dim=1)


def select_queries(
    features: torch.Tensor, count: int, *, mode: Mode, form: Form, generator: torch.Generator
) -> Routing:
    """Choose the places whose attention has the least entropy, and return their attention.

    Args:
        features: (N, C, h, w) of the source; they get no gradient.
        count: Number of places, P; all where the map has fewer.
        mode: Keys of the attention, see `attention_entropy`.
        form: "official" or "repaired", see `attention_entropy`. "repaired" takes at most
            ceil(count / 16) places from a row of the map, more only where it has too few rows.
        generator: Source of the order of ties (repaired), on the CPU.

    Raises:
        ValueError: An argument is out of range.
    """
    if count < 1:
        raise ValueError(f"count is {count}, expected at least 1")
    height, width = features.shape[-2:]
    count = min(count, height * width)
    entropy = attention_entropy(features, mode=mode, form=form).cpu()
    if form == "official":
        ids = entropy.argsort(dim=1, stable=True)[:, :count]
    else:
        limit = max(math.ceil(count / ROWS_OF_IMAGE), math.ceil(count / height))
        ids = torch.stack(
            [_spread(row, count, width=width, limit=limit, generator=generator) for row in entropy]
        )
    return attention_of(features, ids, mode=mode, form=form)


def attention_of(features: torch.Tensor, ids: torch.Tensor, *, mode: Mode, form: Form) -> Routing:
    """Return the attention of given places.

    Args:
        features: (N, C, h, w) of the source; they get no gradient.
        ids: (N, P) row-major ids.
        mode: Keys of the attention, see `attention_entropy`.
        form: "official" or "repaired", see `attention_entropy`.
    """
    _check(features, mode=mode, form=form)
    with torch.no_grad(), torch.autocast(features.device.type, enabled=False):
        prepared, places = _prepared(features, form), ids.to(features.device)
        if mode == "global":
            flat = prepared.flatten(2)
            chosen = flat.gather(2, places[:, None].expand(-1, flat.shape[1], -1))
            return Routing(ids=ids, rows=torch.softmax(chosen.transpose(1, 2) @ flat, dim=-1))
        logits = _window_logits(prepared, form).flatten(2)
        chosen = logits.gather(2, places[:, None].expand(-1, logits.shape[1], -1))
        return Routing(
            ids=ids,
            rows=torch.softmax(chosen.transpose(1, 2), dim=-1),
            keys=_window_keys(places, width=features.shape[-1]),
        )


def route(features: torch.Tensor, routing: Routing) -> torch.Tensor:
    """Average features by the chosen rows of an attention.

    The published code of the local form reads the windows in another order of axes, which mixes
    channels and places. Here a window's cells stay cells.

    Args:
        features: (N, C, h, w) of source or output.
        routing: Rows from `select_queries`.

    Returns:
        (N, P, C) float32 (float64 for such features), also under autocast; gradients flow to the
        features. One-hot rows give the features of these places.
    """
    with torch.autocast(features.device.type, enabled=False):
        exact = features.to(torch.promote_types(features.dtype, torch.float32))
        rows, channels = routing.rows.to(exact.dtype), exact.shape[1]
        if routing.keys is None:
            return rows @ exact.flatten(2).transpose(1, 2)
        padded = functional.pad(exact, [WINDOW // 2] * 4).flatten(2)
        index = routing.keys.flatten(1)[:, None].expand(-1, channels, -1)
        values = padded.gather(2, index).unflatten(2, routing.keys.shape[1:])
        return (values * rows[:, None]).sum(-1).transpose(1, 2)


def _check(features: torch.Tensor, *, mode: Mode, form: Form) -> None:
    if mode not in get_args(Mode) or form not in get_args(Form):
        raise ValueError(
            f"mode is {mode!r} and form is {form!r}, expected one of {', '.join(get_args(Mode))} "
            f"and of {', '.join(get_args(Form))}"
        )
    if features.ndim != 4:
        raise ValueError(f"features have shape {tuple(features.shape)}, expected (N, C, h, w)")


def _prepared(features: torch.Tensor, form: Form) -> torch.Tensor:
    """Return features whose dot products are the logits of the attention."""
    exact = features.to(torch.promote_types(features.dtype, torch.float32))
    if form == "official":
        return exact
    centred = exact - exact.mean((2, 3), keepdim=True)
    return functional.normalize(centred, dim=1) / REPAIRED_TEMPERATURE**0.5


def _window_logits(prepared: torch.Tensor, form: Form) -> torch.Tensor:
    """Return the logits of the keys around each place, (N, 49, h, w)."""
    height, width = prepared.shape[-2:]
    padded = functional.pad(prepared, [WINDOW // 2] * 4)
    inside = functional.pad(torch.ones_like(prepared[:1, :1]), [WINDOW // 2] * 4)
    logits = []
    for number in range(WINDOW**2):
        top, left = divmod(number, WINDOW)
        cut = (..., slice(top, top + height), slice(left, left + width))
        logit = (prepared * padded[cut]).sum(1)
        if form == "repaired":
            logit = logit.masked_fill(inside[cut][:, 0] == 0, -math.inf)
        logits.append(logit)
    return torch.stack(logits, dim=1)


def _window_keys(ids: torch.Tensor, *, width: int) -> torch.Tensor:
    """Return the ids of the windows' cells in the map with its margin, (N, P, 49)."""
    wider = width + 2 * (WINDOW // 2)
    top_left = ids // width * wider + ids % width
    steps = torch.arange(WINDOW, device=ids.device)
    return top_left[..., None] + (steps[:, None] * wider + steps).flatten()


def _entropy(logits: torch.Tensor, *, axis: int) -> torch.Tensor:
    """Return the entropy of the softmax over an axis; logits of -inf count nothing."""
    logs = torch.log_softmax(logits, dim=axis)
    shares = logs.exp()
    return -(shares * logs.masked_fill(shares == 0, 0.0)).sum(axis)


def _spread(
    entropy: torch.Tensor, count: int, *, width: int, limit: int, generator: torch.Generator
) -> torch.Tensor:
    """Return the ids of least entropy with at most `limit` of a row, ties in random order."""
    shuffled = torch.randperm(len(entropy), generator=generator)
    order = shuffled[entropy[shuffled].argsort(stable=True)]
    rows = functional.one_hot(order // width)
    # How many of its row stand before a place in the order.
    earlier = (rows.cumsum(0) * rows).sum(1) - 1
    return order[earlier < limit][:count]
