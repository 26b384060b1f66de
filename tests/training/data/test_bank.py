"""A bank of planted HR images: made once, checked, drawn from, refused where it does not fit."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from models import load_generator
from training import trainer
from training.config.degradation import DegradationConfig
from training.config.recipe import ConfigError, Recipe, find_recipe, load_recipe
from training.data.augmentation.added_structure import Planted, StructureAdder
from training.data.bank import Bank, BankCrops, content_of, open_bank
from training.data.bank_format import HEADER, BankContent, BankError, bank_content
from training.data.crops import IS_FOREIGN, IS_PLANTED
from training.data.datasets import ToolImages, load_tools
from training.data.pair_samplers import CropSampler
from training.trainer import train

RECIPE = """
name = "tiny-bank"
[generator]
name = "grain_sr"
hyper_parameters = { channels = 8, num_blocks = 1, scale = 4 }
[data]
lr = ["lr"]
hr = ["hr"]
[method]
name = "f_lsesim"
self_similarity = { weight = 0.0 }
adversarial = { weight = 0.0 }
consistency = { weight = 0.0, worst_weight = 0.0 }
paired = { share = 1.0, planted = [1, 2], patch_share = 1.0, min_detectability = 0.0 }
[degradation]
[optimization]
steps = 4
batch_size = 2
crop_px = 16
threads = 1
bank_images = 3
[run]
log_every_steps = 1
checkpoint_every_steps = 2
picture_every_steps = 4
"""


@pytest.fixture
def recipe_path(tmp_path: Path) -> Path:
    """Write a recipe that plants."""
    path = tmp_path / "recipe.toml"
    path.write_text(RECIPE)
    return path


@pytest.fixture
def recipe(recipe_path: Path) -> Recipe:
    """Read it."""
    return load_recipe(recipe_path)


@pytest.fixture
def tools(recipe: Recipe, unpaired_root: Path) -> list[ToolImages]:
    """Load its images: four of 112 x 128 px."""
    return load_tools(recipe, data_root=unpaired_root)


def _open(folder: Path, recipe: Recipe, tools: list[ToolImages], *, workers: int = 1) -> Bank:
    degradation = DegradationConfig()
    return open_bank(
        folder,
        content_of(recipe, tools),
        images={tool.name: tool.hr for tool in tools},
        degradations={tool.name: degradation for tool in tools},
        workers=workers,
    )


def _files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("[!.]*")}


def test_a_bank_holds_planted_images_and_is_made_once(
    recipe: Recipe, tools: list[ToolImages], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where its flags are clear an image is its source; a second run reads what is there."""
    bank = _open(tmp_path / "bank", recipe, tools)

    made = _files(bank.folder)
    assert {HEADER, "000000.npy", "000001.npy", "000002.npy"} == set(made)
    bits = 0
    for number in range(3):
        pixels, flags = np.load(bank.folder / f"{number:06d}.npy")
        source = tools[0].hr[number].pixels
        assert source.shape == pixels.shape
        # A shadow reaches beyond its defect's body; two images agree by chance in some 2 %.
        assert np.mean(pixels[flags == 0] == source[flags == 0]) > 0.2
        assert not np.array_equal(pixels, source)
        bits |= int(np.bitwise_or.reduce(flags, axis=None))
    assert IS_PLANTED | IS_FOREIGN == bits
    monkeypatch.setattr("training.data.bank_maker.StructureAdder", None)
    assert bank.describe() == _open(bank.folder, recipe, tools).describe()
    assert made == _files(bank.folder)


def test_a_bank_whose_making_was_interrupted_is_finished_to_the_same_bytes(
    recipe: Recipe, tools: list[ToolImages], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An image is a function of the seed and its number; those that are there are kept."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    _open(whole, recipe, tools)

    add, numbers = StructureAdder.add, iter(range(10))

    def stopping_add(
        self: StructureAdder, image: np.ndarray, rng: np.random.Generator, *, crops: int
    ) -> Planted:
        if next(numbers) == 2:
            raise KeyboardInterrupt
        return add(self, image, rng, crops=crops)

    monkeypatch.setattr(StructureAdder, "add", stopping_add)
    with pytest.raises(KeyboardInterrupt):
        _open(parts, recipe, tools)
    assert json.loads((parts / HEADER).read_text())["images"] is None
    assert {HEADER, "000000.npy", "000001.npy"} == set(_files(parts))
    monkeypatch.setattr(StructureAdder, "add", add)

    _open(parts, recipe, tools)

    assert _files(whole) == _files(parts)


def test_crops_of_a_bank_bring_their_masks_along(tmp_path: Path) -> None:
    """Pixels and flags are cut, turned and flipped alike, in all eight ways."""
    y, x = np.mgrid[:60, :60].astype(np.uint8)
    np.save(tmp_path / "a.npy", np.stack([x + y, IS_PLANTED * (x > y) + IS_FOREIGN * (x == 7)]))
    crops = BankCrops(tmp_path, ["a.npy"])

    drawn = [
        crops.crop(np.random.default_rng(seed), side_px=24, candidates=2) for seed in range(40)
    ]

    where = {(x + y, x > y, x == 7) for y, x in np.ndindex(60, 60)}
    orientations = set()
    for crop in drawn:
        assert (24, 24) == crop.pixels.shape == crop.mask.shape == crop.foreign.shape
        found = zip(
            crop.pixels.ravel().tolist(),
            crop.mask.ravel().tolist(),
            crop.foreign.ravel().tolist(),
            strict=True,
        )
        assert set(found) <= where
        signs = (
            np.sign(np.diff(crop.pixels.astype(int), axis=1)[0, 0]),
            np.sign(np.diff(crop.pixels.astype(int), axis=0)[0, 0]),
        )
        orientations.add((*signs, bool(crop.mask[0, -1]), bool(crop.mask[-1, 0])))
    assert len(orientations) >= 6


def test_noise_is_fresh_at_every_use_of_a_crop(
    recipe: Recipe, tools: list[ToolImages], tmp_path: Path
) -> None:
    """A crop that comes twice is degraded twice."""
    bank = _open(tmp_path / "bank", recipe, tools)
    whole = CropSampler(
        tools[0].hr,
        degradation=DegradationConfig(),
        scale=4,
        crop_px=16,
        batch_size=400,
        seed=0,
        source=bank.crops(""),
    ).batch(0)

    seen: dict[bytes, torch.Tensor] = {}
    repeated = 0
    for hr, lr in zip(whole.hr, whole.lr, strict=True):
        key = hr.numpy().tobytes()
        repeated += key in seen
        assert not torch.equal(lr, seen.get(key, lr + 1))
        seen[key] = lr
    assert repeated > 0


def _older(folder: Path) -> None:
    header = json.loads((folder / HEADER).read_text())
    (folder / HEADER).write_text(json.dumps({**header, "format_version": 0}))


def _altered(folder: Path) -> None:
    header = json.loads((folder / HEADER).read_text())
    header["content"]["seed"] = 5
    (folder / HEADER).write_text(json.dumps(header))


def _flipped(folder: Path) -> None:
    content = bytearray((folder / "000001.npy").read_bytes())
    content[-1] ^= 4
    (folder / "000001.npy").write_bytes(content)


def _cut(folder: Path) -> None:
    content = (folder / "000001.npy").read_bytes()
    (folder / "000001.npy").write_bytes(content[:-10])


def _pickled(folder: Path) -> None:
    np.save(folder / "000001.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_older, r"format version 0; this version of semsr reads 1"),
        (_altered, r"bank\.json is damaged: its content does not have the digest"),
        (lambda folder: (folder / HEADER).write_text("{"), r"bank\.json is not JSON"),
        (lambda folder: (folder / "000001.npy").unlink(), r"000001\.npy is missing"),
        (_flipped, r"000001\.npy is damaged"),
        (_cut, r"000001\.npy is damaged"),
        (_pickled, r"000001\.npy is damaged"),
    ],
)
def test_a_damaged_bank_is_refused(
    bank_folder: Path,
    recipe: Recipe,
    tools: list[ToolImages],
    damage: Callable[[Path], object],
    message: str,
) -> None:
    """The file is named; nothing is trained on half an image, and nothing is unpickled."""
    damage(bank_folder)

    with pytest.raises(BankError, match=message):
        _open(bank_folder, recipe, tools)


@pytest.fixture
def bank_folder(recipe: Recipe, tools: list[ToolImages], tmp_path: Path) -> Path:
    """Make a bank."""
    return _open(tmp_path / "bank", recipe, tools).folder


def test_a_bank_of_another_recipe_is_refused(
    bank_folder: Path, recipe_path: Path, unpaired_root: Path
) -> None:
    """The entries that differ are named with both values; the images count by their pixels."""

    def content(*overrides: str) -> BankContent:
        changed = load_recipe(recipe_path, overrides=overrides)
        return content_of(changed, load_tools(changed, data_root=unpaired_root))

    def refusal(wanted: BankContent) -> str:
        with pytest.raises(BankError, match="does not fit the recipe: ") as caught:
            open_bank(bank_folder, wanted, images={}, degradations={})
        return str(caught.value)

    assert "images is 3, the recipe's 4" in refusal(content("optimization.bank_images=4"))
    assert "seed is 0, the recipe's 1" in refusal(content("optimization.bank_seed=1"))
    assert "added.patches is 1, the recipe's 2" in refusal(content("method.paired.patches=2"))
    assert "crop_side_px is 96, the recipe's 92" in refusal(content("optimization.crop_px=15"))
    gained = content("degradation.gain=[1.0,1.2]")
    assert "tools[0].degradation.gain[1] is 1.0, the recipe's 1.2" in refusal(gained)
    shutil.copy(unpaired_root / "hr" / "hr_0.png", unpaired_root / "hr" / "hr_1.png")
    assert "tools[0].sources_sha256 is " in refusal(content())


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["method.paired.share=0.0"], "trains on none"),
        (["method.patched_copies.num_copies=1"], "cannot be combined with method.patched_copies"),
    ],
)
def test_a_recipe_that_cannot_use_a_bank_says_why(
    recipe_path: Path, overrides: list[str], message: str
) -> None:
    """A bank that had no effect would be a riddle."""
    with pytest.raises(ConfigError, match=message):
        bank_content(load_recipe(recipe_path, overrides=overrides))


@pytest.mark.parametrize("name", ["supervised", "lir", "lir_style"])
def test_methods_without_pseudo_pairs_cannot_use_a_bank(name: str) -> None:
    """Their sections have no entry for planted structure."""
    with pytest.raises(ConfigError, match=f"trains on none \\(method {name.split('_')[0]}, "):
        bank_content(load_recipe(find_recipe(name)))


def test_a_folder_with_other_files_is_refused(
    recipe: Recipe, tools: list[ToolImages], tmp_path: Path
) -> None:
    """A mistyped folder is not filled with hundreds of files."""
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.png").touch()

    with pytest.raises(BankError, match=r"photos holds no bank\.json but other files \(cat\.png\)"):
        _open(tmp_path / "photos", recipe, tools)


@pytest.mark.slow
def test_worker_processes_make_the_same_bank(
    recipe_path: Path, unpaired_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two processes and this one give the same bytes."""
    monkeypatch.setattr("training.data.bank_maker.IMAGES_PER_WORKER", 2)
    recipe = load_recipe(recipe_path)
    tools = load_tools(recipe, data_root=unpaired_root)

    here, there = (
        _open(tmp_path / f"{workers}", recipe, tools, workers=workers) for workers in (1, 2)
    )

    assert _files(here.folder) == _files(there.folder)


def test_runs_draw_from_a_bank_and_resume_to_the_same_bits(
    recipe_path: Path, unpaired_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The resumed run remembers its bank; the checkpoint says which one it was."""
    whole, parts, folder = tmp_path / "whole", tmp_path / "parts", tmp_path / "bank"
    train(recipe_path, data_root=unpaired_root, run_dir=whole, bank=folder)
    save = trainer.Trainer.save

    def stopping(self: trainer.Trainer) -> None:
        save(self)
        raise InterruptedError

    monkeypatch.setattr(trainer.Trainer, "save", stopping)
    with pytest.raises(InterruptedError):
        train(recipe_path, data_root=unpaired_root, run_dir=parts, bank=folder)
    monkeypatch.setattr(trainer.Trainer, "save", save)

    train(recipe_path, data_root=unpaired_root, run_dir=parts, resume=True)

    ends = [load_generator(run / "checkpoint.safetensors") for run in (whole, parts)]
    for name, tensor in ends[0][0].state_dict().items():
        assert torch.equal(tensor, ends[1][0].state_dict()[name]), name
    assert ends[0][1] == ends[1][1]
    assert 3 == ends[0][1].training["bank"]["images"]
    assert str(folder) == json.loads((parts / "bank.json").read_text())["folder"]


def test_a_resumed_run_refuses_another_bank(
    recipe_path: Path, unpaired_root: Path, tmp_path: Path
) -> None:
    """A run without a bank cannot go on with one, nor one with a bank whose images differ."""
    run, folder = tmp_path / "run", tmp_path / "bank"
    short = ["optimization.steps=1"]
    train(recipe_path, data_root=unpaired_root, run_dir=run, overrides=short)
    with pytest.raises(ConfigError, match=r"was started without a bank, not with .*bank"):
        train(
            recipe_path,
            data_root=unpaired_root,
            run_dir=run,
            overrides=short,
            resume=True,
            bank=folder,
        )
    other = tmp_path / "other"
    train(recipe_path, data_root=unpaired_root, run_dir=other, overrides=short, bank=folder)
    facts = json.loads((other / "bank.json").read_text())
    (other / "bank.json").write_text(json.dumps({**facts, "sha256": "0"}))

    with pytest.raises(ConfigError, match=r"was started with a bank of sha256 0, but .* holds"):
        train(recipe_path, data_root=unpaired_root, run_dir=other, overrides=short, resume=True)
