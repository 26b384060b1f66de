"""The rate of the data path, measured on its own."""

import re
from pathlib import Path

import pytest

from training.feed_rate import main

RECIPE = """
name = "tiny-rate"
[data]
lr = ["lr"]
hr = ["hr"]
[method]
name = "f_lsesim"
paired = { planted = [1, 1], patch_share = 0.5 }
[degradation]
[optimization]
batch_size = 2
crop_px = 16
threads = 1
bank_images = 1
"""


@pytest.mark.parametrize("is_banked", [False, True])
def test_the_rate_is_printed_for_each_number_of_workers(
    unpaired_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], *, is_banked: bool
) -> None:
    """One line for each, with crops planted one by one or drawn from a bank."""
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(RECIPE)
    bank = ["--bank", str(tmp_path / "bank")] if is_banked else []

    code = main([str(recipe), "--data", str(unpaired_root), "--seconds", "0", *bank])

    assert 0 == code
    found = re.fullmatch(r"0 workers: (\d+\.\d) crops/s\n", capsys.readouterr().out)
    assert found is not None
    assert float(found[1]) > 0
    assert is_banked == (tmp_path / "bank" / "bank.json").is_file()
