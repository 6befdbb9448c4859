"""Scoring files of images: a row for each image, known values, and a reason for everything else."""

import csv
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from command import molrl
from PIL import Image

from molrl.data.images.drawings import Caption, draw
from molrl.data.images.records import image_records, read_image
from molrl.rewards.images.files import ImageFiles
from molrl.rewards.images.jpeg import JPEGSize

RIGHT, WRONG = Caption("red", "circle", "blue"), Caption("green", "star", "blue")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a folder of a right image, one with another's caption and one that is damaged."""
    monkeypatch.chdir(tmp_path)
    (place := tmp_path / "set").mkdir()
    drawing = draw(RIGHT, np.random.default_rng(0), 64)
    for name in ("a.png", "b.png"):
        Image.fromarray(drawing.pixels).save(place / name)
    (place / "c.png").write_bytes(b"no image")
    captions = {"b.png": str(WRONG), "a.png": str(RIGHT), "c.png": str(RIGHT), "d.png": str(RIGHT)}
    (place / "captions.json").write_text(json.dumps(captions))
    return place


def rows_of(path: str) -> list[dict[str, str]]:
    with Path(path).open(newline="") as file:
        return list(csv.DictReader(file))


def test_each_image_has_a_row_in_the_order_of_the_table(folder: Path) -> None:
    assert molrl("score", "set", "reward=alignment,compressibility").code == 4
    wrong, right, damaged, missing = rows_of("set.alignment_compressibility.csv")
    assert (right["name"], right["prompt"], right["alignment"]) == ("a.png", str(RIGHT), "1")
    assert float(wrong["alignment"]) < 1
    assert right["compressibility"] == wrong["compressibility"]
    image = read_image(next(image_records(folder / "a.png")))
    assert float(right["compressibility"]) == pytest.approx(JPEGSize(sign=-1, quality=95, above_flat=True)([image])[0])
    assert damaged["reason"] == "unreadable: no image of PNG, JPEG, WEBP that can be read: another format"
    assert missing["reason"].startswith("unreadable: No such file")
    assert damaged["alignment"] == damaged["compressibility"] == missing["alignment"] == ""


def test_an_archive_a_folder_and_single_files_have_the_same_values(folder: Path) -> None:
    with zipfile.ZipFile("set.zip", "w") as archive:
        for path in sorted(folder.iterdir()):
            archive.write(path, path.name)
    for name in ("set", "set.zip"):
        assert molrl("score", name, "reward=alignment", f"out={name}.csv").code == 4
    assert [row["alignment"] for row in rows_of("set.csv")] == [row["alignment"] for row in rows_of("set.zip.csv")]
    assert molrl("score", "set/a.png", "reward=compressibility", "out=one.csv").code == 0
    assert len(rows_of("one.csv")) == 1


def test_without_a_table_all_images_are_scored_without_captions(folder: Path) -> None:
    (folder / "captions.json").unlink()
    assert molrl("score", "set", "reward=compressibility", "allow_failures=true").code == 0
    assert [(row["name"], row["prompt"]) for row in rows_of("set.compressibility.csv")] == [
        ("a.png", ""),
        ("b.png", ""),
        ("c.png", ""),
    ]


def test_a_folder_is_another_one_after_a_change_of_a_file(folder: Path) -> None:
    source = ImageFiles()
    before = source.identity(folder)
    assert source.identity(folder) == before
    (folder / "c.png").write_bytes(b"another one")
    assert source.identity(folder) != before


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("x.zip", b"nothing", "x.zip: neither a folder nor a zip archive"),
        ("gone.zip", None, "gone.zip: No such file"),
        ("empty", None, "0 images, need 1 to"),
    ],
)
def test_what_has_no_images_is_one_error(
    name: str, content: bytes | None, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    if content is not None:
        (tmp_path / name).write_bytes(content)
    done = molrl("score", name, "reward=compressibility")
    assert done.code not in (0, 4)
    assert words in done.err
    assert len(done.err.splitlines()) == 1


def test_a_link_out_of_the_folder_is_not_followed(folder: Path, tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "secret.png")
    (folder / "c.png").unlink()
    (folder / "c.png").symlink_to(tmp_path / "secret.png")
    found = {record.name: record.problem for record in image_records(folder)}
    assert found["c.png"] == "c.png: leads out of the folder"
    assert found["a.png"] == ""
