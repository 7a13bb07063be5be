"""A slow line between two machines of a test: network namespaces of the kernel, and packets held back between them.

Each end is a network namespace, so that whatever is started there speaks the kernel's own TCP and reaches nobody else.
Between them lie two TUN devices whose packets a thread of the test passes on: no faster than the rate, after the delay,
some of them not at all. That is what the kernel's netem does, which not every kernel has. Needs root.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import random
import select
import struct
import subprocess
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

SERVER = "10.77.0.1"
"""The server's address on its end of the line."""
_SITE = "10.77.0.2"
_CLONE_NEWNET = 0x40000000
_TUNSETIFF, _IFF_TUN, _IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
_MTU = 1500
_HERE = Path("/proc/thread-self/ns/net")
_CONGESTION = Path("/proc/sys/net/ipv4/tcp_congestion_control")
_libc = ctypes.CDLL(None, use_errno=True)


def why_not() -> str:
    """Why no such line can be made here; empty where one can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if not os.access("/dev/net/tun", os.W_OK):
        return "there is no /dev/net/tun"
    try:
        subprocess.run(["unshare", "--net", "ip", "link"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        return "no network namespace can be made here, or iproute2 is missing"
    return ""


@dataclass
class Way:
    """One direction of a line.

    Attributes
    ----------
    rate : float
        Bits a second.
    delay : float
        Seconds.
    loss : float
        Share of the packets that never arrive.
    room : int
        Bytes that may wait to be sent; what comes when they are taken is lost too.
    passed, lost : int
        Bytes of IP packets that came through, and that did not.
    """

    rate: float
    delay: float
    loss: float
    room: int = 2**16
    passed: int = 0
    lost: int = 0
    _free: float = 0.0
    _under_way: deque[tuple[float, bytes]] = field(default_factory=deque)

    def take(self, packet: bytes, now: float, chance: float) -> None:
        """Take a packet that came at a moment; `chance` is drawn from [0, 1)."""
        waiting = max(0.0, self._free - now) * self.rate / 8
        if chance < self.loss or waiting + len(packet) > self.room:
            self.lost += len(packet)
            return
        self._free = max(self._free, now) + 8 * len(packet) / self.rate
        self._under_way.append((self._free + self.delay, packet))

    def due(self, now: float) -> Iterator[bytes]:
        """Packets that have arrived."""
        while self._under_way and self._under_way[0][0] <= now:
            packet = self._under_way.popleft()[1]
            self.passed += len(packet)
            yield packet

    def next(self) -> float:
        """When the next one arrives."""
        return self._under_way[0][0] if self._under_way else float("inf")

    def drop(self) -> None:
        """Lose what is under way."""
        self.lost += sum(len(packet) for _, packet in self._under_way)
        self._under_way.clear()


class SlowLink:
    """A line from a server's namespace to a site's.

    Parameters
    ----------
    rate
        Bits a second, each way.
    round_trip
        Seconds there and back.
    loss
        Share of packets lost, each way.
    seed
        Of which are lost.
    """

    def __init__(self, *, rate: float, round_trip: float, loss: float, seed: int = 0) -> None:
        self.up, self.down = (Way(rate, round_trip / 2, loss) for _ in range(2))
        self._random = random.Random(seed)
        self._cut, self._end = threading.Event(), threading.Event()
        self._before = os.open(_HERE, os.O_RDONLY)
        made = [_end_of_line(address) for address in (SERVER, _SITE)]
        (self._server, self._server_tun), (self._site, self._site_tun) = made
        self._thread = threading.Thread(target=self._pass_on, daemon=True)

    def __enter__(self) -> SlowLink:
        """From here on this thread, and what it starts, is at the server's end."""
        self._thread.start()
        _go(self._server)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take the line away; a namespace ends with the last process in it."""
        _go(self._before)
        self._end.set()
        self._thread.join()
        for each in (self._before, self._server, self._server_tun, self._site, self._site_tun):
            os.close(each)

    @contextmanager
    def at_site(self) -> Iterator[None]:
        """What is started meanwhile is at the site's end."""
        _go(self._site)
        try:
            yield
        finally:
            _go(self._server)

    def cut(self, seconds: float) -> None:
        """Let nothing through for so long: no end is told."""
        self._cut.set()
        time.sleep(seconds)
        self._cut.clear()

    def _pass_on(self) -> None:
        ways = {self._site_tun: (self.up, self._server_tun), self._server_tun: (self.down, self._site_tun)}
        while not self._end.is_set():
            soonest = min(way.next() for way, _ in ways.values())
            ready, _, _ = select.select(list(ways), [], [], max(0.0, min(0.2, soonest - time.monotonic())))
            now, broken = time.monotonic(), self._cut.is_set()
            for tun in ready:
                way, _ = ways[tun]
                way.take(os.read(tun, 2 * _MTU), now, 0.0 if broken else self._random.random())
            for way, to in ways.values():
                if broken:
                    way.drop()
                for packet in way.due(now):
                    # A namespace that is being taken away takes none.
                    with suppress(OSError):
                        os.write(to, packet)


def _end_of_line(address: str) -> tuple[int, int]:
    """A namespace with one end of a line in it: descriptors of the namespace, and of its TUN device."""
    made: list[tuple[int, int]] = []

    def make() -> None:
        if _libc.unshare(_CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "unshare")
        tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        fcntl.ioctl(tun, _TUNSETIFF, struct.pack("16sH22x", b"line", _IFF_TUN | _IFF_NO_PI))
        for words in (
            "link set lo up",
            f"link set line mtu {_MTU} up",
            f"address add {address}/24 dev line",
        ):
            subprocess.run(["ip", *words.split()], check=True)
        # The one that every namespace may take: of the common ones it minds loss most.
        _CONGESTION.write_text("reno")
        made.append((os.open(_HERE, os.O_RDONLY), tun))

    # A thread of its own: this one stays where it is.
    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    return made[0]


def _go(namespace: int) -> None:
    if _libc.setns(namespace, _CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")
