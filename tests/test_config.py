"""Settings are checked against the signatures they will be passed to, and only what is ours is built."""

import inspect
import re
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
import yaml
from command import OF_GRADIENTS

from molrl.arguments import COMMANDS
from molrl.building import build, target
from molrl.composition import CONF, Composition, choices, compose
from molrl.config import ConfigError, check_arguments, check_type, settings
from molrl.data.files import EXAMPLES
from molrl.finetune import FinetuneConfig
from molrl.rewards.molecules.docking.vina import PACKAGES
from molrl.run import OWN, prepare

FILES = {"score": ["file=x.sdf"], "evaluate": ["file=x.sdf"], "export": ["out=x"]}
DATA = Path(__file__).parent / "data"
CUBE = DATA / "cube.off"
MODELS = CONF.parent / "models/weights/molecules"
SITE = [
    "reward.site.receptor='example:1iep_pocket.pdbqt'",
    "reward.site.centre=[15.19,53.903,16.917]",
    "reward.site.size=[20,20,20]",
]
OFF_SITE = [one.replace("reward.site", "reward.off_site") for one in SITE]
REQUIRED: dict[str, list[str]] = {  # settings without a default, by the reward
    **dict.fromkeys(("docking", "docking_flexible", "docking_qed", "pose", "vina"), SITE),
    "interactions": [
        f"reward.scorer.receptor='{DATA / 'serine.pdb'}'",
        "reward.scorer.residues=[A:SER10:hbond]",
    ],
    **{name: [*SITE, *OFF_SITE] for name in ("selectivity", "selectivity_flexible")},
    "docked": [
        *SITE,
        f"reward.interactions.receptor='{DATA / 'serine.pdb'}'",
        "reward.interactions.residues=[A:SER10:hbond]",
    ],
    "queue": ["reward.folder=queue"],
    "isolated": [f"reward.python='{sys.executable}'", f"reward.model='{__file__}'"],
    "admet": [f"reward.python='{sys.executable}'", "reward.arguments.property=hERG"],
    "predictor": [f"reward.scorer.file='{DATA / 'sum.onnx'}'"],
    "overlap": [f"reward.scorer.reference='{EXAMPLES / 'imatinib.sdf'}'"],
    "shape_target": [f"reward.target='{CUBE}'"],
    "aesthetic": ["reward.model=owner/name", f"reward.head='{CUBE}'"],  # neither is read before an image is scored
    "clip_score": ["reward.model=owner/name"],
    "pick_score": ["reward.model=owner/name"],
    "vlm_judge": ["reward.url=http://localhost", "reward.model=m"],
    "remote": ["reward.url=http://localhost"],
}
EXTRAS: dict[str, tuple[str, ...]] = {  # packages that may be missing
    **dict.fromkeys(("reward=xtb_force", "reward=xtb_energy"), ("tblite",)),
    "reward=vina": PACKAGES,
    "reward=predictor": ("onnxruntime",),
    **dict.fromkeys(("reward=aesthetic", "reward=clip_score", "reward=pick_score"), ("transformers",)),
    "model=images": ("diffusers", "transformers", "peft"),
    **{f"tracker={name}": (name,) for name in ("mlflow", "trackio", "wandb")},
}
PATHS = {
    "file": ["data.path=x.sdf"],
    "qm9": ["data.path=x.npz"],
    "pyg": ["data.root=x"],
    "smiles": ["data.path=x"],
    "drugs": ["data.path=x"],
    "captioned": ["data.path=x"],
    "shape_files": ["data.path=x"],
}
REWARDS = {  # of each task
    "aesthetic": "aesthetic",
    "alignment": "alignment",
    "class_logit": "shape_kind",
    "compressibility": "compressibility",
    "imagereward": "remote",
    "incompressibility": "incompressibility",
    "qed": "qed",
    "docking": "docking_qed",
    "grow": "pose",
    "match_target": "shape_target",
    "stability": "shape_standing",
    "symmetry": "shape_symmetric",
}
IMAGES = (
    "aesthetic",
    "alignment",
    "compressibility",
    "imagereward",
    "incompressibility",
)  # tasks that need a pipeline
GROW = [f"task.core='{EXAMPLES / 'imatinib_hinge.sdf'}'", "task.attach=13", "task.atoms=4"]
TASK_OF = {"molecules": "qed", "shapes": "symmetry", "images": "alignment"}
MODEL_OF = {"molecules": "heavy", "shapes": "shapes", "images": "images"}
TASKS = [task for task in choices("task") if task != "custom"]
WITH_GRADIENT = ("class_logit", "docking", "match_target", "stability", "symmetry")
WITHOUT_GRADIENT = [task for task in TASKS if task not in WITH_GRADIENT]
PAIRS = [
    (task, algo)
    for task in TASKS
    for algo in choices("algo")
    if not (task in WITHOUT_GRADIENT and algo in OF_GRADIENTS)
]


def by_domain() -> set[tuple[str, str]]:
    """Return every algorithm with a task of each domain, whose tasks take turns, and each pair with a file of its own.

    The settings of a pair follow from its task, from its algorithm, and from one file for both or for the domain and
    the algorithm.
    """
    options = Composition("train").options("task")
    turns: dict[tuple[str, str], list[str]] = {}
    for task, algo in PAIRS:
        turns.setdefault((options[task].rpartition("/")[0], algo), []).append(task)
    taken = {(tasks[turn % len(tasks)], algo) for turn, ((_, algo), tasks) in enumerate(turns.items())}
    return taken | {(task, algo) for task, algo in PAIRS if (CONF / f"tuned/{options[task]}_{algo}.yaml").is_file()}


QUICK = by_domain()


@dataclass(frozen=True, kw_only=True)
class Box:
    """A class that YAML may build."""

    size: int
    weight: float = 1.0
    label: str | None = None
    kind: Literal["a", "b"] = "a"
    inside: Callable[[], object] | None = None


def needed(task: str, request: pytest.FixtureRequest) -> list[str]:
    """Return the settings that a task needs to be built here: a core, or a small pipeline for those of images."""
    if task == "grow":
        return GROW
    if task not in IMAGES:
        return []
    folder = request.getfixturevalue("tiny_pipeline")
    (folder.parent / "prompt.txt").write_text("a red circle")
    return [f"policy={folder}", f"task.prompts='{folder.parent / 'prompt.txt'}'", "policy.num_steps=3"]


@pytest.mark.parametrize(
    ("task", "algo"), [pytest.param(*pair, marks=() if pair in QUICK else pytest.mark.slow) for pair in PAIRS]
)
def test_every_task_goes_with_every_algorithm(task: str, algo: str, request: pytest.FixtureRequest) -> None:
    chosen = [f"task={task}", f"algo={algo}", "device=cpu", *REQUIRED.get(REWARDS[task], []), *needed(task, request)]
    config = compose("train", chosen)
    if "workers" in config["reward"]:
        config["reward"]["workers"] = 0
    run = prepare(config)
    assert run.task.name == task
    assert callable(run.task.reward)
    assert f"{type(run.algorithm).__module__}.{type(run.algorithm).__name__}" == config["algo"]["_target_"]
    assert isinstance(run.finetuning, FinetuneConfig)
    policy = config["chosen"].pop("policy")
    assert policy in (*choices("policy"), config["policy"]["weights"])
    assert config["chosen"] == {
        "task": task,
        "reward": REWARDS[task],
        "algo": algo,
        "diversity": "none",
        "tracker": "none",
    }


def test_a_task_has_the_last_word_over_an_algorithm_and_the_command_line_over_both() -> None:
    molecules, shapes = (compose("train", [f"task={task}", "algo=ddpo"]) for task in ("qed", "stability"))
    assert molecules["algo"]["_target_"] == shapes["algo"]["_target_"]
    assert (molecules["algo"]["advantage"]["kind"], shapes["algo"]["advantage"]["kind"]) == ("global", "tracker")
    assert shapes["optimizer"]["lr"] < molecules["optimizer"]["lr"]
    asked = compose("train", ["task=stability", "algo=ddpo", "optimizer.lr=0.5", "algo.advantage.kind=global"])
    assert (asked["optimizer"]["lr"], asked["algo"]["advantage"]["kind"]) == (0.5, "global")


def test_real_shapes_are_put_where_a_task_has_none_and_have_their_own_settings() -> None:
    taken = "+data@task.data=procedural"
    config = compose("train", ["task=symmetry", "task.data.families=[airplane]", taken])
    assert config["task"]["data"]["families"] == ["airplane"]
    assert config["task"]["data"]["n"] == 20000
    with pytest.raises(ConfigError, match=r"no setting 'task.data.family'; did you mean task.data.families"):
        compose("train", ["task=symmetry", taken, "task.data.family=[airplane]"])


@pytest.mark.timeout(1200)  # composes every reward several times
def test_the_rewards_that_are_scored_with_are_those_trained_toward() -> None:
    for reward in choices("reward"):
        own = compose("score", [f"reward={reward}", *REQUIRED.get(reward, []), "file=x.sdf"])["reward"]
        pooled = ["reward.workers=1"] if "workers" in own else []  # others are computed where the policy is
        settings = [f"reward={reward}", *pooled, *REQUIRED.get(reward, [])]
        task = TASK_OF[Composition("score", [f"reward={reward}"]).choices["reward"].domain or ""]
        trained = compose("train", [f"task={task}", *settings])
        assert trained["reward"] == compose("score", [*settings, "file=x.sdf"])["reward"]
        assert (trained["task"]["name"], trained["chosen"]["reward"]) == (task, reward)


def test_what_is_for_different_domains_does_not_go_together() -> None:
    with pytest.raises(ConfigError, match="policy=qm9_heavy is for molecules, reward=shape_symmetry is for shapes"):
        compose("train", ["task=qed", "reward=shape_symmetry"])
    with pytest.raises(ConfigError, match="policy=shapes is for shapes"):
        compose("train", ["task=qed", "policy=shapes"])
    assert compose("train", ["task=symmetry", "reward=shape_compactness"])["chosen"]["reward"] == "shape_compactness"


def test_a_users_folder_adds_choices_and_takes_none_away(tmp_path: Path) -> None:
    (tmp_path / "task").mkdir()
    (tmp_path / "task/mine.yaml").write_text(
        "defaults: [/task/molecules@_here_, /reward@_global_.reward: molecules/logp, _self_]\nname: mine\n"
    )
    config = compose("train", ["task=mine", "reward.workers=0"], [tmp_path])
    assert (config["task"]["name"], config["reward"]["workers"]) == ("mine", 0)
    assert config["chosen"] == {
        "task": "mine",
        "policy": "qm9_heavy",
        "reward": "logp",
        "algo": "rgdm",
        "diversity": "none",
        "tracker": "none",
    }
    assert compose("train", ["task=qed"], [tmp_path])["task"]["name"] == "qed"
    with pytest.raises(ConfigError, match="task=mine: no such task; known are"):
        compose("train", ["task=mine"])
    with pytest.raises(ConfigError, match="no such folder"):
        compose("train", [], [tmp_path / "nothing"])


@pytest.mark.parametrize("place", ["runs/gone", "gone.safetensors"])
def test_a_path_that_holds_no_model_is_told_as_one(place: str) -> None:
    with pytest.raises(ConfigError, match=f"policy={place}: no model is there; known are"):
        compose("sample", [f"policy={place}", "policy.config=images"])


@pytest.mark.parametrize(
    ("command", "old", "new"),
    [
        ("train", "task.weights=x", "policy="),
        ("train", "task.num_steps=3", "policy.num_steps="),
        ("train", "trained=x", "trainable_parameters="),
        ("train", "algo.density=mean", "algo.likelihood="),
        ("sample", "weights=x", "policy="),
        ("sample", "num_steps=3", "policy.num_steps="),
        ("evaluate", "shapes.up=z", "reader.up="),
        ("pretrain", "data=pyg_qm9", "pyg, data=pyg"),
        ("pretrain", "model=pictures", "images, model=images"),
    ],
)
def test_the_old_name_of_a_setting_is_answered_with_the_new_one(command: str, old: str, new: str) -> None:
    with pytest.raises(ConfigError, match=f"is now {re.escape(new)}"):
        compose(command, [*FILES.get(command, []), old])


def test_there_are_as_many_settings_at_the_top_of_train_as_the_loop_and_the_run_take() -> None:
    assert set(compose("train", [])) == {*OWN, *inspect.signature(FinetuneConfig).parameters}


def nodes(node: Any) -> Iterator[Mapping[str, Any]]:
    """Yield every node with a `_target_`."""
    if isinstance(node, dict):
        if "_target_" in node:
            yield node
        for value in node.values():
            yield from nodes(value)
    elif isinstance(node, list):
        for value in node:
            yield from nodes(value)


@pytest.mark.parametrize("path", sorted(CONF.rglob("*.yaml")), ids=lambda path: str(path.relative_to(CONF)))
def test_every_setting_of_every_yaml_fits_what_it_names(path: Path) -> None:
    for node in nodes(yaml.safe_load(path.read_text())):
        callee = target(node["_target_"], "here")
        given = {name for name in node if not name.startswith("_")} - {"defaults", "threads", *node.get("_shared_", ())}
        parameters = inspect.signature(callee).parameters.values()
        assert any(one.kind is one.VAR_KEYWORD for one in parameters) or given <= {one.name for one in parameters}


@pytest.mark.parametrize(
    ("command", "choice"),
    [
        (command, f"{group}={name}")
        for command in COMMANDS
        for group, choice in Composition(command, FILES.get(command, [])).choices.items()
        for name in choices(choice.folder)
        if (group, name) != ("task", "custom")
    ]
    + [("sample", "n=3"), ("evaluate", "out=x.json")],
)
def test_every_choice_of_every_command_builds(command: str, choice: str, request: pytest.FixtureRequest) -> None:
    for package in EXTRAS.get(choice, ()):
        pytest.importorskip(package)
    group, _, name = choice.partition("=")
    task = name if group == "task" else task_for(group, name) if command == "train" else ""
    more = [f"task={task}"] if task and group != "task" else []
    more += [f"model={MODEL_OF[domain_of(group, name)]}"] if group == "data" else []
    more += [
        *(PATHS.get(name, []) if group != "policy" else []),
        *REQUIRED.get(REWARDS[task] if group in ("task", "policy") and task else name, []),
    ]
    more += needed(task, request) if group != "policy" else []
    more += [] if command in FILES else ["device=cpu"]
    config = compose(command, [*FILES.get(command, []), choice, *more])
    if command == "train" and not config["policy"]["weights"].startswith("hub:"):
        prepare(config)
    elif command != "train":
        settings = {name: value for name, value in config.items() if name not in ("chosen", "threads")}
        assert callable(build({**settings, "_partial_": True}, ""))


def domain_of(group: str, name: str) -> str:
    """Return the domain of a choice; "" for one that belongs to all."""
    return Composition("train").options(group).get(name, "").rpartition("/")[0]


def task_for(group: str, name: str) -> str:
    """Return a task that a policy or a reward goes with."""
    if group == "algo" and name in OF_GRADIENTS:
        return TASK_OF["shapes"]
    return TASK_OF.get(domain_of(group, name), "qed") if group in ("policy", "reward") else ""


@pytest.mark.parametrize(
    "path",
    [
        *(
            "os.system",
            "pathlib.Path.write_text",
            "builtins.eval",
            "torch.load",
            "torch.nn.Linear",
            "logging.os.system",
        ),
        *("numpy.load", "subprocess.run", "pickle.loads", "functools.partial", "hydra.utils.instantiate", "eval", ""),
        *("molrl", "molrl.cli.os", "molrl.cli.os.system", "molrl.config.importlib.import_module", "molrl.run.nn"),
        *(
            "molrl.runs.checkpoint.Path",
            "molrl.runs.checkpoint.shutil",
            "molrl.finetune.replace",
            "molrl.finetune.nn.Linear",
        ),
        *(
            "molrl.runs.checkpoint.load_tensors",
            "molrl.cli.Any",
            "molrl.gaussian.Context",
            "molrl.models.molecules.model.SHIPPED",
        ),
        *("molrl.cli.nothing", "molrl.nothing.here", "torch.optim.lr_scheduler", "torch.optim.lr_scheduler.StepLR"),
        *(
            "torch.optim.nothing",
            "molrlx.os.system",
            "molrl.data.files.np",
            "..",
            "molrl..cli",
            "torch.optim.adam.cast",
        ),
    ],
)
def test_nothing_foreign_is_built(path: str) -> None:
    with pytest.raises(ConfigError, match="_target_="):
        build({"_target_": path, "command": "touch marker"}, "algo")


def test_a_foreign_target_deep_inside_is_refused_before_anything_around_it_is_built(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    inner = {"_target_": "pathlib.Path.write_text", "self": str(marker), "data": "x"}
    with pytest.raises(ConfigError, match=r"task\.reward\.scorer\._target_=pathlib"):
        build({"_target_": "molrl.rewards.workers.pooled.Pooled", "workers": 0, "scorer": inner}, "task.reward")
    assert not marker.exists()


def test_an_optimizer_is_built_in_part() -> None:
    made = build({"_target_": "torch.optim.AdamW", "_partial_": True, "lr": 0.5}, "optimizer")
    assert made([torch.nn.Parameter(torch.zeros(1))]).param_groups[0]["lr"] == 0.5


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sizee": 3}, "algo.sizee size"),
        ({"size": "abc"}, "algo.size 'abc' int"),
        ({"size": 1.5}, "algo.size 1.5 int"),
        ({"size": True}, "algo.size True int"),
        ({"size": None}, "algo.size null int"),
        ({"size": [1]}, "algo.size [1] int"),
        ({"weight": "1"}, "algo.weight '1' float"),
        ({"label": 3}, "algo.label 3 str null"),
        ({"kind": "c"}, "algo.kind 'c' 'a' 'b'"),
        ({"inside": "text"}, "algo.inside 'text' Callable null"),
    ],
)
def test_a_wrong_setting_is_named_with_what_is_allowed(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_arguments(Box, {"size": 1, **changes}, "algo", partial=False)
    assert not [word for word in words.split() if word not in str(caught.value)], caught.value


def test_what_is_shared_is_built_but_is_no_argument() -> None:
    node = {
        "_target_": "molrl.rewards.molecules.docking.scoring_function.Box",
        "_shared_": ["site"],
        "centre": [0, 0, 0],
        "size": [1, 1, 1],
    }
    built = build({**node, "site": {"anything": 3}}, "reward")
    assert built.size == [1, 1, 1]
    with pytest.raises(ConfigError, match=r"reward\.site: box size: got \[1, 1, -1\]"):
        build({**node, "site": {"_target_": node["_target_"], "centre": [0, 0, 0], "size": [1, 1, -1]}}, "reward")


def test_a_missing_setting_is_named_unless_it_may_come_later() -> None:
    with pytest.raises(ConfigError, match="algo: missing size"):
        check_arguments(Box, {}, "algo", partial=False)
    check_arguments(Box, {}, "algo", partial=True)


@pytest.mark.parametrize(
    ("value", "hint"),
    [(1, float), (1.5, float | None), (None, str | None), ("a", Literal["a"]), (3, Any), (print, Callable[..., Any])],
)
def test_what_fits_passes(value: Any, hint: Any) -> None:
    check_type(value, hint, "here")


def test_an_error_of_its_own_type_is_not_about_the_settings() -> None:
    class Damaged(ValueError):
        pass

    with pytest.raises(Damaged), settings("here"):
        raise Damaged("the file")
    with pytest.raises(ConfigError, match="here: too small"), settings("here"):
        raise ValueError("too small")


def test_paths_and_odd_text_survive_the_grammar() -> None:
    assert compose("sample", ["out='a b=c, [d] {e}.sdf'"])["out"] == "a b=c, [d] {e}.sdf"


def test_a_task_of_ones_own_has_the_settings_of_its_domain_and_algorithm() -> None:
    """A named task may change them; an algorithm without a file there has its own."""
    own = ["task=custom", "policy=shapes", "reward=shape_size"]
    ddpo, stability = (compose("train", [*task, "algo=ddpo"]) for task in (own, ["task=stability"]))
    assert (ddpo["algo"], ddpo["optimizer"], ddpo["minibatch"]) == (
        stability["algo"],
        stability["optimizer"],
        stability["minibatch"],
    )
    assert compose("train", ["task=symmetry", "algo=ddpo"])["minibatch"] != ddpo["minibatch"]
    assert compose("train", [*own, "algo=rwr"])["minibatch"] == compose("train", ["algo=rwr"])["minibatch"]


def test_every_file_of_tuned_settings_is_of_a_domain_and_an_algorithm_or_a_base() -> None:
    of, algorithms = [*choices("policy"), *choices("task")], choices("algo")
    policies, models = choices("policy"), choices("model")
    folder = CONF / "tuned"
    text = "\n".join(path.read_text() for path in folder.rglob("*.yaml"))
    for path in folder.rglob("*.yaml"):
        name, _, algorithm = path.stem.rpartition("_")
        taken = (
            path.stem in (*algorithms, *policies)
            or (name in of and algorithm in algorithms)
            or (name in models and algorithm == "init")
        )
        assert taken or f"- /tuned/{path.parent.name}/{path.stem}\n" in text, path


def test_a_network_of_another_kind_takes_the_place_of_the_default() -> None:
    """Its sizes are its own; other mappings are merged, and one setting of it is changed by its name."""
    model = ["model=drugs", "data.path=drugs.smi"]
    other = compose("pretrain", [*model, "model.network={kind: mine, heads: 3}"])["model"]["network"]
    assert other == {"kind": "mine", "heads": 3}
    default = compose("pretrain", model)["model"]["network"]
    assert compose("pretrain", [*model, "model.network.width=64"])["model"]["network"] == {**default, "width": 64}
    merged = compose("train", ["task=qed", "algo=nft", "algo.advantage={kind: group}"])["algo"]["advantage"]
    assert merged == {**compose("train", ["task=qed", "algo=nft"])["algo"]["advantage"], "kind": "group"}


def test_pretraining_from_trained_weights_takes_the_schedule_of_a_continuation() -> None:
    """A shorter one at a lower rate; what the user writes comes before it, and init=null is a start afresh."""
    fresh = compose("pretrain", ["model=drugs", "data.path=x"])
    assert fresh == compose("pretrain", ["model=drugs", "data.path=x", "init=null"])
    going_on = compose("pretrain", ["model=drugs", "data.path=x", "init=drugs", "training.lr=2e-3"])
    assert going_on["training"]["steps"] < fresh["training"]["steps"] / 10
    assert going_on["training"]["cooldown"] < going_on["training"]["steps"]
    assert going_on["training"]["lr"] == 2e-3
    assert going_on["model"] == fresh["model"]
    one, two = (compose("pretrain", setting)["training"] for setting in ([], ["init=qm9_heavy"]))
    assert one == two


def test_a_policy_can_have_an_algorithm_of_its_own_by_default() -> None:
    """Drug-size ones have, and with it their settings; the user's choice comes before it."""
    shortest = compose("train", ["policy=drugs"])
    assert shortest["chosen"]["algo"] == "nft"
    assert shortest == compose("train", ["task=qed", "policy=drugs", "algo=nft"])
    assert compose("train", ["policy=drugs", "algo=ddpo"])["chosen"]["algo"] == "ddpo"
    assert compose("train", [*GROW, *SITE, "task=grow"])["chosen"]["algo"] == "nft"
    assert compose("train", ["policy=qm9_heavy"])["chosen"]["algo"] == compose("train")["chosen"]["algo"] != "nft"
    assert "algo" not in compose("sample", ["policy=drugs"])["chosen"]


def test_a_run_has_the_settings_that_are_tuned_for_what_it_began_from(tmp_path: Path) -> None:
    """A pretrained model of the shipped kind, and a run from it; only of its own domain."""
    shipped = compose("train", ["policy=drugs"])
    origins: dict[str, dict[str, Any]] = {"mine": {"model": "drugs"}, "better": {"policy": f"{tmp_path / 'mine'}"}}
    origins |= {"loop": {"policy": f"{tmp_path / 'loop'}"}, "shape": {"policy": "shapes"}, "odd": {"policy": [1]}}
    for run, chosen in origins.items():
        shutil.copytree(MODELS / "drugs", tmp_path / run / "model")
        (tmp_path / run / "config.yaml").write_text(yaml.safe_dump({"chosen": chosen}))
    for run in ("mine", "better"):
        found = compose("train", [f"policy={tmp_path / run}"])
        assert found["chosen"]["algo"] == "nft"
        assert {**found, "chosen": shipped["chosen"], "policy": shipped["policy"]} == shipped
        assert (found["policy"]["num_steps"], found["policy"]["order"]) == (25, 2)
    plain = compose("train", ["policy=qm9_heavy"])
    for run in ("loop", "shape", "odd"):
        found = compose("train", [f"policy={tmp_path / run}"])
        assert {**found, "chosen": plain["chosen"], "policy": plain["policy"]} == plain


def test_a_policy_can_have_settings_of_its_own_with_an_algorithm() -> None:
    """They come before those of task and domain, and what the user writes comes before them."""
    drugs, small = (compose("train", ["task=qed", "algo=nft", *policy]) for policy in (["policy=drugs"], []))
    assert (drugs["precision"], small["precision"]) == ("auto", None)
    assert drugs["policy"]["weights"] == "drugs"
    assert drugs["algo"]["mixing"] == small["algo"]["mixing"]
    assert compose("train", ["task=qed", "policy=drugs", "algo=nft", "precision=float32"])["precision"] == "float32"
    assert compose("train", ["task=qed", "policy=drugs", "algo=ddpo"])["precision"] is None
    assert drugs == {**compose("train", ["policy=drugs", "algo=nft", "task=qed"]), "chosen": drugs["chosen"]}
