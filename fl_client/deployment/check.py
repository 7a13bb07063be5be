"""Whether a site is ready, point by point, each with its cure. Nothing is changed; nothing is sent but a greeting."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from fl_client.data.config import PACS
from fl_client.data.items import OneClassError
from fl_client.deployment import running
from fl_client.deployment.added import added
from fl_client.deployment.approvals import Approvals
from fl_client.deployment.door import greeting_of, refuse_full_disk, refuse_no_images
from fl_client.deployment.enroll import server_fingerprint
from fl_client.deployment.greeting import Greeting, clock_in_words, refuse_clock
from fl_client.deployment.own_files import OwnFiles
from fl_client.deployment.own_keys import open_keys
from fl_client.deployment.own_weights import looked_at
from fl_client.deployment.promises import check_private
from fl_client.deployment.roster import NO_ROSTER, ApprovedRoster, own_identity
from fl_client.deployment.signatures import open_identity, refuse_unsigned
from fl_client.deployment.supervisor import SUPERVISOR
from fl_client.disclosure.required import in_words, is_required
from medveil import node_keys, processes
from medveil.certificates import WARN_DAYS, days_left, expiry_warning, load_certificate
from medveil.errors import ConfigError, DataError, FederationError, MedVeilError, StorageError
from medveil.flower import TESTED
from medveil.installed import installed_hash
from medveil.versions import environment
from medveil.written import setting
from models.policy import POLICIES

if TYPE_CHECKING:
    from fl_client.data.source import Source

OK, WARNING, FAILED = "ok", "warning", "FAILED"
_ODD_S = 2.0
_TRIED = 3
_SIDE = 224
_SPARE = 10**9
_ANOTHER = "another class"
_APPROVE = "of three sites or more: medveil-site approve-roster HEX --roster FILE, as the coordinator reads it out"


@dataclass(frozen=True)
class Point:
    """One line of the table."""

    what: str
    state: str
    found: str
    cure: str = ""
    exit_code: int = 0


def check(files: OwnFiles, read: Callable[[Path | None], str]) -> list[Point]:
    """Look at everything a run needs.

    Parameters
    ----------
    files
        The site.
    read
        Gives passphrases, as `crypto.passphrase.read_passphrase`.
    """
    points: list[tuple[str, Callable[[], Point]]] = [
        ("data", lambda: _data(files, read)),
        ("key", lambda: _key(files, read)),
        ("model", lambda: _model(files)),
        ("node key", lambda: _node_key(files)),
        ("identity", lambda: _identity(files, read)),
        ("server key", lambda: _server_key(files)),
        ("authority", lambda: _authority(files)),
        ("disk", lambda: _disk(files, read)),
        ("state folder", lambda: _state(files)),
        ("versions", _versions),
        *([("plugins", lambda: Point("plugins", WARNING, *added(files.config)))] if files.config.plugins else []),
        ("policies", lambda: _policies(files)),
        ("weights", lambda: _weights(files)),
        ("approvals", lambda: _approvals(files)),
        ("roster", lambda: _roster(files)),
        ("masks", lambda: _masks(files)),
        ("privacy", lambda: _privacy(files)),
        ("disclosure", lambda: _disclosure(files)),
    ]
    looked = [_looked_at(what, look) for what, look in points]
    before = next(i for i, point in enumerate(looked) if point.what == "disk")
    return [*looked[:before], *of_door(files), *looked[before:]]


def of_door(files: OwnFiles) -> list[Point]:
    """What lies between this site and its server."""
    greeted: Greeting | MedVeilError
    try:
        greeted = greeting_of(files)
    except MedVeilError as error:
        greeted = error
    return [
        _looked_at("TLS", lambda: _tls(files, greeted)),
        _looked_at("clock", lambda: _clock(greeted, files.config.server)),
        _looked_at("session", lambda: _session(files)),
    ]


def _looked_at(what: str, look: Callable[[], Point]) -> Point:
    try:
        return look()
    except MedVeilError as error:
        found = error.problem if error.where is None else f"{error.where}: {error.problem}"
        return Point(what, FAILED, found, error.cure or "see the line itself", error.exit_code)


def _data(files: OwnFiles, read: Callable[[Path | None], str]) -> Point:
    from fl_client.data.partition import site_parts  # noqa: PLC0415
    from fl_client.deployment.limits import check_images  # noqa: PLC0415

    refuse_no_images(files)
    source, alone = _opened(files, read)
    unread = 0
    for index in range(min(_TRIED, len(source))):
        try:
            source.read(index)
        except DataError:
            unread += 1
    # The coordinator writes it into the run's file: nobody but the sites sees how their classes are called.
    classes = list(source.classes) if alone is None else [alone]
    found = f"{len(source)} images, for the run's file: {setting('data.classes', classes, most=len(classes))}"
    # As a run's own seed will deal them, but for which images: how many there are is the same.
    parts = site_parts(source, files.data, sites=1, index=0, seed=0)
    if len(parts.train) < files.config.limits.least_images:
        found += f"; {len(parts.train)} of them to train on"
    try:
        check_images(len(parts.train), files.config.limits)
    except ConfigError as error:
        cure = "more images, a smaller data.test or data.validation, or a lower 'limits.least_images'"
        return Point("data", FAILED, f"{found}: {error.problem}", cure, DataError.exit_code)
    if not len(parts.test):
        found += "; no test image: nothing is measured here"
    if unread or source.skipped:
        found += f"; {len(source.skipped)} files left out, {unread} of the first {_TRIED} images unreadable"
        return Point(
            "data",
            WARNING,
            found,
            "when a store is built, the site's log says why, and 'medveil-site unseal site' names every file left out",
        )
    if alone is not None:
        cure = "the run's file must name the other classes too, as other sites call them"
        return Point("data", WARNING, f"{found}; all of one class", cure)
    if source.remarks:
        return Point("data", WARNING, f"{found}; {'; '.join(source.remarks)}", "see that it is meant so")
    return Point("data", OK, found)


def _opened(files: OwnFiles, read: Callable[[Path | None], str]) -> tuple[Source, str | None]:
    """The site's images as a run opens them, which names all classes; and the class, where they are of one alone."""
    from fl_client.data.documents import Documents  # noqa: PLC0415
    from fl_client.data.source import open_source  # noqa: PLC0415

    kept: list[Documents] = []
    if files.data.source == PACS:
        # What was pulled is sealed; nothing else here needs a key.
        ring = open_keys(files, read, serving=False).own
        kept = [Documents.of(files.own, ring.current, ring.retired)]
    try:
        return open_source(files.data, kept_in=kept), None
    except OneClassError as error:
        return open_source(replace(files.data, classes=[error.found, _ANOTHER]), kept_in=kept), error.found


def _key(files: OwnFiles, read: Callable[[Path | None], str]) -> Point:
    keys = open_keys(files, read, serving=False)
    shared = "" if keys.shared is None else f"; shared {keys.shared.current.fingerprint}"
    return Point("key", OK, f"opens: {keys.own.current.fingerprint}{shared}")


def _model(files: OwnFiles) -> Point:
    from fl_client.workbench import pick_device  # noqa: PLC0415
    from models.config import ModelConfig  # noqa: PLC0415
    from models.vit import build_vit, model_hash  # noqa: PLC0415

    device = pick_device(files.config.device)
    sizes = ModelConfig(image_size=32, patch=8, channels=1, classes=2, width=32, depth=1, heads=2)
    built = build_vit(sizes, seed=0)
    return Point("model", OK, f"a small one builds ({model_hash(built)[:12]}); trains on {device}")


def _node_key(files: OwnFiles) -> Point:
    config = files.config
    path = files.path(config.node_key)
    half = node_keys.public_half(node_keys.load_private(path), config.name)
    public = path.with_suffix(".pub")
    if public.exists() and node_keys.load_public(public).encoded != half.encoded:
        raise ConfigError(f"{public.name} is another key's half", where=path, cure="send the half that belongs to it")
    return Point("node key", OK, f"P-384, {half.fingerprint}")


def _identity(files: OwnFiles, read: Callable[[Path | None], str]) -> Point:
    refuse_unsigned(files)
    identity, config = open_identity(files, read), files.config
    # What is wrong with the node key is its own point's.
    public = files.path(config.node_key).with_suffix(".pub")
    if not public.exists():
        return Point("identity", OK, f"opens: {identity.fingerprint}")
    halves = node_keys.load_public(public)
    if halves.identity != identity.public:
        cure = "'medveil-site rejoin' writes the right one; the coordinator admits it"
        raise ConfigError(f"{public.name} names another identity", where=files.path(config.identity), cure=cure)
    return Point("identity", OK, f"opens; node key and identity together are {halves.fingerprint}")


def _server_key(files: OwnFiles) -> Point:
    refuse_unsigned(files)
    return Point("server key", OK, f"what it signs counts; authority and key together are {server_fingerprint(files)}")


def _authority(files: OwnFiles) -> Point:
    certificate = load_certificate(files.path(files.config.ca))
    warned = expiry_warning(certificate, "the authority's certificate", cure="ask the coordinator for a new invitation")
    if warned is not None:
        text, _, cure = warned.partition(": ")
        gone = days_left(certificate) < 0
        return Point("authority", FAILED if gone else WARNING, text, cure, ConfigError.exit_code if gone else 0)
    return Point("authority", OK, f"good for {int(days_left(certificate))} days")


def _tls(files: OwnFiles, greeting: Greeting | MedVeilError) -> Point:
    if isinstance(greeting, MedVeilError):
        raise greeting
    if greeting.days is not None and greeting.days <= WARN_DAYS:
        found = f"the server's certificate expires in {int(greeting.days)} days"
        return Point("TLS", WARNING, found, "the coordinator runs 'medveil-server renew'")
    until = "" if greeting.expires is None else f", its certificate until {greeting.expires}"
    return Point("TLS", OK, f"{files.config.server} answers{until}")


def _clock(greeting: Greeting | MedVeilError, server: str) -> Point:
    if isinstance(greeting, MedVeilError) or greeting.ahead is None:
        return Point("clock", WARNING, "the server did not tell its time", "compare it by hand")
    refuse_clock(greeting, server=server)
    if abs(greeting.ahead) > _ODD_S:
        return Point("clock", WARNING, clock_in_words(greeting.ahead), "set it by NTP: timedatectl set-ntp true")
    return Point("clock", OK, "agrees with the server's")


def _session(files: OwnFiles) -> Point:
    """What `start` and `status` say of a site that runs."""
    if processes.running(files.record(SUPERVISOR)) is None:
        return Point("session", OK, "not started")
    if running.is_connected(files):
        return Point("session", OK, f"connected to {files.config.server}")
    found = f"not connected to {files.config.server}: {running.told_why(files)}"
    return Point("session", FAILED, found, "'medveil-site status' follows it", FederationError.exit_code)


def _disk(files: OwnFiles, read: Callable[[Path | None], str]) -> Point:
    try:
        source, _ = _opened(files, read)
        needed = len(source) * source.channels * max(source.size, _SIDE) ** 2 * max(1, files.config.data.views)
    except MedVeilError:
        needed = 0
    free = refuse_full_disk(files, needed=needed)
    found = f"{free.bytes / 1e9:.1f} GB free at {free.place}, a store of {_SIDE} pixels takes {needed / 1e9:.2f} GB"
    cure = "free some space, or name another 'state_dir'"
    enough = free.bytes > needed + _SPARE
    return Point("disk", OK if enough else WARNING, found, "" if enough else cure)


def _state(files: OwnFiles) -> Point:
    if not files.state.exists():
        return Point("state folder", OK, f"{files.state} will be made")
    mode = stat.S_IMODE(files.state.stat().st_mode)
    if not os.access(files.state, os.W_OK | os.X_OK):
        raise StorageError("cannot be written", where=files.state, cure="run this as the site's own account")
    if mode & 0o077:
        return Point("state folder", WARNING, f"others may read {files.state}", f"chmod 700 {files.state}")
    return Point("state folder", OK, str(files.state))


def _versions() -> Point:
    found = environment()
    text = ", ".join(f"{name} {found[name]}" for name in ("medveil", "flwr", "torch", "python"))
    if not found["flwr"].startswith(TESTED):
        tried = " or ".join(f"{begins}x" for begins in TESTED)
        cure = f"install Flower {tried}: pip install -c constraints.txt; 'start --stock' does without its inside"
        return Point("versions", FAILED, text, cure, ConfigError.exit_code)
    return Point("versions", OK, text)


def _policies(files: OwnFiles) -> Point:
    allowed = files.config.limits.policies
    said = policy_warnings(files)
    if said:
        return Point("policies", WARNING, "; ".join(said), "'limits.send_stem' false, unless you mean to")
    return Point("policies", OK, f"allowed: {'; '.join(allowed)}")


def policy_warnings(files: OwnFiles) -> list[str]:
    """What this site must know of the policies its own limits allow a server to choose."""
    limits = files.config.limits
    allowed = [each for each in POLICIES if {each.keys, str(each)} & set(limits.policies)]
    travels = [each for each in allowed if limits.send_stem or not each.stem_travels]
    return [f"{each}: {each.warning}" for each in travels if each.warning is not None]


def _weights(files: OwnFiles) -> Point:
    """Which pre-trained weights runs may begin from, and which files here they may not."""
    right, found, cure = looked_at(files.weights, files.config.limits)
    return Point("weights", OK if right else WARNING, found, cure)


def _approvals(files: OwnFiles) -> Point:
    approved, own = Approvals(files.approvals).all(), installed_hash()
    if own not in approved:
        cure = f"'start' refuses it; once the coordinator reads out the same hash: medveil-site approve {own}"
        found = f"{len(approved)} approved, none of them the MedVeil installed here ({own[:12]})"
        return Point("approvals", FAILED, found, cure, ConfigError.exit_code)
    used, most = len(approved[own].runs), files.config.limits.most_runs
    found = f"the MedVeil installed here is approved ({own[:12]}), and {used} of {most} runs used it"
    if used >= most:
        cure = f"a new run is refused; to grant as many anew: medveil-site approve {own}"
        return Point("approvals", WARNING, found, cure)
    return Point("approvals", OK, found)


def _roster(files: OwnFiles) -> Point:
    roster, least = ApprovedRoster(files.roster).roster(), files.config.limits.least_sites
    if roster is None:
        return Point("roster", OK, f"none is approved: {NO_ROSTER}", _APPROVE)
    name = files.config.name
    if roster.members.get(name) != own_identity(files):
        cure = "the coordinator makes a new roster, and every site approves it: medveil-site approve-roster HEX"
        return Point("roster", FAILED, f"{name} is not on it under its identity", cure, ConfigError.exit_code)
    found = f"{len(roster.members)} sites are approved ({roster.fingerprint[:12]}), {least} of them must sign for a run"
    return Point("roster", OK, found)


def _masks(files: OwnFiles) -> Point:
    """What a server reads of this site's updates, as far as roster and limits decide it."""
    limits, read = files.config.limits, "of one without it the server reads this site's own updates"
    if ApprovedRoster(files.roster).roster() is None:
        if limits.secagg:
            found = "'limits.secagg' refuses a run without secagg.on, and without a roster one with it is refused too"
            return Point("masks", FAILED, found, _APPROVE, ConfigError.exit_code)
        return Point("masks", OK, f"without a roster a run with secagg.on is refused; {read}")
    found = "in a run with secagg.on updates leave masked; "
    found += "one without it is refused ('limits.secagg')" if limits.secagg else read
    if limits.own_measures:
        found += "; its measures leave one by one ('limits.own_measures')"
    return Point("masks", OK, found)


def _disclosure(files: OwnFiles) -> Point:
    """Whether anything leaves without being disclosed."""
    limits = files.config.limits
    if not is_required(limits):
        return Point("disclosure", OK, "updates and models leave without one ('limits.disclosure' is optional)")
    return Point("disclosure", OK, f"required: {in_words(limits)}")


def _privacy(files: OwnFiles) -> Point:
    """What runs may cost this site's images, and have."""
    limits, spent = files.config.limits, running.spent_of(files)
    so_far = "no run had a number yet" if spent is None else running.said_of_privacy(spent)
    if limits.epsilon is None:
        return Point("privacy", OK, f"a run costs what it says, or has no number ('limits.epsilon' is null); {so_far}")
    check_private(limits)
    found = f"all runs together may cost epsilon {limits.epsilon:g} at delta {limits.delta:g}; {so_far}"
    if spent is not None and spent["epsilon"] >= limits.epsilon:
        return Point("privacy", WARNING, found, "no round fits into 'limits.epsilon' any more: other images, or more")
    return Point("privacy", OK, found)
