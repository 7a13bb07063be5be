"""The part of Flower in which a site's reply becomes a message again, at the server: beside `medveil.flower`.

Flower 1.41 pulls the replies of all sites in one call and puts each together from objects its site stored. An object
that cannot be put together raises out of that call: the run would end, nobody would be named, and the replies pulled
with it would be lost. What a reply says of its own sender and of what it answers stands in those objects too, and
Flower believes it.
"""

from __future__ import annotations

import importlib
from typing import Any, cast

from flwr.app import Error, Message, Metadata, RecordDict
from flwr.common.constant import ErrorCode

from medveil.log import logger

_MARK = "_medveil"
_LONGEST_NAME, _MOST_NAMES = 256, 20_000
"""Of records and of what is in them; the largest model has some hundreds of tensors."""
_log = logger("server")


def take_replies_one_by_one() -> None:
    """Let a reply that cannot be put together be an error of its site's, in this process."""
    grid = cast("Any", importlib.import_module("flwr.superlink.grid.http_grid"))
    if hasattr(grid.inflate_object_from_contents, _MARK):
        return
    pull, inflate = grid.RuntimeHttpClient.PullMessages, grid.inflate_object_from_contents
    known: dict[str, Any] = {}

    def pulled(client: Any, request: Any) -> Any:
        """Remember what the SuperLink says of each reply: it knows whose it is."""
        answer = pull(client, request)
        known.update({each.metadata.message_id: each.metadata for each in answer.messages_list})
        return answer

    def inflated(object_id: str, contents: dict[str, bytes], **settings: Any) -> Any:
        about = known.pop(object_id, None)
        if about is None:
            # No reply, but another object of Flower's own.
            return inflate(object_id, contents, **settings)
        try:
            made = inflate(object_id, contents, **settings)
            fault = _fault(made, about)
        except Exception as error:
            # Any kind: it is Flower's reading of bytes that a stranger chose.
            _log.debug("a reply that cannot be put together", exc_info=True)
            fault = f"cannot be put together ({type(error).__name__})"
        return made if fault is None else _refused(about, fault)

    setattr(inflated, _MARK, True)
    grid.RuntimeHttpClient.PullMessages, grid.inflate_object_from_contents = pulled, inflated


def _fault(made: object, about: Any) -> str | None:
    if not isinstance(made, Message):
        return "is no message"
    said, known = made.metadata, (about.src_node_id, about.reply_to_message_id)
    if (said.src_node_id, said.reply_to_message_id) != known:
        return "names another sender, or another message that it answers, than it was sent with"
    return _strange_names(made.content) if made.has_content() else None


def _strange_names(content: RecordDict) -> str | None:
    """Say what is wrong with the names in a reply, which go into logs as they are; None where nothing is."""
    count = len(content) + sum(len(record) for record in content.values())
    if count > _MOST_NAMES:
        return f"carries {count} names"
    names = [*content, *(name for record in content.values() for name in record)]
    # A name need not even be text that can be written: half of a surrogate pair is not printable either.
    if any(len(name) > _LONGEST_NAME or not name.isprintable() for name in names):
        return "carries a name that is too long or cannot be printed"
    return None


def _refused(about: Any, fault: str) -> Message:
    metadata = Metadata(
        run_id=about.run_id,
        message_id="",
        src_node_id=about.src_node_id,
        dst_node_id=about.dst_node_id,
        message_type=about.message_type,
        group_id="",
        ttl=0,
        reply_to_message_id=about.reply_to_message_id,
        created_at=about.created_at,
    )
    problem = f"FederationError: the reply {fault}"
    made: Message = cast("Any", Message)(metadata=metadata, error=Error(ErrorCode.MESSAGE_UNAVAILABLE, problem))
    return made
