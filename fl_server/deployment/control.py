"""What a coordinator tells the consortium's SuperLink: nodes and runs."""

from __future__ import annotations

from collections.abc import Mapping

from fl_server.deployment.consortium import Consortium
from fl_server.deployment.roster import ADMITTED, Member, Roster
from medveil.errors import FederationError
from medveil.fab import hash_of, installed_fab
from medveil.flower_commands import Commands, Node, RunState

OFFLINE, ONLINE, REGISTERED, UNREGISTERED = "offline", "online", "registered", "unregistered"


class Control:
    """What a coordinator tells a SuperLink, as ``flwr`` would.

    Parameters
    ----------
    consortium
        Whose SuperLink; it must be running.
    """

    def __init__(self, consortium: Consortium) -> None:
        self._consortium = consortium

    def register(self, member: Member) -> int:
        """Tell the SuperLink a site's key; returns the id of its node."""
        with self.commands() as flower:
            return flower.register(member.public.line(), member.name)

    def unregister(self, node: int) -> None:
        """Cut a node off: it ends within a minute, and its key never comes back."""
        with self.commands() as flower:
            flower.unregister(node)

    def nodes(self) -> dict[int, Node]:
        """All nodes the SuperLink was ever told, by id."""
        with self.commands() as flower:
            return {node.node: node for node in flower.nodes()}

    def submit(self, run_config: Mapping[str, str], fab: str) -> int:
        """Submit the installed MedVeil with a run config; returns Flower's id of the run.

        Parameters
        ----------
        run_config
            What server and sites are told.
        fab
            The hash sites were told.

        Raises
        ------
        FederationError
            Flower refuses, or the installation changed in between.
        """
        content = installed_fab()
        if hash_of(content) != fab:
            raise FederationError("the installed MedVeil is another app by now", where=fab, cure="submit it again")
        with self.commands() as flower:
            return flower.begin(content, fab, run_config)

    def run(self, flower_run: int) -> RunState:
        """What Flower says of one run."""
        with self.commands() as flower:
            return flower.run(flower_run)

    def stop(self, flower_run: int) -> None:
        """End a run."""
        with self.commands() as flower:
            flower.stop(flower_run)

    def commands(self) -> Commands:
        """Ask the SuperLink as it runs now: its secret is drawn anew with every start."""
        return Commands(self._consortium.control, self._consortium.home, self._consortium.authority[1])


def sync(consortium: Consortium, control: Control) -> list[str]:
    """Tell the SuperLink what changed in the roster; returns a line for each change.

    Raises
    ------
    FederationError
        Flower refuses.
    """
    roster, known = Roster(consortium.roster), control.nodes()
    done = []
    for member in roster.members():
        node = known.get(member.node)
        if member.status == ADMITTED and node is None:
            roster.registered(member, control.register(member))
            done.append(f"{member.name} may connect")
        elif member.status != ADMITTED and node is not None and node.status != UNREGISTERED:
            control.unregister(member.node)
            done.append(f"{member.name} was cut off")
    return done
