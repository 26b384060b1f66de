"""LSeSim: the contrastive loss against a slow version, and who gets which gradient."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from training.losses.features import Vgg16
from training.losses.learned_correlation import LearnedCorrelation, contrastive_loss, jitter_tone
from training.losses.transport import transport_weights


def fresh(seed: int = 0) -> torch.Generator:
    """Return a generator for one draw."""
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def network() -> Vgg16:
    """Return two random layers; nothing here depends on what features mean."""
    draws = fresh(3)
    state = {
        "features.0.weight": 0.3 * torch.randn(64, 3, 3, 3, generator=draws),
        "features.0.bias": torch.zeros(64),
        "features.2.weight": 0.06 * torch.randn(64, 64, 3, 3, generator=draws),
        "features.2.bias": torch.zeros(64),
    }
    return Vgg16(state, taps=("relu1_1", "relu1_2"))


def images(number: int = 2, seed: int = 0) -> torch.Tensor:
    """Return random grey in [0, 1], (N, 1, 16, 24)."""
    return torch.rand(number, 1, 16, 24, generator=fresh(seed))


def metric(network: Vgg16, **options) -> LearnedCorrelation:
    """Return heads with few queries."""
    return LearnedCorrelation(network, num_queries=10, window_px=8, generator=fresh(7), **options)


def test_contrastive_loss_equals_a_slow_version() -> None:
    """Q targets, Q others to the source and Q others to the target; the right one is i."""
    source, target, other = (
        torch.randn(2, 5, 7, generator=fresh(seed), dtype=torch.float64) for seed in range(3)
    )
    expected = []
    for image in range(2):
        s, t, o = (
            x[image].numpy() / np.linalg.norm(x[image].numpy(), axis=1, keepdims=True)
            for x in (source, target, other)
        )
        for i in range(5):
            logits = [s[i] @ t[j] for j in range(5)]
            logits += [s[i] @ o[j] for j in range(5)] + [t[i] @ o[j] for j in range(5)]
            odds = np.exp(np.array(logits) / 0.07)
            expected.append(-np.log(odds[i] / odds.sum()))

    loss = contrastive_loss(source, target, other)

    assert float(loss) == pytest.approx(np.mean(expected), rel=1e-5)


@pytest.mark.parametrize("kind", ["hard", "easy"])
def test_weighted_negatives_equal_a_slow_version(kind) -> None:
    """Each block has a plan of its own: Q - 1 negatives in the first, Q in the others."""
    source, target, other = (
        functional.normalize(torch.randn(5, 7, generator=fresh(seed), dtype=torch.float64), dim=1)
        for seed in range(3)
    )
    blocks = [source @ target.T, source @ other.T, target @ other.T]
    weights = [
        count * transport_weights(block, beta=0.3, kind=kind, has_positives=count == 4)
        for block, count in zip(blocks, (4, 5, 5), strict=True)
    ]
    expected = []
    for i in range(5):
        right = math.exp(float(blocks[0][i, i]) / 0.07)
        wrong = sum(
            float(weight[i, j]) * math.exp(float(block[i, j]) / 0.07)
            for number, (block, weight) in enumerate(zip(blocks, weights, strict=True))
            for j in range(5)
            if number or j != i
        )
        expected.append(-math.log(right / (right + wrong)))

    maps = [values[None] for values in (source, target, other)]
    loss = contrastive_loss(*maps, negatives=kind, beta=0.3)

    assert pytest.approx(np.mean(expected), rel=1e-6) == float(loss)
    even = contrastive_loss(*maps, negatives=kind, beta=1e6)
    assert pytest.approx(float(contrastive_loss(*maps)), rel=0.1) == float(even)


def test_easy_negatives_let_repeats_of_a_place_agree() -> None:
    """Queries of four repeated places: equal weights punish what is right, easy ones do not."""
    places = functional.normalize(torch.randn(4, 16, generator=fresh()), dim=1)
    maps = [
        functional.normalize(places.repeat(8, 1) + 0.05 * torch.randn(32, 16, generator=g), dim=1)
        for g in (fresh(1), fresh(2))
    ]
    other = torch.randn(32, 16, generator=fresh(3))
    equal, easy, hard = (
        float(contrastive_loss(*(m[None] for m in (*maps, other)), negatives=kind, beta=0.1))
        for kind in ("equal", "easy", "hard")
    )

    assert easy < 0.2 * equal < equal < hard


def test_contrastive_loss_of_equal_maps_is_that_of_guessing() -> None:
    """All 3 Q logits alike: ln(3 Q)."""
    ones = torch.ones(1, 256, 9)

    assert float(contrastive_loss(ones, ones, ones)) == pytest.approx(math.log(768), abs=1e-4)


def test_the_generators_loss_reaches_the_target_alone(network) -> None:
    """The heads are fixed there, whatever the trainer freezes, and the source is data."""
    learned = metric(network)
    source, target = images().requires_grad_(), images(seed=1).requires_grad_()

    learned(source, target, generator=fresh()).backward()

    assert target.grad is not None
    assert target.grad.abs().max() > 0
    assert source.grad is None
    assert all(parameter.grad is None for parameter in learned.parameters())
    assert float(learned(source, source, generator=fresh()).detach()) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("positives", ["official", "augmented_only"])
def test_the_metrics_loss_reaches_the_heads_alone(network, positives: str) -> None:
    """Every head's first and second layer, and no image."""
    learned = metric(network, positives=positives)
    source, fake, other = (images(seed=k).requires_grad_() for k in range(3))

    learned.metric_loss(source, fake, other, generator=fresh()).backward()

    for name, parameter in learned.named_parameters():
        if name.endswith("weight"):
            assert parameter.grad is not None, name
            assert parameter.grad.abs().max() > 0, name
    assert [None, None, None] == [source.grad, fake.grad, other.grad]


def test_augmented_only_never_looks_at_the_generated_image(network) -> None:
    """The repair: no reward for agreeing with the generator; the official form has one."""
    source, other = images(), images(seed=2)

    def loss(positives: str, fake: torch.Tensor | None) -> float:
        learned = metric(network, positives=positives)
        return float(learned.metric_loss(source, fake, other, generator=fresh()).detach())

    assert loss("augmented_only", None) == loss("augmented_only", images(seed=1))
    assert loss("official", images(seed=1)) != loss("official", images(seed=4))
    with pytest.raises(ValueError, match="'official' need the generated image"):
        loss("official", None)


def test_training_the_heads_lowers_their_loss(network) -> None:
    """Some steps of Adam with the same draws."""
    learned = metric(network, positives="augmented_only")
    optimiser = torch.optim.Adam(learned.parameters(), lr=3e-3)
    losses = []
    for _ in range(12):
        loss = learned.metric_loss(images(), None, images(seed=2), generator=fresh())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))

    assert losses[-1] < 0.9 * losses[0]


def test_only_heads_are_parameters_and_state(network) -> None:
    """1x1 convolutions to max(32, C / 4); the feature network is neither trained nor saved."""
    learned = metric(network)

    shapes = {name: tuple(value.shape) for name, value in learned.state_dict().items()}
    assert (32, 64, 1, 1) == shapes["heads.relu1_1.0.weight"]
    assert (32, 32, 1, 1) == shapes["heads.relu1_2.2.weight"]
    assert 8 == len(shapes)
    assert 8 == len(list(learned.parameters()))


def test_heads_may_start_as_published(network) -> None:
    """Weights of deviation 0.02 and no bias; otherwise Kaiming's for layers before a ReLU."""
    heads = [metric(network, init=init) for init in ("normal", "kaiming")]
    first = [learned.get_parameter("heads.relu1_1.0.weight").detach().std() for learned in heads]

    assert pytest.approx([0.02, (2 / 64) ** 0.5], rel=0.1) == [float(value) for value in first]
    for learned in heads:
        biases = [value for name, value in learned.named_parameters() if name.endswith("bias")]
        assert 0 == sum(float(bias.detach().abs().max()) for bias in biases)


def test_metric_works_under_autocast(network) -> None:
    """Maps and logits stay float32; only features and heads are rough."""
    learned = metric(network)
    exact = learned.metric_loss(images(), images(seed=1), images(seed=2), generator=fresh())

    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = learned.metric_loss(images(), images(seed=1), images(seed=2), generator=fresh())

    assert torch.float32 == rough.dtype
    assert float(rough.detach()) == pytest.approx(float(exact.detach()), rel=0.1)


def test_jitter_changes_tone_within_its_bounds() -> None:
    """Gain and contrast differ by image, order of grey stays, and zero strength changes nothing."""
    ramp = torch.linspace(0.2, 0.5, 32).view(1, 1, 1, 32).expand(64, 1, 4, 32)

    jittered = jitter_tone(ramp, generator=fresh())

    means = jittered.mean((1, 2, 3)) / ramp.mean((1, 2, 3))
    assert 0.5 <= float(means.min()) < 0.6
    assert 1.4 < float(means.max()) <= 1.5
    assert bool((jittered.diff(dim=-1) >= 0).all())
    assert 0 <= float(jittered.min()) <= float(jittered.max()) <= 1
    torch.testing.assert_close(
        jitter_tone(ramp, generator=fresh(), brightness=0.0, contrast=0.0), ramp
    )
