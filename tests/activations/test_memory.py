"""The promise that the pass's memory does not grow with the images, measured in fresh processes."""

import sys

import pytest

from labeler.suites import suite_module


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/status")
def test_ten_times_the_images_take_no_more_memory():
    memory = suite_module("memory")
    few, many = (memory.measure_pass(256, 2, images) for images in (2_000, 20_000))
    assert many["files_mb"] > 9 * few["files_mb"]
    assert many["peak_mb"] < 1.01 * few["peak_mb"]
