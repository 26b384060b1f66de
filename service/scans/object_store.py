"""A prefix of an object store as a store, through fsspec."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from engines.installation import install_hint
from service.scans.errors import MissingExtraError, ScanError, StoreLostError, TileError
from service.scans.extras import load_extra
from service.scans.stores import FileEntry, safe_name

Result = TypeVar("Result")

_LONGEST_PAUSE_S = 5.0
# Time limits of one request; longer waits are left to the retries.
_CONNECT_TIMEOUT_S = 5
_READ_TIMEOUT_S = 30


class ObjectStore:
    """A prefix of an object store, such as `s3://bucket/lot1`, through fsspec.

    Addresses and keys come from the usual environment variables, such as AWS_ENDPOINT_URL.
    Requests that fail are retried for a while.
    """

    io_at_once = 32
    # Each request waits for the network, so that each needs a thread.
    io_per_thread = 1
    is_confined = False

    def __init__(self, url: str, *, patience_s: float) -> None:
        """Connect.

        Args:
            url: Scheme, bucket and prefix.
            patience_s: Seconds for which failing requests are retried.

        Raises:
            ScanError: The scheme is unknown.
            MissingExtraError: fsspec or the package for the scheme is not installed.
        """
        self.url = url.rstrip("/")
        self._patience_s = patience_s
        fsspec = load_extra("fsspec", purpose=f"the object store {url}")
        options: dict[str, Any] = {"skip_instance_cache": True, "use_listings_cache": False}
        if url.startswith(("s3://", "s3a://")):
            options["config_kwargs"] = {
                "connect_timeout": _CONNECT_TIMEOUT_S,
                "read_timeout": _READ_TIMEOUT_S,
                "retries": {"max_attempts": 1},
            }
        try:
            self._files, self._root = fsspec.core.url_to_fs(self.url, **options)
        except ImportError as error:
            raise MissingExtraError(f"{url}: {error}; {install_hint('scan')}") from error
        except ValueError as error:
            raise ScanError(f"{url}: {error}") from error

    def walk(self) -> Iterator[FileEntry]:
        """See `Store`; the listing of one folder at a time is held in memory."""
        waiting = [self._root]
        while waiting:
            folder = waiting.pop()
            try:
                found = self._patiently(self._files.ls, folder, detail=True)
            except FileNotFoundError:
                continue
            except PermissionError as error:
                raise ScanError(f"cannot list {folder}: {error}") from error
            for info in found:
                if info["type"] == "directory":
                    waiting.append(info["name"])
                elif not info["name"].endswith("/") and info["name"] != folder:
                    yield self._entry(info)

    def find(self, name: str) -> FileEntry | None:
        """See `Store`."""
        try:
            return self._entry(self._patiently(self._files.info, self._path(name)))
        except (FileNotFoundError, PermissionError):
            return None

    def read(self, name: str, *, start: int = 0, length: int | None = None) -> bytes:
        """See `Store`."""
        end = None if length is None else start + length
        try:
            return self._patiently(
                self._files.cat_file, self._path(name), start=start or None, end=end
            )
        except OSError as error:
            raise TileError(f"cannot be read: {error}") from error

    def open(self, name: str) -> BinaryIO:
        """See `Store`."""
        try:
            return self._patiently(self._files.open, self._path(name), "rb")
        except OSError as error:
            raise ScanError(f"cannot open {self.url}/{name}: {error}") from error

    def write(self, name: str, content: bytes | memoryview) -> None:
        """See `Store`: one PUT."""
        try:
            self._patiently(self._files.pipe_file, self._path(name), bytes(content))
        except OSError as error:
            raise StoreLostError(f"cannot write {self.url}/{name}: {error}") from error

    def write_all(self, files: Sequence[tuple[str, bytes | memoryview]]) -> list[TileError | None]:
        """See `Store`."""
        failures: list[TileError | None] = [None] * len(files)
        for index, (name, content) in enumerate(files):
            try:
                self.write(name, content)
            except TileError as error:
                failures[index] = error
        return failures

    def move_in(self, name: str, path: Path) -> None:
        """See `Store`: one PUT, or a multipart upload."""
        try:
            self._patiently(self._files.put_file, str(path), self._path(name))
        except OSError as error:
            raise StoreLostError(f"cannot write {self.url}/{name}: {error}") from error
        path.unlink()

    def sync(self, names: Iterable[str]) -> None:
        """See `Store`: an object is durable when the store has answered."""

    def check_whole(self) -> None:
        """See `Store`: an object store has no links."""

    def remove(self, name: str) -> None:
        """See `Store`."""
        try:
            self._patiently(self._files.rm_file, self._path(name))
        except FileNotFoundError:
            return

    def remove_parts(self) -> None:
        """See `Store`: an incomplete upload is not visible."""

    def local_path(self, name: str) -> Path | None:
        """See `Store`: objects have none."""
        del name

    def download(self, name: str, path: Path) -> None:
        """Copy an object to this machine; raises as `read`."""
        try:
            self._patiently(self._files.get_file, self._path(name), str(path))
        except OSError as error:
            raise TileError(f"cannot be read: {error}") from error

    def _path(self, name: str) -> str:
        return f"{self._root}/{safe_name(name)}"

    def _entry(self, info: dict[str, Any]) -> FileEntry:
        stamp = info.get("ETag") or info.get("LastModified") or info.get("mtime") or ""
        name = info["name"].removeprefix(f"{self._root}/")
        return FileEntry(name, int(info["size"]), str(stamp).strip('"'))

    def _patiently(self, work: Callable[..., Result], *arguments: Any, **options: Any) -> Result:
        """Call a function until the store answers or the time limit passes; returns the answer.

        Raises:
            FileNotFoundError: The object does not exist.
            PermissionError: The store denies access.
            StoreLostError: The store does not answer.
        """
        give_up_s = time.monotonic() + self._patience_s
        pause_s = 0.1
        while True:
            try:
                return work(*arguments, **options)
            except (FileNotFoundError, PermissionError, IsADirectoryError):
                raise
            except Exception as error:
                if time.monotonic() + pause_s > give_up_s:
                    raise StoreLostError(
                        f"{self.url} has not answered for {self._patience_s:g} s: {error}"
                    ) from error
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
