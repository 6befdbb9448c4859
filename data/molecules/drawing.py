"""Images of molecules: the structural formulas that a bond reader finds, in a grid."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import matplotlib
from PIL import Image, ImageDraw, ImageFont
from rdkit import Chem, rdBase
from rdkit.Chem import rdDepictor
from rdkit.Chem.Draw import rdMolDraw2D

from molrl.data.molecules.bonds import BondReader
from molrl.data.molecules.molecule import Molecule

WIDTH, HEIGHT = 360, 300  # of a drawing
PADDING = 10  # inside a cell
GAP, EDGE = 18, 4  # between cells and around them
CAPTION, TITLE = 26, 36  # font sizes
LINE_SPACING = 1.35
OPTIONS = {
    "fixedBondLength": 54.0,  # pixels, or less where the molecule is too large for its cell
    "bondLineWidth": 3,
    "minFontSize": 20,
    "padding": 0.06,
    "prepareMolsBeforeDrawing": False,  # done before, where a failure can be handled
}
BORDER, TEXT, FAINT, CARD = "#dfe3e8", "#24292f", "#8c959f", "#f6f8fa"
SHADE = (0.76, 0.87, 0.98)  # red, green, blue of the shaded part
FONTS: Final = Path(matplotlib.get_data_path()) / "fonts" / "ttf"


def draw_grid(
    molecules: Sequence[Molecule], captions: Sequence[str], reader: BondReader, columns: int, title: str | None
) -> Image.Image:
    """Draw each molecule in a cell above its caption, row by row; an unreadable one is a box with the reason.

    Captions may have several lines; a line that is too long for its cell ends in an ellipsis. Cores are shaded.

    Raises ValueError for another number of captions than of molecules, for none at all, and for columns below 1.
    """
    if not molecules or len(molecules) != len(captions):
        raise ValueError(f"captions: got {len(captions)} for {len(molecules)} molecules, expected one for each of some")
    if columns < 1:
        raise ValueError(f"columns: got {columns}, need at least 1")
    lines = max(len(caption.splitlines()) for caption in captions)
    cell = (WIDTH + 2 * PADDING, HEIGHT + 2 * PADDING + round(lines * CAPTION * LINE_SPACING))
    rows = -(-len(molecules) // columns)
    top = EDGE + (round(TITLE * 1.7) if title else 0)
    size = columns * (cell[0] + GAP) - GAP + 2 * EDGE, top + rows * (cell[1] + GAP) - GAP + EDGE
    page = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(page)
    if title:
        font = typeface(TITLE, bold=True)
        draw.text((EDGE, EDGE), fit_text(title, font, page.width - 2 * EDGE), TEXT, font)
    for index, (molecule, caption) in enumerate(zip(molecules, captions, strict=True)):
        row, column = divmod(index, columns)
        left, upper = EDGE + column * (cell[0] + GAP), top + row * (cell[1] + GAP)
        mol, reason = reader(molecule)
        box = (left, upper, left + cell[0] - 1, upper + cell[1] - 1)
        draw.rounded_rectangle(box, 14, "white" if mol else CARD, BORDER, 2)
        if mol is not None:
            page.paste(draw_molecule(mol, given_atoms(molecule)), (left + PADDING, upper + PADDING))
        else:
            draw_lines(
                draw, (left + cell[0] // 2, upper + PADDING + HEIGHT // 2 - CAPTION), f"unreadable\n{reason}", FAINT
            )
        draw_lines(draw, (left + cell[0] // 2, upper + PADDING + HEIGHT), caption, TEXT)
    return page


def given_atoms(molecule: Molecule) -> range:
    """Return the numbers of the atoms that were given as a core, the first ones; none without a core."""
    return range(0 if molecule.core is None else len(molecule.core))


def draw_molecule(mol: Chem.Mol, shaded: Sequence[int] = ()) -> Image.Image:
    """Draw the structural formula, WIDTH by HEIGHT pixels on white, with some atoms and the bonds among them shaded."""
    with rdBase.BlockLogs():
        flat = Chem.Mol(mol)
        flat.RemoveAllConformers()
        rdDepictor.Compute2DCoords(flat)
        rdDepictor.StraightenDepiction(flat)
        canvas = rdMolDraw2D.MolDraw2DCairo(WIDTH, HEIGHT)
        for option, value in OPTIONS.items():
            setattr(canvas.drawOptions(), option, value)
        canvas.drawOptions().setHighlightColour(SHADE)
        try:
            flat = rdMolDraw2D.PrepareMolForDrawing(flat)
        except ValueError:  # aromatic rings without a Kekulé form are drawn with dashes
            flat = rdMolDraw2D.PrepareMolForDrawing(flat, kekulize=False)
        within = [
            bond.GetIdx() for bond in mol.GetBonds() if {bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()} <= {*shaded}
        ]
        canvas.DrawMolecule(flat, highlightAtoms=list(shaded), highlightBonds=within)
        canvas.FinishDrawing()
    return Image.open(io.BytesIO(canvas.GetDrawingText())).convert("RGB")


def draw_lines(draw: ImageDraw.ImageDraw, centre_top: tuple[int, int], text: str, colour: str) -> None:
    """Draw centred lines of text, each no wider than a structural formula."""
    font = typeface(CAPTION)
    for number, line in enumerate(text.splitlines()):
        place = (centre_top[0], centre_top[1] + round(number * CAPTION * LINE_SPACING))
        draw.text(place, fit_text(line, font, WIDTH), colour, font, anchor="ma")


def fit_text(text: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    """Return the text, or as much of its beginning as fits into a width in pixels with an ellipsis."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(f"{text}…") > width:
        text = text[:-1]
    return f"{text}…"


def typeface(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    """Load DejaVu Sans, which comes with matplotlib, so that images are the same on every machine."""
    return ImageFont.truetype(str(FONTS / ("DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf")), size)
