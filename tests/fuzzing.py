"""Real commands by the thousand: files that are changed at random, and a process that forks one command a case."""

import io
import json
import os
import random
import resource
import signal
import time
import traceback
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import yaml

from alphard.checkpoint import dumps, loads

MEMORY = 12 << 30  # bytes of addresses that a command may ask for; torch's own libraries take some
# What stands where something else belongs.
ODD: tuple[Any, ...] = (
    *(None, True, -1, 0, 7, 10**30, 2.5, float("nan"), float("inf"), -1e308, "", "a", "a: b", "../x", "a/b", "${oops}"),
    *(
        "${oc.env:NONE_SUCH}",
        "ä\u2028é",
        "1e3",
        "nan",
        "x" * 300,
        [],
        {},
        [[]],
        [1, "a"],
        {"a": 1},
        {"_target_": "os.system"},
    ),
)
TOKENS = (*map(str, ODD), *("*x", "&x", "!!python/name:os.system", "\t", "- ", "'", '"', "{", "]", ",", ";"))
Mutate = Callable[[bytes, random.Random], bytes]


@dataclass(frozen=True)
class Call:
    """`python SCRIPT ARGUMENTS` in `folder`; its output lands in the folder `said`."""

    script: str
    arguments: tuple[str, ...]
    folder: str
    environment: dict[str, str]
    said: str
    seconds: float = 60.0


@dataclass(frozen=True)
class Ended:
    """status: None where it had to be killed; memory: the most resident bytes."""

    status: int | None
    memory: int


def serve(connection: Connection) -> None:
    """Make each call that is sent in a fork of this process, which has imported what they need."""
    import optuna.visualization  # noqa: F401
    import plotly.graph_objects  # noqa: F401

    import alphard.data
    import alphard.models
    import alphard.run
    import alphard.search.command
    import alphard.search.study_page  # noqa: F401
    import tests.warm  # noqa: F401

    while (call := connection.recv()) is not None:
        connection.send(_forked(call))


def _forked(call: Call) -> Ended:
    pid = os.fork()
    if pid == 0:
        os._exit(_child(call))
    until = time.monotonic() + call.seconds
    while time.monotonic() < until:
        done, status, used = os.wait4(pid, os.WNOHANG)
        if done:
            return Ended(os.waitstatus_to_exitcode(status), used.ru_maxrss * 1024)
        time.sleep(0.002)
    os.kill(pid, signal.SIGKILL)
    _, _, used = os.wait4(pid, 0)
    return Ended(None, used.ru_maxrss * 1024)


def _child(call: Call) -> int:
    from tests.warm import run_forked

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    try:
        run_forked(call.script, call.arguments, call.folder, call.environment, call.said)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        os.write(2, traceback.format_exc().encode())
        return 99
    return 0


def of_bytes(content: bytes, chance: random.Random) -> bytes:
    """Flipped, cut, spliced, repeated, zeroed, or with something in between."""
    changed, size = bytearray(content), len(content)
    one, other = sorted(chance.randrange(size + 1) for _ in range(2))
    match chance.randrange(8):
        case 0:
            for _ in range(chance.choice((1, 1, 3, 20))):
                changed[chance.randrange(size)] ^= 1 << chance.randrange(8)
        case 1:
            del changed[one:]
        case 2:
            del changed[one : min(other, one + 200)]
        case 3:
            changed[one:one] = changed[one : min(other, one + 500)] * chance.choice((1, 2, 50))
        case 4:
            changed[one:one] = chance.choice((b"\0", b"\0" * 40, b"\xff\xfe", b"\xef\xbb\xbf", b"\n", b"\r"))
        case 5:
            piece = changed[one : one + chance.randrange(1, 300)]
            changed[other : other + len(piece)] = piece
        case 6:
            changed[one : one + chance.randrange(1, 100)] = bytes(min(size - one, 40))
        case _:
            changed = chance.choice(
                (bytearray(), changed + changed, changed + b"\0", bytearray(chance.randbytes(size)))
            )
    return bytes(changed)


def of_text(content: bytes, chance: random.Random) -> bytes:
    """Lines deleted, doubled and swapped; tokens swapped and replaced."""
    lines = content.decode().splitlines()
    one, other = chance.randrange(len(lines)), chance.randrange(len(lines))
    kind = chance.randrange(6)
    if kind == 0:
        del lines[one : one + chance.choice((1, 1, 5))]
    elif kind == 1:
        lines.insert(other, lines[one])
    elif kind == 2:
        lines[one], lines[other] = lines[other], lines[one]
    elif kind == 3:
        lines[one] = chance.choice((" ", "  ", "\t", "- ")) + lines[one]
    else:
        for _ in range(chance.choice((1, 1, 4))):
            at = chance.randrange(len(lines))
            words = lines[at].replace(",", " , ").replace(":", " : ").split(" ")
            words[chance.randrange(len(words))] = chance.choice(TOKENS)
            lines[at] = " ".join(words).replace(" , ", ",").replace(" : ", ": ")
    return "\n".join([*lines, ""]).encode()


def of_node(node: Any, chance: random.Random) -> Any:
    """A value of another type somewhere inside, a key less, or one more."""
    if isinstance(node, dict | list) and node and chance.random() < 0.85:
        keys = [*node] if isinstance(node, dict) else [*range(len(node))]
        key, kind = chance.choice(keys), chance.random()
        if kind < 0.15:
            del node[key]
        elif kind < 0.2 and isinstance(node, dict):
            node[chance.choice(TOKENS)] = node[key]
        else:
            node[key] = of_node(node[key], chance)
        return node
    return chance.choice(ODD)


def of_json(content: bytes, chance: random.Random) -> bytes:
    """JSON of other types."""
    return json.dumps(of_node(json.loads(content), chance)).encode()


def of_yaml(content: bytes, chance: random.Random) -> bytes:
    """YAML of other types."""
    head = b"".join(line for line in content.splitlines(keepends=True)[:1] if line.startswith(b"#"))
    return head + yaml.safe_dump(of_node(yaml.safe_load(content), chance), sort_keys=False).encode()


def of_lines(content: bytes, chance: random.Random) -> bytes:
    """One JSON object of many changed."""
    lines = content.splitlines()
    at = chance.randrange(len(lines))
    lines[at] = of_json(lines[at], chance)
    return b"\n".join([*lines, b""])


def of_archive(content: bytes, chance: random.Random) -> bytes:
    """A zip archive's member changed, and packed anew, so that its checksums hold; or a member less."""
    packed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(packed, "w") as new:
        victim = chance.choice(old.namelist())
        for name in old.namelist():
            if name != victim:
                new.writestr(name, old.read(name))
            elif chance.random() < 0.9:
                member = old.read(name)
                as_json = name.endswith(".json") and chance.random() < 0.7
                new.writestr(name, of_json(member, chance) if as_json else of_bytes(member, chance) if member else b"x")
    return packed.getvalue()


def of_checkpoint(content: bytes, chance: random.Random) -> bytes:
    """A state of other types, whose checksum holds."""
    return dumps(of_node(loads(content), chance))
