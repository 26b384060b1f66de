"""Each stage of the degradation does what its physics says."""

import dataclasses
import math

import pytest
import torch

from training.config.recipe import DegradationConfig
from training.data.degradation.synthetic_lr import Degradation, degrade, draw_degradation


def _degradation(count: int = 1, **values: float) -> Degradation:
    """Return a degradation that only area-averages, except for the named values."""
    neutral = {
        "spot_sigma_px": 0.0,
        "lag_decay": 0.0,
        "gain": 1.0,
        "offset_grey": 0.0,
        "gamma": 1.0,
        "noise_var_base": 0.0,
        "noise_var_slope": 0.0,
    }
    tensors = {key: torch.full((count,), value) for key, value in {**neutral, **values}.items()}
    return Degradation(**tensors, lag_centred=False)


def _degrade(hr: torch.Tensor, degradation: Degradation, *, seed: int = 0) -> torch.Tensor:
    """Degrade at scale 4 and return grey levels."""
    noise = torch.Generator().manual_seed(seed)
    return 255.0 * degrade(hr, degradation, scale=4, generator=noise)


def test_neutral_degradation_is_the_rounded_area_mean() -> None:
    """Without spot, lag, tone and noise, what remains is the 4x4 mean on 256 levels."""
    hr = torch.rand(2, 1, 32, 40, generator=torch.Generator().manual_seed(0))
    mean = hr.reshape(2, 1, 8, 4, 10, 4).mean(dim=(3, 5))

    lr = _degrade(hr, _degradation(2))

    assert (2, 1, 8, 10) == tuple(lr.shape)
    assert float((lr - 255.0 * mean).abs().max()) < 0.501
    assert float((lr - lr.round()).abs().max()) < 1e-4


def test_spot_spreads_a_point_evenly_and_keeps_its_sum() -> None:
    """A Gaussian spot is symmetric and moves no brightness away."""
    hr = torch.zeros(1, 1, 80, 80)
    hr[0, 0, 36:44, 36:44] = 1.0

    sharp = _degrade(hr, _degradation())[0, 0]
    blurred = _degrade(hr, _degradation(spot_sigma_px=2.0))[0, 0]

    assert float(blurred.max()) < float(sharp.max())
    assert abs(float(blurred.sum() - sharp.sum())) < 10.0
    assert torch.allclose(blurred, blurred.T)
    assert torch.allclose(blurred, blurred.flip(0))


def test_lag_drags_an_exponential_tail_to_the_right_only() -> None:
    """The beam moves along x: what it saw lingers to the right, by the decay a pixel."""
    hr = torch.zeros(1, 1, 4, 64)
    hr[..., 20:24] = 1.0

    row = _degrade(hr, _degradation(lag_decay=0.5))[0, 0, 0]

    assert torch.equal(torch.zeros(5), row[:5])
    assert torch.equal(torch.tensor([128.0, 64.0, 32.0, 16.0]), row[5:9])


def test_lag_does_not_smear_along_y() -> None:
    """Rows are scanned one by one."""
    hr = torch.zeros(1, 1, 32, 32)
    hr[..., 12:16, :] = 1.0

    lr = _degrade(hr, _degradation(lag_decay=0.3))[0, 0]

    assert torch.equal(torch.full((8,), 255.0), lr[3])
    assert 0.0 == float(lr.sum() - lr[3].sum())


def test_tone_is_gain_times_power_plus_offset() -> None:
    """The tone curve acts on [0, 1]; the offset is in grey levels; beyond white is white."""
    hr = torch.full((3, 1, 8, 8), 0.25)
    hr[2] = 1.0

    lr = _degrade(hr, _degradation(3, gain=1.2, gamma=0.5, offset_grey=10.0))

    assert round(255 * 1.2 * 0.5 + 10) == float(lr[0, 0, 0, 0])
    assert 255.0 == float(lr[2].min())


@pytest.mark.parametrize("grey", [40.0, 160.0])
def test_noise_variance_rises_with_grey(grey: float) -> None:
    """Measured variance is a + b * grey plus that of rounding (1/12)."""
    hr = torch.full((1, 1, 1024, 1024), grey / 255.0)

    lr = _degrade(hr, _degradation(noise_var_base=8.6, noise_var_slope=0.31))

    expected = 8.6 + 0.31 * grey + 1 / 12
    # 65,536 samples: the variance estimate has a relative deviation of 0.55 %.
    assert expected == pytest.approx(float(lr.var()), rel=0.03)
    assert grey == pytest.approx(float(lr.mean()), abs=0.15)


def test_noise_is_white() -> None:
    """Neighbouring pixels are independent."""
    hr = torch.full((1, 1, 1024, 1024), 0.4)

    lr = _degrade(hr, _degradation(noise_var_base=20.0))[0, 0]
    residual = (lr - lr.mean()) / lr.std()

    assert abs(float((residual[:, 1:] * residual[:, :-1]).mean())) < 0.02
    assert abs(float((residual[1:] * residual[:-1]).mean())) < 0.02


def test_each_image_has_its_own_degradation() -> None:
    """The values of one image do not act on its neighbour in the batch."""
    hr = torch.rand(1, 1, 48, 48, generator=torch.Generator().manual_seed(3)).expand(2, 1, 48, 48)
    weak = _degradation()
    strong = _degradation(spot_sigma_px=2.0, lag_decay=0.4, gain=1.3, offset_grey=5.0, gamma=0.8)
    both = dataclasses.replace(
        weak,
        **{
            field.name: torch.cat([getattr(weak, field.name), getattr(strong, field.name)])
            for field in dataclasses.fields(Degradation)
            if field.name != "lag_centred"
        },
    )

    lr = _degrade(hr, both)

    assert torch.equal(_degrade(hr[:1], weak), lr[:1])
    assert torch.equal(_degrade(hr[1:], strong), lr[1:])


def test_the_same_seed_gives_the_same_image() -> None:
    """Noise comes from the given generator alone."""
    hr = torch.rand(1, 1, 32, 32, generator=torch.Generator().manual_seed(4))
    noisy = _degradation(noise_var_base=9.0)

    assert torch.equal(_degrade(hr, noisy, seed=1), _degrade(hr, noisy, seed=1))
    assert not torch.equal(_degrade(hr, noisy, seed=1), _degrade(hr, noisy, seed=2))


def test_draws_fill_their_ranges_and_repeat_with_the_seed() -> None:
    """Values lie in the recipe's ranges, use them, and depend on the seed only."""
    config = DegradationConfig(gain=(1.2, 1.4), offset_grey=(-3.0, 3.0))

    drawn = draw_degradation(config, count=500, generator=torch.Generator().manual_seed(0))
    again = draw_degradation(config, count=500, generator=torch.Generator().manual_seed(0))

    assert torch.equal(drawn.gain, again.gain)
    ranges = config.model_dump(exclude={"lag_centred"})
    for name, (low, high) in ranges.items():
        values = getattr(drawn, name)
        assert (500,) == tuple(values.shape)
        assert low - 1e-5 <= float(values.min()), name
        assert float(values.max()) <= high + 1e-5, name
        if high > low:
            assert float(values.max() - values.min()) > 0.9 * (high - low), name


@pytest.mark.parametrize(
    ("shape", "count", "message"),
    [((1, 1, 30, 32), 1, "30x32 is not a multiple"), ((2, 1, 32, 32), 1, "2 images but 1")],
)
def test_mismatches_are_refused(shape: tuple[int, ...], count: int, message: str) -> None:
    """Sizes off the grid and missing degradations are errors."""
    with pytest.raises(ValueError, match=message):
        _degrade(torch.zeros(shape), _degradation(count))


def _upright_lines(count: int = 1) -> torch.Tensor:
    """Return images of smooth upright lines, (count, 1, 256, 256), the same in every row."""
    x = torch.arange(256.0)
    row = 0.5 + 0.3 * torch.sin(x * 2 * torch.pi / 32)
    return row.expand(count, 1, 256, 256).contiguous()


def test_old_recipes_keep_their_pictures() -> None:
    """Fields that came later take no random number while they stay at their defaults."""
    config = DegradationConfig(gain=(1.1, 1.3), gamma=(0.9, 1.1))
    hr = torch.rand(2, 1, 64, 64, generator=torch.Generator().manual_seed(1))
    generator = torch.Generator().manual_seed(5)
    reference = torch.Generator().manual_seed(5)
    drawn = draw_degradation(config, count=2, generator=generator)
    for _ in range(7):
        torch.rand(2, generator=reference)
    noise = torch.randn(2, 1, 16, 16, generator=reference)

    lr = degrade(hr, drawn, scale=4, generator=generator)
    no_noise = dataclasses.replace(
        drawn, noise_var_base=torch.zeros(2), noise_var_slope=torch.zeros(2)
    )
    grey = degrade(hr, no_noise, scale=4, generator=torch.Generator().manual_seed(0))

    assert float(torch.corrcoef(torch.stack([noise.ravel(), (lr - grey).ravel()]))[0, 1]) > 0.99


def test_centred_lag_blurs_but_does_not_move() -> None:
    """With its mean delay taken out, a lag leaves the centre of a point where it was."""
    hr = torch.zeros(1, 1, 4, 256)
    hr[..., 128:132] = 1.0
    places = torch.arange(64.0)

    def centre(degradation: Degradation) -> float:
        row = _degrade(hr, degradation)[0, 0, 0]
        return float((row * places).sum() / row.sum())

    causal = _degradation(lag_decay=0.4)
    centred = dataclasses.replace(causal, lag_centred=True)

    assert centre(_degradation()) + 0.4 / 0.6 == pytest.approx(centre(causal), abs=0.03)
    assert centre(_degradation()) == pytest.approx(centre(centred), abs=0.03)
    assert float(_degrade(hr, centred).max()) < 0.8 * 255


def test_jitter_shifts_each_line_by_its_own_amount() -> None:
    """Rows of upright lines become shifted copies of one row, with the given deviation."""
    clean = _degrade(_upright_lines(16), _degradation(16))[:, 0]
    shaken = _degrade(_upright_lines(16), _degradation(16, line_jitter_px=0.2))[:, 0]

    inner = slice(4, -4)
    slope = torch.gradient(clean, dim=2)[0][..., inner]
    shift = -((shaken - clean)[..., inner] * slope).sum(2) / (slope**2).sum(2)

    # 1,024 lines: the deviation is known to 2.2 %.
    assert 0.2 == pytest.approx(float(shift.std()), rel=0.1)
    assert 0.0 == pytest.approx(float((shift[:, 1:] * shift[:, :-1]).mean()), abs=0.005)
    expected = clean[..., inner] - shift[..., None] * slope
    assert float((shaken[..., inner] - expected).abs().mean()) < 1.5


def test_line_gain_scales_whole_lines() -> None:
    """Each line has one factor, with the given deviation, independent of its neighbours."""
    hr = torch.full((8, 1, 512, 64), 0.5)

    lines = _degrade(hr, _degradation(8, line_gain_sigma=0.05))[:, 0]

    assert torch.equal(lines[..., :1].expand_as(lines), lines)
    gain = lines[..., 0] / 127.5
    assert 0.05 == pytest.approx(float(gain.std()), rel=0.1)
    assert abs(float(((gain - 1)[:, 1:] * (gain - 1)[:, :-1]).mean())) < 0.2 * 0.05**2


def test_drift_is_slow() -> None:
    """The drift has the given deviation, and neighbouring lines nearly share it."""
    hr = torch.full((24, 1, 512, 8), 0.5)

    lines = _degrade(hr, _degradation(24, drift_sigma=0.05))[:, 0, :, 0] / 127.5

    # About 24 * 128 / 40 independent values: a deviation known to 8 %.
    assert 0.05 == pytest.approx(float(lines.std()), rel=0.3)
    assert float(lines.diff(dim=1).std()) < 0.2 * float(lines.std())


def test_charging_leaves_a_dark_tail_behind_bright_areas() -> None:
    """To the right of a bright bar grey falls and recovers exponentially; level ground keeps it."""
    hr = torch.full((1, 1, 8, 512), 0.4)
    hr[..., 128:192] = 0.8
    clean = _degrade(hr, _degradation())[0, 0, 0]

    row = _degrade(hr, _degradation(charging_strength=0.3, charging_length_px=10.0))[0, 0, 0]
    loss = clean - row

    assert torch.equal(torch.zeros(48), loss[:48])
    # The tail kernel is cut off after four decay lengths.
    assert torch.equal(torch.zeros(30), loss[-30:])
    assert 0.3 * 0.4 * 255 * (1 - math.exp(-1.6)) == pytest.approx(float(loss[48]), rel=0.15)
    assert math.exp(-1) == pytest.approx(float(loss[58] / loss[48]), abs=0.08)


@pytest.mark.gpu
def test_a_gpu_makes_the_cpus_picture() -> None:
    """Draws come from the CPU's generator: a seed gives the same picture on every device."""
    values = {"spot_sigma_px": 1.0, "lag_decay": 0.1, "line_jitter_px": 0.1, "drift_sigma": 0.1}
    values |= {"charging_strength": 0.1, "charging_length_px": 8.0, "noise_var_base": 9.0}
    everything = dataclasses.replace(_degradation(2, **values), lag_centred=True)
    hr = torch.rand(2, 1, 64, 64, generator=torch.Generator().manual_seed(0))

    expected = _degrade(hr, everything)
    lr = _degrade(hr.cuda(), everything)

    assert "cuda" == lr.device.type
    assert float((expected - lr.cpu()).abs().max()) <= 1.001
    assert float((expected - lr.cpu()).abs().mean()) < 0.01
