"""The priority classes of tiles; see `docs/adr/0012-scheduling.md`."""

import enum


class Priority(enum.StrEnum):
    """The two classes."""

    ONLINE = "online"
    NIGHTLY = "nightly"
