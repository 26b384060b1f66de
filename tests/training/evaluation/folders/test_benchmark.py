"""The reader of benchmarks: what it reads, and what it refuses."""

import json
import shutil
from pathlib import Path

import pytest

from training.evaluation.folders.benchmark import BenchmarkError, load_benchmark


def test_a_benchmark_is_read_with_its_truth(benchmark_dir: Path) -> None:
    """Sizes, scenes, defects and pictures are those on disk."""
    benchmark = load_benchmark(benchmark_dir)
    defect, clean = benchmark.tiles("test_defect"), benchmark.tiles("test_clean")

    assert (7, 4, 64) == (benchmark.seed, benchmark.scale, benchmark.tile_px)
    assert (2, 4, 4) == (len(defect), len(clean), len(benchmark.hr_tiles("reference_hr")))
    assert ["particle", "scratch"] == [item.kind for item in defect[0].defects]
    assert (52, 52, 69, 69) == defect[0].defects[0].box_hr_px
    assert ((64, 64), (256, 256)) == (defect[0].lr().shape, defect[0].hr().shape)
    assert ["blank_film", "dense_lines"] == [tile.scene for tile in clean[:2]]
    assert [False, True] == [tile.noise_free_path is not None for tile in clean[:2]]
    assert all(tile.mask_path is None for tile in clean)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        (
            "benchmark.json",
            {"format_version": 2},
            "format version 2; this version of semsr reads 1",
        ),
        ("truth/index.json", {"format_version": None}, "format version None"),
        ("benchmark.json", {"kind": "holiday"}, "kind 'holiday', expected 'semsr-benchmark'"),
        ("benchmark.json", {"splits": None}, "lacks or misstates"),
    ],
)
def test_an_unknown_format_is_refused(
    benchmark_dir: Path, tmp_path: Path, name: str, change: dict[str, object], message: str
) -> None:
    """A benchmark of another version or kind is not guessed at."""
    copy = shutil.copytree(benchmark_dir, tmp_path / "copy")
    document = json.loads((copy / name).read_text())
    (copy / name).write_text(json.dumps(document | change))

    with pytest.raises(BenchmarkError, match=message):
        load_benchmark(copy)


def test_what_is_missing_is_named(benchmark_dir: Path, tmp_path: Path) -> None:
    """A folder without index, an unknown split and a lost picture are told apart."""
    with pytest.raises(BenchmarkError, match="is not a benchmark"):
        load_benchmark(tmp_path)
    benchmark = load_benchmark(benchmark_dir)
    with pytest.raises(BenchmarkError, match="no split 'thousand_clean'; it has train_hr"):
        benchmark.tiles("thousand_clean")
    copy = shutil.copytree(benchmark_dir, tmp_path / "copy")
    (copy / "test_clean" / "lr" / "0000.png").unlink()
    with pytest.raises(BenchmarkError, match=r"0000\.png is missing"):
        load_benchmark(copy).tiles("test_clean")[0].lr()


def test_the_fingerprint_follows_the_index(benchmark_dir: Path, tmp_path: Path) -> None:
    """Another seed is another benchmark."""
    copy = shutil.copytree(benchmark_dir, tmp_path / "copy")
    assert load_benchmark(benchmark_dir).fingerprint == load_benchmark(copy).fingerprint
    document = json.loads((copy / "benchmark.json").read_text())
    (copy / "benchmark.json").write_text(json.dumps(document | {"seed": 8}))

    assert load_benchmark(benchmark_dir).fingerprint != load_benchmark(copy).fingerprint


def test_pairs_keep_hr_next_to_lr(benchmark_dir: Path, tmp_path: Path) -> None:
    """Trainings may use the HR pictures of pairs: they are not in the folder of the truth."""
    copy = shutil.copytree(benchmark_dir, tmp_path / "copy")
    shutil.move(copy / "truth" / "test_clean" / "hr", copy / "test_clean" / "hr")

    tiles = load_benchmark(copy).pairs("test_clean")

    assert ["0000", "0001", "0002", "0003"] == [tile.name for tile in tiles]
    assert ((64, 64), (256, 256)) == (tiles[1].lr().shape, tiles[1].hr().shape)
    assert ("dense_lines", ()) == (tiles[1].scene, tiles[1].defects)
    with pytest.raises(BenchmarkError, match="no split 'x4_244'"):
        load_benchmark(copy).pairs("x4_244")
