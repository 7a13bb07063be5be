"""insider: a hospital that holds the key opens what another hospital hid."""

from __future__ import annotations

import numpy as np

from simulations.attacks.study.attack import Knowledge
from simulations.attacks.study.cases import Seen
from simulations.attacks.study.image_attack import ImageAttack
from simulations.attacks.study.scores import Pixels


class Insider(ImageAttack):
    """Decrypt with the key at hand. Nothing is broken: this is what a shared key lets each of its holders do."""

    name = "insider"
    knowledge = frozenset({Knowledge.CIPHERTEXTS, Knowledge.KEY})
    text = (
        "A hospital of the consortium came by another one's hidden images and decrypts them with the key it holds. In "
        "the column target both hide under one key (keys.policy=shared), and every scheme opens, the strongest too. In "
        "the column wrong key each has its own (per-site), and the insider's is of no use for this. A store on a "
        "hospital's disk is sealed besides, under that hospital's own key whatever hides the images: --stolen "
        "measures that."
    )
    margin = 0.2
    control = "none"
    in_all = False
    weight = 0.5

    def recover(self, seen: Seen, rng: np.random.Generator) -> Pixels:
        """Open them."""
        hidden = seen.ciphertexts
        made: Pixels = np.clip(seen.cipher.decrypt(hidden.images, hidden.nonces), 0, seen.geometry.largest)
        return made.astype(np.uint8)
