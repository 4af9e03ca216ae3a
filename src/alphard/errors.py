"""What ends a run early, and the exit status of each."""

import re
import signal
import traceback

# In a URL before the host, as people write it; behind it, as libpq takes it.
PASSWORD = re.compile(r"(?<=://)([^:/@\s]*):[^@\s]*@")
PARAMETER = re.compile(r"(?<=[?&])(password=)[^&\s]+")
# All but a tab and a line's end; of Unicode, what turns the direction of a line, and half a character.
CONTROLS = re.compile(r"[\0-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
LEAST = 6  # characters of what may be secret; 0.001 of an environment is none
_unsaid: dict[str, str] = {}  # a value of the environment, and the reference that stands for it


class UserError(Exception):
    """Something that the user can mend; shown as one paragraph, exit status 2.

    Each problem names its config path, the value, and what would be right.
    """

    status = 2

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems

    def paragraph(self) -> str:
        """What stderr shows: no password of a URL, whoever quotes it."""
        lines = masked("\n  ".join(self.problems))
        return f"error: {lines}" if len(self.problems) == 1 else f"error: {len(self.problems)} problems\n  {lines}"


class TrainingError(UserError):
    """The config was sound and the training was not: it diverged, or a write failed.  Exit status 1."""

    status = 1


class Pruned(BaseException):
    """Who listens to a run's objective has heard enough.

    Like Interrupted no Exception, so that no handler meant for failures takes it for one.
    """


class Interrupted(BaseException):
    """SIGINT or SIGTERM arrived; exit status 128 plus the signal's number."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.status = 128 + number


def unforeseen(error: BaseException) -> str:
    """One line of an error that nobody worded: its kind, what it says, and where in our or the user's code it arose."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "site-packages" not in f.filename]
    place = f" ({frames[-1].filename}:{frames[-1].lineno})" if frames else ""
    return masked(f"error: {type(error).__name__}: {error}{place}")


def unsay(value: str, reference: str) -> None:
    """From here on no error says `value`, nor a line of it, but `reference` in its place."""
    for one in (value, *value.splitlines()):
        for said in (one, one.strip(), repr(one)[1:-1]):
            if len(said) >= LEAST:
                _unsaid[said] = reference


def plain(text: str) -> str:
    """The text with what would act on a terminal, as an escape sequence in a column's name, spelt out."""
    return CONTROLS.sub(lambda found: repr(found[0])[1:-1], text)


def masked(text: str) -> str:
    """The plain text without the passwords of its URLs, and without what a reference took from the environment."""
    for value in sorted(_unsaid, key=len, reverse=True):
        text = text.replace(value, _unsaid[value])
    text = plain(text)
    return PARAMETER.sub(r"\1***", PASSWORD.sub(r"\1:***@", text))
