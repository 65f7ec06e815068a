"""Programs of classic BPF (the kernel's networking/filter.rst), written as nested lists of instructions.

Both kinds that klock needs are of this form: filters of system calls (seccomp(2)) and of packets (packet(7)). A program
only jumps forward, so a condition is an instruction that may skip its body.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final, TypeAlias

__all__ = [
    "Program",
    "assembled",
    "give",
    "load",
    "load_after_header",
    "mask",
    "measure_header",
    "when",
    "when_any",
    "when_set",
]

Instruction: TypeAlias = tuple[int, int, int, int]
"""Code, instructions to skip when true and when false, operand: `struct sock_filter`."""

Program: TypeAlias = list[Instruction]

_LOAD: Final = {4: 0x20, 2: 0x28, 1: 0x30}  # BPF_LD | BPF_ABS with BPF_W, BPF_H, BPF_B
_LOAD_INDEXED: Final = {4: 0x40, 2: 0x48, 1: 0x50}  # BPF_LD | BPF_IND
_MEASURE: Final = 0xB1  # BPF_LDX | BPF_B | BPF_MSH
_MASK: Final = 0x54  # BPF_ALU | BPF_AND | BPF_K
_JUMP: Final = 0x05  # BPF_JMP | BPF_JA
_EQUALS: Final = 0x15  # BPF_JMP | BPF_JEQ | BPF_K
_IS_SET: Final = 0x45  # BPF_JMP | BPF_JSET | BPF_K
_RETURN: Final = 0x06  # BPF_RET | BPF_K
_FARTHEST: Final = 255


def load(offset: int, *, size: int = 4) -> Program:
    return [(_LOAD[size], 0, 0, offset & 0xFFFFFFFF)]


def measure_header(offset: int) -> Program:
    """Keeps the length of the IPv4 header at `offset` for `load_after_header`."""
    return [(_MEASURE, 0, 0, offset)]


def load_after_header(offset: int, *, size: int = 4) -> Program:
    return [(_LOAD_INDEXED[size], 0, 0, offset)]


def mask(bits: int) -> Program:
    return [(_MASK, 0, 0, bits)]


def give(value: int) -> Program:
    """Ends the program with `value`."""
    return [(_RETURN, 0, 0, value)]


def when(value: int, body: Program) -> Program:
    """Runs `body` when what was loaded last is `value`."""
    return _skipping(_EQUALS, value, body)


def when_set(bits: int, body: Program) -> Program:
    """Runs `body` when one of `bits` is set in what was loaded last."""
    return _skipping(_IS_SET, bits, body)


def when_any(values: Sequence[int], body: Program) -> Program:
    """Runs `body` when what was loaded last is one of `values`."""
    count = len(values)
    tests = [(_EQUALS, count - number, 0, value) for number, value in enumerate(values)]
    return [*tests, (_JUMP, 0, 0, len(body)), *body]


def assembled(program: Program) -> bytes:
    """The program as an array of `struct sock_filter`."""
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in program)


def _skipping(test: int, operand: int, body: Program) -> Program:
    if len(body) <= _FARTHEST:
        return [(test, 0, len(body), operand), *body]
    return [(test, 1, 0, operand), (_JUMP, 0, 0, len(body)), *body]
