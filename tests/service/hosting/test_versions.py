"""What is served and what is kept: replaced, rolled back, let go."""

import asyncio

import pytest

from service.hosting.versions import Versions

pytestmark = pytest.mark.anyio


class Kept:
    """Versions of which it is known what was retired."""

    def __init__(self, keep_s: float = 3600.0) -> None:
        self.retired: list[str] = []
        self.versions = Versions[str](keep_s=keep_s, retire=self.retired.append)

    def state(self) -> tuple[str | None, str | None]:
        """What is served and kept as `a`."""
        return self.versions.served.get("a"), self.versions.kept.get("a")


async def test_the_one_before_is_kept_and_the_one_before_that_is_not() -> None:
    """Two are loaded at most."""
    kept = Kept()
    for version in ("1", "2", "3"):
        kept.versions.serve("a", version)
    assert kept.state() == ("3", "2")
    assert kept.retired == ["1"]
    assert kept.versions.all() == ["3", "2"]


async def test_a_rollback_goes_both_ways() -> None:
    """What was served is kept in its turn."""
    kept = Kept()
    kept.versions.serve("a", "1")
    kept.versions.serve("a", "2")
    kept.versions.roll_back("a")
    assert kept.state() == ("1", "2")
    kept.versions.roll_back("a")
    assert kept.state() == ("2", "1")
    assert kept.retired == []


async def test_time_lets_go() -> None:
    """And nothing is left to go back to."""
    kept = Kept(keep_s=0.01)
    kept.versions.serve("a", "1")
    kept.versions.serve("a", "2")
    async with asyncio.timeout(30):
        while not kept.retired:  # noqa: ASYNC110 (what is waited for tells nobody)
            await asyncio.sleep(0.005)
    assert kept.retired == ["1"]
    with pytest.raises(KeyError):
        kept.versions.roll_back("a")
    assert kept.state() == ("2", None)


async def test_the_time_is_that_of_the_last_change() -> None:
    """A timer of a version that is gone does not reach the next one."""
    kept = Kept()
    kept.versions.serve("a", "1")
    kept.versions.serve("a", "2")
    kept.versions.let_go("a")
    kept.versions.serve("a", "3")
    assert kept.state() == ("3", "2")
    assert kept.retired == ["1"]


async def test_without_a_time_nothing_is_kept() -> None:
    """As soon as it is replaced."""
    kept = Kept(keep_s=0)
    kept.versions.serve("a", "1")
    kept.versions.serve("a", "2")
    assert kept.state() == ("2", None)
    assert kept.retired == ["1"]


async def test_removing_a_model_retires_all_of_it() -> None:
    """Others stay; one that is not served is an error."""
    kept = Kept()
    for name, version in (("a", "1"), ("a", "2"), ("b", "3")):
        kept.versions.serve(name, version)
    kept.versions.remove("a")
    assert sorted(kept.retired) == ["1", "2"]
    assert kept.versions.all() == ["3"]
    with pytest.raises(KeyError):
        kept.versions.remove("a")
