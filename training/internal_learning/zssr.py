"""ZSSR: a small network learns from one tile how to enlarge that tile, and nothing else.

The tile is shrunk, and the network learns to restore it; then it enlarges the tile itself. There is
no training set and no checkpoint, but thousands of steps for each tile: a comparison, offline.

    tile ── random view ──> father ── shrink, noise ──> son ── enlarge ──> network ──> father?
    tile ── enlarge ──> network ── corrections by the tile, median over views ──> picture

Source: Shocher, Cohen and Irani, "Zero-Shot Super-Resolution using Deep Internal Learning", CVPR
2018; intervals and settings as in the published code. Written from the paper and its description.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from training.data.degradation.noise import NoiseModel
from training.internal_learning.fathers import View, cut, draw_view
from training.internal_learning.networks import TileAdam, TileNetworks
from training.internal_learning.noise import PEAK, estimate_tile_noise, lost_deviation
from training.internal_learning.options import MIN_SIDE_PX, Options
from training.internal_learning.rate import RateRule
from training.internal_learning.rendering import render
from training.internal_learning.resize import enlarge, shrink

REPORT_EVERY = 10

Report = Callable[[int, float], None]
"""Called after steps: steps of this stage, mean loss of the last one."""


class TileError(ValueError):
    """A tile is too small to learn from, or tiles of one call differ in size."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A finished picture and how it came about.

    Attributes:
        picture: (s*H, s*W) uint8.
        steps: Steps of each enlargement.
        last_rate: Learning rate at the end of the last one.
        noise_grey: Deviation of the tile's noise at its mean grey, in grey levels; 0 if not used.
    """

    picture: NDArray[np.uint8]
    steps: tuple[int, ...]
    last_rate: float
    noise_grey: float


@dataclass(kw_only=True)
class _Tile:
    """What belongs to one tile while it learns.

    Attributes:
        rng: Its random numbers, which depend on the seed and on its pixels alone.
        sources: Pictures that fathers are cut from, (H, W) each in 0..1; the last one is enlarged.
        noises: Noise of each of them.
        rule: Learning rate of the present stage.
        probe: Son of the last source, enlarged: input whose error the rule measures.
        steps: Steps of the finished stages.
    """

    rng: np.random.Generator
    sources: list[torch.Tensor]
    noises: list[NoiseModel]
    rule: RateRule
    probe: torch.Tensor = field(default_factory=lambda: torch.empty(0))
    steps: list[int] = field(default_factory=list)


def enlarge_tiles(
    tiles: Sequence[NDArray[np.uint8]],
    options: Options,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    report: Report = lambda step, loss: None,
) -> list[Answer]:
    """Learn from each tile and enlarge it; tiles of one call learn together, without an effect.

    Args:
        tiles: (H, W) uint8, equal sizes of at least 32 px.
        options: Options of the run.
        device: Device of the networks.
        dtype: Precision; float64 for tests.
        report: Receiver of the progress.

    Returns:
        One answer for each tile. It depends on tile and options alone: not on the other tiles, but
        for rounding, and not on names or order.

    Raises:
        TileError: The tiles are too small or of different sizes.
    """
    _check_sizes(tiles)
    device = torch.device(device)
    states = [_begin(tile, options, device=device, dtype=dtype) for tile in tiles]
    networks = TileNetworks.drawn(
        [state.rng for state in states],
        layers=options.layers,
        width=options.width,
        device=device,
        dtype=dtype,
        compute=torch.bfloat16 if options.precision == "bf16" else None,
    )
    for factor in options.factors:
        networks = _learn(states, networks, factor, options, report)
        for number, state in enumerate(states):
            state.steps.append(state.rule.step)
            picture = render(networks.of([number]), state.sources[-1], factor, options)
            state.sources.append(picture)
            state.noises.append(_noise_of(picture, options))
    return [_answer(state) for state in states]


def _begin(
    tile: NDArray[np.uint8], options: Options, *, device: torch.device, dtype: torch.dtype
) -> _Tile:
    digest = hashlib.sha256(f"{tile.shape}".encode() + tile.tobytes()).digest()
    source = torch.from_numpy(tile.astype(np.float64) / PEAK).to(device=device, dtype=dtype)
    return _Tile(
        rng=np.random.default_rng([options.seed, *np.frombuffer(digest, np.uint32).tolist()]),
        sources=[source],
        noises=[_noise_of(source, options)],
        rule=_rule(options),
    )


def _learn(
    states: Sequence[_Tile],
    networks: TileNetworks,
    factor: int,
    options: Options,
    report: Report,
) -> TileNetworks:
    """Train every tile's network for one enlargement; tiles that end early leave the group."""
    # A crop fits into the smallest father, the tile.
    crop_px = min(options.crop_px, *states[0].sources[0].shape) // factor * factor
    for state in states:
        state.rule = _rule(options)
        state.probe = _probe(state, factor, options)
    finished: dict[int, TileNetworks] = {}
    active = list(range(len(states)))
    adam = TileAdam(networks.weights)
    step = 0
    while active:
        group = [states[number] for number in active]
        loss = _step(group, networks, adam, factor, crop_px, options)
        step += 1
        if step % REPORT_EVERY == 0:
            report(step, float(loss))
        _measure(group, networks)
        if any(state.rule.is_over for state in group):
            kept = [place for place, state in enumerate(group) if not state.rule.is_over]
            for place, number in enumerate(active):
                if place not in kept:
                    finished[number] = networks.of([place])
            before, networks = networks, networks.of(kept)
            adam = adam.of(networks.weights, kept)
            del before
            active = [active[place] for place in kept]
    return TileNetworks.joined([finished[number] for number in range(len(states))])


def _step(
    group: Sequence[_Tile],
    networks: TileNetworks,
    adam: TileAdam,
    factor: int,
    crop_px: int,
    options: Options,
) -> torch.Tensor:
    """Train the networks of a group on one father each; returns the mean loss."""
    shapes = [(int(source.shape[0]), int(source.shape[1])) for source in group[0].sources]
    views = [draw_view(state.rng, shapes, crop_px=crop_px, options=options) for state in group]
    fathers = _cut_each(group, views, crop_px)
    sons = _with_noise(
        shrink(fathers, factor), group, [view.source for view in views], factor, options
    )
    results = networks(enlarge(sons, factor, (crop_px, crop_px)))
    # The sum over tiles of each tile's own mean: one tile's gradient knows no other tile.
    losses = (results - fathers).abs().mean(dim=(1, 2))
    gradients = torch.autograd.grad(losses.sum(), networks.weights)
    rates = torch.tensor([state.rule.rate for state in group], dtype=torch.float64)
    adam.step(gradients, rates.to(device=fathers.device, dtype=fathers.dtype))
    for state in group:
        state.rule.count()
    return losses.detach().mean()


def _cut_each(group: Sequence[_Tile], views: Sequence[View], crop_px: int) -> torch.Tensor:
    """Cut each tile's father; tiles whose fathers come from pictures of one size together."""
    first = group[0].sources[0]
    fathers = torch.empty((len(group), crop_px, crop_px), dtype=first.dtype, device=first.device)
    for source in sorted({view.source for view in views}):
        places = [place for place, view in enumerate(views) if view.source == source]
        pictures = torch.stack([group[place].sources[source] for place in places])
        chosen = [views[place] for place in places]
        fathers[places] = cut(pictures, chosen, crop_px=crop_px)
    return fathers


def _with_noise(
    sons: torch.Tensor,
    group: Sequence[_Tile],
    sources: Sequence[int],
    factor: int,
    options: Options,
) -> torch.Tensor:
    if options.noise == "none":
        return sons.clamp(0.0, 1.0)
    deviations = lost_deviation(
        sons,
        tiles=[state.noises[-1] for state in group],
        fathers=[state.noises[source] for state, source in zip(group, sources, strict=True)],
        factor=factor,
    )
    drawn = np.stack([state.rng.standard_normal(tuple(sons.shape[1:])) for state in group])
    noise = torch.from_numpy(drawn).to(device=sons.device, dtype=sons.dtype)
    return (sons + deviations * noise).clamp(0.0, 1.0)


def _probe(state: _Tile, factor: int, options: Options) -> torch.Tensor:
    """Make the input of the measured error, with one draw of noise that stays the same."""
    base = state.sources[-1]
    son = shrink(base[None], factor)
    son = _with_noise(son, [state], [len(state.sources) - 1], factor, options)
    return enlarge(son, factor, (base.shape[0], base.shape[1]))[0]


def _measure(group: Sequence[_Tile], networks: TileNetworks) -> None:
    """Measure the reconstruction error where it is due, and apply the rule."""
    if any(state.rule.needs_error() for state in group):
        # All tiles of a group count the same steps.
        restored = networks.in_blocks(torch.stack([state.probe for state in group]))
        truth = torch.stack([state.sources[-1] for state in group])
        errors = ((restored.clamp(0.0, 1.0) - truth) ** 2).mean(dim=(1, 2)).tolist()
        for state, error in zip(group, errors, strict=True):
            state.rule.note(error)
    for state in group:
        state.rule.check()


def _answer(state: _Tile) -> Answer:
    grey = torch.round(state.sources[-1] * PEAK).to(torch.uint8).cpu().numpy()
    mean = float(state.sources[0].mean()) * PEAK
    return Answer(
        picture=grey,
        steps=tuple(state.steps),
        last_rate=state.rule.rate,
        noise_grey=float(np.sqrt(state.noises[0].variance(np.array(mean)))),
    )


def _rule(options: Options) -> RateRule:
    return RateRule(steps=options.steps, start=options.start_rate, stop=options.stop)


def _noise_of(picture: torch.Tensor, options: Options) -> NoiseModel:
    if options.noise == "none":
        return NoiseModel(base=0.0, slope=0.0)
    return estimate_tile_noise(torch.round(picture * PEAK).to(torch.uint8).cpu().numpy())


def _check_sizes(tiles: Sequence[NDArray[np.uint8]]) -> None:
    sizes = sorted({tile.shape for tile in tiles})
    if len(sizes) != 1:
        raise TileError(f"tiles are of the sizes {sizes}, expected one size for all")
    if min(sizes[0]) < MIN_SIDE_PX:
        height, width = sizes[0]
        raise TileError(f"a tile is {width}x{height} px, expected at least {MIN_SIDE_PX} px a side")
