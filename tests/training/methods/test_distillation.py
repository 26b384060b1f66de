"""Distillation: the student nears the mean of its teachers, most where they agree."""

from pathlib import Path
from typing import Any

import pytest
import torch

from models import build_generator, load_generator, save_network
from training.config.degradation import DegradationConfig
from training.config.recipe import ConfigError, find_recipe, load_recipe
from training.data.datasets import KnownTool, load_lr_images, load_training_images
from training.methods.build import build_method
from training.methods.distillation import Distillation
from training.methods.inputs import Inputs
from training.run.preflight import check_run

RECIPE = """
name = "tiny-student"
[generator]
name = "grain_unet"
hyper_parameters = { channels = [4, 6], blocks = [1, 1], scale = 4, pad = 2, smooth_grain = true }
[data]
lr = ["lr"]
hr = ["hr"]
[method]
name = "distillation"
paired = { share = 0.5, planted = [1, 1], patch_share = 0.0 }
[degradation]
gain = [1.4, 1.4]
[optimization]
steps = 40
batch_size = 4
crop_px = 16
learning_rate = 1e-2
threads = 1
"""

NETWORKS: dict[str, dict[str, Any]] = {
    "grain_sr": {"channels": 8, "num_blocks": 1, "scale": 4},
    "grain_unet": {"channels": [4, 8], "blocks": [1, 1], "pad": 2},
}


def save_teacher(path: Path, name: str, *, offset: float = 0.0, **changes: Any) -> Path:
    """Write an untrained network whose structure is brighter by an offset."""
    torch.manual_seed(7)
    network = build_generator(name, {**NETWORKS[name], **changes})
    tail = network.get_parameter("trunk.tail.bias" if name == "grain_sr" else "tail.bias")
    with torch.no_grad():
        tail[:16] += offset
    save_network(path, network, training={"name": f"teacher {offset}"})
    return path


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """Write a recipe that lacks its teachers."""
    path = tmp_path / "student.toml"
    path.write_text(RECIPE)
    return path


def distillation(recipe: Path, root: Path, *teachers: Path, **options: float) -> Distillation:
    """Build the method with these teachers."""
    names = ", ".join(f'"{path}"' for path in teachers)
    overrides = [f"method.teachers=[{names}]"]
    overrides += [f"method.{key}={value}" for key, value in options.items()]
    loaded = load_recipe(recipe, overrides=overrides)
    assert isinstance(loaded.degradation, DegradationConfig)
    tool = KnownTool(
        name="",
        hr=load_training_images(loaded.data, [loaded.data.hr], data_root=root)[0],
        lr=load_lr_images(loaded.data, data_root=root),
        degradation=loaded.degradation,
        share=1.0,
    )
    inputs = Inputs(
        recipe=loaded,
        tools=[tool],
        held_out=(),
        data_root=root,
        vgg16=None,
        device=torch.device("cpu"),
    )
    torch.manual_seed(0)
    method = build_method(inputs)
    assert isinstance(method, Distillation)
    return method


def test_the_student_comes_to_the_mean_of_its_teachers(
    recipe: Path, unpaired_root: Path, tmp_path: Path
) -> None:
    """Of another kind than they; the checkpoint tells what each of them was trained on."""
    teachers = [
        save_teacher(tmp_path / "sr.safetensors", "grain_sr", offset=0.12),
        save_teacher(tmp_path / "unet.safetensors", "grain_unet", offset=0.08),
    ]
    method = distillation(recipe, unpaired_root, *teachers)
    [phase] = method.phases
    history = []
    for step in range(15):
        method.prepare(step)
        terms = phase.terms()
        phase.optimizer.zero_grad()
        sum(terms.values(), torch.zeros(())).backward()
        phase.optimizer.step()
        history.append({name: float(term.detach()) for name, term in terms.items()})

    assert history[-1]["structure"] < 0.5 * history[0]["structure"]
    assert history[-1]["amplitude"] < 0.5 * history[0]["amplitude"]
    taught = [{"name": "teacher 0.12"}, {"name": "teacher 0.08"}]
    assert taught == method.describe()["teachers"]
    named = method.describe()["recipe"]["method"]["teachers"]
    assert [path.name for path in teachers] == named, "a path of this machine would ship"
    first, _ = load_generator(teachers[0])
    colour = first.get_parameter("head.colour.weight")
    assert torch.equal(colour, method.student.head.colour.weight)


def test_the_target_is_the_mean_and_pixels_weigh_by_agreement(
    recipe: Path, unpaired_root: Path, tmp_path: Path
) -> None:
    """Two teachers 0.04 apart deviate by 0.02 from their mean: such a pixel weighs half."""
    near = save_teacher(tmp_path / "a.safetensors", "grain_sr", offset=0.02)
    far = save_teacher(tmp_path / "b.safetensors", "grain_sr", offset=-0.02)
    centre = save_teacher(tmp_path / "c.safetensors", "grain_sr")

    method, alone = (
        distillation(recipe, unpaired_root, *teachers) for teachers in ([near, far], [centre])
    )
    for each in (method, alone):
        each.prepare(0)
    structure, _, weight = method._target()
    expected, _, equal = alone._target()

    torch.testing.assert_close(structure, expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(weight, torch.full_like(weight, 0.5), rtol=0, atol=1e-3)
    assert bool((equal == 1).all())


def test_amplitudes_are_compared_in_the_first_teachers_units(
    recipe: Path, unpaired_root: Path, tmp_path: Path
) -> None:
    """A teacher whose colour is twice as strong needs half the amplitude for the same grain."""
    paths = [
        save_teacher(tmp_path / f"{name}.safetensors", "grain_sr") for name in ("plain", "strong")
    ]
    network, _ = load_generator(paths[1])
    with torch.no_grad():
        network.get_parameter("head.colour.weight").mul_(2)
        network.get_buffer("head.noise_variance").div_(4)
    save_network(paths[1], network, training={})

    method, alone = (distillation(recipe, unpaired_root, *p) for p in (paths, paths[:1]))
    for each in (method, alone):
        each.prepare(0)

    torch.testing.assert_close(method._target()[1], alone._target()[1])


def test_grain_of_several_colours_is_the_first_teachers_alone(
    recipe: Path, unpaired_root: Path, tmp_path: Path
) -> None:
    """Two heads' colours do not correspond; the structure is the mean of all teachers."""
    mixed = save_teacher(
        tmp_path / "mixed.safetensors", "grain_unet", smooth_grain=True, grain_colours=2
    )
    plain = save_teacher(tmp_path / "plain.safetensors", "grain_sr", offset=0.1)
    recipe.write_text(
        RECIPE.replace("smooth_grain = true", "smooth_grain = true, grain_colours = 2")
    )

    method, alone = (
        distillation(recipe, unpaired_root, *teachers) for teachers in ([mixed, plain], [mixed])
    )
    for each in (method, alone):
        each.prepare(0)
    (structure, amplitude, _), (first, expected, _) = method._target(), alone._target()

    assert (4, 2, 64, 64) == tuple(amplitude.shape)
    assert torch.equal(expected, amplitude)
    assert 0.03 < float((structure - first).mean()) < 0.07
    with pytest.raises(ConfigError, match=r"grain has 2 colours, .* has 1"):
        distillation(recipe, unpaired_root, plain, mixed)


def test_the_truth_of_pseudo_pairs_may_teach_as_well(
    recipe: Path, unpaired_root: Path, tmp_path: Path
) -> None:
    """Off unless weighted; its terms see the pairs alone."""
    teacher = save_teacher(tmp_path / "a.safetensors", "grain_sr")
    method = distillation(recipe, unpaired_root, teacher, truth_weight=0.5)
    method.prepare(0)
    plain = distillation(recipe, unpaired_root, teacher)
    plain.prepare(0)

    terms = method._terms()

    assert {"structure", "amplitude"} == set(plain._terms())
    assert {"structure", "amplitude", "pixel", "smooth", "energy"} == set(terms)
    assert method._pairs is not None
    method._pairs.hr.add_(0.3)
    assert float(method._terms()["pixel"].detach()) > 1.5 * float(terms["pixel"].detach())
    assert torch.equal(terms["structure"], method._terms()["structure"])


@pytest.mark.parametrize(
    ("teacher", "message"),
    [
        (("rep_sr", {"channels": 4, "num_blocks": 1}), r"'rep_sr' at scale 4 in .*t\.safetensors"),
        (("grain_sr", {"channels": 4, "num_blocks": 1, "scale": 2}), "'grain_sr' at scale 2"),
    ],
)
def test_teachers_that_do_not_fit_are_named(
    recipe: Path,
    unpaired_root: Path,
    tmp_path: Path,
    teacher: tuple[str, dict[str, Any]],
    message: str,
) -> None:
    """Kind, scale and file."""
    path = tmp_path / "t.safetensors"
    save_network(path, build_generator(*teacher), training={})

    with pytest.raises(ConfigError, match=message):
        distillation(recipe, unpaired_root, path)


def test_a_missing_teacher_is_found_before_anything_is_read(
    unpaired_root: Path, tmp_path: Path
) -> None:
    """One teacher may be given as plain text; each that is not there is named."""
    recipe = find_recipe("fast")
    data = ['data.lr=["lr"]', 'data.hr=["hr"]']

    with pytest.raises(ConfigError, match=r"method\.teachers: none\.safetensors does not exist"):
        check_run(
            recipe,
            data_root=unpaired_root,
            run_dir=tmp_path / "run",
            overrides=[*data, "method.teachers=none.safetensors"],
        )
