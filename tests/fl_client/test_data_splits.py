from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fl_client.data.base import Bytes, Item, Source, Stamp
from fl_client.data.config import DataConfig, PartitionConfig
from fl_client.data.partition import Parts, site_parts
from fl_client.data.rng import generator
from fl_client.data.splits import deal, limited
from medveil.errors import ConfigError, DataError


class Listed(Source):
    """Items without images: splitting looks at nothing else."""

    def __init__(self, items: list[Item], classes: int) -> None:
        self.items, self.classes = tuple(items), tuple(f"class {k}" for k in range(classes))
        self.path, self.name, self.size, self.channels = Path("listed"), "listed", 1, 1

    def contents(self, index: int) -> bytes:
        return self.items[index].id.encode()

    def _keep(self, kept: Any) -> None:
        raise NotImplementedError

    def _decode(self, index: int) -> Bytes:
        raise NotImplementedError

    def _stamp(self, index: int) -> Stamp:
        raise NotImplementedError


def patients(n: int, *, classes: int = 3, each: int = 3, split: str | None = None, seed: int = 0) -> list[Item]:
    """About `each` images a patient, a tenth of the patients with images of two classes."""
    rng = np.random.default_rng(seed)
    items: list[Item] = []
    for patient in range(n):
        label = int(rng.integers(classes))
        for i in range(int(rng.integers(1, 2 * each))):
            shown = label if patient % 10 or i else (label + 1) % classes
            items.append(Item(f"{split}/{patient}/{i}", shown, f"{split}/{patient}", split, f"site {patient % 3}"))
    return items


def loners(n: int, *, classes: int = 2, split: str | None = None) -> list[Item]:
    return [Item(f"{split}/{i}", i % classes, None, split) for i in range(n)]


def config(**fields: Any) -> DataConfig:
    partition = {key: fields.pop(key) for key in list(fields) if key in {"kind", "alpha", "min_per_site"}}
    if "tests" in fields:
        partition["test"] = fields.pop("tests")
    return DataConfig(path="x", partition=PartitionConfig(**partition), **fields)


def all_parts(source: Source, settings_: DataConfig, sites: int, seed: int = 0) -> list[Parts]:
    return [site_parts(source, settings_, sites=sites, index=index, seed=seed) for index in range(sites)]


def check_disjoint_and_complete(source: Source, parts: list[Parts], *, common: bool) -> None:
    lists = [part for site in parts for part in (site.train, site.validation, *([] if common else [site.test]))]
    lists += [parts[0].test] if common else []
    together = np.concatenate(lists)
    assert sorted(together.tolist()) == list(range(len(source.items)))
    place: dict[str, int] = {}
    for at, indices in enumerate(lists):
        for i in indices.tolist():
            group = source.items[i].group
            assert group is None or place.setdefault(group, at) == at, "a group was cut apart"


@pytest.mark.parametrize("kind", ["iid", "dirichlet", "site"])
@pytest.mark.parametrize("tests", ["partitioned", "common"])
def test_shares_are_disjoint_and_complete_and_groups_whole(kind: str, tests: str) -> None:
    source = Listed(patients(120), 3)
    parts = all_parts(source, config(kind=kind, tests=tests), 3)
    check_disjoint_and_complete(source, parts, common=tests == "common")
    assert all(min(len(p.train), len(p.validation), len(p.test)) > 0 for p in parts)
    if tests == "common":
        assert all((p.test == parts[0].test).all() for p in parts)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**20),
    sites=st.integers(1, 5),
    n=st.integers(60, 200),
    kind=st.sampled_from(["iid", "dirichlet"]),
    tests=st.sampled_from(["partitioned", "common"]),
    alpha=st.sampled_from([0.05, 0.5, 100.0]),
)
def test_any_seed_gives_a_partition(*, seed: int, sites: int, n: int, kind: str, tests: str, alpha: float) -> None:
    source = Listed(patients(n, seed=seed), 3)
    parts = all_parts(source, config(kind=kind, tests=tests, alpha=alpha), sites, seed)
    check_disjoint_and_complete(source, parts, common=tests == "common")
    for site in parts:
        assert len(site.train) > 0
        assert len(site.validation) > 0
        assert len(site.test) > 0
        if sites > 1:
            own_test = 0 if tests == "common" else len(site.test)
            assert len(site.train) + len(site.validation) + own_test >= 8


def test_iid_shares_are_alike_in_size_and_class() -> None:
    source = Listed(loners(1203, classes=3), 3)
    parts = all_parts(source, config(), 4)
    for site in parts:
        counts = Counter(source.items[i].label for i in site.train.tolist())
        assert max(counts.values()) - min(counts.values()) <= 2
        assert abs(len(site.train) - 0.7 * 1203 / 4) <= 3
        assert abs(len(site.test) - 0.15 * 1203 / 4) <= 3
    grouped = all_parts(Listed(patients(400), 3), config(), 4)
    sizes = [len(site.train) for site in grouped]
    assert max(sizes) - min(sizes) <= 0.05 * np.mean(sizes)


def test_same_seed_same_parts_other_seed_other_parts() -> None:
    source = Listed(patients(150), 3)
    for settings_ in (config(), config(kind="dirichlet"), config(tests="common")):
        first, again, other = (site_parts(source, settings_, sites=3, index=1, seed=seed) for seed in (5, 5, 6))
        for name in ("train", "validation", "test"):
            np.testing.assert_array_equal(getattr(first, name), getattr(again, name))
        assert set(first.train.tolist()) != set(other.train.tolist())


def test_parts_are_pinned() -> None:
    parts = site_parts(Listed(loners(60), 2), config(kind="dirichlet", alpha=1.0), sites=3, index=0, seed=1)
    assert parts.test.tolist() == [6, 21, 22, 55]


def test_dirichlet_skews_more_for_a_smaller_alpha() -> None:
    source = Listed(loners(900, classes=3), 3)

    def skew(alpha: float) -> float:
        distances = []
        for seed in range(4):
            for site in all_parts(source, config(kind="dirichlet", alpha=alpha), 5, seed):
                counts = np.bincount([source.items[i].label for i in site.train.tolist()], minlength=3)
                distances.append(np.abs(counts / counts.sum() - 1 / 3).sum() / 2)
        return float(np.mean(distances))

    found = [skew(alpha) for alpha in (0.1, 0.5, 100.0)]
    assert found[0] > found[1] + 0.08 > found[2] + 0.16
    assert found[2] < 0.06


def test_a_sites_test_part_is_skewed_like_its_training_part() -> None:
    items = loners(1000, split="train") + loners(200, split="validation") + loners(400, split="test")
    source = Listed(items, 2)
    for site in all_parts(source, config(kind="dirichlet", alpha=0.5), 4):
        rates = [np.mean([source.items[i].label for i in part]) for part in (site.train, site.test) if len(part) > 20]
        assert len(rates) < 2 or abs(rates[0] - rates[1]) < 0.12


def test_official_parts_are_kept() -> None:
    items = loners(100, split="train") + loners(20, split="validation") + loners(40, split="test")
    source = Listed(items, 2)
    for tests in ("partitioned", "common"):
        for site in all_parts(source, config(tests=tests), 4):
            for name in ("train", "validation", "test"):
                assert {source.items[i].split for i in getattr(site, name)} == {name}
            assert len(site.test) == (40 if tests == "common" else 10)
            assert abs(len(site.validation) - 5) <= 1


def test_only_missing_official_parts_are_drawn() -> None:
    source = Listed(loners(100, split="train") + loners(30, split="test"), 2)
    site = site_parts(source, config(), sites=1, index=0, seed=0)
    assert {source.items[i].split for i in site.validation} == {"train"}
    assert (len(site.train), len(site.validation), len(site.test)) == (85, 15, 30)


def test_a_group_in_two_official_parts_is_refused() -> None:
    items = [Item("a", 0, "p", "train"), Item("b", 1, "p", "test"), *loners(50, split="train")]
    with pytest.raises(DataError, match="group 'p' stands in more than one official split"):
        site_parts(Listed(items, 2), config(), sites=1, index=0, seed=0)


def test_one_real_hospital_gets_everything_however_few() -> None:
    site = site_parts(Listed(loners(6), 2), config(), sites=1, index=0, seed=0)
    assert (len(site.train), len(site.validation), len(site.test)) == (4, 1, 1)
    no_test = site_parts(Listed(loners(6), 2), config(test=0.0), sites=1, index=0, seed=0)
    assert len(no_test.test) == 0
    with pytest.raises(DataError, match="2 groups of images cannot be split into 3 parts"):
        site_parts(Listed(loners(2), 2), config(), sites=1, index=0, seed=0)


def test_common_test_keeps_the_validation_fraction_of_the_whole() -> None:
    parts = all_parts(Listed(loners(1000), 2), config(tests="common"), 4)
    assert len(parts[0].test) == 150
    assert sum(len(site.validation) for site in parts) == pytest.approx(150, abs=6)
    with pytest.raises(ConfigError, match=r"data\.test"):
        all_parts(Listed(loners(100), 2), config(tests="common", test=0.0), 2)


def test_missing_classes_are_named() -> None:
    source = Listed(loners(400, classes=4), 4)
    parts = all_parts(source, config(kind="dirichlet", alpha=0.02), 4)
    missing = [site.missing_classes for site in parts]
    assert any(missing)
    for site in parts:
        present = {source.classes[source.items[i].label] for i in site.train.tolist()}
        assert set(site.missing_classes) == set(source.classes) - present
    assert all_parts(source, config(), 4)[0].missing_classes == ()


def test_every_site_gets_the_least_it_must() -> None:
    source = Listed(loners(200), 2)
    for seed in range(3):
        for site in all_parts(source, config(kind="dirichlet", alpha=0.01, min_per_site=15), 8, seed):
            assert len(site.train) + len(site.validation) + len(site.test) >= 15
    with pytest.raises(DataError, match="too few for 8 sites"):
        all_parts(source, config(kind="dirichlet", alpha=0.01, min_per_site=30), 8)
    with pytest.raises(DataError, match="too few for 8 sites"):
        all_parts(Listed(loners(20), 2), config(min_per_site=1), 8)


def test_by_site_wants_as_many_sites_as_the_files_name() -> None:
    source = Listed(patients(60), 3)
    with pytest.raises(ConfigError, match="name 3 sites"):
        all_parts(source, config(kind="site"), 2)
    with pytest.raises(DataError, match="name no site"):
        all_parts(Listed(loners(60), 2), config(kind="site"), 2)
    same_id = [Item(f"{s}/{i}", i % 2, f"p{i}", None, f"h{s}") for s in range(2) for i in range(20)]
    for index, site in enumerate(all_parts(Listed(same_id, 2), config(kind="site"), 2)):
        assert {source_item.site for source_item in (same_id[i] for i in site.train)} == {f"h{index}"}


def test_a_site_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ConfigError, match="site 3 of 3"):
        site_parts(Listed(loners(60), 2), config(), sites=3, index=3, seed=0)


def test_dealing_gives_nothing_to_a_part_without_share_and_is_fair_to_the_others() -> None:
    strata = np.ones((9, 1), dtype=np.int64)
    firsts: Counter[int] = Counter()
    for seed in range(60):
        part_of = deal(strata, np.array([[0.5, 0.0, 0.5]]), rng=generator(seed))
        assert 1 not in part_of
        firsts[int(np.bincount(part_of, minlength=3)[0])] += 1
    assert set(firsts) == {4, 5}
    assert min(firsts.values()) > 12


def test_limit_is_an_upper_bound_and_repeats() -> None:
    items = patients(100)
    for limit in (10, 50, 123):
        kept = limited(items, limit)
        assert limit - 8 < len(kept) <= limit
        assert kept == limited(items, limit)
        groups = {items[i].group for i in kept}
        assert {i for i, item in enumerate(items) if item.group in groups} == set(kept)
    assert limited(items, None) == limited(items, 10**6) == list(range(len(items)))


@pytest.mark.parametrize("sites", [1, 2])
def test_a_patient_whose_files_name_two_institutions_stays_whole(sites: int) -> None:
    names = ("St. Anna", "ST ANNA")
    items = [Item(f"{p}-{k}", p % 2, f"patient {p}", None, names[k % 2]) for p in range(40) for k in range(4)]
    source = Listed(items, 2)
    for parts in all_parts(source, config(kind="iid"), sites):
        of = [{items[i].group for i in part.tolist()} for part in (parts.train, parts.validation, parts.test)]
        assert all(of)
        assert not of[0] & of[1]
        assert not of[0] & of[2]
        assert not of[1] & of[2]


def test_a_source_is_dealt_once_for_all_of_its_sites(monkeypatch: pytest.MonkeyPatch) -> None:
    from fl_client.data import partition  # noqa: PLC0415

    calls: list[int] = []
    real = partition.group_items

    def counted(items: Any, indices: Any, **rest: Any) -> Any:
        calls.append(len(indices))
        return real(items, indices, **rest)

    monkeypatch.setattr(partition, "group_items", counted)
    source, settings_ = Listed(loners(600), 2), config()
    parts = all_parts(source, settings_, 30)
    assert calls == [600]
    assert sorted(np.concatenate([np.r_[each.train, each.validation, each.test] for each in parts]).tolist()) == list(
        range(600)
    )
    site_parts(source, settings_, sites=30, index=0, seed=1)
    assert calls == [600, 600]
