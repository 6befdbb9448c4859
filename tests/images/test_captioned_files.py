"""Captioned images of folders and archives are read as they are, and what is wrong is said with its file."""

import io
import json
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
from command import molrl
from PIL import Image

from molrl.data.images import captioned_files
from molrl.data.images.captioned_files import read_captioned
from molrl.data.images.image import CaptionedImage
from molrl.data.images.memorisation import nearest_distances
from molrl.data.images.sets import captioned_set, frequent_words, scene_set

RED, BLUE = (200, 0, 0), (0, 0, 200)


def encoded(colour: tuple[int, ...], size: tuple[int, int] = (4, 4), kind: str = "PNG", mode: str = "RGB") -> bytes:
    file = io.BytesIO()
    Image.new(mode, size, colour).save(file, kind)
    return file.getvalue()


def archive(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as members:
        for name, content in files.items():
            members.writestr(name, content)
    return path


def folder(path: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path


ROWS = [{"file": "red.png", "caption": "a red page"}, {"file": "in/blue.jpg", "caption": "“blue”, it says"}]
TABLES = {
    "captions.json": json.dumps([{**row, "codepoints": "0023"} for row in ROWS]).encode(),
    "captions.csv": 'file,caption\nred.png,a red page\nin/blue.jpg,"“blue”, it says"\n'.encode("utf-8-sig"),
    "metadata.csv": 'file_name,text\nred.png,a red page\nin/blue.jpg,"“blue”, it says"\n'.encode(),
    "index.tsv": "file\tprompt\treward\nred.png\ta red page\t0.5\nin/blue.jpg\t“blue”, it says\t1\n".encode(),
}
IMAGES = {"red.png": encoded(RED), "in/blue.jpg": encoded(BLUE, kind="JPEG")}


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("write", [archive, folder])
def test_each_table_of_a_folder_or_an_archive_is_read(write, table: str, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    found = read_captioned(write(tmp_path / "mine", {**IMAGES, table: TABLES[table]}))
    assert [image.prompt for image in found] == [row["caption"] for row in ROWS]
    assert (found[0].pixels == RED).all()
    assert np.abs(found[1].pixels.astype(int) - BLUE).max() < 4  # JPEG


def test_what_is_transparent_or_not_square_is_filled_with_white(tmp_path: Path) -> None:
    images = {"clear.png": encoded((9, 9, 9, 0), mode="RGBA"), "wide.png": encoded(RED, (8, 4))}
    table = json.dumps({name: name for name in images}).encode()
    clear, wide = read_captioned(archive(tmp_path / "a.zip", {**images, "captions.json": table}), 8)
    assert (clear.pixels == 255).all()
    assert (wide.pixels[2:6] == RED).all()
    assert (wide.pixels[[0, 1, 6, 7]] == 255).all()


GOOD = {"red.png": IMAGES["red.png"], "captions.json": b'{"red.png": "a red page"}'}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"captions.json": b'{"blue.png": "x"}'}, "blue.png: there is no such file"),
        ({"captions.json": b'{"../red.png": "x"}'}, "'../red.png' leads elsewhere"),
        ({"captions.json": b'{"/etc/passwd": "x"}'}, "leads elsewhere"),
        ({"captions.json": b'{"red.png": " "}'}, "row 1: no caption"),
        ({"captions.json": b'[{"caption": "x"}]'}, "row 1: no file"),
        ({"captions.json": b'[{"file": "red.png", "caption": 3}]'}, "row 1: no caption"),
        ({"captions.json": b'["red.png"]'}, "row 1: need an object"),
        ({"captions.json": b"[]"}, "0 rows, need 1 to"),
        ({"captions.json": b"3"}, "need a list of rows"),
        ({"captions.json": b"{"}, "no JSON"),
        ({"captions.json": b"[" * 100_000}, "no JSON"),
        ({"captions.json": b'{"red.png": "\xff"}'}, "utf-8"),
        ({"captions.json": json.dumps({"red.png": "x" * 2001}).encode()}, "2001 letters, at most 2000"),
        ({"captions.json": json.dumps([ROWS[0], ROWS[0]]).encode()}, "red.png has more than one row"),
        ({"red.png": IMAGES["red.png"][:40]}, "red.png: no image of PNG, JPEG, WEBP"),
        ({"red.png": b"GIF89a" + bytes(99)}, "red.png: no image of PNG, JPEG, WEBP"),
    ],
)
@pytest.mark.parametrize("write", [archive, folder])
def test_what_is_wrong_is_said(write, changes: dict[str, bytes], words: str, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    path = write(tmp_path / "mine", {**GOOD, **changes})
    with pytest.raises(ValueError, match=rf"^{re.escape(str(path))}: .*{re.escape(words)}"):
        read_captioned(path)


def test_paths_without_captions_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"need one of captions\.json"):
        read_captioned(folder(tmp_path / "mine", IMAGES))
    (tmp_path / "text.zip").write_text("no archive")
    with pytest.raises(ValueError, match="neither a folder nor a zip archive"):
        read_captioned(tmp_path / "text.zip")
    with pytest.raises(ValueError, match="No such file"):
        read_captioned(tmp_path / "none.zip")


def test_nothing_is_read_through_a_link(tmp_path: Path) -> None:
    path = folder(tmp_path / "mine", {"captions.json": b'{"red.png": "x", "in/red.png": "y"}'})
    outside = folder(tmp_path / "outside", {"red.png": IMAGES["red.png"]})
    (path / "red.png").symlink_to(outside / "red.png")
    with pytest.raises(ValueError, match="leads out of the folder"):
        read_captioned(path)
    (path / "red.png").unlink()
    (path / "red.png").write_bytes(IMAGES["red.png"])
    (path / "in").symlink_to(outside)
    with pytest.raises(ValueError, match=r"in/red\.png.*leads out of the folder"):
        read_captioned(path)


def test_sizes_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = archive(tmp_path / "a.zip", GOOD)
    monkeypatch.setattr(captioned_files, "MAX_PIXELS", 15)
    with pytest.raises(ValueError, match=r"4 x 4 pixels, at most 15"):
        read_captioned(path)
    monkeypatch.setattr(captioned_files, "MAX_IMAGE_BYTES", 20)
    for written in (path, folder(tmp_path / "b", GOOD)):
        with pytest.raises(ValueError, match="20"):
            read_captioned(written)


def test_a_caption_is_trained_with_or_held_out_and_never_both(tmp_path: Path) -> None:
    files = {f"{k}.png": encoded((k, 0, 0)) for k in range(200)}
    table = json.dumps({f"{k}.png": f"red shade {k // 2}" for k in range(200)}).encode()
    found = captioned_set(
        path=str(archive(tmp_path / "a.zip", {**files, "captions.json": table})), held_out=0.2, edge=4
    )
    trained, tests = ({image.prompt for image in images} for images in (found.train, found.held_out))
    assert trained.isdisjoint(tests)
    assert len(trained | tests) == 100
    assert 8 <= len(tests) <= 32
    assert set(found.texts) == trained
    assert found.words == ("red", "shade")
    with pytest.raises(ValueError, match="held_out: got 1"):
        captioned_set(path=str(tmp_path / "a.zip"), held_out=1.0, edge=4)


def test_scenes_are_joined_by_images_as_often_as_asked(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.zip", GOOD)
    found = scene_set(n=3, seed=0, edge=32, path=str(path), repeats=4, held_out=0.0)
    assert [image.prompt for image in found.train[3:]] == ["a red page"] * 4
    assert {image.pixels.shape for image in found.train} == {(32, 32, 3)}
    assert "a red page" not in found.texts
    assert [image.prompt for image in found.autoencoded].count("a red page") == 4
    assert len(found.autoencoded) == 3 + 4  # as many scenes as pictures, where there are so many
    assert len(scene_set(n=9, seed=0, edge=32, path=str(path), repeats=4, held_out=0.0).autoencoded) == 8
    with pytest.raises(ValueError, match="repeats: got 0"):
        scene_set(n=3, seed=0, edge=32, path=None, repeats=0, held_out=0.0)


def test_words_are_those_of_several_captions_the_most_frequent_first() -> None:
    assert frequent_words(["A cat, a dog", "a Dog’s hat", "dog piñata"]) == ("dog", "a")


def test_the_nearest_image_is_found() -> None:
    flat = [CaptionedImage(np.full((2, 2, 3), value, np.uint8)) for value in (0, 51, 255)]
    np.testing.assert_allclose(nearest_distances([flat[1], flat[2]], flat[::2]), [0.2, 0], atol=1e-6)
    with pytest.raises(ValueError, match="need training images"):
        nearest_distances(flat, [])


def test_a_file_of_images_is_measured(tmp_path: Path) -> None:
    files = {"0.png": encoded((220, 40, 40), (64, 64)), "index.tsv": b"file\tprompt\n0.png\ta red circle\n"}
    path, out = archive(tmp_path / "a.zip", files), tmp_path / "a.json"
    done = molrl("evaluate", f"file={path}", f"reference={path}", f"out={out}")
    assert done.code == 0, done.err
    found = json.loads(out.read_text())
    assert (found["n"], found["right"], found["nearest_median"]) == (1, 0, pytest.approx(0, abs=1e-6))
