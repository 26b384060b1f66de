"""What scans may touch: paths and URLs that lead out, and links that somebody has put there."""

import os
from pathlib import Path

import pytest

from service.scan_jobs.roots import RootedStores, Roots
from service.scans.errors import OutsideRootsError, ScanError, StoreLostError, TileError
from service.scans.stores import Store

PATIENCE_S = 0.0


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An allowed folder with a lot, a secret beside it, and the service's own state within."""
    (tmp_path / "allowed" / "lot").mkdir(parents=True)
    (tmp_path / "allowed" / "lot" / "a.png").write_bytes(b"tile")
    (tmp_path / "allowed" / "state").mkdir()
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret.png").write_bytes(b"secret")
    return tmp_path / "allowed"


@pytest.fixture
def roots(root: Path) -> Roots:
    """That folder and a prefix of an object store."""
    return Roots([str(root), "s3://fab/lots"], closed=root / "state")


def stores(roots: Roots) -> RootedStores:
    """What opens stores within the roots."""
    return roots.stores(lambda: None)


def open_folder(roots: Roots, path: Path) -> Store:
    """Open a folder within the roots."""
    return stores(roots)(str(path), patience_s=PATIENCE_S)


@pytest.mark.parametrize(
    "url",
    [
        "/etc",
        "/",
        "",
        "lot",
        "{root}/../outside",
        "{root}/lot/../../outside",
        "{root}/./lot",
        "{root}-evil",
        "{root}/lot\n",
        "{root}/state",
        "{root}/state/scans",
        "file:///etc",
        "file://{root}/../outside",
        "{root}/lot.h5::../../x",
        "s3://fab",
        "s3://fab/lots-evil/x",
        "s3://fab/lots/../secret",
        "s3://other/lots",
        "s3a://fab/lots",
        "zip://x::s3://fab/lots/a.zip",
        "memory://x",
    ],
)
def test_what_leads_out_is_refused(roots, root, url):
    """Other places, parts that lead upwards, mere beginnings, other schemes, the state."""
    with pytest.raises(OutsideRootsError):
        roots.check(url.replace("{root}", str(root)))


def test_what_lies_within_is_opened_as_it_is(roots, root):
    """Folders, containers with an inner name, and URLs, with or without a slash at the end."""
    assert str(root / "lot") == roots.check(f"{root}/lot/")
    assert str(root / "lot") == roots.check(f"file://{root}/lot")
    assert f"{root}/new/lot.h5::scan/tiles" == roots.check(f"{root}/new/lot.h5::scan/tiles")
    assert "s3://fab/lots/7" == roots.check("s3://fab/lots/7/")
    assert "s3://fab/lots" == roots.check("s3://fab/lots")


def test_a_link_in_the_path_counts_as_where_it_leads(roots, root):
    """One within the roots is followed, one that leads out is not."""
    (root / "latest").symlink_to(root / "lot")
    (root / "trap").symlink_to(root.parent / "outside")
    assert str(root / "lot") == roots.check(f"{root}/latest")
    with pytest.raises(OutsideRootsError, match="outside what scans may use"):
        roots.check(f"{root}/trap")


def test_a_linked_file_is_read_only_where_it_lies_within(roots, root):
    """One within gives its tile; one that leads out, and a pipe, are errors at once."""
    lot = root / "lot"
    (lot / "good.png").symlink_to(lot / "a.png")
    (lot / "bad.png").symlink_to(root.parent / "outside" / "secret.png")
    os.mkfifo(lot / "pipe.png")
    store = open_folder(roots, lot)
    assert b"tile" == store.read("good.png")
    with pytest.raises(TileError, match="leads out"):
        store.read("bad.png")
    with pytest.raises(TileError, match="not a regular file"):
        store.read("pipe.png")
    assert store.find("bad.png") is None
    with pytest.raises(ScanError, match="leads out"):
        store.open("bad.png")
    with pytest.raises(ScanError, match="leads out"):
        store.local_path("bad.png")


def test_a_file_that_becomes_a_link_after_it_was_listed_is_not_followed(roots, root):
    """What counts is what was opened, not what was there before."""
    store = open_folder(roots, root / "lot")
    assert ["a.png"] == [entry.name for entry in store.walk()]
    (root / "lot" / "a.png").unlink()
    (root / "lot" / "a.png").symlink_to(root.parent / "outside" / "secret.png")
    with pytest.raises(TileError, match="leads out"):
        store.read("a.png")


def test_the_path_of_a_local_file_stays_that_file(roots, root):
    """A library that opens by path gets what was checked, whatever lies there by then."""
    opener = stores(roots)
    store = opener(str(root / "lot"), patience_s=PATIENCE_S)
    path = store.local_path("a.png")
    (root / "lot" / "a.png").unlink()
    (root / "lot" / "a.png").symlink_to(root.parent / "outside" / "secret.png")
    assert path is not None
    assert b"tile" == path.read_bytes()
    opener.close()
    assert not path.exists()


def test_files_are_written_whole_into_new_folders(roots, root, tmp_path):
    """As an ordinary local store does; what lay under a temporary name is put aside."""
    store = open_folder(roots, root / "new" / "out")
    store.write("die1/a_x4.png", b"first")
    store.write("die1/a_x4.png", b"second")
    moved = tmp_path / "manifest.csv"
    moved.write_bytes(b"rows")
    store.move_in("manifest.csv", moved)
    store.sync(["die1/a_x4.png", "manifest.csv"])
    assert b"second" == (root / "new" / "out" / "die1" / "a_x4.png").read_bytes()
    assert b"rows" == (root / "new" / "out" / "manifest.csv").read_bytes()
    assert not moved.exists()
    store.remove("die1/a_x4.png")
    store.remove("die1/a_x4.png")
    assert [] == list((root / "new" / "out" / "die1").iterdir())


def test_nothing_is_written_through_a_link(roots, root):
    """A folder, a file and a temporary name that are links to outside stay without effect."""
    outside = root.parent / "outside"
    out = root / "out"
    out.mkdir()
    store = open_folder(roots, out)
    (out / "die1").symlink_to(outside)
    with pytest.raises(TileError, match="cannot be written"):
        store.write("die1/secret.png", b"mine")
    (out / "b.png").symlink_to(outside / "secret.png")
    store.write("b.png", b"mine")
    assert not (out / "b.png").is_symlink()
    for name in ("c.png", "d.png"):
        store.write(name, b"mine")
    assert {"secret.png": b"secret"} == {path.name: path.read_bytes() for path in outside.iterdir()}


def test_a_sink_that_becomes_a_link_takes_nothing(roots, root):
    """Somebody puts a link in the place of the sink while the scan runs."""
    outside = root.parent / "outside"
    out = root / "out"
    out.mkdir()
    store = open_folder(roots, out)
    out.rmdir()
    out.symlink_to(outside)
    with pytest.raises((StoreLostError, TileError)):
        store.write("a.png", b"mine")
    assert ["secret.png"] == [path.name for path in outside.iterdir()]


def test_a_whole_with_a_link_in_it_is_refused(roots, root):
    """Zarr opens its files by path, so there must be no link at all."""
    array = root / "lot.zarr"
    (array / "c").mkdir(parents=True)
    store = open_folder(roots, array)
    store.check_whole()
    (array / "c" / "0").symlink_to(root.parent / "outside" / "secret.png")
    with pytest.raises(OutsideRootsError, match="is a link"):
        store.check_whole()


def test_a_listing_ends_when_it_is_told_to(roots, root):
    """A scan that is stopped does not list a million files first."""
    listed: list[int] = []

    def stop_at_second() -> None:
        listed.append(1)
        if len(listed) == 2:
            raise InterruptedError

    (root / "lot" / "b.png").write_bytes(b"tile")
    (root / "lot" / "c.png").write_bytes(b"tile")
    store = roots.stores(stop_at_second)(str(root / "lot"), patience_s=PATIENCE_S)
    with pytest.raises(InterruptedError):
        list(store.walk())
    assert 2 == len(listed)
