"""No key leaves its place: not as bytes, not as a stem, not as a pair.

A whole experiment and every command of `medveil-crypto` are run; then everything they said, sent or wrote is searched
for every secret and what is derived from it in every form one would print, and attacked with what would find a key in
disguise. Each attack first finds a key that is really there.
"""

from __future__ import annotations

import base64
import contextlib
import json
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Message
from PIL import Image
from pydicom.data import get_testdata_file
from scipy.optimize import linear_sum_assignment
from sweep import files_below, forms, leaks
from sweep import key_forms as all_forms

from crypto import sealed_file
from crypto.base import StemPermutation
from crypto.cipher import make_cipher
from crypto.cli import main as crypto_main
from crypto.cli import make_parser
from crypto.config import CipherConfig
from crypto.keyfile import load_keyring
from crypto.keys import Key, SimulatedKey
from crypto.passphrase import VARIABLE
from crypto.recipient import load_recipient, load_recipient_key
from crypto.tree.run import run_tree
from crypto.tree.verify import verify_tree
from crypto.tree.workers import Alone, Workers
from fl_client.simulated_host import _simulated_site
from fl_client.stems import StemVault
from medveil.config import from_mapping, load_config
from medveil.contract import ARRAYS
from models.config import ModelConfig
from models.vit import build_vit
from simulations.attacks.solvers.blocks import cut
from simulations.attacks.solvers.matching import recover_key
from simulations.config import ExperimentConfig
from simulations.engines.grid import InProcessGrid
from simulations.run import run_experiment

SIZE, BLOCK, SEED = 32, 8, 3
CIPHER = CipherConfig(scheme="block-pixel", block=BLOCK, negate=True)
SHAPE = {"channels": 1, "height": SIZE, "width": SIZE}
PASSPHRASE = "seven horses correct the battery"

pytestmark = [pytest.mark.e2e]


def key_forms(key: Key) -> set[bytes]:
    """Every form of a key and of what it draws for the cipher of these tests."""
    return all_forms(key, make_cipher(CIPHER, key, **SHAPE))


def test_the_search_finds_what_is_there(tmp_path: Path) -> None:
    key = SimulatedKey(SEED, "site-1")
    rho = make_cipher(CIPHER, key, **SHAPE).stem_permutation().rho
    (tmp_path / "raw").write_bytes(b"x" + key._secret + b"y")
    (tmp_path / "text").write_text(json.dumps({"rho": rho.tolist()}))
    (tmp_path / "base64").write_bytes(base64.b64encode(b"ab" + key.subkey("state") + b"c"))
    np.save(tmp_path / "array.npy", rho)
    (tmp_path / "clean").write_bytes(SimulatedKey(SEED, "site-2")._secret)
    assert leaks(files_below(tmp_path), key_forms(key)) == ["array.npy", "base64", "raw", "text"]


# --- an experiment


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Smooth random images, so that a few pairs give a key and a model learns something."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (120, 8, 8)).astype(np.uint8)
    grown = [np.asarray(Image.fromarray(each).resize((SIZE, SIZE), Image.Resampling.BICUBIC)) for each in coarse]
    noisy = np.clip(np.stack(grown) + rng.integers(-9, 10, (120, SIZE, SIZE)), 0, 255).astype(np.uint8)
    path = tmp_path_factory.mktemp("images") / "images.npz"
    np.savez(path, images=noisy, labels=np.arange(120) % 2)
    return path


def experiment(images: Path, *settings: str) -> ExperimentConfig:
    base = [
        f"name=leaks seed={SEED} rounds=2 sites=2 threads=1 device=cpu",
        f"data.source=npz data.path={images} cipher.block={BLOCK} cipher.negate=true",
        "data.partition.min_per_site=4 model.width=96 model.depth=1 model.heads=2 train.lr=0.0005",
    ]
    return load_config(ExperimentConfig, None, [*" ".join(base).split(), *settings])


class Ran:
    """A finished run: its folder, every tensor that left a site, and what it wrote to stdout, stderr and its log."""

    def __init__(self, folder: Path, published: list[np.ndarray], said: dict[str, bytes]) -> None:
        self.folder, self.published, self.said = folder, published, said
        self.run = json.loads((folder / "manifest.json").read_text())["run"]


@contextlib.contextmanager
def kept(path: Path) -> Iterator[None]:
    """Let what this process and its libraries write to stdout and stderr go to a file."""
    sys.stdout.flush()
    sys.stderr.flush()
    own = {fd: os.dup(fd) for fd in (1, 2)}
    with path.open("wb") as stream:
        for fd in own:
            os.dup2(stream.fileno(), fd)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for fd, before in own.items():
            os.dup2(before, fd)
            os.close(before)


@pytest.fixture(scope="module", params=["per-site adapted", "per-site secret", "shared public"])
def ran(request: pytest.FixtureRequest, images: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ran]:
    keys, init = request.param.split()
    folder = tmp_path_factory.mktemp("ran")
    published: list[np.ndarray] = []
    reply = InProcessGrid._reply

    def overheard(self: InProcessGrid, message: Message) -> Message:
        answer = reply(self, message)
        if answer.has_content() and ARRAYS in answer.content.array_records:
            published.extend(array.numpy() for array in answer.content.array_records[ARRAYS].values())
        return answer

    log, handler = logging.getLogger("medveil"), logging.FileHandler(folder / "log")
    log.addHandler(handler)
    log.setLevel("DEBUG")
    _simulated_site.cache_clear()
    try:
        with pytest.MonkeyPatch.context() as patch, kept(folder / "said"):
            patch.setattr(InProcessGrid, "_reply", overheard)
            run_experiment(experiment(images, f"keys.policy={keys}", f"stem.init={init}"), folder / "run")
    finally:
        log.removeHandler(handler)
        handler.close()
    assert published
    said = {"stdout and stderr": (folder / "said").read_bytes(), "log": (folder / "log").read_bytes()}
    yield Ran(folder / "run", published, said)
    _simulated_site.cache_clear()


def site_keys() -> list[SimulatedKey]:
    return [SimulatedKey(SEED, name) for name in ("site-1", "site-2", "shared", "thief of site-1", "thief of site-2")]


def test_a_run_says_writes_and_sends_no_key(ran: Ran) -> None:
    assert ran.said["log"], "nothing was logged"
    everything = {**ran.said, **files_below(ran.folder)}
    everything |= {f"sent tensor {i}": array.tobytes() for i, array in enumerate(ran.published)}
    for key in site_keys():
        assert leaks(everything, key_forms(key)) == []


# --- the stem, matched against the public one


def match_columns(public: np.ndarray, other: np.ndarray) -> np.ndarray:
    """For each column of `other`, the most alike column of `public`, up to sign, each taken once."""

    def unit(matrix: np.ndarray) -> np.ndarray:
        centred = matrix - matrix.mean(0)
        return centred / np.maximum(np.linalg.norm(centred, axis=0), 1e-12)

    alike = np.abs(unit(other).T @ unit(public))
    rows, columns = linear_sum_assignment(-alike)
    return columns[np.argsort(rows)]


def public_weight(ran: Ran) -> np.ndarray:
    config = json.loads((ran.folder / "manifest.json").read_text())["experiment"]
    values = from_mapping(ModelConfig, config["model"], where="model")
    weight = build_vit(values, seed=SEED).patch_embed.proj.weight.detach().numpy()
    return weight.reshape(len(weight), -1)


def test_no_published_tensor_is_a_stem_that_gives_the_key(ran: Ran) -> None:
    public = public_weight(ran)
    checkpoints = [
        array
        for path in sorted((ran.folder / "checkpoints").glob("*.safetensors"))
        for array in _tensors(path).values()
    ]
    suspects = [each for each in (*ran.published, *checkpoints) if each.size == public.size]
    for key in site_keys():
        rho = make_cipher(CIPHER, key, **SHAPE).stem_permutation().rho
        for suspect in suspects:
            for shaped in (suspect.reshape(public.shape), suspect.reshape(public.shape[::-1]).T):
                assert (match_columns(public, shaped) == rho).mean() < 0.2
    policy = json.loads((ran.folder / "manifest.json").read_text())["experiment"]
    if policy["stem"]["init"] == "adapted":
        # The same matching opens the stem that stayed at home.
        key = SimulatedKey(SEED, "site-1")
        vault = StemVault(ran.folder / "sites" / "site-1" / "stems", run=ran.run, subkey=key.subkey("state"))
        stem = vault.load(before=99)
        assert stem is not None
        at_home = stem[1]["patch_embed.proj.weight"].numpy().reshape(public.shape)
        rho = make_cipher(CIPHER, key, **SHAPE).stem_permutation().rho
        assert (match_columns(public, at_home) == rho).mean() > 0.9


def _tensors(path: Path) -> dict[str, np.ndarray]:
    from safetensors.numpy import load_file  # noqa: PLC0415

    loaded: dict[str, np.ndarray] = load_file(path)
    return loaded


# --- pairs


def opened_by(plain: np.ndarray, hidden: np.ndarray) -> StemPermutation:
    return recover_key(cut(plain, BLOCK), cut(hidden, BLOCK), largest=255, negate=True, rng=np.random.default_rng(0))


def test_the_pairs_a_run_shows_open_nothing_but_themselves(ran: Ran, images: Path) -> None:
    shown = np.load(ran.folder / "examples.npz")
    throwaway = opened_by(shown["original"], shown["ciphertext"])
    plain = np.load(images)["images"][:4, None]
    for key in site_keys():
        cipher = make_cipher(CIPHER, key, **SHAPE)
        true = cipher.stem_permutation()
        # Real pairs of this key give it away: the attack works.
        assert (opened_by(plain, cipher.encrypt(plain)).rho == true.rho).mean() > 0.9
        assert (throwaway.rho == true.rho).mean() < 0.2
        assert (throwaway.pi == true.pi).mean() < 0.5


# --- every command of the steward


@pytest.fixture
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealed_file, "SCRYPT_N", 2**4)
    monkeypatch.setenv(VARIABLE, PASSPHRASE)


def command_names() -> set[str]:
    actions: Any = make_parser()._subparsers._group_actions  # type: ignore[union-attr]
    return set(actions[0].choices)


@pytest.mark.usefixtures("cheap")
def test_no_command_says_or_writes_a_key(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sealed tree is the work of other processes, as every tree is; the others are made in this one."""
    source = tmp_path / "source"
    source.mkdir()
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (SIZE, SIZE), dtype=np.uint8)).save(source / "a.png")
    (source / "ct.dcm").write_bytes(Path(str(get_testdata_file("CT_small.dcm"))).read_bytes())
    work = tmp_path / "work"
    work.mkdir()
    key, friend, shared, opened = (str(work / name) for name in ("m.key", "f.recipient", "m.shared", "o.key"))
    used: set[str] = set()

    def run(*words: str) -> None:
        used.add(words[0])
        log = ("--log-level", "debug", "--log-file", str(work / "log"))
        assert crypto_main([*words, *log]) == 0, words

    hide = ("--key", key, "--block", str(BLOCK), "--negate", "--jobs", "1")
    run("keygen", "--site", "mercy", "--out", key)
    crews = (run_tree.__kwdefaults__, verify_tree.__kwdefaults__)
    for each in crews:
        monkeypatch.setitem(each, "crew", Alone)
    run("encrypt", str(source), str(work / "old"), *hide, "--for", "archive")
    run("rotate", key)
    run("recipient", "--name", "friend", "--out", friend)
    confirmed = load_recipient(f"{friend}.pub").fingerprint
    current = load_keyring(key, PASSPHRASE).current.fingerprint
    run("share", "--key", key, "--to", f"{friend}.pub", "--fingerprint", confirmed, "--out", shared, "--with-retired")
    run("open", shared, "--recipient", friend, "--fingerprint", current, "--out", opened)
    for file in (key, friend, f"{friend}.pub", shared, opened):
        run("inspect", file)
    run("encrypt", str(source), str(work / "training"), *hide, "--for", "training", "--size", str(SIZE))
    for name in ("old", "training", "sealed"):
        if name == "sealed":
            for each in crews:
                monkeypatch.setitem(each, "crew", Workers)
            sealed = ("--for", "archive", "--seal", "--identity", "sealed")
            run("encrypt", str(source), str(work / "sealed"), *hide, *sealed)
        run("verify", str(work / name), "--key", key, "--jobs", "1")
        run("show", str(work / name / ("a.png.mvseal" if name == "sealed" else "a.png")))
        run("decrypt", str(work / name), str(work / f"{name}-shown"), "--key", key, "--jobs", "1")
    run("bench", "--images", "2", "--size", "16", "--seconds", "0.01", "--files", "2")
    (tmp_path / "new.txt").write_text("another one, and as long as it must be")
    run("passphrase", opened, "--new-passphrase-file", str(tmp_path / "new.txt"))
    assert used == command_names(), "a command is not searched"

    ring = load_keyring(key, PASSPHRASE)
    assert len(list(ring)) == 2
    wanted = set().union(*(key_forms(each) for each in ring))
    wanted |= set(forms(load_recipient_key(friend, PASSPHRASE).private_key.private_bytes_raw()))
    wanted |= {PASSPHRASE.encode(), base64.b64encode(PASSPHRASE.encode())[:-4]}
    everything = {"stdout and stderr": "".join(capfd.readouterr()).encode(), **files_below(work)}
    assert leaks(everything, wanted) == []
