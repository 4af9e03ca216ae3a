"""Files that somebody else may have written are read to plain values, or refused in one line, and at once."""

import time
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from alphard import documents, errors
from alphard.errors import UserError

BOMB = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}, *a{n - 1}]\n" for n in range(1, 60))
NO_YAML = {
    "a bomb of aliases": (BOMB, "an alias, *a0"),
    "one alias": ("a: &x 1\nb: *x", "an alias, *x"),
    "a merge": ("a: &x {b: 1}\nc:\n  <<: *x", "an alias, *x"),
    "itself": ("a: &x [*x]", "an alias, *x"),
    "a deep map": ("a: " + "{a: " * 5000, "nested too deeply"),
    "a deep list": ("a: " + "[" * 100_000, "nested too deeply"),
    "many values": ("a: [" + "1," * 60_000 + "1]", "more than 50,000 values"),
    "many bytes": ("a: " + "x" * 5_000_000, "bytes"),
    "nothing": ("", "is empty"),
    "a comment": ("# x\n", "is empty"),
    "a list": ("[1]", "a list alone"),
    "a text": ("hello", "a text alone"),
    "two documents": ("a: 1\n---\nb: 2", "line 2: no YAML"),
    "a call": ("a: !!python/object/apply:os.system [id]", "no YAML: could not determine a constructor"),
    "a NUL": ('a: "x\\0"', "a NUL"),
    "half a character": ('a: "\\ud800"', "Unicode"),
    "a bell": ("a: \x07", "stands in no text"),
    "bytes": (bytes(range(256)), "no text in UTF-8"),
    "UTF-16": ("a: 1".encode("utf-16"), "no text in UTF-8"),
}
NO_JSON = {
    "a deep list": ("[" * 200_000, "nested too deeply"),
    "a deep object": ('{"a":' * 50_000, "nested too deeply"),
    "NaN": ('{"a": NaN}', "a number in it is NaN"),
    "infinity": ('{"a": 1e999}', "a number in it is 1e999"),
    "digits": ('{"a": ' + "9" * 5000 + "}", "5000 digits"),
    "a list": ("[]", "a list"),
    "a number": ("3", "a number"),
    "nothing": ("", "no JSON"),
    "torn": ('{"a": 1', "no JSON"),
    "a NUL": ('{"a": ["\\u0000"]}', "a NUL"),
    "half a character": ('{"\\ud800": 1}', "half a character"),
    "bytes": (bytes(range(256)), "no text in UTF-8"),
}


def refused(read: object, content: str | bytes) -> str:
    began = time.process_time()
    with pytest.raises(documents.NotWritten) as refusal:
        read(content.encode() if isinstance(content, str) else content)  # type: ignore[operator]  # one of three
    assert time.process_time() - began < 5
    return str(refusal.value)


@pytest.mark.parametrize("name", NO_YAML)
def test_yaml_that_no_run_wrote(name: str) -> None:
    content, why = NO_YAML[name]
    said = refused(lambda text: documents.config(text, "run: out/config.yaml", "train it"), content)
    assert said.startswith("run: out/config.yaml: is not what a run writes: ")
    assert said.endswith("; train it")
    assert "\n" not in said
    assert why in said
    assert refused(lambda text: documents.of_yaml(text, "s/study.yaml", "a search", "restore it"), content)


@pytest.mark.parametrize("name", NO_JSON)
def test_json_that_no_run_wrote(name: str) -> None:
    content, why = NO_JSON[name]
    said = refused(lambda text: documents.of_json(text, "out/metrics.json"), content)
    assert said.startswith("out/metrics.json: is not what a run writes: ")
    assert "\n" not in said
    assert why in said


def test_a_key_of_a_config_stands_once() -> None:
    assert "found duplicate key a" in refused(lambda text: documents.config(text, "x"), "a: 1\na: 2")


def test_what_a_run_writes_is_read_as_it_was() -> None:
    config = {"lr": 1e-5, "name": "1e-5", "drop": ["é\n", "null", "\x1b"], "path": "${oc.env:NO_SUCH}/x", "none": None}
    found = documents.config(OmegaConf.to_yaml(OmegaConf.create(config)).encode(), "x")
    assert OmegaConf.to_container(found, resolve=False) == config
    assert documents.of_json(rb'{"a": [1, 2.5, null, "\u00e9", "\\u0000"]}', "x") == {
        "a": [1, 2.5, None, "é", "\\u0000"]
    }


@pytest.mark.parametrize(
    ("text", "far"),
    [
        (BOMB, True),
        ("a: &x [*x]", True),
        ("a: &x {b: 1}\nc: {<<: *x}\nd: *x", False),
        ("a: [", False),
        ("x: '*&'", False),
    ],
)
def test_a_users_config_may_have_aliases_and_no_bomb(text: str, far: bool, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(text)
    assert documents.unfolds_too_far(tmp_path / "a.yaml") is far


def test_no_error_says_what_the_environment_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    import alphard.hydra_seam  # noqa: F401  which listens

    monkeypatch.setattr(errors, "_unsaid", {})
    monkeypatch.setenv("GEHEIM", "first'line\nsecond\tline")
    assert OmegaConf.create({"x": "${oc.env:GEHEIM}"}).x == "first'line\nsecond\tline"
    for said in ("first'line", "second\tline", repr("first'line\nsecond\tline"), "it is second\tline!"):
        assert "line" not in UserError(f"x: {said}").paragraph().replace("${oc.env:GEHEIM}", "")
    assert OmegaConf.create({"x": "${oc.env:NO_SUCH,default}"}).x == "default"
    assert UserError("x: default").paragraph() == "error: x: default"
