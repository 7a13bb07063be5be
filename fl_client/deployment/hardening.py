"""How well a site's machine, files and limits guard it, line by line, each with its cure. Nothing is changed or sent.

No passphrase is asked for. What this machine does not tell is said to be not checked, and never taken for good.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

from crypto.passphrase import VARIABLE
from fl_client.config import SMALLEST_COUNT
from fl_client.deployment.named_weights import ANY
from fl_client.deployment.own_files import OwnFiles
from fl_client.deployment.points import OK, Point
from fl_client.deployment.roster import NO_ROSTER, ApprovedRoster
from fl_client.deployment.supervisor import SUPERVISOR
from fl_client.disclosure.required import is_required
from medveil import processes
from medveil.environment import CREDENTIALS
from medveil.files import read_bytes
from medveil.kits import SITE, kit_files

WEAK, UNKNOWN = "weak", "not checked"
FEWEST = 3
"""Sites of a run below which a sum is no sum of others."""
_UNITS = ("etc/systemd/system", "usr/local/lib/systemd/system", "usr/lib/systemd/system", "lib/systemd/system")
_UNIT = "medveil-site.service"
_MOST_BYTES = 2**20
_SECRETS = ("key", "identity", "node_key", "shared_key", "passphrase_file", "identity_passphrase_file")
_PASSPHRASES = ("passphrase_file", "identity_passphrase_file", "shared_passphrase_file")
_ELSEWHERE = re.compile(
    r"(ExecStart|User|WorkingDirectory|ReadWritePaths|Type|Restart.*|KillMode|Timeout.*|Env.*|Load.*)"
)
"""Directives of the kit's unit that are a machine's own, and harden nothing."""
_CRYPT = "CRYPT-"
"""How device-mapper names a volume that dm-crypt encrypts (LUKS among them)."""


def hardening(files: OwnFiles, *, root: Path = Path("/"), environment: Mapping[str, str] = os.environ) -> list[Point]:
    """Look at what guards a site.

    Parameters
    ----------
    files
        The site.
    root
        Where the machine's own files are.
    environment
        Of this process.

    Returns
    -------
    list of Point
        Each `OK`, `WEAK` or `UNKNOWN`.
    """
    pid = processes.running(files.record(SUPERVISOR))
    return [
        _account(pid),
        *_files(files),
        _passphrase(files, environment),
        _signed(files),
        _core(root, pid),
        _swap(root),
        _disk(files, root),
        _memory(root),
        _unit(root),
        *_limits(files),
    ]


def _point(what: str, good: bool, found: str, cure: str = "") -> Point:
    return Point(what, OK, found) if good else Point(what, WEAK, found, cure)


def _account(pid: int | None) -> Point:
    who, runs = os.geteuid(), "this command runs"
    if pid is not None:
        try:
            who, runs = Path("/proc", str(pid)).stat().st_uid, "the site runs"
        except OSError:
            return Point("account", UNKNOWN, "nothing tells whose process the site is")
    cure = "an account of its own, as the unit of 'medveil-site kit' has it"
    return _point("account", who != 0, f"{runs} as {'root' if who == 0 else f'user {who}'}", cure)


# -- files -------------------------------------------------------------------------------------------------------------


def _files(files: OwnFiles) -> Iterator[Point]:
    named = [(name, getattr(files.config, name)) for name in _SECRETS]
    for name, path in named:
        if path:
            yield _mode(name.replace("_", " "), files.path(path), 0o077, "read", "600")
    yield _mode("site file", files.file, 0o022, "change", "go-w")
    yield _mode("its folder", files.file.parent, 0o022, "change what is in", "go-w")
    yield _mode("authority", files.path(files.config.ca), 0o022, "change", "go-w")
    yield _mode("state folder", files.state, 0o077, "read", "700")
    yield _mode("images", files.path(str(files.config.data.path)), 0o007, "read", "o-rwx")


def _mode(what: str, path: Path, barred: int, may: str, right: str) -> Point:
    """Whether others may do with a file or folder what they must not; a link is followed."""
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except FileNotFoundError:
        return Point(what, UNKNOWN, f"{path} is not there")
    except OSError as error:
        return Point(what, UNKNOWN, f"{path}: {error.strerror}")
    found = f"others may {may} {path}" if mode & barred else f"{path} has mode {mode:o}"
    return _point(what, not mode & barred, found, f"chmod {right} {path}")


def _passphrase(files: OwnFiles, environment: Mapping[str, str]) -> Point:
    what, cure = "passphrase", "a systemd credential (the unit of 'medveil-site kit'), or type it at 'start'"
    config = files.config
    written = [files.path(path) for name in _PASSPHRASES if (path := getattr(config, name))]
    on_disk = [path for path in written if not path.is_relative_to("/run")]
    if on_disk:
        return Point(what, WEAK, f"lies unsealed in {on_disk[0]}: who takes the disk has it and the key", cure)
    if written or environment.get(CREDENTIALS):
        return Point(what, OK, "comes from memory: a credential, or a file below /run")
    if environment.get(VARIABLE):
        return Point(what, WEAK, f"{VARIABLE} is set: whoever is this account can read it", cure)
    return Point(what, OK, "in no file and no variable: the terminal asks, or a credential at the service")


def _signed(files: OwnFiles) -> Point:
    # TLS has no setting that turns it off: what the authority's certificate did not sign is no server.
    cure = "ask the coordinator for a new invitation, and 'medveil-site rejoin' with it"
    found = f"TLS to {files.config.server} by the consortium's own authority alone"
    if files.config.server_key:
        return Point("server", OK, f"{found}, and every message signed")
    return Point("server", WEAK, f"{found}, but no key that signs its messages is known", cure)


# -- the machine -------------------------------------------------------------------------------------------------------


def _text(path: Path) -> str | None:
    try:
        with path.open("rb") as stream:
            return stream.read(_MOST_BYTES).decode("utf-8", "replace")
    except OSError:
        return None


def _core(root: Path, pid: int | None) -> Point:
    what = "core dumps"
    text = _text(root / "proc" / ("self" if pid is None else str(pid)) / "limits")
    found = re.search(r"^Max core file size +(\S+)", text or "", re.MULTILINE)
    if found is None:
        return Point(what, UNKNOWN, "this machine does not tell its limits")
    whose = "of this command" if pid is None else "of the site"
    cure = "LimitCORE=0 in the unit, or 'ulimit -c 0' before 'start': keys and images are in a dump"
    return _point(what, found[1] == "0", "off" if found[1] == "0" else f"on ({found[1]} bytes, {whose})", cure)


def _swap(root: Path) -> Point:
    text = _text(root / "proc/swaps")
    if text is None:
        return Point("swap", UNKNOWN, "this machine does not tell its swap")
    spaces = [line.split()[0] for line in text.splitlines()[1:] if line.strip()]
    plain = [each for each in spaces if not _is_sealed_swap(root, each)]
    found = f"unencrypted: {', '.join(plain)}" if plain else "encrypted or compressed in memory" if spaces else "none"
    return _point("swap", not plain, found, "none, or swap under dm-crypt: images and keys of a process may be in it")


def _is_sealed_swap(root: Path, space: str) -> bool:
    device = Path(space).name
    return device.startswith("zram") or _is_crypt(root / "sys/class/block" / device)


def _disk(files: OwnFiles, root: Path) -> Point:
    what, place = "disk", files.state if files.state.exists() else files.file.parent
    device = place.stat().st_dev
    block = root / "sys/dev/block" / f"{os.major(device)}:{os.minor(device)}"
    if not block.exists():
        return Point(what, UNKNOWN, f"{place} is on no disk that this machine names", "encrypt the one it is on")
    cure = "LUKS, or what your storage has: node key and logs lie unsealed"
    sealed = _is_crypt(block)
    return _point(what, sealed, f"{place} is {'' if sealed else 'not '}on a volume that dm-crypt encrypts", cure)


def _is_crypt(block: Path) -> bool:
    """Whether a block device, or what lies beneath it, is encrypted by dm-crypt."""
    if (_text(block / "dm/uuid") or "").startswith(_CRYPT):
        return True
    try:
        below = list((block / "slaves").iterdir())
    except OSError:
        return False
    return bool(below) and all(_is_crypt(each) for each in below)


def _memory(root: Path) -> Point:
    what, text = "memory", _text(root / "proc/sys/kernel/yama/ptrace_scope")
    if text is None:
        return Point(what, UNKNOWN, "the kernel does not say who may look into a process")
    cure = "sysctl kernel.yama.ptrace_scope=1, or higher"
    found = (
        "only a parent may look into a process"
        if text.strip() != "0"
        else "any process of its account may look into it"
    )
    return _point(what, text.strip() != "0", found, cure)


def _unit(root: Path) -> Point:
    what = "systemd unit"
    path = next((root / folder / _UNIT for folder in _UNITS if (root / folder / _UNIT).is_file()), None)
    if path is None:
        return Point(what, UNKNOWN, f"no {_UNIT} here", "'medveil-site kit' writes one that is hardened")
    own = _directives(_text(path) or "")
    (kit,) = (each for each in kit_files(SITE) if each.name == _UNIT)
    wanted = _directives(read_bytes(kit).decode())
    lacking = [
        f"{name}={value}" for name, value in wanted.items() if not _ELSEWHERE.fullmatch(name) and own.get(name) != value
    ]
    found = f"{path} lacks {', '.join(lacking)}" if lacking else f"{path} is as hardened as that of the kit"
    return _point(what, not lacking, found, "take them over from 'medveil-site kit'; of drop-ins nothing is known here")


def _directives(text: str) -> dict[str, str]:
    """The directives of a unit's ``[Service]``; of one that comes twice the last."""
    found, inside = {}, False
    for line in map(str.strip, text.splitlines()):
        if line.startswith("["):
            inside = line == "[Service]"
        elif inside and "=" in line and not line.startswith(("#", ";")):
            name, _, value = line.partition("=")
            found[name.strip()] = value.strip()
    return found


# -- what the site agrees to -------------------------------------------------------------------------------------------


def _limits(files: OwnFiles) -> Iterator[Point]:
    limits = files.config.limits
    approved = ApprovedRoster(files.roster).roster()
    smallest, least = limits.smallest_count, limits.least_sites
    yield _limit("masks", limits.secagg, "no run without secagg.on", "a server may read its updates", "secagg: true")
    cure = "medveil-site approve-roster HEX --roster FILE"
    yield _point("roster", approved is not None, "who takes part is approved" if approved else NO_ROSTER, cure)
    asked = ("a person here approves its settings", "begins without a person here")
    yield _limit("each run", limits.approve_runs, *asked, "approve_runs: true")
    required = is_required(limits)
    yield _limit("disclosure", required, "required", "not required", "disclosure: required")
    named = f"{len(limits.weights)} files are named" if limits.weights else "fresh alone"
    yield _limit("weights", ANY not in limits.weights, named, "any file, whoever made it", "weights: [SHA-256, ...]")
    bounded = limits.epsilon is not None
    yield _limit("privacy", bounded, f"epsilon {limits.epsilon}", "no bound over all runs", "epsilon: NUMBER")
    told, right = f"told from {smallest} images of a class on", f"smallest_count: {SMALLEST_COUNT}"
    yield _limit("small counts", smallest >= SMALLEST_COUNT, told, told, right)
    yield _limit("stem", not limits.send_stem, "stays", "may travel", "send_stem: false")
    alone = limits.own_measures
    yield _limit("own measures", not alone, "leave summed", "leave one by one", "own_measures: false")
    alone = limits.own_statistics
    yield _limit("own histograms", not alone, "leave summed", "leave one by one", "own_statistics: false")
    few = f"{least}: a sum of two hides neither from the other"
    yield _limit("fewest sites", least >= FEWEST, str(least), few, f"least_sites: {FEWEST}")
    named = ", ".join(files.config.plugins)
    cure = "none, unless you would give their authors the key"
    yield _point("plugins", not named, f"code of {named} has images and key in reach" if named else "none", cure)


def _limit(what: str, good: bool, right: str, wrong: str, cure: str) -> Point:
    return _point(what, good, right if good else wrong, f"'limits: {{{cure}}}' in the site's file")
