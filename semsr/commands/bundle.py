"""`semsr bundle`: verify a bundle and show what it holds, or build its TensorRT plans."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from semsr.commands.options import (
    Commands,
    UsageError,
    add_command,
    compute_capability,
    group_of,
    print_rows,
)

if TYPE_CHECKING:
    from bundle_format.bundle import Bundle, TrustRecord

Precision = Literal["fp32", "fp16"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
"""Precisions that TensorRT runs."""


def add(commands: Commands) -> None:
    """Declare the subcommands."""
    actions = group_of(
        commands,
        "bundle",
        help="verify a bundle and show what it holds, or build its TensorRT plans",
        default_command="show",
        examples=["semsr bundle bundles/default", "semsr bundle build-plans bundles/default"],
    )
    show = add_command(
        actions,
        "show",
        help="verify a bundle and show what it holds (the same as `semsr bundle PATH`)",
        examples=[
            "semsr bundle",
            "semsr bundle bundles/default",
            "semsr bundle bundles/default --json",
        ],
    )
    show.add_argument(
        "path", type=Path, nargs="?", help="folder of the bundle (default: SEMSR_BUNDLE)"
    )
    show.add_argument("--json", action="store_true", help="print rows as JSON")
    show.set_defaults(run=_show)
    plans = add_command(
        actions,
        "build-plans",
        help="build what the engine tensorrt runs on this machine; needs the extra gpu or rtx",
        examples=[
            "semsr bundle build-plans bundles/default",
            "semsr bundle build-plans bundles/default --precision fp16 --compute-capability 8.9",
        ],
    )
    plans.add_argument("path", type=Path, help="folder of the bundle")
    plans.add_argument(
        "--precision",
        nargs="+",
        choices=PRECISIONS,
        default=[],
        help="precisions to build (default: all of the bundle's)",
    )
    plans.add_argument(
        "--compute-capability",
        metavar="X.Y",
        help="compute capability of the GPU (default: that of this machine's SEMSR_DEVICE)",
    )
    plans.add_argument(
        "--plans", type=Path, help="folder for the plans (default: SEMSR_PLAN_CACHE)"
    )
    plans.add_argument("--json", action="store_true", help="print rows as JSON")
    plans.set_defaults(run=_build_plans)


def _show(options: argparse.Namespace) -> int:
    from bundle_format.bundle import load_bundle
    from bundle_format.shipped import shipped_bundles
    from service.settings import Settings

    bundle = load_bundle(options.path or Settings().bundle)
    manifest = bundle.manifest
    rows = [
        {
            "version": bundle.version,
            "folder": str(bundle.path),
            **manifest.model_dump(mode="json"),
        }
    ]
    height, width = manifest.tile
    text = "\n".join(
        [
            f"{manifest.name} {bundle.version}: every file matches its sha256",
            f"  folder     {bundle.path}",
            f"  generator  {manifest.generator.name} {manifest.generator.hyper_parameters}",
            f"  tile       {height}x{width}, scale {manifest.scale}, halo {manifest.halo_px} px, "
            f"grid {manifest.grid_px} px",
            f"  precision  {manifest.precision} (graphs: {', '.join(manifest.graphs)})",
            f"  answers    {'8 bits' if manifest.sixteen_bit is None else '8 and 16 bits'}",
            f"  batch      up to {manifest.max_batch_size}",
            f"  trust      {_trust(manifest.trust)}",
            *(
                f"  parity     {name}: max {figures.max_error:.0f}, mean "
                f"{figures.mean_error:.6f} grey levels"
                for name, figures in manifest.parity.items()
            ),
            *(f"  shipped    {path}" for path in shipped_bundles().values()),
        ]
    )
    print_rows(rows, text, as_json=options.json)
    return 0


def _trust(trust: "TrustRecord | None") -> str:
    if trust is None:
        return "no limits: residual and domain distance are not judged"
    tiles = " and ".join(str(domain.tiles) for domain in trust.domains)
    return (
        f"residual limit {trust.residual_limit:g} by {trust.clean_tiles} clean tiles, "
        f"domain of {tiles} tiles"
    )


def _build_plans(options: argparse.Namespace) -> int:
    from bundle_format.bundle import load_bundle

    rows = build_all_plans(
        load_bundle(options.path),
        precisions=options.precision,
        cache=options.plans,
        capability=options.compute_capability,
    )
    text = "\n".join(f"{row['precision']:<5} {row['mib']:>6} MiB  {row['plan']}" for row in rows)
    print_rows(rows, text, as_json=options.json)
    return 0


def build_all_plans(
    bundle: "Bundle",
    *,
    precisions: Sequence[Precision] = (),
    cache: Path | None = None,
    capability: str | None = None,
) -> list[dict[str, Any]]:
    """Build the plans of a bundle; return a row for each plan.

    Args:
        bundle: The verified bundle.
        precisions: Precisions to build; empty for all that TensorRT runs and the bundle has.
        cache: Folder of plans; None takes `SEMSR_PLAN_CACHE`.
        capability: Compute capability, such as 8.9; None asks the GPU.
    """
    from engines.tensorrt_plans import build_plans
    from semsr.progress import progress
    from service.settings import Settings

    settings = Settings()
    cache = cache or settings.plan_cache
    if cache is None:
        raise UsageError("no folder for plans: give --plans DIR or set SEMSR_PLAN_CACHE")
    number = compute_capability(capability, settings.device)
    wanted = precisions or [name for name in PRECISIONS if name in bundle.manifest.graphs]
    rows: list[dict[str, Any]] = []
    with progress("build-plans", len(wanted), unit="precision") as steps:
        for precision in wanted:
            steps.say(precision)
            for path in build_plans(bundle, precision, cache, compute_capability=number):
                mib = round(path.stat().st_size / 2**20, 1)
                rows.append({"precision": precision, "plan": str(path), "mib": mib})
            steps.update()
    sys.stderr.write(f"plans: {cache}\n")
    return rows
