"""Settings of models: bundles, engines, and how versions are replaced and tested."""

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode

from bundle_format.bundle import Precision
from bundle_format.shipped import default_bundle
from service.settings.user_folders import user_cache_dir

_MODEL_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")


class ModelSettings(BaseSettings):
    """Models and engines."""

    bundle: Path = Field(
        default_factory=default_bundle,
        description=(
            "Folder of the model bundle to serve. Unset: bundles/default in the working directory, "
            "or else the shipped bundle default of the installation."
        ),
    )
    bundles: Annotated[dict[str, Path], NoDecode] | None = Field(
        default=None,
        description=(
            "Several bundles instead of one: NAME=FOLDER,NAME=FOLDER…. A request selects a model "
            "with ?model=NAME; the first is the default."
        ),
    )
    engine: Literal["auto", "onnx", "openvino", "tensorrt", "torch", "identity"] = Field(
        default="auto",
        description=(
            "Runtime: onnx, openvino (extra), tensorrt (GPU; extra gpu or rtx, and plans, see "
            "SEMSR_PLAN_CACHE), torch (extra export; the reference), identity (nearest neighbour, "
            "to measure the service itself), or auto. auto measures the installed ones that run "
            "on the device (torch on a GPU alone) once, in each precision, and remembers the "
            "fastest."
        ),
    )
    device: Annotated[str, Field(pattern=r"^(cpu|cuda(:\d{1,3})?)$")] = Field(
        default="cpu",
        description=(
            "Device for inference: cpu, cuda (onnx with onnxruntime-gpu, tensorrt, torch), or "
            "cuda:N for one of several GPUs. With cuda, a single process takes the first GPU, and "
            "a pool all of them (SEMSR_ENGINE_PROCESSES)."
        ),
    )
    hint: Literal["latency", "throughput"] = Field(
        default="latency",
        description=(
            "openvino: performance hint. latency lets every batch use all threads; throughput "
            "runs several batches concurrently."
        ),
    )
    precision: Precision | None = Field(
        default=None,
        description=(
            "Execution precision. Unset: if SEMSR_ENGINE is auto, the fastest precision that "
            "passed the bundle's export gates, chosen and remembered with the engine; if an "
            "engine is named, the bundle's own (fp32). Replicas on different processors may "
            "choose differently: set the precision for them."
        ),
    )
    threads: Annotated[int, Field(ge=1, le=1024)] | None = Field(
        default=None,
        description=(
            "Number of CPU threads of the engine. Unset: all cores that CPU affinity and cgroup "
            "allow."
        ),
    )
    answer_bits: Literal[8, 16] = Field(
        default=8,
        description=(
            "Most bits of an answer. 16 also loads the bundle's 16-bit graph, for requests with "
            "X-Answer-Bits: 16. It takes memory; answers of 8 bits stay as they are."
        ),
    )
    max_batch_size: Annotated[int, Field(ge=1, le=256)] | None = Field(
        default=None,
        description=(
            "Maximum number of tiles in a batch. Unset: the bundle's own limit, on a CPU at most 4."
        ),
    )
    engine_timeout_s: Annotated[float, Field(gt=0)] = Field(
        default=120.0,
        description=(
            "Time limit in seconds for one batch. An engine that takes longer counts as hung, and "
            "the service exits with code 3 so that its supervisor or orchestrator restarts it."
        ),
    )
    load_from: Path | None = Field(
        default=None,
        description=(
            "Parent folder of the bundles that an admin may name when loading a model at runtime. "
            "Unset: only the models' current folders are allowed."
        ),
    )
    rollback_keep_s: Annotated[float, Field(ge=0, le=604_800)] = Field(
        default=3600.0,
        description=(
            "Time in seconds for which the previous version of a replaced model stays loaded, so "
            "that a rollback is instant. It uses memory meanwhile. 0 releases it immediately."
        ),
    )
    self_test_minutes: Annotated[float, Field(ge=0, le=10_080)] = Field(
        default=10.0,
        description=(
            "Interval in minutes between two self-tests with the golden tile on each serving "
            "engine; an engine that fails stops serving. 0 disables the test."
        ),
    )
    cache_dir: Path | None = Field(
        default_factory=user_cache_dir,
        description=(
            "Folder in which auto remembers its choice. Unset: semsr in the user's cache folder "
            "(XDG_CACHE_HOME or ~/.cache)."
        ),
    )
    plan_cache: Path | None = Field(
        default_factory=lambda: user_cache_dir("plans"),
        description=(
            "Folder of TensorRT plans, filled by `semsr bundle build-plans`. Unset: semsr/plans "
            "in the user's cache folder."
        ),
    )

    @field_validator("answer_bits", mode="before")
    @classmethod
    def _parse_bits(cls, value: object) -> object:
        # Environment variables are text, which a Literal of numbers does not take.
        return {"8": 8, "16": 16}.get(value, value) if isinstance(value, str) else value

    @field_validator("bundles", mode="before")
    @classmethod
    def _parse_bundles(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        bundles: dict[str, str] = {}
        for part in value.split(","):
            name, is_pair, folder = part.strip().partition("=")
            if not is_pair or not folder or not _MODEL_NAME.fullmatch(name) or name in bundles:
                raise ValueError(
                    f"{part.strip()!r} is invalid; expected NAME=FOLDER, each name once (letters, "
                    "digits, ._-, at most 64)"
                )
            bundles[name] = folder
        return bundles

    @model_validator(mode="after")
    def _check_one_source(self) -> "ModelSettings":
        if self.bundles is not None and "bundle" in self.model_fields_set:
            raise ValueError("SEMSR_BUNDLE and SEMSR_BUNDLES are both set; set one of them")
        return self

    def model_paths(self) -> dict[str, Path]:
        """Bundle folders by name of the model, the default one first; "" is named by its bundle."""
        return {"": self.bundle} if self.bundles is None else dict(self.bundles)
