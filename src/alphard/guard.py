"""The arguments that reach past the config, refused before Hydra acts on them.

Hydra builds what stands at hydra.callbacks, and unpickles what --experimental-rerun names, before any check of ours.
In the container (ALPHARD_SEALED=1) arguments also cannot lead to configs that are not the image's own.
"""

import re
from collections.abc import Sequence

from alphard.errors import UserError

# run.dir to verbose are a user's; Lightning starts its other processes with output_subdir=null.
SEALED = re.compile(r"hydra\.(?:run\.dir|sweep\.\w+|job\.name|verbose)=.*|hydra\.output_subdir=null", re.DOTALL)
# A path that goes up, or one made from the environment, can name a file outside configs/.
LEAVES = re.compile(r"(?<![\w.-])\.\.(?![\w.-])|\$\{[^}]*:")
LEAVES_AS_NAME = re.compile(rf"^/|{LEAVES.pattern}")


def refuse(arguments: Sequence[str], sealed: bool) -> None:
    """Raise UserError, naming every argument that runs code or, in a sealed container, leaves its configs."""
    problems = [f"{argument}: {why}" for argument in arguments if (why := _why_not(argument, sealed))]
    if problems:
        raise UserError(*problems)


def _why_not(argument: str, sealed: bool) -> str | None:
    if argument.startswith("-"):
        return _flag_runs_code(argument) or (_flag_leaves(argument) if sealed else None)
    key, equals, value = argument.partition("=")
    sign, node, package = _parse(key)
    why = None if sign.startswith("~") else _runs_code(argument, node, package)
    if why or not sealed:
        return why
    if _is_hydra(package) or (_is_hydra(node) and not SEALED.fullmatch(f"{node}={value}")):
        return "with ALPHARD_SEALED=1, of hydra.* only run.dir, sweep.*, job.name and verbose may be set"
    # A key without a dot may be a group, whose options are files; a word without = is a flag's value, maybe a file.
    group = "." not in key.partition("@")[0]
    if (equals and group and LEAVES.search(value)) or (not equals and LEAVES_AS_NAME.search(argument)):
        return "with ALPHARD_SEALED=1, this has to be a name in configs/, without .. and ${...:...}"
    return None


def _runs_code(argument: str, *places: str) -> str | None:
    for place in places:
        if re.fullmatch(r"hydra(?:\.callbacks(?:\..*)?)?", place):
            return f"{place} can run code before the config is checked; use the callbacks group, +callbacks.NAME=..."
        if re.match(r"hydra\.(?:job|hydra)_logging(?:\.|$)", place) and ("{" in argument or place.count(".") > 1):
            return f"{place} can run code by a factory of logging's; choose hydra/job_logging=NAME instead"
        if _is_hydra(place) and "_target_" in argument:
            return "a _target_ under hydra runs before the config is checked; choose hydra/launcher=NAME instead"
    return None


def _is_hydra(place: str) -> bool:
    return place == "hydra" or place.startswith("hydra.")


def _parse(key: str) -> tuple[str, str, str]:
    """Its sign, its config path and its package, both dotted, however slashes, brackets and escapes spell them."""
    plain = re.sub(r"[\s\\\]]", "", key)
    bare = plain.lstrip("+~")
    node, _, package = re.sub(r"[/\[]", ".", bare).partition("@")
    return plain[: len(plain) - len(bare)], node, re.sub(r"^(?:_global_\.)+", "", package)


def _begins(argument: str, *flags: str) -> bool:
    """Hydra takes any unambiguous beginning of a flag's name for the flag."""
    name = argument.partition("=")[0]
    return len(name) > 2 and any(flag.startswith(name) for flag in flags)


def _flag_runs_code(argument: str) -> str | None:
    if _begins(argument, "--experimental-rerun"):
        return "unpickles a file, which can run any code; repeat a run from its config.yaml instead"
    return None


def _flag_leaves(argument: str) -> str | None:
    if argument[:3] in ("-cp", "-cd") or _begins(argument, "--config-path", "--config-dir"):
        return "with ALPHARD_SEALED=1, configs come from the image alone; build an image with yours in configs/"
    named = argument[:3] == "-cn" or _begins(argument, "--config-name")
    if named and LEAVES_AS_NAME.search(argument.partition("=")[2]):
        return "with ALPHARD_SEALED=1, this has to be a name in configs/, without .."
    return None
