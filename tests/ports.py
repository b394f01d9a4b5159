"""Ports for servers that are told on which to listen, and come back on the same one."""

import itertools
import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Final

_RANGE: Final = range(20_000, 32_000)
"""Below those of outgoing connections, one of which could take the place of a server that is stopped."""
_APART: Final = 64


def _from_a_place_of_its_own() -> Iterator[int]:
    """All ports of the range for ever, from where no process with a number near this one begins.

    A port that was found free is bound only later, by a server that takes seconds to start. Workers that look for ports
    at the same moment must not find the same ones.
    """
    began = os.getpid() * _APART % len(_RANGE)
    return itertools.cycle([*_RANGE[began:], *_RANGE[:began]])


_ports: Final = _from_a_place_of_its_own()


def free_ports(number: int, address: str = "127.0.0.1") -> list[int]:
    """Ports on which nobody listens, and which this process was not given before."""
    with ExitStack() as held:
        found: list[int] = []
        while len(found) < number:
            port = next(_ports)
            candidate = held.enter_context(socket.socket())
            try:
                candidate.bind((address, port))
            except OSError:
                continue
            found.append(port)
    return found
