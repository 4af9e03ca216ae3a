"""`alphard check`: the config that `python train.py` would train, checked and not trained."""

from collections.abc import Sequence
from pathlib import Path

from alphard import foreign
from alphard.compose import Refused, compose, must_be_sound, refused
from alphard.errors import UserError
from alphard.hydra_seam import command_line
from alphard.lookup import here
from alphard.multirun import searches


def main(arguments: Sequence[str]) -> int:
    """Compose `configs/` of this folder with the overrides given, and check it whole."""
    for argument in arguments:
        if argument.startswith("-"):
            raise UserError(f"{argument}: alphard check takes overrides alone, as in epochs=5")
    configs = here()
    line = command_line(arguments)
    foreign.refuse(line, configs)
    line.multirun = searches(line)
    if line.multirun:
        from alphard.search import chosen

        chosen.must_be_one(line, configs)
    try:
        print(f"sound: every name, value and target of this config{_sound(configs, arguments, line.multirun)}")
    except (*Refused, OSError) as refusal:
        raise refused(configs, line, refusal) from None
    return 0


def _sound(configs: Path, arguments: Sequence[str], searched: bool) -> str:
    """What else is sound, once all of it is."""
    if not searched:
        must_be_sound(compose(configs, arguments))
        return ""
    from alphard.search.plan import checked

    return f", and of {len(checked(configs, arguments).space.dimensions)} dimensions to search"
