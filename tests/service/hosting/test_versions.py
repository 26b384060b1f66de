"""What is served and what is kept: loaded, rolled back, unloaded."""

import asyncio
from dataclasses import dataclass
from pathlib import Path

import pytest

from service.ground.errors import LoadFailed, NothingKept, UnknownModel
from service.hosting.versions import Change, Versions

pytestmark = pytest.mark.anyio


@dataclass(frozen=True)
class One:
    """A version that is its bundle's folder and no more."""

    path: Path

    @property
    def bundle_version(self) -> str:
        """The folder's name."""
        return self.path.name

    @property
    def digest(self) -> str:
        """The folder's name twice."""
        return 2 * self.path.name


class Kept:
    """Versions that note what was retired and what was switched."""

    def __init__(self, keep_s: float = 3600.0) -> None:
        self.retired: list[str] = []
        self.switched: list[str] = []
        self.unusable: set[str] = set()
        self.versions = Versions[One](
            keep_s=keep_s,
            start=self._start,
            on_switch=self.switched.append,
            retire=lambda version: self.retired.append(version.path.name),
            check_kept=lambda version: self._check(version.path),
        )

    async def _start(self, name: str, path: Path) -> One:
        if path.name in self.unusable:
            raise ValueError(f"{path} is damaged")
        return One(path)

    def _check(self, path: Path) -> None:
        if path.name in self.unusable:
            raise LoadFailed(f"{path} is damaged")

    def serve(self, *folders: str) -> None:
        """Serve versions of `a`, one after the other."""
        for folder in folders:
            self.versions.serve("a", One(Path(folder)))

    def state(self) -> tuple[str | None, str | None]:
        """What is served and kept as `a`."""
        pair = self.versions.served.get("a"), self.versions.kept.get("a")
        first, second = (None if one is None else one.path.name for one in pair)
        return first, second


async def test_the_previous_version_is_kept_and_the_one_before_that_is_not() -> None:
    """Two are loaded at most."""
    kept = Kept()
    kept.serve("1", "2", "3")
    assert kept.state() == ("3", "2")
    assert kept.retired == ["1"]
    assert [one.path.name for one in kept.versions.all()] == ["3", "2"]
    assert kept.switched == ["a", "a", "a"]


async def test_a_load_starts_the_named_bundle_or_the_present_one_again() -> None:
    """And says what is served and kept then."""
    kept = Kept()
    kept.serve("1")
    assert await kept.versions.load("a", Path("2")) == Change("a", "2", "22", "1")
    assert await kept.versions.load("a") == Change("a", "2", "22", "2")
    assert kept.retired == ["1"]


async def test_a_load_that_fails_changes_nothing() -> None:
    """The error has the reason; a model that the settings do not name is another error."""
    kept = Kept()
    kept.serve("1")
    kept.unusable = {"2"}
    with pytest.raises(LoadFailed, match="the model a cannot be served: 2 is damaged"):
        await kept.versions.load("a", Path("2"))
    with pytest.raises(UnknownModel, match="no model b; they name a"):
        await kept.versions.load("b")
    assert kept.state() == ("1", None)
    assert kept.versions.paths == {"a": Path("1")}
    assert kept.switched == ["a"]


async def test_a_rollback_goes_both_ways() -> None:
    """The served version becomes the kept one."""
    kept = Kept()
    kept.serve("1", "2")
    assert await kept.versions.roll_back("a") == Change("a", "1", "11", "2")
    assert kept.versions.paths == {"a": Path("1")}
    assert await kept.versions.roll_back("a") == Change("a", "2", "22", "1")
    assert kept.retired == []


async def test_a_kept_version_that_cannot_be_used_stays_kept() -> None:
    """What was served still is."""
    kept = Kept()
    kept.serve("1", "2")
    kept.unusable = {"1"}
    with pytest.raises(LoadFailed, match="1 is damaged"):
        await kept.versions.roll_back("a")
    assert kept.state() == ("2", "1")
    assert kept.retired == []


async def test_a_kept_version_is_retired_after_its_time() -> None:
    """And nothing is left to go back to."""
    kept = Kept(keep_s=0.01)
    kept.serve("1", "2")
    async with asyncio.timeout(30):
        while not kept.retired:  # noqa: ASYNC110 (what is waited for tells nobody)
            await asyncio.sleep(0.005)
    assert kept.retired == ["1"]
    with pytest.raises(NothingKept, match="no earlier version of a is kept"):
        await kept.versions.roll_back("a")
    assert kept.state() == ("2", None)


async def test_the_time_is_that_of_the_last_change() -> None:
    """A timer of a version that is gone does not reach the next one."""
    kept = Kept()
    kept.serve("1", "2")
    kept.versions.drop_kept("a")
    kept.serve("3")
    assert kept.state() == ("3", "2")
    assert kept.retired == ["1"]


async def test_without_a_time_nothing_is_kept() -> None:
    """As soon as it is replaced."""
    kept = Kept(keep_s=0)
    kept.serve("1", "2")
    assert kept.state() == ("2", None)
    assert kept.retired == ["1"]


async def test_unloading_a_model_retires_all_of_it() -> None:
    """Others stay; one that is not served is an error, and can be loaded again."""
    kept = Kept()
    kept.serve("1", "2")
    kept.versions.serve("b", One(Path("3")))
    await kept.versions.unload("a")
    assert sorted(kept.retired) == ["1", "2"]
    assert [one.path.name for one in kept.versions.all()] == ["3"]
    for change in (kept.versions.unload, kept.versions.roll_back):
        with pytest.raises(UnknownModel, match="the model a is not served"):
            await change("a")
    await kept.versions.load("a")
    assert kept.state() == ("2", None)
