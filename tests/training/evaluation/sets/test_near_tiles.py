"""Near sets: figures of pictures with known answers, the report, and the command."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from semsr.cli import main
from tests.training.evaluation.scenes import film, grey, lines, save
from training.evaluation.compared.methods import BICUBIC, TRUE_HR, Method, upscaler_method
from training.evaluation.folders.benchmark import BenchmarkError, Picture, load_benchmark
from training.evaluation.folders.near_sets import NEAR_SPLITS, near_sets
from training.evaluation.near_run import NearOptions, evaluate_near
from training.evaluation.report.report import document, rows, write_report
from training.evaluation.run import EvaluationError
from training.evaluation.sets.near_tiles import measure_near

TINY_BUNDLE = Path(__file__).parents[3] / "data" / "tiny_bundle"
SETS = ("x4_244", "cucmp_x4_validation")


def scene_of(number: int) -> np.ndarray:
    """Return lines or a film with blobs, without noise."""
    return lines(offset_px=5.0 * number) if number % 2 else film(blobs=[(80, 90, 90.0)])


@pytest.fixture(scope="module")
def near_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a benchmark of two near sets: three and two pairs of 64 and 256 px."""
    root = tmp_path_factory.mktemp("near")
    tiles: dict[str, Any] = {}
    for split, size in zip(SETS, (3, 2), strict=True):
        for number in range(size):
            name, seed = f"{number:04d}", 10 * number + len(split)
            scene = scene_of(number)
            coarse = ndimage.gaussian_filter(scene, 3.0).reshape(64, 4, 64, 4).mean(axis=(1, 3))
            save(root / split / "lr" / f"{name}.png", grey(coarse, noise=5.0, seed=seed))
            save(root / split / "hr" / f"{name}.png", grey(scene, noise=3.0, seed=seed + 1))
            tiles[f"{split}/{name}"] = {"scene": "dense_lines" if number % 2 else "blank_film"}
    (root / "truth").mkdir()
    (root / "truth" / "index.json").write_text(
        json.dumps({"format_version": 1, "modes": {}, "tiles": tiles})
    )
    header = {
        "format_version": 1,
        "kind": "semsr-benchmark",
        "seed": 5,
        "scale": 4,
        "tile_px": 240,
        "lr_pixel_nm": 4.0,
        "splits": dict(zip(SETS, (3, 2), strict=True)),
    }
    (root / "benchmark.json").write_text(json.dumps(header))
    return root


def enlarged(lr: Picture) -> Picture:
    """Enlarge by smoothing splines: better than bicubic on noisy tiles."""
    smooth = ndimage.gaussian_filter(lr.astype(float), 0.8)
    return grey(np.asarray(ndimage.zoom(smooth, 4, order=1)))


def method(name: str, *, invert: bool = False) -> Method:
    """Return a smoothing method, or one that answers in the other look."""

    def upscale(lr: np.ndarray) -> np.ndarray:
        sr = enlarged(lr[0, 0])
        return (255 - sr if invert else sr)[None, None]

    return upscaler_method(name, upscale, scale=4)


def test_figures_of_pictures_with_known_answers(near_dir: Path) -> None:
    """HR itself is perfect; smoothing beats bicubic; inverted pictures are all flips."""
    sets = near_sets(load_benchmark(near_dir), NEAR_SPLITS["near_x4"])
    truth = Method(name=TRUE_HR, role="truth", render=None)
    methods = [method("smooth"), method("other look", invert=True), truth]

    measured = measure_near("x4_244", sets["x4_244"], methods, jobs=2)

    perfect, smooth, other = (measured.figures[name] for name in (TRUE_HR, "smooth", "other look"))
    assert (float("inf"), float("inf"), 0.0, 0.0) == (
        perfect.psnr_db,
        perfect.psnr_fitted_db,
        perfect.gmsd,
        perfect.spectrum_db,
    )
    assert (1.0, 1.0, 1.0, 1.0) == pytest.approx(
        (perfect.ssim, perfect.ssim_fitted, perfect.noise_ratio, perfect.flat_ratio)
    )
    assert (0.0, 0.0, 0, 0, 0.0) == (
        perfect.gradient_distance,
        perfect.tone_grey,
        perfect.inverted,
        perfect.other_tone,
        perfect.flipped_share,
    )
    assert smooth.gmsd > 0.02
    assert smooth.spectrum_db > 3
    assert smooth.noise_ratio < 0.5
    assert smooth.psnr_fitted_db >= smooth.psnr_db
    assert 0 == smooth.flipped_share
    # A fit of gain and offset hides the inversion from PSNR; the style does not.
    assert other.psnr_fitted_db == pytest.approx(smooth.psnr_fitted_db, abs=0.01)
    assert other.psnr_db < 15
    # The lines and the film with its blob: every scene has a contrast but for a faint blob.
    assert (3, 1.0) == (other.other_tone, other.flipped_share)
    assert other.inverted >= 1
    assert ["0000", "0001", "0002"] == [flip.tile for flip in measured.flips]
    assert {"other look"} == {flip.method for flip in measured.flips}
    assert {"blank_film", "dense_lines"} == set(measured.reference)


def test_the_report_has_a_section_of_near_sets(near_dir: Path, tmp_path: Path) -> None:
    """JSON, HTML and pictures: LR | SR | HR, their gradients on one scale, spectra, flips."""
    options = NearOptions(out=tmp_path, benchmark=near_dir, split="near_x4", limit=2)

    report = evaluate_near([method("smooth"), method("other <b>", invert=True)], options)
    page = write_report(report, tmp_path).read_text(encoding="utf-8")

    values = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert document(report) == values
    near = values["near"]
    assert ("near_x4", 4, 5) == (near["split"], near["scale"], near["seed"])
    named = [(row["set"], row["method"], row["tiles"]) for row in near["figures"]]
    assert named == [
        (split, name, 2) for split in SETS for name in (BICUBIC, "smooth", "other <b>", TRUE_HR)
    ]
    assert near["figures"][3]["psnr_db"] is None
    assert 4 == len(near["flips"])
    files = {entry.file for entry in report.pictures}
    assert {
        "pictures/near_x4_244_spectra.png",
        "pictures/near_x4_244_0000.png",
        "pictures/near_x4_244_0000_gradients.png",
        "pictures/near_flip_x4_244_0000_2.png",
    } <= files
    assert all((tmp_path / file).is_file() and file in page for file in files)
    assert "Style flips: 4" in page
    assert "other &lt;b&gt;" in page
    assert any("at most 2 tiles" in note for note in values["notes"])
    by_set = {row["method"]: row for row in rows(report)}["smooth"]["near"]
    assert set(SETS) == set(by_set)


def test_a_method_of_another_scale_and_a_folder_without_near_sets_are_refused(
    near_dir: Path, benchmark_dir: Path, tmp_path: Path
) -> None:
    """The errors name the method, the scales and the splits."""
    half = upscaler_method("half", lambda lr: lr.repeat(2, 2).repeat(2, 3), scale=2)
    with pytest.raises(EvaluationError, match="half enlarges x2; near_x4 needs methods of x4"):
        evaluate_near([half], NearOptions(out=tmp_path, benchmark=near_dir, split="near_x4"))
    with pytest.raises(BenchmarkError, match="expected x2_232 or cucmp_x2_validation"):
        near_sets(load_benchmark(benchmark_dir), NEAR_SPLITS["near_x2"])


def test_a_bundle_is_judged_by_the_command(
    near_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """No detector is loaded, no target is judged, and finished pictures of a folder take part."""
    for name in ("SEMSR_DATA", "SEMSR_VGG16", "SEMSR_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    for split in SETS:
        save(tmp_path / "own" / split / "0000.png", enlarged(np.full((64, 64), 80, np.uint8)))
    arguments = ["evaluate", "--bundle", f"tiny={TINY_BUNDLE}", "--data", str(near_dir)]
    arguments += ["--split", "near_x4", "--images", f"own={tmp_path / 'own'}", "--limit", "1"]

    code = main([*arguments, "--report", str(tmp_path / "report"), "--jobs", "1"])

    out = capsys.readouterr().out
    document = json.loads((tmp_path / "report" / "report.json").read_text())
    assert 0 == code
    assert (None, []) == (document["detector"], document["targets"])
    assert {"tiny", "own", BICUBIC, TRUE_HR} == {
        row["method"] for row in document["near"]["figures"]
    }
    assert "style flips, share" in out
    assert "x4_244" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--split near_x4 needs --data DIR"),
        (["--lr", "."], "judges the benchmark's pairs alone; leave --lr out"),
        (["--data", "."], "is missing: its folder is not a benchmark"),
    ],
)
def test_what_near_sets_cannot_be_judged_with_is_a_usage_error(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    """Exit code 2, with what was expected."""
    monkeypatch.delenv("SEMSR_DATA", raising=False)
    monkeypatch.chdir(tmp_path)

    assert 2 == main(["evaluate", "--split", "near_x4", *arguments])
    assert message in capsys.readouterr().err
