"""Run a command with limits on resources and without system calls that a server never needs.

    python -m probe_engine.experiments.sandbox MEMORY_BYTES COMMAND...

Limits (``setrlimit``) and a seccomp filter are inherited through ``exec`` and cannot be taken off again. Linux on
x86-64 and aarch64.
"""

import ctypes
import os
import platform
import resource
import struct
import sys
from collections.abc import Iterable

from probe_engine.errors import ExperimentError

NO_NEW_PRIVILEGES, SET_SECCOMP, MODE_FILTER = 38, 22, 2
LOAD, EQUAL, AT_LEAST, RETURN = 0x20, 0x15, 0x35, 0x06
ALLOW, REFUSE_EPERM, KILL = 0x7FFF0000, 0x00050001, 0x80000000
AT_NUMBER, AT_ARCHITECTURE = 0, 4
X32_BIT = 0x40000000  # x86-64's other numbering, which would go round the list

# What is refused, by number on x86-64 and aarch64 (None: not there).
REFUSED: dict[str, tuple[int, int | None]] = {
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "unshare": (272, 97),
    "setns": (308, 268),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
    "open_by_handle_at": (304, 265),
    "add_key": (248, 217),
    "keyctl": (250, 219),
    "reboot": (169, 142),
    "swapon": (167, 224),
    "acct": (163, 89),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "sethostname": (170, 161),
    "iopl": (172, None),
    "ioperm": (173, None),
}
ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}


class _Filter(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def refused_numbers(machine: str) -> list[int]:
    """The refused calls' numbers on ``machine``; ``ExperimentError`` for one that isn't known."""
    if machine not in ARCHITECTURES:
        raise ExperimentError(f"no seccomp filter for {machine}; there are {', '.join(ARCHITECTURES)}")
    column = ARCHITECTURES[machine][0]
    return [number for numbers in REFUSED.values() if (number := numbers[column]) is not None]


def program(numbers: Iterable[int], architecture: int) -> bytes:
    """A BPF program: calls of ``numbers`` fail with EPERM, those of another architecture kill, the others pass."""
    lines = [
        (LOAD, 0, 0, AT_ARCHITECTURE),
        (EQUAL, 1, 0, architecture),
        (RETURN, 0, 0, KILL),
        (LOAD, 0, 0, AT_NUMBER),
        (AT_LEAST, 0, 1, X32_BIT),
        (RETURN, 0, 0, REFUSE_EPERM),
    ]
    for number in numbers:
        lines += [(EQUAL, 0, 1, number), (RETURN, 0, 0, REFUSE_EPERM)]
    lines.append((RETURN, 0, 0, ALLOW))
    return b"".join(struct.pack("=HBBI", *line) for line in lines)


def confine(memory_bytes: int) -> None:
    """Limit this process for good: data, core dumps, privileges, system calls. Raises ``ExperimentError``."""
    machine = platform.machine()
    instructions = program(refused_numbers(machine), ARCHITECTURES[machine][1])
    resource.setrlimit(resource.RLIMIT_DATA, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    libc = ctypes.CDLL(None, use_errno=True)
    filters = _Filter(len(instructions) // 8, instructions)
    if libc.prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0) or libc.prctl(SET_SECCOMP, MODE_FILTER, ctypes.byref(filters), 0, 0):
        raise ExperimentError(f"the sandbox cannot be set up: {os.strerror(ctypes.get_errno())}")


def main() -> None:
    """Confine this process, then become the command."""
    memory_bytes, *command = sys.argv[1:]
    confine(int(memory_bytes))
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
