"""`SEMSR_ENGINE=auto`: measure engines and precisions once on this machine, remember the fastest.

A candidate is an installed engine in one of the allowed precisions. Each is measured in a child
process, so that the serving process loads no runtime that it does not use. The choice is remembered
by bundle, processor, GPU, options (such as threads) and runtime versions, so a restart measures
nothing. Processes that start together wait for the first one's choice. A single candidate is chosen
without a measurement.

Answers in two precisions differ by a grey level in some pixels, so the choice must not depend on
the machine's load. A less exact precision must be faster by the factor `MIN_GAIN`. Where the choice
cannot be remembered, the options' precision is the only candidate.
"""

import contextlib
import fcntl
import hashlib
import importlib.metadata
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Generator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

from bundle_format.bundle import PRECISIONS, Bundle, Precision, load_bundle
from engines.cpu import cpu_model
from engines.cuda import gpu_name
from engines.measurement import measure
from engines.process import run_and_end, signal_at_parents_end
from engines.protocol import EngineError, EngineOptions
from engines.registry import ENGINES, device_kind, installed_engines, installed_module

FORMAT_VERSION = 2
# One measurement takes a few seconds; a runtime that hangs must not keep the service from starting.
MEASURE_TIMEOUT_S = 120.0

MIN_GAIN = 1.2
"""Factor by which a precision must be faster than a more exact one to be chosen in its place."""


@dataclass(frozen=True)
class Choice:
    """Engine and precision that run a bundle.

    Attributes:
        engine: Engine name.
        precision: Execution precision.
        tiles_per_s: Measured speeds, by engine and precision (`onnx fp32`); empty if nothing was.
    """

    engine: str
    precision: Precision
    tiles_per_s: dict[str, float]


Candidate = tuple[str, Precision]


def choose_engine(
    bundle: Bundle,
    options: EngineOptions,
    *,
    precisions: Sequence[Precision],
    cache_dir: Path | None,
) -> Choice:
    """Choose the fastest installed engine and precision for this bundle on this machine.

    Args:
        bundle: The verified bundle.
        options: Options of the service, such as threads and device; their precision is used where
            no choice can be remembered.
        precisions: Precisions to choose from.
        cache_dir: Folder for remembered choices; None measures every time.

    Raises:
        EngineError: No engine is installed, or none could be measured.
    """
    candidates = _candidates(precisions, options.device)
    with _memory(cache_dir, _key(bundle, options, candidates)) as memory:
        if memory is None:
            candidates = _candidates([options.precision], options.device)
        if not candidates:
            kind = device_kind(options.device)
            known = ", ".join(name for name, spec in ENGINES.items() if kind in spec.candidate_on)
            raise EngineError(
                f"no engine that runs {' or '.join(precisions)} on {options.device} is installed; "
                f"the engines are {known}"
            )
        if len(candidates) == 1:
            return Choice(*candidates[0], {})
        remembered = memory and _read_choice(memory, candidates)
        if remembered:
            return remembered
        speeds = _measure_all(candidates, bundle, options)
        engine, precision = _best(speeds)
        named = {" ".join(candidate): speed for candidate, speed in speeds.items()}
        choice = Choice(engine, precision, named)
        if memory:
            _write_choice(memory, choice)
        return choice


def _candidates(precisions: Sequence[Precision], device: str) -> list[Candidate]:
    """List the pairs of engine and precision, the most exact precision first."""
    wanted: list[Precision] = [name for name in PRECISIONS if name in precisions]
    if device == "cpu" and wanted != ["fp16"]:
        # On a CPU an FP16 graph is computed in FP32 between casts: right, and never the fastest.
        wanted = [name for name in wanted if name != "fp16"]
    return [
        (name, precision) for precision in wanted for name in installed_engines(precision, device)
    ]


def _measure_all(
    candidates: Sequence[Candidate], bundle: Bundle, options: EngineOptions
) -> dict[Candidate, float]:
    """Return the tiles per second of the measured candidates, in their order."""
    speeds: dict[Candidate, float] = {}
    failures: list[str] = []
    for name, precision in candidates:
        try:
            speed = _measure_in_child(name, bundle, replace(options, precision=precision))
        except EngineError as error:
            failures.append(str(error))
        else:
            speeds[name, precision] = speed
    if not speeds:
        raise EngineError("no engine could be measured: " + "; ".join(failures))
    return speeds


def _best(speeds: dict[Candidate, float]) -> Candidate:
    """Return the fastest candidate; a less exact one must be faster by the factor `MIN_GAIN`."""
    best: Candidate | None = None
    for candidate, speed in speeds.items():
        needed = 0.0
        if best is not None:
            needed = speeds[best] * (1.0 if best[1] == candidate[1] else MIN_GAIN)
        if best is None or speed > needed:
            best = candidate
    if best is None:
        raise ValueError("expected at least one speed")
    return best


@contextlib.contextmanager
def _memory(cache_dir: Path | None, key: str) -> Generator[Path | None]:
    """Yield the file of a choice, locked against other processes; None if it cannot be written."""
    with contextlib.ExitStack() as stack:
        path: Path | None = None
        if cache_dir is not None:
            with contextlib.suppress(OSError):
                cache_dir.mkdir(parents=True, exist_ok=True)
                lock = stack.enter_context((cache_dir / f"engine-{key}.lock").open("w"))
                fcntl.flock(lock, fcntl.LOCK_EX)  # until it is closed
                path = cache_dir / f"engine-{key}.json"
        yield path


def _measure_in_child(name: str, bundle: Bundle, options: EngineOptions) -> float:
    command = [
        sys.executable,
        "-m",
        "engines.auto",
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


def _key(bundle: Bundle, options: EngineOptions, candidates: Sequence[Candidate]) -> str:
    versions = [
        f"{name} {precision}={_version(installed_module(ENGINES[name]) or name)}"
        for name, precision in candidates
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


def _read_choice(path: Path, candidates: Sequence[Candidate]) -> Choice | None:
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
    found = (fields.get("engine"), fields.get("precision"))
    return next((Choice(*known, {}) for known in candidates if known == found), None)


def _write_choice(path: Path, choice: Choice) -> None:
    """Remember a choice; a cache that cannot be written only costs the next start some seconds."""
    content = {"format_version": FORMAT_VERSION, **asdict(choice)}
    try:
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
