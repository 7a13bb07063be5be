"""From ciphertexts alone to the layout of a block: which position came from which place, channel and polarity.

Neighbouring pixels of an image are alike, and a cipher that treats all blocks alike keeps it so: over many blocks the
values at two positions correlate the more, the nearer their places were. Correlations make a neighbour graph, its
shortest paths make distances, multidimensional scaling makes a map of them, and an assignment puts the map on the grid.
A negated position only changes the sign of its correlations. The map is found up to the eight symmetries of the square.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.optimize import linear_sum_assignment
from scipy.sparse.csgraph import breadth_first_order, minimum_spanning_tree, shortest_path

from simulations.attacks.solvers import symmetries
from simulations.attacks.solvers.blocks import Flags, Indices, Pixels, cut

Floats = npt.NDArray[np.float64]

_NEIGHBOURS = 8
_ANGLES = 18
_STARTS = 4
_ROUNDS = 20
_TONES = 32
"""Steps of grey, from the middle outwards, that the values of a position are counted in."""
_CHUNK = 16
"""Images whose products are summed at a time."""


class Layout(NamedTuple):
    """Where each position of a hidden block came from, up to a symmetry of the square and the names of channels."""

    channel: Indices
    place: Indices
    mask: Flags

    def rho(self, edge: int) -> Indices:
        """The in-block order in the form of a key's rho: ``channel * edge**2 + place``."""
        return self.channel * edge**2 + self.place


@dataclass
class Moments:
    """Sums over blocks, to which images are added; memory does not grow with their number."""

    length: int
    largest: int
    count: int = 0
    first: Floats = field(init=False)
    second: Floats = field(init=False)
    tones: Floats = field(init=False)

    def __post_init__(self) -> None:
        self.first = np.zeros(self.length)
        self.second = np.zeros((self.length, self.length))
        self.tones = np.zeros((self.length, _TONES))

    def add(self, images: Pixels, block: int) -> None:
        """Count the blocks of images (n, C, H, W)."""
        for start in range(0, len(images), _CHUNK):
            blocks = cut(images[start : start + _CHUNK], block).reshape(-1, self.length)
            # Single precision is exact enough for one chunk, and twice as fast.
            values = blocks.astype(np.float32) - np.float32(self.largest / 2)
            self.count += len(values)
            self.first += values.sum(axis=0, dtype=np.float64)
            self.second += values.T @ values
            # Of a value and its negative alike: the distance from the middle grey.
            tone = (np.abs(values) * (2 * _TONES / (self.largest + 1))).astype(np.int64)
            cells = (tone + _TONES * np.arange(self.length)).ravel()
            self.tones += np.bincount(cells, minlength=self.tones.size).reshape(self.tones.shape)

    @property
    def means(self) -> Floats:
        """Mean of each position, measured from the middle grey."""
        return self.first / self.count

    @property
    def covariance(self) -> Floats:
        """Covariance of positions, float64 (L, L)."""
        made: Floats = self.second / self.count - np.outer(self.means, self.means)
        return made

    @property
    def correlation(self) -> Floats:
        """Correlation of positions; 0 for positions that never change."""
        covariance = self.covariance
        deviation = np.sqrt(np.maximum(np.diag(covariance), 0))
        scale = np.divide(1, deviation, out=np.zeros_like(deviation), where=deviation > 1e-3)
        made: Floats = np.clip(covariance * np.outer(scale, scale), -1, 1)
        return made


def recover_layout(moments: Moments, channels: int, *, negate: bool, rng: np.random.Generator) -> Layout:
    """Recover the layout of a block from the moments of its positions.

    Parameters
    ----------
    moments
        Of hidden blocks.
    channels
        C; a block has C * edge**2 positions.
    negate
        Whether the scheme may negate positions.
    rng
        Decides ties.
    """
    order = rng.permutation(moments.length)
    correlation = moments.correlation[order][:, order]
    mask = polarities(correlation) if negate else np.zeros(moments.length, np.bool_)
    sign = np.where(mask, -1, 1)
    likeness = correlation * np.outer(sign, sign)
    members = _same_places(likeness, channels)
    if members is not None:
        grid = place_on_grid(likeness[np.ix_(members[0], members[0])])
        parts = [_Channel(each, grid, False) for each in members]
    else:
        cumulated = np.cumsum(moments.tones[order], axis=1) / moments.count
        ways = split_channels(likeness, channels, tones=cumulated)
        parts = max((_laid_out(likeness, way) for way in ways), key=lambda each: _closeness(likeness, each))
    channel, place = np.empty((2, moments.length), np.intp)
    flips = np.empty(moments.length, np.bool_)
    for number, part in enumerate(parts):
        at = order[part.members]
        channel[at], place[at] = number, part.grid
        flips[at] = mask[part.members] ^ (part.negative and negate)
    return Layout(channel, place, flips)


class _Channel(NamedTuple):
    """Positions of one channel, the place of each, and whether the channel is a negative of the first one."""

    members: Indices
    grid: Indices
    negative: bool


def place_on_grid(likeness: Floats) -> Indices:
    """Put edge**2 things on a square grid, like ones near each other: the place of each, intp (edge**2,)."""
    # The map that fills the square best may be a wrong turn of it, which refining does not leave.
    refined = [_refined(likeness, layout) for layout in _fitted(_embedded(likeness))]
    return max(refined, key=lambda layout: _nearness(likeness, layout))


def polarities(correlation: Floats) -> Flags:
    """Which positions are negated, relative to the first: signs along the strongest correlations."""
    # An edge of weight 0 would be none to scipy.
    tree = minimum_spanning_tree(sparse.csr_matrix(1 + 1e-9 - np.abs(correlation)))
    both = tree + tree.T
    order, before = breadth_first_order(both, 0, directed=False)
    sign = np.ones(len(correlation))
    for node in order[1:]:
        sign[node] = sign[before[node]] * (1 if correlation[node, before[node]] >= 0 else -1)
    made: Flags = sign < 0
    return made


def split_channels(likeness: Floats, channels: int, *, tones: Floats) -> list[list[Indices]]:
    """Sort positions into channels of equal size, in two ways; which is right shows when they are laid out.

    The values of a channel are distributed alike at all its places: positions are told apart by the cumulative
    distributions of their tones, (L, steps). And where channels have little in common, the neighbours of a position are
    of its own channel: the graph of nearest neighbours falls apart, or nearly, and the smooth eigenvectors of its
    Laplacian tell its parts (spectral clustering).
    """
    if channels == 1:
        return [[np.arange(len(likeness))]]
    graph = _neighbour_graph(np.sqrt(np.maximum(2 * (1 - likeness), 1e-9)))
    linked = (graph > 0).toarray() | (graph.T > 0).toarray()
    degree = linked.sum(axis=1)
    vectors = np.linalg.eigh(linked / np.sqrt(np.outer(degree, degree)))[1][:, -channels:]
    smooth = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return [_equal_clusters(features, channels) for features in (tones, smooth)]


def _laid_out(likeness: Floats, members: list[Indices]) -> list[_Channel]:
    """Lay out each channel by itself, then turn all as the first one lies."""
    grids = [place_on_grid(likeness[np.ix_(each, each)]) for each in members]
    parts = [_Channel(members[0], grids[0], False)]
    for each, grid in zip(members[1:], grids[1:], strict=True):
        parts.append(_aligned(each, grid, parts[0], likeness[np.ix_(each, members[0])]))
    return parts


def _closeness(likeness: Floats, parts: list[_Channel]) -> float:
    """Mean likeness of neighbouring places of a channel."""
    total = 0.0
    for part in parts:
        total += _nearness(likeness[np.ix_(part.members, part.members)], part.grid)
    return total


def _nearness(likeness: Floats, layout: Indices) -> float:
    """Mean likeness of neighbouring places, across and down."""
    edge = int(np.sqrt(len(layout)))
    at = np.argsort(layout).reshape(edge, edge)
    return float(likeness[at[:, :-1], at[:, 1:]].mean() + likeness[at[:-1], at[1:]].mean())


def _equal_clusters(features: Floats, count: int) -> list[Indices]:
    """k-means with clusters of equal size, begun at the points farthest from each other."""
    size = len(features) // count
    centres = features[[0]]
    for _ in range(count - 1):
        nearest = ((features[:, None] - centres[None]) ** 2).sum(axis=2).min(axis=1)
        centres = np.concatenate([centres, features[[int(nearest.argmax())]]])
    label = np.full(len(features), -1, np.intp)
    for _ in range(_ROUNDS):
        cost = np.repeat(((features[:, None] - centres[None]) ** 2).sum(axis=2), size, axis=1)
        new = linear_sum_assignment(cost)[1] // size
        if np.array_equal(new, label):
            break
        label = new
        centres = np.stack([features[label == each].mean(axis=0) for each in range(count)])
    return [np.flatnonzero(label == each) for each in range(count)]


def _neighbour_graph(steps: Floats) -> sparse.csr_matrix:
    """Steps from each thing to its nearest, but to itself."""
    steps = steps.copy()
    np.fill_diagonal(steps, np.inf)
    count = min(_NEIGHBOURS, len(steps) - 1)
    nearest = np.argpartition(steps, count - 1, axis=1)[:, :count].ravel()
    rows = np.repeat(np.arange(len(steps)), count)
    return sparse.csr_matrix((steps[rows, nearest], (rows, nearest)), shape=steps.shape)


def _same_places(likeness: Floats, channels: int) -> list[Indices] | None:
    """Members of each channel, in one order, where the likest of a position are those of its place; else None.

    So it is for grey stored as RGB, where channels are equal, and for colours that hardly differ. Then the C positions
    of a place are each other's likest, all of them.
    """
    if channels == 1:
        return None
    others = likeness.copy()
    np.fill_diagonal(others, -np.inf)
    likest = np.argpartition(-others, channels - 2, axis=1)[:, : channels - 1]
    groups = {tuple(sorted([each, *row])) for each, row in enumerate(likest.tolist())}
    if len(groups) * channels != len(likeness):
        return None
    return list(np.array(sorted(groups), dtype=np.intp).T)


def _aligned(members: Indices, grid: Indices, first: _Channel, likeness: Floats) -> _Channel:
    """Turn a channel as the first one lies, by the likeness (own, first) of positions across the two.

    Same places stand out from all places. They need not be more alike: in images that differ in stain, channels may
    move against each other from image to image, and with each other within one. Where they stand out downwards, the
    signs of the channel are the wrong way round.
    """
    at = np.argsort(first.grid)
    turns = symmetries.places(int(np.sqrt(len(grid))))
    rows = np.arange(len(grid))
    stands_out = np.array([likeness[rows, at[turn[grid]]].mean() for turn in turns]) - likeness.mean()
    best = int(np.abs(stands_out).argmax())
    return _Channel(members, turns[best][grid], bool(stands_out[best] < 0))


def _embedded(likeness: Floats) -> Floats:
    """A flat map: shortest paths over nearest neighbours, then classical multidimensional scaling (Isomap)."""
    graph = _neighbour_graph(np.sqrt(np.maximum(2 * (1 - likeness), 1e-9)))
    paths = shortest_path(graph, directed=False)
    reached = np.isfinite(paths)
    paths[~reached] = 1.5 * paths[reached].max()
    squared = paths**2
    centred = -(squared - squared.mean(axis=0) - squared.mean(axis=1)[:, None] + squared.mean()) / 2
    values, vectors = np.linalg.eigh(centred)
    made: Floats = vectors[:, -2:] * np.sqrt(np.maximum(values[-2:], 0))
    return made


def _fitted(points: Floats) -> list[Indices]:
    """Turn a map in many ways, and assign its points to places: the few that fill the square best."""
    grid = _grid(len(points))
    target = (grid - grid.mean(axis=0)) / np.maximum(grid.std(axis=0), 1e-9)
    points = points - points.mean(axis=0)
    points = points / np.maximum(points.std(axis=0), 1e-9)
    found: list[tuple[float, Indices]] = []
    for angle in np.linspace(0, np.pi / 2, _ANGLES, endpoint=False):
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        cost = ((points @ turn)[:, None] - target[None]) ** 2
        rows, columns = linear_sum_assignment(cost.sum(axis=2))
        found.append((float(cost.sum(axis=2)[rows, columns].sum()), columns))
    return [layout for _, layout in sorted(found, key=lambda each: each[0])[:_STARTS]]


def _refined(likeness: Floats, layout: Indices) -> Indices:
    """Assign places anew by what likeness they should have to all others, until nothing moves.

    What likeness two places should have is learnt from the layout itself: the mean over all pairs of places as far
    apart, across and down. Near pairs weigh most.
    """
    grid = _grid(len(layout)).astype(np.int64)
    edge = int(np.sqrt(len(layout)))
    apart = np.abs(grid[:, None] - grid[None])
    kind = apart[..., 0] * edge + apart[..., 1]
    weight = 1 / (1 + np.hypot(apart[..., 0], apart[..., 1])) ** 3
    # What lies at a place now says nothing of what should.
    np.fill_diagonal(weight, 0)
    counts = np.maximum(np.bincount(kind.ravel(), minlength=edge**2), 1)
    for _ in range(_ROUNDS):
        at = np.argsort(layout)
        sums = np.bincount(kind.ravel(), likeness[np.ix_(at, at)].ravel(), minlength=edge**2)
        expected = (sums / counts)[kind][:, layout]
        weights = weight[:, layout]
        cost = likeness**2 @ weights.T - 2 * likeness @ (weights * expected).T + (weights * expected**2).sum(axis=1)
        # Nor does a thing's likeness to itself: left in, it would keep everything where it lies.
        cost -= (weights * (np.diag(likeness) - expected) ** 2).T
        new = linear_sum_assignment(cost)[1]
        if np.array_equal(new, layout):
            break
        layout = new
    return layout


def _grid(count: int) -> Floats:
    edge = int(np.sqrt(count))
    return np.stack(np.divmod(np.arange(count), edge), axis=1).astype(np.float64)
