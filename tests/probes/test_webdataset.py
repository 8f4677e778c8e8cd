import gzip
import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from labeler.config import ProbeConfig
from labeler.errors import ProbeError, UnreadableImageError
from labeler.probes import load_probe
from labeler.probes.webdataset import WebDatasetProbe, find_shards


def encoded(level, kind="PNG"):
    stream = io.BytesIO()
    Image.new("RGB", (5, 4), (level, level, level)).save(stream, kind)
    return stream.getvalue()


def write_shard(path, members, format_=tarfile.PAX_FORMAT):
    """`members` are (name, bytes), or ready-made TarInfo without data."""
    with tarfile.open(path, "w", format=format_) as tar:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                tar.addfile(member)
            else:
                info = tarfile.TarInfo(member[0])
                info.size = len(member[1])
                tar.addfile(info, io.BytesIO(member[1]))
    return path


def special(name, kind, target=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


@pytest.fixture
def shards(tmp_path):
    write_shard(
        tmp_path / "s-000.tar",
        [("b.jpg", encoded(10, "JPEG")), ("b.json", b"{}"), ("./a.png", encoded(20)), ("a.cls", b"3")],
    )
    write_shard(tmp_path / "s-001.tar", [("d/c.webp", encoded(30, "WEBP")), ("broken.jpg", b"no image")])
    return tmp_path


def test_order_is_by_shard_and_position(shards):
    probe = load_probe(ProbeConfig(source=f"webdataset:{shards}/s-{{000..001}}.tar", colours=False), seed=0)
    assert [image.path.partition("/")[2] for image in probe.images] == [
        "s-000.tar/b.jpg", "s-000.tar/a.png", "s-001.tar/d/c.webp", "s-001.tar/broken.jpg",
    ]  # fmt: skip
    assert [image.id for image in probe.images] == [0, 1, 2, 3]
    assert [int(np.asarray(probe.image(i)).mean().round()) for i in (2, 0, 1, 0)] == [30, 10, 20, 10]
    assert probe.annotation(0, probe.image(0)) is None
    with pytest.raises(UnreadableImageError, match=r"s-001\.tar/broken\.jpg"):
        probe.image(3)


@pytest.mark.parametrize("pattern", ["s-*.tar", "s-00[01].tar", "s-{000..001}.tar", "{s-001,s-000}.tar"])
def test_patterns_that_name_the_same_shards(shards, pattern):
    assert [path.name for path in find_shards(str(shards / pattern))] == ["s-000.tar", "s-001.tar"]


def test_fingerprint_is_over_contents_and_names(shards):
    probe = WebDatasetProbe(str(shards / "s-*.tar"), "w")
    assert WebDatasetProbe(str(shards / "s-{000..001}.tar"), "w").fingerprint == probe.fingerprint
    write_shard(shards / "s-001.tar", [("d/c.webp", encoded(31, "WEBP")), ("broken.jpg", b"no image")])
    assert WebDatasetProbe(str(shards / "s-*.tar"), "w").fingerprint != probe.fingerprint


@given(st.lists(st.tuples(st.from_regex(r"[a-z]{1,8}", fullmatch=True), st.integers(0, 255)), max_size=12))
@settings(max_examples=25, deadline=None)
def test_every_sample_is_read_at_its_place(tmp_path_factory, samples):
    samples = [*dict(samples).items(), ("last_one", 7)]
    path = tmp_path_factory.mktemp("wds") / "x.tar"
    for format_ in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT):
        write_shard(path, [(f"{key * 4}.png", encoded(level)) for key, level in samples], format_)
        probe = WebDatasetProbe(str(path), "w")
        assert [np.asarray(probe.image(i))[0, 0, 0] for i in range(len(probe.images))] == [
            level for _, level in samples
        ]


def test_one_image_a_sample(tmp_path):
    write_shard(
        tmp_path / "x.tar",
        [
            ("k.png", encoded(1)),
            ("k.jpg", encoded(90, "JPEG")),
            ("k.seg.png", encoded(3)),
            ("l.PNG", encoded(4)),
        ],
    )
    probe = WebDatasetProbe(str(tmp_path / "x.tar"), "w")
    assert [image.path for image in probe.images] == ["w/x.tar/k.jpg", "w/x.tar/l.PNG"]


def test_long_names_are_whole(tmp_path):
    name = f"{'long' * 60}.png"
    for format_ in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
        write_shard(tmp_path / "x.tar", [(name, encoded(1))], format_)
        assert WebDatasetProbe(str(tmp_path / "x.tar"), "w").images[0].path == f"w/x.tar/{name}"


@pytest.mark.parametrize("name", ["../evil.jpg", "/etc/evil.jpg", "a/../../evil.jpg", "a\nb.jpg", "a\\b.jpg"])
def test_names_that_climb_are_refused_and_nothing_is_written(tmp_path, name):
    write_shard(tmp_path / "x.tar", [("a.jpg", encoded(1, "JPEG")), (name, encoded(2, "JPEG"))])
    before = sorted(Path(tmp_path.parent).rglob("*"))
    with pytest.raises(ProbeError, match="plain relative names"):
        WebDatasetProbe(str(tmp_path / "x.tar"), "w")
    assert sorted(Path(tmp_path.parent).rglob("*")) == before


@pytest.mark.parametrize(
    "kind",
    [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE],
)
def test_a_link_or_device_is_no_image(tmp_path, kind):
    link = special("evil.jpg", kind, "/etc/passwd")
    write_shard(tmp_path / "x.tar", [("a.jpg", encoded(1, "JPEG")), link])
    with pytest.raises(ProbeError, match=r"a link or special file called evil\.jpg"):
        WebDatasetProbe(str(tmp_path / "x.tar"), "w")


def test_links_that_are_not_called_images_are_passed_over(tmp_path):
    others = [special("d", tarfile.DIRTYPE), special("../x.json", tarfile.SYMTYPE, "/etc/passwd")]
    write_shard(tmp_path / "x.tar", [*others, ("a.jpg", encoded(1, "JPEG"))])
    assert len(WebDatasetProbe(str(tmp_path / "x.tar"), "w").images) == 1


@pytest.mark.parametrize("kept", [0, 100, 512, 700, 1024, 1536, 2048, 2100])
def test_a_shard_that_breaks_off_is_one_sentence(tmp_path, kept):
    """Wherever it breaks: in a header, in a file, or between files, before the closing zeros."""
    path = write_shard(
        tmp_path / "x.tar", [("a.png", encoded(1)), ("b.png", encoded(2)), ("c.json", b"{}" * 300)]
    )
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ProbeError, match=r"x\.tar") as caught:
        WebDatasetProbe(str(path), "w")
    assert "\n" not in str(caught.value)


def test_a_damaged_header_does_not_hide_what_follows(tmp_path):
    path = write_shard(tmp_path / "x.tar", [("a.png", encoded(1)), ("b.png", encoded(2))])
    data = bytearray(path.read_bytes())
    data[1024:1100] = b"\x01" * 76  # the second header
    path.write_bytes(data)
    with pytest.raises(ProbeError, match="breaks off or is damaged after 1024 bytes"):
        WebDatasetProbe(str(path), "w")


def test_compressed_and_foreign_files_are_one_sentence(tmp_path):
    path = write_shard(tmp_path / "x.tar", [("a.png", encoded(1))])
    (tmp_path / "y.tar").write_bytes(gzip.compress(path.read_bytes()))
    (tmp_path / "z.tar").write_bytes(b"hello" * 1000)
    for name in ("y.tar", "z.tar"):
        with pytest.raises(ProbeError, match="not a complete, uncompressed tar file"):
            WebDatasetProbe(str(tmp_path / name), "w")


def test_an_extended_header_cannot_fill_the_memory(tmp_path):
    huge = tarfile.TarInfo("././@PaxHeader")
    huge.type, huge.size = tarfile.XHDTYPE, 2**33
    (tmp_path / "x.tar").write_bytes(huge.tobuf(tarfile.GNU_FORMAT) + bytes(4096))
    with pytest.raises(ProbeError, match="extended header is too large"):
        WebDatasetProbe(str(tmp_path / "x.tar"), "w")


def test_a_large_image_keeps_its_id(tmp_path, monkeypatch):
    monkeypatch.setattr("labeler.probes.webdataset.MAX_BYTES", 1000)
    write_shard(tmp_path / "x.tar", [("a.png", bytes(1001)), ("b.png", encoded(5))])
    probe = WebDatasetProbe(str(tmp_path / "x.tar"), "w")
    with pytest.raises(UnreadableImageError, match="is over"):
        probe.image(0)
    assert np.asarray(probe.image(1)).max() == 5


def test_a_key_twice_is_refused(tmp_path):
    write_shard(tmp_path / "x.tar", [("a.png", encoded(1)), ("b.png", encoded(1)), ("a.png", encoded(2))])
    with pytest.raises(ProbeError, match="the key 'a' twice"):
        WebDatasetProbe(str(tmp_path / "x.tar"), "w")


def test_equal_file_names_in_two_folders_stay_apart(tmp_path):
    for folder in "ab":
        (tmp_path / folder).mkdir()
        write_shard(tmp_path / folder / "0.tar", [("k.png", encoded(1))])
    probe = WebDatasetProbe(str(tmp_path / "{a,b}" / "0.tar"), "w")
    assert [image.path for image in probe.images] == ["w/a/0.tar/k.png", "w/b/0.tar/k.png"]


def test_no_shard_or_no_image(tmp_path):
    for pattern in ("none.tar", "none-*.tar", "{0..2}.tar"):
        with pytest.raises(ProbeError, match="There is no shard at"):
            WebDatasetProbe(str(tmp_path / pattern), "w")
    write_shard(tmp_path / "x.tar", [("a.txt", b"")])
    for pattern in ("x.tar", "{5..1}.tar"):
        with pytest.raises(ProbeError, match="There is no image"):
            WebDatasetProbe(str(tmp_path / pattern), "w")
