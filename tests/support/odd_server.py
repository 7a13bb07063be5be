"""A server's app that pushes more than it signed, as anybody could who can store a message in a SuperLink.

Its text is put as ``sitecustomize.py`` into a folder that the server's processes import from. After the messages of
round 2 went out, the site whose node comes first is sent three more: an `evaluate` that nobody signed, the very train
message once more, and that message with other tensors.
"""

SITECUSTOMIZE = """
import sys

if any("flwr-serverapp" in word for word in sys.orig_argv):
    import numpy as np
    from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict
    from flwr.superlink.grid import HttpGrid

    from medveil.folded import unfold

    push = HttpGrid.push_messages

    def forged(message):
        sent = message.content
        zeros = ArrayRecord({name: Array(np.zeros_like(each.numpy())) for name, each in sent["arrays"].items()})
        bare = RecordDict({"arrays": zeros, "config": ConfigRecord({"server-round": 2})})
        changed = RecordDict({**dict(sent), "arrays": zeros})
        node = message.metadata.dst_node_id
        yield Message(bare, dst_node_id=node, message_type="evaluate")
        yield Message(RecordDict(dict(sent)), dst_node_id=node, message_type="train")
        yield Message(changed, dst_node_id=node, message_type="train")

    def round_of(message):
        metadata = message.metadata
        read = Message(
            RecordDict(dict(message.content)), dst_node_id=metadata.dst_node_id, message_type=metadata.message_type
        )
        unfold(read)
        return read.content.config_records.get("config", {}).get("server-round")

    def push_more(self, messages):
        outgoing = list(messages)
        ids = list(push(self, outgoing))
        for message in sorted(outgoing, key=lambda each: each.metadata.dst_node_id)[:1]:
            if message.metadata.message_type == "train" and round_of(message) == 2:
                assert all(push(self, list(forged(message))))
        return ids

    HttpGrid.push_messages = push_more
"""
