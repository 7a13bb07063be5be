"""The environment of Flower's processes: what they need by name, offline, with a Flower home of their own.

What else the environment of a person or a service holds (a passphrase, a token, another program's settings) is not
handed on: whatever runs there, the server's app above all, could read it, and errors and logs could quote it.

Nothing of Flower is imported here: every command reads this file, and most of them start no process of Flower's.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

HERE = "127.0.0.1"
OFFLINE = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
}
"""What keeps Flower from calling home or installing anything."""
TASK_POLL = "FLWR_SUPEREXEC_TASK_POLL_INTERVAL"
"""Environment variable: seconds between two looks of a SuperExec for work, 0.01 to 60."""
PIECES = {"FLWR_PRIVATE_MAX_ARRAY_CHUNK_SIZE": str(2**20)}
"""Environment: bytes of the pieces that tensors travel in, of which a node sends and fetches two at once.

A piece must pass within the 30 s that Flower's client waits, or it is sent again from its beginning, without end: so a
line needs 560 kbit/s, and of Flower's own 5 MiB it would need 2.8 Mbit/s. A cut costs two pieces, not the message.
"""
CREDENTIALS = "CREDENTIALS_DIRECTORY"
"""Where systemd shows a service its credentials; handed on only where a process reads a passphrase itself."""
_DIRECT = (HERE, "localhost", "::1")
_NEEDED = (
    *("HOME", "USER", "LOGNAME", "TMPDIR", "TZ", "LANG", "LANGUAGE"),
    *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR"),
    # Libraries of GPUs, which of them, and how many threads.
    *("LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "CUBLAS_WORKSPACE_CONFIG"),
    *("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"),
)
_NEEDED_LIKE = ("LC_", "NVIDIA_")


def needed_environment() -> dict[str, str]:
    """What of this process's environment a program of ours or of Flower's needs, and nothing else of it."""
    return {
        name: value for name, value in os.environ.items() if name in _NEEDED or name.startswith(_NEEDED_LIKE)
    } | OFFLINE


def flower_environment(home: Path, **more: str) -> dict[str, str]:
    """Make an environment fit for Flower's programs.

    Parameters
    ----------
    home
        Flower's own folder; it must not be shared with another consortium or site.
    **more
        Further variables.
    """
    programs = str(Path(sys.executable).parent)
    proxied = os.environ.get("NO_PROXY") or os.environ.get("no_proxy") or ""
    # A proxy for the way out must not be asked for this machine.
    direct = ",".join(dict.fromkeys([*(each for each in proxied.split(",") if each), *_DIRECT]))
    return {
        **needed_environment(),
        **PIECES,
        "PATH": f"{programs}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "FLWR_HOME": str(home),
        "NO_PROXY": direct,
        "no_proxy": direct,
        **more,
    }
