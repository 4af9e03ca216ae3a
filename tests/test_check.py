"""The whole config, checked before anything is loaded: every problem at once, by the path that the user typed."""

from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf, open_dict

from alphard.check import nearest
from alphard.compose import compose, must_be_sound
from alphard.errors import UserError
from alphard.run import GROUPS

pytestmark = pytest.mark.hydra

CONFIGS = Path(__file__).parents[1] / "configs"


def checked(*overrides: str, **nodes: Any) -> DictConfig:
    """The config of a command line, after its check.  nodes: root keys that are put in by hand."""
    config = compose(CONFIGS, overrides)
    with open_dict(config):
        config.merge_with(nodes)
    must_be_sound(config)
    return config


def problems(*overrides: str, **nodes: Any) -> list[str]:
    """All that is wrong with a command line."""
    with pytest.raises(UserError) as caught:
        checked(*overrides, **nodes)
    return list(caught.value.problems)


def problem(*overrides: str, **nodes: Any) -> str:
    """What is wrong with a command line, if it is one thing."""
    (one,) = problems(*overrides, **nodes)
    return one


# What only the user knows, for each option that has a ???.
FILLS = {
    ("data", "npz"): ["data.train=a.npz", "data.validation=b.npz"],
    ("data", "csv"): ["data.path=a.csv", "data.target=y"],
    ("experiment", "titanic"): ["data.path=a.csv"],
    ("experiment", "titanic_lesson"): ["train=a.npz", "val=b.npz"],
}
OPTIONS = [
    (group, path.stem) for group in sorted({*GROUPS, "experiment"}) for path in sorted((CONFIGS / group).glob("*.yaml"))
]


@pytest.mark.parametrize(("group", "option"), OPTIONS)
def test_every_config_passes(group: str, option: str) -> None:
    checked(f"{group}={option}", *FILLS.get((group, option), []))


def test_check_leaves_a_sound_config_as_it_was() -> None:
    before = OmegaConf.to_yaml(compose(CONFIGS, []), resolve=False)
    assert OmegaConf.to_yaml(checked(), resolve=False) == before


# Names


@pytest.mark.parametrize(
    ("override", "said"),
    [
        (
            "+model.net.droput=0.1",
            "model.net.droput: alphard.models.MLP takes no such argument; did you mean `dropout`?",
        ),
        ("+optimizer.momentun=0.1", "optimizer.momentun: torch.optim.AdamW takes no such argument"),
        ("+data.validation_frac=0.1", "did you mean `validation_fraction`?"),
        ("+trainer.max_epoch=3", "trainer.max_epoch: pytorch_lightning.Trainer takes no such argument; did you mean"),
        ("+callbacks.best_weights.mod=max", "callbacks.best_weights.mod: alphard.models.BestWeights takes no such"),
        ("+zzz=1", "zzz: no setting has this name, and nothing refers to it"),
        (
            "+learning_rte=1",
            "learning_rte: no setting has this name, and nothing refers to it; did you mean `learning_rate`?",
        ),
        ("~learning_rate", "learning_rate: is missing; give learning_rate=…"),
        ("~data", "data: is missing; give data=…"),
        ("~callbacks", "callbacks: is missing; give callbacks=…"),
        ("~data.name", "data.name: alphard.data.BuiltIn needs it; give data.name=…"),
        ("~model.net._partial_", "model.net.features: alphard.models.MLP needs it; a partial node (_partial_: true)"),
    ],
)
def test_wrong_name_is_said_with_the_nearest_right_one(override: str, said: str) -> None:
    assert any(said in text for text in problems(override)) or pytest.fail(str(problems(override)))


def test_root_key_of_ones_own_is_welcome_where_something_refers_to_it() -> None:
    checked("+width=32", "model.net.hidden=['${width}']")
    checked("+mine.width=32", "model.net.hidden=['${mine.width}','${oc.select:mine.width}']")
    checked("+wide=32", "model.net.hidden=['${oc.select:wide,5}']")
    checked("+name=x", "output_dir='/tmp/${name}/${seed}'")
    assert "width" in problem("+width=32", "+widths=3", "model.net.hidden=['${widths}']")


def test_missing_values_are_named_where_the_user_gives_them() -> None:
    assert problems("data=npz") == [
        "data.train: is missing; give data.train=…",
        "data.validation: is missing; give data.validation=…",
    ]
    assert problems("experiment=titanic_lesson") == ["train: is missing; give train=…", "val: is missing; give val=…"]


def test_reference_to_nothing_is_a_problem() -> None:
    assert problem("learning_rate='${lr}'").startswith("learning_rate: ${lr}: Interpolation key 'lr' not found")
    assert problem("+trainer.fast_dev_run='${oc.env:ALPHARD_NO_SUCH}'").startswith("trainer.fast_dev_run: ${oc.env:")
    assert problem("model.net.hidden=[64,'${nope}']").startswith("model.net.hidden[1]: ${nope}: ")
    assert problem("model.net._target_='${nope}'").startswith("model.net._target_: ${nope}: ")


def test_reference_to_itself_is_a_problem() -> None:
    said = problems("seed='${epochs}'", "epochs='${seed}'")
    assert [text.partition(": ")[0] for text in said] == ["seed", "epochs"]
    assert "refers to itself" in problem("+trainer.plugins='${oc.select:trainer}'")


def test_all_problems_are_said_at_once() -> None:
    said = problems(
        "seed=-1",
        "epochs=0",
        "learning_rate=fast",
        "+nothing=1",
        "data=csv",
        "model.net.dropout=1.5",
        "model.net.activation=rellu",
        "optimizer._target_=os.system",
        "+callbacks.mine._target_=torch.hub.load",
        "+trainer.max_epoch=3",
    )
    assert {text.partition(": ")[0] for text in said} == {
        "seed",
        "epochs",
        "learning_rate",
        "nothing",
        "data.path",
        "data.target",
        "model.net.dropout",
        "model.net.activation",
        "optimizer._target_",
        "callbacks.mine._target_",
        "trainer.max_epoch",
    }


def test_setting_is_wrong_once_however_many_nodes_refer_to_it() -> None:
    assert problem("learning_rate=fast") == "learning_rate: 'fast': should be a valid number"
    assert problem("seed=-1").startswith("seed: -1: should be greater than or equal to 0")


# Values


@pytest.mark.parametrize(
    ("override", "path"),
    [
        # the settings, from run()'s own signature
        ("seed=-1", "seed"),
        ("seed=4294967296", "seed"),
        ("seed=true", "seed"),
        ("epochs=0", "epochs"),
        ("epochs=1.5", "epochs"),
        ("epochs=null", "epochs"),
        ("batch_size=0", "batch_size"),
        ("batch_size='64'", "batch_size"),
        ("batch_size=true", "batch_size"),
        ("learning_rate=0", "learning_rate"),
        ("learning_rate=-0.1", "learning_rate"),
        ("learning_rate=nan", "learning_rate"),
        ("learning_rate=inf", "learning_rate"),
        ("learning_rate=true", "learning_rate"),
        ("learning_rate='0.1'", "learning_rate"),
        ("learning_rate=[0.1]", "learning_rate"),
        ("weight_decay=-1", "weight_decay"),
        ("patience=true", "patience"),
        ("patience=-1", "patience"),
        ("patience=2.5", "patience"),
        ("min_delta=-0.1", "min_delta"),
        ("restore_best=1", "restore_best"),
        ("restore_best=yes", "restore_best"),
        ("threads=0", "threads"),
        ("objective=3", "objective"),
        ("score_test=1", "score_test"),
        ("output_dir=3", "output_dir"),
        ("overwrite='true'", "overwrite"),
        # our own classes
        ("data.name=iris", "data.name"),
        ("data.fraction=0", "data.fraction"),
        ("data.fraction=1.1", "data.fraction"),
        ("data.split_seed=a", "data.split_seed"),
        ("data.validation_fraction=0", "data.validation_fraction"),
        ("data.validation_fraction=1", "data.validation_fraction"),
        ("model.label_smoothing=1", "model.label_smoothing"),
        ("model.class_weights=balancd", "model.class_weights"),
        ("model.class_weights=[1,-1]", "model.class_weights"),
        ("model.net.dropout=1.5", "model.net.dropout"),
        ("model.net.hidden=64", "model.net.hidden"),
        ("model.net.hidden=[64,0]", "model.net.hidden[1]"),
        ("model.net.hidden=[64,1.5]", "model.net.hidden[1]"),
        ("model.net.hidden=[64,true]", "model.net.hidden[1]"),
        ("model.net.activation=rellu", "model.net.activation"),
        ("model.net.residual=1", "model.net.residual"),
        ("model.net=mlp", "model.net"),
        ("callbacks.best_weights.mode=maximum", "callbacks.best_weights.mode"),
        # a library's plain values
        ("optimizer.eps=small", "optimizer.eps"),
        ("optimizer.fused=1", "optimizer.fused"),
        ("+trainer.max_steps=many", "trainer.max_steps"),
        ("callbacks.early_stopping.patience=true", "callbacks.early_stopping.patience"),
        ("callbacks.early_stopping=null", "callbacks.early_stopping"),
        # what only a constructor or the first step says
        ("optimizer.lr=-1", "optimizer"),
        ("optimizer.betas=[0.9,1.5]", "optimizer"),
        ("callbacks.early_stopping.mode=sideways", "callbacks.early_stopping"),
    ],
)
def test_wrong_value_is_one_problem_by_its_path(override: str, path: str) -> None:
    assert problem(override).startswith(f"{path}: ")


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["optimizer.lr=-1"], "optimizer: torch.optim.AdamW refused its arguments: Invalid learning rate: -1"),
        (
            ["scheduler=cosine", "scheduler.T_max=0"],
            "scheduler: torch.optim.lr_scheduler.CosineAnnealingLR refused its",
        ),
        (["scheduler=cosine", "scheduler.T_max=x"], "scheduler.T_max: 'x': should be a valid integer"),
        (
            ["scheduler=plateau", "scheduler.factor=1.5"],
            "scheduler: torch.optim.lr_scheduler.ReduceLROnPlateau refused",
        ),
        (
            ["optimizer=sgd", "optimizer.momentum=-1"],
            "optimizer: torch.optim.SGD refused its arguments: Invalid momentum",
        ),
        (["model.net.activation=rellu"], "'rellu': should be 'relu', 'gelu', 'silu' or 'tanh'"),
        (["batch_size=0"], "batch_size: 0: should be greater than or equal to 1"),
    ],
)
def test_message_says_what_would_be_right(overrides: list[str], said: str) -> None:
    assert said in problem(*overrides)


def test_path_is_the_setting_that_the_user_typed() -> None:
    lesson = ("experiment=titanic_lesson", "val=b.npz")
    assert problem(*lesson, "train=5") == "train: 5 (as data.train): should be a valid string"
    assert problem(*lesson, "train=a", "model_out=5").startswith("model_out: 5 (as output_dir): should be")
    assert problem("+a.b=-1", "+c='${a.b}'", "model.net.dropout='${c}'").startswith("a.b: -1 (as model.net.dropout): ")
    assert problem("model.net.dropout='${.activation}'").startswith(
        "model.net.activation: 'relu' (as model.net.dropout): "
    )


# Conversions


def test_integral_float_becomes_an_int_where_no_float_is_allowed() -> None:
    config = checked(
        "epochs=3.0",
        "batch_size=64.0",
        "patience=1e1",
        "model.net.hidden=[64.0,32.0]",
        "data.split_seed=2.0",
        "trainer.devices=1.0",
        "learning_rate=1.0",
        "+trainer.limit_train_batches=1.0",
        "+trainer.max_steps=5.0",
    )
    found = [
        config.epochs,
        config.batch_size,
        config.patience,
        *config.model.net.hidden,
        config.data.split_seed,
        config.trainer.devices,
        config.trainer.max_steps,
    ]
    assert found == [3, 64, 10, 64, 32, 2, 1, 5]
    assert all(type(value) is int for value in found)
    assert type(config.learning_rate) is float
    assert type(config.trainer.limit_train_batches) is float


def test_conversion_keeps_the_references() -> None:
    config = checked("epochs=3.0", "batch_size=32.0", "patience=5.0", "model.net.hidden='${wide}'", "+wide=[8.0]")
    text = OmegaConf.to_yaml(config, resolve=False)
    for kept in ("max_epochs: ${epochs}", "batch_size: ${batch_size}", "patience: ${patience}", "hidden: ${wide}"):
        assert kept in text
    assert (config.trainer.max_epochs, config.data.batch_size, list(config.model.net.hidden)) == (3, 32, [8])


def test_whole_number_is_a_float_too() -> None:
    assert checked("learning_rate=1", "model.net.dropout=0", "data.fraction=1").learning_rate == 1


# Targets


@pytest.mark.parametrize(
    "override",
    [
        "model._target_=os.system",
        "model.net._target_=builtins.exec",
        "+callbacks.x._target_=torch.hub.load",
        "+callbacks.x._target_=torch.nn.modules.module.torch.hub.load",
        "+callbacks.x={_target_:torch.nn.functional.relu}",
        "+callbacks.x={_target_:torch.nn.init}",
        "+callbacks.x={_target_:torch.nn.Linear.__init__}",
        "+trainer.plugins=[{_target_:os.system,command:true}]",
        "+trainer.plugins=[[{a:{_target_:os.system}}]]",
        "+model.net.hidden2={deep:{deeper:[1,{_target_:os.system}]}}",
        "+optimizer._args_=[{_target_:os.system}]",
        "+program={x:{_target_:os.system},y:'${program.x}'}",
        "data._target_=5",
        "data._target_=null",
    ],
)
def test_untrusted_target_is_refused_wherever_it_stands(override: str) -> None:
    said = [text for text in problems(override) if "_target_: " in text]
    assert len(said) == 1
    assert any(
        word in said[0] for word in ("is not trusted", "only classes are trusted", "is not a", "is not the dotted")
    )


def test_untrusted_target_is_refused_through_references() -> None:
    said = problems("+cls=os.system", "model.net._target_='${cls}'")
    assert any(text.startswith("model.net._target_: os.system is not trusted") for text in said)
    said = problems("+part.net._target_=os.system", "model.net='${part.net}'")
    assert [text.partition(": ")[0] for text in said] == ["part.net._target_"]


@pytest.mark.parametrize(
    "value",
    [
        "${oc.create:{_target_:os.system}}",
        "${oc.create:[{_target_:os.system}]}",
        "${oc.decode:'{_target_: os.system}'}",
        "${oc.select:nothing,{_target_:os.system}}",
        ["${oc.create:{_target_:os.system}}"],
        {"deep": "${oc.create:{deeper:{_target_:os.system}}}"},
    ],
)
def test_untrusted_target_is_refused_where_a_resolver_makes_it(value: object) -> None:
    said = [text for text in problems(trainer={"plugins": value}) if "_target_: " in text]
    assert len(said) == 1
    assert "_target_: os.system is not trusted" in said[0]


def test_refused_config_runs_nothing(tmp_path: Path) -> None:
    trap = {"_target_": "os.mkdir", "path": str(tmp_path / "sprung")}
    hidden = "${oc.create:{_target_:os.mkdir,path:" + str(tmp_path / "sprung") + "}}"
    for nodes in ({"callbacks": {"x": trap}}, {"callbacks": {"x": hidden}}, {"optimizer": {"x": hidden}}):
        problems(**nodes)
    assert list(tmp_path.iterdir()) == []


def test_class_that_is_not_there_is_said() -> None:
    assert "model.net._target_: alphard.models.MLPP cannot be imported: " in problem(
        "model.net._target_=alphard.models.MLPP"
    )


def test_list_of_allowed_targets_is_said() -> None:
    assert "or stands in a package of yours in src/" in problem("model.net._target_=mine.Net")


# Nodes


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("+callbacks.x='${nope}'", "callbacks.x: ${nope}: Interpolation key 'nope' not found"),
        ("callbacks.early_stopping='${nope}'", "callbacks.early_stopping: ${nope}: Interpolation key"),
        ("++callbacks.x='${callbacks}'", "callbacks.x: ${callbacks}: Interpolation to parent node"),
        ("seed='${.seed}'", "seed: ${.seed}: Recursive interpolation"),
        ("+optimizer._args_=3", "optimizer._args_: 3: should be a list of positional arguments"),
        ("optimizer._partial_=3", "optimizer._partial_: 3: should be true or false"),
        ("+optimizer._recursive_=3", "optimizer._recursive_: 3: should be true or false"),
        ("+optimizer._convert_=foo", "optimizer._convert_: 'foo': should be one of none, partial, object, all"),
        ("+callbacks._partial_=true", "callbacks._partial_: stands beside the nodes"),
        ("+callbacks.x=5", "callbacks.x: 5: give a _target_, or remove it with ~callbacks.x"),
        ("+_target_=torch.nn.Linear", "_target_: no setting has this name"),
        # a target of another kind than the run needs there
        (
            "optimizer._partial_=false",
            "optimizer._partial_: should be true; the model's parameters are given to it later",
        ),
        ("scheduler._partial_=false", "scheduler._partial_: should be true; the optimizer is given to it later"),
        ("+callbacks.early_stopping._partial_=true", "callbacks.early_stopping._partial_: should not be true"),
        ("+data._partial_=true", "data._partial_: should not be true"),
        ("+logger.x={_target_:torch.nn.Identity}", "logger.x._target_: torch.nn.Identity is no Logger"),
        ("+callbacks.x={_target_:torch.nn.Identity}", "callbacks.x._target_: torch.nn.Identity is no Callback"),
        ("data._target_=torch.nn.Identity", "data._target_: torch.nn.Identity is no LightningDataModule"),
        ("trainer._target_=torch.nn.Identity", "trainer._target_: torch.nn.Identity is no Trainer"),
        (
            "model._target_=torch.nn.Identity",
            "model._target_: torch.nn.Identity is no LightningModule; a network goes into",
        ),
        ("optimizer._target_=torch.nn.Identity", "optimizer._target_: torch.nn.Identity is no Optimizer"),
    ],
)
def test_a_node_that_cannot_be_built_is_one_problem_by_its_path(override: str, said: str) -> None:
    assert problem(override).startswith(said)


def test_kind_is_judged_through_references_too() -> None:
    said = problem("+mine.x._target_=torch.nn.Identity", "+callbacks.x='${mine.x}'")
    assert said.startswith("callbacks.x._target_: torch.nn.Identity is no Callback")


def test_nodes_that_refer_to_each_other_are_problems() -> None:
    said = problems("data.name='${model}'", "model.net.hidden='${data}'")
    assert "refers to data itself" in said[0] or "refers to itself" in said[0]


def test_a_group_that_is_empty_is_said() -> None:
    assert problem(optimizer=None).startswith("optimizer: None: give a _target_; optimizer=NAME chooses an option")
    assert problem(callbacks=None).startswith("callbacks: None: give nodes by names, or choose callbacks=none")
    assert any(text.startswith("model: None: give a _target_") for text in problems(model=None))


def test_check_leaves_what_the_environment_says_out_of_the_config(monkeypatch: pytest.MonkeyPatch) -> None:
    """Constructors are tried with what references lead to; config.yaml keeps the references."""
    monkeypatch.setenv("ALPHARD_TEST_SECRET", "0.25")
    secret = "${oc.decode:${oc.env:ALPHARD_TEST_SECRET}}"
    config = checked(
        optimizer={"eps": secret, "betas": [secret, 0.9]},
        callbacks={"early_stopping": {"min_delta": secret}},
        scheduler={"factor": secret},
    )
    text = OmegaConf.to_yaml(config, resolve=False)
    assert text.count("ALPHARD_TEST_SECRET") == 4
    assert "0.25" not in text


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", ["column", "${nope}"])
def test_thousands_of_names_are_no_matter(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    conversions = 0
    convert = OmegaConf.to_container

    def counted(*args: Any, **kwargs: Any) -> Any:
        nonlocal conversions
        conversions += 1
        return convert(*args, **kwargs)

    monkeypatch.setattr(OmegaConf, "to_container", staticmethod(counted))
    names = [f"{name}{number}" if name == "column" else name for number in range(4_000)]
    nodes = {"data": {"path": "rows.csv", "target": "y", "drop": names}}
    if name == "column":
        checked("data=csv", **nodes)
    else:
        assert len(problems("data=csv", **nodes)) == len(names)
    assert conversions < 200


def test_nearest() -> None:
    assert nearest("epoch", ["epochs", "seed"]) == "; did you mean `epochs`?"
    assert nearest("zzz", ["epochs", "seed"]) == ""
