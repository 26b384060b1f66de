"""Wrong arguments of the commands of training: code 2 and the reason, before torch is loaded."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bundle_format.bundle_writer import write_bundle
from tests.bundles import bundle_files, manifest_fields

ROOT = Path(__file__).resolve().parents[1]
TINY_BUNDLE = ROOT / "tests" / "data" / "tiny_bundle"

# Runs each command of a JSON list in one process; says what it answered and what it had loaded.
RUN = """
import contextlib, io, json, sys
from semsr.cli import main
answers = []
for arguments in json.load(sys.stdin):
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        try:
            code = main(arguments)
        except SystemExit as ended:
            code = ended.code
    heavy = [name for name in ("torch", "scipy", "onnx", "onnxruntime") if name in sys.modules]
    answers.append([code, said.getvalue(), heavy])
print(json.dumps(answers))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a data root, a run, a checkpoint's name, a bundle without trust record."""
    root = tmp_path_factory.mktemp("wrong")
    for side in ("hr", "lr"):
        (root / "data" / side).mkdir(parents=True)
        picture = Image.fromarray(np.zeros((64, 64), np.uint8))
        picture.save(root / "data" / side / "a.png")
    (root / "run").mkdir()
    (root / "run" / "config.json").write_text("{}")
    (root / "checkpoint.safetensors").write_bytes(b"")
    (root / "empty").mkdir()
    write_bundle(root / "bundle", files=bundle_files(), manifest_fields=manifest_fields())
    return root


def cases(folder: Path) -> list[tuple[list[str], str]]:
    """List wrong command lines, each with a part of what must be said."""
    data = ["--data", str(folder / "data")]
    bundle = ["--bundle", str(TINY_BUNDLE)]
    export = ["export", str(folder / "checkpoint.safetensors"), "--out", str(folder / "new")]
    simulate = ["simulate", "--out", str(folder / "sim"), "--seed", "1"]
    internal = ["internal-sr", "--out", str(folder / "new")]
    lr = ["--lr", str(folder / "data" / "lr")]
    align = ["align", *lr, "--hr", str(folder / "data" / "hr"), "--out"]
    reference = ["reference-sr", "--reference", "own", "--out", str(folder / "new"),
                 "--checkpoint", str(folder / "checkpoint.safetensors")]  # fmt: skip
    accept = ["accept", lr[1], str(folder / "data" / "hr"), "--out", str(folder / "new"),
              "--recipe", "tiny", "--baseline", str(TINY_BUNDLE)]  # fmt: skip
    return [
        ([*accept[:2], lr[1], *accept[3:]], "LR and HR are one folder"),
        ([*accept[:2], str(folder / "empty"), *accept[3:]], "HR: "),
        ([*accept[:4], str(folder / "data" / "lr" / "out")], "lies in the folder of images"),
        ([*accept, "--minutes", "0"], "expected more than 0"),
        ([*accept, "--steps", "0"], "--steps is 0, expected at least 1"),
        ([*accept, "--held-out", "1"], "expected a share of 0 to 0.9"),
        ([*accept, "--window", "5,5"], "LO < HI"),
        ([*accept, "--tile", "240"], "expected two integers"),
        ([*accept, "--name", "a b"], "--name is 'a b'"),
        ([*accept, "--from", "none.safetensors"], "--from: none.safetensors does not exist"),
        ([*accept, "--sources", str(folder / "no.csv")], "no.csv does not exist"),
        ([*accept, "--pairs", "a,b,c"], "expected one folder, or two"),
        ([*accept, "--pairs", str(folder / "empty")], "holds no image file"),
        ([*accept, "--baseline", str(folder / "empty")], "manifest.json"),
        ([*accept, "--recipe", "tinny"], "did you mean tiny?"),
        ([*accept, "--recipe", "default"], "default.toml has [[tools]]"),
        ([*accept, "--recipe", "paired_x4_244"], "has data.pairs"),
        ([*accept, "--recipe", "own_tiles"], "SEMSR_VGG16"),
        ([*accept, "--set", "optimization.stepz=1"], "did you mean steps?"),
        ([*accept, "--set", "optimization.steps=1"], "give --steps N"),
        ([*accept, "--set", 'data.lr=["x"]'], "semsr accept sets it itself"),
        (["align", *lr, "--hr", str(folder / "empty"), "--out", str(folder / "new")],
         "holds no image file"),
        (["align", *lr, "--hr", str(folder / "data" / "*.tif"), "--out", str(folder / "new")],
         "matches no image file"),
        ([*align, str(folder / "run")], "holds no alignment.json"),
        ([*align, str(folder / "new"), "--match", "contents"], "did you mean content?"),
        ([*align, str(folder / "new"), "--scale", "0"], "expected 1 to 8"),
        ([*align, str(folder / "new"), "--max-shift-px", "500"], "expected 1 to 128"),
        ([*align, str(folder / "new"), "--window", "5,5"], "LO < HI"),
        (["train", "tinny", *data], "no recipe 'tinny'; did you mean tiny?"),
        (["train", "tiny", "--data", str(folder / "dta")], "does not exist"),
        (["train", "tiny", *data, "--set", "optimization.stepz=1"], "did you mean steps?"),
        (["train", "tiny", *data, "--set", "optimization.steps=0"], "greater than or equal to 1"),
        (["train", "tiny", *data, "--set", "generator.name=rep"], "unknown generator 'rep'"),
        (["train", "tiny", *data, "--set", 'data.hr=["hrr"]'], "no image file matches 'hrr'"),
        (["train", "tiny", *data, "--run", str(folder / "run")], "already holds a run"),
        (["train", "tiny", *data, "--run", str(folder / "empty"), "--resume"], "no run to resume"),
        (["train", "tiny", *data, "--resume", "--overwrite"], "give one"),
        (["train", "tiny", *data, "--from", str(folder / "point.safetensors")], "does not exist"),
        (["train", "tiny", *data, "--from", str(folder)], "is a folder, expected a file"),
        (["train", "tiny", *data, "--stes", "3"], "unrecognized arguments: --stes"),
        (
            ["train", "f_lsesim", *data, "--set", 'data.hr=["hr"]', "--set", 'data.lr=["lr"]',
             "--vgg16", str(folder / "no.pt")],
            "no.pt does not exist",
        ),
        (["evaluate"], "nothing to evaluate on"),
        (["evaluate", *bundle, *data], "is not a benchmark"),
        (["evaluate", *bundle, "--lr", str(folder / "empty")], "holds no image file"),
        (["evaluate", *bundle, "--hr", str(folder / "data" / "hr")], "give --lr FOLDER too"),
        (["evaluate", "--bundle", str(folder / "bundles"), *lr], f"did you mean {folder}/bundle?"),
        (["evaluate", *bundle, *lr, "--engine", "onx"], "did you mean onnx?"),
        (["evaluate", *bundle, *lr, "--split", "tset"], "did you mean test?"),
        (["evaluate", *bundle, *lr, "--window", "9,3"], "LO < HI"),
        (["evaluate", *bundle, *lr, "--limit", "0"], "expected at least 1"),
        (["evaluate", *bundle, *lr, "--detector", str(folder / "none")], "does not exist"),
        (["evaluate", "--images", f"a={folder}/none", *lr], "finished pictures does not exist"),
        (["evaluate", *bundle, *lr, "--report", str(TINY_BUNDLE / "manifest.json")], "is a file"),
        ([*reference, "--data", str(folder / "data")], "benchmark.json is missing"),
        ([*reference, "--data", str(folder / "dta")], f"did you mean {folder}/data?"),
        (["evaluate-trust", *bundle, *data], "benchmark.json is missing"),
        (["evaluate-trust", *bundle, "--data", str(folder / "none")], "does not exist"),
        ([*export[:1], str(folder / "checkpoint-safetensors"), *export[2:]], "did you mean"),
        ([*export[:3], str(folder / "bundle")], "already holds a bundle"),
        ([*export[:3], str(folder / "data"), "--overwrite"], "is not a bundle"),
        ([*export, "--tile", "240"], "expected two integers"),
        ([*export, "--window", "5,5"], "LO < HI"),
        ([*export, "--max-batch-size", "0"], "expected at least 1"),
        ([*export, "--precision", "int8"], "--calibration FOLDER"),
        ([*export, "--int8-psnr", "30"], "expected at least 45"),
        ([*export, "--precision", "bf16"], "--benchmark DIR"),
        ([*export, "--precision", "fp61"], "did you mean fp16?"),
        ([*export, "--domain", str(folder / "none")], "does not exist"),
        ([*export, "--clean", str(folder / "data" / "lr")], "--domain FOLDER"),
        ([*simulate, "--splits", "train"], "did you mean train_lr?"),
        ([*simulate, "--jobs", "0"], "expected at least 1"),
        ([*simulate[:4], "-1"], "expected at least 0"),
        ([*simulate, "--tiles", "2", "--scale", "3"], "expected 1, 2 or 4"),
        ([*simulate, "--tiles", "2", "--tiff", "3"], "expected 0 to --tiles"),
        ([*simulate, "--truth"], "need --tiles COUNT"),
        ([*internal, "--lr", str(folder / "data" / "lr"), *data], "either --data BENCHMARK or"),
        (internal, "either --data BENCHMARK or --lr FOLDER"),
        ([*internal, *data], "benchmark.json is missing"),
        ([*internal, "--lr", str(folder / "empty")], "holds no image file"),
        ([*internal, *lr, "--scales", "3"], "expected one of 2, 4, 2,4"),
        ([*internal, *lr, "--steps", "0"], "steps: Input should be greater than or equal to 1"),
        ([*internal, *lr, "--stop", "0.1"], "expected less than the start rate"),
        ([*internal, *lr, "--split", "test"], "it needs --data"),
        ([*internal, *data, "--window", "0,9"], "it needs --lr"),
        ([*internal, *lr, "--tiles-together", "0"], "expected at least 1"),
        ([*internal, *lr, "--limit", "0"], "expected at least 1"),
        ([*internal, *lr, "--configuration", "idea"], "did you mean ideal?"),
        ([*internal[:2], str(folder / "empty" / ".." / "data" / "lr"), *lr], "expected another"),
        ([*internal[:2], str(folder / "run"), *lr], "is not empty and has no semsr-pictures.json"),
        (["train-detector", "--out", str(folder / "empty"), "--seed", "1", "--resume"], "no run"),
        (["train-detector", "--out", str(folder / "new"), "--seed", "1", "--crop-px", "50"],
         "expected a multiple of 32"),
        (["translate", "--checkpoint", str(folder / "checkpoint.safetensors"), "--images",
          str(folder / "empty"), "--out", str(folder / "new")], "holds no image file"),
        (["demo", "--out", str(TINY_BUNDLE / "manifest.json" / "new")], "manifest.json is a file"),
        (["bench", "engine", "--no-peak", "--plot", str(folder / "data")], "is a folder, expected"),
        (["bench", "schedule", "--cost-ms", "1=5", "--plot", str(folder / "data")], "is a folder"),
        (["train-detector", "--out", str(folder / "new"), "--seed", "1", "--crop-px", "992"],
         "up to 960"),
    ]  # fmt: skip


def test_wrong_arguments_are_answered_before_anything_large_is_loaded(folder: Path) -> None:
    """One process answers all of them and has imported neither torch nor an engine at the end."""
    wrong = cases(folder)
    environment = {k: v for k, v in os.environ.items() if not k.startswith("SEMSR_")}

    result = subprocess.run(
        [sys.executable, "-c", RUN],
        input=json.dumps([arguments for arguments, _ in wrong]),
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )

    answers = json.loads(result.stdout)
    for (arguments, words), (code, said, heavy) in zip(wrong, answers, strict=True):
        assert words in said, (arguments, said)
        assert 2 == code, (arguments, said)
        assert [] == heavy, arguments
    assert not (folder / "new").exists()
    assert not (folder / "sim").exists()


def test_without_torch_the_commands_name_the_development_environment(folder: Path) -> None:
    """In the serving environment every command of training says how to get what it needs."""
    lines = [
        ["train", "tiny", "--data", str(folder / "data")],
        ["evaluate", "--lr", str(folder / "data" / "lr")],
        ["evaluate-trust", "--data", str(folder / "data")],
        ["align", "--lr", "lr", "--hr", "hr", "--out", str(folder / "new")],
        ["export", str(folder / "checkpoint.safetensors"), "--out", str(folder / "new")],
        ["simulate", "--out", str(folder / "sim"), "--seed", "1"],
        ["reference-sr", "--data", "a", "--checkpoint", "b", "--reference", "own", "--out", "c"],
        ["train-detector", "--out", str(folder / "new"), "--seed", "1"],
        ["accept", "a", "b", "--out", str(folder / "new")],
        ["internal-sr", "--lr", str(folder / "data" / "lr"), "--out", str(folder / "new")],
        ["translate", "--checkpoint", "a", "--images", "b", "--out", str(folder / "new")],
    ]
    hidden = (
        "import importlib.util as u; find = u.find_spec\n"
        "u.find_spec = lambda name, *a: None if name in ('torch', 'scipy') else find(name, *a)\n"
    )

    result = subprocess.run(
        [sys.executable, "-c", hidden + RUN],
        input=json.dumps(lines),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )

    for arguments, (code, said, _) in zip(lines, json.loads(result.stdout), strict=True):
        assert 2 == code, said
        assert "make install-dev" in said, (arguments, said)
