"""Folder of aligned pairs."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.training.recording import Recorder
from tests.training.registration_scenes import SCALE, shifted_pair, simulated
from training.config.pairs import PairsConfig
from training.config.recipe import DataConfig
from training.data.given_pairs import load_pairs
from training.data.images import SourceImage, read_grey
from training.ground.progress import shown_by
from training.registration.alignment import Alignment, align, write_alignment
from training.registration.matching import Match
from training.registration.target import AlignmentError, check_target


def source(name: str, pixels: np.ndarray) -> SourceImage:
    """Return a picture as `load_images` does."""
    return SourceImage(name=name, source=f"folder/{name}", pixels=pixels)


@pytest.fixture(scope="module")
def alignment() -> Alignment:
    """One pair that is shifted, one that is not a pair, one file without a partner."""
    lr, hr = shifted_pair(simulated("sram"), (-6.3, 9.4))
    other, _ = shifted_pair(simulated("granular"), (0, 0))
    return align(
        [
            Match(source("a_lr.png", lr), source("a_hr.png", hr)),
            Match(source("b_lr.png", other), source("b_hr.png", hr)),
            Match(None, source("c_hr.png", hr), "no LR file has the name 'c'"),
        ],
        scale=SCALE,
        max_shift_px=24,
    )


def test_every_file_is_in_a_pair_or_refused(alignment: Alignment) -> None:
    """With names and reasons."""
    assert ["a"] == [pair.name for pair in alignment.pairs]
    assert [("b_lr.png", "b_hr.png"), (None, "c_hr.png")] == [
        (item.lr_file, item.hr_file) for item in alignment.refused
    ]
    assert "correlation of the structure" in alignment.refused[0].reason
    assert "no LR file has the name 'c'" == alignment.refused[1].reason


def test_pair_with_a_problem_of_its_match_is_refused(alignment: Alignment) -> None:
    """With that reason alone if it registers, and after the registration's if it does not."""
    good = alignment.pairs[0]
    _, other = shifted_pair(simulated("granular"), (0, 0))
    found = align(
        [
            Match(good.lr, good.hr, "names are exchanged"),
            Match(good.lr, source("x.png", other), "names are exchanged"),
        ],
        scale=SCALE,
        max_shift_px=24,
    )
    assert () == found.pairs
    assert "names are exchanged" == found.refused[0].reason
    assert found.refused[1].reason.startswith("correlation of the structure is")
    assert found.refused[1].reason.endswith("; names are exchanged")


def test_written_hr_is_a_crop_of_the_given_one(alignment: Alignment, tmp_path: Path) -> None:
    """No pixel is interpolated, and the sides are exactly the scale times LR's."""
    header = write_alignment(alignment, tmp_path / "out")
    document = json.loads(header.read_text())
    [entry] = document["pairs"]
    lr = read_grey(tmp_path / "out" / entry["lr_file"])
    hr = read_grey(tmp_path / "out" / entry["hr_file"])
    pair = alignment.pairs[0]
    for pixels, given, box in (
        (lr, pair.lr.pixels, entry["lr_box_px"]),
        (hr, pair.hr.pixels, entry["hr_box_px"]),
    ):
        left, top, right, bottom = box
        assert np.array_equal(pixels, given[top:bottom, left:right])
    assert (SCALE * lr.shape[0], SCALE * lr.shape[1]) == hr.shape


def test_header_is_what_the_reader_expects(alignment: Alignment, tmp_path: Path) -> None:
    """Fractions are those that the crop leaves: -6.3 is -6 and -0.3, 9.4 is 9 and 0.4."""
    document = json.loads(write_alignment(alignment, tmp_path / "out").read_text())
    assert (1, "semsr-alignment", 4) == tuple(
        document[key] for key in ("format_version", "kind", "scale")
    )
    [entry] = document["pairs"]
    assert ("a", "lr/a.png", "hr/a.png", None) == tuple(
        entry[key] for key in ("name", "lr_file", "hr_file", "unknown_axis")
    )
    assert (entry["dy"], entry["dx"]) == pytest.approx((-0.3, 0.4), abs=0.1)
    assert 0 <= entry["residual_px"] < 1
    assert entry["correlation"] > 0.9
    assert {"lr_file", "hr_file", "reason"} == set(document["refused"][0])


def test_training_reads_the_folder(alignment: Alignment, tmp_path: Path) -> None:
    """`[data] pairs` finds the pair with its fraction."""
    write_alignment(alignment, tmp_path / "out")
    config = PairsConfig(input="out/lr", target="out/hr", alignment="out/alignment.json")
    [pair] = load_pairs([config], DataConfig(), data_root=tmp_path, scale=SCALE)
    found = alignment.pairs[0].registration
    assert "a" == pair.name
    assert (pair.dy, pair.dx) == pytest.approx(found.fraction, abs=1e-4)
    assert pair.residual_px == pytest.approx(found.residual_px, abs=1e-3)


def test_written_pair_is_aligned_to_its_fraction(alignment: Alignment, tmp_path: Path) -> None:
    """Registered again, the written files have the shift of `dy` and `dx`, whole part 0."""
    document = json.loads(write_alignment(alignment, tmp_path / "out").read_text())
    [entry] = document["pairs"]
    again = align(
        [
            Match(
                source("a.png", read_grey(tmp_path / "out" / "lr" / "a.png")),
                source("a.png", read_grey(tmp_path / "out" / "hr" / "a.png")),
            )
        ],
        scale=SCALE,
        max_shift_px=8,
    )
    assert again.pairs[0].registration.shift == pytest.approx((entry["dy"], entry["dx"]), abs=0.05)


def test_progress_counts_pairs(alignment: Alignment) -> None:
    """One step a match, refused or not."""
    recorder = Recorder()
    with shown_by(recorder):
        align([Match(None, alignment.pairs[0].hr, "alone")] * 3, scale=SCALE, max_shift_px=24)
    assert ["registering pairs: 3 of 3 pair"] == recorder.lines


def test_existing_alignment_is_replaced_only_on_request(
    alignment: Alignment, tmp_path: Path
) -> None:
    """Old pairs do not stay, nor do temporary folders."""
    out = tmp_path / "out"
    write_alignment(alignment, out)
    (out / "lr" / "old.png").write_bytes(b"")
    with pytest.raises(AlignmentError, match="already holds an alignment"):
        write_alignment(alignment, out)
    assert (out / "lr" / "old.png").exists()

    write_alignment(alignment, out, overwrite=True)
    assert ["a.png"] == [path.name for path in (out / "lr").iterdir()]
    assert ["out"] == [path.name for path in tmp_path.iterdir()]


def test_folder_of_other_files_is_never_replaced(tmp_path: Path) -> None:
    """Not with --overwrite either."""
    (tmp_path / "precious.txt").write_text("x")
    with pytest.raises(AlignmentError, match=r"holds no alignment\.json"):
        check_target(tmp_path, overwrite=True)


def test_failure_leaves_the_folder_as_it_was(
    alignment: Alignment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full when the header is written, after the pictures."""
    out = tmp_path / "out"
    write_alignment(alignment, out)
    before = sorted(path.relative_to(out) for path in out.rglob("*"))

    def fail(*_: object, **__: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("training.registration.alignment.json.dumps", fail)
    with pytest.raises(OSError, match="no space left"):
        write_alignment(alignment, out, overwrite=True)
    assert before == sorted(path.relative_to(out) for path in out.rglob("*"))
    assert ["out"] == [path.name for path in tmp_path.iterdir()]


def test_no_pair_is_an_error(alignment: Alignment, tmp_path: Path) -> None:
    """And nothing is written."""
    with pytest.raises(AlignmentError, match="no pair is left: 2 refused"):
        write_alignment(Alignment(4, (), alignment.refused), tmp_path / "out")
    assert not (tmp_path / "out").exists()
