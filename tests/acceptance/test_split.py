"""The split of `semsr accept`: by source, the same every time, and never within one capture."""

from pathlib import Path

import pytest

from semsr.acceptance.checking import check
from semsr.acceptance.findings import ImagesRefusedError
from semsr.acceptance.layout import Layout, Settings, read_json
from semsr.acceptance.splitting import SourcesError, draw_held_out, split, split_findings
from tests.own_folders import save, slow, write_folders
from training.config.recipe import find_recipe

TINY_BUNDLE = Path(__file__).parents[1] / "data" / "tiny_bundle"


def prepared(tmp_path: Path, **changes: object) -> tuple[Settings, Layout]:
    """Write two folders and check them."""
    lr, hr = (
        write_folders(tmp_path)
        if not (tmp_path / "lr").exists()
        else (
            tmp_path / "lr",
            tmp_path / "hr",
        )
    )
    values: dict[str, object] = {
        "lr": lr,
        "hr": hr,
        "name": "own",
        "recipe": find_recipe("tiny"),
        "baseline": TINY_BUNDLE,
        "threads": 1,
    }
    settings, layout = Settings(**{**values, **changes}), Layout(tmp_path / "out")  # type: ignore[arg-type]
    check(settings, layout)
    return settings, layout


def test_a_fifth_is_held_out_and_written_apart(tmp_path: Path) -> None:
    """Two of eight images of each folder, as 8-bit copies; a leftover of a kill is removed."""
    settings, layout = prepared(tmp_path)
    stray = layout.data / "training" / "lr" / "stray.png"
    stray.parent.mkdir(parents=True)
    stray.write_bytes(b"")

    files = split(settings, layout)

    sides = read_json(layout.split)["sides"]
    assert not stray.exists()
    assert 1 + 16 == len(files)
    for side in ("lr", "hr"):
        parts = [set(sides[side][part]) for part in ("training", "held_out")]
        assert ([6, 2], set()) == ([len(part) for part in parts], parts[0] & parts[1])
        for part in ("training", "held_out"):
            assert sorted(sides[side][part]) == sorted(
                path.name for path in (layout.data / part / side).iterdir()
            )
    assert files == split(settings, layout)


def test_images_of_one_capture_stay_together(tmp_path: Path) -> None:
    """Overlapping crops are never on both sides, with any seed."""
    lr, hr = write_folders(tmp_path)
    whole = slow(side_px=384, seed=77)
    save(hr / "hr_00.png", whole[:256, :256])
    save(hr / "hr_01.png", whole[100:356, 90:346])
    for seed in range(3):
        settings, layout = prepared(tmp_path, seed=seed, lr=lr, hr=hr)
        split(settings, layout)
        held_out = set(read_json(layout.split)["sides"]["hr"]["held_out"])

        assert ("hr_00.png" in held_out) == ("hr_01.png" in held_out)


def test_sources_of_a_csv_are_held_out_whole(tmp_path: Path) -> None:
    """Each pair of files is one source."""
    table = tmp_path / "index.csv"
    lr, hr = write_folders(tmp_path)
    rows = [
        f"{path.name},{path.name[:2]}{int(path.stem[-2:]) // 2}"
        for folder in (lr, hr)
        for path in sorted(folder.iterdir())
    ]
    table.write_text("\n".join(["file,src", *rows]) + "\n")

    settings, layout = prepared(tmp_path, sources=table)
    split(settings, layout)

    for side in ("lr", "hr"):
        numbers = [int(n[3:5]) // 2 for n in read_json(layout.split)["sides"][side]["held_out"]]
        assert 2 == len(numbers)
        assert 1 == len(set(numbers))


@pytest.mark.parametrize(
    ("content", "message"),
    [("a,b\n1,2\n", "the columns file and src"), ("file,src\nnone.png,x\n", "names no file of")],
)
def test_a_table_that_does_not_fit_is_refused(tmp_path: Path, content: str, message: str) -> None:
    """The error names the file and what was expected."""
    table = tmp_path / "index.csv"
    table.write_text(content)
    settings, layout = prepared(tmp_path, sources=table)

    with pytest.raises(SourcesError, match=message):
        split(settings, layout)


def test_images_of_given_pairs_are_not_trained_on(tmp_path: Path) -> None:
    """They would be judged on later."""
    lr, hr = write_folders(tmp_path)
    pairs = tmp_path / "pairs"
    pairs.mkdir()
    (pairs / "x_lr.png").write_bytes((lr / "lr_02.png").read_bytes())
    (pairs / "x_hr.png").write_bytes((hr / "hr_05.png").read_bytes())
    settings, layout = prepared(tmp_path, pairs=(pairs, pairs))

    split(settings, layout)

    sides = read_json(layout.split)["sides"]
    assert ["lr_02.png"] == sides["lr"]["in_pairs"]
    assert "hr_05.png" not in sides["hr"]["training"] + sides["hr"]["held_out"]
    assert 2 == len(split_findings(layout))


def test_too_few_sources_are_refused() -> None:
    """Eight tiles of one picture cannot be parted."""
    sources = {f"{number}.png": "one" for number in range(8)}

    with pytest.raises(ImagesRefusedError, match="8 images of 1 sources"):
        draw_held_out(sources, share=0.2, seed=0)
