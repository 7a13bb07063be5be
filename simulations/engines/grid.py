"""A Flower `Grid` that calls the ClientApp in this process.

A message made outside Flower's own runtime needs a task identity, and gets its id and sender from the transport, which
here is us.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence

from flwr.app import Context, Error, Message, RecordDict, UserConfig
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid

from medveil.flower import ErrorCode, NodeInfo, Run, be_task, make_run, stamp

SERVER_NODE = 1


class InProcessGrid(Grid):
    """Sites as plain function calls, one after another, in the order they were sent to.

    A pushed message waits; a pull runs the next one waiting and returns its reply, so that the server sees replies
    one by one as it would from real sites.

    Parameters
    ----------
    app
        The ClientApp of every site.
    nodes
        One node configuration per site.
    names
        What the sites are called before they say it themselves.
    run_config
        Flower's run config.
    run_id
        Flower's number of the run.
    """

    def __init__(
        self,
        app: ClientApp,
        nodes: Sequence[Mapping[str, bool | float | int | str]],
        run_config: UserConfig,
        *,
        names: Sequence[str] = (),
        run_id: int = 1,
    ) -> None:
        be_task(run_id=run_id, node_id=SERVER_NODE)
        self._app = app
        self._run = make_run(run_id)
        self._contexts = {
            node_id: Context(
                run_id=run_id, node_id=node_id, node_config=dict(config), state=RecordDict(), run_config=run_config
            )
            for node_id, config in enumerate(nodes, SERVER_NODE + 1)
        }
        self._names = dict(zip(self._contexts, names, strict=False))
        self._waiting: deque[Message] = deque()

    def set_run(self, run: Run) -> None:
        """Take over Flower's description of the run."""
        self._run = run

    @property
    def run(self) -> Run:
        """Flower's description of the run."""
        return self._run

    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Message:
        """Make a message to a site."""
        return Message(content=content, message_type=message_type, dst_node_id=dst_node_id, group_id=group_id, ttl=ttl)

    def get_node_ids(self) -> Iterable[int]:
        """Ids of the sites."""
        return list(self._contexts)

    def get_nodes(self) -> Iterable[NodeInfo]:
        """Ids and names of the sites."""
        return [NodeInfo(node_id=node_id, name=self._names.get(node_id, "")) for node_id in self._contexts]

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Queue messages; returns their ids."""
        ids = []
        for message in messages:
            ids.append(stamp(message, sender=SERVER_NODE))
            self._waiting.append(message)
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Run the next queued message among `message_ids`; returns its reply, or nothing when none waits."""
        wanted = set(message_ids)
        for message in list(self._waiting):
            if message.metadata.message_id in wanted:
                self._waiting.remove(message)
                return [self._reply(message)]
        return []

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        """Send messages and wait for all replies; a call in this process cannot time out."""
        ids = list(self.push_messages(messages))
        replies: list[Message] = []
        while len(replies) < len(ids):
            replies.extend(self.pull_messages(ids))
        return replies

    def _reply(self, message: Message) -> Message:
        context = self._contexts[message.metadata.dst_node_id]
        try:
            return self._app(message, context)
        except Exception as error:
            reason = f"{type(error)}:<'{error}'>"
            return Message(Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, reason), reply_to=message)
