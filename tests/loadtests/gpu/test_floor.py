"""The floor follows from rates and work in closed form."""

import pytest
import torch

from loadtests.gpu import rates as rates_module
from loadtests.gpu.floor import ACTIVATIONS, Rates, TileCost, limits, share_of_floor, step_limits
from loadtests.gpu.rates import measure_rates
from loadtests.gpu.work import CountedWork, count_tile


def measured_rates() -> Rates:
    """Rates as the process of `loadtests.gpu.rates` reports them."""
    rates = Rates()
    for name, kind, per_s in (
        ("operations", "fp16", 800e12),
        ("operations", "fp32", 50e12),
        ("upload", "pinned", 50e9),
        ("upload", "pageable", 5e9),
        ("download", "pinned", 55.296e9),
        ("download", "pageable", 4.608e9),
        ("memory", "read and written", 4e12),
    ):
        rates.add({"name": name, "kind": kind, "per_s": per_s})
    return rates


TILE = TileCost(gmac=10.0, lr_bytes=57_600, sr_bytes=921_600, values=50_000_000)


def test_each_rate_allows_its_own_number_of_tiles() -> None:
    """A multiply-add is two operations; a value of FP16 has two bytes."""
    found = limits(TILE, measured_rates(), "fp16")

    assert found == pytest.approx(
        {
            "operations": 800e12 / 20e9,
            "upload": 50e9 / 57_600,
            "download": 60_000.0,
            ACTIVATIONS: 4e12 / 100e6,
        }
    )


def test_plain_memory_and_wide_values_allow_fewer_tiles() -> None:
    """Pageable memory has rates of its own, and a value of FP32 four bytes."""
    found = limits(TILE, measured_rates(), "fp32", memory="pageable")

    assert found["download"] == pytest.approx(5_000.0)
    assert found["operations"] == pytest.approx(2_500.0)
    assert found[ACTIVATIONS] == pytest.approx(20_000.0)


def test_rates_that_were_not_measured_limit_nothing() -> None:
    """No rate of the precision, no transfers, no known activations: no limit, and no columns."""
    assert limits(TileCost(gmac=1.0), measured_rates(), "bf16") == {}
    assert share_of_floor(100.0, {}) == {}


def test_share_is_that_of_the_smallest_limit() -> None:
    """The row names it."""
    row = share_of_floor(3_000.0, {"operations": 40_000.0, "download": 6_000.0})

    assert row == {"limit_per_s": 6_000.0, "limited_by": "download", "percent_of_limit": 50.0}


def test_a_training_step_has_limits_of_its_own() -> None:
    """Operations, uploads from ordinary memory, and traffic; a CPU uploads nothing."""
    work = {"operations": 1e12, "read_and_written": 8e9}
    found = step_limits(measured_rates(), "fp32", **work, upload=1e6)

    assert found == pytest.approx({"operations": 50.0, "upload": 5_000.0, ACTIVATIONS: 500.0})
    assert "upload" not in step_limits(measured_rates(), "fp32", **work, upload=0.0)


def test_work_of_a_convolution_is_counted_and_not_computed() -> None:
    """9 products for each of 2x3 channels and 40x50 pixels; input and output values."""
    network = torch.nn.Conv2d(1, 3, 3, padding=1, device="meta")

    gmac, values = count_tile(network, tile=(40, 50))

    assert gmac == pytest.approx(40 * 50 * 3 * 9 / 1e9)
    assert values == 40 * 50 * (1 + 3)


def test_backward_work_and_uploads_are_counted() -> None:
    """The gradients of weights and input take as many products again, each."""
    layer = torch.nn.Linear(8, 4, bias=False)
    inputs = torch.rand(2, 8, requires_grad=True)
    with CountedWork() as work:
        layer(inputs).sum().backward()
        torch.zeros(10).to("meta")

    assert work.operations == 3 * 2 * (2 * 8 * 4)
    assert work.uploaded == 40
    assert work.bytes > 0


def test_every_rate_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Products in torch's precisions, both directions from both kinds of memory, and the device."""
    monkeypatch.setitem(rates_module._SIDES, "cpu", 32)
    monkeypatch.setitem(rates_module._COPY_BYTES, "cpu", 4096)

    rows = list(
        measure_rates(torch.device("cpu"), seconds=0.001, precisions=["fp32", "bf16", "int8"])
    )

    assert [(row["name"], row["kind"]) for row in rows] == [
        ("operations", "fp32"),
        ("operations", "bf16"),
        ("upload", "pinned"),
        ("download", "pinned"),
        ("upload", "pageable"),
        ("download", "pageable"),
        ("memory", "read and written"),
    ]
    assert all(row["per_s"] > 0 for row in rows)
