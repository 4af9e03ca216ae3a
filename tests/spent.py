"""What a process takes of the processor, which is about the same however much else the machine does."""

import os
import resource
import subprocess
from pathlib import Path
from typing import Any

# Times what a fast machine needs that does nothing else: shared caches make a processor's seconds more as well.
ROOM = 3


def so_far(pid: int) -> float:
    """Seconds, by a process that lives and the children that it has waited for."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def waited_for(process: "subprocess.Popen[Any]") -> tuple[float, resource.struct_rusage]:
    """Wait for a process's end; those seconds, and all else that it used."""
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)  # for Popen waits for nobody now
    return used.ru_utime + used.ru_stime, used
