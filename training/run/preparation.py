"""Needs of a run before its method is built: a device, ranges, weights to start from, a bank.

Each is found once and kept in the run's folder, so that a resumed run has the same.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import torch

from models import build_network
from training.config.degradation import DegradationConfig
from training.config.recipe import OptimizationConfig, Recipe
from training.data.bank import Bank, content_of, open_bank
from training.data.datasets import KnownTool, ToolImages
from training.data.estimation import estimate_degradation
from training.ground.progress import progress
from training.ground.whole_file import write_whole_text
from training.losses.features import load_vgg16
from training.run.folder import RunDir
from training.run.warm_start import WarmStart, load_warm_start

NATIVE_BF16 = ("avx512_bf16", "amx_bf16", "bf16")
"""Names that torch has for processors that compute in bfloat16: x86 by vectors or tiles, Arm."""


class DeviceError(RuntimeError):
    """The recipe's device does not exist on this machine."""


def check_machine(recipe: Recipe, *, vgg16: Path | None) -> None:
    """Check the machine early for problems that would otherwise stop the run minutes later."""
    if recipe.optimization.device == "cuda" and not torch.cuda.is_available():
        raise DeviceError(
            "optimization.device is 'cuda', but torch finds no GPU on this machine; train on the "
            "CPU by --set optimization.device=cpu, or run it where there is one"
        )
    build_network(recipe.generator.name, recipe.generator.hyper_parameters)
    if taps := recipe.method.vgg16_taps:
        with progress("checking the feature network"):
            load_vgg16(vgg16, taps=taps)


def is_mixed(options: OptimizationConfig) -> bool:
    """Whether steps run in mixed precision; asks the machine where the recipe leaves it open."""
    if options.precision != "auto":
        return options.precision == "bf16"
    if options.device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return any(torch.cpu.get_capabilities().get(name, False) for name in NATIVE_BF16)


def warm_start_of(recipe: Recipe, folder: RunDir) -> WarmStart | None:
    """Load what the run in a folder starts from; None where from fresh weights."""
    facts = folder.read_start()
    if facts is None:
        return None
    return load_warm_start(
        folder.start_weights, generator=recipe.generator, file_name=facts["file"]
    )


def known_tool(tool: ToolImages, *, recipe: Recipe, folder: RunDir) -> KnownTool:
    """Return a tool with its degradation; an estimate is made once per run and then reused."""
    fields = {field.name: getattr(tool, field.name) for field in dataclasses.fields(tool)}
    if tool.degradation != "estimate":
        return KnownTool(**fields)
    file = folder.degradation_of(tool.name)
    if file.is_file():
        found = DegradationConfig.model_validate_json(file.read_text(encoding="utf-8"))
        return KnownTool(**{**fields, "degradation": found})
    estimate = estimate_degradation(
        [image.pixels for image in tool.lr],
        [image.pixels for image in tool.hr],
        scale=recipe.scale,
        seed=recipe.optimization.seed,
    )
    write_whole_text(file, estimate.config.model_dump_json(indent=2) + "\n")
    return KnownTool(**{**fields, "degradation": estimate.config})


def bank_of(
    recipe: Recipe,
    tools: Sequence[ToolImages],
    known: Sequence[KnownTool],
    *,
    folder: RunDir,
    given: Path | None,
) -> Bank | None:
    """Open or make the bank that a run draws from; None where it uses none.

    Args:
        recipe: Resolved recipe.
        tools: Images of the tools, with their ranges as the recipe has them.
        known: The same with their ranges as estimated.
        folder: Folder of the run.
        given: Folder of the bank, where it is named; a resumed run knows its own.

    Raises:
        BankError: The bank is damaged, or another recipe's.
        ConfigError: A resumed run was started with another bank.
        WorkerError: An image could not be made.
    """
    facts = folder.read_bank()
    if facts is None:
        return None
    bank = open_bank(
        given or Path(facts["folder"]),
        content_of(recipe, tools),
        images={tool.name: tool.hr for tool in tools},
        degradations={tool.name: tool.degradation for tool in known},
        workers=recipe.optimization.loader_workers,
    )
    folder.keep_bank(bank.folder, bank.describe()["sha256"])
    return bank
