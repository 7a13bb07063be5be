"""What the results of one table stand on: the contents, labels and groups of its images, and of the public ones."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from fl_client.data.base import Source
from fl_client.data.config import DataConfig
from fl_client.data.source import open_source
from fl_client.data.standing import basis_of_source
from medveil.basis import OF_DATA, changed, differences
from medveil.config import from_mapping
from simulations.attacks.config import AttackConfig, of_folder

Standing = dict[str, dict[str, str]]
"""By what images are for, digests by their names in `medveil.basis`."""
ATTACKED, PUBLIC = "images", "public images"


def standing(config: AttackConfig, source: Source) -> Standing:
    """What results made with a configuration over these images would stand on.

    Raises
    ------
    MedVeilError
        The public images cannot be read.
    """
    made = {ATTACKED: _parts(source, config.data)}
    if config.public is not None:
        data = from_mapping(DataConfig, of_folder(Path(config.public)), where="public")
        made[PUBLIC] = _parts(open_source(data), data)
    return made


def refuse_other(known: Mapping[str, Mapping[str, str]], now: Standing, *, where: Path) -> None:
    """Refuse to put results over other images into one table.

    Raises
    ------
    BasisError
        Says what differs: of the attacked images first.
    """
    cure = "put back what they were measured on, or name another --out"
    for which, parts in now.items():
        differing = differences(known.get(which, {}), parts)
        if differing:
            details = "" if which == ATTACKED else f"of the {which}"
            raise changed(differing, where=where, cure=cure, since="its results were measured", details=details)


def _parts(source: Source, data: DataConfig) -> dict[str, str]:
    basis = basis_of_source(source, data, seed=0, sites=1, weights={})
    return {name: basis.parts[name] for name in OF_DATA}
