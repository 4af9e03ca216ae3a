"""Random data reaches Hydra as it was meant, through the real script and Hydra's real parser."""

import json
import math
import os
import re
import string
import subprocess
import sys
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from alphard.arguments import rewrite
from alphard.errors import UserError

pytestmark = pytest.mark.more

SCRIPT = Path(__file__).parents[1] / "convert_command.sh"
NO_CONFIGS = SCRIPT.parent / "no configs"  # no value of its own, so that data alone counts
EXAMPLES = 2000

PARSER = OverridesParser.create()
PLAIN_PARSER = OverridesParser.create()
PLAIN_PARSER.functions.definitions.clear()  # in data, focal(gamma=2) and choice(a,b) are text


def held(value):
    """The value as a config holds it, escapes and all."""
    return OmegaConf.to_container(OmegaConf.create({"value": value}), resolve=True)["value"]


def canonical(value):
    """Equal exactly when type, sign and digits are."""
    if isinstance(value, dict):
        return {repr(key): canonical(item) for key, item in value.items()}
    if isinstance(value, list):
        return [canonical(item) for item in value]
    return "nan" if isinstance(value, float) and math.isnan(value) else f"{type(value).__name__} {value!r}"


def meant(text):
    """What `text` is as data, told from Hydra's parser and JSON: the text itself unless it is a plain literal."""
    bracketed = text[:1] + text[-1:] in ("[]", "{}")
    if bracketed:
        try:
            return json.loads(text)
        except ValueError:
            pass
    elif text != text.strip(" \t") or text[:1] in ("'", '"'):
        return text
    try:
        value = PLAIN_PARSER.parse_override(f"x={text}").value()
    except HydraException:
        return text
    if bracketed:
        return value if isinstance(value, list | dict) else text
    typed = value is None or isinstance(value, int | float)
    return value if typed and not lossy(text, value) else text


def keys_in(value):
    """The keys of every dict in `value`."""
    if isinstance(value, dict):
        yield from value
        value = list(value.values())
    for item in value if isinstance(value, list) else []:
        yield from keys_in(item)


def lossy(text, number):
    """Hydra would read 2024_01_15 as 20240115, and a double can hold neither 12e4567 nor 1e-400."""
    if "_" in text:
        return not isinstance(number, int) or f"{number:_}" != text.lstrip("+")
    if isinstance(number, float) and "inf" not in text.lower():
        return math.isinf(number) or (number == 0 and any(digit in "123456789" for digit in text.lower().split("e")[0]))
    return False


words = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=24)
awkward = st.text(st.sampled_from("'\"\\${}[]()=,:#~-+. \t\n\r?*|@%a1_éß中🚀"), max_size=14)
numbers = st.one_of(
    st.integers().map(str),
    st.floats().map(repr),
    st.from_regex(r"[+-]?[0-9_.]{1,9}(e[+-]?[0-9]{1,3})?", fullmatch=True),
)
names = st.text(string.ascii_letters + string.digits + "_/-. ", min_size=1, max_size=6).filter(
    lambda name: name.strip("+-_.0123456789eE ") and name.lower() not in ("null", "nan", "inf", "true", "false")
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | words | awkward,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=5,
)
containers = st.one_of(st.lists(json_values, max_size=3), st.dictionaries(names, json_values, max_size=3))
texts = st.one_of(
    words,
    awkward,
    numbers,
    containers.map(json.dumps),
    containers.map(lambda value: json.dumps(value, ensure_ascii=False)),
    st.lists(st.text("ab1.-/:$ \\", min_size=1, max_size=4), max_size=4).map(lambda items: f"[{','.join(items)}]"),
    st.sampled_from(["true", "False", "NULL", "inf", "-INF", "nan", "", "-", "--", "--help", "x=1", "~x", "a,b"]),
).filter(lambda text: "???" not in text)
# zz keeps clear of the names of settings, whose own type would count.
keys = st.from_regex(
    r"\+{0,2}zz[A-Za-z0-9_-]{0,6}(\.[A-Za-z_][A-Za-z0-9_-]{0,4}|\.[0-9]|\.[1-9][0-9]){0,3}", fullmatch=True
)


def test_any_value_arrives_as_it_was_meant(tmp_path):
    """Each example in this process, where it can shrink; then all of them through the script, 100 at a time."""
    passed = []

    @settings(max_examples=EXAMPLES, deadline=None, database=None)
    @given(key=keys, text=texts)
    def each(key, text):
        try:
            [override] = rewrite([f"--{key}={text}"], NO_CONFIGS)
        except UserError:
            assert not all(re.fullmatch("[A-Za-z_][A-Za-z0-9_]*", str(one)) for one in keys_in(meant(text))), text
            return
        arrives(key, text, override)
        passed.append((key, text, override.partition("=")[2]))

    each()
    assert len(passed) > EXAMPLES * 0.95
    for start in range(0, len(passed), 100):
        batch = list(enumerate(passed[start : start + 100]))
        expected = [f"{key.replace('-', '_')}.n{n}={written}" for n, (key, _, written) in batch]
        joined = [f"--{key}.n{n}={text}" for n, (key, text, _) in batch]
        separate = [word for n, (key, text, _) in batch for word in (f"--{key}.n{n}", text)]
        assert through_the_script(joined, tmp_path) == expected
        assert through_the_script(separate, tmp_path, SM_HPS="{}") == expected


def arrives(key, text, override):
    read = PARSER.parse_override(override)
    assert override.split("=")[0] == key.replace("-", "_")
    assert canonical(held(read.value())) == canonical(meant(text)), (text, override)
    # A multirun writes each override anew, and parses that.
    again = PARSER.parse_override(f"{read.get_key_element()}={read.get_value_element_as_str()}")
    assert canonical(again.value()) == canonical(read.value()), (text, override)


def through_the_script(arguments, folder, **environment):
    """The words that train.py would be given."""
    python = folder / "python"
    python.write_text(
        f'#!/bin/bash\n[[ ${{1##*/}} == train.py ]] || exec {sys.executable} "$@"\nshift; printf "%s\\0" "$@"\n'
    )
    python.chmod(0o755)
    outside = {name: value for name, value in os.environ.items() if not name.startswith("SM_")}
    environment = {**outside, **environment, "PATH": f"{folder}:{os.environ['PATH']}"}
    done = subprocess.run([SCRIPT, *arguments], env=environment, capture_output=True, check=True)
    return done.stdout.decode().split("\0")[:-1]
