"""The Dockerfile, really built, and the image, really run: as a cloud would, without a network."""

import json
import re
import subprocess
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import engine as engines
import pytest
from engine import IMAGE, ROOT, Engine
from omegaconf import OmegaConf

from tests.conftest import copied

# The first build takes minutes.
pytestmark = [pytest.mark.more(minutes=3), pytest.mark.timeout(1500)]

OBJECTIVE = re.compile(r"^validation_accuracy: (0\.\d{6}|1\.000000)$", re.MULTILINE)
MOST_BYTES = 1_250_000_000
VARIANT = "localhost/alphard:variant"
# In every run: fast, and quiet about it.
BRIEF = ("--epochs=3", "--threads=2")

# A string and nothing else, whatever it looks like to a shell, to Hydra or to YAML.
HARD = [
    "two words",
    "  blanks at both ends  ",
    'it\'s "quoted"',
    r"back\slash \' and \\ at the end\\",
    "a line\nand another\n",
    "tab\there",
    "*",
    "*.py",
    "[!a]?",
    "$(id) `id` $HOME ${epochs} ${oc.env:HOME}",
    "a,b,c",
    "choice(1,2)",
    "key=value",
    "--dashes --inside",
    "{a: 1",
    "# no comment",
    "naïve — 数据 🙂",
    "a;b|c&d>e<f!",
    "1.10.0",
    "~user",
    "",
]


@pytest.fixture(scope="session")
def engine() -> Engine:
    """An engine, and the image built once; the next session finds its layers in the engine's cache."""
    found = engines.find()
    found.build()
    return found


@pytest.fixture
def out(engine: Engine, tmp_path: Path) -> Iterator[Path]:
    """A folder to mount that the image's user may write, as /out."""
    folder = tmp_path / "out"
    folder.mkdir()
    folder.chmod(0o777)
    yield folder
    # What the image's user wrote, ours may remove.
    engine.run("-R", "a+rwX", "/out", flags=("--entrypoint=chmod", "--user=0", mount(folder)))


@pytest.fixture
def context(tmp_path: Path) -> Path:
    """A copy of what a build is given, to edit."""
    about = ("Dockerfile", ".dockerignore", "constraints.txt", "pyproject.toml", "README.md", "LICENSE")
    return copied(tmp_path / "context", *about, "train.py", "convert_command.sh", "configs", "src")


@pytest.fixture
def variant(engine: Engine, context: Path) -> Iterator[Any]:
    """Build the edited context under a name of its own, which is forgotten afterwards."""
    yield lambda *args: engine.build(*args, context=context, image=VARIANT)
    engine("rmi", "--force", VARIANT)


def mount(folder: Path) -> str:
    return f"--volume={folder}:/out:z"  # z: for SELinux


def accuracy(done: "subprocess.CompletedProcess[str]") -> float:
    """The objective's last line; the run must have ended well."""
    assert done.returncode == 0, done.stdout + done.stderr
    return float(OBJECTIVE.findall(done.stdout)[-1])


def shell(engine: Engine, script: str, image: str = IMAGE, flags: tuple[str, ...] = ()) -> str:
    done = engine.run("-c", script, flags=("--entrypoint=sh", *flags), image=image)
    assert done.returncode == 0, done.stderr
    return str(done.stdout)


def composed(engine: Engine, *args: str) -> Any:
    """The config that these arguments lead to; nothing is trained."""
    done = engine.run(*args, "--cfg", "job")
    assert done.returncode == 0, done.stderr
    return OmegaConf.create(done.stdout)


def test_trains_on_the_builtin_data_and_prints_the_objective_last(engine: Engine) -> None:
    done = engine.run(*BRIEF)
    assert accuracy(done) > 0.8
    assert OBJECTIVE.fullmatch(done.stdout.splitlines()[-1])
    assert len(OBJECTIVE.findall(done.stdout)) >= 3  # one a validation: a tuner may read them as they come


@pytest.mark.parametrize("first", range(0, len(HARD), 3))
def test_arguments_arrive_as_they_were_meant(engine: Engine, first: int) -> None:
    given = dict(zip(("data.path", "output_dir", "data.target"), HARD[first : first + 3], strict=True))
    config = composed(engine, "data=csv", *(f"--{key}={value}" for key, value in given.items()))
    assert {key: OmegaConf.select(config, key) for key in given} == given


def test_a_cloud_tuner_s_arguments(engine: Engine) -> None:
    """Vertex AI sends doubles and repeats a tuned default; SageMaker says `train`, and values as words of their own."""
    config = composed(engine, "train", "--batch-size=32", "--learning_rate", "0.001", "--batch-size=64.0")
    assert config.batch_size == 64
    assert config.learning_rate == 0.001


def test_a_misspelt_key_fails_and_says_what_was_meant(engine: Engine) -> None:
    done = engine.run("--epoch=3")
    assert done.returncode == 2
    assert "epochs" in done.stderr
    assert not OBJECTIVE.search(done.stdout)


def test_it_is_sealed(engine: Engine) -> None:
    done = engine.run("--config-dir=/tmp")
    assert done.returncode == 2
    assert "ALPHARD_SEALED" in done.stderr


def test_sigterm_ends_it_and_leaves_the_best_weights(engine: Engine, out: Path) -> None:
    args = ("--epochs=1000000", "--patience=1000000", "--threads=2", "--output_dir=/out/run")
    name = f"sigterm-{time.monotonic_ns()}"
    began = engine("run", "--detach", f"--name={name}", "--network=none", mount(out), IMAGE, *args)
    assert began.returncode == 0, began.stderr
    try:
        deadline = time.monotonic() + 120
        while len(OBJECTIVE.findall(engine("logs", name).stdout)) < 5:
            assert time.monotonic() < deadline, engine("logs", name)
            time.sleep(0.2)
        stopped = time.monotonic()
        assert engine("kill", "--signal=TERM", name).returncode == 0
        status = engine("wait", name).stdout.strip()
        seconds = time.monotonic() - stopped
    finally:
        engine("rm", "--force", name)
    print(f"SIGTERM: ended after {seconds:.1f} s")
    assert status == "143"
    assert seconds < 60, "it has a million epochs left"
    left = {path.name for path in (out / "run").iterdir()}
    assert left >= {"model.pt", "metrics.json", "eval_history.csv", "training.log", "config.yaml"}
    header, *rows = [line.split(",") for line in (out / "run/eval_history.csv").read_text().splitlines()]
    losses = [float(row[header.index("validation_loss")]) for row in rows]
    metrics = json.loads((out / "run/metrics.json").read_text())
    assert metrics["validation_loss"] == pytest.approx(min(losses), rel=1e-4)


def test_vertex_s_environment_says_where_everything_goes(engine: Engine, out: Path) -> None:
    told = {
        "AIP_MODEL_DIR": "/out/7/model/",
        "AIP_CHECKPOINT_DIR": "/out/7/checkpoints/",
        "AIP_TENSORBOARD_LOG_DIR": "/out/7/logs/",
        "CLOUD_ML_HP_METRIC_FILE": "/out/metrics/output.metrics",
        "CLOUD_ML_TRIAL_ID": "7",
    }
    done = engine.run(*BRIEF, flags=(mount(out), *(f"--env={name}={value}" for name, value in told.items())))
    value = accuracy(done)
    assert {path.name for path in (out / "7/model").iterdir()} >= {"model.pt", "metrics.json", "config.yaml"}
    last = json.loads((out / "metrics/output.metrics").read_text().splitlines()[-1])
    assert last["trial"] == "7"
    assert float(last["validation_accuracy"]) == pytest.approx(value, abs=1e-6)


def test_an_own_model_in_src_trains(engine: Engine, context: Path, variant: Any) -> None:
    """A package beside alphard and a YAML that names its class; nothing else is told to anyone."""
    package = context / "src/mine"
    package.mkdir()
    package.joinpath("__init__.py").write_text(
        "from torch import Tensor, nn\n\n\n"
        "class Wide(nn.Module):\n"
        '    """(B, features) -> (B, classes)"""\n\n'
        "    def __init__(self, features: int, classes: int, width: int = 32) -> None:\n"
        "        super().__init__()\n"
        "        self.net = nn.Sequential(nn.Linear(features, width), nn.Tanh(), nn.Linear(width, classes))\n\n"
        "    def forward(self, x: Tensor) -> Tensor:\n"
        "        print('mine was here')\n"
        "        return self.net(x)\n"
    )
    context.joinpath("configs/model/wide.yaml").write_text(
        "_target_: alphard.models.Classifier\n"
        "net:\n  _target_: mine.Wide\n  _partial_: true\n  width: 64\n"
        "optimizer: ${optimizer}\n"
        "scheduler: ${scheduler}\n"
    )
    variant()
    done = engine.run(*BRIEF, "--model=wide", "--model.net.width=48", image=VARIANT)
    assert accuracy(done) > 0.5
    assert "mine was here" in done.stdout


def test_an_edited_source_rebuilds_the_last_layers_only(engine: Engine, context: Path, variant: Any) -> None:
    before = engine.inspect()["RootFS"]["Layers"]
    edited = context / "src/alphard/__init__.py"
    edited.write_text(edited.read_text() + "\nEDITED = True\n")
    began = time.monotonic()
    variant()
    print(f"rebuild after an edit: {time.monotonic() - began:.1f} s")
    after = engine.inspect(VARIANT)["RootFS"]["Layers"]
    same = sum(old == new for old, new in zip(before, after, strict=True))
    assert len(before) - 2 <= same < len(before)  # the copied src, and its installation
    script = "import alphard; assert alphard.EDITED; print(alphard.__file__)"
    assert shell(engine, f"python -c '{script}'", VARIANT).startswith("/app/src/")


def test_runs_as_nobody_special(engine: Engine) -> None:
    assert shell(engine, "id -u").strip() == "1000"
    assert shell(engine, "touch /app/train.py /app/src/alphard/new.py 2>&1 || echo refused").strip().endswith("refused")


def test_any_user_and_a_read_only_root_will_do(engine: Engine, out: Path) -> None:
    flags = ("--user=54321:54321", "--read-only", "--tmpfs=/tmp", "--tmpfs=/app/outputs", mount(out))
    done = engine.run(*BRIEF, "--output_dir=/out/run", flags=flags)
    accuracy(done)
    assert (out / "run/model.pt").exists()
    assert not re.search("warn|not a writable|denied", done.stderr, re.IGNORECASE), done.stderr


def test_root_by_a_build_argument(engine: Engine, variant: Any) -> None:
    variant("--build-arg=RUN_AS=root")
    assert shell(engine, "id -u", VARIANT).strip() == "0"


def test_nothing_of_the_build_machine_s_pip_is_left(engine: Engine) -> None:
    files = r"\( -name pip.conf -o -name .pip -o -name ca.pem -o -path '*/.cache/pip' \) -size +0"
    script = f"pip config list; env | grep ^PIP_; find / -xdev {files}; cat /run/secrets/* 2> /dev/null; true"
    assert shell(engine, script, flags=("--user=0",)) == ""
    history = engine("history", "--no-trunc", "--format={{.CreatedBy}}", IMAGE).stdout + json.dumps(engine.inspect())
    places = {word for text in engines.pip_settings().values() for word in text.split() if "/" in word}
    assert not [place for place in {"127.0.0.1", *places} if place in history]


def test_bytecode_is_kept(engine: Engine) -> None:
    """Its user may not write it, and without it every trial would compile torch anew."""
    watched = "import alphard.run, pandas, matplotlib.pyplot, gcsfs"
    said = shell(engine, f"python -v -c '{watched}' 2>&1 | grep -c 'code object from .*[.]py$' || true")
    assert int(said) == 0


def test_labels_say_which_commit_this_is(engine: Engine) -> None:
    labels = engine.inspect()["Config"]["Labels"]
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert labels["org.opencontainers.image.version"] == version
    assert re.fullmatch(r"[0-9a-f]{40}(-dirty)?|unknown", labels["org.opencontainers.image.revision"])


def test_the_cpu_image_is_at_most_1_25_gb(engine: Engine, capsys: pytest.CaptureFixture[str]) -> None:
    size = engine.inspect()["Size"]
    with capsys.disabled():
        print(f"\nthe CPU image has {size / 1e9:.3f} GB")
    assert size <= MOST_BYTES
