"""Decisions of the supervisor about engine processes that cannot be kept running."""

import asyncio
import re
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, Gauge, generate_latest

from service.pool.children import Child
from service.pool.engine_processes import EnginePlace, PoolVersion
from service.pool.gpus import Devices
from service.pool.supervisor import Supervisor
from service.settings import Settings

pytestmark = pytest.mark.anyio

TINY_BUNDLE = Path(__file__).parents[2] / "data" / "tiny_bundle"


@pytest.fixture
async def supervisor() -> AsyncIterator[Supervisor]:
    """A supervisor that starts nothing."""
    settings = Settings(mode="pool", bundle=TINY_BUNDLE, engine_processes=2)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        supervisor = Supervisor(settings, [listener], Devices("cuda", 2))
        yield supervisor
        supervisor._control.close()


@pytest.fixture
async def version(supervisor: Supervisor) -> PoolVersion:
    """A version with two engine processes that were ready once."""
    version = PoolVersion("m", TINY_BUNDLE, 1)
    for row in (0, 1):
        child = Child(
            name=f"engine-{row}",
            command=list,
            fds=(),
            on_end=lambda: None,
            on_failed=lambda _: False,
            ready=asyncio.get_running_loop().create_future(),
        )
        child.set_ready()
        place = EnginePlace(row, f"cuda:{row}", "nowhere", supervisor._control, child)
        version.engines.append(place)
    return version


async def test_a_served_version_goes_on_without_one_of_its_engine_processes(
    supervisor: Supervisor, version: PoolVersion
) -> None:
    """Also while the other one is being restarted; without both, the pool ends."""
    supervisor._versions.begin(version)
    lost, other = (engine.child for engine in version.engines)
    lost.failures, lost.is_ready = 7, False
    assert supervisor._engine_failed(version, "no card")
    other.failures, other.is_ready = 1, False
    assert supervisor._engine_failed(version, "no card")
    assert not supervisor._stopping.is_set()

    other.failures = 5
    assert not supervisor._engine_failed(version, "no card")
    assert supervisor._stopping.is_set()
    assert supervisor._exit_code == 3


async def test_a_version_that_is_not_served_ends_alone(
    supervisor: Supervisor, version: PoolVersion
) -> None:
    """The pool serves another one."""
    for engine in version.engines:
        engine.child.failures = 5
    assert not supervisor._engine_failed(version, "no card")
    assert not supervisor._stopping.is_set()


async def test_each_engine_process_has_a_figure_until_it_is_retired(
    supervisor: Supervisor, version: PoolVersion
) -> None:
    """Named by process, model and device."""
    registry = CollectorRegistry()
    gauge = Gauge("up", "Up.", ("process", "model", "device"), registry=registry)

    def shown() -> dict[str, float]:
        supervisor._engines.show(gauge)
        text = generate_latest(registry).decode()
        return {d: float(v) for d, v in re.findall(r'^up\{device="(.+?)".* (\S+)', text, re.M)}

    supervisor._engines.versions.add(version)
    version.engines[1].child.is_ready = False
    assert {"cuda:0": 1.0, "cuda:1": 0.0} == shown()
    supervisor._engines.versions.discard(version)
    assert {} == shown()
