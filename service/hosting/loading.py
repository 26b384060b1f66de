"""Loads models: verifies the bundle, chooses the engine, proves it and warms it up."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import structlog

from bundle_format.bundle import Bundle, Precision, load_bundle
from engines.auto import choose_engine
from engines.cpu import available_cpus
from engines.golden import verify_golden, warm_up
from engines.protocol import Engine, EngineError, EngineOptions
from engines.registry import largest_batch
from service.ground.daemon_thread import in_daemon_thread
from service.ground.errors import Forbidden
from service.settings import Settings

log = structlog.get_logger()

EngineLoader = Callable[[str, Bundle, EngineOptions], Engine]


@dataclass(frozen=True)
class LoadedModel:
    """A bundle and the engine that runs it.

    Attributes:
        bundle: The verified bundle.
        engine: The warm engine.
        batch_s: Measured seconds by batch size, up to the largest batch that the service forms.
    """

    bundle: Bundle
    engine: Engine
    batch_s: dict[int, float]

    @property
    def max_batch_size(self) -> int:
        """Largest batch that the service forms."""
        return max(self.batch_s)

    @property
    def name(self) -> str:
        """Name in answers and metrics; `identity` does not run the bundle's model."""
        return "identity" if self.engine.name == "identity" else self.bundle.manifest.name


def fp32_options(settings: Settings) -> EngineOptions:
    """Return the options of a graph that runs in FP32, on the settings' device and threads."""
    return EngineOptions(
        precision="fp32", threads=settings.threads or available_cpus(), device=settings.device
    )


def resolve_engine(
    bundle: Bundle, settings: Settings, *, name: str | None = None
) -> tuple[str, EngineOptions, dict[str, float]]:
    """Decide which engine runs a bundle and how.

    Without a precision in the settings, `auto` chooses it together with the engine, and a named
    engine takes the bundle's own.

    Args:
        bundle: The verified bundle.
        settings: Engine, precision, threads and the cache of `auto`.
        name: Name of an engine that replaces the setting's.

    Returns:
        The engine's name (never `auto`), its options, and tiles per second by engine and precision
        if `auto` measured any.

    Raises:
        EngineError: The bundle lacks the precision, or `auto` finds no engine that runs.
    """
    options = EngineOptions(
        precision=settings.precision or bundle.manifest.precision,
        threads=settings.threads or available_cpus(),
        device=settings.device,
        hint=settings.hint,
        plan_cache=str(settings.plan_cache or ""),
    )
    if settings.answer_bits == 16 and bundle.manifest.sixteen_bit is None:
        raise EngineError(
            f"{bundle.path} has no graph for answers of 16 bits; export its checkpoint again, or "
            "set SEMSR_ANSWER_BITS=8"
        )
    name = name or settings.engine
    if name != "identity" and options.precision not in bundle.manifest.graphs:
        raise EngineError(
            f"{bundle.path} has no {options.precision} graph; it has "
            f"{', '.join(sorted(bundle.manifest.graphs))}"
        )
    if name != "auto":
        return name, replace(options, answer_bits=settings.answer_bits), {}
    precisions: list[Precision] = bundle.manifest.proven_precisions
    if settings.precision is not None:
        precisions = [settings.precision]
    choice = choose_engine(bundle, options, precisions=precisions, cache_dir=settings.cache_dir)
    # Only the chosen engine: the candidates are measured without the 16-bit graph.
    options = replace(options, precision=choice.precision, answer_bits=settings.answer_bits)
    return choice.engine, options, choice.tiles_per_s


def batch_limit(bundle: Bundle, settings: Settings) -> int:
    """Return the largest batch that the service forms, in tiles."""
    bundle_limit = bundle.manifest.max_batch_size
    return settings.max_batch_size or largest_batch(bundle_limit, settings.device)


def load_model(
    path: Path,
    settings: Settings,
    engine_loader: EngineLoader,
    *,
    known_batch_s: dict[int, float] | None = None,
) -> LoadedModel:
    """Load, prove and warm up a model; the call blocks for seconds.

    Args:
        path: Folder of its bundle.
        settings: Engine, precision, threads and batch size.
        engine_loader: Function that loads an engine by name.
        known_batch_s: Seconds by batch size, measured by an earlier engine of the same model on
            this machine; None measures them.

    Raises:
        bundle_format.bundle.BundleError: The bundle is damaged or unknown.
        EngineError: The engine cannot be loaded, or fails its golden tile.
    """
    log.info("loading", bundle=str(path), engine=settings.engine)
    bundle = load_bundle(path)
    name, options, speeds = resolve_engine(bundle, settings)
    if settings.engine == "auto":
        # No speeds: only one engine is installed, or the cache knew the fastest.
        measured = {"tiles_per_s": speeds} if speeds else {}
        log.info("engine_chosen", engine=name, precision=options.precision, **measured)
    engine = engine_loader(name, bundle, options)
    verify_golden(engine, bundle)
    if known_batch_s is not None:
        return LoadedModel(bundle=bundle, engine=engine, batch_s=known_batch_s)
    max_batch_size = batch_limit(bundle, settings)
    batch_s = warm_up(engine, bundle, max_batch_size=max_batch_size)
    return LoadedModel(bundle=bundle, engine=engine, batch_s=batch_s)


async def load_model_in_thread(
    path: Path, settings: Settings, engine_loader: EngineLoader
) -> LoadedModel:
    """Run `load_model` in a daemon thread: a process that must end does not wait for it."""
    return await in_daemon_thread(
        lambda: load_model(path, settings, engine_loader),
        on_late=lambda model: model.engine.close(),
    )


def find_bundle(allowed: Path | None, asked: str) -> Path:
    """Find the folder of a bundle that an admin names.

    Args:
        allowed: Folder that must contain it; None allows no bundle.
        asked: Path within that folder, or an absolute path.

    Raises:
        Forbidden: It lies elsewhere, with symbolic links resolved.
    """
    if allowed is None:
        raise Forbidden(
            f"the bundle {asked!r} is named, and SEMSR_LOAD_FROM allows none; without a name the "
            "model's present folder is read again"
        )
    path = (allowed / asked).resolve()
    if not path.is_relative_to(allowed.resolve()):
        raise Forbidden(f"the bundle {asked!r} does not lie in {allowed} (SEMSR_LOAD_FROM)")
    return path
