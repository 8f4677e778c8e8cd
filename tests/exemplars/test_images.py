import hashlib

from PIL import Image

from labeler.exemplars.images import ImageStore


def test_pictures_are_named_by_content_and_stored_once(tmp_path):
    store = ImageStore(tmp_path / "images")
    red, blue = Image.new("RGB", (8, 8), (255, 0, 0)), Image.new("RGB", (8, 8), (0, 0, 255))
    name = store.put(red)
    assert store.put(red.copy()) == name != store.put(blue)
    files = sorted(path.name for path in (tmp_path / "images").iterdir())
    assert files == sorted({name, store.put(blue)})
    data = (tmp_path / "images" / name).read_bytes()
    assert name == hashlib.sha256(data).hexdigest()[:16] + ".webp"
    assert Image.open(tmp_path / "images" / name).format == "WEBP"


def test_a_file_cut_short_is_written_again(tmp_path):
    store, picture = ImageStore(tmp_path), Image.new("RGB", (8, 8), (1, 2, 3))
    name = store.put(picture)
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(b"")
    assert store.put(picture) == name
    assert (tmp_path / name).read_bytes() == whole
