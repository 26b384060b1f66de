"""Compared methods: functions on tiles, built-in baselines, the true HR, finished pictures."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from training.evaluation.compared.cost import Upscaler
from training.evaluation.folders.benchmark import Benchmark, Picture, Tile, read_png
from training.evaluation.measures.background import match_histogram
from training.ground.baselines import bicubic

BICUBIC = "bicubic"
MATCHED = "bicubic + histogram match"
TRUE_HR = "true HR"

Role = Literal["candidate", "baseline", "built-in", "truth"]


class MethodError(ValueError):
    """A method has a duplicate name, cannot enlarge, or returns a wrong size or type."""


@dataclass(frozen=True, kw_only=True)
class Method:
    """One way to make an HR picture of an LR tile.

    Attributes:
        name: Name of its row in the report; unique.
        role: `candidate` is judged, the first of them by the targets; `baseline` must be beaten.
        render: Function from a tile to its (s*h, s*w) uint8 picture; None for the true HR itself.
        upscale: Function from any LR picture, (h, w), to (s*h, s*w) uint8, where the method can.
        flagged: Function like `upscale` that also returns the model's flags of its answer by name,
            such as `residual` over its limit.
        scale: s, where it is known.
        group: Group; methods of one group are seeds of one training.
        gmac: Multiply-adds a tile in 1e9, where they are known.
        ms: Milliseconds a tile at batch 1, where they were measured.
        version: Digest of all that its pictures depend on, for the cache; None is never cached.
    """

    name: str
    role: Role
    render: Callable[[Tile], Picture] | None
    upscale: Callable[[Picture], Picture] | None = None
    flagged: Callable[[Picture], tuple[Picture, Mapping[str, float]]] | None = None
    scale: int | None = None
    group: str | None = None
    gmac: float | None = None
    ms: float | None = None
    version: str | None = None

    def answer(self, lr: Picture) -> tuple[Picture, Mapping[str, float]]:
        """Enlarge an LR picture; return the SR picture and the model's flags, if it has any.

        Raises:
            MethodError: The method has finished pictures only.
        """
        if self.flagged is not None:
            return self.flagged(lr)
        if self.upscale is None:
            raise MethodError(f"{self.name} has finished pictures only and cannot enlarge others")
        return self.upscale(lr), {}


def upscaler_method(
    name: str,
    upscaler: Upscaler,
    *,
    scale: int,
    role: Role = "candidate",
    group: str | None = None,
    gmac: float | None = None,
    ms: float | None = None,
    version: str | None = None,
) -> Method:
    """Make a method of a function on batches, such as `Engine.run`.

    The method raises `MethodError` where the function answers with another shape or type than
    (1, 1, s*h, s*w) uint8.
    """

    def upscale(lr: Picture) -> Picture:
        sr = upscaler(np.ascontiguousarray(lr[None, None]))
        expected = (1, 1, *(scale * side for side in lr.shape))
        if sr.shape != expected or sr.dtype != np.uint8:
            raise MethodError(
                f"{name} answered {sr.shape} {sr.dtype} for {lr.shape}, expected {expected} uint8"
            )
        return sr[0, 0]

    return Method(
        name=name,
        role=role,
        render=lambda tile: upscale(tile.lr()),
        upscale=upscale,
        scale=scale,
        group=group,
        gmac=gmac,
        ms=ms,
        version=version,
    )


def pictures_method(name: str, folder: Path, *, role: Role = "candidate") -> Method:
    """Make a method of finished pictures, `<folder>/<split>/<number>.png` for each LR tile.

    Raises:
        MethodError: The folder does not exist.
    """
    if not folder.is_dir():
        raise MethodError(f"{name}: the folder {folder} of finished pictures does not exist")
    return Method(
        name=name,
        role=role,
        render=lambda tile: read_png(folder / tile.split / f"{tile.name}.png"),
    )


def builtin_methods(
    *,
    scale: int,
    table: Callable[[], NDArray[np.uint8]] | None = None,
    table_version: str | None = None,
    with_truth: bool = True,
) -> list[Method]:
    """Return the methods of every table: bicubic, bicubic with HR's grey levels, the true HR.

    Args:
        scale: s.
        table: Function that returns the (256,) grey table of the second one, called when needed.
            None leaves that method out.
        table_version: Digest of all that the table depends on, for the cache.
        with_truth: Add the true HR, where the pictures have one.
    """

    def enlarge(lr: Picture) -> Picture:
        return np.rint(bicubic(lr, scale=scale)).astype(np.uint8)

    methods = [_builtin(BICUBIC, enlarge, version="1")]
    if table is not None:
        kept: list[NDArray[np.uint8]] = []

        def enlarge_and_match(lr: Picture) -> Picture:
            if not kept:
                kept.append(table())
            return kept[0][enlarge(lr)]

        methods.append(_builtin(MATCHED, enlarge_and_match, version=table_version))
    if with_truth:
        methods.append(Method(name=TRUE_HR, role="truth", render=None, version="1"))
    return methods


def matching_table(
    lr_pictures: Sequence[Picture], hr_pictures: Sequence[Picture], *, scale: int
) -> NDArray[np.uint8]:
    """Make the grey table that maps the histogram of all bicubic pictures to that of HR.

    All tiles share one table, because a tile's own histogram would reveal its layout.

    Returns:
        (256,) uint8.
    """
    source, target = np.zeros(256), np.zeros(256)
    for lr in lr_pictures:
        enlarged = np.rint(bicubic(lr, scale=scale)).astype(np.uint8)
        source += np.bincount(enlarged.ravel(), minlength=256)
    for hr in hr_pictures:
        target += np.bincount(hr.ravel(), minlength=256)
    return match_histogram(source, target)


def benchmark_table(benchmark: Benchmark, splits: Sequence[str]) -> NDArray[np.uint8]:
    """Make the table of `matching_table` from the test tiles and `train_hr` of a benchmark."""
    return matching_table(
        [tile.lr() for split in splits for tile in benchmark.tiles(split)],
        [read_png(tile.path) for tile in benchmark.hr_tiles("train_hr")],
        scale=benchmark.scale,
    )


def check_names(methods: Sequence[Method]) -> None:
    """Reject methods with equal names.

    Raises:
        MethodError: Two methods have the same name.
    """
    names = [method.name for method in methods]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise MethodError(f"two methods are called {twice[0]!r}: give one another name (name=PATH)")


def _builtin(name: str, upscale: Callable[[Picture], Picture], *, version: str | None) -> Method:
    return Method(
        name=name,
        role="built-in",
        render=lambda tile: upscale(tile.lr()),
        upscale=upscale,
        version=version,
    )
