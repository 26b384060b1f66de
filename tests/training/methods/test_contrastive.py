"""The contrastive method: CUT and MoNCE learn, and a run resumes to the same bits."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from models import load_generator
from models.resnet9 import ResNet9
from training.config.contrastive import ContrastiveConfig
from training.config.recipe import ConfigError, Recipe, find_recipe, load_recipe
from training.data.datasets import KnownTool, load_lr_images, load_training_images
from training.losses.features import FeatureWeightsError
from training.losses.query_selection import Routing, select_queries
from training.methods.build import build_method
from training.methods.contrastive import Contrastive
from training.methods.inputs import Inputs
from training.methods.method import step_generator
from training.methods.parts import patch_contrast
from training.run.folder import RunDir
from training.run.preparation import check_machine
from training.trainer import Trainer, train

RECIPE = """
name = "tiny-contrastive"
[generator]
name = "resnet9"
hyper_parameters = { scale = 4, width = 2, num_blocks = 5, init = "xavier" }
[data]
lr = ["lr"]
hr = ["hr"]
[method]
name = "contrastive"
flips = "horizontal"
[method.contrast]
places = 16
head_width = 8
[method.adversarial]
learning_rate = 1e-3
pool_size = 2
discriminator = { width = 2, num_layers = 1 }
[optimization]
steps = 8
batch_size = 2
crop_px = 8
learning_rate = 1e-3
warm_up_steps = 0
betas = [0.5, 0.999]
gradient_clip = 0
ema_decay = 0.9
threads = 1
[run]
log_every_steps = 2
checkpoint_every_steps = 4
picture_every_steps = 8
"""
EASY = (
    "method.contrast.kind=monce_easy",
    "method.contrast.beta=0.2",
    "method.contrast.key_decay=0.5",
)
ON_THE_LR_GRID = (
    "generator.name=grain_sr",
    "generator.hyper_parameters={ channels = 4, num_blocks = 1, scale = 4 }",
    "method.contrast.features=vgg16",
    'method.contrast.vgg16_taps=["relu1_2", "relu2_2"]',
    "method.contrast.identity=false",
)


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """A recipe of CUT that trains in a second."""
    path = tmp_path / "recipe.toml"
    path.write_text(RECIPE)
    return path


def method_of(recipe: Path, root: Path, *overrides: str, vgg16: Path | None = None) -> Contrastive:
    """Build the method as the trainer does."""
    loaded = load_recipe(recipe, overrides=overrides)
    assert loaded.degradation != "estimate"
    [images] = load_training_images(loaded.data, [loaded.data.hr], data_root=root)
    tool = KnownTool(
        name="",
        hr=images,
        lr=load_lr_images(loaded.data, data_root=root),
        degradation=loaded.degradation,
        share=1.0,
    )
    torch.manual_seed(loaded.optimization.seed)
    method = build_method(
        Inputs(
            recipe=loaded,
            tools=[tool],
            held_out=(),
            data_root=root,
            vgg16=vgg16,
            device=torch.device("cpu"),
        )
    )
    assert isinstance(method, Contrastive)
    return method


def config_of(name: str) -> tuple[Recipe, ContrastiveConfig]:
    """Read a shipped recipe of this method."""
    recipe = load_recipe(find_recipe(name))
    assert isinstance(recipe.method, ContrastiveConfig)
    return recipe, recipe.method


def stats_of(run: Path) -> list[dict[str, Any]]:
    """Read a run's statistics without what depends on the clock."""
    records = [json.loads(line) for line in (run / "stats.jsonl").read_text().splitlines()]
    timed = {"elapsed_s", "data_share"}
    return [{k: v for k, v in record.items() if k not in timed} for record in records]


def interrupt_after(
    last_step: int, recipe: Path, *overrides: str, root: Path, run_dir: Path
) -> None:
    """Train, and lose power at a step after the last save."""
    method = method_of(recipe, root, *overrides)
    folder = RunDir(run_dir)
    folder.start(method.inputs.recipe, resume=False)
    prepare = method.prepare

    def failing(step: int) -> None:
        if step == last_step:
            raise InterruptedError
        prepare(step)

    method.prepare = failing
    with pytest.raises(InterruptedError):
        Trainer(method, recipe=method.inputs.recipe, run_dir=folder).run()


@pytest.mark.parametrize("overrides", [(), (*EASY, "method.contrast.queries=qs_global")])
def test_resumed_run_ends_bit_for_bit_like_an_uninterrupted_one(
    recipe: Path, unpaired_root: Path, tmp_path: Path, overrides: tuple[str, ...]
) -> None:
    """F-MLP, its optimiser, averaged keys, discriminator and pool of a killed run come back."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train(recipe, data_root=unpaired_root, run_dir=whole, overrides=overrides)
    interrupt_after(6, recipe, *overrides, root=unpaired_root, run_dir=parts)

    train(recipe, data_root=unpaired_root, run_dir=parts, overrides=overrides, resume=True)

    expected, info = load_generator(whole / "checkpoint.safetensors")
    actual, _ = load_generator(parts / "checkpoint.safetensors")
    assert "contrastive" == info.training["method"]
    for name, tensor in expected.state_dict().items():
        assert torch.equal(tensor, actual.state_dict()[name]), name
    assert stats_of(whole) == stats_of(parts)
    assert {"gan", "discriminator", "contrast", "identity"} <= set(stats_of(whole)[-1])


@pytest.mark.parametrize(
    "overrides",
    [
        (),
        ("method.contrast.kind=monce_hard",),
        EASY,
        ("method.contrast.queries=qs_local", "method.contrast.routed_taps=[4]"),
    ],
)
def test_the_contrast_alone_makes_the_output_keep_its_places(
    recipe: Path, unpaired_root: Path, overrides: tuple[str, ...]
) -> None:
    """An untrained network is at chance, about ln 16; steps on one batch bring it far below."""
    overrides = (
        *overrides,
        "method.adversarial.weight=0",
        "method.contrast.taps=[0, 4, 8]",
        "generator.hyper_parameters.width=4",
        "optimization.learning_rate=4e-3",
    )
    method = method_of(recipe, unpaired_root, *overrides)
    [phase] = method.phases
    losses = []
    for _ in range(25):
        method.prepare(0)
        terms = phase.terms()
        phase.optimizer.zero_grad()
        loss = torch.stack(list(terms.values())).sum()
        loss.backward()
        phase.optimizer.step()
        losses.append(float(loss.detach()) / method.config.contrast.weight)

    assert losses[0] > 2.0
    assert losses[-1] < 0.6 * losses[0]


def test_the_terms_are_half_of_the_losses_of_both_directions(
    recipe: Path, unpaired_root: Path
) -> None:
    """L = 0.5 (NCE(u, G(u)) + NCE(y, G*(y))), each computed again from images."""
    method = method_of(recipe, unpaired_root, "method.contrast.weight=3")
    method.prepare(2)
    terms = method.phases[-1].terms()
    contrast, generator = method.contrast, method.generator
    assert isinstance(generator, ResNet9)

    for name, purpose, source in (
        ("contrast", 5, generator.upsample(method.lr.batch(2))),
        ("identity", 6, method.hr.batch(2)),
    ):
        keys = {tap: maps.detach() for tap, maps in contrast._features(source).items()}
        draws = step_generator(0, 2, purpose)
        loss = contrast.loss(keys, generator.translate(source), draws=draws)
        assert pytest.approx(1.5 * float(loss.detach()), rel=1e-5) == float(terms[name].detach())


def test_the_generators_phase_trains_generator_and_head_and_not_the_discriminator(
    recipe: Path, unpaired_root: Path
) -> None:
    """One optimiser holds both; keys and the discriminator get no gradient."""
    method = method_of(recipe, unpaired_root, *EASY)
    method.prepare(1)
    sum(method.phases[-1].terms().values(), torch.zeros(())).backward()

    assert ["discriminator", "generator"] == [phase.name for phase in method.phases]
    held = {id(p) for group in method.phases[-1].optimizer.param_groups for p in group["params"]}
    learned = [*method.generator.parameters(), *method.contrast.head.parameters()]
    assert {id(p) for p in learned} == held
    assert all(p.grad is not None for p in learned)
    assert method.adversary is not None
    assert method.contrast.averaged is not None
    assert all(p.grad is None for p in method.adversary.discriminator.parameters())
    assert all(not p.requires_grad for p in method.contrast.averaged.parameters())
    assert {"discriminator", "contrast_head", "averaged_keys"} == set(method.modules())


def test_averaged_keys_follow_the_encoder_and_the_head(recipe: Path, unpaired_root: Path) -> None:
    """At decay 0.5 they move half of the way a step, after the first steps."""
    method = method_of(recipe, unpaired_root, *EASY)
    averaged = method.contrast.averaged
    assert averaged is not None
    weight = method.generator.get_parameter("layers.1.weight")
    followed = averaged.get_parameter("layers.1.weight")
    assert torch.equal(weight, followed)
    before = followed.clone()
    with torch.no_grad():
        weight.add_(1.0)

    method.prepare(20)

    assert torch.allclose(before + 0.5, followed)
    # Keys are made by them: the source's features differ from the current encoder's.
    current = method.contrast._features(method._source)
    assert not torch.allclose(current["4"], method._keys["4"])


def test_a_step_does_not_depend_on_what_was_drawn_before(recipe: Path, unpaired_root: Path) -> None:
    """Crops and places come from the seed and the step alone."""
    first, second = (method_of(recipe, unpaired_root) for _ in range(2))
    first.prepare(3)
    second.prepare(1)
    second.phases[-1].terms()
    second.prepare(3)

    for name, value in first.phases[-1].terms().items():
        assert torch.equal(value, second.phases[-1].terms()[name]), name


@pytest.mark.parametrize(
    "overrides",
    [EASY, ("method.contrast.queries=qs_global",), ("method.contrast.queries=qs_local",)],
)
def test_losses_stay_single_precision_in_mixed_precision(
    recipe: Path, unpaired_root: Path, overrides: tuple[str, ...]
) -> None:
    """Features may be in half precision; what is divided by 0.07 is not."""
    method = method_of(recipe, unpaired_root, *overrides, "method.contrast.taps=[0, 12, 16]")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        method.prepare(0)
        terms = method.phases[-1].terms()
    torch.stack(list(terms.values())).sum().backward()

    assert torch.bfloat16 == method._keys["12"].dtype
    for name in ("contrast", "identity"):
        assert torch.float32 == terms[name].dtype
        assert torch.isfinite(terms[name])
    assert all(
        torch.isfinite(p.grad).all() for p in method.generator.parameters() if p.grad is not None
    )


@pytest.mark.parametrize("queries", ["qs_global", "qs_local"])
@pytest.mark.parametrize("selection", ["official", "repaired"])
def test_chosen_places_are_routed_at_the_deep_taps_only(
    recipe: Path,
    unpaired_root: Path,
    monkeypatch: pytest.MonkeyPatch,
    queries: str,
    selection: str,
) -> None:
    """The choice is that of the source's features; taps 0, 4 and 8 stay at random places."""
    overrides = [f"method.contrast.queries={queries}", f"method.contrast.selection={selection}"]
    method = method_of(recipe, unpaired_root, *overrides)
    method.prepare(0)
    seen: list[tuple[torch.Tensor, str, str]] = []

    def chosen(features: torch.Tensor, count: int, **options: Any) -> Routing:
        seen.append((features, f"qs_{options['mode']}", options["form"]))
        return select_queries(features, count, **options)

    monkeypatch.setattr(patch_contrast, "select_queries", chosen)
    method.phases[-1].terms()

    assert method._same is not None
    wanted = [keys[tap] for keys in (method._keys, method._same[1]) for tap in ("12", "16")]
    assert all(features is key for (features, *_), key in zip(seen, wanted, strict=True))
    assert {(queries, selection)} == {(mode, form) for _, mode, form in seen}


def test_generators_on_the_lr_grid_compare_structure_by_vgg16(
    recipe: Path, unpaired_root: Path, vgg16_path: Path
) -> None:
    """No identity term, and wanted grain gets no gradient from the contrast."""
    method = method_of(recipe, unpaired_root, *ON_THE_LR_GRID, vgg16=vgg16_path)
    method.prepare(0)
    terms = method.phases[-1].terms()

    assert {"contrast", "gan"} == set(terms)
    tail = method.generator.get_parameter("trunk.tail.weight")
    (gradient,) = torch.autograd.grad(terms["contrast"], tail)
    assert float(gradient[:16].abs().max()) > 0
    assert 0 == float(gradient[16:].abs().max())


def test_self_similarity_joins_where_it_has_a_weight(
    recipe: Path, unpaired_root: Path, vgg16_path: Path
) -> None:
    """The thesis's sum of three."""
    overrides = ["method.self_similarity.weight=10", "method.self_similarity.form=paper"]
    method = method_of(recipe, unpaired_root, *overrides, vgg16=vgg16_path)
    method.prepare(0)

    assert {"contrast", "identity", "self_similarity", "gan"} == set(method.phases[-1].terms())


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ("generator.name=rep_sr", "generator.hyper_parameters={ channels = 4, scale = 4 }"),
            "RepSR has no encoder at the size of the output",
        ),
        (("method.contrast.taps=[0, 20]",), r"method.contrast.taps: taps are \[0, 20\]"),
        (("method.adversarial.reaches=grain",), "does not give structure and grain apart"),
        (("method.contrast.features=vgg16",), "identity is true, expected false"),
        (
            (
                "method.contrast.features=vgg16",
                "method.contrast.identity=false",
                "method.contrast.key_decay=0.9",
            ),
            "key_decay is 0.9, expected none",
        ),
        (
            (
                "method.contrast.features=vgg16",
                "method.contrast.identity=false",
                "method.contrast.queries=qs_global",
            ),
            "queries is 'qs_global', expected 'random'",
        ),
        (
            ("method.contrast.queries=qs_local", "method.contrast.routed_taps=[3]"),
            r"routed_taps are \[3\], expected some of the taps",
        ),
    ],
)
def test_unsupported_combinations_are_rejected(
    recipe: Path, unpaired_root: Path, overrides: tuple[str, ...], message: str
) -> None:
    """The error says which entry does not fit."""
    with pytest.raises(ConfigError, match=message):
        method_of(recipe, unpaired_root, *overrides)


def test_the_feature_network_is_checked_early_where_it_is_used(
    recipe: Path, tmp_path: Path
) -> None:
    """CUT itself needs none."""
    missing = tmp_path / "none.safetensors"

    check_machine(load_recipe(recipe), vgg16=missing)
    for overrides in (["method.self_similarity.weight=1"], ON_THE_LR_GRID):
        with pytest.raises(FeatureWeightsError, match="not a file"):
            check_machine(load_recipe(recipe, overrides=overrides), vgg16=missing)


def test_recipes_are_the_published_ones() -> None:
    """Figures of the papers and of the thesis that a change would silently lose."""
    cut_recipe, cut = config_of("cut")
    assert ("patch", 256, 0.07, True, (0, 4, 8, 12, 16)) == (
        cut.contrast.kind,
        cut.contrast.places,
        cut.contrast.temperature,
        cut.contrast.identity,
        cut.contrast.taps,
    )
    assert (8000, 1, 2e-4, (0.5, 0.999)) == (
        cut_recipe.optimization.steps,
        cut_recipe.optimization.batch_size,
        cut_recipe.optimization.learning_rate,
        cut_recipe.optimization.betas,
    )
    _, attention = config_of("qs_attn")
    assert ("patch", "qs_global", "official", (12, 16)) == (
        attention.contrast.kind,
        attention.contrast.queries,
        attention.contrast.selection,
        attention.contrast.routed_taps,
    )
    _, monce = config_of("monce")
    assert ("monce_hard", 1.0, None, 10.0, "paper") == (
        monce.contrast.kind,
        monce.contrast.beta,
        monce.contrast.key_decay,
        monce.self_similarity.weight,
        monce.self_similarity.form,
    )
    easy_recipe, easy = config_of("monce_easy")
    assert ("monce_easy", 0.2, 0.5, 0.999, 0.999, "normalised_l1", 0.5) == (
        easy.contrast.kind,
        easy.contrast.beta,
        easy.contrast.weight,
        easy.contrast.key_decay,
        easy_recipe.optimization.ema_decay,
        easy.self_similarity.form,
        easy.self_similarity.salient_share,
    )
