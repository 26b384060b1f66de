"""Real tiles, here made by hand in the real folders' layout."""

from pathlib import Path

import numpy as np
import pytest

from tests.training.evaluation.scenes import film, grey, lines, save, shrunk
from training.evaluation.methods import builtin_methods, upscaler_method
from training.evaluation.real_folders import FOLDER, has_real_tiles, load_real_sets
from training.evaluation.real_tiles import measure_real


@pytest.fixture
def data_root(tmp_path: Path) -> Path:
    """Write one pair, one defect, and two tiles a side for the background."""
    root = tmp_path / FOLDER
    blob = film(blobs=[(128, 128, 80.0)])
    save(root / "test_real_pairs" / "pair0_hr.png", grey(lines(), noise=2.0))
    save(root / "test_real_pairs" / "pair0_lr.png", shrunk(lines(), seed=1))
    save(root / "test_defect_hr" / "def_00.png", grey(blob, noise=2.0))
    save(root / "test_defect_lr_synth" / "def_00.png", shrunk(blob, seed=2))
    save(root / "test_defect_lr_real_noref" / "raw_00.png", shrunk(blob, seed=3))
    for number in range(2):
        seed = 10 * number
        save(root / "train_hr" / f"hr_{number}.png", grey(lines(), noise=3.0, seed=seed))
        save(root / "train_lr" / f"lr_{number}.png", shrunk(lines(), seed=seed + 5))
    return tmp_path


def test_a_perfect_method_is_perfect_and_bicubic_is_not(data_root: Path) -> None:
    """An oracle gets correlations of 1 and the spectrum of HR; bicubic is too smooth."""
    sets = load_real_sets(data_root)
    answers = {pair.lr.tobytes(): pair.hr for pair in (*sets.pairs, *sets.defects)}
    answers |= {
        lr.tobytes(): hr for lr, hr in zip(sets.background_lr, sets.background_hr, strict=True)
    }

    def oracle(lr: np.ndarray) -> np.ndarray:
        known = answers.get(lr.tobytes())
        return (lr.repeat(4, 2).repeat(4, 3) if known is None else known[None, None]).copy()

    methods = [
        *builtin_methods(scale=4, with_truth=False),
        upscaler_method("oracle", oracle, scale=4),
    ]
    report = measure_real(sets, methods)

    rows = {(row.set, row.method): row for row in report.structure}
    assert {("real_pairs", "bicubic"), ("real_pairs", "oracle")} | {
        ("real_defects", "bicubic"),
        ("real_defects", "oracle"),
    } == set(rows)
    assert 1.0 == pytest.approx(rows["real_pairs", "oracle"].correlation, abs=1e-4)
    assert 1.0 == pytest.approx(rows["real_pairs", "oracle"].ssim)
    assert rows["real_defects", "bicubic"].correlation_worst < 0.99
    assert 20 < rows["real_pairs", "bicubic"].psnr_db < 40
    backgrounds = {row.method: row for row in report.background}
    assert 0.0 == pytest.approx(backgrounds["oracle"].spectrum_db, abs=1e-9)
    assert 1.0 == pytest.approx(backgrounds["oracle"].noise_ratio)
    assert backgrounds["bicubic"].spectrum_db > 8 > report.floors["spectrum_db"] > 0


def test_an_ill_fitting_pair_is_refused(data_root: Path) -> None:
    """A reference of another scale cannot judge."""
    save(data_root / FOLDER / "test_real_pairs" / "pair0_lr.png", np.zeros((60, 64), np.uint8))

    with pytest.raises(ValueError, match=r"LR picture of \(60, 64\), expected 4 times"):
        load_real_sets(data_root)


def test_absent_folders_give_empty_sets(tmp_path: Path) -> None:
    """What is not there is not measured."""
    assert not has_real_tiles(tmp_path)
    report = measure_real(load_real_sets(tmp_path), builtin_methods(scale=4, with_truth=False))

    assert ((), (), {}) == (report.structure, report.background, report.floors)
