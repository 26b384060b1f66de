"""The corpus itself: what is valid is read as it was written, by us and by the strict decoders."""

import zlib
from pathlib import Path

import numpy as np
import pytest

from service.ground.errors import ServiceError
from tests.fuzz.corpus import CORPUS
from tests.fuzz.essentials import essential
from tests.fuzz.readers import RAW, fault_before_strict, fault_between_readers, served
from tests.fuzz.sample import Sample
from tests.fuzz.strict import Refused, strict_grey
from tests.fuzz.structure import parts_of

# Whole files that others read and that we refuse on purpose.
_MORE_THAN_WE_READ = {
    "png/animated": "an animation is not a tile",
    "tiff/jpeg": "JPEG inside TIFF is not read",
    "tiff/group4": "a fax compression is not read",
    "tiff/fill-order-2": "reversed bits are not read",
    "jpeg/lossless": "lossless JPEG is not read",
}


def test_every_sample_has_a_name_of_its_own() -> None:
    """Seeds depend on names, and a failure is found again by its name."""
    assert len(CORPUS) == len({sample.name for sample in CORPUS})


@pytest.mark.parametrize("sample", CORPUS, ids=lambda sample: sample.name)
def test_a_valid_file_is_read_as_its_writer_meant_it(sample: Sample, tmp_path: Path) -> None:
    """The greys are those that were written; what is not read is refused by its own status."""
    found = served(sample, sample.body)

    if isinstance(found, ServiceError):
        assert sample.refused == found.status, found
    else:
        assert sample.refused == 0
        assert sample.grey is None or found.dtype == sample.grey.dtype
        assert sample.grey is None or np.array_equal(sample.grey, found)
    assert fault_between_readers(sample, sample.body, tmp_path) is None
    assert fault_before_strict(sample, sample.body) is None


@pytest.mark.parametrize(
    "sample",
    [sample for sample in CORPUS if sample.media_type != RAW],
    ids=lambda sample: sample.name,
)
def test_strict_decoders_judge_the_corpus_as_it_was_written(sample: Sample) -> None:
    """An oracle that refused good files, or took any, would prove nothing."""
    if sample.refused and sample.name not in _MORE_THAN_WE_READ:
        with pytest.raises(Refused):
            strict_grey(sample.body, sample.media_type)
        return
    grey = strict_grey(sample.body, sample.media_type)

    assert sample.grey is None or np.array_equal(sample.grey, grey)
    if not sample.refused:
        copy = essential(sample.body, sample.media_type)
        assert np.array_equal(grey, strict_grey(copy, sample.media_type))


def test_transparent_level_with_bits_beyond_the_depth_is_no_fault(tmp_path: Path) -> None:
    """The format has decoders ignore them; libpng warns, which damage to a tRNS chunk can bring."""
    sample = next(sample for sample in CORPUS if sample.name == "png/trns-unused")
    at = sample.body.index(b"tRNS")
    chunk = b"tRNS\xab" + sample.body[at + 5 : at + 6]
    body = sample.body[:at] + chunk + zlib.crc32(chunk).to_bytes(4, "big") + sample.body[at + 10 :]

    with pytest.raises(Refused, match="out-of-range"):
        strict_grey(body, sample.media_type)
    found = served(sample, body)
    assert not isinstance(found, ServiceError), found
    np.testing.assert_array_equal(sample.grey, found)
    assert fault_between_readers(sample, body, tmp_path) is None
    assert fault_before_strict(sample, body) is None


@pytest.mark.parametrize("sample", CORPUS, ids=lambda sample: sample.name)
def test_a_sample_comes_apart_into_its_parts(sample: Sample) -> None:
    """Mutations would hit bytes at random where the structure is not understood."""
    parts = parts_of(sample.body, sample.media_type)

    assert len(parts) >= 3
    assert sample.media_type == RAW or any(part.is_header for part in parts)
    assert any(not part.is_header for part in parts)
