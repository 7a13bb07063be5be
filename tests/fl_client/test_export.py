"""The model a site keeps of a run: restored, exported, calibrated, asked about images."""

from __future__ import annotations

import csv
import io
import json
import logging
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from one_site import SIZE, evaluated
from PIL import Image
from safetensors.torch import load, load_file
from scipy import stats
from scipy.special import softmax

from crypto import sealed_file
from crypto.config import CipherConfig
from crypto.files.recipe import Recipe
from crypto.files.registry import kind_of
from crypto.keyring import Keyring
from crypto.keys import SiteKey
from fl_client.cli import main
from fl_client.data.config import PhantomConfig
from fl_client.data.phantoms import draw_phantoms
from fl_client.deployment.own_keys import OwnKeys
from fl_client.export import calibration, onnx_file
from fl_client.export.data_card import data_card
from fl_client.export.domain import cipher_of, model_of, restored
from fl_client.export.facts import facts_of
from fl_client.export.fields import SEALED
from fl_client.export.held import MODELS, find_kept
from fl_client.export.images import Asked, Reader
from fl_client.export.kept import KeptModel, open_kept
from fl_client.export.onnx_file import onnx_bytes
from fl_client.export.predicting import logits_of, predict_files
from fl_client.export.ready import from_kept
from fl_client.export.sealed_model import open_sealed
from fl_client.export.write import export_hidden, export_plain
from fl_client.looked.asking import shares_of, write_page
from fl_client.site import Site
from medveil.errors import ConfigError, DataError, IntegrityError, KeyMaterialError, PolicyError
from models.rollout import rollout
from models.vit import normalise

KEYS = OwnKeys(Keyring(SiteKey.generate("st-anna")), Keyring(SiteKey.generate("shared")))


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealed_file, "SCRYPT_N", 2**4)
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    draw_phantoms(folder, PhantomConfig(sites=1, images=80, classes=2, size=SIZE))
    return folder


def predictions_of(site: Site) -> Any:
    return np.load(io.BytesIO(site.setup.documents.read_bytes("predictions.npz")))


def kept_of(site: Site) -> KeptModel:
    return open_kept(find_kept(site.setup.folder / MODELS, None), KEYS.own)


@pytest.fixture(scope="module")
def adapted(tmp_path_factory: pytest.TempPathFactory, images: Path) -> Site:
    return evaluated(tmp_path_factory.mktemp("site"), images, KEYS, name="trial|one")


def some(n: int = 6) -> np.ndarray:
    return np.random.default_rng(5).integers(0, 256, (n, 1, SIZE, SIZE), dtype=np.uint8)


def timm_model(folder: Path) -> torch.nn.Module:
    """The exported model as someone without MedVeil builds it, from config.json alone."""
    import timm  # noqa: PLC0415 - models.vit declares what its torchvision lacks, and must come first

    config = json.loads((folder / "config.json").read_text())
    model = timm.create_model(config["architecture"], pretrained=False, **config["model_args"])
    model.load_state_dict(load_file(folder / "model.safetensors"))
    return model.eval()


# -- equality ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("negate", [True, False])
def test_exported_on_plain_images_is_the_sites_model_on_ciphertexts(tmp_path: Path, images: Path, negate: bool) -> None:
    site = evaluated(tmp_path / "site", images, KEYS, cipher={"scheme": "block-pixel", "block": 8, "negate": negate})
    kept = kept_of(site)
    export_plain(kept, KEYS, tmp_path / "out")
    plain = some()
    hidden = site.cipher.encrypt(plain)
    assert not np.array_equal(plain, hidden)
    own = logits_of(model_of(kept), torch.from_numpy(hidden), site.cipher.reading)
    numbers = torch.from_numpy((2 * plain.astype(np.float32) - 255) / 255)
    with torch.no_grad():
        exported = timm_model(tmp_path / "out")(numbers).double()
    assert torch.allclose(exported, own, rtol=0, atol=1e-5)
    # And the stem was indeed moved: without that the answers are off by a hundred times the tolerance and more.
    unmoved = logits_of(model_of(kept), torch.from_numpy(plain), site.cipher.reading)
    assert (unmoved - own).abs().max() > 1e-3


def test_the_kept_model_is_the_one_that_was_measured(adapted: Site) -> None:
    kept, part = kept_of(adapted), adapted.store.part("test")
    pixels = torch.from_numpy(part.batch(np.arange(len(part))))
    said = softmax(logits_of(model_of(kept), pixels, part.reading).numpy(), axis=1)
    written = predictions_of(adapted)["probabilities"]
    np.testing.assert_allclose(said, written, atol=1e-5)


@pytest.mark.slow
def test_onnx_gives_the_same_logits(tmp_path: Path, adapted: Site) -> None:
    pytest.importorskip("onnxscript", reason="the extra 'onnx' is not installed")
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    kept = kept_of(adapted)
    export_plain(kept, KEYS, tmp_path / "out", onnx=True)
    session = runtime.InferenceSession(tmp_path / "out" / "model.onnx", providers=["CPUExecutionProvider"])
    plain = some()
    own = logits_of(model_of(kept), torch.from_numpy(adapted.cipher.encrypt(plain)), adapted.cipher.reading).numpy()
    for n in (1, 5):
        (given,) = session.run(None, {"pixels": normalise(torch.from_numpy(plain[:n])).numpy()})
        np.testing.assert_allclose(given, own[:n], atol=1e-4)


def test_onnx_without_its_extra_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_file, "NEEDS", ("no_such_module_of_ours",))
    with pytest.raises(ConfigError, match=r"needs no_such_module_of_ours; install the extra: .*medveil\[onnx\]"):
        onnx_bytes(torch.nn.Identity(), channels=1, side=8)


# -- what may leave ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"stem_init": "secret"}, "drawn in secret"),
        ({"keys": "none", "cipher": {"scheme": "none", "block": 8}, "stem_init": "secret"}, "drawn in secret"),
        ({"stem_init": "public"}, "give the key away"),
        ({"keys": "shared", "stem_init": "public", "stem_train": "averaged"}, "give the key away"),
        ({"cipher": {"scheme": "orthogonal", "block": 8}}, "along the axes of the key's matrix"),
    ],
)
def test_what_would_give_more_than_a_model_leaves_sealed_only(
    tmp_path: Path, images: Path, changes: dict[str, Any], reason: str
) -> None:
    kept = kept_of(evaluated(tmp_path / "site", images, KEYS, **changes))
    with pytest.raises(PolicyError, match=f"{reason}.*--hidden"):
        export_plain(kept, KEYS, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    export_hidden(kept, KEYS, tmp_path / "out")
    assert not list((tmp_path / "out").glob("*.safetensors"))


def test_moving_a_public_stem_back_would_give_the_key(tmp_path: Path, images: Path) -> None:
    """The reason of the refusal above, shown: columns of the moved stem match the public ones in the key's order."""
    site = evaluated(tmp_path / "site", images, KEYS, stem_init="public")
    kept, moves = kept_of(site), site.cipher.stem_permutation()
    public = site.bench.public["patch_embed.proj.weight"].flatten(1)
    moved = kept.tensors["patch_embed.proj.weight"].flatten(1) * (1 - 2 * torch.from_numpy(moves.mask).float())
    moved = moved[:, torch.from_numpy(moves.rho.astype(np.int64)).argsort()]
    unit = torch.nn.functional.normalize
    match = (unit(moved, dim=0).T @ unit(public, dim=0)).abs().argmax(0)
    assert (match.numpy() == moves.rho).mean() > 0.9
    # What adapted exports does not: its columns match the public ones in their own places.
    twin = kept_of(evaluated(tmp_path / "adapted", images, KEYS))
    open_ = restored(twin, cipher_of(twin, KEYS)).patch_embed.proj.weight.detach().flatten(1)
    match = (unit(open_, dim=0).T @ unit(public, dim=0)).abs().argmax(0)
    assert (match.numpy() == np.arange(len(match))).mean() > 0.9


def test_hidden_is_sealed_and_says_that_it_bears_the_key(tmp_path: Path, adapted: Site) -> None:
    kept = kept_of(adapted)
    export_hidden(kept, KEYS, tmp_path / "out")
    sealed = tmp_path / "out" / SEALED
    assert sealed.name.startswith("KEY-BEARING")
    assert json.loads((tmp_path / "out" / "config.json").read_text())["label"].startswith("KEY-BEARING")
    with pytest.raises(KeyMaterialError):
        open_sealed(sealed, Keyring(SiteKey.generate("st-anna")))
    opened = load(open_sealed(sealed, KEYS.own))
    assert opened.keys() == kept.tensors.keys()
    assert all(torch.equal(opened[name], kept.tensors[name]) for name in opened)
    assert (tmp_path / "out").stat().st_mode & 0o077 == 0


def test_a_kept_model_opens_with_its_own_key_and_with_a_rotated_one(tmp_path: Path, adapted: Site) -> None:
    path = find_kept(adapted.setup.folder / MODELS, "0f2c")
    assert path.stat().st_mode & 0o077 == 0
    with pytest.raises(IntegrityError, match="wrong key"):
        open_kept(path, Keyring(SiteKey.generate("st-anna")))
    assert open_kept(path, KEYS.own.rotated("2026-11-24")).facts["round"] == 1
    moved = tmp_path / "00000000-0000-0000-0000-000000000000.sealed"
    shutil.copy(path, moved)
    with pytest.raises(IntegrityError):
        open_kept(moved, KEYS.own)
    with pytest.raises(ConfigError, match="0f2c7cf0"):
        find_kept(path.parent, "ffff")
    with pytest.raises(ConfigError, match="no model is kept here"):
        find_kept(tmp_path / "nothing", None)


def test_a_simulated_site_keeps_no_model(tmp_path: Path, images: Path) -> None:
    evaluated(tmp_path, images, KEYS, keep_model=False)
    assert not (tmp_path / MODELS).exists()


def test_a_folder_that_is_there_is_left_alone(tmp_path: Path, adapted: Site) -> None:
    (tmp_path / "note").write_text("mine")
    with pytest.raises(ConfigError, match="is there already"):
        export_plain(kept_of(adapted), KEYS, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["note"]


# -- cards -------------------------------------------------------------------------------------------------------------


def test_the_cards_say_what_was_measured(tmp_path: Path, adapted: Site) -> None:
    kept = kept_of(adapted)
    export_plain(kept, KEYS, tmp_path / "out")
    card, data = ((tmp_path / "out" / name).read_text() for name in ("MODEL_CARD.md", "DATA_CARD.md"))
    written = predictions_of(adapted)
    right = written["probabilities"].argmax(1) == written["labels"]
    hits, n = right.mean(), len(right)
    assert f"| Accuracy | {hits:.3f} |" in card
    # Wilson's interval by his formula, with Student's t and as many images as have the variance found between groups.
    names = np.unique(written["groups"])
    off = [(right[written["groups"] == name] - hits).sum() for name in names]
    size = hits * (1 - hits) / (len(names) / (len(names) - 1) * np.square(off).sum() / n**2)
    z = stats.t.ppf(0.975, len(names) - 1)
    middle = (hits + z * z / (2 * size)) / (1 + z * z / size)
    half = z * np.sqrt(hits * (1 - hits) / size + z * z / (4 * size * size)) / (1 + z * z / size)
    assert f"{middle - half:.3f} to {middle + half:.3f}" in card
    assert "not a medical device" in card
    assert "trial\\|one" in card
    assert "per-site + adapted + local" in card
    train = np.bincount(adapted.store.part("train").labels)
    test = np.bincount(adapted.store.part("test").labels)
    assert f"| none | {train[0]} |" in data
    assert 0 < test[0] < 10
    assert "fewer than 10" in data
    for text in (card, data):
        assert "nan" not in text.lower().split()
        assert "None" not in text


@pytest.mark.parametrize("lone", [0, 3, 9])
def test_images_without_a_group_are_counted_on_no_card(
    adapted: Site, monkeypatch: pytest.MonkeyPatch, lone: int
) -> None:
    """A warning of the site's log names how many there are, of how many in all; the card may be handed out."""
    monkeypatch.setattr(adapted.source, "ungrouped", lone)
    monkeypatch.setattr(adapted.source, "warnings", (f"{lone} of 43 images carry no PatientID",) if lone else ())
    part = {name: adapted.store.part(name) for name in ("validation", "test")}
    said = {name: np.full((len(each.labels), 2), 0.5, np.float32) for name, each in part.items()}
    metrics = {"test-n": 0.0, "test-accuracy": float("nan")}
    card = data_card(facts_of(adapted, 1, metrics, said))
    assert "of 43" not in card
    assert "- images that carry nothing to be kept together by: fewer than 10" in card


def test_the_cards_of_a_site_that_tells_little_tell_no_more(tmp_path: Path, images: Path) -> None:
    site = evaluated(tmp_path / "site", images, KEYS, smallest=10)
    kept = kept_of(site)
    export_plain(kept, KEYS, tmp_path / "out")
    card, data = ((tmp_path / "out" / name).read_text() for name in ("MODEL_CARD.md", "DATA_CARD.md"))
    counts = [np.bincount(site.store.part(part).labels, minlength=2) for part in ("validation", "test")]
    assert all(0 < count < 10 for part in counts for count in part)
    assert data.count("fewer than 10") >= 4
    assert "| Accuracy | not measured | not measured |" in card
    assert "No interval" in card
    assert kept.facts["calibration"]["test_before"] is None
    assert kept.facts["calibration"]["n"] == 0


# -- calibration -------------------------------------------------------------------------------------------------------


def slow_error(said: np.ndarray, labels: np.ndarray) -> float:
    """The formula of Guo et al. (2017), equation 3, bin by bin and image by image."""
    total = 0.0
    for number in range(15):
        inside = [i for i, p in enumerate(said.max(1)) if number / 15 < p <= (number + 1) / 15]
        if inside:
            right = sum(said[i].argmax() == labels[i] for i in inside) / len(inside)
            total += len(inside) / len(labels) * abs(right - sum(said[i].max() for i in inside) / len(inside))
    return total


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 60), st.integers(2, 5), st.floats(0.1, 8))
def test_the_calibration_error_is_the_papers(seed: int, n: int, classes: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    said, labels = softmax(rng.normal(size=(n, classes)) * scale, axis=1), rng.integers(0, classes, n)
    assert calibration.calibration_error(said, labels) == pytest.approx(slow_error(said, labels), abs=1e-9)


@pytest.mark.parametrize("temperature", [0.4, 1.0, 2.5])
def test_the_temperature_that_spoilt_the_logits_is_found(temperature: float) -> None:
    rng = np.random.default_rng(0)
    true = rng.normal(size=(20000, 3)) * 2
    labels = np.array([rng.choice(3, p=row) for row in softmax(true, axis=1)])
    found = calibration.fit_temperature(true * temperature, labels)
    assert found == pytest.approx(temperature, rel=0.05)
    made = calibration.calibrate((true * temperature, labels), (true * temperature, labels))
    assert made.test_after is not None
    assert made.test_after < 0.02


def test_too_few_images_calibrate_nothing() -> None:
    logits, labels = np.array([[9.0, 0.0]] * 9), np.ones(9, dtype=np.int64)
    empty = (np.zeros((0, 2)), np.zeros(0, dtype=np.int64))
    made = calibration.calibrate((logits, labels), empty)
    assert (made.temperature, made.n, made.test_before, made.test_after) == (1.0, 9, None, None)


# -- predicting --------------------------------------------------------------------------------------------------------


def test_plain_and_hidden_images_get_the_same_answers(tmp_path: Path, images: Path, adapted: Site) -> None:
    kept, plain, hidden = kept_of(adapted), tmp_path / "plain", tmp_path / "hidden"
    hidden.mkdir()
    shutil.copytree(images / "hospital-1", plain)
    cipher = CipherConfig(scheme="block-pixel", block=8, negate=True)
    recipe = Recipe(purpose="training", cipher=cipher, size=SIZE, channels=1)
    for path in sorted(plain.rglob("*.dcm")):
        kind = kind_of(path)
        assert kind is not None
        kind.hide(path, hidden / path.name, recipe, KEYS.own.current)
    open_ = predict_files(from_kept(kept, lambda: KEYS), plain, device=torch.device("cpu"))
    closed = predict_files(from_kept(kept, lambda: KEYS), hidden, device=torch.device("cpu"))
    assert not open_.skipped
    assert not closed.skipped
    by_name = {Path(each).name: row for each, row in zip(open_.ids, open_.probabilities, strict=True)}
    assert set(by_name) == set(closed.ids)
    for each, row in zip(closed.ids, closed.probabilities, strict=True):
        np.testing.assert_allclose(row, by_name[each], atol=1e-6)
    np.testing.assert_allclose(open_.probabilities.sum(1), 1)
    # Under another key they are refused by name, not answered.
    other = tmp_path / "other"
    other.mkdir()
    path = next(plain.rglob("*.dcm"))
    kind_of(path).hide(path, other / "x.dcm", recipe, SiteKey.generate("st-anna"))  # type: ignore[union-attr]
    answers = predict_files(from_kept(kept, lambda: KEYS), other, device=torch.device("cpu"))
    assert not answers.ids
    assert "the model reads block-pixel, block 8, under " + kept.facts["fingerprint"] in answers.skipped[0].reason


def test_answers_are_the_calibrated_ones_of_the_store(images: Path, adapted: Site) -> None:
    kept, part = kept_of(adapted), adapted.store.part("test")
    answers = predict_files(from_kept(kept, lambda: KEYS), images, device=torch.device("cpu"))
    by_id = dict(zip(answers.ids, answers.probabilities, strict=True))
    written = predictions_of(adapted)
    for each, said in zip(written["ids"], written["probabilities"], strict=True):
        scaled = said.astype(np.float64) ** (1 / kept.temperature)
        np.testing.assert_allclose(by_id[each], scaled / scaled.sum(), atol=1e-4)
    assert len(part) == len(written["ids"])
    assert [each.path for each in answers.no_images] == ["labels.csv", "phantoms.json"]
    assert not answers.skipped


def test_the_page_of_a_site_shows_its_images_and_where_attention_went(
    tmp_path: Path, images: Path, adapted: Site
) -> None:
    ready = from_kept(kept_of(adapted), lambda: KEYS)
    folder = tmp_path / "images"
    rng = np.random.default_rng(4)
    for name in ("none", "mass", "elsewhere"):
        (folder / name).mkdir(parents=True)
        for number in range(3):
            Image.fromarray(rng.integers(0, 256, (SIZE, SIZE), np.uint8)).save(folder / name / f"{number}.png")
    answers = predict_files(ready, folder, device=torch.device("cpu"))
    gone = folder / "none" / "0.png"
    Image.fromarray(np.zeros((SIZE, SIZE), np.uint8)).save(gone)
    page = tmp_path / "page.html"
    shown = write_page(ready, answers, page, named="the model", device=torch.device("cpu"))
    text = page.read_text()
    assert text.count('class="tint"') == shown
    assert page.stat().st_mode & 0o777 == 0o600
    assert "it is for this site alone" in text
    assert "none/0.png" not in text, "it was replaced since it was answered about"
    answered = answers.probabilities.argmax(axis=1)
    for name, label in (("none", 0), ("mass", 1)):
        for each, answer in zip(answers.ids, answered, strict=True):
            if each.startswith(name) and each in text:
                kind = "hit" if answer == label else "miss"
                assert f'"{kind}: image of {name}' in text
    assert ">answer</b>" in text, "in a folder of another name nobody knows"
    asked = next(each for each in Reader(ready).read(folder / "mass" / "1.png") if isinstance(each, Asked))
    plain = restored(kept_of(adapted), ready.cipher)
    wanted = rollout(plain, normalise(torch.from_numpy(asked.plain[None])))[0]
    np.testing.assert_allclose(shares_of(ready, asked, torch.device("cpu")), wanted, atol=1e-6)


def test_what_cannot_be_read_is_listed_with_its_reason(tmp_path: Path, images: Path, adapted: Site) -> None:
    kept, folder = kept_of(adapted), tmp_path / "images"
    folder.mkdir()
    whole = next(images.rglob("*.dcm")).read_bytes()
    (folder / "cut.dcm").write_bytes(whole[: len(whole) // 2])
    (folder / "text.dcm").write_text("no image")
    (folder / "notes.txt").write_text("no image")
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(folder / "tiny.png")
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(folder / "good.png")
    answers = predict_files(from_kept(kept, lambda: KEYS), folder, device=torch.device("cpu"))
    assert answers.ids == ["good.png"]
    reasons = {each.path: each.reason for each in answers.skipped}
    assert reasons.keys() == {"cut.dcm", "text.dcm", "tiny.png"}
    assert answers.no_images == [("notes.txt", "not an image")]
    assert "4x4 pixels" in reasons["tiny.png"]
    assert reasons["text.dcm"] == "is named like an image and is none"
    with pytest.raises(DataError, match="no such file"):
        predict_files(from_kept(kept, lambda: KEYS), tmp_path / "nowhere", device=torch.device("cpu"))


# -- the commands ------------------------------------------------------------------------------------------------------


def test_the_commands_export_and_predict(
    tmp_path: Path, images: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from crypto.keyfile import load_keyring  # noqa: PLC0415
    from fl_client.deployment.own_files import load_site  # noqa: PLC0415

    monkeypatch.setenv("MEDVEIL_PASSPHRASE", "seven horses")
    site_file = tmp_path / "enrol" / "site.yaml"
    words = ["server=127.0.0.1:9092", f"data.path={images}", "data.source=dicom", "device=cpu"]
    assert main(["enroll", "--name", "st-anna", "--out", str(site_file.parent), *words]) == 0
    logging.getLogger("medveil").propagate = True
    at = ["--site", str(site_file)]
    assert main(["predict", str(images), "--out", str(tmp_path / "p.csv"), *at]) == 2
    assert "no model is kept here" in capsys.readouterr().err
    files = load_site(site_file)
    ring = load_keyring(files.path(files.config.key), "seven horses")
    monkeypatch.setitem(globals(), "KEYS", OwnKeys(ring))
    evaluated(files.own, images, KEYS)
    assert main(["predict", str(images / "hospital-1"), "--out", str(tmp_path / "p.csv"), *at]) == 0
    rows = list(csv.DictReader((tmp_path / "p.csv").open()))
    assert len(rows) == 80
    assert list(rows[0]) == ["image", "p(none)", "p(mass)", "class"]
    assert all(float(row["p(none)"]) + float(row["p(mass)"]) == pytest.approx(1, abs=2e-6) for row in rows)
    assert list(csv.reader((tmp_path / "p.unreadable.csv").open())) == [["image", "reason"]]
    # Reports where they are asked for; the options need each other.
    codes = tmp_path / "codes.yaml"
    codes.write_text("classes: {none: {code: a, scheme: 99X, meaning: A}, mass: {code: b, scheme: 99X, meaning: B}}")
    asked = ["predict", str(next(images.rglob("*.dcm"))), "--out", str(tmp_path / "p.csv"), *at]
    capsys.readouterr()
    for options in (["--codes", str(codes)], ["--sr-per", "series"], ["--dicom-sr", str(tmp_path / "sr")]):
        assert main([*asked, *options]) == 2
        assert "without" in capsys.readouterr().err
    if find_spec("highdicom") is not None:
        assert main([*asked, "--dicom-sr", str(tmp_path / "sr"), "--codes", str(codes), "--sr-per", "series"]) == 0
        assert "1 report of 1 images, with the patients' names; RESEARCH USE ONLY" in capsys.readouterr().out
        assert list((tmp_path / "sr").glob("*.dcm"))
    # A table among them is listed, and nothing was missed.
    capsys.readouterr()
    assert main(["predict", str(images), "--out", str(tmp_path / "p.csv"), *at]) == 0
    said = capsys.readouterr().err
    assert "labels.csv: not an image" in said
    assert "2 files are no images" in said
    listed = dict(csv.reader((tmp_path / "p.unreadable.csv").open()))
    assert listed == {"image": "reason", "labels.csv": "not an image", "phantoms.json": "not an image"}
    assert main(["predict", str(images / "labels.csv"), "--out", str(tmp_path / "p.csv"), *at]) == 3
    assert main(["export", str(tmp_path / "model"), *at]) == 0
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == [
        "DATA_CARD.md",
        "MODEL_CARD.md",
        "config.json",
        "model.safetensors",
    ]
    assert main(["export", str(tmp_path / "sealed"), "--hidden", "--onnx", *at]) == 2
    assert main(["export", str(tmp_path / "sealed"), "--hidden", *at]) == 0
    assert load(open_sealed(tmp_path / "sealed" / SEALED, ring))
