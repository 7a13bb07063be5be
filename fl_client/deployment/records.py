"""What a site writes down of its work, in its own audit log: before it works, and before a reply leaves."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any, TypeGuard

from flwr.app import Context, Message, RecordDict

from fl_client.deployment.limits_config import LimitsConfig
from fl_client.deployment.own_files import OwnFiles
from medveil.audit import ANSWERED, ASKED, REFUSED, Head
from medveil.audit_messages import (
    Carried,
    Trail,
    digest_of_config,
    head_in,
    packed_layout,
    put_head,
    subject,
)
from medveil.bounded import parse_json
from medveil.contract import PACKED, RUN_KEY
from medveil.errors import FormatError
from medveil.kinds import TRAIN
from medveil.secagg import records

if TYPE_CHECKING:
    # With them come torch and the models, which enrolling and looking do without.
    from fl_client.site import Site, SiteInRun

_RUN = re.compile(r"[A-Za-z0-9_-]{1,64}")
_SALT, _SALT_BYTES = "salt", 16
_LIMITS = {f"limits.{each.name}" for each in fields(LimitsConfig)}


class SiteRecords:
    """A site's audit log, in the words of its work. Every method raises StorageError where the log cannot be written.

    Parameters
    ----------
    files
        The site.
    """

    def __init__(self, files: OwnFiles) -> None:
        self._trail = Trail(files.audit)

    def started(self, *, app: str, keys: Mapping[str, str]) -> None:
        """The worker opened its keys.

        Parameters
        ----------
        app
            Hash of the installed app.
        keys
            Fingerprint of each key, by what it is for.
        """
        self._trail.append([("started", {"app": app, "keys": dict(keys)})])

    def asked(self, message: Message, context: Context, tensors: Carried | None) -> None:
        """A message of the server's came, and with it the head of the server's log.

        Parameters
        ----------
        tensors
            What `medveil.audit_messages.carried` says of it.
        """
        details = {**_about(message, context), **({} if tensors is None else tensors.details())}
        details |= {"config": digest_of_config(context.run_config), "head": head_in(message.content)}
        self._append(ASKED, details, tensors)

    def answered(
        self, message: Message, context: Context, site: SiteInRun, content: RecordDict, tensors: Carried | None
    ) -> Head:
        """A reply is about to leave; it is given the head of the log, with this record in it, which is returned."""
        details = _about(message, context)
        layouts = []
        details |= {} if tensors is None else tensors.details()
        if tensors is not None and _has_images(site):
            shapes = {name: tuple(site.bench.public[name].shape) for name in site.travelling}
            inside = packed_layout(tensors, shapes)
            if inside is not None:
                details[PACKED] = inside.digest
                layouts.append(inside)
        details |= _agreed(message, content)
        if _has_images(site):
            details |= self._of_images(message, site)
        head = self._append(ANSWERED, details, tensors, *layouts)
        put_head(content, head)
        return head

    @staticmethod
    def _of_images(message: Message, site: Site) -> dict[str, Any]:
        """What the model of a run was made to see here, and what that cost."""
        details: dict[str, Any] = {}
        if site.budget is not None and message.metadata.message_type == TRAIN:
            # The ledger's, charged before the round was trained: of this run, at the delta it promises.
            details |= {"epsilon": site.budget.spent, "delta": site.budget.privacy.delta}
        details["fingerprint"] = site.cipher.fingerprint
        details["basis"] = site.images.basis.keyed(site.setup.key.subkey("state"))
        return details

    def refused(
        self,
        message: Message,
        context: Context,
        *,
        kind: str,
        about: str | None,
        reason: str | None = None,
        changed: Sequence[str] = (),
    ) -> Head:
        """A message is about to be refused.

        Parameters
        ----------
        kind
            Class of the error.
        about
            The limit it concerns; anything else is not written down.
        reason
            What is wrong with its signature, where that is why.
        changed
            Which parts of what the run stands on are others than it began with (`medveil.basis`), where that is why.
        """
        limit = about if about in _LIMITS else None
        why: dict[str, Any] = {} if reason is None else {"reason": reason}
        why |= {"changed": list(changed)} if changed else {}
        return self._append(REFUSED, {**_about(message, context), "error": kind, "limit": limit, **why})

    def unapproved(self, message: Message, context: Context, app: str) -> None:
        """A message of an app that the site did not approve is about to be refused."""
        self._append("unapproved-app", {**_about(message, context), "app": app})

    def _append(self, event: str, details: Mapping[str, Any], tensors: Carried | None = None, *more: Any) -> Head:
        layouts = [*([] if tensors is None else [tensors.layout]), *more]
        # Its head leaves: whoever guesses what a record says would know by the digest that the guess is right.
        salted = {**details, _SALT: secrets.token_hex(_SALT_BYTES)}
        return self._trail.append([(event, salted)], run=str(details["run"]), layouts=layouts)


def _about(message: Message, context: Context) -> dict[str, Any]:
    return {"run": run_in(context), "flower_run": str(context.run_id), **subject(message)}


def _agreed(message: Message, content: RecordDict) -> dict[str, Any]:
    """Of a set of sites whose sum is opened: who they are, and this site's signature under it."""
    signed, left = content.config_records.get(records.AGREED), message.content.config_records.get(records.LEFT)
    if signed is None or left is None:
        return {}
    survivors, _ = records.left_in(dict(left))
    return {"left": sorted(survivors), "signature": records.agreed_in(dict(signed)).hex()}


def _has_images(site: SiteInRun) -> TypeGuard[Site]:
    from fl_client.site import Site  # noqa: PLC0415

    return isinstance(site, Site)


def run_in(context: Context) -> str | None:
    """The identity a server gave its run; it was not judged yet."""
    try:
        document = parse_json(str(context.run_config.get(RUN_KEY)), where=RUN_KEY)
    except FormatError:
        return None
    run = document.get("run") if isinstance(document, dict) else None
    return run if isinstance(run, str) and _RUN.fullmatch(run) else None
