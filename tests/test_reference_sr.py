"""`semsr reference-sr`: pictures of a benchmark by a network with references, and their record."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from models import REFERENCE_NETWORKS, ReferenceNetwork, build_network, save_network
from models.registry import ReferenceNetworkSpec
from models.rep_sr import RepSR
from semsr.cli import main
from training.comparison.facts import facts_of
from training.comparison.systems import parse_system
from training.data.picture_folder import RECORD
from training.evaluation.compared.methods import pictures_method
from training.evaluation.folders.benchmark import load_benchmark

LR_PX = 12
SCENES = ("dense_lines", "holes")


class Paste(ReferenceNetwork):
    """A network that answers with its reference."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = 4
        self.hyper_parameters = {}
        self.gain = torch.nn.Parameter(torch.ones(1))

    def forward(self, lr: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
        """Return the reference, cut to the tile."""
        side = 4 * lr.shape[-1]
        return self.gain * reference[..., :side, :side].expand(len(lr), -1, -1, -1)


def picture(number: int, side: int) -> NDArray[np.uint8]:
    """Return noise of a number."""
    return np.random.default_rng(number).integers(0, 256, (side, side), dtype=np.uint8)


def save(path: Path, image: NDArray[np.uint8]) -> None:
    """Write a PNG and its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)


def read(path: Path) -> NDArray[np.uint8]:
    """Read a PNG."""
    with Image.open(path) as image:
        return np.asarray(image)


@pytest.fixture
def benchmark(tmp_path: Path) -> Path:
    """Write 2 tiles with defects, 4 clean ones and 6 references of two kinds of scenes."""
    root = tmp_path / "benchmark"
    sizes = {"test_defect": 2, "test_clean": 4, "reference_hr": 6}
    tiles: dict[str, Any] = {}
    for split, size in sizes.items():
        for number in range(size):
            name, code = f"{number:04d}", 10 * len(split) + number
            tiles[f"{split}/{name}"] = {"scene": SCENES[number % 2], "defects": []}
            if split == "reference_hr":
                # Larger than a tile's HR image, and not square to it.
                save(root / split / f"{name}.png", picture(code, 4 * LR_PX + 8))
            else:
                save(root / split / "lr" / f"{name}.png", picture(code, LR_PX))
                save(root / "truth" / split / "hr" / f"{name}.png", picture(code + 5, 4 * LR_PX))
    index = {"format_version": 1, "modes": {}, "tiles": tiles}
    (root / "truth" / "index.json").write_text(json.dumps(index))
    header = {
        "format_version": 1,
        "kind": "semsr-benchmark",
        "seed": 7,
        "scale": 4,
        "tile_px": LR_PX,
        "lr_pixel_nm": 4.0,
        "splits": sizes,
    }
    (root / "benchmark.json").write_text(json.dumps(header))
    return root


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """Write a tiny MASA with random weights."""
    torch.manual_seed(0)
    small = {"channels": 2, "encoder_blocks": 0, "decoder_blocks": 0, "blocks": [0, 0, 0]}
    path = tmp_path / "masa.safetensors"
    save_network(path, build_network("masa", small), training={})
    return path


@pytest.fixture
def paste(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write a checkpoint of the network that shows which reference it got."""
    spec = ReferenceNetworkSpec(build=Paste, summary="for this test")
    monkeypatch.setitem(REFERENCE_NETWORKS, "paste", spec)
    path = tmp_path / "paste.safetensors"
    save_network(path, Paste(), training={})
    return path


def run(benchmark: Path, checkpoint: Path, out: Path, *more: str, reference: str = "own") -> int:
    """Run the command."""
    given = ["--data", str(benchmark), "--checkpoint", str(checkpoint), "--out", str(out)]
    return main(["reference-sr", *given, "--reference", reference, *more])


def names(out: Path) -> list[str]:
    """List the pictures of a folder."""
    return sorted(path.relative_to(out).as_posix() for path in out.rglob("*.png"))


ALL = [
    *(f"test_clean/000{n}.png" for n in range(4)),
    *(f"test_defect/000{n}.png" for n in range(2)),
]


def test_every_tile_gets_a_picture_that_the_evaluation_reads(
    benchmark: Path, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By MASA itself, end to end; the record says with what."""
    out = tmp_path / "out"

    assert 0 == run(benchmark, checkpoint, out)

    assert ALL == names(out)
    assert "6 pictures made, 0 there before\n" in capsys.readouterr().out
    method = pictures_method("masa", out)
    assert method.render is not None
    for split in ("test_defect", "test_clean"):
        for tile in load_benchmark(benchmark).tiles(split):
            assert (4 * LR_PX, 4 * LR_PX) == method.render(tile).shape
    record = json.loads((out / RECORD).read_text())
    assert ("own", None, 7, "cpu") == tuple(
        record["options"][key] for key in ("reference", "seed", "benchmark_seed", "device")
    )
    entry = record["pictures"]["test_defect/0001.png"]
    assert "truth/test_defect/hr/0001.png" == entry["reference"]


def test_facts_for_a_comparison_lie_next_to_the_pictures(
    benchmark: Path, checkpoint: Path, tmp_path: Path
) -> None:
    """A checkpoint that says nothing of its training is not taken for a whole one."""
    run(benchmark, checkpoint, tmp_path / "out", "--limit", "1", reference="kind")

    system = parse_system(f"masa={tmp_path / 'out'}", for_all=[], by_name=[])
    [facts] = facts_of([system], [], left_out={})

    assert "pictures" == facts.kind
    assert "masa with an HR image of the same kind of scene as reference" == facts.summary
    assert facts.is_short
    assert facts.offline.startswith("needs a reference image")


def test_own_reference_is_the_true_hr(benchmark: Path, paste: Path, tmp_path: Path) -> None:
    """The most generous case."""
    run(benchmark, paste, tmp_path / "out")

    for name in ALL:
        split, file = name.split("/")
        truth = read(benchmark / "truth" / split / "hr" / file)
        assert np.array_equal(truth, read(tmp_path / "out" / name))


@pytest.mark.parametrize("reference", ["kind", "random"])
def test_drawn_references_depend_on_the_seed_and_the_tile_alone(
    benchmark: Path, paste: Path, tmp_path: Path, reference: str
) -> None:
    """A kind is always the tile's own; the record names the file."""
    outs = [tmp_path / name for name in ("a", "again", "other")]
    for out, more in zip(outs, (["--limit", "1"], [], ["--seed", "5"]), strict=True):
        assert 0 == run(benchmark, paste, out, *more, reference=reference)
    assert 0 == run(benchmark, paste, outs[0], reference=reference)

    chosen = [
        {name: entry["reference"] for name, entry in record["pictures"].items()}
        for record in (json.loads((out / RECORD).read_text()) for out in outs)
    ]
    assert chosen[0] == chosen[1] != chosen[2]
    for key, name in chosen[0].items():
        expected = read(benchmark / name)[: 4 * LR_PX, : 4 * LR_PX]
        assert np.array_equal(expected, read(outs[0] / key))
        if reference == "kind":
            assert int(key[-5]) % 2 == int(name[-5]) % 2
    assert len(set(chosen[0].values())) > 2


def test_fixed_reference_is_one_image_for_all(benchmark: Path, paste: Path, tmp_path: Path) -> None:
    """As a style image is."""
    image = picture(99, 4 * LR_PX)
    save(tmp_path / "style.png", image)
    given = ["--reference-image", str(tmp_path / "style.png")]

    assert 0 == run(benchmark, paste, tmp_path / "out", *given, reference="fixed")

    assert all(np.array_equal(image, read(tmp_path / "out" / name)) for name in ALL)
    save(tmp_path / "style.png", image.T)
    assert 2 == run(benchmark, paste, tmp_path / "out", *given, reference="fixed")


def test_pictures_that_are_there_are_kept(
    benchmark: Path, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A stopped run goes on where it stopped, and ends as one that was not."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    run(benchmark, checkpoint, whole)
    run(benchmark, checkpoint, parts, "--limit", "1")
    assert ["test_clean/0000.png", "test_defect/0000.png"] == names(parts)
    mark = picture(1, 4 * LR_PX)
    save(parts / "test_clean" / "0000.png", mark)
    capsys.readouterr()

    assert 0 == run(benchmark, checkpoint, parts, "--json")

    [row] = json.loads(capsys.readouterr().out)
    assert (6, 4) == (row["pictures"], row["made"])
    assert row["seconds_a_tile"] > 0
    assert np.array_equal(mark, read(parts / "test_clean" / "0000.png"))
    for name in ALL[1:]:
        assert (whole / name).read_bytes() == (parts / name).read_bytes()
    assert 0 == run(benchmark, checkpoint, parts)
    assert "0 pictures made, 6 there before\n" in capsys.readouterr().out


def test_other_options_in_the_same_folder_are_refused(
    benchmark: Path, checkpoint: Path, paste: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """Each by its name and both values; nothing is written."""
    out = tmp_path / "out"
    run(benchmark, checkpoint, out, "--limit", "1", "--seed", "3", reference="kind")
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}

    for arguments, message in [
        ((checkpoint, "kind", "4"), "pictures of other options: seed 3, now 4"),
        ((checkpoint, "own", "3"), "reference 'kind', now 'own'"),
        ((paste, "kind", "3"), "checkpoint_sha256 "),
    ]:
        file, reference, seed = arguments
        assert 2 == run(benchmark, file, out, "--seed", seed, reference=reference)
        assert message in capsys.readouterr().err
    assert before == {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}

    assert 0 == run(benchmark, paste, out, "--limit", "2", "--overwrite")
    assert [name for name in ALL if name[-5] in "01"] == names(out)
    assert "own" == json.loads((out / RECORD).read_text())["options"]["reference"]


def test_another_tile_or_reference_of_the_same_name_is_refused(
    benchmark: Path, paste: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A benchmark that was simulated again makes other pictures."""
    out = tmp_path / "out"
    run(benchmark, paste, out)

    save(benchmark / "truth" / "test_clean" / "hr" / "0003.png", picture(1, 4 * LR_PX))

    assert 1 == run(benchmark, paste, out)
    assert "0003.png was made from another source" in capsys.readouterr().err


def test_a_generator_or_another_scale_is_refused(
    benchmark: Path, paste: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before a folder is made."""
    save_network(tmp_path / "rep.safetensors", RepSR(channels=2, num_blocks=1), training={})

    assert 1 == run(benchmark, tmp_path / "rep.safetensors", tmp_path / "out")
    assert "holds 'rep_sr', which takes LR tiles alone; expected" in capsys.readouterr().err
    header = json.loads((benchmark / "benchmark.json").read_text())
    (benchmark / "benchmark.json").write_text(json.dumps({**header, "scale": 2}))
    assert 1 == run(benchmark, paste, tmp_path / "out")
    assert "a network of scale 4; expected the benchmark's, 2" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("more", "reference", "message"),
    [
        (["--reference-image", "FILE"], "own", "give both"),
        ([], "fixed", "--reference fixed and --reference-image FILE need each other"),
        (["--reference-image", "none.png"], "fixed", "--reference-image: none.png does not exist"),
        (["--limit", "0"], "own", "--limit is 0, expected at least 1"),
        (["--seed", "-1"], "kind", "--seed is -1, expected at least 0"),
        (["--split", "thousand"], "own", "has no split 'thousand_defect'"),
    ],
)
def test_wrong_arguments_are_named(
    benchmark: Path,
    checkpoint: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    more: list[str],
    reference: str,
    message: str,
) -> None:
    """With the code of wrong use, before a network is loaded."""
    assert 2 == run(benchmark, checkpoint, tmp_path / "out", *more, reference=reference)
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_kind_without_references_is_named(
    benchmark: Path, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The tile that needs it too."""
    path = benchmark / "truth" / "index.json"
    index = json.loads(path.read_text())
    index["tiles"]["test_clean/0002"]["scene"] = "vias"
    path.write_text(json.dumps(index))

    assert 2 == run(benchmark, checkpoint, tmp_path / "out", reference="kind")

    error = capsys.readouterr().err
    assert "no image of the scene 'vias' in reference_hr, for test_clean/0002" in error


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_named(
    benchmark: Path, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command does not fall back to the CPU silently."""
    assert 2 == run(benchmark, checkpoint, tmp_path / "out", "--device", "cuda")
    assert "PyTorch finds no GPU" in capsys.readouterr().err
