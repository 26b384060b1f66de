"""Real tiles, here made by hand in the real folders' layout."""

import io
from pathlib import Path

import numpy as np
import pytest

from tests.training.evaluation.scenes import film, grey, lines, save, shrunk
from training.evaluation.compared.methods import builtin_methods, upscaler_method
from training.evaluation.folders.real_folders import (
    find_real_folders,
    load_real_sets,
    pairs_by_name,
)
from training.evaluation.judging.real_targets import judge_real
from training.evaluation.report.tables import write_real
from training.evaluation.sets.real_tiles import measure_real


@pytest.fixture
def data_root(tmp_path: Path) -> Path:
    """Write one pair, one defect, and two tiles a side for the background."""
    root = tmp_path / "sem" / "tool"
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
    (root / "index.csv").write_text("folder,file\ntest_real_pairs,pair0_lr.png\n")
    return root


def test_a_perfect_method_is_perfect_and_bicubic_is_not(data_root: Path) -> None:
    """An oracle gets correlations of 1 and the spectrum of HR; bicubic is too smooth."""
    sets = load_real_sets(data_root)
    answers = {pair.lr.tobytes(): pair.hr for pair in (*sets.pairs, *sets.defects)}
    answers |= {
        lr.tobytes(): hr
        for lr, hr in zip(sets.background_lr.values(), sets.background_hr, strict=True)
    }

    def oracle(lr: np.ndarray) -> np.ndarray:
        known = answers.get(lr.tobytes())
        return (lr.repeat(4, 2).repeat(4, 3) if known is None else known[None, None]).copy()

    methods = [
        *builtin_methods(scale=4, with_truth=False),
        upscaler_method("oracle", oracle, scale=4),
    ]
    report = measure_real([sets], methods)

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
    assert 1.0 == pytest.approx(report.floors["edge_grain"], abs=0.1)
    assert report.floors["edge_grain"] == backgrounds["oracle"].edge_grain
    outlines = {(row.set, row.method): row for row in report.outlines}
    assert {"real_pairs", "real_defects", "without_reference", "background"} == {
        row.set for row in report.outlines
    }
    of_oracle = outlines["real_defects", "oracle"]
    assert (0, 0, 0) == (of_oracle.lost, of_oracle.invented, of_oracle.reference_lost)
    assert of_oracle.shown_px > 0
    assert outlines["background", "oracle"].reference_lost is None
    targets = {target.name: target.status for target in judge_real(methods, report)}
    assert 9 == len(targets)
    # Between bars of 16 px nothing is flat.
    assert "not applicable" == targets.pop("background: grain of flats")
    assert {"passed"} == set(targets.values())


def test_an_ill_fitting_pair_is_refused(data_root: Path) -> None:
    """A reference of another scale cannot judge."""
    save(data_root / "test_real_pairs" / "pair0_lr.png", np.zeros((60, 64), np.uint8))

    with pytest.raises(ValueError, match=r"LR picture of \(60, 64\), expected 4 times"):
        load_real_sets(data_root)


def test_an_answer_that_wipes_a_defect_loses_its_outline(data_root: Path) -> None:
    """The place is listed, in pixels of the LR tile, and the target is missed."""
    blank = grey(film(blobs=[]), noise=2.0)
    method = upscaler_method("blank", lambda lr: blank[None, None].copy(), scale=4)

    report = measure_real([load_real_sets(data_root)], [method])

    [row] = [row for row in report.outlines if row.set == "real_defects"]
    assert row.lost >= 1
    assert row.reference_lost is not None
    assert row.reference_lost >= 1
    assert row.lost_detectability == row.places[0].detectability > 11
    assert "def_00" == row.places[0].image
    assert 20 < row.places[0].x_px < 44
    assert 20 < row.places[0].y_px < 44
    assert () == row.invented_places
    file = io.StringIO()
    write_real(report, file=file)
    worst = next(line for line in file.getvalue().splitlines() if "outline lost at x" in line)
    assert worst.startswith("  blank: ")
    assert " 0% of it in the other picture" in worst
    status = {target.name: target.status for target in judge_real([method], report)}
    assert "missed" == status["real_defects: outlines of d' ≥ 11 lost"]


def test_folders_are_found_by_their_layout_or_their_index(data_root: Path) -> None:
    """A named root is searched two levels deep; unasked, only what an index names is taken."""
    root = data_root.parents[1]

    assert [data_root] == find_real_folders(root) == find_real_folders(data_root)
    assert [data_root] == find_real_folders(root, indexed=True)
    (data_root / "index.csv").write_text("folder,file\ntrain_lr,a.png\n")
    assert [] == find_real_folders(root, indexed=True)
    assert [data_root] == find_real_folders(root)
    assert [] == find_real_folders(data_root / "train_lr")


def test_two_folders_keep_their_names(data_root: Path) -> None:
    """What was held out stands apart from what was given."""
    folders = [load_real_sets(data_root, name=name) for name in ("given", "held out")]
    nearest = upscaler_method("n", lambda lr: lr.repeat(4, 2).repeat(4, 3), scale=4)

    report = measure_real(folders, [nearest])

    assert {"given: real_pairs", "held out: real_pairs", "given: real_defects"} <= {
        row.set for row in report.structure
    }
    assert {"given: background", "held out: background"} == {row.set for row in report.background}


def test_pairs_go_by_name(tmp_path: Path) -> None:
    """Ends and suffixes do not count; what has no partner or another size is named."""
    lr, hr = np.zeros((10, 12), np.uint8), np.zeros((40, 48), np.uint8)

    [pair] = pairs_by_name({"a_lr.png": lr, "a_hr.png": hr}, {"a_hr.png": hr}, scale=4)
    assert "a" == pair.name
    assert 2 == len(pairs_by_name({"a.png": lr, "b.tif": lr}, {"b.png": hr, "a.tif": hr}, scale=4))
    with pytest.raises(ValueError, match="of each name; without: b"):
        pairs_by_name({"a.png": lr, "b.png": lr}, {"a.png": hr}, scale=4)
    with pytest.raises(
        ValueError, match=r"pair a: HR is \(10, 12\) for an LR picture of \(10, 12\)"
    ):
        pairs_by_name({"a.png": lr}, {"a.png": lr}, scale=4)


def test_absent_folders_give_empty_sets(tmp_path: Path) -> None:
    """What is not there is not measured."""
    assert [] == find_real_folders(tmp_path)
    report = measure_real([load_real_sets(tmp_path)], builtin_methods(scale=4, with_truth=False))

    assert ((), (), (), {}) == (
        report.structure,
        report.background,
        report.outlines,
        report.floors,
    )
