"""Laws of drawings that can be read back, of prompt lists and of the metrics of images."""

import math
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from molrl.data.images.drawings import (
    COLOURS,
    SHAPES,
    WORDS,
    Drawings,
    all_captions,
    captions,
    captions_by_text,
    draw,
    is_held_out,
    read_drawing,
)
from molrl.data.images.grid import draw_images
from molrl.data.images.image import CaptionedImage, quantise
from molrl.data.images.metrics import colour_entropy, diversity, image_metrics, jpeg_bytes, thumbnail
from molrl.data.images.prompts import prompt_list


def flat(value: int | tuple[int, int, int], edge: int = 32) -> CaptionedImage:
    return CaptionedImage(np.full((edge, edge, 3), value, np.uint8))


@pytest.mark.parametrize("edge", [32, 64])
def test_real_drawings_are_read_without_a_mistake(edge: int) -> None:
    rng = np.random.default_rng(0)
    wrong = [
        (str(caption), str(found))
        for caption in all_captions() * (3 if edge == 32 else 1)
        if (found := read_drawing(draw(caption, rng, edge))) != caption
    ]
    assert not wrong


def test_a_drawing_is_read_through_some_noise() -> None:
    rng = np.random.default_rng(1)
    right = 0
    for caption in all_captions():
        noisy = draw(caption, rng).pixels + rng.normal(0, 8, (32, 32, 3))
        right += read_drawing(CaptionedImage(noisy.clip(0, 255).astype(np.uint8))) == caption
    assert right / len(all_captions()) > 0.97


def test_an_image_without_a_figure_has_no_shape() -> None:
    found = read_drawing(flat(COLOURS["purple"]))
    assert (found.shape, found.background) == ("", "purple")


def test_some_combinations_are_held_out_and_each_part_of_them_is_trained() -> None:
    held = [caption for caption in all_captions() if is_held_out(caption)]
    assert len(held) == 8 * len(SHAPES)
    trained = set(all_captions()) - set(held)
    for part in range(3):
        assert {caption[part] for caption in trained} == {caption[part] for caption in all_captions()}
        assert {caption[part] for caption in held} == {caption[part] for caption in all_captions()}
    assert set(captions(held_out=True)).isdisjoint(captions(held_out=False))
    assert {word for caption in captions_by_text() for word in caption.split()} == set(WORDS)


def test_a_drawing_depends_on_the_seed_and_its_index_alone() -> None:
    drawings = Drawings(seed=3)
    np.testing.assert_array_equal(drawings[5].pixels, Drawings(seed=3)[5].pixels)
    assert not np.array_equal(drawings[5].pixels, drawings[6].pixels)
    assert not is_held_out(captions_by_text()[drawings[5].prompt])
    assert is_held_out(captions_by_text()[Drawings(seed=3, held_out=True)[5].prompt])


@pytest.mark.parametrize(
    ("name", "count", "first"),
    [
        ("animals", 45, "cat"),
        ("few_animals", 22, "cat"),
        ("imagenet_animals", 398, "tench, Tinca tinca"),
        ("activities", 135, "a cat washing the dishes"),
        ("dpok", 4, "a green colored rabbit"),
        ("drawings", 240, "a red circle on a blue background"),
        ("drawings_held_out", 40, "a red circle on a green background"),
    ],
)
def test_lists_of_prompts_are_those_of_the_papers(name: str, count: int, first: str) -> None:
    found = prompt_list(name)
    assert len(set(found)) == count
    assert found[0] == first


def test_articles_follow_the_noun() -> None:
    assert "an ant riding a bike" in prompt_list("activities")
    assert "an orange ring on a white background" in captions_by_text()


def test_prompts_may_come_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("one cat\n\n two cats \none cat\n")
    assert prompt_list(str(tmp_path / "mine.txt")) == ("one cat", "two cats")
    (tmp_path / "none.txt").write_text("\n")
    with pytest.raises(ValueError, match="0 prompts"):
        prompt_list(str(tmp_path / "none.txt"))
    with pytest.raises(ValueError, match=r"no such file; known lists are drawings, .*, animals"):
        prompt_list("animal")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("a cat\nein grüner Stern\n".encode("latin-1"), r"mine.txt:2: byte 0xfc in column 7 is not UTF-8"),
        ("猫\n".encode("shift-jis"), r"mine.txt:1: byte 0x94 in column 1"),
        ("a cat\n".encode("utf-16-le"), r"mine.txt:1: control character 0x00"),
        (b"a cat\na dog\0\n", r"mine.txt:2: control character 0x00"),
        (b"a cat\n\n" + b"x" * 2001, r"mine.txt:3: 2001 letters, at most 2000"),
    ],
)
def test_a_line_that_is_no_prompt_is_refused_by_its_number(content: bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_bytes(content)
    with pytest.raises(ValueError, match=words):
        prompt_list(str(tmp_path / "mine.txt"))


PRINTABLE = st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=20)


@given(st.lists(PRINTABLE, min_size=1, max_size=9, unique=True), st.sampled_from(["\n", "\r\n", "\r"]), st.booleans())
def test_prompts_of_any_script_are_read_as_they_are(
    tmp_path_factory: pytest.TempPathFactory, prompts: list[str], end: str, marked: bool
) -> None:
    path = tmp_path_factory.mktemp("prompts") / "mine.txt"
    path.write_bytes(end.join(prompts).encode("utf-8-sig" if marked else "utf-8"))
    assert prompt_list(str(path)) == tuple(prompts)


def test_values_are_rounded_to_eight_bits() -> None:
    unit = np.array([[[0.0, 0.5, 1.2]]], np.float32)
    assert quantise(unit, "x").pixels.tolist() == [[[0, 128, 255]]]
    assert quantise(unit * np.float32("nan"), "x").flaw == "not finite"


def test_an_image_has_three_colours_of_eight_bits() -> None:
    wrong: Any = np.zeros((4, 4, 3), np.float32)
    with pytest.raises(ValueError, match="need uint8"):
        CaptionedImage(wrong)
    with pytest.raises(ValueError, match="need uint8"):
        CaptionedImage(np.zeros((4, 4), np.uint8))


def test_files_weigh_what_was_measured_of_them() -> None:
    """Sizes are kB of flat images and of noise at 512, 64 and 32 pixels."""
    rng = np.random.default_rng(0)
    for edge, kilobytes, noise in ((512, 4.7, 308), (64, 0.69, 5.4), (32, 0.64, 1.8)):
        assert jpeg_bytes(flat(128, edge)) / 1000 == pytest.approx(kilobytes, rel=0.02)
        noisy = CaptionedImage(rng.integers(0, 256, (edge, edge, 3), dtype=np.uint8))
        assert jpeg_bytes(noisy) / 1000 == pytest.approx(noise, rel=0.04)


def test_metrics_tell_what_images_become() -> None:
    rng = np.random.default_rng(0)
    drawn = [draw(caption, rng) for caption in all_captions()[:20]]
    noise = [CaptionedImage(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)) for _ in range(20)]
    black = [flat(0)] * 20
    found = {name: image_metrics(s) for name, s in (("drawn", drawn), ("noise", noise), ("black", black))}
    assert found["black"]["dark"] == 1
    assert found["black"]["colour_entropy"] == 0
    assert found["black"]["uniqueness"] == 1 / 20
    assert found["black"]["diversity"] == pytest.approx(0, abs=1e-6)
    assert found["noise"]["colour_entropy"] > 5.8 > found["drawn"]["colour_entropy"]
    assert found["noise"]["bytes_per_pixel"] > found["drawn"]["bytes_per_pixel"] > found["black"]["bytes_per_pixel"]
    assert found["drawn"]["uniqueness"] == 1
    assert image_metrics([CaptionedImage(flat(0).pixels, flaw="not finite"), flat(9)])["validity"] == 0.5
    assert math.isnan(image_metrics([])["dark"])


def test_diversity_is_within_a_prompt() -> None:
    thumbs = [thumbnail(flat(value)) for value in (0, 255, 0, 255)]
    assert diversity(thumbs, ["a", "b", "a", "b"]) == 0
    assert diversity(thumbs, ["a", "a", "b", "b"]) == 1
    assert diversity(thumbs, ["a", "b", "c", "d"]) == pytest.approx(4 / 6)


def test_entropy_counts_bits() -> None:
    halves = flat(0)
    halves.pixels[:16] = 255
    assert colour_entropy(halves) == pytest.approx(1)


def test_images_are_drawn_in_a_grid_with_their_captions() -> None:
    page = np.asarray(draw_images([flat(0), flat((200, 0, 0)), flat(90)], ["a", "b", "c"], columns=2))
    rows = [key for key, _ in groupby((page == 255).all((1, 2)))]
    assert rows.count(False) >= 2  # a row of cells, and another
    assert (page == (200, 0, 0)).all(2).any()
    with pytest.raises(ValueError, match="captions: got 1 for 3 images"):
        draw_images([flat(0)] * 3, ["a"])
