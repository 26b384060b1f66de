"""What `semsr accept` finds in own images, and what it refuses."""

import os
from pathlib import Path

import numpy as np
import pytest

from semsr.acceptance.checking import check
from semsr.acceptance.duplicates import equal_images, groups, images_of_one_capture
from semsr.acceptance.findings import Finding, ImagesRefusedError
from semsr.acceptance.layout import Layout, Settings, read_json
from semsr.acceptance.own_images import OwnImage, read_own
from tests.own_folders import fast, save, slow, write_folders
from training.config.recipe import find_recipe

TINY_BUNDLE = Path(__file__).parents[1] / "data" / "tiny_bundle"


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Write two folders of eight images each."""
    return write_folders(tmp_path)


def settings_of(folders: tuple[Path, Path], **changes: object) -> Settings:
    """Return the options of a small acceptance."""
    values: dict[str, object] = {
        "lr": folders[0],
        "hr": folders[1],
        "name": "own",
        "recipe": find_recipe("tiny"),
        "baseline": TINY_BUNDLE,
        "threads": 1,
    }
    return Settings(**{**values, **changes})  # type: ignore[arg-type]


def found(settings: Settings, tmp_path: Path) -> list[Finding]:
    """Check the images, and return the findings."""
    return check(settings, Layout(tmp_path / "out"))


def refusal(settings: Settings, tmp_path: Path) -> str:
    """Check the images, and return the refusal."""
    with pytest.raises(ImagesRefusedError) as error:
        check(settings, Layout(tmp_path / "out"))
    return str(error.value)


def test_good_folders_are_only_said_to_be_few(folders: tuple[Path, Path], tmp_path: Path) -> None:
    """Nothing else is found in clean images, and the check is on record."""
    warnings = [f.text for f in found(settings_of(folders), tmp_path) if f.level == "warning"]

    assert ["LR has 8 usable images", "HR has 8 usable images"] == [
        text.partition(";")[0] for text in warnings if "usable" in text
    ]
    document = read_json(Layout(tmp_path / "out").check)
    assert (1, "semsr-acceptance-check") == (document["format_version"], document["kind"])
    assert 8 == len(document["images"]["lr"])
    assert {"lr": [], "hr": []} == document["one_capture"]


def test_unusable_files_are_all_named(folders: tuple[Path, Path], tmp_path: Path) -> None:
    """A cut-off PNG, a text and a name in Latin-1 are refused together, each with its reason."""
    lr, _ = folders
    (lr / "cut.png").write_bytes((lr / "lr_00.png").read_bytes()[:400])
    (lr / "text.png").write_text("no image")

    (lr / os.fsdecode(b"\xfc.png")).write_bytes((lr / "lr_00.png").read_bytes())

    text = refusal(settings_of(folders), tmp_path)

    assert "its name is not UTF-8" in text
    assert "cut.png (" in text
    assert "text.png (" in text
    assert "not usable images" in text


def test_too_few_and_too_small_images_are_refused(tmp_path: Path) -> None:
    """Both folders' faults are in one message."""
    folders = write_folders(tmp_path, count=3, lr_px=48, hr_px=256)

    text = refusal(settings_of(folders), tmp_path)

    assert "LR has images smaller than 64 px a side" in text
    assert "lr_00.png (48x48 px)" in text
    assert "HR has 3 usable images; expected at least 6" in text


def test_16_bit_without_a_window_is_refused_with_one_that_fits(
    folders: tuple[Path, Path], tmp_path: Path
) -> None:
    """12 bits in 16 would become 16 grey levels; with the window they are read."""
    for number in range(8):
        path = folders[0] / f"lr_{number:02d}.png"
        save(path, (fast(side_px=64, seed=number).astype(np.uint16) * 24))

    assert "--window 0,4095" in refusal(settings_of(folders), tmp_path)
    assert not any(
        "16-bit" in finding.text
        for finding in found(settings_of(folders, window=(0, 4095)), tmp_path)
    )


def test_mixed_depths_are_a_warning(folders: tuple[Path, Path], tmp_path: Path) -> None:
    """The files of 16 bit are named."""
    save(folders[0] / "lr_03.png", fast(side_px=64, seed=3).astype(np.uint16) * 400)

    [finding] = [f for f in found(settings_of(folders), tmp_path) if "16 bit" in f.text]

    assert ("warning", ("lr_03.png",)) == (finding.level, finding.files)


def test_swapped_folders_are_refused_unless_they_are_right(
    folders: tuple[Path, Path], tmp_path: Path
) -> None:
    """Less noise and more pixels in LR than in HR: the reason says both."""
    big = tmp_path / "big"
    big.mkdir()
    for number in range(8):
        save(big / f"{number}.png", fast(side_px=256, seed=number))
    swapped = (folders[1], big)
    small = tmp_path / "small"
    small.mkdir()
    for number in range(8):
        save(small / f"{number}.png", fast(side_px=64, seed=number))

    assert "look swapped" in refusal(settings_of((folders[1], small)), tmp_path)
    assert any("more noise" in f.text for f in found(settings_of(swapped), tmp_path))
    sure = settings_of((folders[1], big), is_order_sure=True)
    assert all(f.level != "refused" for f in found(sure, tmp_path))


def test_constant_clipped_and_equal_images_are_left_out(
    folders: tuple[Path, Path], tmp_path: Path
) -> None:
    """Each kind is a warning that names its files, and the rest goes on."""
    lr, _ = folders
    save(lr / "black.png", np.zeros((64, 64), np.uint8))
    save(lr / "burnt.png", np.where(fast(side_px=64, seed=0) > 40, 255, 10).astype(np.uint8))
    (lr / "twin.png").write_bytes((lr / "lr_01.png").read_bytes())

    findings = found(settings_of(folders), tmp_path)

    files = {f.files for f in findings if f.level == "warning"}
    assert ("black.png",) in files
    assert ("twin.png (as lr_01.png)",) in files
    assert any(f.files and f.files[0].startswith("burnt.png (") for f in findings)
    left_out = read_json(Layout(tmp_path / "out").check)["left_out"]["lr"]
    assert ["black.png", "burnt.png", "twin.png"] == left_out


def test_the_same_image_on_both_sides_is_refused(
    folders: tuple[Path, Path], tmp_path: Path
) -> None:
    """A fast scan cannot take the place of the slow one."""
    (folders[0] / "odd.png").write_bytes((folders[1] / "hr_00.png").read_bytes())

    assert "slow scan in the other: odd.png" in refusal(settings_of(folders), tmp_path)


def test_pairs_that_do_not_fit_are_refused_before_the_training(
    folders: tuple[Path, Path], tmp_path: Path
) -> None:
    """A picture without a partner, another size, and a damaged file."""
    pairs = tmp_path / "pairs"
    pairs.mkdir()
    settings = settings_of(folders, pairs=(pairs, pairs))
    save(pairs / "a_lr.png", fast(side_px=64, seed=0))

    assert "--pairs: pairs need an LR and an HR picture" in refusal(settings, tmp_path)
    save(pairs / "a_hr.png", slow(side_px=128, seed=0))
    assert "--pairs: pair a: HR is (128, 128)" in refusal(settings, tmp_path)
    (pairs / "a_hr.png").write_bytes(b"cut")
    assert "--pairs has files that are not usable images: a_hr.png (" in refusal(settings, tmp_path)


def test_a_detector_that_fails_is_refused_before_the_training(
    folders: tuple[Path, Path], tmp_path: Path
) -> None:
    """It is asked about one HR image."""
    path = tmp_path / "detector.onnx"
    path.write_bytes(b"not a graph")

    text = refusal(settings_of(folders, detector=path), tmp_path)

    assert "--detector: " in text
    assert "is not a usable ONNX file" in text


def test_blank_and_noisy_images_are_named(folders: tuple[Path, Path], tmp_path: Path) -> None:
    """A film without structure is a note; noise of another scan mode is a warning."""
    rng = np.random.default_rng(0)
    save(folders[0] / "film.png", np.clip(rng.normal(90, 5, (64, 64)), 0, 255).astype(np.uint8))
    noisy = fast(side_px=64, seed=1) + rng.normal(0, 14, (64, 64))
    save(folders[0] / "noisy.png", np.clip(noisy, 0, 255).astype(np.uint8))

    findings = found(settings_of(folders), tmp_path)

    [blank] = [f for f in findings if "without structure" in f.text]
    assert ("note", ("film.png",)) == (blank.level, blank.files)
    [odd] = [f for f in findings if "a noise far from" in f.text]
    assert odd.files[0].startswith("noisy.png (")


def image(name: str, pixels: np.ndarray) -> OwnImage:
    """Return an image of an HR folder."""
    return OwnImage(
        name=name, file=name, side="hr", bits=8, levels=(0, 255), pixels=pixels, noise=2.0
    )


def test_crops_of_one_capture_are_found_by_their_noise() -> None:
    """Overlapping crops are; the same design under other noise is not."""
    whole = slow(side_px=320, seed=4)
    images = [
        image("a", whole[:224, :224]),
        image("b", whole[60:284, 80:304]),
        image("other", slow(side_px=224, seed=5)),
        image("same design", slow(side_px=224, seed=4, noise=9)),
    ]

    pairs, is_whole = images_of_one_capture(images)

    assert ([("a", "b")], True) == (
        [(first.name, second.name) for first, second in pairs],
        is_whole,
    )
    assert [["a", "b"]] == [[i.name for i in of] for of in groups(pairs, images)]


def test_equal_images_name_the_first(tmp_path: Path) -> None:
    """Names differ, pixels do not."""
    pixels = slow(side_px=64, seed=1)
    images = [image("a", pixels), image("b", pixels.copy()), image("c", pixels[:32])]

    assert [("a", "b")] == [(first.name, second.name) for first, second in equal_images(images)]


def test_rows_below_a_data_bar_are_not_read(tmp_path: Path) -> None:
    """The window and the rows are those of the training."""
    picture = fast(side_px=96, seed=0)
    picture[80:] = 255
    save(tmp_path / "a.png", picture)

    [read], unusable = read_own(tmp_path, "lr", window=None, max_rows=80)

    assert ((80, 96), {}) == (read.pixels.shape, unusable)
