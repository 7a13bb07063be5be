"""A site that enrolled, with twenty images of two classes and no server."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from cryptography.hazmat.primitives.serialization import Encoding

from fl_client.deployment.enroll import enroll
from fl_client.deployment.own_files import OwnFiles, load_site
from medveil.certificates import make_authority
from medveil.invitation import Invitation
from medveil.signing import SigningKey

WORD = "seven horses correct the battery"
AUTHORITY = make_authority("veil").certificate.public_bytes(Encoding.PEM).decode()


def images(path: Path) -> Path:
    """An npz file of 20 images of 16x16."""
    rng, labels = np.random.default_rng(0), np.arange(20) % 2
    np.savez(path, images=rng.integers(0, 256, (20, 16, 16), dtype=np.uint8), labels=labels)
    return path


def enrolled(folder: Path) -> OwnFiles:
    """The site's files below a folder."""
    invitation = Invitation("veil", "127.0.0.1:9092", AUTHORITY, SigningKey.generate().public)
    settings = ["data.source=npz", f"data.path={images(folder / 'own.npz')}"]
    enroll("st-anna", folder / "site", invitation=invitation, key=None, passphrase=WORD, overrides=settings)
    return load_site(folder / "site" / "site.yaml")
