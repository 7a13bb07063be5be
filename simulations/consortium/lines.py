"""What coordinator and hospitals type, in order, from nothing to a model; the tutorials say the same at length."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

COORDINATOR, SITE = "coordinator", "site"
PROGRAMS = {"medveil-server": "fl_server.cli", "medveil-site": "fl_client.cli"}
"""Each program, and the module that is it."""
_TO = " > "


@dataclass(frozen=True)
class Line:
    """A command.

    Parameters
    ----------
    who
        `COORDINATOR`, or `SITE`: every site then types it.
    text
        As typed, with names in braces for what differs.
    says
        What it does, in a sentence.
    by_hand
        What people do afterwards that no command does.
    between
        What is different between machines of their own.
    each
        Whether the coordinator types it once for every site.
    live
        Whether what it prints is shown while it runs.
    """

    who: str
    text: str
    says: str
    by_hand: str = ""
    between: str = ""
    each: bool = False
    live: bool = False

    def typed(self, **values: str) -> str:
        """The command with everything named; each value is one word of it, and ``settings`` are several."""
        words = {name: value if name == "settings" else shlex.quote(value) for name, value in values.items()}
        return " ".join(self.text.format_map(words).split())


def parted(typed: str) -> tuple[str, list[str], str]:
    """Program, words and the file that takes what is printed ("" for none) of a command as it is typed."""
    command, _, file = typed.partition(_TO)
    program, *words = shlex.split(command)
    return program, words, file


_SITE = "--site enrol/site.yaml"
LINES = (
    Line(
        COORDINATOR,
        "medveil-server init consortium.yaml fleet.port={fleet} control.port={control}",
        "makes the consortium's certificate authority, the server's keys and the invitation",
        by_hand="hand consortium.invitation to every site; read the fingerprint out over the telephone",
        between="fleet.host=0.0.0.0 'certificates.names=[veil.example.org]' in place of the two ports",
    ),
    Line(
        SITE,
        "medveil-site enroll --name {site} --out enrol --invitation consortium.invitation "
        "--passphrase-file passphrase data.source={source} data.path={images} threads=1 device=cpu",
        "makes the hospital's own keys and its site.yaml, whose limits no server can pass",
        by_hand="send the .pub file to the coordinator, and nothing else; read its fingerprint out",
        between="without --passphrase-file it asks; without threads and device it takes what the machine has",
    ),
    Line(COORDINATOR, "medveil-server admit {site}.pub", "lets a hospital connect, by its public key", each=True),
    Line(
        COORDINATOR,
        "medveil-server roster --out roster.json",
        "writes down who takes part: whose updates are summed under masks",
        by_hand="hand roster.json to every site; read its digest out",
    ),
    Line(COORDINATOR, "medveil-server start", "starts the server: Flower's SuperLink behind TLS"),
    Line(
        COORDINATOR,
        "medveil-server run --hash",
        "prints the hash of the installed MedVeil",
        by_hand="read the hash out to every site",
    ),
    Line(SITE, f"medveil-site approve {{app}} {_SITE}", "lets the site run exactly that code, for ten runs"),
    Line(
        SITE,
        f"medveil-site approve-roster {{digest}} --roster roster.json {_SITE}",
        "lets the site take part with those sites, and no others",
    ),
    Line(SITE, f"medveil-site check {_SITE}", "goes through everything a run will need, point by point"),
    Line(SITE, f"medveil-site start {_SITE}", "starts Flower's SuperNode and the site's own worker"),
    Line(
        COORDINATOR,
        "medveil-server run --template > training.yaml",
        "writes all settings of a run, each under its help",
        by_hand="edit training.yaml, or let settings follow it; the classes are what the sites' checks print",
    ),
    Line(
        COORDINATOR,
        "medveil-server run training.yaml {settings}",
        "trains: submits the run and follows it to its end",
        live=True,
    ),
    Line(COORDINATOR, "medveil-server status", "shows server, sites and runs; with --watch it stays"),
    Line(
        SITE,
        f"medveil-site predict {{new}} --out predictions.csv {_SITE}",
        "asks the model about images it has not seen",
    ),
    Line(
        COORDINATOR,
        "medveil-server audit heads --out heads.json",
        "writes down how far each site's log had come",
        by_hand="send heads.json to every site",
    ),
    Line(
        SITE,
        f"medveil-site audit verify --countersigned heads.json {_SITE}",
        "shows that the site's log is whole, and was not cut",
    ),
)
"""All but the end."""
ENDING = (
    Line(SITE, f"medveil-site stop {_SITE}", "takes leave of the server"),
    Line(COORDINATOR, "medveil-server stop", "stops the server"),
)
