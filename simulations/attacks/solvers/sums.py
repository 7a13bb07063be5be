"""Who is in a sum of updates, and with what: tests on sums that secure aggregation opens.

Ngo et al., "Secure Aggregation is Not Private Against Membership Inference Attacks" (arXiv 2403.17775): the server
knows two updates one site may have sent, and asks which of them is in the sum. The other sites' updates are noise that
nobody controls, normal with a mean and a covariance the server knows from updates of its own; in many dimensions they
hide little.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

_DIMENSIONS_A_REFERENCE = 0.5
_SHRINK = 1e-3


class Noise:
    """What other sites' updates are like, learnt from updates of the attacker's own.

    The covariance has as many dimensions as a model has weights, and few updates to know it by. Along the directions in
    which those updates differ it is theirs; across them it is the mean of what is left out, spread evenly.

    Parameters
    ----------
    updates
        float64 (m, d), m of at least 2.
    """

    def __init__(self, updates: Floats) -> None:
        self.mean: Floats = updates.mean(axis=0)
        centred = updates - self.mean
        m, d = centred.shape
        # Singular values of centred updates: variances along as many directions as the references can tell.
        _, values, rows = np.linalg.svd(centred, full_matrices=False)
        kept = max(1, min(len(values) - 1, int(_DIMENSIONS_A_REFERENCE * m)))
        variances = values**2 / max(m - 1, 1)
        self._rows: Floats = rows[:kept]
        rest = float(variances[kept:].sum()) / max(d - kept, 1)
        self._rest = max(rest, _SHRINK * float(variances.sum()) / d, np.finfo(np.float64).tiny)
        self._along: Floats = np.maximum(variances[:kept], self._rest)

    def distance(self, residual: Floats, sites: int) -> float:
        """Squared Mahalanobis distance of what is left of a sum from `sites` updates' noise."""
        off = residual - sites * self.mean
        along = self._rows @ off
        across = float(off @ off - along @ along)
        return float((along**2 / self._along).sum() + across / self._rest) / max(sites, 1)


def which_of_two(total: Floats, first: Floats, second: Floats, noise: Noise, *, others: int) -> float:
    """Log-likelihood ratio of the sum holding the second update rather than the first: above 0 for the second.

    Parameters
    ----------
    total
        The sum (d,).
    first, second
        What the site may have sent.
    noise
        Of the other sites.
    others
        How many those are; 0 where the site is alone.
    """
    if not others:
        return float(((total - first) ** 2).sum() - ((total - second) ** 2).sum())
    return (noise.distance(total - first, others) - noise.distance(total - second, others)) / 2


def cosine(first: Floats, second: Floats) -> float:
    """Cosine of two updates (d,); 0 where one is of no length."""
    length = float(np.linalg.norm(first) * np.linalg.norm(second))
    return float(first @ second) / length if length > 0 else 0.0


def difference(with_site: Floats, without: Floats) -> Floats:
    """What one site adds to a sum, from a round's sum with it and another round's without it.

    As training goes on and its rate falls, the same sites' sum grows shorter or longer: the other round's is taken out
    as far as it explains this one by least squares, never more than once.

    Parameters
    ----------
    with_site, without
        Sums (d,) of the same sites, but for the one.
    """
    square = float(without @ without)
    factor = float(with_site @ without) / square if square > 0 else 0.0
    made: Floats = with_site - min(max(factor, 0.0), 1.0) * without
    return made
