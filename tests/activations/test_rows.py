import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from labeler.activations import Activations, run_pass, run_shard
from labeler.activations.rows import FileRows, LateRows, MemoryRows, join_rows, save_array
from labeler.activations.shards import PassShard, merge_shards
from labeler.config import ActivationsConfig
from tests.activations.activation_doubles import CountingProbe, HashEncoder, PixelTarget, pictures
from tests.activations.test_extract import assert_same

TABLES = st.integers(0, 5).flatmap(
    lambda width: st.lists(
        st.integers(0, 6).flatmap(lambda n: arrays(np.float32, (n, width))), min_size=1, max_size=5
    )
)


@given(TABLES)
@settings(max_examples=40, deadline=None)
def test_a_streamed_file_is_the_one_that_numpy_writes(tmp_path_factory, tables):
    folder = tmp_path_factory.mktemp("rows")
    rows, memory = FileRows(folder / "a.npy", tables[0].shape[1]), MemoryRows(tables[0].shape[1])
    for table in tables:
        rows.append(table)
        memory.append(table)
    np.testing.assert_array_equal(rows.finish(), np.concatenate(tables))
    np.testing.assert_array_equal(memory.finish(), np.concatenate(tables))
    np.save(folder / "b.npy", np.concatenate(tables))
    assert (folder / "a.npy").read_bytes() == (folder / "b.npy").read_bytes()
    np.testing.assert_array_equal(join_rows(tables, folder / "c.npy"), np.concatenate(tables))


@given(st.lists(st.booleans(), max_size=12))
@settings(max_examples=40, deadline=None)
def test_missing_rows_are_nan_wherever_they_come(there):
    rows = LateRows(MemoryRows)
    for start in range(0, len(there), 5):
        rows.append([np.full(3, 7.0) if good else None for good in there[start : start + 5]])
    table = rows.finish()
    assert table.shape == (len(there), 3 if any(there) else 0)
    assert [bool((row == 7).all()) for row in table] == there or not any(there)
    assert all(np.isnan(row).all() for row, good in zip(table, there, strict=True) if not good)


def measure(image_id, image):
    return np.array([image_id, np.asarray(image).mean()], dtype=np.float32)


@pytest.mark.parametrize("unreadable", [(), (0, 1, 9), tuple(range(8))])
def test_a_pass_on_disk_is_the_pass_in_memory(tmp_path, unreadable):
    """Broken activations among them: their columns are written anew."""
    arguments = (PixelTarget(), CountingProbe(pictures(21, unreadable, (5, 20))), {"e": HashEncoder()})
    settings = ActivationsConfig(batch_size=4, top_k=6)
    memory = run_pass(*arguments, settings, measure=measure)
    disk = run_pass(*arguments, settings, measure=measure, directory=tmp_path / "disk")
    disk.save(tmp_path / "disk")
    memory.save(tmp_path / "memory")
    assert_same(Activations.load(tmp_path / "disk"), memory)
    names = sorted(path.name for path in (tmp_path / "memory").iterdir())
    assert sorted(path.name for path in (tmp_path / "disk").iterdir()) == names
    for name in names:
        assert (tmp_path / "disk" / name).read_bytes() == (tmp_path / "memory" / name).read_bytes()


def test_shards_join_on_disk(tmp_path):
    arguments = (PixelTarget(), CountingProbe(pictures(21, (0, 1, 2, 3), (5, 20))), {"e": HashEncoder()})
    settings = ActivationsConfig(batch_size=4, top_k=6)
    whole = run_pass(*arguments, settings, measure=measure)
    shards = []
    for number in range(3):
        made = run_shard(
            *arguments, settings, shard=(number, 3), measure=measure, directory=tmp_path / str(number)
        )
        made.save(tmp_path / str(number))
        shards.append(PassShard.load(tmp_path / str(number)))
    (tmp_path / "all").mkdir()
    merge_shards(shards, tmp_path / "all").save(tmp_path / "all")
    assert_same(Activations.load(tmp_path / "all"), whole)


def test_saving_over_a_mapped_file_leaves_the_map_whole(tmp_path):
    np.save(tmp_path / "a.npy", np.arange(5000.0))
    mapped = np.load(tmp_path / "a.npy", mmap_mode="r")
    save_array(tmp_path / "a.npy", mapped * 2)
    assert mapped[4999] == 4999
    assert np.load(tmp_path / "a.npy")[4999] == 9998
    save_array(tmp_path / "b.npy", mapped[:10])
    assert len(np.load(tmp_path / "b.npy")) == 10
