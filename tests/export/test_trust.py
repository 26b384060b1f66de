"""The trust record: limits from clean tiles, and what the flags then say."""

from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from bundle_format.bundle import load_bundle
from bundle_format.trust_record import DomainRecord, TrustRecord
from engines.batches import run_batch
from engines.protocol import EngineOptions
from engines.registry import installed_engines, load_engine
from export.cases import standard_cases
from export.exporter import export_bundle
from export.to_onnx import GreyLevels
from export.trust import TrustError, TrustTiles, distance, domain_of, make_trust_record
from models import build_generator, load_generator, save_network
from tests.make_tiny_bundle import clean_tiles

TILE = (24, 24)


def _generator():  # noqa: ANN202 - models.Generator
    torch.manual_seed(20261126)
    return build_generator("rep_sr", {"channels": 4, "num_blocks": 1, "scale": 4})


def test_a_record_is_the_same_every_time_and_names_its_tiles() -> None:
    """Rounded figures, the number of tiles, their hash."""
    tiles = clean_tiles()

    record = make_trust_record(_generator(), tiles)

    assert record == make_trust_record(_generator(), tiles)
    assert (25.0, 0.0) == (record.noise.base, record.noise.slope)
    assert (8, 8) == (record.clean_tiles, record.domains[0].tiles)
    other = make_trust_record(
        _generator(), TrustTiles(noise_base=25.0, noise_slope=0.0, domains=[tiles.domains[0][1:]])
    )
    assert record.domains[0].tiles_sha256 != other.domains[0].tiles_sha256


def test_the_limit_is_that_of_the_worst_kind_of_clean_tiles() -> None:
    """A few tiles of a harder kind are not outvoted by many easy ones."""
    tiles = clean_tiles()
    easy = make_trust_record(_generator(), tiles)
    spotted = tiles.domains[0][0].copy()
    spotted[10:13, 10:13] = 255
    # An untrained network enlarges by repetition, so that only its own blur leaves a residual.
    harder = make_trust_record(
        _generator(),
        TrustTiles(noise_base=25.0, noise_slope=0.0, domains=tiles.domains, clean=[[spotted]]),
    )

    assert 9 == harder.clean_tiles
    assert harder.residual_limit >= easy.residual_limit
    assert easy.domains == harder.domains


def test_flags_of_the_graph_are_over_the_limits(tmp_path: Path) -> None:
    """The engine's own flags: clean tiles reach 1 once, white noise lies far from them."""
    checkpoint = tmp_path / "checkpoint.safetensors"
    save_network(checkpoint, _generator(), training={})
    tiles = clean_tiles()
    export_bundle(checkpoint, tmp_path / "bundle", tile=TILE, trust_tiles=tiles)
    bundle = load_bundle(tmp_path / "bundle")
    assert bundle.manifest.trust is not None
    assert "residual limit" in (tmp_path / "bundle" / "MODEL_CARD.md").read_text()
    engine = load_engine("onnx", bundle, EngineOptions(precision="fp32", threads=1))

    flags = run_batch(engine, np.stack(tiles.domains[0])[:, None]).flags

    assert pytest.approx(1.0, abs=1e-3) == flags[:, 4].max()
    assert np.median(flags[:, 5]) < 1.0
    noise = np.random.default_rng(0).integers(0, 256, (1, 1, *TILE), dtype=np.uint8)
    assert run_batch(engine, noise).flags[0, 5] > 2.0


@pytest.mark.parametrize("name", installed_engines("fp32"))
def test_every_engine_gives_torchs_flags(name: str, tmp_path: Path) -> None:
    """For clean tiles, other sizes, black, white and noise, alone and in a batch."""
    checkpoint = tmp_path / "checkpoint.safetensors"
    save_network(checkpoint, _generator(), training={})
    tiles = clean_tiles()
    export_bundle(checkpoint, tmp_path / "bundle", tile=TILE, trust_tiles=tiles)
    bundle = load_bundle(tmp_path / "bundle")
    engine = load_engine(name, bundle, EngineOptions(precision="fp32", threads=1))
    reference = GreyLevels(load_generator(checkpoint)[0], bundle.manifest.trust)
    cases = [np.stack(tiles.domains[0])[:, None]]
    cases += [case.lr for case in standard_cases(TILE, max_batch_size=4)]
    for lr in cases:
        with torch.inference_mode():
            expected = reference(torch.from_numpy(lr))[1].numpy()
        np.testing.assert_allclose(run_batch(engine, lr).flags, expected, rtol=2e-3, atol=2e-3)
    engine.close()


def test_without_tiles_nothing_is_judged(tmp_path: Path) -> None:
    """The flags are -1 and the manifest has no record."""
    checkpoint = tmp_path / "checkpoint.safetensors"
    save_network(checkpoint, _generator(), training={})
    bundle = export_bundle(checkpoint, tmp_path / "bundle", tile=TILE).bundle
    assert bundle.manifest.trust is None
    engine = load_engine("onnx", bundle, EngineOptions(precision="fp32", threads=1))

    flags = run_batch(engine, np.zeros((2, 1, *TILE), dtype=np.uint8)).flags

    np.testing.assert_array_equal(flags[:, 4:], -1)


def test_too_few_tiles_are_refused() -> None:
    """A covariance of three tiles says nothing."""
    tiles = TrustTiles(noise_base=25.0, noise_slope=0.0, domains=[clean_tiles().domains[0][:3]])
    with pytest.raises(TrustError, match=r"at least 4 tiles of each .* got 3"):
        make_trust_record(_generator(), tiles)


def test_tiles_left_out_decide_how_far_is_too_far() -> None:
    """About one in twenty lies beyond the limit; one that was far from the rest is among them."""
    features = np.random.default_rng(1).standard_normal((200, 8))
    features[7] += 30.0

    mean, precision, limit = domain_of(features)

    beyond = [distance(row, mean, precision) > limit for row in features]
    assert beyond[7]
    assert 0.02 < np.mean(beyond) < 0.08


def test_a_record_of_other_features_is_refused() -> None:
    """The graph's columns and the record's names must be the same."""
    fields = make_trust_record(_generator(), clean_tiles()).domains[0].model_dump()
    with pytest.raises(ValidationError, match="expected mean, log_deviation"):
        DomainRecord.model_validate({**fields, "features": ("mean",)})
    with pytest.raises(ValidationError, match="8 times 8"):
        DomainRecord.model_validate({**fields, "mean": fields["mean"][1:]})


def test_two_tools_are_two_domains() -> None:
    """What lies between them is far from both; each tool's own tiles are near."""
    dark = [(0.3 * tile).astype(np.uint8) for tile in clean_tiles().domains[0]]
    light = [tile + np.uint8(170) for tile in dark]
    between = np.stack([tile + np.uint8(85) for tile in dark])

    def distances(domains: list[list[np.ndarray]], lr: np.ndarray) -> np.ndarray:
        tiles = TrustTiles(noise_base=25.0, noise_slope=0.0, domains=domains)
        graph = GreyLevels(_generator(), make_trust_record(_generator(), tiles))
        with torch.inference_mode():
            return graph(torch.from_numpy(lr[:, None]))[1][:, 5].numpy()

    apart = [dark, light]
    together = [[*dark, *light]]
    assert np.median(distances(apart, np.stack(dark))) < 1
    assert np.median(distances(apart, np.stack(light))) < 1
    assert distances(apart, between).min() > 1
    assert np.median(distances(together, between)) < 1


def test_a_record_of_one_domain_is_read() -> None:
    """Formats 3 and 4 wrote a single domain."""
    record = make_trust_record(_generator(), clean_tiles())
    fields = record.model_dump()
    domains = fields.pop("domains")

    assert record == TrustRecord.model_validate({**fields, "domain": domains[0]})
    with pytest.raises(ValidationError, match="expected one of them"):
        TrustRecord.model_validate({**fields, "domain": domains[0], "domains": domains})
    with pytest.raises(ValidationError, match="domains"):
        TrustRecord.model_validate({**fields, "domains": []})
