"""`semsr bundle`: verify a bundle and show what it holds."""

import argparse
from pathlib import Path

from semsr.commands.options import Commands, print_rows


def add(commands: Commands) -> None:
    """Declare the subcommand."""
    parser = commands.add_parser("bundle", help="verify a bundle and show what it holds")
    parser.add_argument("path", type=Path)
    parser.add_argument("--json", action="store_true", help="print the manifest as JSON")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from export.bundle import load_bundle

    bundle = load_bundle(options.path)
    manifest = bundle.manifest
    rows = [{"version": bundle.version, **manifest.model_dump(mode="json")}]
    height, width = manifest.tile
    text = "\n".join(
        [
            f"{manifest.name} {bundle.version}: every file matches its sha256",
            f"  generator  {manifest.generator.name} {manifest.generator.hyper_parameters}",
            f"  tile       {height}x{width}, scale {manifest.scale}, halo {manifest.halo_px} px",
            f"  precision  {manifest.precision} (graphs: {', '.join(manifest.graphs)})",
            f"  batch      up to {manifest.max_batch_size}",
            *(
                f"  parity     {name}: max {figures.max_error:.0f}, mean "
                f"{figures.mean_error:.6f} grey levels"
                for name, figures in manifest.parity.items()
            ),
        ]
    )
    print_rows(rows, text, as_json=options.json)
    return 0
