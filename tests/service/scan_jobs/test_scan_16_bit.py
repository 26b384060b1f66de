"""Scans whose answers have 16 bits, in a service whose engine answers in 8."""

import csv
from pathlib import Path

import numpy as np
import pytest

from engines.registry import load_engine
from service.scan_jobs.served_model import served_model
from service.scans.errors import ScanError
from tests.scan_api import Scans
from tests.scans import numbered_tile


def test_the_manifest_names_the_engine_of_the_answers(serve, tmp_path: Path):
    """ONNX Runtime in FP32 computes them; a run elsewhere fails as a whole, not tile by tile."""
    pytest.importorskip("openvino")
    lot = tmp_path / "root" / "lot"
    lot.mkdir(parents=True)
    np.save(lot / "t.npy", numbered_tile(1))
    app = serve(
        loader=load_engine,
        engine="openvino",
        threads=1,
        answer_bits=16,
        scan_roots=str(tmp_path / "root"),
        scan_state=tmp_path / "state",
    )
    scans = Scans(app.client)
    engines = {}
    for bits in (8, 16):
        out = tmp_path / "root" / f"out{bits}"
        info = scans.wait(scans.start(lot, out, options={"answer_bits": bits}))
        assert ("done", bits) == (info["state"], info["options"]["answer_bits"])
        with Path(info["result"]["manifest"]).open(encoding="utf-8", newline="") as file:
            [row] = csv.DictReader(file)
        engines[bits] = row["engine"], row["precision"]
    assert {8: ("openvino", "fp32"), 16: ("onnx", "fp32")} == engines

    other = app.lifecycle.settings.model_copy(update={"answer_bits": 8})
    serving = app.lifecycle.find_model(None)
    assert "openvino" == served_model(serving, other, answer_bits=8).engine
    with pytest.raises(ScanError, match="answer_bits is 16 and this machine answers in 8 bits"):
        served_model(serving, other, answer_bits=16)
