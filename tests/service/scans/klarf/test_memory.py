"""The memory that a file takes is a small multiple of its length."""

import tracemalloc

from service.scans.klarf.klarf import read_klarf
from tests.service.scans.klarf.test_speed import many_lists_1_2, one_list_1_2, one_list_1_8

COUNT = 2_000


def test_memory_is_a_multiple_of_the_file() -> None:
    """Rows are kept as offsets, not as values; a list per defect costs some objects each."""
    for make, most in ((one_list_1_2, 2.5), (one_list_1_8, 2.5), (many_lists_1_2, 4)):
        content = make(COUNT)
        read_klarf(make(10))  # compiles what is compiled once
        tracemalloc.start()
        try:
            klarf = read_klarf(content)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()

        assert COUNT == klarf.num_defects
        assert peak < most * len(content), make.__name__
