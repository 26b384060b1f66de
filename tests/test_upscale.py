"""`semsr upscale`: an answer that is no picture is reported, not written."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from semsr import upscale
from service.engines import EngineOutput
from tests.fakes import FakeEngine

TINY_BUNDLE = Path(__file__).parent / "data" / "tiny_bundle"


def test_values_that_are_no_numbers_cost_their_own_file_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two files: one whose answer the graph calls broken, and a good one."""
    images = [tmp_path / "bad.png", tmp_path / "good.png"]
    for grey, path in enumerate(images):
        Image.fromarray(np.full((24, 24), grey, dtype=np.uint8)).save(path)
    engine = FakeEngine()

    def spoil(output: EngineOutput) -> EngineOutput:
        broken = np.array([[0.5, *[np.nan] * 5]], dtype=np.float32)
        return output._replace(flags=broken) if output.sr[0, 0, 0, 0] == 0 else output

    engine.spoil = spoil
    monkeypatch.setattr(upscale, "load_engine", lambda *_: engine)

    failures = upscale.upscale_files(
        images, tmp_path / "out", bundle=TINY_BUNDLE, engine="identity"
    )

    [(path, reason)] = failures
    assert path == images[0]
    assert "no numbers at 50.00%" in reason
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["good_x4.png"]
