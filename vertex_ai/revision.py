"""The git revision of a project's folder, and whether the files there are what it says."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

from alphard.errors import UserError

LENGTH = 12  # hex digits of a tag
SHOWN = 5


@dataclass(frozen=True)
class Revision:
    """A commit, and the files that differ from it, as git status shows them."""

    whole: str
    changed: tuple[str, ...]

    @property
    def tag(self) -> str:
        """The revision as an image's tag."""
        return self.whole[:LENGTH]

    @property
    def unclean(self) -> bool:
        """Whether the tree differs."""
        return bool(self.changed)

    def must_be_clean(self, dirty: bool) -> None:
        """Raise UserError with some of the files where the tree differs and that was not asked for."""
        if self.unclean and not dirty:
            more = f" and {len(self.changed) - SHOWN} more" if len(self.changed) > SHOWN else ""
            files = ", ".join(self.changed[:SHOWN]) + more
            remedy = f"commit them, or say dirty=true for an image that is tagged {self.tag}-dirty"
            raise UserError(f"dirty: false: the tree is not what revision {self.tag} says ({files}); {remedy}")


def revision_of(folder: Path) -> Revision:
    """The revision of the checkout in `folder`; UserError where there is none."""
    remedy = "git init && git add --all && git commit makes it one"
    whole = _git(folder, remedy, "rev-parse", "--verify", "HEAD").strip()
    # Without quotes and renames: of each file two letters and its name.
    status = _git(folder, remedy, "status", "--porcelain", "-z", "--no-renames", "--untracked-files=all", "--", ".")
    return Revision(whole, tuple(line.strip() for line in status.split("\0") if line))


def _git(folder: Path, remedy: str, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    except FileNotFoundError:
        raise UserError("git: is not on PATH; install it, for an image is tagged with the revision in it") from None
    if done.returncode:
        said = done.stderr.strip().split("\n")[0].removeprefix("fatal: ")
        raise UserError(f"git: {folder} has no revision to tag an image with ({said}); {remedy}")
    return done.stdout
