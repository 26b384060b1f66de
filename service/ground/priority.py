"""The classes of tiles: `docs/adr/0012-scheduling.md` says what each of them gets."""

import enum


class Priority(enum.StrEnum):
    """The two classes."""

    ONLINE = "online"
    NIGHTLY = "nightly"
