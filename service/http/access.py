"""Access to the service: API keys by their hashes, and a quota for each client.

Key file: one client a line, `NAME SHA256`, or `NAME SHA256 admin` for one that may load and unload
models; empty lines and lines that begin with # are skipped. The file holds no key, so that its
readers cannot use the service. Keys are random and long, so that they cannot be guessed, and a
plain hash is enough.

Quota: a token bucket for each client, by the name of its key or else by its address. No HTTP here.
"""

import hashlib
import hmac
import re
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from service.ground.errors import Forbidden, OverQuota, Unauthorized

_NAME = r"[A-Za-z0-9._-]{1,64}"
_LINE = re.compile(rf"({_NAME})\s+([0-9a-f]{{64}})(\s+admin)?")
MAX_CLIENTS = 10_000
"""Number of buckets that are kept; the least recently used one is dropped first."""


class KeyFileError(ValueError):
    """A key file that cannot be read."""


def check_client_name(name: str) -> None:
    """Refuse a name that a key file cannot hold.

    Raises:
        KeyFileError: It is empty, longer than 64 characters or has other characters.
    """
    if re.fullmatch(_NAME, name) is None:
        raise KeyFileError(
            f"the client name is {name[:80]!r}; expected 1 to 64 letters, digits, dots, hyphens "
            "and underscores (A-Z a-z 0-9 . - _)"
        )


def new_key() -> str:
    """Make a key: 256 random bits."""
    return secrets.token_urlsafe(32)


def hash_key(key: str) -> str:
    """Return the hash of a key, as a key file holds it."""
    return hashlib.sha256(key.encode()).hexdigest()


@dataclass(frozen=True)
class Key:
    """A client's key.

    Attributes:
        digest: Hash of the key.
        is_admin: Whether it may load and unload models.
    """

    digest: str
    is_admin: bool = False


def read_keys(path: Path) -> dict[str, Key]:
    """Read a key file.

    Returns:
        Key by client.

    Raises:
        KeyFileError: It cannot be read, a line is malformed, or a name or key occurs twice.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise KeyFileError(f"cannot read the API keys in {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise KeyFileError(f"cannot read the API keys in {path}: {error}") from error
    keys: dict[str, Key] = {}
    for number, line in enumerate(lines, start=1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        found = _LINE.fullmatch(text)
        if found is None:
            # Not the line itself: it may be a key that was put there by mistake.
            raise KeyFileError(
                f"{path}, line {number}: expected NAME SHA256 or NAME SHA256 admin "
                "(semsr api-key NAME makes it)"
            )
        name, digest, admin = found.groups()
        if name in keys or digest in {key.digest for key in keys.values()}:
            raise KeyFileError(f"{path}, line {number}: the name or key of {name!r} occurs twice")
        keys[name] = Key(digest, is_admin=admin is not None)
    if not keys:
        raise KeyFileError(f"{path} holds no API key; unset SEMSR_API_KEYS to serve every client")
    return keys


class Access:
    """Decides whether a request is served."""

    def __init__(
        self,
        *,
        keys: Mapping[str, Key] | None,
        rate_per_s: float | None,
        burst: int,
        clock: Callable[[], float] = time.monotonic,
        on_use: Callable[[str, str], None] = lambda _client, _address: None,
    ) -> None:
        """Prepare.

        Args:
            keys: Key by client; None admits every client.
            rate_per_s: Requests per second and client; None for no quota.
            burst: Number of requests that an idle client may send at once.
            clock: Clock in seconds.
            on_use: Callback for an accepted key, with its client and the address that sent it.
        """
        self._on_use = on_use
        self._keys = None if keys is None else dict(keys)
        self._rate_per_s = rate_per_s
        self._burst = float(burst)
        self._clock = clock
        # Tokens left and when they were counted, by client.
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    @property
    def is_open(self) -> bool:
        """Whether there is nothing to check."""
        return self._keys is None and self._rate_per_s is None

    @property
    def has_keys(self) -> bool:
        """Whether clients are known by the names of their keys, and not by their addresses."""
        return self._keys is not None

    def check_admin(self, key: str | None, address: str) -> str:
        """Check a request that changes the service.

        Args:
            key: Key that the client sent, or None.
            address: Address of the client.

        Returns:
            Name of its key.

        Raises:
            Unauthorized: No key, or an unknown one.
            Forbidden: The key is not an admin's, or the service has no keys.
        """
        if self._keys is None:
            refuse = Unauthorized if key is None else Forbidden
            raise refuse("only an admin may do this; SEMSR_API_KEYS names none")
        client = self._authenticate(key)
        if not self._keys[client].is_admin:
            raise Forbidden(f"the key of {client} is not an admin's")
        self._on_use(client, address)
        return client

    def client_of(self, key: str | None, address: str) -> str:
        """Return the client of a request: the name of its key, else its address.

        Args:
            key: Key that the client sent, or None.
            address: Address of the client.

        Raises:
            Unauthorized: No key, or an unknown one.
        """
        if self._keys is None:
            return address
        client = self._authenticate(key)
        self._on_use(client, address)
        return client

    def spend(self, client: str) -> None:
        """Count a request against its client's quota.

        Raises:
            OverQuota: The client exceeds its quota.
        """
        if self._rate_per_s is not None:
            self._take_token(client, self._rate_per_s)

    def _authenticate(self, key: str | None) -> str:
        if key is None:
            raise Unauthorized("the request has no API key; send Authorization: Bearer KEY")
        digest = hash_key(key)
        known = self._keys or {}
        # Every hash is compared, in constant time: how long it takes says nothing.
        names = [n for n, own in known.items() if hmac.compare_digest(own.digest, digest)]
        if not names:
            raise Unauthorized("the API key is unknown")
        return names[0]

    def _take_token(self, client: str, rate_per_s: float) -> None:
        now_s = self._clock()
        tokens, counted_s = self._buckets.pop(client, (self._burst, now_s))
        tokens = min(self._burst, tokens + (now_s - counted_s) * rate_per_s)
        is_allowed = tokens >= 1.0
        self._buckets[client] = (tokens - 1.0 if is_allowed else tokens, now_s)
        if len(self._buckets) > MAX_CLIENTS:
            self._buckets.popitem(last=False)
        if not is_allowed:
            raise OverQuota(
                f"more than {rate_per_s:g} requests a second, {self._burst:g} at once "
                "(SEMSR_RATE_LIMIT_PER_S, SEMSR_RATE_LIMIT_BURST)",
                retry_after_s=(1.0 - tokens) / rate_per_s,
            )
