"""Ports of this machine."""

from __future__ import annotations

import socket

from medveil.environment import HERE


def free_port() -> int:
    """A port on the loopback interface that nobody listens on now; who wants it takes it soon."""
    with socket.socket() as probe:
        probe.bind((HERE, 0))
        return int(probe.getsockname()[1])
