"""What a model folder says of its model (``config.json``): written by export, and read as a stranger's.

A folder may come from anyone, so that nothing in it is taken on trust: every field must be there, be known, be of its
type and within its bounds. The checksum finds damage, not malice: whoever changes a folder on purpose can make it anew.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from crypto.config import CipherConfig, config_of_run, resolve
from crypto.documents import check_checksum, checksum
from crypto.imaging import preprocess
from fl_client.data.base import HiddenUnder
from fl_client.export.fields import FIELDS, FIELDS_1, FIELDS_3, FIELDS_4, Fields, check_fields
from fl_client.export.kept import KeptModel
from fl_client.export.sealed_model import LABEL
from medveil.bounded import parse_json
from medveil.config import from_mapping
from medveil.errors import FormatError, IntegrityError
from medveil.files import check_format
from medveil.predicting import PredictConfig
from models.exported import EXPECTED, FORMAT, PLAIN, VERSION
from models.policy import POLICIES, Policy

TIMM = 4
"""Since this version ``timm.create_model("local-dir:FOLDER", pretrained=True)`` loads a model of plain images."""
ASKED = 5
"""Since this version it says of how many views the answers were means that its run measured."""
CARRIED = 2
"""Since this version the weights carry what ``config.json`` says."""
HIDDEN = "hidden"
_EARLIEST_SIDE = 16
_WRITTEN = "export the model anew, or ask who sent it for a whole copy"
_OWN = ("sha256", "checksum")


@dataclass(frozen=True, kw_only=True)
class Description:
    """A model, and how images are brought to it.

    Parameters
    ----------
    architecture, arguments
        The timm model: its name, and what it is made with.
    domain
        ``"plain"``: it reads plain images; ``"hidden"``: it reads them as the site's run had them.
    channels, image_size, padded_size
        Of an image, before and after it was padded to whole blocks.
    window, min_side, preparation
        How a file becomes such an image; `preparation` is the version of `crypto.imaging.preprocess`.
    temperature
        What the logits are divided by.
    views, level
        Of an image, that its run averaged over when it measured the model: how many, and how those after the first were
        augmented. An export of an older MedVeil does not tell, and is asked about the image alone.
    cipher, policy, fingerprint
        Of the run; the fingerprint only where the domain is hidden, and empty without a key.
    hidden_source
        How another party hid the images it learned from.
    """

    architecture: str
    arguments: dict[str, int]
    classes: tuple[str, ...]
    domain: str
    channels: int
    image_size: int
    padded_size: int
    window: tuple[float, float] | None
    min_side: int
    preparation: int
    temperature: float
    views: int
    level: str
    policy: Policy
    cipher: CipherConfig
    fingerprint: str
    hidden_source: HiddenUnder | None
    run: str
    name: str
    site: str
    round: int
    medveil: str

    @property
    def reads_plain(self) -> bool:
        """Whether the model itself reads plain images."""
        return self.domain == PLAIN or (self.policy.keys == "none" and self.hidden_source is None)

    @property
    def otherwise(self) -> str:
        """That images are prepared in another way now than when it learned; empty where nothing of them changed.

        What another party hid was prepared there, and is read as it is.
        """
        return "" if self.hidden_source is not None else prepared_otherwise(self.preparation, medveil=self.medveil)


def prepared_otherwise(preparation: int, *, medveil: str) -> str:
    """That images are prepared in another way now; empty where they are not.

    Parameters
    ----------
    preparation
        The way a model learned from, a version of `crypto.imaging.preprocess`.
    medveil
        Version of the MedVeil that it learned under.
    """
    if preparation == preprocess.VERSION:
        return ""
    return (
        f"it learned from images prepared in way {preparation}, and this MedVeil prepares them in way "
        f"{preprocess.VERSION}: DICOM, TIFF, 16-bit and npz images may look otherwise to it than those it was measured "
        f"on; ask it by the MedVeil it was made by ({medveil}), or train it anew"
    )


def otherwise_of(facts: Mapping[str, Any]) -> str:
    """`prepared_otherwise` of what a kept model says of itself; empty where another party hid its images."""
    if facts["hidden_source"] is not None:
        return ""
    return prepared_otherwise(preparation_of(facts), medveil=facts["environment"]["medveil"])


def preparation_of(facts: Mapping[str, Any]) -> int:
    """How a kept model's images were prepared; one that does not say it is taken for one of the first MedVeil's."""
    return int(facts["data"].get("preparation", 1))


def describe(kept: KeptModel, *, domain: str, arguments: dict[str, int]) -> Description:
    """The description of a kept model, in the domain it is to be used in."""
    run, facts, data = kept.run, kept.facts, kept.facts["data"]
    config = resolve(config_of_run(run.cipher))
    # A run of an older MedVeil says nothing of views, and had one.
    asked = from_mapping(PredictConfig, run.predict, where="predict")
    source = facts["hidden_source"]
    return Description(
        architecture=run.model["name"],
        arguments=arguments,
        classes=tuple(run.classes),
        domain=domain,
        channels=run.channels,
        image_size=run.image_size,
        padded_size=facts["padded"][0],
        window=None if data["window"] is None else (data["window"][0], data["window"][1]),
        min_side=data["min_side"],
        preparation=preparation_of(facts),
        temperature=kept.temperature,
        views=asked.views,
        level=asked.augment,
        policy=Policy(run.keys, run.stem_init, run.stem_train),
        cipher=config,
        fingerprint=facts["fingerprint"] if domain == HIDDEN else "",
        hidden_source=None if source is None else HiddenUnder(**source),
        run=run.run,
        name=run.name,
        site=facts["site"],
        round=facts["round"],
        medveil=facts["environment"]["medveil"],
    )


def document_of(made: Description) -> dict[str, Any]:
    """A description as plain data: all of ``config.json`` but the digests."""
    hidden = made.domain == HIDDEN
    return {
        "format": FORMAT,
        "version": VERSION,
        **({"label": LABEL, "fingerprint": made.fingerprint} if hidden else {}),
        "architecture": made.architecture,
        "library": "timm",
        "model_args": dict(made.arguments),
        **({} if hidden else {"pretrained_cfg": _for_timm(made)}),
        "classes": list(made.classes),
        "domain": made.domain,
        "input": {
            "channels": made.channels,
            "image_size": made.image_size,
            "padded_size": made.padded_size,
            "window": None if made.window is None else list(made.window),
            "min_side": made.min_side,
            "preparation": made.preparation,
            "hidden_source": None if made.hidden_source is None else made.hidden_source._asdict(),
            "numbers": "see medveil-site predict" if hidden else "(2 v - 255) / 255 of 8-bit pixels v",
        },
        "temperature": made.temperature,
        "predict": {"views": made.views, "augment": made.level},
        "policy": {"keys": made.policy.keys, "stem_init": made.policy.init, "stem_train": made.policy.train},
        "cipher": asdict(made.cipher),
        "run": made.run,
        "name": made.name,
        "site": made.site,
        "round": made.round,
        "medveil": made.medveil,
    }


def written(made: Description, digests: dict[str, str]) -> bytes:
    """The bytes of ``config.json``.

    Parameters
    ----------
    digests
        SHA-256 of the files beside it, by name.
    """
    document = {**document_of(made), "sha256": digests}
    return _text({**document, "checksum": checksum(document)})


def parsed(data: bytes, *, where: Path) -> tuple[Description, dict[str, Any]]:
    """Read a ``config.json`` from anyone; also gives the document.

    Raises
    ------
    FormatError
        It is no description of a model, or of a newer version; or a field is missing, unknown, of another type or out
        of its bounds: it is named.
    IntegrityError
        It is cut short, or was changed after it was written.
    """
    document = parse_json(data, where=where, kind=IntegrityError)
    version = check_format(document, name=FORMAT, newest=VERSION, where=where)
    if version > 1 and isinstance(document.get("checksum"), str):
        check_checksum(document, where=where)
        if _text(document) != data:
            raise IntegrityError("is not as it was written", where=where, cure=_WRITTEN)
    fields = dict(_fields_of(version))
    if document.get("domain") == HIDDEN:
        fields.pop("pretrained_cfg", None)
    else:
        del fields["label"], fields["fingerprint"]
    check_fields(document, fields, where=where)
    made = _read(document)
    _check(made, version, where)
    if document.get("pretrained_cfg", _for_timm(made)) != _for_timm(made):
        raise FormatError("its field 'pretrained_cfg' does not fit its other fields", where=where, cure=_WRITTEN)
    return made, document


def _fields_of(version: int) -> Fields:
    if version == 1:
        return FIELDS_1
    return FIELDS_3 if version < TIMM else FIELDS_4 if version < ASKED else FIELDS


def identity_of(document: dict[str, Any]) -> dict[str, Any]:
    """What the weights carry of a document, so that neither goes with another: all but the digests."""
    return {name: value for name, value in document.items() if name not in _OWN}


def _for_timm(made: Description) -> dict[str, Any]:
    """What timm asks of saved weights: mean and deviation of a half are ``(2 v - 255) / 255`` of 8-bit pixels."""
    channels, side = made.channels, made.padded_size
    return {
        "input_size": [channels, side, side],
        "fixed_input_size": True,
        "mean": [EXPECTED] * channels,
        "std": [EXPECTED] * channels,
        "interpolation": "bilinear",
        "crop_pct": 1.0,
        "crop_mode": "squash",
        "num_classes": len(made.classes),
        "label_names": list(made.classes),
        "first_conv": "patch_embed.proj",
        "classifier": "head",
    }


def _read(document: dict[str, Any]) -> Description:
    given, policy, window = document["input"], document["policy"], document["input"]["window"]
    source, asked = given.get("hidden_source"), document.get("predict") or asdict(PredictConfig())
    return Description(
        architecture=document["architecture"],
        arguments=dict(document.get("model_args") or document["arguments"]),
        classes=tuple(document["classes"]),
        domain=document["domain"],
        channels=given["channels"],
        image_size=given["image_size"],
        padded_size=given["padded_size"],
        window=None if window is None else (float(window[0]), float(window[1])),
        # Version 1 did not say; it is the smallest that a site takes in such a run.
        min_side=given.get("min_side", max(_EARLIEST_SIDE, document["cipher"].get("block", CipherConfig.block))),
        preparation=given.get("preparation", 1),
        temperature=float(document["temperature"]),
        views=asked["views"],
        level=asked["augment"],
        policy=Policy(policy["keys"], policy["stem_init"], policy["stem_train"]),
        cipher=resolve(config_of_run(document["cipher"])),
        fingerprint=document.get("fingerprint", ""),
        hidden_source=None if source is None else HiddenUnder(**source),
        run=document["run"],
        name=document.get("name", document["run"]),
        site=document.get("site", ""),
        round=document["round"],
        medveil=document["medveil"],
    )


def _check(made: Description, version: int, where: Path) -> None:
    """Refuse fields that are each possible and not together."""
    if made.policy not in POLICIES:
        raise FormatError(f"its field 'policy' is {made.policy}, which no run has", where=where)
    if made.preparation > preprocess.VERSION:
        problem = (
            f"its images are prepared in the way {made.preparation}; this MedVeil knows up to {preprocess.VERSION}"
        )
        raise FormatError(problem, where=where, cure="upgrade MedVeil")
    patch, arguments = made.arguments["patch_size"], made.arguments
    section = "arguments" if version < TIMM else "model_args"
    pairs = {
        "input.padded_size": (made.padded_size, -(-made.image_size // patch) * patch),
        f"{section}.img_size": (arguments["img_size"], made.padded_size),
        f"{section}.in_chans": (arguments["in_chans"], made.channels),
        f"{section}.num_classes": (arguments["num_classes"], len(made.classes)),
    }
    for name, (found, wanted) in pairs.items():
        if found != wanted:
            raise FormatError(f"its field '{name}' is {found}", where=where, cure=f"{wanted}, by its other fields")
    if made.hidden_source is not None and made.views > 1:
        raise FormatError("its field 'predict.views' is above 1, and no view is made of hidden images", where=where)
    if made.domain == PLAIN and made.hidden_source is not None:
        raise FormatError("its field 'input.hidden_source' is set, and its model reads plain images", where=where)
    keyed = made.policy.keys != "none"
    if made.domain == HIDDEN and bool(made.fingerprint) != keyed:
        problem = f"its field 'fingerprint' is '{made.fingerprint}', and the policy's keys are {made.policy.keys}"
        raise FormatError(problem, where=where)
    if keyed and made.cipher.block != patch:
        raise FormatError(f"its field 'cipher.block' is {made.cipher.block}", where=where, cure=f"{patch}, the patch")
    if version == 1 and made.domain == HIDDEN and not keyed:
        raise FormatError("is of version 1, which does not say what images it reads", where=where, cure=_WRITTEN)


def _text(document: dict[str, Any]) -> bytes:
    text = json.dumps(document, indent=2, allow_nan=False, ensure_ascii=False) + "\n"
    return text.encode("utf-8", "surrogatepass")
