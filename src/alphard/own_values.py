"""Data as the config's own value would have it: beside a string it stays text, beside an int 64.0 is 64."""

import os
import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from alphard import literals


class OwnValues:
    """The config of these flags and group choices, read when the first value depends on it (0.2 s).

    configs:   the folder of the primary config.
    flags:     Hydra's flags, by their long names.
    overrides: (key, text, whether the text is data or a whole override in Hydra syntax).
    """

    def __init__(
        self, configs: Path, flags: Mapping[str, str | None], overrides: Sequence[tuple[str, str, bool]]
    ) -> None:
        self.configs, self.flags, self.overrides = configs, flags, overrides

    def typed(self, key: str, text: str) -> literals.Value:
        """What `text` means at `key`.  A value that has to be given, `???`, counts as a string: most are paths."""
        value = literals.read(text)
        if type(value) is str:
            return value
        if self._is_group(key):
            return text if isinstance(value, literals.Plain) else value
        own = self.own(key)
        if isinstance(own, str):
            return text
        return literals.integral(value) if type(own) is int and isinstance(value, literals.Plain) else value

    def _is_group(self, key: str) -> bool:
        group = key.lstrip("+~").partition("@")[0]
        return "." not in group and (self.configs / group).is_dir()

    def own(self, key: str) -> Any:
        """The config's value at `key`: "" where one has to be given, None where it cannot be known."""
        from omegaconf import OmegaConf
        from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

        try:
            return OmegaConf.select(self._composed, key.lstrip("+"), throw_on_missing=True)
        except MissingMandatoryValue:
            return ""
        except OmegaConfBaseException:
            return None

    @cached_property
    def _composed(self) -> Any:
        """Empty where Hydra cannot compose: train.py will say why."""
        import warnings

        from hydra import compose, initialize_config_dir
        from omegaconf import OmegaConf

        from alphard.hydra_seam import BASE

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                if {"--config-path", "--config-dir"} & {*self.flags} and os.environ.get("ALPHARD_SEALED") == "1":
                    return OmegaConf.create()  # train.py will refuse these; a sealed container reads no other configs
                if self._hangs():
                    return OmegaConf.create()
                with initialize_config_dir(self._folder(), **BASE):
                    name = self.flags.get("--config-name") or "config"
                    return compose(name, self._choices(), return_hydra_config=True)
            except Exception:
                return OmegaConf.create()

    def _hangs(self) -> bool:
        """Whether a config by its aliases would be composed forever; train.py will say which."""
        from alphard.documents import unfolds_too_far

        folders = [self._folder(), self.flags.get("--config-dir")]
        return any(unfolds_too_far(path) for folder in folders if folder for path in Path(folder).rglob("*.yaml"))

    def _folder(self) -> str:
        return str(self.configs.absolute().parent / (self.flags.get("--config-path") or self.configs.name))

    def _choices(self) -> list[str]:
        extra = self.flags.get("--config-dir")
        found = [f"hydra.searchpath=[{literals.write(f'file://{Path(extra).absolute()}')}]"] if extra else []
        return found + [_choice(*override) for override in self.overrides if self._is_group(override[0])]


def _choice(key: str, text: str, is_data: bool) -> str:
    """The group's option as an override; of a sweep over options, the first."""
    if is_data:
        return f"{key}={literals.write(literals.read(text))}"
    return re.sub(r"^([^,\[]*),.*", r"\1", text, flags=re.DOTALL)
