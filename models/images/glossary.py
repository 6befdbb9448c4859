"""Terms of a report for the metrics of images, which `molrl.data.images.metrics` computes."""

from collections.abc import Mapping

from molrl.glossary import Term

SAMPLES, VALID = ("n",), ("n", "validity")  # that a share is taken of

METRICS: Mapping[str, Term] = {
    "validity": Term("valid", "share of the images without a flaw", SAMPLES),
    "bytes_per_pixel": Term("bytes per pixel", "mean size as a JPEG file over the number of pixels"),
    "colour_entropy": Term(
        "colour entropy", "mean entropy of the colours of an image in bits, 0: one colour, 6: all alike"
    ),
    "diversity": Term("diversity", "mean distance of two images of one prompt, in [0, 1]"),
    "dark": Term("dark pixels", "mean share of dark pixels of an image"),
    "uniqueness": Term("unique", "different images by a perceptual hash, of the valid ones", VALID),
    "right": Term("all right", "share of the valid images that show all of the prompt", VALID),
    "right_colour": Term("right colour", "share of the valid images with the prompt's colour", VALID),
    "right_shape": Term("right shape", "share of the valid images with the prompt's shape", VALID),
    "right_background": Term("right background", "share of the valid images with the prompt's background", VALID),
    "right_colours": Term("right colours", "mean share of the things of a scene with the right colour"),
    "right_shapes": Term("right shapes", "mean share of the things of a scene with the right shape"),
    "right_held_out": Term("right, new things", "all right, of the prompts with a thing that no training image shows"),
    "right_*": Term("right *", "all right, of the prompts of this kind"),
}
