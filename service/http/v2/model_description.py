"""The description of a model in the Open Inference Protocol: its tensors and its configuration.

Source: the Open Inference Protocol (REST) for the metadata; for the configuration the JSON form of
`ModelConfig` in Triton's model_config.proto, as its model configuration extension answers it.
Clients read from it how large a batch may be, what kind of scheduler runs, and which tensors are
optional.
"""

from typing import Any

from bundle_format.bundle import FLAGS, Manifest
from service.http.v2.protocol import DATATYPES, INPUT, OUTPUTS

PLATFORM = "onnx_onnxv1"
# Values of a request's parameter `priority`: 1 online, from 2 on nightly; 0 is the default.
_PRIORITY_LEVELS, _DEFAULT_PRIORITY = 2, 1


def model_metadata(manifest: Manifest, *, name: str, version: str) -> dict[str, Any]:
    """Describe a model's tensors: -1 stands for any number."""
    return {
        "name": name,
        "versions": [version],
        "platform": PLATFORM,
        "inputs": [{"name": INPUT, "datatype": "UINT8", "shape": [-1, *_input_dims(manifest)]}],
        "outputs": [
            {"name": output, "datatype": DATATYPES[output], "shape": [-1, *dims]}
            for output, dims in _output_dims(manifest).items()
        ],
    }


def model_config(
    manifest: Manifest, *, name: str, engine: str, max_batch_size: int, has_gpu: bool, count: int
) -> dict[str, Any]:
    """Describe a model as Triton's configuration does.

    Args:
        manifest: Manifest of its bundle.
        name: Name of the model.
        engine: Name of the engine that runs it.
        max_batch_size: Maximum batch size that the service forms, in tiles. Requests may have more
            tiles; Triton's clients do not send more.
        has_gpu: Whether it runs on a GPU.
        count: Number of engines that run it concurrently.

    Returns:
        `ModelConfig` as JSON. Dimensions are those of one tile, without the batch's.
    """
    return {
        "name": name,
        "platform": PLATFORM,
        "backend": engine,
        "runtime": "",
        "version_policy": {"latest": {"num_versions": 1}},
        "max_batch_size": max_batch_size,
        "input": [
            {
                "name": INPUT,
                "data_type": "TYPE_UINT8",
                "format": "FORMAT_NONE",
                "dims": _input_dims(manifest),
                "is_shape_tensor": False,
                "allow_ragged_batch": False,
                "optional": False,
                "is_non_linear_format_io": False,
            }
        ],
        "output": [
            {
                "name": output,
                "data_type": f"TYPE_{DATATYPES[output]}",
                "dims": dims,
                "label_filename": "",
                "is_shape_tensor": False,
                "is_non_linear_format_io": False,
            }
            for output, dims in _output_dims(manifest).items()
        ],
        "batch_input": [],
        "batch_output": [],
        "optimization": {
            "priority": "PRIORITY_DEFAULT",
            "input_pinned_memory": {"enable": False},
            "output_pinned_memory": {"enable": False},
            "gather_kernel_buffer_threshold": 0,
            "eager_batching": False,
        },
        "dynamic_batching": {
            "preferred_batch_size": [],
            "max_queue_delay_microseconds": 0,
            "preserve_ordering": False,
            "priority_levels": _PRIORITY_LEVELS,
            "default_priority_level": _DEFAULT_PRIORITY,
            "priority_queue_policy": {},
        },
        "instance_group": [
            {
                "name": name,
                "kind": "KIND_GPU" if has_gpu else "KIND_CPU",
                "count": count,
                "gpus": [],
                "secondary_devices": [],
                "profile": [],
                "passive": False,
                "host_policy": "",
            }
        ],
        "default_model_filename": "",
        "cc_model_filenames": {},
        "metric_tags": {},
        "parameters": {
            "scale": {"string_value": str(manifest.scale)},
            "halo_px": {"string_value": str(manifest.halo_px)},
        },
        "model_warmup": [],
        "model_transaction_policy": {"decoupled": False},
    }


def _input_dims(manifest: Manifest) -> list[int]:
    return [1, *manifest.tile]


def _output_dims(manifest: Manifest) -> dict[str, list[int]]:
    height, width = manifest.tile
    dims = {"sr": [1, manifest.scale * height, manifest.scale * width], "flags": [len(FLAGS)]}
    return {output: dims[output] for output in OUTPUTS}
