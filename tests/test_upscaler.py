"""`semsr.Upscaler`: the model as one Python object."""

import os
import pickle
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

import semsr
from bundle_format.bundle import BundleError, load_bundle
from engines.protocol import EngineError
from semsr import upscaler
from service.ground.errors import EngineFailed
from tests.fakes import FakeEngine

TINY_BUNDLE = Path(__file__).parent / "data" / "tiny_bundle"


def test_it_gives_the_golden_picture_for_the_golden_tile() -> None:
    """The engine of the settings runs the bundle, whose path is text, as users write it."""
    golden = load_bundle(TINY_BUNDLE).golden()

    with semsr.Upscaler(str(TINY_BUNDLE), engine="onnx") as upscale:
        sr = upscale(golden.lr[0, 0])

    assert np.uint8 == sr.dtype
    assert golden.sr.shape[2:] == sr.shape
    assert np.abs(sr.astype(int) - golden.sr[0, 0]).max() <= 1


def test_settings_name_bundle_and_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without arguments it is what the service would run."""
    monkeypatch.setenv("SEMSR_BUNDLE", str(TINY_BUNDLE))
    monkeypatch.setenv("SEMSR_ENGINE", "identity")
    tile = np.arange(24 * 24, dtype=np.uint8).reshape(24, 24)

    sr = semsr.Upscaler()(tile)

    assert tile.repeat(4, axis=0).repeat(4, axis=1).tolist() == sr.tolist()


@pytest.mark.parametrize("shape", [(1, 1), (7, 300), (130, 41)])
def test_any_size_is_tiled_and_merged(shape: tuple[int, int]) -> None:
    """Smaller and larger than the model's tile; views need not be contiguous."""
    tile = np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8).T

    with semsr.Upscaler(TINY_BUNDLE, engine="identity") as upscale:
        sr = upscale(tile)

    assert tile.repeat(4, axis=0).repeat(4, axis=1).tolist() == sr.tolist()


def test_answers_of_16_bits_are_in_the_greys_of_the_tile() -> None:
    """More than 256 of them, and within the window; 8-bit tiles fill the 16 bits."""
    rng = np.random.default_rng(5)
    tile = rng.integers(300, 3800, (30, 40), dtype=np.uint16)

    with semsr.Upscaler(TINY_BUNDLE, bits=16, window=(0, 4095)) as upscale:
        sr, from_8_bits = upscale(tile), upscale((tile >> 4).astype(np.uint8))
    with semsr.Upscaler(TINY_BUNDLE, engine="onnx", window=(0, 4095)) as upscale:
        coarse = upscale(tile)

    assert (np.uint16, (120, 160)) == (sr.dtype, sr.shape)
    assert len(np.unique(sr)) > 1000
    assert np.abs(sr / 4095 - coarse / 255).max() <= 0.55 / 255  # and 12 bits are rounded
    assert from_8_bits.max() > 4095


@pytest.mark.parametrize(
    ("options", "message"),
    [({"bits": 12}, "bits is 12; expected 8 or 16"), ({"engine": "torch"}, "only onnx answers")],
)
def test_wrong_bits_are_refused(options: dict, message: str) -> None:
    """Before anything is loaded."""
    with pytest.raises(ValueError, match=message):
        semsr.Upscaler(TINY_BUNDLE, **{"bits": 16, **options})


def test_8_bits_need_no_16_bit_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the service of the same environment answers in."""
    monkeypatch.setenv("SEMSR_ANSWER_BITS", "16")
    with semsr.Upscaler(TINY_BUNDLE, engine="identity") as upscale:
        assert np.uint8 == upscale(np.zeros((24, 24), np.uint8)).dtype


def test_16_bit_tiles_pass_the_window() -> None:
    """The caller's range, or the whole one; inverted where low values are bright."""
    tile = np.array([[0, 2048, 4095]], dtype=np.uint16)

    with semsr.Upscaler(TINY_BUNDLE, engine="identity", window=(0, 4095)) as upscale:
        assert [0, 128, 255] == upscale(tile)[0, ::4].tolist()
        assert [255, 127, 0] == upscale(tile, white_is_zero=True)[0, ::4].tolist()
    with semsr.Upscaler(TINY_BUNDLE, engine="identity") as upscale:
        assert [0, 8, 16] == upscale(tile)[0, ::4].tolist()


@pytest.mark.parametrize(
    ("tile", "words"),
    [
        (None, "tile is None; expected a two-dimensional array"),
        ([[1, 2]], "tile is a list; expected a two-dimensional array"),
        (np.zeros((2, 2, 3), np.uint8), r"shape \(2, 2, 3\) and type uint8; expected a two"),
        (np.zeros((0, 5), np.uint8), r"shape \(0, 5\) .*; expected a two-dimensional array"),
        (None, "cv2.imread"),
        (np.zeros((2, 2, 3), np.uint8), "convert colour to grey"),
        (np.zeros((9, 24, 24), np.uint8), r"`many` takes a stack \(N, H, W\)"),
        (np.zeros((2, 2)), "type float64; expected uint8 or uint16: scale the grey levels"),
        (np.zeros((2, 2), np.int16), "type int16; expected uint8 or uint16$"),
        (np.zeros((2, 2), bool), "type bool; expected uint8 or uint16$"),
        (np.ma.zeros((2, 2), np.uint8), r"a masked array .*; expected one without a mask"),
    ],
)
def test_a_tile_of_another_kind_is_refused(tile: object, words: str) -> None:
    """The message has what was given and what was expected."""
    with (
        semsr.Upscaler(TINY_BUNDLE, engine="identity") as upscale,
        pytest.raises(ValueError, match=words),
    ):
        upscale(tile)  # pyright: ignore[reportArgumentType]


def test_other_byte_orders_give_the_same_picture() -> None:
    """TIFF files of some tools are big-endian, and so are the arrays that are read from them."""
    tile = np.array([[0, 2048, 4095]], dtype=np.uint16)

    with semsr.Upscaler(TINY_BUNDLE, engine="identity", window=(0, 4095)) as upscale:
        assert upscale(tile).tolist() == upscale(tile.astype(">u2")).tolist()


def test_the_flags_come_with_the_picture() -> None:
    """By the names and with the values of the service's X-Quality."""
    golden = load_bundle(TINY_BUNDLE).golden()

    with semsr.Upscaler(TINY_BUNDLE, engine="onnx") as upscale:
        answer = upscale.with_quality(golden.lr[0, 0])
        sr = upscale(golden.lr[0, 0])

    assert sr.tolist() == answer.pixels.tolist()
    assert 0.0 == answer.quality["non-finite"]
    assert {"saturated", "consistency", "consistency-worst"} < answer.quality.keys()
    assert 0.0 <= answer.quality["consistency"] <= 1.0


def test_many_images_share_batches_and_keep_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """A generator of several sizes, and a stack; at most one batch is taken ahead."""
    engine = FakeEngine()
    monkeypatch.setattr(upscaler, "load_engine", lambda *_: engine)
    tiles = [np.full((24, width), width, np.uint8) for width in (24, 24, 7, 100, 24, 24)]
    taken: list[int] = []

    def source() -> Iterator[npt.NDArray[np.uint8]]:
        for index, tile in enumerate(tiles):
            taken.append(index)
            yield tile

    with semsr.Upscaler(TINY_BUNDLE) as upscale:
        limit = upscale.bundle.manifest.max_batch_size
        answers = upscale.many(source())
        first = next(answers)
        assert list(range(min(limit, 4))) == taken
        results = [first, *answers]
        stack = list(upscale.many(np.stack(tiles[:2])))

    assert [(96, 4 * tile.shape[1]) for tile in tiles] == [sr.pixels.shape for sr in results]
    assert all((sr.pixels == tile[0, 0]).all() for sr, tile in zip(results, tiles, strict=True))
    assert 2 == len(stack)
    assert (2, 24, 24) == engine.batches[-1]


def test_a_bad_image_among_many_is_named_after_the_others() -> None:
    """The answers to the preceding images are there; a colour image is not a stack."""
    tile = np.full((24, 24), 9, np.uint8)

    with semsr.Upscaler(TINY_BUNDLE, engine="identity") as upscale:
        done = []
        with pytest.raises(ValueError, match="tile 1 is None; expected a two-dimensional array"):
            done += upscale.many([tile, None, tile])  # pyright: ignore[reportArgumentType]
        answers = upscale.many([tile, None])  # pyright: ignore[reportArgumentType]
        assert (96, 96) == next(answers).pixels.shape
        for wrong in (np.zeros((24, 24, 3), np.uint8), tile):
            with pytest.raises(ValueError, match=r"expected \(N, H, W\), or an iterable"):
                upscale.many(wrong)
        assert [] == list(upscale.many([]))


def test_threads_take_turns_on_one_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second call waits until the first is finished, and so does close."""
    engine = FakeEngine()
    monkeypatch.setattr(upscaler, "load_engine", lambda *_: engine)
    engine.gate.clear()
    tile = np.zeros((24, 24), np.uint8)

    with semsr.Upscaler(TINY_BUNDLE) as upscale, ThreadPoolExecutor(3) as threads:
        first = threads.submit(upscale, tile)
        assert engine.started.acquire(timeout=10)
        threads.submit(upscale, tile)
        closing = threads.submit(upscale.close)
        assert not engine.started.acquire(timeout=0.2)
        assert not closing.done()
        engine.gate.set()
        engine.permits.release()
        closing.result(10)
        assert (96, 96) == first.result(10).shape
        with pytest.raises(RuntimeError, match="is closed"):
            upscale(tile)
    assert "closed" in repr(upscale)


def test_it_says_what_it_is() -> None:
    """Model, version, scale, tile, window, engine, precision."""
    with semsr.Upscaler(TINY_BUNDLE, engine="onnx", window=(0, 4095)) as upscale:
        version = upscale.bundle.version
        expected = f"x4, tiles of 24x24, window (0, 4095), onnx, {upscale.precision}>"

        assert f"{version}: {expected}" in repr(upscale)
        assert (4, "onnx") == (upscale.scale, upscale.engine)


def test_another_process_cannot_use_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither by pickle nor after a fork, where the threads of its runtime are missing."""
    with semsr.Upscaler(TINY_BUNDLE, engine="identity") as upscale:
        with pytest.raises(TypeError, match="create one in each process"):
            pickle.dumps(upscale)
        with monkeypatch.context() as patch:
            patch.setattr(os, "getpid", lambda: -1)
            with pytest.raises(RuntimeError, match=r"belongs to process .*: create one in each"):
                upscale(np.zeros((24, 24), np.uint8))


def test_an_answer_that_is_broken_is_withheld(monkeypatch: pytest.MonkeyPatch) -> None:
    """The graph's flags count, as in the service; the engine is released at the end."""
    engine = FakeEngine()
    broken = np.array([[0.5, *[np.nan] * 5]], dtype=np.float32)
    engine.spoil = lambda output: output._replace(flags=broken)
    closed: list[bool] = []
    monkeypatch.setattr(engine, "close", lambda: closed.append(True))
    monkeypatch.setattr(upscaler, "load_engine", lambda *_: engine)

    with semsr.Upscaler(TINY_BUNDLE) as upscale, pytest.raises(EngineFailed, match=r"50\.00%"):
        upscale(np.zeros((24, 24), np.uint8))

    assert [True] == closed


def test_what_cannot_be_loaded_is_named(tmp_path: Path) -> None:
    """Bundle, precision and window; and there is nothing else in the package."""
    with pytest.raises(BundleError):
        semsr.Upscaler(tmp_path)
    with pytest.raises(ValueError, match=r"window is \(9, 9\); expected \(lo, hi\)"):
        semsr.Upscaler(TINY_BUNDLE, window=(9, 9))
    with pytest.raises(EngineError):
        semsr.Upscaler(TINY_BUNDLE, engine="nonsense")
    with pytest.raises(AttributeError, match="no attribute 'Downscaler'"):
        _ = semsr.Downscaler
