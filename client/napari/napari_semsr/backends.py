"""Where a layer is computed: the semsr service, or a bundle on this machine."""

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol, cast

import numpy.typing as npt

from napari_semsr.layers import Source

TIMEOUT_S = 120.0
"""Time limit for one image, waiting included; also the longest time until a stop takes effect."""


class BackendError(Exception):
    """A backend cannot be used; the message says what to install or to correct."""


class Answer(Protocol):
    """One super-resolved image: `semsr_client.SrTile` and `semsr.SrImage`."""

    @property
    def pixels(self) -> npt.NDArray[Any]:
        """(s*H, s*W) uint8."""
        ...

    @property
    def quality(self) -> dict[str, float]:
        """Quality flags by the names of the service's `X-Quality`."""
        ...


Many = Callable[[Source], Iterator[Answer]]
"""Super-resolves the images of a layer in order."""
Backend = Callable[[tuple[int, int] | None], AbstractContextManager[Many]]
"""Opens a backend for a grey range of 16-bit images; None takes the model's."""


@dataclass(frozen=True)
class ServiceBackend:
    """A running semsr service.

    Attributes:
        url: Address, such as http://127.0.0.1:8000.
        model: Name of the model; empty takes the service's default.
        api_key: Key; empty where the service asks for none.
    """

    url: str
    model: str = ""
    api_key: str = ""

    @contextlib.contextmanager
    def __call__(self, window: tuple[int, int] | None) -> Iterator[Many]:
        """Open it.

        Raises:
            BackendError: The client is not installed, or an argument is invalid.
        """
        try:
            from semsr_client import Client
        except ImportError as error:
            raise BackendError(
                "the package semsr_client is not installed; in a checkout of semsr: "
                "pip install ./client"
            ) from error
        try:
            client = Client(
                self.url.strip(),
                timeout_s=TIMEOUT_S,
                window=window,
                model=self.model.strip() or None,
                api_key=self.api_key.strip() or None,
            )
        except ValueError as error:
            raise BackendError(str(error)) from error
        with client:

            def many(tiles: Source) -> Iterator[Answer]:
                if len(tiles) == 1:  # a request of its own also passes proxies that buffer
                    return (client.superresolve(tile) for tile in tiles)
                return cast("Iterator[Answer]", client.superresolve_many(tiles))  # errors raise

            yield many


@dataclass(frozen=True)
class LocalBackend:
    """A bundle on this machine, run by `semsr.Upscaler`.

    Attributes:
        bundle: Folder of the bundle; empty takes the shipped one.
    """

    bundle: str = ""

    @contextlib.contextmanager
    def __call__(self, window: tuple[int, int] | None) -> Iterator[Many]:
        """Load the bundle, which takes seconds.

        Raises:
            BackendError: semsr is not installed, or the bundle cannot be loaded.
        """
        try:
            from bundle_format.bundle import BundleError
            from engines.protocol import EngineError
            from semsr import Upscaler
        except ImportError as error:
            raise BackendError(
                "semsr is not installed in napari's environment, so this machine cannot compute; "
                "use the service, or in a checkout of semsr: pip install ."
            ) from error
        try:
            upscaler = Upscaler(self.bundle.strip() or None, window=window)
        except (BundleError, EngineError, ValueError) as error:
            raise BackendError(str(error)) from error
        with upscaler:
            yield upscaler.many
