"""A site that is not as it should be: the real supervisor, node and worker, and a worker that answers otherwise.

A script of the tests, started in place of the site's supervisor (`faults.start_odd`). What is odd stands in a JSON
file that is read anew for every message: ``{"say": {FIELD: VALUE}, "updates": {ROUND: KIND}, "metrics": {ROUND:
{NAME: VALUE}}, "bytes": {ROUND: CASE}, "hold": [[TYPE, ROUND]]}``; a case is one of `malformed`, and what is held is
the answer to such a message, for as long as that is said: ``held-TYPE-ROUND`` lies then beside it, and
``let-go-TYPE-ROUND`` once it went. Every honest update is kept there, as the site made it, so that a test can compute
what the server should have made of them.
``"clock"`` moves the clock of the node by that many seconds. ``"stolen"`` makes it somebody who has the site's node
key and not its identity: what it is asked it answers, and signs with a key of its own.
"""

from __future__ import annotations

import datetime
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from malformed import malformed

if TYPE_CHECKING:
    from flwr.app import Context, Message, RecordDict

    from fl_client.host import Host
    from fl_client.site import Site


def odd(file: Path) -> dict[str, Any]:
    return dict(json.loads(file.read_text()))


def be_worker(file: Path, arguments: list[str]) -> int:
    """The real worker, whose site says and sends what the file says."""
    from flwr.app import Array, ArrayRecord  # noqa: PLC0415

    from fl_client import app, work, worker  # noqa: PLC0415
    from medveil.audit_messages import subject  # noqa: PLC0415

    train, describe, pack, record_of, answer = work.train, work.describe, app.pack, app.record_of, app._answer
    kind = case = ""

    def odd_describe(site: Site) -> dict[str, Any]:
        return {**describe(site), **odd(file).get("say", {})}

    def odd_train(site: Site, round_: int, incoming: Any, **settings: Any) -> Any:
        nonlocal kind, case
        tensors, metrics = train(site, round_, incoming, **settings)
        kind, case = (odd(file).get(what, {}).get(str(round_), "") for what in ("updates", "bytes"))
        kept = {name: np.asarray(array) for name, array in tensors.items()}
        np.savez(file.with_name(f"{site.run.run}-{round_}.npz"), _n=metrics["num-examples"], **kept)
        if kind == "nan":
            tensors = {name: np.full_like(array, np.nan) for name, array in tensors.items()}
        elif kind == "norm":
            tensors = {name: incoming[name] + 1000 * (array - incoming[name]) for name, array in tensors.items()}
        elif kind == "replace":
            rng = np.random.default_rng(0)
            tensors = {name: rng.normal(0, 0.3, array.shape).astype(np.float32) for name, array in tensors.items()}
        return tensors, {**metrics, **odd(file).get("metrics", {}).get(str(round_), {})}

    def odd_answer(host: Host, message: Message, context: Context, reply: Callable[[Site], RecordDict]) -> Message:
        made = answer(host, message, context, reply)
        about = list(subject(message).values())
        if about in odd(file).get("hold", []):
            file.with_name("held-{}-{}".format(*about)).touch()
            while about in odd(file).get("hold", []):
                time.sleep(0.1)
            file.with_name("let-go-{}-{}".format(*about)).touch()
        return made

    def odd_pack(arrays: Any) -> Any:
        flat = pack(arrays)
        return {"shape": flat[:-1], "dtype": flat.astype("float64")}.get(kind, flat)

    def odd_record(arrays: Any) -> ArrayRecord:
        if not case:
            return record_of(arrays)
        bytes_of = {name: malformed(array.size)[case] for name, array in arrays.items()}
        return ArrayRecord(
            {
                name: Array(dtype=str(array.dtype), shape=array.shape, stype="numpy.ndarray", data=bytes_of[name])
                for name, array in arrays.items()
            }
        )

    if odd(file).get("stolen"):
        be_thief()
    work.train, work.describe, app.pack = odd_train, odd_describe, odd_pack  # type: ignore[assignment]
    app._answer = odd_answer
    app.record_of = odd_record
    return worker.main(arguments)


def be_thief() -> None:
    """Judge no order, and sign with another key than the site's identity."""
    from fl_client.deployment.signatures import SiteSignatures  # noqa: PLC0415
    from medveil.signing import SigningKey  # noqa: PLC0415

    sign, own = SiteSignatures.sign, SigningKey.generate()

    def sign_as_thief(self: SiteSignatures, *given: Any) -> None:
        self._identity = own
        sign(self, *given)

    SiteSignatures.check = lambda *_: None  # type: ignore[method-assign]
    SiteSignatures.sign = sign_as_thief  # type: ignore[method-assign]


def be_node(file: Path, arguments: list[str]) -> int:
    """The real node, whose clock is off: the moment it signs its messages with is another."""
    from flwr.supernode import node_auth_http_interceptor as signing  # noqa: PLC0415

    from fl_client.deployment import supernode  # noqa: PLC0415

    right, off = signing.now, datetime.timedelta(seconds=odd(file)["clock"])
    signing.now = lambda: right() + off
    return supernode.main(arguments)


def be_supervisor(file: Path, arguments: list[str]) -> int:
    """The real supervisor, with the odd processes for its own."""
    from fl_client.deployment import supervisor  # noqa: PLC0415

    def instead(role: str, command: list[str]) -> list[str]:
        # command: python -m MODULE ...
        return [command[0], __file__, role, str(file), *command[3:]]

    command, worker_command = supervisor.command, supervisor.worker_command
    supervisor.worker_command = lambda files, *, port: instead("worker", worker_command(files, port=port))
    if odd(file).get("clock"):
        supervisor.command = lambda files, *, port, stock: instead("node", command(files, port=port, stock=stock))
    return supervisor.main(arguments)


if __name__ == "__main__":
    roles = {"supervisor": be_supervisor, "worker": be_worker, "node": be_node}
    sys.exit(roles[sys.argv[1]](Path(sys.argv[2]), sys.argv[3:]))
