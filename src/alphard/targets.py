"""Which names a `_target_` may have, and the import of one that passed.

The list is code.  No config and no argument extends it: a config may come from a bucket, an argument from a tuner.
"""

import importlib
import importlib.metadata
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

# Never bare `torch`, which holds torch.hub.load; never all of Lightning, which holds its command line.
LIBRARIES = (
    "torch.nn",
    "torch.optim",
    "pytorch_lightning.callbacks",
    "pytorch_lightning.loggers",
    "pytorch_lightning.trainer.trainer",
)
OURS = ("alphard.data", "alphard.models", "alphard.loggers")
NAME = re.compile(r"[^\W\d_]\w*(\.[^\W\d_]\w*)+")  # no part begins with an underscore


class Untrusted(Exception):
    """A target that will not be imported or called; the message says why."""


@cache
def own_packages() -> frozenset[str]:
    """Top-level packages and modules in `src/` beside alphard: a user's own code, trusted because it is there."""
    home = Path(__file__).resolve().parents[1]
    if home.name == "src" and (home.parent / "pyproject.toml").exists():
        names = {path.name.removesuffix(".py") for path in home.iterdir() if path.is_dir() or path.suffix == ".py"}
    else:  # installed as a wheel, as in the image: what came with it
        names = {Path(file.parts[0]).stem for file in importlib.metadata.files("alphard") or () if file.suffix == ".py"}
    return frozenset(name for name in names - {"alphard", "hydra_plugins"} if name.isidentifier() and name[0] != "_")


def patterns() -> list[str]:
    """The trusted names, in the form that Hydra 1.4 takes as its execution whitelist."""
    return [f"{name}.*" for name in (*LIBRARIES, *OURS, *sorted(own_packages()))] + ["pytorch_lightning.Trainer"]


def locate(name: object) -> Callable[..., Any]:
    """The class or function called `name`, imported only after its name passed.

    Raises Untrusted for a name outside the list, and for one that reaches something from outside by an alias
    (`mine.os.system`); ImportError or AttributeError where the name leads nowhere.
    """
    found = _attribute(must_be_trusted(name))
    name, origin = str(name), getattr(found, "__module__", None) or ""
    if isinstance(found, ModuleType) or not callable(found):
        raise Untrusted(f"{name} is not a class or function")
    if not _within(f"{origin}.", (*LIBRARIES, *OURS, *own_packages())):
        raise Untrusted(f"{name} is an alias of {origin}.{getattr(found, '__qualname__', '?')}, which is not trusted")
    if not isinstance(found, type) and not _within(f"{origin}.", tuple(own_packages())):
        raise Untrusted(f"{name} is a function; of the libraries only classes are trusted")
    target: Callable[..., Any] = found
    return target


def must_be_trusted(name: object) -> str:
    """The name, where it is on the list; raises Untrusted.  Nothing is imported."""
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise Untrusted(f"{name!r} is not the dotted name of a class")
    if name != "pytorch_lightning.Trainer" and not _within(name, (*LIBRARIES, *OURS, *own_packages())):
        raise Untrusted(f"{name} is not trusted; {allowed()}")
    return name


def allowed() -> str:
    """What may be named, for an error's remedy."""
    own = ", ".join(f"{name}.*" for name in sorted(own_packages())) or "none yet"
    return (
        "a target is one of torch.nn.*, torch.optim.*, pytorch_lightning.Trainer, .callbacks.*, .loggers.*, "
        f"alphard.data.*, .models.*, .loggers.*, or stands in a package of yours in src/ ({own})"
    )


def _within(name: str, roots: tuple[str, ...]) -> bool:
    return any(name.startswith(f"{root}.") for root in roots)


def _attribute(name: str) -> Any:
    """Import the longest prefix of `name` that is a module, and take the rest from it."""
    parts = name.split(".")
    for cut in range(len(parts) - 1, 0, -1):
        prefix = ".".join(parts[:cut])
        try:
            found: Any = importlib.import_module(prefix)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{prefix}.".startswith(f"{error.name}."):
                raise  # the module is there; something that it imports is not
            continue
        for part in parts[cut:]:
            if isinstance(found, ModuleType) and not hasattr(found, part):
                raise AttributeError(f"{found.__name__} has no {part}")
            found = getattr(found, part)
        return found
    raise ImportError(f"no module {parts[0]}")
