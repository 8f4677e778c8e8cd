import gc
import threading

import pytest

from labeler.catalogue.collector import without_collector


def test_the_collector_rests_within_and_works_after_even_if_something_fails():
    def failing():
        with without_collector():
            assert not gc.isenabled()
            raise ValueError("inside")

    with pytest.raises(ValueError, match="inside"):
        failing()
    assert gc.isenabled()


def test_threads_that_overlap_leave_it_working():
    entered, left = threading.Event(), threading.Event()

    def other():
        with without_collector():
            entered.set()
            left.wait(10)

    thread = threading.Thread(target=other)
    thread.start()
    entered.wait(10)
    with without_collector():
        left.set()
        thread.join()
    assert gc.isenabled()


def test_whoever_runs_without_it_goes_on_so():
    gc.disable()
    try:
        with without_collector():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
