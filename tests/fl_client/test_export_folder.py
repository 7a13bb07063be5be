"""An exported model opened again: the same answers, and nothing of a stranger's taken on trust."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from one_site import BLOCK, SIZE, evaluated
from PIL import Image
from safetensors.torch import load, save

from crypto import sealed_file
from crypto.config import CipherConfig
from crypto.documents import checksum
from crypto.files.recipe import Recipe
from crypto.files.registry import kind_of
from crypto.keyring import Keyring
from crypto.keys import SiteKey
from crypto.passphrase import forget
from fl_client.cli import main
from fl_client.data.config import PhantomConfig
from fl_client.data.phantoms import draw_phantoms
from fl_client.deployment.own_keys import OwnKeys
from fl_client.export.described import identity_of
from fl_client.export.fields import SEALED, WEIGHTS
from fl_client.export.folder import _tensors, open_folder
from fl_client.export.held import MODELS, find_kept
from fl_client.export.kept import KeptModel, open_kept
from fl_client.export.predicting import Answers, predict_files
from fl_client.export.ready import from_folder, from_kept
from fl_client.export.write import export_hidden, export_plain
from medveil.errors import FormatError, IntegrityError, KeyMaterialError, MedVeilError, StorageError
from models.exported import CONFIG

KEYS = OwnKeys(Keyring(SiteKey.generate("st-anna")), Keyring(SiteKey.generate("shared")))
FIXTURES = Path(__file__).parent / "fixtures"
FIXTURE_KEYS = OwnKeys(Keyring(SiteKey(bytes(range(32)), "st-anna")))
CPU = torch.device("cpu")
V3 = [[0.49259988, 0.50740012]]
"""As the MedVeil that wrote the folders of version 3 answered."""
PLAIN_TOLERANCE = 1e-6
"""float32: the stem's sums run in another order. These probabilities were found 1e-8 apart, and are written to 1e-6."""


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealed_file, "SCRYPT_N", 2**4)
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    draw_phantoms(folder, PhantomConfig(sites=1, images=60, classes=2, size=SIZE))
    return folder


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Plain images nobody trained on."""
    folder, rng = tmp_path_factory.mktemp("asked"), np.random.default_rng(7)
    for number in range(5):
        grey = np.linspace(0, 51 * (number + 1), 40)[:, None] * np.linspace(number % 2, 1, 36)
        noise = rng.integers(0, 40, (40, 36))
        Image.fromarray(np.clip(grey + noise, 0, 255).astype(np.uint8)).save(folder / f"{number}.png")
    return folder


def kept_by(folder: Path, images: Path, **changes: Any) -> Any:
    """A model kept after one round under a policy."""
    evaluated(folder, images, KEYS, width=16, depth=1, **changes)
    kept = open_kept(find_kept(folder / MODELS, None), KEYS.own)
    # Too few validation images fit no temperature, and one of 1 would show nothing when it is lost.
    calibration = {**kept.facts["calibration"], "temperature": 0.4}
    return replace(kept, facts={**kept.facts, "calibration": calibration})


@pytest.fixture(scope="module")
def adapted(tmp_path_factory: pytest.TempPathFactory, images: Path) -> KeptModel:
    made: KeptModel = kept_by(tmp_path_factory.mktemp("site"), images)
    return made


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory, adapted: KeptModel) -> Path:
    folder = tmp_path_factory.mktemp("plain") / "model"
    export_plain(adapted, KEYS, folder)
    return folder


@pytest.fixture(scope="module")
def hidden(tmp_path_factory: pytest.TempPathFactory, adapted: KeptModel) -> Path:
    folder = tmp_path_factory.mktemp("hidden") / "model"
    export_hidden(adapted, KEYS, folder)
    return folder


def no_keys() -> NoReturn:
    raise AssertionError("a passphrase was asked for")


def by_kept(kept: KeptModel, asked: Path) -> Answers:
    return predict_files(from_kept(kept, lambda: KEYS), asked, device=CPU)


def by_folder(folder: Path, asked: Path, keys: Any = no_keys) -> Answers:
    return predict_files(from_folder(folder, keys), asked, device=CPU)


# -- the same answers --------------------------------------------------------------------------------------------------

NONE = {"keys": "none", "cipher": {"scheme": "none", "block": BLOCK}, "stem_init": "public"}
ORTHOGONAL = {"cipher": {"scheme": "orthogonal", "block": BLOCK}}


@pytest.mark.parametrize(
    "changes",
    [
        {**NONE, "stem_train": "averaged"},
        {**NONE, "stem_train": "local"},
        {"keys": "shared"},
        {"keys": "shared", "stem_train": "frozen"},
        {},
        {"stem_train": "frozen"},
        {**ORTHOGONAL, "stem_train": "frozen"},
        {**ORTHOGONAL, "train": {"optimizer": "sgd"}},
    ],
    ids=str,
)
def test_kept_plain_and_hidden_give_the_same_answers(
    tmp_path: Path, images: Path, asked: Path, changes: dict[str, Any]
) -> None:
    kept = kept_by(tmp_path / "site", images, **changes)
    own = by_kept(kept, asked)
    assert len(own.ids) == 5
    export_plain(kept, KEYS, tmp_path / "plain")
    export_hidden(kept, KEYS, tmp_path / "hidden")
    # By the keys, which are drawn, and the order they train in: 4e-4 and more were seen.
    assert np.ptp(own.probabilities[:, 0]) > 1e-4, "the model answers all images alike: nothing was compared"
    # Under `orthogonal` the hidden image is rounded to 16 bits, which the plain one is not.
    tolerance = 1e-5 if "cipher" in changes and changes["cipher"]["scheme"] == "orthogonal" else PLAIN_TOLERANCE
    np.testing.assert_allclose(by_folder(tmp_path / "plain", asked).probabilities, own.probabilities, atol=tolerance)
    # The same tensors by the same way: equal to the bit.
    again = by_folder(tmp_path / "hidden", asked, lambda: KEYS)
    np.testing.assert_array_equal(again.probabilities, own.probabilities)


@pytest.mark.parametrize(
    "changes",
    [
        {"stem_init": "secret"},
        {"stem_init": "public"},
        {"keys": "shared", "stem_init": "public", "stem_train": "averaged"},
        {**NONE, "stem_init": "secret", "stem_train": "local"},
    ],
    ids=str,
)
def test_what_leaves_sealed_only_answers_from_its_sealed_export(
    tmp_path: Path, images: Path, asked: Path, changes: dict[str, Any]
) -> None:
    kept = kept_by(tmp_path / "site", images, **changes)
    export_hidden(kept, KEYS, tmp_path / "hidden")
    again = by_folder(tmp_path / "hidden", asked, lambda: KEYS)
    np.testing.assert_array_equal(again.probabilities, by_kept(kept, asked).probabilities)


def test_a_padded_model_answers_nearly_alike(tmp_path: Path, images: Path, asked: Path) -> None:
    """The key's padding is not in a plain export: other pseudo-random pixels stand in its place."""
    kept = kept_by(tmp_path / "site", images, size=30)
    own = by_kept(kept, asked)
    export_plain(kept, KEYS, tmp_path / "plain")
    export_hidden(kept, KEYS, tmp_path / "hidden")
    np.testing.assert_array_equal(by_folder(tmp_path / "hidden", asked, lambda: KEYS).probabilities, own.probabilities)
    first, again = (by_folder(tmp_path / "plain", asked).probabilities for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - own.probabilities).max() < 0.05
    assert np.abs(first - own.probabilities).max() < np.ptp(own.probabilities[:, 0])


def test_a_plain_model_reads_what_this_site_hid_and_nobody_elses(
    tmp_path: Path, plain: Path, asked: Path, adapted: KeptModel
) -> None:
    folder = tmp_path / "hidden"
    folder.mkdir()
    recipe = Recipe(purpose="training", cipher=CipherConfig(block=BLOCK), size=SIZE, channels=1)
    other = Recipe(purpose="training", cipher=CipherConfig(block=BLOCK), size=2 * SIZE, channels=1)
    for path in sorted(asked.iterdir()):
        kind = kind_of(path)
        assert kind is not None
        kind.hide(path, folder / path.name, recipe, KEYS.own.current)
    kind.hide(path, folder / "foreign.png", recipe, SiteKey.generate("mercy"))
    kind.hide(path, folder / "large.png", other, KEYS.own.current)
    closed = by_folder(plain, folder, lambda: KEYS)
    assert closed.ids == [path.name for path in sorted(asked.iterdir())]
    np.testing.assert_array_equal(closed.probabilities, by_folder(plain, asked).probabilities)
    reasons = dict(closed.skipped)
    assert reasons.keys() == {"foreign.png", "large.png"}
    assert "the model reads plain images; to show it: this site does not hold its key" in reasons["foreign.png"]
    assert "the model reads plain images of (1, 32, 32), this one has (1, 64, 64)" in reasons["large.png"]


def test_version_1_is_read(asked: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(7)
    for number in range(3):
        Image.fromarray(rng.integers(0, 256, (16, 16), dtype=np.uint8)).save(tmp_path / f"{number}.png")
    # As the MedVeil that wrote them answered.
    wanted = [[0.49259988, 0.50740012], [0.4929879, 0.5070121], [0.49272267, 0.50727733]]
    for name, keys in (("exported-v1", no_keys), ("exported-hidden-v1", lambda: FIXTURE_KEYS)):
        np.testing.assert_allclose(by_folder(FIXTURES / name, tmp_path, keys).probabilities, wanted, atol=1e-5)


def test_version_3_is_read(tmp_path: Path) -> None:
    rng = np.random.default_rng(7)
    Image.fromarray(rng.integers(0, 256, (16, 16), dtype=np.uint8)).save(tmp_path / "0.png")
    for name, keys in (("exported-v3", no_keys), ("exported-hidden-v3", lambda: FIXTURE_KEYS)):
        made = from_folder(FIXTURES / name, keys).described
        assert made.arguments["depth"] == 1
        np.testing.assert_allclose(by_folder(FIXTURES / name, tmp_path, keys).probabilities, V3, atol=1e-5)


def test_version_4_says_nothing_of_views(tmp_path: Path, plain: Path) -> None:
    def older(document: dict[str, Any]) -> None:
        del document["predict"]
        document["version"] = 4

    made = from_folder(changed(plain, tmp_path / "older", older), no_keys).described
    assert (made.views, made.level) == (1, "light")


def test_a_sealed_export_opens_for_its_own_site_alone(hidden: Path) -> None:
    stranger = OwnKeys(Keyring(SiteKey.generate("mercy")))
    with pytest.raises(KeyMaterialError, match=r"was sealed under the key .*only the site that exported it"):
        from_folder(hidden, lambda: stranger)
    rotated = OwnKeys(KEYS.own.rotated("2026-11-24T00:00:00Z"), KEYS.shared)
    from_folder(hidden, lambda: rotated)


# -- a stranger's folder -----------------------------------------------------------------------------------------------


def changed(source: Path, folder: Path, edit: Any) -> Path:
    """A copy whose config.json was edited by someone who made its checksum, and that of the weights, anew."""
    shutil.copytree(source, folder)
    document = json.loads((folder / CONFIG).read_text())
    edit(document)
    weights = folder / WEIGHTS
    if weights.exists() and "sha256" in document:
        tensors = load(weights.read_bytes())
        data = save(tensors, metadata={"format": "pt", "medveil": json.dumps(identity_of(document))})
        weights.write_bytes(data)
        document["sha256"][WEIGHTS] = hashlib.sha256(data).hexdigest()
    document["checksum"] = checksum(document)
    (folder / CONFIG).write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n")
    return folder


def put(name: str, value: Any) -> Any:
    *sections, last = name.split(".")

    def edit(document: dict[str, Any]) -> None:
        for section in sections:
            document = document[section]
        document[last] = value

    return edit


def test_a_remade_copy_is_read(tmp_path: Path, plain: Path) -> None:
    """Or the refusals below could be those of the test's own making."""
    made = from_folder(changed(plain, tmp_path / "copy", put("name", "other")), no_keys)
    assert made.described.name == "other"


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("more", 1, "unknown field 'more'"),
        ("input.more", 1, r"unknown field 'input\.more'"),
        ("input", [1], "'input' is .1.; a section of fields"),
        ("temperature", "1.0", "'temperature' is '1.0'; a number, 0.05 to 20"),
        ("temperature", 0.0, "'temperature' is 0.0"),
        ("temperature", True, "'temperature' is True"),
        ("architecture", "hf-hub:evil/model", "'architecture' is 'hf-hub:evil/model'; the name of a timm model"),
        ("architecture", "resnet18", "describes no model"),
        ("architecture", "no_such_vit", "describes no model: .*timm has no model"),
        ("model_args.depth", 10**9, "'model_args.depth' is 1000000000; a whole number, 1 to 256"),
        ("model_args.depth", 2, "tensor 'blocks.1.*' is missing"),
        ("model_args.embed_dim", 2**14, "has .* bytes, and the model .* takes at least"),
        ("model_args.num_heads", 7, "describes no model: .*7 heads do not divide the width 16"),
        ("model_args.img_size", 64, "'model_args.img_size' is 64; 32, by its other fields"),
        ("input.padded_size", 64, "'input.padded_size' is 64; 32"),
        ("input.window", [40, 0], "'input.window' is .40, 0.; null, or a centre and a width above 0"),
        ("input.preparation", 99, "prepared in the way 99; this MedVeil knows up to 2; upgrade MedVeil"),
        ("classes", ["a", "a"], "'classes' is "),
        ("classes", ["a", "\x1b[2J"], r"'classes' is \['a', '\\x1b"),
        ("pretrained_cfg", {"url": "https://example.org"}, "'pretrained_cfg' does not fit its other fields"),
        ("pretrained_cfg.custom_load", True, "'pretrained_cfg' does not fit"),
        ("classes", ["a", "b", "c"], "'model_args.num_classes' is 2; 3"),
        ("policy.keys", "mine", "'policy.keys' is 'mine'; one of none, shared, per-site"),
        ("policy.stem_train", "averaged", "which no run has"),
        ("cipher", {"scheme": "rot13"}, "'cipher' is "),
        ("domain", "open", "'domain' is 'open'; one of plain, hidden"),
        ("domain", "hidden", "lacks the field 'label'"),
        ("sha256", {"../../etc/passwd": "0" * 64}, "'sha256' is "),
        ("name", "${oc.env:HOME}" + "x" * 300, "'name' is "),
        ("predict.views", 0, "'predict.views' is 0; a whole number, 1 to 64"),
        ("predict.augment", "huge", "'predict.augment' is 'huge'; one of light, medium, strong"),
        ("version", 6, "is medveil-model version 6; this MedVeil reads up to 5; upgrade MedVeil"),
        ("version", "2", "has no valid medveil-model version"),
        ("format", "other", "is not a medveil-model file"),
    ],
)
def test_a_field_that_cannot_be_is_named(tmp_path: Path, plain: Path, name: str, value: Any, says: str) -> None:
    with pytest.raises(MedVeilError, match=says) as caught:
        from_folder(changed(plain, tmp_path / "copy", put(name, value)), no_keys)
    assert "\n" not in str(caught.value)
    assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize("name", ["temperature", "classes", "input.min_side", "model_args.depth", "checksum", "name"])
def test_a_missing_field_is_named(tmp_path: Path, plain: Path, name: str) -> None:
    folder = changed(plain, tmp_path / "copy", lambda document: None)
    document = json.loads((folder / CONFIG).read_text())
    section, _, last = name.rpartition(".")
    del (document[section] if section else document)[last]
    if name != "checksum":
        document["checksum"] = checksum(document)
    (folder / CONFIG).write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n")
    with pytest.raises(FormatError, match=f"lacks the field '{name}'"):
        from_folder(folder, no_keys)


def reweighted(plain: Path, folder: Path, edit: Any) -> Path:
    """A copy whose weights were edited by someone who made every digest anew."""
    shutil.copytree(plain, folder)
    document = json.loads((folder / CONFIG).read_text())
    tensors = load((folder / WEIGHTS).read_bytes())
    edit(tensors)
    data = save(tensors, metadata={"format": "pt", "medveil": json.dumps(identity_of(document))})
    (folder / WEIGHTS).write_bytes(data)
    document["sha256"][WEIGHTS] = hashlib.sha256(data).hexdigest()
    document["checksum"] = checksum(document)
    (folder / CONFIG).write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n")
    return folder


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (lambda given: given.pop("head.bias"), "tensor 'head.bias' is missing"),
        (lambda given: given.update(more=torch.zeros(1)), "tensor 'more' is none of the model's"),
        (lambda given: given.update({"head.bias": torch.zeros(3)}), r"'head.bias' is torch.float32 \(3,\)"),
        (lambda given: given.update({"head.bias": torch.zeros(2).half()}), "'head.bias' is torch.float16"),
        (lambda given: given["head.bias"].fill_(float("nan")), "'head.bias' holds values that are not finite"),
        (lambda given: given.update(more=torch.zeros(2**19)), "is larger than the "),
    ],
)
def test_weights_that_do_not_fit_are_refused(tmp_path: Path, plain: Path, edit: Any, says: str) -> None:
    with pytest.raises(MedVeilError, match=says):
        from_folder(reweighted(plain, tmp_path / "copy", edit), no_keys)


@pytest.mark.parametrize(
    "claims",
    [
        {"embed_dim": 2**14, "depth": 2**8},
        {"depth": 2**8, "embed_dim": 2**12, "num_heads": 2**8},
        {"num_heads": 2**8, "embed_dim": 2**14},
    ],
)
def test_a_model_that_claims_more_than_its_file_has_is_not_laid_out(
    tmp_path: Path, plain: Path, claims: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def larger(document: dict[str, Any]) -> None:
        document["model_args"] |= claims

    def laid_out(*_: object, **__: object) -> NoReturn:
        raise AssertionError("it was laid out")

    monkeypatch.setattr("fl_client.export.folder.build_vit", laid_out)
    with pytest.raises(IntegrityError, match="takes at least"):
        open_folder(changed(plain, tmp_path / "copy", larger), no_keys)


def test_a_header_of_weights_that_claims_more_than_there_is(plain: Path) -> None:
    data = bytearray((plain / "model.safetensors").read_bytes())
    for claimed in (2**20 + 1, 2**40, 2**64 - 1):
        data[:8] = claimed.to_bytes(8, "little")
        with pytest.raises(IntegrityError, match="claims a header"):
            _tensors(bytes(data), {}, plain)


def test_files_of_two_models_do_not_go_together(tmp_path: Path, plain: Path, adapted: KeptModel) -> None:
    """Whoever swaps the classes in config.json, and makes its checksum anew, is found by the weights."""
    shutil.copytree(plain, tmp_path / "copy")
    document = json.loads((plain / CONFIG).read_text())
    document["classes"].reverse()
    document["pretrained_cfg"]["label_names"].reverse()
    document["checksum"] = checksum(document)
    (tmp_path / "copy" / CONFIG).write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n")
    with pytest.raises(IntegrityError, match=r"was not written with this config\.json"):
        from_folder(tmp_path / "copy", no_keys)


def test_no_pickle_pipe_or_missing_file_is_waited_for(tmp_path: Path, plain: Path) -> None:
    with pytest.raises(StorageError, match="no such folder; --model names a folder"):
        from_folder(tmp_path / "none", no_keys)
    with pytest.raises(StorageError, match=r"config\.json: no such file"):
        from_folder(tmp_path, no_keys)
    for make in (os.mkfifo, Path.mkdir):
        folder = tmp_path / make.__name__
        shutil.copytree(plain, folder)
        (folder / WEIGHTS).unlink()
        make(folder / WEIGHTS)
        with pytest.raises(StorageError):
            from_folder(folder, no_keys)
    folder = tmp_path / "pickle"
    shutil.copytree(plain, folder)
    torch.save({"head.bias": torch.zeros(5000)}, folder / WEIGHTS)
    data = (folder / WEIGHTS).read_bytes()
    document = json.loads((folder / CONFIG).read_text())
    document["sha256"][WEIGHTS] = hashlib.sha256(data).hexdigest()
    document["checksum"] = checksum(document)
    (folder / CONFIG).write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n")
    # What a pickle begins with is, read as the length of a header, far beyond any.
    with pytest.raises(IntegrityError, match="claims a header of"):
        from_folder(folder, no_keys)


@pytest.mark.parametrize("new", [b'\t"temperature"', b'  "temperature": 9,\n  "temperature"'])
def test_a_config_that_means_the_same_is_still_not_as_it_was_written(tmp_path: Path, plain: Path, new: bytes) -> None:
    """Two readers may take a key that is there twice for different values."""
    shutil.copytree(plain, tmp_path / "copy")
    data = (plain / CONFIG).read_bytes()
    (tmp_path / "copy" / CONFIG).write_bytes(data.replace(b'  "temperature"', new))
    with pytest.raises(IntegrityError, match=r"is not as it was written|is not a whole JSON document"):
        from_folder(tmp_path / "copy", no_keys)


def test_a_config_of_many_levels_is_refused_unread(tmp_path: Path, plain: Path) -> None:
    shutil.copytree(plain, tmp_path / "copy")
    (tmp_path / "copy" / CONFIG).write_text('{"a": ' * 9_000 + "1" + "}" * 9_000)
    with pytest.raises(IntegrityError, match="is nested deeper than"):
        from_folder(tmp_path / "copy", no_keys)


SMALL = settings(
    max_examples=50,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@SMALL
@given(data=st.data())
def test_any_changed_byte_is_refused(
    tmp_path_factory: pytest.TempPathFactory, plain: Path, hidden: Path, data: st.DataObject
) -> None:
    source, name = data.draw(st.sampled_from([(plain, CONFIG), (plain, WEIGHTS), (hidden, CONFIG), (hidden, SEALED)]))
    whole = (source / name).read_bytes()
    place = data.draw(st.integers(0, len(whole) - 1))
    how = data.draw(st.sampled_from(["flip", "cut", "insert", "append"]))
    value = data.draw(st.integers(1, 255))
    made = {
        "flip": whole[:place] + bytes([whole[place] ^ value]) + whole[place + 1 :],
        "cut": whole[:place],
        "insert": whole[:place] + bytes([value]) + whole[place:],
        "append": whole + bytes([value]),
    }[how]
    folder = tmp_path_factory.mktemp("tampered") / "model"
    shutil.copytree(source, folder)
    (folder / name).write_bytes(made)
    with pytest.raises(MedVeilError) as caught:
        from_folder(folder, lambda: KEYS)
    assert "\n" not in str(caught.value)
    shutil.rmtree(folder.parent)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@SMALL
@given(data=st.data(), value=JSON)
def test_any_value_in_any_field_is_read_or_refused_in_our_words(
    tmp_path_factory: pytest.TempPathFactory, plain: Path, data: st.DataObject, value: Any
) -> None:
    document = json.loads((plain / CONFIG).read_text())
    names = [*document, *(f"{name}.{inner}" for name in ("input", "policy", "model_args") for inner in document[name])]
    put(data.draw(st.sampled_from(names)), value)(document)
    folder = tmp_path_factory.mktemp("strange") / "model"
    shutil.copytree(plain, folder)
    if data.draw(st.booleans()):
        document["checksum"] = checksum(document)
    text = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    (folder / CONFIG).write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(MedVeilError) as caught:
        from_folder(folder, no_keys)
        # Drawn what was there already.
        raise IntegrityError("unchanged") if document == json.loads((plain / CONFIG).read_text()) else AssertionError
    assert "\n" not in str(caught.value)
    shutil.rmtree(folder.parent)


# -- the command -------------------------------------------------------------------------------------------------------


@pytest.fixture
def at(tmp_path: Path, images: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A site that kept no model, and whose passphrase nobody gives."""
    monkeypatch.setenv("MEDVEIL_PASSPHRASE", "seven horses")
    file = tmp_path / "enrol" / "site.yaml"
    words = ["server=127.0.0.1:9092", f"data.path={images}", "data.source=dicom", "device=cpu"]
    assert main(["enroll", "--name", "mercy", "--out", str(file.parent), *words]) == 0
    monkeypatch.delenv("MEDVEIL_PASSPHRASE", raising=False)
    forget()
    return ["--site", str(file)]


def test_a_site_without_a_model_predicts_with_anothers(
    tmp_path: Path, asked: Path, plain: Path, at: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "p.csv"
    for command in (["export", str(tmp_path / "none")], ["predict", str(asked), "--out", str(out)]):
        assert main([*command, *at]) == 2
        assert "another site's plain export serves here too: 'medveil-site predict" in capsys.readouterr().err
    # No passphrase: nothing here needs the key.
    assert main(["predict", str(asked), "--model", str(plain), "--out", str(out), *at]) == 0
    assert f"5 images, by the model of round 1 of trial in {plain}" in capsys.readouterr().out
    assert len(out.read_text().splitlines()) == 6
    assert main(["predict", str(asked), "--model", str(plain), "--run", "0f", "--out", str(out), *at]) == 2
    assert main(["predict", str(asked), "--model", str(tmp_path), "--out", str(out), *at]) == 3
    assert capsys.readouterr().err.count("error: ") == 2


def test_what_is_no_image_is_told_apart_from_what_was_missed(
    tmp_path: Path,
    asked: Path,
    plain: Path,
    at: list[str],
    *,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder, out = tmp_path / "new", tmp_path / "p.csv"
    shutil.copytree(asked, folder)
    (folder / "labels.csv").write_text("path,label\n")
    (folder / "README").write_text("about")
    (folder / ".DS_Store").write_bytes(b"hidden, as a source of training has it")
    os.mkfifo(folder / "pipe")
    predict = ["predict", str(folder), "--model", str(plain), "--out", str(out), *at]
    assert main(predict) == 0
    said = capsys.readouterr()
    assert "3 files are no images" in said.err
    assert "could not be read" not in said.err
    assert [line.split(",")[0] for line in out.with_name("p.unreadable.csv").read_text().splitlines()[1:]] == [
        "README",
        "labels.csv",
        "pipe",
    ]
    # By its name an image, or of a sort that is not read: something was missed.
    (folder / "a\x1b[2J\n.png").write_bytes(b"")
    (folder / "scan.nii.gz").write_bytes(b"\x1f\x8b")

    def several_lines(*_: Any) -> NoReturn:
        raise MedVeilError("cannot be decoded:\n  by one\n  by another")

    monkeypatch.setattr("fl_client.export.images.LastOpened.open", several_lines)
    (folder / "0.png").rename(folder / "b.png")
    monkeypatch.setattr("fl_client.export.asking._SHOWN", 100)
    assert main(predict) == 3
    said = capsys.readouterr()
    assert "a\\x1b[2J\\n.png: is empty" in said.err
    assert "\x1b" not in said.err
    assert "scan.nii.gz: is of a sort that is not read; convert it to DICOM, PNG or TIFF" in said.err
    assert "b.png: cannot be decoded: by one by another" in said.err
    assert "7 could not be read" in said.err
    monkeypatch.undo()
    assert main(predict) == 6


def test_the_card_says_when_as_all_pages_do(plain: Path) -> None:
    assert re.search(r"\| Kept \| \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC at ", (plain / "MODEL_CARD.md").read_text())
