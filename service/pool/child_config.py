"""What the supervisor tells a process that it starts; settings come from the environment."""

from dataclasses import dataclass


@dataclass(frozen=True)
class EngineConfig:
    """For `python -m service.pool.engine`.

    Attributes:
        name: Name of the process.
        arena_fd: File descriptor of the arena.
        listener_fd: Of the socket that front ends connect to.
        supervisor: The supervisor's address.
        row: Row of the arena that tells this engine's state.
        snapshot: Row of its metrics.
        model: Name of the model.
        bundle: Folder of its bundle.
        device: Where the engine computes.
        cpus: Cores that it may use, or None for all.
        engine: Engine that its predecessor chose, or None to choose.
        precision: Precision that its predecessor chose, or None to choose.
        batch_s: Seconds by batch size, if its predecessor measured them.
        digest: Of its predecessor's bundle: another one at its place is refused.
    """

    name: str
    arena_fd: int
    listener_fd: int
    supervisor: str
    row: int
    snapshot: int
    model: str
    bundle: str
    device: str
    cpus: list[int] | None = None
    engine: str | None = None
    precision: str | None = None
    batch_s: dict[str, float] | None = None
    digest: str | None = None


@dataclass(frozen=True)
class FrontEndConfig:
    """For `python -m service.front_end`.

    Attributes:
        name: Name of the process.
        arena_fd: File descriptor of the arena.
        listener_fd: Of the socket that clients connect to.
        supervisor: The supervisor's address.
        partition: Its part of the arena.
        snapshot: Row of its metrics.
    """

    name: str
    arena_fd: int
    listener_fd: int
    supervisor: str
    partition: int
    snapshot: int
