"""What a site's node may do at a SuperLink: rules before Flower's own handlers. Private interfaces of Flower.

Flower knows whose key signed a request, and that the node it speaks for has that key. It does not compare the sender
of a message with it, stores a message that answers nothing as an instruction of the server's, hands any object to
whoever names it, and deletes any that is named. `Fleet` stands in place of its handlers and remembers which messages
each node was handed: a node may answer those, each once, in its own name, and ask for nothing that is not theirs.

What was handed out is forgotten with the process: Flower ends a run whose SuperLink was started anew.

Flower's nodes take 403 for "this run is over" and drop what they were about to do. So whatever an honest node could
come to ask too late is answered 403, and so is what only a dishonest one asks: neither learns anything from it.
"""

from __future__ import annotations

import importlib
import re
from collections import OrderedDict
from collections.abc import Callable, Collection
from threading import Lock
from typing import Any, NoReturn

from medveil.door_replies import LARGEST_OBJECT, LARGEST_PUSH, MOST_OBJECTS, Delivery, malformed, object_ids
from medveil.door_sessions import Sessions
from medveil.doors import CALLER, Noted
from medveil.flower_absent import Absences
from medveil.flower_answers import handing, http_error, is_flowers_refusal, stored, stored_bytes, superlink_id
from medveil.kinds import MASK, TRAIN
from medveil.patience import Patience

_MOST_DELIVERIES = 32
_OBJECT_ID = re.compile(r"[0-9a-f]{64}")


class Fleet:
    """Flower's handlers of what sites ask, with rules of ours before them.

    Parameters
    ----------
    handlers
        Flower's module `fleet_handlers`.
    sessions
        Who is in session.
    note
        Hears who was refused and why.
    """

    def __init__(self, handlers: Any, sessions: Sessions, note: Noted) -> None:
        self._handlers, self._sessions, self._note = handlers, sessions, note
        self._lock, self.absences = Lock(), Absences()
        self._deliveries: dict[int, OrderedDict[str, Delivery]] = {}
        self._patience = Patience()

    # -- what the gate asks --------------------------------------------------------------------------------------------

    def largest(self, node: int, asked: str) -> int | None:
        """Bytes that a request of a node may have; None for a small one."""
        if asked == "push-messages":
            return LARGEST_PUSH
        if asked != "push-object":
            return None
        with self._lock:
            left = [each.left for each in self._of(node).values() if each.waiting]
        return min(LARGEST_OBJECT, max(left, default=0) + 2**12)

    def is_impatient(self, node: int, *, activates: bool) -> bool:
        """Whether a node was refused so often in the last minute that it has to wait.

        Who activates may be another with a copy of the key: that counts apart, and the node itself does not wait.
        """
        return self._patience.is_at_its_end((node, activates))

    def unready(self) -> set[str]:
        """The messages whose answers are not to be asked for yet.

        Of an answer that has not come whole a server's app would wait for the rest, past its deadline; and in the place
        of a node that is not heard Flower itself would answer.
        """
        with self._lock:
            return {
                name
                for node, known in self._deliveries.items()
                for name, each in known.items()
                if each.is_half or self.absences.is_awaited(node)
            }

    def has_answer(self, ids: Collection[str]) -> bool:
        """Whether the answer to one of these messages has come, whole."""
        wanted = set(ids)
        with self._lock:
            return any(
                bool(each.answer) and not each.is_half
                for known in self._deliveries.values()
                for name, each in known.items()
                if name in wanted
            )

    # -- in place of Flower's handlers ---------------------------------------------------------------------------------

    def activate_node(self, request: Any, state: Any) -> Any:
        """Let a node begin; a second one with its key is refused while the first is heard."""
        caller = CALLER.get()
        try:
            response = self._handlers.activate_node(request=request, state=state)
        except Exception:
            self._sessions.suspect(caller.node, caller.session)
            self._patience.refuse((caller.node, True))
            raise
        self._sessions.bind(caller.node, caller.session)
        self.absences.heard(caller.node)
        with self._lock:
            known = self._deliveries.get(caller.node, OrderedDict())
            lost = [known.pop(name) for name, each in list(known.items()) if each.is_half or not each.taken]
        self.absences.lose(each.message for each in lost)
        return response

    def deactivate_node(self, request: Any, state: Any) -> Any:
        """Let a node end."""
        response = self._handlers.deactivate_node(request=request, state=state)
        self._sessions.end(CALLER.get().node)
        self.absences.left(CALLER.get().node)
        return response

    def send_node_heartbeat(self, request: Any, state: Any) -> Any:
        """Hear that a node is alive."""
        response = self._handlers.send_node_heartbeat(request=request, state=state)
        self.absences.heard(CALLER.get().node)
        return response

    def pull_messages(self, request: Any, state: Any, store: Any) -> Any:
        """Hand a node its messages, and remember which; one that never came, for its line was cut, once more."""
        node = CALLER.get().node
        lost = self._found(lambda each: not each.heard_of and not each.answer)
        if lost is not None:
            return handing(lost)
        response = self._handlers.pull_messages(request=request, state=state, store=store)
        for message, tree in zip(response.messages_list, response.message_object_trees, strict=True):
            about = message.metadata
            made = Delivery(
                about.run_id, about.message_type, about.group_id, frozenset(object_ids(tree)), message, tree
            )
            with self._lock:
                known = self._deliveries.setdefault(node, OrderedDict())
                known[about.message_id] = made
                while len(known) > _MOST_DELIVERIES:
                    known.popitem(last=False)
        return response

    def push_messages(self, request: Any, state: Any) -> Any:
        """Take a node's answer to a message that it was handed, in its own name, once."""
        delivery = self._answered(request)
        ids = frozenset(object_ids(request.message_object_trees[0]))
        if len(ids) > MOST_OBJECTS + 2 * max(len(each.objects) for each in self._measures(delivery)):
            self._refuse("announced more objects than its answer may have")
        response = self._passed(lambda: self._handlers.push_messages(request=request, state=state))
        with self._lock:
            delivery.waiting = {response.session_id: set(response.objects_to_push)}
            delivery.taken = True
        return response

    def push_object(self, request: Any, state: Any) -> Any:
        """Take an object of an answer that was announced, while it is no larger than it may be."""
        size = len(request.object_content)
        with self._lock:
            delivery = self._open(request)
            again = delivery is not None and request.object_id in delivery.stored
            fits = delivery is not None and (again or size <= delivery.left)
            if delivery is not None and fits and not again:
                delivery.pushed += size
        if delivery is None:
            self._refuse("pushed an object that no answer of its own has")
        if not fits:
            self._refuse("sent more than an answer to its message may have")
        if again:
            # Its sender did not hear that it had come; Flower would take it for a failure.
            return stored()
        response = self._passed(lambda: self._handlers.push_object(request=request, state=state))
        with self._lock:
            if response.stored:
                delivery.stored.add(request.object_id)
            else:
                delivery.pushed -= size
        return response

    def pull_object(self, request: Any, state: Any) -> Any:
        """Hand a node an object of a message it was handed."""
        found = self._found(lambda each: each.run == request.run_id and request.object_id in each.objects)
        if found is None:
            self._refuse("asked for an object of no message of its own")
        self._heard_of(request.run_id)
        return self._handlers.pull_object(request=request, state=state)

    def confirm_message_received(self, request: Any, state: Any, store: Any) -> Any:
        """Let a node say that it has a message; Flower then deletes what is named, whosever it is."""
        with self._lock:
            delivery = self._of(CALLER.get().node).get(request.message_object_id)
        if delivery is None or delivery.run != request.run_id:
            self._refuse("confirmed a message that is not its own")
        # A node pulls only what it has not from another message: what it was sent is counted here, not there.
        delivery.size = max(delivery.size, stored_bytes(store, delivery.objects))
        delivery.size = max(each.size for each in self._measures(delivery))
        return self._handlers.confirm_message_received(request=request, state=state, store=store)

    def get_run(self, request: Any, state: Any) -> Any:
        """Tell a node of a run that it has a message of."""
        self._check_run(request.run_id)
        return self._handlers.get_run(request=request, state=state)

    def get_fab(self, request: Any, state: Any) -> Any:
        """Give a node the app of a run that it has a message of."""
        self._check_run(request.run_id)
        # Flower writes into its log what was asked for.
        if not _OBJECT_ID.fullmatch(request.hash_str):
            self._refuse("asked for an app by what is no hash")
        return self._handlers.get_fab(request=request, state=state)

    def register_node(self, **_: Any) -> Any:
        """Nobody registers from outside."""
        self._refuse("tried to register a node")

    def unregister_node(self, **_: Any) -> Any:
        """Nobody unregisters from outside."""
        self._refuse("tried to unregister a node")

    # -- inside --------------------------------------------------------------------------------------------------------

    def _answered(self, request: Any) -> Delivery:
        """The message that a push answers; refused unless it is in every way an answer of this node's to it."""
        node = CALLER.get().node
        if len(request.messages_list) != 1 or len(request.message_object_trees) != 1:
            self._refuse("pushed other than one message")
        message, tree = request.messages_list[0], request.message_object_trees[0]
        about = message.metadata
        if about.src_node_id != node:
            self._refuse("pushed a message in another's name")
        if not about.reply_to_message_id:
            self._refuse("pushed an instruction")
        if about.dst_node_id != superlink_id():
            self._refuse("pushed a message to another site")
        problem = malformed(message, tree, list(request.clientapp_runtime_list))
        if problem:
            self._refuse(problem)
        with self._lock:
            delivery = self._of(node).get(about.reply_to_message_id)
            if delivery is not None and not delivery.takes(about):
                delivery = None
            if delivery is not None:
                delivery.answer = about.message_id
        if delivery is None:
            self._refuse("answered a message that it was never sent, or had answered")
        return delivery

    def _measures(self, delivery: Delivery) -> list[Delivery]:
        """The messages that an answer is measured by: an update under masks answers none that has the model's size."""
        if delivery.kind != MASK:
            return [delivery]
        with self._lock:
            known = list(self._of(CALLER.get().node).values())
        return [delivery, *(each for each in known if (each.run, each.kind) == (delivery.run, TRAIN))]

    def _check_run(self, run: int) -> None:
        if self._found(lambda each: each.run == run) is None:
            self._refuse("asked about a run of which it has no message")
        self._heard_of(run)

    def _heard_of(self, run: int) -> None:
        """A node asks about a run: it has all it was handed, for it takes one message after another."""
        with self._lock:
            for each in self._of(CALLER.get().node).values():
                each.heard_of = each.heard_of or each.run == run

    def _found(self, wanted: Callable[[Delivery], bool]) -> Delivery | None:
        with self._lock:
            return next((each for each in self._of(CALLER.get().node).values() if wanted(each)), None)

    def _open(self, request: Any) -> Delivery | None:
        for each in self._of(CALLER.get().node).values():
            if each.run == request.run_id and request.object_id in each.waiting.get(request.session_id, ()):
                return each
        return None

    def _of(self, node: int) -> OrderedDict[str, Delivery]:
        return self._deliveries.get(node, OrderedDict())

    def _passed(self, ask: Callable[[], Any]) -> Any:
        """What Flower answers; what breaks in it counts as refused, for each try may leave something behind."""
        try:
            return ask()
        except Exception as error:
            if not is_flowers_refusal(error):
                self._count("sent what Flower could not take")
            raise

    def _count(self, why: str) -> None:
        caller = CALLER.get()
        self._patience.refuse((caller.node, False))
        self._note(caller.name, why)

    def _refuse(self, why: str) -> NoReturn:
        self._count(why)
        raise http_error(403, "not taken")


def guard(fleet: Fleet) -> None:
    """Put rules before the handlers of Flower's fleet router."""
    router = importlib.import_module("flwr.superlink.routers.fleet.router")
    router.fleet_handlers = fleet  # type: ignore[attr-defined]


def flowers_handlers() -> Any:
    """The handlers that Flower's fleet router was written for."""
    return importlib.import_module("flwr.superlink.servicer.fleet.fleet_handlers")
