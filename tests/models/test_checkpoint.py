"""Checkpoints: bad files are refused with a message that says what is wrong."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from models import (
    GENERATORS,
    CheckpointError,
    Generator,
    UnknownGeneratorError,
    build_generator,
    load_generator,
    save_network,
)


@pytest.fixture
def generator() -> Generator:
    """Build a small network."""
    torch.manual_seed(0)
    return build_generator("rep_sr", {"channels": 4, "num_blocks": 1})


@pytest.fixture
def checkpoint(generator: Generator, tmp_path: Path) -> Path:
    """Save the small network."""
    path = tmp_path / "checkpoint.safetensors"
    save_network(path, generator, training={"steps": 1})
    return path


def _rewrite(
    path: Path,
    *,
    metadata: dict[str, str | None] | None = None,
    tensors: dict[str, torch.Tensor | None] | None = None,
) -> None:
    """Change metadata and tensors of a checkpoint; None removes an entry."""
    with safe_open(path, framework="pt") as file:
        all_metadata: dict[str, str | None] = dict(file.metadata())
        all_tensors: dict[str, torch.Tensor | None] = {
            name: file.get_tensor(name) for name in file.offset_keys()
        }
    all_metadata.update(metadata or {})
    all_tensors.update(tensors or {})
    save_file(
        {name: tensor for name, tensor in all_tensors.items() if tensor is not None},
        path,
        metadata={key: value for key, value in all_metadata.items() if value is not None},
    )


def test_metadata_is_the_documented_contract(checkpoint: Path) -> None:
    """The header holds exactly the four documented strings, JSON where promised."""
    with safe_open(checkpoint, framework="pt") as file:
        metadata = file.metadata()

    assert {"format_version", "generator", "hyper_parameters", "training"} == set(metadata)
    assert "1" == metadata["format_version"]
    assert "rep_sr" == metadata["generator"]
    assert {"channels": 4, "num_blocks": 1, "scale": 4, "expansion": 2} == json.loads(
        metadata["hyper_parameters"]
    )
    assert {"steps": 1} == json.loads(metadata["training"])


def test_equal_content_gives_equal_bytes(generator: Generator, tmp_path: Path) -> None:
    """The library orders metadata by chance; a digest must not depend on it."""
    for number in range(8):
        save_network(tmp_path / f"{number}.safetensors", generator, training={"steps": 1})

    assert 1 == len({path.read_bytes() for path in tmp_path.glob("*.safetensors")})


def test_file_mode_follows_the_umask(checkpoint: Path, tmp_path: Path) -> None:
    """A checkpoint is as readable as any other file that the user writes."""
    other = tmp_path / "other"
    other.write_bytes(b"")

    assert other.stat().st_mode == checkpoint.stat().st_mode


def test_loaded_generator_is_ready_to_use(checkpoint: Path) -> None:
    """Loading gives the network in eval mode."""
    loaded, _ = load_generator(checkpoint)

    assert not loaded.training


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"format_version": "2"}, "format version '2'.*reads '1'"),
        ({"format_version": None}, "format version None"),
        ({"training": None}, "lacks the metadata training"),
        ({"hyper_parameters": "{"}, "'hyper_parameters' is not JSON"),
        ({"training": "[1]"}, "'training' must be a JSON object, got list"),
    ],
)
def test_wrong_metadata_is_refused(
    checkpoint: Path, metadata: dict[str, str | None], message: str
) -> None:
    """A header that is not the contract's is named, not guessed around."""
    _rewrite(checkpoint, metadata=metadata)

    with pytest.raises(CheckpointError, match=message):
        load_generator(checkpoint)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"tail.bias": None}, r"missing tensors \['tail.bias'\], unexpected \[\]"),
        ({"spare": torch.zeros(1)}, r"missing tensors \[\], unexpected \['spare'\]"),
        ({"tail.bias": torch.zeros(3)}, r"'tail.bias' is \(3,\).*needs \(16,\)"),
        ({"tail.bias": torch.zeros(16).double()}, r"torch.float64, the network needs .*float32"),
        ({"tail.bias": torch.zeros(16).int()}, r"torch.int32, the network needs .*float32"),
    ],
)
def test_tensors_that_do_not_fit_are_refused(
    checkpoint: Path, tensors: dict[str, torch.Tensor | None], message: str
) -> None:
    """Missing, extra, misshapen or retyped tensors are never silently accepted."""
    _rewrite(checkpoint, tensors=tensors)

    with pytest.raises(CheckpointError, match=message):
        load_generator(checkpoint)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_weights_in_half_precision_are_loaded_as_float32(
    checkpoint: Path, generator: Generator, dtype: torch.dtype
) -> None:
    """A file of half the size gives a float32 network with exactly the values that it stores."""
    stored = {name: tensor.to(dtype) for name, tensor in generator.state_dict().items()}
    _rewrite(checkpoint, tensors=dict(stored))

    loaded, _ = load_generator(checkpoint)

    for name, tensor in loaded.state_dict().items():
        assert torch.float32 == tensor.dtype, name
        assert torch.equal(stored[name].float(), tensor), name


def test_unknown_generator_is_refused(checkpoint: Path) -> None:
    """A name that the registry lacks is an error that lists the known ones."""
    _rewrite(checkpoint, metadata={"generator": "rep_sr_2"})

    known = ", ".join(sorted(GENERATORS))

    with pytest.raises(UnknownGeneratorError, match=f"'rep_sr_2'; known ones are: {known}$"):
        load_generator(checkpoint)


def test_foreign_hyper_parameters_are_refused(checkpoint: Path) -> None:
    """Arguments that the constructor does not take are named."""
    _rewrite(checkpoint, metadata={"hyper_parameters": '{"depth": 3}'})

    with pytest.raises(UnknownGeneratorError, match="depth"):
        load_generator(checkpoint)


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"\x80\x04N."])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    """Empty files, text and pickles are not safetensors."""
    path = tmp_path / "checkpoint.safetensors"
    path.write_bytes(content)

    with pytest.raises(CheckpointError, match="not a safetensors file"):
        load_generator(path)


def test_truncated_file_is_refused(checkpoint: Path) -> None:
    """Half a checkpoint is an error, not a network with some zeros."""
    checkpoint.write_bytes(checkpoint.read_bytes()[:-100])

    with pytest.raises(CheckpointError, match="not a safetensors file"):
        load_generator(checkpoint)


def test_missing_file_is_named(tmp_path: Path) -> None:
    """A path that does not exist is the usual FileNotFoundError with the path."""
    with pytest.raises(FileNotFoundError, match=r"no checkpoint at .*nothing\.safetensors"):
        load_generator(tmp_path / "nothing.safetensors")


def test_a_failed_save_keeps_the_old_checkpoint(checkpoint: Path, generator: Generator) -> None:
    """A description that is not JSON is refused before anything is written."""
    before = checkpoint.read_bytes()

    with pytest.raises(CheckpointError, match="not JSON"):
        save_network(checkpoint, generator, training={"loss": float("nan")})

    assert before == checkpoint.read_bytes()
    assert [checkpoint] == list(checkpoint.parent.iterdir())


def test_unregistered_network_is_refused(tmp_path: Path) -> None:
    """A network that no name can rebuild must not be saved."""

    class Enlarge(Generator):
        def forward(self, lr: torch.Tensor) -> torch.Tensor:
            return lr

        def merged(self) -> torch.nn.Module:
            return self

    with pytest.raises(CheckpointError, match="Enlarge is not in the registry"):
        save_network(tmp_path / "checkpoint.safetensors", Enlarge(), training={})
