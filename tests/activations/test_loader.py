import threading
import time

import pytest
import torch

from labeler.activations.loader import batches, prefetch, stack_padded


@pytest.mark.parametrize("workers", [0, 1, 4])
def test_results_keep_the_order_of_items(workers):
    def work(item):
        time.sleep(0.002 * (item % 3))
        return item * item

    assert list(prefetch(range(30), work, workers=workers, ahead=7)) == [i * i for i in range(30)]


def test_no_more_than_ahead_items_are_in_hand():
    started, lock = [], threading.Lock()

    def work(item):
        with lock:
            started.append(item)
        return item

    stream = prefetch(range(1000), work, workers=2, ahead=5)
    for taken in range(1, 20):
        next(stream)
        time.sleep(0.001)
        assert len(started) <= taken + 5
    stream.close()
    assert len(started) < 30


@pytest.mark.parametrize("workers", [0, 2])
def test_an_exception_comes_at_its_turn_and_threads_end(workers):
    def work(item):
        if item == 3:
            raise ValueError("three")
        return item

    before = threading.active_count()
    stream = prefetch(range(100), work, workers=workers, ahead=8)
    assert [next(stream), next(stream), next(stream)] == [0, 1, 2]
    with pytest.raises(ValueError, match="three"):
        next(stream)
    assert threading.active_count() == before


def test_an_interrupt_leaves_no_threads():
    before = threading.active_count()

    def consume():
        for item in prefetch(range(100), lambda item: item, workers=3, ahead=8):
            if item == 5:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        consume()
    deadline = time.monotonic() + 5
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() == before


def test_batches_and_padding():
    assert list(batches(range(7), 3)) == [[0, 1, 2], [3, 4, 5], [6]]
    block = stack_padded([torch.ones(2, 2), None], 3, (2, 2))
    assert block.sum(dim=(1, 2)).tolist() == [4.0, 0.0, 0.0]
