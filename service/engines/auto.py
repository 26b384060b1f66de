"""`SEMSR_ENGINE=auto`: measure the engines once on this machine and remember the fastest.

Only engines of the bundle's precision whose runtime is installed compete. Each is measured in a
child process, so that the serving process never loads a runtime that it does not use and never
carries another runtime's threads. The choice is remembered by bundle, processor, GPU, core count
and runtime versions; a restart finds it and measures nothing. With one candidate nothing is
measured.
"""

import hashlib
import importlib.metadata
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import numpy as np

from export.bundle import Bundle, load_bundle
from service.engines import (
    ENGINES,
    EngineError,
    EngineOptions,
    device_kind,
    installed_engines,
    installed_module,
    load_engine,
)
from service.engines.cpu import cpu_model
from service.engines.cuda import gpu_name
from service.engines.golden import verify_golden
from service.process import run_and_end, signal_at_parents_end

FORMAT_VERSION = 1
# One measurement takes a few seconds; a runtime that hangs must not keep the service from starting.
MEASURE_TIMEOUT_S = 120.0
MEASURE_SECONDS = 1.5


def choose_engine(
    bundle: Bundle, options: EngineOptions, *, cache_dir: Path | None
) -> tuple[str, dict[str, float]]:
    """Name the fastest installed engine for this bundle on this machine.

    Args:
        bundle: The verified bundle.
        options: Precision and threads that the service will use.
        cache_dir: Where choices are remembered; None measures every time.

    Returns:
        The engine's name, and tiles per second by engine (empty if nothing was measured).

    Raises:
        EngineError: No engine is installed, or none could be measured.
    """
    candidates = installed_engines(options.precision, options.device)
    if not candidates:
        known = ", ".join(name for name, spec in ENGINES.items() if spec.is_candidate)
        raise EngineError(
            f"no engine that runs {options.precision} on {options.device} is installed; "
            f"the engines are {known}"
        )
    if len(candidates) == 1:
        return candidates[0], {}
    remembered = cache_dir and cache_dir / f"engine-{_key(bundle, options, candidates)}.json"
    if remembered:
        choice = _read_choice(remembered, candidates)
        if choice is not None:
            return choice, {}
    speeds: dict[str, float] = {}
    failures: list[str] = []
    for name in candidates:
        try:
            speeds[name] = _measure_in_child(name, bundle, options)
        except EngineError as error:
            failures.append(str(error))
    if not speeds:
        raise EngineError("no engine could be measured: " + "; ".join(failures))
    best = max(speeds, key=lambda name: speeds[name])
    if remembered:
        _write_choice(remembered, best, speeds)
    return best, speeds


def measure(name: str, bundle: Bundle, options: EngineOptions) -> float:
    """Measure one engine in this process, one tile at a time.

    Returns:
        Tiles per second, from the median time of a call.
    """
    engine = load_engine(name, bundle, options)
    # A fast engine that computes something else must lose here, not at every start.
    verify_golden(engine, bundle)
    height, width = bundle.manifest.tile
    lr = np.zeros((1, 1, height, width), dtype=np.uint8)
    engine.run(lr)
    times_s: list[float] = []
    end_s = time.monotonic() + MEASURE_SECONDS
    while time.monotonic() < end_s or len(times_s) < 3:
        start_s = time.perf_counter()
        engine.run(lr)
        times_s.append(time.perf_counter() - start_s)
    return 1 / statistics.median(times_s)


def _measure_in_child(name: str, bundle: Bundle, options: EngineOptions) -> float:
    command = [
        sys.executable,
        "-m",
        "service.engines.auto",
        str(bundle.path),
        name,
        json.dumps(asdict(options)),
        str(os.getpid()),
    ]
    try:
        child = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=MEASURE_TIMEOUT_S,
            check=False,
            # Ctrl-C on a terminal would reach it too, and its engine would lose by that.
            process_group=0,
        )
    except subprocess.TimeoutExpired as error:
        raise EngineError(f"engine {name!r} took over {MEASURE_TIMEOUT_S:.0f} s") from error
    lines = child.stdout.strip().splitlines()
    if child.returncode != 0 or not lines:
        reason = child.stderr.strip().splitlines()[-1:] or [f"exit code {child.returncode}"]
        raise EngineError(f"engine {name!r} cannot be measured: {reason[0]}")
    return float(json.loads(lines[-1])["tiles_per_s"])


def _key(bundle: Bundle, options: EngineOptions, candidates: list[str]) -> str:
    versions = [
        f"{name}={_version(installed_module(ENGINES[name]) or name)}" for name in candidates
    ]
    gpu = "" if device_kind(options.device) == "cpu" else gpu_name(options.device)
    parts = [bundle.digest, cpu_model(), gpu, json.dumps(asdict(options)), *versions]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:24]


def _version(module: str) -> str:
    """Version of the package that a module comes from; several packages hold `onnxruntime`."""
    try:
        return importlib.metadata.version(module)
    except importlib.metadata.PackageNotFoundError:
        packages = importlib.metadata.packages_distributions().get(module, [])
        return ",".join(f"{name} {importlib.metadata.version(name)}" for name in packages)


def _read_choice(path: Path, candidates: list[str]) -> str | None:
    """Read a remembered choice; anything unreadable or unknown means measuring again."""
    try:
        choice: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(choice, dict):
        return None
    fields = cast("dict[str, Any]", choice)
    if fields.get("format_version") != FORMAT_VERSION:
        return None
    name = fields.get("engine")
    return name if name in candidates else None


def _write_choice(path: Path, name: str, speeds: dict[str, float]) -> None:
    """Remember a choice; a cache that cannot be written only costs the next start some seconds."""
    content = {"format_version": FORMAT_VERSION, "engine": name, "tiles_per_s": speeds}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            "w", dir=path.parent, suffix=".tmp", delete=False, encoding="utf-8"
        ) as file:
            json.dump(content, file)
        Path(file.name).replace(path)
    except OSError:
        return


def _main(arguments: list[str]) -> int:
    path, name, options, parent = arguments
    signal_at_parents_end(signal.SIGKILL, parent=int(parent))
    try:
        speed = measure(name, load_bundle(Path(path)), EngineOptions(**json.loads(options)))
    except EngineError as error:
        sys.stderr.write(f"{error}\n")  # the parent shows the last line
        return 1
    sys.stdout.write(json.dumps({"tiles_per_s": speed}) + "\n")
    return 0


if __name__ == "__main__":
    run_and_end(lambda: _main(sys.argv[1:]))
