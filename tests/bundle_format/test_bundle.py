"""The bundle format: what is written loads back, and anything else is refused with its reason."""

import shutil
from pathlib import Path

import pytest

from bundle_format import bundle_writer
from bundle_format.bundle import Bundle, BundleError, load_bundle
from bundle_format.bundle_writer import write_bundle
from tests.bundles import bundle_files, edit_manifest, manifest_fields


@pytest.fixture
def bundle_path(tmp_path: Path) -> Path:
    """A well-formed bundle; its graph is not ONNX, which this module never reads."""
    path = tmp_path / "bundle"
    write_bundle(path, files=bundle_files(), manifest_fields=manifest_fields())
    return path


def test_written_bundle_loads_back(bundle_path: Path):
    """Manifest, graph and golden tile come back as they were written."""
    bundle = load_bundle(bundle_path)
    assert bundle.manifest.scale == 4
    assert bundle.graph("fp32") == bundle_files()["model.onnx"]
    assert bundle.golden().sr.shape == (1, 1, 32, 32)
    assert len(bundle.version) == 12


def test_same_content_gives_the_same_bytes(bundle_path: Path, tmp_path: Path):
    """Writing twice gives identical files, so that a bundle can be compared by hash."""
    again = tmp_path / "again"
    write_bundle(again, files=bundle_files(), manifest_fields=manifest_fields())
    assert load_bundle(again).digest == load_bundle(bundle_path).digest


def test_replacing_a_bundle_leaves_only_the_new_one(bundle_path: Path):
    """With `overwrite`, an existing bundle is replaced whole and no other file remains."""
    write_bundle(
        bundle_path,
        files=bundle_files(),
        manifest_fields={**manifest_fields(), "name": "second"},
        overwrite=True,
    )
    assert load_bundle(bundle_path).manifest.name == "second"
    assert [path.name for path in bundle_path.parent.iterdir()] == ["bundle"]


def test_a_bundle_is_not_replaced_unless_told_to(bundle_path: Path):
    """A service may have it loaded, and its version stands in its answers."""
    before = load_bundle(bundle_path).digest
    with pytest.raises(BundleError, match=r"already holds a bundle.* with --overwrite"):
        write_bundle(
            bundle_path,
            files=bundle_files(),
            manifest_fields={**manifest_fields(), "name": "second"},
        )
    assert load_bundle(bundle_path).digest == before
    assert [path.name for path in bundle_path.parent.iterdir()] == ["bundle"]


def test_a_bundle_that_appears_during_the_export_is_not_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Two exports to one folder: the one that ends last fails, without damage."""
    target = tmp_path / "bundle"
    load = bundle_writer.load_bundle

    def other_export_ends(path: Path) -> Bundle:
        if path != target and not target.exists():
            shutil.copytree(path, target)
        return load(path)

    monkeypatch.setattr(bundle_writer, "load_bundle", other_export_ends)
    with pytest.raises(BundleError, match="already holds a bundle"):
        write_bundle(target, files=bundle_files(), manifest_fields=manifest_fields())
    assert load(target).manifest.name == manifest_fields()["name"]
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_replacement_that_fails_leaves_the_old_bundle(
    bundle_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
):
    """Between the two renames nothing may get lost."""
    before = load_bundle(bundle_path).digest
    rename = Path.replace

    def failing_second_rename(source: Path, target: Path) -> Path:
        if target == bundle_path and "retired" not in source.name:
            raise error
        return rename(source, target)

    monkeypatch.setattr(Path, "replace", failing_second_rename)
    with pytest.raises(type(error)):
        write_bundle(
            bundle_path,
            files=bundle_files(),
            manifest_fields={**manifest_fields(), "name": "second"},
            overwrite=True,
        )
    assert load_bundle(bundle_path).digest == before
    assert [path.name for path in bundle_path.parent.iterdir()] == ["bundle"]


@pytest.mark.parametrize("is_there", [True, False])
def test_through_a_link_the_folder_that_it_points_to_is_written(tmp_path: Path, is_there: bool):
    """The service's path may be a link to this week's bundle: it stays one."""
    link, folder = tmp_path / "links" / "current", tmp_path / "bundles" / "week"
    link.parent.mkdir()
    link.symlink_to(folder)
    if is_there:
        write_bundle(folder, files=bundle_files(), manifest_fields=manifest_fields())

    fields = {**manifest_fields(), "name": "second"}
    write_bundle(link, files=bundle_files(), manifest_fields=fields, overwrite=is_there)

    assert link.is_symlink()
    assert load_bundle(folder).manifest.name == "second"
    assert ["week"] == [path.name for path in folder.parent.iterdir()]


def test_folder_that_is_no_bundle_is_not_replaced(tmp_path: Path):
    """A mistyped output path never destroys another folder."""
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "thesis.txt").write_text("years of work")
    with pytest.raises(BundleError, match="is not a bundle; refusing to replace"):
        write_bundle(precious, files=bundle_files(), manifest_fields=manifest_fields())
    assert (precious / "thesis.txt").read_text() == "years of work"


@pytest.mark.parametrize("name", ["model.onnx", "golden/sr.png", "model.safetensors"])
def test_tampered_file_is_refused_by_name(bundle_path: Path, name: str):
    """One changed byte in any file is refused, and the message says which."""
    file = bundle_path / name
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(BundleError, match=f"{name} does not match its manifest"):
        load_bundle(bundle_path)


def test_file_changed_after_loading_is_refused(bundle_path: Path):
    """What an engine gets is verified when it is read, not only when the bundle was loaded."""
    bundle = load_bundle(bundle_path)
    (bundle_path / "model.onnx").write_bytes(b"something else")
    with pytest.raises(BundleError, match="does not match"):
        bundle.graph("fp32")


def test_missing_file_is_refused_by_name(bundle_path: Path):
    """A bundle that was copied in part is refused."""
    (bundle_path / "model.onnx").unlink()
    with pytest.raises(BundleError, match=r"cannot read model\.onnx"):
        load_bundle(bundle_path)


@pytest.mark.parametrize("version", [0, 2, 7, "6", None, True])
def test_unknown_format_version_is_refused(bundle_path: Path, version: object):
    """Another format version is refused, not guessed."""
    edit_manifest(bundle_path, format_version=version)
    with pytest.raises(BundleError, match=r"format version .* is unknown"):
        load_bundle(bundle_path)


def test_grid_needs_version_4(bundle_path: Path):
    """Software of version 3 would cut tiles off the grid, so that it must refuse the bundle."""
    edit_manifest(bundle_path, format_version=3)
    with pytest.raises(BundleError, match="grid_px and seams are fields of version 4"):
        load_bundle(bundle_path)


def test_a_newer_version_without_a_grid_is_refused(bundle_path: Path):
    """Nothing is guessed."""
    edit_manifest(bundle_path, grid_px=...)
    with pytest.raises(BundleError, match="grid_px is missing"):
        load_bundle(bundle_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scale": 0}, "scale"),
        ({"grid_px": 0}, "grid_px"),
        ({"tile": [240]}, "tile"),
        ({"window": [300, 100]}, "window: .*0 <= lo < hi"),
        ({"name": "line\nbreak"}, "name"),
        ({"surprise": 1}, "surprise"),
        ({"flags": ["saturated"]}, "flags: .*expected non_finite, saturated"),
        ({"files": {"../outside": "0" * 64}}, "not a relative path"),
        ({"files": {"/etc/passwd": "0" * 64}}, "not a relative path"),
        ({"graphs": {"fp32": "elsewhere.onnx"}}, "elsewhere.onnx"),
    ],
)
def test_wrong_manifest_is_refused_with_the_field(bundle_path: Path, changes: dict, message: str):
    """The message names what is wrong."""
    edit_manifest(bundle_path, **changes)
    with pytest.raises(BundleError, match=message):
        load_bundle(bundle_path)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"[" * 100_000])
def test_unreadable_manifest_is_refused(bundle_path: Path, content: bytes):
    """For any bytes of the manifest, the error is a BundleError."""
    (bundle_path / "manifest.json").write_bytes(content)
    with pytest.raises(BundleError, match=r"manifest\.json"):
        load_bundle(bundle_path)


def test_folder_without_manifest_is_refused(tmp_path: Path):
    """An empty folder and a missing one are not bundles."""
    for path in (tmp_path, tmp_path / "missing"):
        with pytest.raises(BundleError, match="is not a bundle"):
            load_bundle(path)


def test_graph_of_another_precision_is_refused(bundle_path: Path):
    """Asking for what the bundle lacks says what it has."""
    with pytest.raises(BundleError, match="no int8 graph; the bundle has fp32"):
        load_bundle(bundle_path).graph("int8")
