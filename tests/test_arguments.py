"""A cloud's arguments mean to train.py what they meant to whoever wrote them."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from alphard.arguments import must_be_hydras, rewrite
from alphard.errors import UserError

pytestmark = pytest.mark.hydra

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "convert_command.sh"
PROJECT = ROOT / "configs"
NO_CONFIGS = ROOT / "no configs"  # no value of its own, so that data alone counts
JUDGE = ROOT.parent / "shared" / "arguments" / "judge.py"


@pytest.fixture(scope="module")
def configs(tmp_path_factory):
    """A config with a value of each type, and a group with one that has to be given."""
    folder = tmp_path_factory.mktemp("configs")
    (folder / "source").mkdir()
    (folder / "config.yaml").write_text(
        "defaults: [_self_, source: made]\nrows: 64\nrate: 0.1\nnote: none\nflag: false\nlimit: null\n"
        "also: ${rows}\nhidden: [8]\n"
    )
    (folder / "other.yaml").write_text("defaults: [source: made]\nrows: 'sixty-four'\n")
    (folder / "source" / "made.yaml").write_text("name: made\n")
    (folder / "source" / "file.yaml").write_text("target: ???\nname: file\nsplit: 3\n")
    (folder / "source" / "2024.yaml").write_text("name: old\n")
    return folder


def held(words):
    """The values that Hydra and OmegaConf hold after `words`, by key, with escapes resolved."""
    parser, values = OverridesParser.create(), {}
    for word in words:
        override = parser.parse_override(word)
        assert not override.is_sweep_override()
        node = OmegaConf.create({"value": override.value()})
        values[word.partition("=")[0]] = OmegaConf.to_container(node, resolve=True, throw_on_missing=True)["value"]
    return values


def exact(value):
    return f"{type(value).__name__} {value!r}"


LITERALS = {
    "0.25": 0.25,
    "3e-05": 3e-05,
    "7E2": 700.0,
    "12": 12,
    "-3": -3,
    "+4": 4,
    ".5": 0.5,
    "6.": 6.0,
    "-0.0": -0.0,
    "1_000_000": 1000000,
    "inf": float("inf"),
    "-Inf": float("-inf"),
    "True": True,
    "false": False,
    "NULL": None,
    "[]": [],
    "{}": {},
    "[3, 4.5,x, null]": [3, 4.5, "x", None],
    "[[1,2],[3]]": [[1, 2], [3]],
    "['a, b', \"it's\"]": ["a, b", "it's"],
    '["\\u00fc", "tab\\t"]': ["ü", "tab\t"],
    "{depth: 3, act: relu}": {"depth": 3, "act": "relu"},
    '{"lr": {"a b": [0.1, true]}}': {"lr": {"a b": [0.1, True]}},
    '{"0": 1.5, "1": 2}': {0: 1.5, 1: 2},
    "[s3://a/b, c:d]": ["s3://a/b", "c:d"],
    '["${x}", "\\\\${x}"]': ["${x}", "\\${x}"],
    "[a\\,b]": ["a,b"],
}


@pytest.mark.parametrize("text", LITERALS)
@pytest.mark.parametrize("form", ["joined", "separate", "pairs"])
def test_a_plain_literal_is_typed_as_hydra_types_it(text, form):
    arguments = [f"--free={text}"] if form == "joined" else ["--free", text]
    [(key, value)] = held(rewrite(arguments, NO_CONFIGS, pairs=form == "pairs")).items()
    assert (key, exact(value)) == ("free", exact(LITERALS[text]))


TEXTS = [
    *("", " ", "a b", "  two  blanks  ", "\tlead", "line\nbreak\n", "cr\r\n", "64,32", ",", "a=b", "==", "a==b"),
    *(
        "it's",
        "'",
        "''",
        '"',
        '"x"',
        "'a' and \"b\"",
        "\\",
        "\\\\",
        "end\\",
        "end\\\\",
        "\\'",
        "a\\\\'b",
        "C:\\new",
        "\\t",
    ),
    *("$x", "${x}", "\\${x}", "\\\\${x}", "a${x}b${", "${oc.env:HOME}", "$(id)", "`id`", "%d", "~", "~/x", "!", "!!x"),
    *(
        "(",
        "f(x)",
        "choice(1,2)",
        "range(3)",
        "int(3.7)",
        "glob(*)",
        "{",
        "}",
        "{a}",
        "{{a}}",
        "{a:}",
        "{a,b}",
        "[1",
        "1]",
    ),
    *(
        "[x](y)",
        "[1,2",
        "[1,]",
        "[f(x)]",
        "#",
        "a # b",
        "*",
        "/tmp/*",
        "?",
        "a;b",
        "a&b",
        "<a>",
        "|",
        "^",
        "@a",
        "a:b: c",
    ),
    *(
        "ü",
        "日本",
        "🚀",
        "\u00a0",
        "\u2028",
        "\x07",
        "é=1",
        "-",
        "--",
        "-m",
        "--help",
        "--a=b",
        "-x y",
        "--a --b",
        "=",
        "+",
    ),
    *(
        "none",
        "None",
        "yes",
        "on",
        "nil",
        "truer",
        "00000",
        "01",
        "0x1F",
        "1e",
        "1..2",
        "1/2",
        "10%",
        "1 2",
        "1,5",
        "5k",
    ),
    *(
        "2024_01_15",
        "1_0",
        "12e4567",
        "-1e999",
        "1e-999",
        "9" * 5000,
        "٣",
        " 5",
        "5 ",
        "true ",
        "infinity",
        "????",
        "a???",
    ),
]


@pytest.mark.parametrize("text", TEXTS)
def test_anything_else_arrives_as_that_very_text(text):
    assert held(rewrite([f"--free={text}"], NO_CONFIGS)) == {"free": text}
    assert held(rewrite(["--free", text, "--last", "0"], NO_CONFIGS, pairs=True)) == {"free": text, "last": 0}


@pytest.mark.parametrize(
    "text", ["a b", "-abc", "-1.5.2", "x=1,y=2", "price>=10", "s3://b/a=1/x", "~/x", "it's=1", "-", "a,b"]
)
def test_a_separate_value_may_look_like_much(text):
    assert held(rewrite(["--free", text], NO_CONFIGS)) == {"free": text}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--rows=32.0"], ["rows=32"]),
        (["--rows", "3.2e1"], ["rows=32"]),
        (["--rows=32.5"], ["rows=32.5"]),
        (["--rows=null"], ["rows=null"]),
        (["--also=8.0"], ["also=8"]),
        (["--hidden.0=8.0"], ["hidden.0=8"]),
        (["--rate=1"], ["rate=1"]),
        (["--limit=4.0"], ["limit=4.0"]),
        (["--flag=True"], ["flag=True"]),
        (["--free=32.0"], ["free=32.0"]),
        (["--+added=1.10"], ["+added=1.10"]),
        (["--note=1e5"], ["note='1e5'"]),
        (["--note=null"], ["note='null'"]),
        (["--note=[a,b]"], ["note='[a,b]'"]),
        (["--source=file", "--source.target=1.10"], ["source=file", "source.target='1.10'"]),
        (["source=file", "--source.split=3.0"], ["source=file", "source.split=3"]),
        (["-m", "source=file,made", "--source.target=7"], ["-m", "source=file,made", "source.target='7'"]),
        (["--source=2024"], ["source='2024'"]),
        (["--source.name=3.0", "--source=nowhere"], ["source.name=3.0", "source=nowhere"]),
        (["--config-name=other", "--rows=64.0"], ["--config-name=other", "rows='64.0'"]),
        (["--hydra.job.name=1.10"], ["hydra.job.name='1.10'"]),
    ],
)
def test_the_configs_own_value_says_what_data_is(configs, arguments, words):
    assert rewrite(arguments, configs) == words


def test_the_projects_own_settings_are_known():
    words = rewrite(["--batch-size=64.0", "--data=csv", "--data.target=1.10", "--objective=1e5"], PROJECT)
    assert words == ["batch_size=64", "data=csv", "data.target='1.10'", "objective='1e5'"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["a=1", "+b=x,y", "++c=${a}", "~d", "~e=2"], ["a=1", "+b=x,y", "++c=${a}", "~d", "~e=2"]),
        (["a= x ", "b='q", "c-d=1", "e@f=g", "h/i=j"], ["a= x ", "b='q", "c-d=1", "e@f=g", "h/i=j"]),
        (["--a-b.c-d=1"], ["a_b.c_d=1"]),
        (["--source@other.place=file"], ["source@other.place=file"]),
        (["--a/b=c"], ["a/b=c"]),
        (["--flag"], ["flag=true"]),
        (["--flag", "--other", "-m", "--x=1"], ["-m", "flag=true", "other=true", "x=1"]),
        (["--flag", "-k", "5"], ["flag=true", "k=5"]),
        (["-k", "-5", "-l=a b"], ["k=-5", "l='a b'"]),
        (["--x", "-1", "--y", "-inf"], ["x=-1", "y=-inf"]),
        (["--flag", "--", "x=1,2", "+y=--z"], ["flag=true", "x=1,2", "+y=--z"]),
        (["train", "--x=1"], ["x=1"]),
        (["--mode", "train"], ["mode=train"]),
        (["--x=1", "--y=2", "--x=3"], ["y=2", "x=3"]),
        (["--a-b=1", "--a_b=2"], ["a_b=2"]),
        (["x=1", "--x=2"], ["x=2"]),
        (["--x=1", "x=2"], ["x=2"]),
        (["x=1", "x=2"], ["x=1", "x=2"]),
        (["+x=1", "--x=2"], ["+x=1", "x=2"]),
        (["--x=1", "--cfg", "job", "y=2", "--resolve"], ["--cfg=job", "--resolve", "x=1", "y=2"]),
        (["--cfg=all", "--package", "model"], ["--cfg=all", "--package=model"]),
        (["-p", "0.3", "--package=x"], ["p=0.3", "package=x"]),
        (["-c", "job", "-p", "model"], ["--cfg=job", "--package=model"]),
        (
            ["x=1", "-cn", "other", "-cd", "d", "-cp=e"],
            ["--config-name=other", "--config-dir=d", "--config-path=e", "x=1"],
        ),
        (["--info", "--x=1"], ["--info=all", "x=1"]),
        (["--x=1", "-i", "defaults"], ["--info=defaults", "x=1"]),
        (["--version=2", "--run=5", "--help=x"], ["version=2", "run=5", "help=x"]),
        (["--config-n=x", "--multi"], ["config_n=x", "multi=true"]),
        ([], []),
    ],
)
def test_how_arguments_are_told_apart(arguments, words):
    assert rewrite(arguments, NO_CONFIGS) == words


def test_sagemakers_pairs_are_all_data(configs):
    arguments = ["train", "-m", "0.9", "--help", "4", "--x", "--y", "--note", "a=1", "--rows", "32.0", "--last", "-k"]
    words = rewrite(arguments, configs, pairs=True)
    assert words == ["m=0.9", "help=4", "x='--y'", "note='a=1'", "rows=32", "last='-k'"]


REFUSED = [
    *(["foo"], ["a b"], [""], ["=5"], ["+=5"], ["-5"], ["-xyz"], ["my key=1"], ["--x=1", "2"], ["train", "train"]),
    *(
        ["-patience=3"],
        ["-patience.x=3"],
        ["-1=2"],
        ["-=3"],
        ["--", "--cfg=job"],
        ["--", "-m=1"],
        ["--", "-patience=3"],
    ),
    *(["--", "--config-path=/tmp"], ["--", "-cp=/tmp"], ["--", "---x=1"], ["--", "--e=x"]),
    *(["--=5"], ["---x=1"], ["--2d=1"], ["--my key=1"], ["--a..b=1"], ["--a.=1"], ["--.a=1"], ["--ü=1"], ["--~x=1"]),
    *(
        ["--flag", "x=1"],
        ["--flag", "+x=1"],
        ["--flag", "~x"],
        ["--note", "x=sort(2,1,reverse=true)"],
        ["--n", "x='a=b'"],
    ),
    *(
        ["-h", "4"],
        ["-m", "0.9"],
        ["--help", "x"],
        ["--version", "2"],
        ["-r", "-1"],
        ["--info", "5"],
        ["--cfg=5"],
        ["-c", "0.1"],
    ),
    *(["--config-name"], ["--config-dir", "--x=1"], ["-k"], ["-k", "--x"], ["--", "foo"], ["--", "--help"], ["--", ""]),
    *(["--x=???"], ["--x=[1, ???]"], ['--x={"a": "???"}'], ['--x={"": 1}'], ['--x={"ü": 1}'], ['--x={"1.10": 1}']),
    *(['--x=["\\u0000"]'], ['--x=["\\ud800"]'], ["--x=\udcff"], ["\udcff=1"], ["--\ud800"]),
]


@pytest.mark.parametrize(
    ("arguments", "remedy"),
    [
        (["-patience=3"], "-patience=3: is neither --key=value nor Hydra's syntax; write --patience=3, or patience=3"),
        (
            ["--", "--cfg=job"],
            "--cfg=job: is neither --key=value nor Hydra's syntax; write --cfg=job before any --, or",
        ),
    ],
)
def test_a_dash_before_hydras_syntax_has_its_remedy(arguments, remedy):
    with pytest.raises(UserError) as refusal:
        rewrite(arguments, NO_CONFIGS)
    assert str(refusal.value).startswith(remedy)


@pytest.mark.parametrize(
    "word", ["--learning-rate=3", "--patience=3", "-patience=3", "-lr=3", "-optimizer.lr=3", "-x-y=3"]
)
def test_dashes_on_train_pys_own_line_are_refused(word):
    with pytest.raises(UserError, match=rf"^{word}: train.py speaks Hydra's syntax, "):
        must_be_hydras([word])


def test_hydras_own_flags_stay_on_train_pys_line():
    must_be_hydras(
        ["--cfg=job", "-c=job", "-p=model", "-cp=x", "-cn=x", "-cd=x", "-i=all", "--config-n=x", "-m", "-cjob"]
    )


@pytest.mark.parametrize("arguments", REFUSED)
def test_what_makes_no_sense_is_refused_in_one_line(arguments):
    with pytest.raises(UserError) as refusal:
        rewrite(arguments, NO_CONFIGS)
    assert "\n" not in str(refusal.value)
    assert refusal.value.status == 2
    assert ": " in str(refusal.value)


@pytest.mark.parametrize("arguments", [["x=1"], ["--x"], ["--x", "1", "y"], ["-m", "-m", "--", "1"], ["-xy", "1"]])
def test_sagemakers_pairs_are_strict(arguments):
    with pytest.raises(UserError):
        rewrite(arguments, NO_CONFIGS, pairs=True)


@pytest.fixture
def stand_in(tmp_path):
    """Run the script with a train.py that records its words; `python` in bash, as the script finds it on PATH."""
    (tmp_path / "bin").mkdir()
    all_started = []

    def run(*arguments, module=f'exec {sys.executable} "$@"', train="exit 7", cwd=tmp_path, **environment):
        python = tmp_path / "bin" / "python"
        recorded = tmp_path / "recorded"
        recorded.unlink(missing_ok=True)
        python.write_text(
            f"#!/bin/bash\nif [[ ${{1##*/}} != train.py ]]; then {module}; fi\n"
            f'printf "%s\\0" "$PWD" "$$" "$@" >{recorded}.part; mv {recorded}.part {recorded}\n{train}\n'
        )
        python.chmod(0o755)
        outside = {name: value for name, value in os.environ.items() if not name.startswith(("SM_", "ALPHARD_"))}
        outside |= {"PATH": f"{tmp_path}/bin:{os.environ['PATH']}", **environment}
        started = subprocess.Popen(
            [SCRIPT, *arguments], cwd=cwd, env=outside, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        all_started.append(started)
        started.recorded = lambda: recorded.read_text().split("\0")[:-1] if recorded.exists() else None
        return started

    yield run
    for started in all_started:
        started.kill()
        started.communicate()


def test_the_script_becomes_train_py_and_has_its_status(stand_in, tmp_path):
    started = stand_in("--train=T.npz", "-m", "x=1,2", "--note=a\nb ", "--flag")
    assert started.communicate() == ("", "")
    assert started.returncode == 7
    here, process, train, *words = started.recorded()
    # Paths among the arguments are the caller's, so the working folder stays; and it is the same process.
    assert (Path(here), int(process), Path(train)) == (tmp_path, started.pid, ROOT / "train.py")
    assert words == ["-m", "train=T.npz", "x=1,2", "note='a\nb '", "flag=true"]


def test_the_script_without_arguments_passes_none(stand_in):
    started = stand_in()
    assert started.wait() == 7
    assert started.recorded()[3:] == []


def test_the_script_refuses_with_one_line_and_status_2(stand_in):
    started = stand_in("--x=1", "foo")
    out, err = started.communicate()
    assert (started.returncode, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("convert_command.sh: foo: ")
    assert started.recorded() is None


def test_an_argument_that_is_not_utf8_is_refused(stand_in):
    started = stand_in(b"--note=\xff")
    assert started.wait() == 2
    assert started.recorded() is None


@pytest.mark.parametrize("status", [1, 127])
def test_a_failing_rewriting_is_the_scripts_failure(stand_in, status):
    started = stand_in("--x=1", module=f"printf 'x=1\\0'; exit {status}")
    assert started.wait() == status
    assert started.recorded() is None


def test_sigterm_reaches_train_py(stand_in):
    started = stand_in(train="trap 'exit 9' TERM; while :; do sleep 0.05; done")
    until(started.recorded)
    time.sleep(0.2)
    started.send_signal(signal.SIGTERM)
    assert started.wait(timeout=10) == 9


def test_sigterm_during_the_rewriting_is_not_lost(stand_in, tmp_path):
    started = stand_in(module=f"touch {tmp_path}/began; sleep 1; exit 0")
    until((tmp_path / "began").exists)
    started.send_signal(signal.SIGTERM)
    assert started.wait(timeout=10) == 143
    assert started.recorded() is None


def test_files_in_the_callers_folder_are_never_imported(stand_in, tmp_path):
    for name in ("alphard", "hydra", "json", "re"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('imported from the working folder')")
    started = stand_in("--batch_size=64.0", "--betas=[0.9]")
    assert started.communicate() == ("", "")
    assert started.recorded()[3:] == ["batch_size=64", "betas=[0.9]"]


def test_sm_hps_makes_every_argument_a_pair(stand_in):
    started = stand_in("-m", "0.9", "--x", "--y", SM_HPS="{}")
    assert started.wait() == 7
    assert started.recorded()[3:] == ["m=0.9", "x='--y'"]


def test_the_script_works_through_a_link(stand_in, tmp_path):
    link = tmp_path / "entry"
    link.symlink_to(SCRIPT)
    done = subprocess.run([link, "foo"], check=False, capture_output=True, text=True, cwd="/", env=real_python())
    assert (done.returncode, done.stderr[:20]) == (2, "convert_command.sh: ")


def test_no_heavy_import():
    code = "import sys, alphard.arguments, alphard.guard; print({'torch', 'hydra', 'json'} & {*sys.modules})"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "set()\n"


def real_python():
    return os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}


def until(condition, seconds=10):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


# The judge forks for each Hydra app that it runs, which then finds Hydra, its plugins and its grammar there.
JUDGED = """
import runpy, sys
import hydra._internal.hydra, hydra._internal.utils
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins

Plugins.instance()
OverridesParser.create().parse_overrides(["a.b=1e-3", "+c=[x,{d: null}]"])
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.more(minutes=3)
@pytest.mark.timeout(900)
@pytest.mark.skipif(not JUDGE.exists(), reason="the corpus lies beside the project where it is developed")
def test_the_corpus():
    """Each of its vectors through the script and a real Hydra app, type-exact."""
    command = [sys.executable, "-c", JUDGED, JUDGE, SCRIPT]
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=real_python())
    assert done.returncode == 0, done.stdout[-3000:]
