"""The corpus: one valid small file of every format and kind, made when the tests are collected."""

from tests.fuzz.other_corpus import bmp_samples, jpeg_samples, npy_samples, raw_samples
from tests.fuzz.png_corpus import png_samples
from tests.fuzz.sample import Sample
from tests.fuzz.tiff_corpus import tiff_samples

CORPUS: tuple[Sample, ...] = (
    *png_samples(),
    *tiff_samples(),
    *jpeg_samples(),
    *bmp_samples(),
    *npy_samples(),
    *raw_samples(),
)
