"""What of a PACS a site's images are: its server, the query, and where labels come from. Nothing here asks a server."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fl_client.data.config import NO_LABELS, DataConfig
from fl_client.dicomweb.query import QueryConfig
from fl_client.dicomweb.server import Server
from fl_client.dicomweb.tables import STUDY_KEYS, LabelTable, read_labels
from medveil.config import to_mapping
from medveil.errors import ConfigError

REPORTS = "sr"
"""As ``data.labels``: Structured Reports say them."""


@dataclass(frozen=True)
class Cohort:
    """What a configuration asks a server for.

    Attributes
    ----------
    server : Server
        The server.
    query : QueryConfig
        The query.
    labels : LabelTable or None
        The table of labels, where there is one.
    reports : bool
        Whether Structured Reports say the labels.
    """

    server: Server
    query: QueryConfig
    labels: LabelTable | None
    reports: bool

    @property
    def only(self) -> tuple[str, Sequence[str]] | None:
        """What each is asked for by itself: the accession numbers or studies of the table."""
        if self.labels is None or self.labels.keyword not in STUDY_KEYS:
            return None
        return self.labels.keyword, sorted(self.labels.rows)

    def digest(self) -> str:
        """What tells one query of one server from another, 64 hex digits; how it is let in does not count."""
        query = to_mapping(self.query)
        asked = [self.server.url, query, None if self.only is None else list(self.only), self.reports]
        return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()


def cohort_of(config: DataConfig, server: Server) -> Cohort:
    """What a configuration asks for.

    Raises
    ------
    ConfigError
        It would ask for all the server has, or labels are missing or contradict each other.
    DataError
        The table of labels cannot be read.
    """
    config.query.check()
    reports, table = config.labels == REPORTS, None
    if config.labels is None:
        cure = "a CSV with a column accession, study, series or instance, and 'label'; sr; or none"
        raise ConfigError("is not set, and a PACS has no class folders", where="data.labels", cure=cure)
    if not reports and config.labels != NO_LABELS:
        table = read_labels(server.file.parent / Path(config.labels).expanduser())
    if reports and config.query.codes is None:
        cure = "the YAML file of the classes' coded concepts"
        raise ConfigError("is not set, and reports name classes by codes", where="data.query.codes", cure=cure)
    made = Cohort(server, config.query, table, reports)
    if made.query.empty and made.only is None:
        cure = "set one of data.query, or name accession numbers or studies in data.labels"
        raise ConfigError("asks for everything the server has", where="data.query", cure=cure)
    return made
