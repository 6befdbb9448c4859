"""The benchmarks time the calls that they name."""

import gzip
import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import gemmi
import pytest
import torch
from polymer_files import pdb_lines, text_of
from rdkit import Chem
from torch import Tensor, nn

from molrl.composition import compose
from molrl.gaussian import Context
from molrl.schedule import LogLinear

FOLDER = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def networks() -> ModuleType:
    return benchmark("networks")


def benchmark(name: str) -> ModuleType:
    """Return a benchmark as a module."""
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(FOLDER))  # where its neighbours are
    spec.loader.exec_module(module)
    sys.path.remove(str(FOLDER))
    return module


class Counting(nn.Module):
    """A denoiser that counts its calls, and the atoms of each."""

    def __init__(self) -> None:
        super().__init__()
        self.atoms: list[int] = []

    def forward(self, x: Tensor, t: Tensor, context: Context) -> Tensor:
        del t, context
        self.atoms.append(x.shape[1])
        return torch.zeros_like(x)


def test_a_whole_sample_is_timed_with_every_network_call_of_its_chain(networks: ModuleType) -> None:
    denoiser = Counting()
    batch = next(networks._batches(4, 4, torch.device("cpu"))).rows(2)
    contender = networks.Contender("counting", denoiser, LogLinear(noise_min=0.01, noise_max=20.0), 7)
    networks._sample(contender, batch)
    assert denoiser.atoms == [int(batch.context["mask"].sum(1).max())] * 8  # seven steps and the clean estimate


def test_records_that_other_readers_have_otherwise_are_printed_and_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """RDKit reads a bond of any order as none; it reads no columns before the positions, and ASE no trailers of QM9."""
    pytest.importorskip("ase")
    ethanol = Chem.MolToMolBlock(Chem.MolFromSmiles("CCO"))
    query = ethanol.replace("  1  2  1  0", "  1  2  8  0")
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.sdf").write_text(f"{ethanol}$$$$\nnonsense\n$$$$\n{query}$$$$\n")
    (tmp_path / "plain.xyz").write_text("1\nargon\nAr 0 0 0\n")
    (tmp_path / "qm9.xyz").write_text("1\ngdb 1\t1.0\nAr 0 0 0\n1.5\t2.5\nC\tC\nInChI=1\tInChI=1\n")
    (tmp_path / "other.txt").write_text("not read")
    module = benchmark("readers_molecules")
    monkeypatch.setattr(sys, "argv", ["readers_molecules.py", str(tmp_path)])
    module.main()
    lines = capsys.readouterr().out.splitlines()
    shown = [line.split("\t") for line in lines if "\t" in line]
    assert [(name, Path(path).name, row) for name, path, row, *_ in shown] == [
        ("RDKit", "x.sdf", "3"),
        ("RDKit", "qm9.xyz", "1"),
        ("ASE", "qm9.xyz", "1"),
    ]
    assert shown[0][3:] == ["refused: query bond or bond of order zero", "C~CO 2D"]
    assert lines[-5:] == [
        "| ASE | 1 | alike |",
        "| ASE | 1 | only molrl reads |",
        "| RDKit | 3 | alike |",
        "| RDKit | 1 | only RDKit reads |",
        "| RDKit | 1 | only molrl reads |",
    ]


@pytest.mark.slow
def test_a_file_with_every_fault_is_scored_and_a_killed_run_goes_on() -> None:
    command = [sys.executable, str(FOLDER / "score_many.py"), "--records=300", "--timeout=1", "--rounds=1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "faults 5 bad records, 0 of them not named; 295 good ones, 0 of them lost" in done.stdout
    assert "0 of them scored again, the same bytes: True" in done.stdout


def test_the_gate_finds_the_error_per_atom_and_its_slope(tmp_path: Path) -> None:
    """Errors that fall as hours^-0.5 by construction, for molecules of 20 atoms."""
    gate = benchmark("gate")
    rows = []
    for hours in (0.25, 0.5, 1.0):
        connected = (1 - 0.02 * hours**-0.5) ** 20
        rows.append({"step": int(1800 * hours), "loss": 1.0, "validity_connected": connected, "mean_heavy_atoms": 20.0})
    (tmp_path / "pretrain.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    points = gate.read_points(tmp_path, speed=2.0)
    assert [point.hours for point in points] == [0.25, 0.5, 1.0]
    assert [point.error for point in points] == pytest.approx([0.04, 0.02 * 2**0.5, 0.02])
    assert gate.slope(points) == pytest.approx(-0.5)
    assert "| 1.00 | 1,800 | 1.0000 | 66.8% | 0.0200 | -0.50 |" in gate.table({"arm": points})


@pytest.mark.parametrize(("name", "equivariant"), [("TransformerNetwork", True), ("PlainTransformer", False)])
def test_of_the_transformers_of_the_gate_one_is_equivariant(name: str, equivariant: bool) -> None:
    """Rotations, reflections, permutations and padding; the plain one keeps to the last two alone."""
    torch.manual_seed(0)
    network = getattr(benchmark("transformer_network"), name)(features=4, width=24, heads=3, blocks=4, radial=6).eval()
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.1)
    mask = torch.arange(7) < torch.tensor([[7], [5]])
    x, noise = torch.randn(2, 7, 7) * mask.unsqueeze(-1), torch.tensor([0.3, -1.2])
    x[..., :3] -= mask.unsqueeze(-1) * x[..., :3].sum(1, keepdim=True) / mask.sum(1).view(-1, 1, 1)
    turn = torch.block_diag(torch.linalg.qr(torch.randn(3, 3)).Q, torch.eye(4))
    order = torch.randperm(5)
    out = network(x, noise, {"mask": mask})
    turned = network(x @ turn, noise, {"mask": mask})
    assert torch.allclose(turned, out @ turn, atol=1e-4) == equivariant
    assert torch.allclose(turned[..., 3:], out[..., 3:], atol=1e-4) == equivariant
    alone = network(x[1:, order], noise[1:], {"mask": mask[1:, order]})
    assert torch.allclose(alone, out[1:, order], atol=1e-4)
    assert out[1, 5:].abs().max() == 0


def test_the_readers_of_proteins_are_compared_over_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """gemmi does not know a water of simulations, and has a residue twice whose hydrogens are of another segment.

    Frames that were put together without a separator are no receptor.
    """
    proteins = benchmark("readers_proteins")
    chain = pdb_lines("GAS", hydrogens=False)
    water = "HETATM   90  O   SPC A 900      20.000  20.000  20.000  1.00  0.00           O"
    segments = [f"{line[:72]}{'' if line[76:78] == ' H' else 'P':4}{line[76:]}" for line in pdb_lines("GAS")]
    (tmp_path / "below").mkdir()
    (tmp_path / "alike.pdb").write_text(text_of(*chain))
    structure = gemmi.read_pdb_string(text_of(*chain))
    structure.setup_entities()
    (tmp_path / "below/alike.cif.gz").write_bytes(gzip.compress(structure.make_mmcif_document().as_string().encode()))
    (tmp_path / "below/water.pdb").write_text(text_of(*chain, water))
    (tmp_path / "segments.pdb").write_text(text_of(*segments))
    (tmp_path / "stacked.ent").write_text(text_of(*chain, *chain))
    (tmp_path / "no_structure.txt").write_text("")
    proteins.compare(tmp_path)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "below/water.pdb: waters: molrl 1, gemmi 0"
    assert lines[1] == "below/water.pdb: ligands: molrl none, gemmi 1 SPC"
    assert lines[2].startswith("segments.pdb: alternates: molrl 0, gemmi ")
    assert "stacked.ent: refused: " in lines[-2]
    assert lines[-1].startswith("5 files; disagreements: ")
    with pytest.raises(SystemExit, match="no file with"):
        proteins.compare(tmp_path / "below/none")


@pytest.mark.parametrize(("task", "algo"), [("alignment", "ddpo"), ("class_logit", "rgdm"), ("stability", "rgdm")])
def test_without_its_own_file_a_task_has_the_settings_of_its_domain(task: str, algo: str) -> None:
    """On the command line, as the composition without that file has them."""
    module = benchmark("kl_budget")
    chosen = [f"task={task}", f"algo={algo}"]
    undone = compose("train", [*chosen, *module.domain_settings(task, algo, [])])
    assert undone == module.DomainSettings("train", chosen).config
    assert undone != compose("train", chosen)


def test_a_task_without_a_file_of_its_own_is_not_compared() -> None:
    with pytest.raises(SystemExit, match="task=stability algo=ddpo has no file of its own in conf/tuned"):
        benchmark("kl_budget").domain_settings("stability", "ddpo", [])


def test_a_gain_at_equal_size_is_none_where_only_the_sizes_moved() -> None:
    """Rewards that follow the size alone, 0.05 an atom; after, there are three times as many small ones."""
    drugs = benchmark("drugs_qed")
    before = [drugs.Scored(0.05 * size, size) for size in (8, 12, 12, 8)]
    after = [drugs.Scored(0.05 * size, size) for size in (8, 8, 8, 8, 8, 8, 12, 12)]
    assert drugs.gain_at_equal_size(before, after) == pytest.approx((0.0, 0.0), abs=1e-12)


def test_a_gain_at_equal_size_is_the_weighed_mean_of_its_bins() -> None:
    """Bins of four atoms: 8 to 11 gains 0.1 in 4 molecules, 12 to 15 gains 0.4 in 6; 20 is in one file alone."""
    drugs = benchmark("drugs_qed")
    before = [drugs.Scored(*pair) for pair in ((0.2, 8), (0.4, 11), (0.1, 12), (0.1, 13), (0.1, 15), (0.9, 20), (0, 9))]
    after = [drugs.Scored(*pair) for pair in ((0.3, 9), (0.5, 10), (0.5, 14), (0.5, 14), (0.5, 14))]
    found = drugs.gain_at_equal_size(before, after)
    assert found.mean == pytest.approx(0.4 * 0.1 + 0.6 * 0.4)
    assert found.error == pytest.approx(0.4 * (2 * 0.02 / 2) ** 0.5)  # two variances of 0.02 over two molecules


def test_a_record_without_a_reward_is_refused(tmp_path: Path) -> None:
    drugs, path = benchmark("drugs_qed"), tmp_path / "samples.sdf"
    block = Chem.MolToMolBlock(Chem.MolFromSmiles("CCO"))
    path.write_text(f"{block}> <reward>\n0.25\n\n$$$$\n")
    assert drugs.read_scored(path) == [drugs.Scored(0.25, 3)]
    path.write_text(f"{block}> <other>\n0.25\n\n$$$$\n")
    with pytest.raises(ValueError, match="got a record without <reward>"):
        drugs.read_scored(path)
