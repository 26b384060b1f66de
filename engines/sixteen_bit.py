"""Answers of 16 bits next to an engine's own 8: the bundle's 16-bit graph in ONNX Runtime.

The graph is a second one, so that answers of 8 bits cost what they did. It always runs in FP32: a
reduced precision differs from FP32 by more than a step of 8 bits. ONNX Runtime belongs to every
installation and runs it next to any engine.
"""

# The runtime ships no complete type information.
# pyright: reportUnknownMemberType=false

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from bundle_format.bundle import FLAGS, TOLERANCE_16_BIT, TOLERANCES, Bundle, Precision, psnr_db
from bundle_format.golden import SAMPLE_PX, Golden
from engines.batches import gather
from engines.protocol import Engine, EngineError, EngineOptions, Tile

ENGINE = "onnx"
PRECISION: Precision = "fp32"
"""Engine and precision of answers of 16 bits, whichever engine answers in 8."""

LEVELS = 257
"""Steps of a 16-bit answer in a grey level: 65535 = 257 * 255."""

Tile16 = npt.NDArray[np.uint16]
"""One image (H, W) uint16, C-contiguous."""


class SixteenBitGraph:
    """A bundle's 16-bit graph; safe for threads.

    Raises:
        EngineError: ONNX Runtime refuses the graph or cannot use the device.
        bundle_format.bundle.BundleError: The bundle has no such graph.
    """

    def __init__(self, bundle: Bundle, options: EngineOptions) -> None:
        # Imported here: answers of 8 bits by another engine need no ONNX Runtime.
        from engines.onnx_sessions import make_session

        graph = bundle.graph_16_bit()
        self._session = make_session(graph, bundle, options, answer_type="tensor(uint16)")

    def run(self, lr: Sequence[Tile], sr: Sequence[Tile16]) -> npt.NDArray[np.float32]:
        """Super-resolve one batch into the caller's memory.

        Args:
            lr: N tiles (H, W) uint8 of one shape.
            sr: N arrays (scale*H, scale*W) uint16, to be filled; 65535 is white.

        Returns:
            Flags (N, K) float32, as `Engine.run`.
        """
        single = len(sr) == 1
        shape = (len(sr), 1, *sr[0].shape)
        answers = sr[0][None, None] if single else np.empty(shape, dtype=np.uint16)
        flags = np.empty((len(sr), len(FLAGS)), dtype=np.float32)
        binding = self._session.io_binding()
        binding.bind_cpu_input("lr", gather(lr))
        for name, array in (("sr", answers), ("flags", flags)):
            binding.bind_output(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)
        self._session.run_with_iobinding(binding)
        if not single:
            for answer, tile in zip(answers, sr, strict=True):
                np.copyto(tile, answer[0])
        return flags


class SixteenBitEngine:
    """An engine, and the 16-bit graph of the same bundle.

    Attributes:
        name: Name of the engine.
        precision: Execution precision of its answers of 8 bits.
        scale: Upscaling factor.
        slots: Maximum number of concurrent calls.
    """

    def __init__(self, engine: Engine, bundle: Bundle, options: EngineOptions) -> None:
        """Load the graph; raises as `SixteenBitGraph`.

        Args:
            engine: Loaded engine of the bundle.
            bundle: Bundle with a 16-bit graph.
            options: Threads and device.
        """
        self.name = engine.name
        self.precision: Precision = engine.precision
        self.scale = engine.scale
        self.slots = engine.slots
        self._engine = engine
        self._graph = SixteenBitGraph(bundle, options)

    def run(self, lr: Sequence[Tile], sr: Sequence[Tile]) -> npt.NDArray[np.float32]:
        """Answer in 8 bits; see `Engine.run`."""
        return self._engine.run(lr, sr)

    def run_16_bit(self, lr: Sequence[Tile], sr: Sequence[Tile16]) -> npt.NDArray[np.float32]:
        """Answer in 16 bits; see `SixteenBitGraph.run`."""
        return self._graph.run(lr, sr)

    def register(self, memory: npt.NDArray[np.uint8]) -> None:
        """Prepare memory; see `Engine.register`."""
        self._engine.register(memory)

    def close(self) -> None:
        """Release the engine; the graph is freed with the object."""
        self._engine.close()


def run_16_bit(engine: Engine, lr: Sequence[Tile], sr: Sequence[Tile16]) -> npt.NDArray[np.float32]:
    """Answer in 16 bits with an engine that was loaded for it.

    Raises:
        EngineError: The engine answers in 8 bits alone.
    """
    if not isinstance(engine, SixteenBitEngine):
        raise EngineError(f"engine {engine.name!r} was loaded for answers of 8 bits")
    return engine.run_16_bit(lr, sr)


def verify_golden_16_bit(engine: SixteenBitEngine, bundle: Bundle) -> float:
    """Compare the 16-bit answer for the golden tile with the reference.

    Returns:
        Largest difference of the compared 16-bit pixels, in grey levels.

    Raises:
        EngineError: The answer differs by more than a tolerance.
        bundle_format.bundle.BundleError: A file is damaged.
    """
    golden, fine = bundle.golden(), bundle.golden_16_bit()
    sr = np.empty(golden.sr.shape, dtype=np.uint16)
    engine.run_16_bit([tile[0] for tile in golden.lr], [tile[0] for tile in sr])
    if problem := golden_problem_16_bit(sr, golden, fine):
        raise EngineError(
            f"the 16-bit graph of {bundle.path} differs from its golden tile: {problem}"
        )
    return float(_fine_error(sr, fine).max())


def golden_problem_16_bit(sr: Tile16, golden: Golden, fine: Tile16) -> str | None:
    """Compare the 16-bit answer for the golden tile with the reference.

    Every pixel is compared with the 8-bit reference, every eighth of every eighth row with the
    16-bit one.

    Args:
        sr: (N, 1, scale*H, scale*W) uint16, the answer.
        golden: Golden tile of the bundle.
        fine: (1, 1, h, w) uint16, see `Bundle.golden_16_bit`.

    Returns:
        Description of the problem, or None.
    """
    if sr.shape != golden.sr.shape or sr.dtype != np.uint16:
        return f"it gave {sr.dtype} {sr.shape}; expected uint16 {golden.sr.shape}"
    whole = np.rint(sr / LEVELS).astype(np.uint8)
    coarse = np.abs(whole.astype(np.int16) - golden.sr)
    error = _fine_error(sr, fine)
    return TOLERANCES["fp32"].problem(
        max_error=float(coarse.max()),
        mean_error=float(coarse.mean()),
        psnr_db=psnr_db(whole, golden.sr),
    ) or TOLERANCE_16_BIT.problem(
        max_error=float(error.max()), mean_error=float(error.mean()), psnr_db=np.inf
    )


def _fine_error(sr: Tile16, fine: Tile16) -> npt.NDArray[np.float64]:
    """Differences in grey levels of the pixels that the bundle has in 16 bits."""
    return np.abs(sr[:, :, ::SAMPLE_PX, ::SAMPLE_PX].astype(np.int32) - fine) / LEVELS
