"""The arguments that reach past the config, refused before Hydra acts on them.

Hydra builds what stands at hydra.callbacks, and unpickles what --experimental-rerun names, before any check of ours.
In the container (ALPHARD_SEALED=1) arguments also cannot lead to configs that are not the image's own; elsewhere
foreign.py looks at what those hold.
"""

import re
from collections.abc import Iterator, Sequence

from alphard.errors import UserError

# run.dir to verbose are a user's; Lightning starts its other processes with output_subdir=null.
SEALED = re.compile(r"hydra\.(?:run\.dir|sweep\.\w+|job\.name|verbose)=.*|hydra\.output_subdir=null", re.DOTALL)
# A path that goes up, or one made from the environment, can name a file outside configs/.
LEAVES = re.compile(r"(?<![\w.-])\.\.(?![\w.-])|\$\{[^}]*:")
LEAVES_AS_NAME = re.compile(rf"^/|{LEAVES.pattern}")
# Where under hydra a reference names a folder or a word, and never something to build.
REFERS = re.compile(r"hydra\.(?:run|sweep|job|output_subdir|verbose|help)(?:\..*)?")
# Hydra resolves its own node twice, so that a reference in it is one however a tuner's data was escaped.
HYDRAS = re.compile(r"\$\{(?:now:|hydra[.:])[^{}$]*\}")
SAYS_HYDRA = re.compile(r"(?<!\w)hydra(?!\w)")


def refuse(arguments: Sequence[str], sealed: bool) -> None:
    """Raise UserError, naming every argument that runs code or, in a sealed container, leaves its configs."""
    from alphard.hydra_seam import command_line

    line = command_line(arguments)
    problems = [*_flags(vars(line), sealed, any(word.partition("=")[0] == "--experiment" for word in arguments))]
    problems += [f"{argument}: {why}" for argument in line.overrides if (why := _why_not(argument, sealed))]
    if problems:
        raise UserError(*problems)


def _flags(flags: dict[str, str | None], sealed: bool, dashed: bool) -> Iterator[str]:
    """What is wrong with flags.  dashed: whether --experiment was written, which Hydra takes for another flag."""
    rerun, name = flags.get("experimental_rerun"), flags["config_name"]
    if rerun is not None and dashed:
        yield f"--experiment={rerun}: train.py speaks Hydra's syntax; write experiment={rerun}"
    elif rerun is not None:
        why = "unpickles a file, which can run any code; repeat a run from its config.yaml instead"
        yield f"--experimental-rerun={rerun}: {why}"
    for flag in ("config_path", "config_dir") if sealed else ():
        if flags[flag] is not None:
            why = "with ALPHARD_SEALED=1, configs come from the image alone; build an image with yours in configs/"
            yield f"--{flag.replace('_', '-')}={flags[flag]}: {why}"
    if name is not None and LEAVES_AS_NAME.search(name):
        remedy = "with ALPHARD_SEALED=1, it has to be in configs/" if sealed else "name the folder with --config-path=…"
        yield f"--config-name={name}: names a file outside its folder; {remedy}"


def _why_not(argument: str, sealed: bool) -> str | None:
    key, _, value = argument.partition("=")
    sign, node, package = parse(key)
    why = None if sign.startswith("~") else _runs_code(argument, node, package)
    if why or not sealed:
        return why
    if _is_hydra(node) and not SEALED.fullmatch(f"{node}={value}"):
        return "with ALPHARD_SEALED=1, of hydra.* only run.dir, sweep.*, job.name and verbose may be set"
    if _is_hydra(node) and "${" in HYDRAS.sub("", value.replace("\\", "")):
        return "with ALPHARD_SEALED=1, this may refer to ${now:…} and ${hydra.…} alone: a folder's name is no secret"
    # A key without a dot may be a group, whose options are files.
    if "." not in key.partition("@")[0] and leaves(value):
        return "with ALPHARD_SEALED=1, this has to be a name in configs/, without .. and ${...:...}"
    return None


def _runs_code(argument: str, node: str, package: str) -> str | None:
    value, under = argument.partition("=")[2], _is_hydra(node)
    logging = re.match(r"hydra\.(?:job|hydra)_logging(?:\.|$)", node) and ("{" in argument or node.count(".") > 1)
    rules = [
        (
            re.fullmatch(r"hydra(?:\.callbacks(?:\..*)?)?", node),
            f"{node} can run code before the config is checked; use the callbacks group, +callbacks.NAME=...",
        ),
        (
            _is_hydra(package),
            f"what is put at {package} can run code before the config is checked; leave out @{package}",
        ),
        (logging, f"{node} can run code by a factory of logging's; choose hydra/job_logging=NAME instead"),
        (
            under and "_target_" in argument,
            "a _target_ under hydra runs before the config is checked; choose hydra/launcher=NAME instead",
        ),
        (
            under and "$" in argument and not REFERS.fullmatch(node),
            f"a reference at {node} can lead to a _target_, which runs before the config is checked; write the value",
        ),
        (
            node.startswith("hydra.sweeper") and SAYS_HYDRA.search(value),
            "a job's own hydra.* can run code before its config is checked; give it to all jobs, not to the sweeper",
        ),
    ]
    return next((why for holds, why in rules if holds), None)


def leaves(value: str) -> bool:
    """Whether a group's option can name a file outside its folder, however Hydra's escapes spell it."""
    return LEAVES.search(value.replace("\\", "")) is not None


def _is_hydra(place: str) -> bool:
    return place == "hydra" or place.startswith("hydra.")


def parse(key: str) -> tuple[str, str, str]:
    """Its sign, its config path and its package, both dotted, however slashes, brackets and escapes spell them."""
    plain = re.sub(r"[\s\\\]]", "", key)
    bare = plain.lstrip("+~")
    node, _, package = re.sub(r"[/\[]", ".", bare).partition("@")
    return plain[: len(plain) - len(bare)], node, re.sub(r"^(?:_global_\.)+", "", package)
