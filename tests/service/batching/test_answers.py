"""The memory of answers: reused when its last view is gone, and not before."""

import numpy as np

from service.batching.answers import AnswerMemory
from tests.fakes import FakeEngine


def test_memory_is_reused_when_its_last_view_is_gone() -> None:
    """A view of a view, and the buffer that a socket still sends, keep an answer's memory."""
    memory = AnswerMemory(FakeEngine(), answer_bytes=64)
    answer = memory.lend(8, 8)
    address = answer.ctypes.data
    sending = answer.data.cast("B")
    part = answer[2:, 2:]
    del answer
    assert memory.lend(8, 8).ctypes.data != address
    sending.release()
    assert memory.lend(8, 8).ctypes.data != address
    del part, sending
    assert memory.lend(8, 8).ctypes.data == address


def test_the_engine_is_told_of_each_piece_once() -> None:
    """An engine on a GPU locks the pages of what it will write."""
    engine = FakeEngine()
    memory = AnswerMemory(engine, answer_bytes=9216)
    lent = [memory.lend(96, 96) for _ in range(17)]
    assert len(engine.registered) == 2
    for answer in lent:
        assert any(np.shares_memory(answer, piece) for piece in engine.registered)
    assert len({answer.ctypes.data for answer in lent}) == 17
    del lent
    assert len([memory.lend(96, 96) for _ in range(17)]) == 17
    assert len(engine.registered) == 2


def test_an_answer_larger_than_usual_has_memory_of_its_own() -> None:
    """As for an image that is run as one tile, larger than the model's own."""
    engine = FakeEngine()
    memory = AnswerMemory(engine, answer_bytes=64)
    assert memory.lend(100, 100).shape == (100, 100)
    assert engine.registered == []
