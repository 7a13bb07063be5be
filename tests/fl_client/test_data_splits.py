from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fl_client.data.base import Bytes, Item, Source, Stamp
from fl_client.data.config import DataConfig, PartitionConfig, check_data_config
from fl_client.data.partition import Parts, site_parts
from fl_client.data.rng import generator
from fl_client.data.source import open_source
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
    partition = {
        key: fields.pop(key) for key in list(fields) if key in {"kind", "alpha", "min_per_site", "shards", "by"}
    }
    if "per_site" in fields:
        partition["classes"] = fields.pop("per_site")
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
    from fl_client.data import site_shares  # noqa: PLC0415

    calls: list[int] = []
    real = site_shares.group_items

    def counted(items: Any, indices: Any, **rest: Any) -> Any:
        calls.append(len(indices))
        return real(items, indices, **rest)

    monkeypatch.setattr(site_shares, "group_items", counted)
    source, settings_ = Listed(loners(600), 2), config()
    parts = all_parts(source, settings_, 30)
    assert calls == [600]
    assert sorted(np.concatenate([np.r_[each.train, each.validation, each.test] for each in parts]).tolist()) == list(
        range(600)
    )
    site_parts(source, settings_, sites=30, index=0, seed=1)
    assert calls == [600, 600]


def dealt(items: list[Item], sites: int, *, classes: int = 4, **fields: Any) -> np.ndarray:
    """Images of each site (rows) and class: groups whole, everything dealt, nothing twice."""
    source, asked = Listed(items, classes), config(validation=0.1, test=0.1, min_per_site=4, **fields)
    parts = [site_parts(source, asked, sites=sites, index=index, seed=3) for index in range(sites)]
    own = [np.concatenate([part.train, part.validation, part.test]) for part in parts]
    assert sorted(np.concatenate(own).tolist()) == list(range(len(items)))
    of = [{items[i].group for i in each.tolist()} for each in own]
    assert all(not a & b for at, a in enumerate(of) for b in of[at + 1 :])
    return np.array([np.bincount([items[i].label for i in each.tolist()], minlength=classes) for each in own])


def even(n: int, *, classes: int = 4, each: int = 2) -> list[Item]:
    return [Item(f"{g}/{i}", g % classes, f"g{g}", None, f"ward {g % 7}") for g in range(n) for i in range(each)]


@pytest.mark.parametrize(
    ("kind", "wanted"), [("linear", [1, 2, 3]), ("square", [1, 4, 9]), ("exponential", np.exp([0, 1, 2]))]
)
def test_sizes_follow_the_number_of_the_site_and_classes_are_alike(kind: str, wanted: Any) -> None:
    counts = dealt(even(420), 3, kind=kind)
    shares = np.asarray(wanted) / np.sum(wanted)
    assert counts.sum(axis=1) / 840 == pytest.approx(shares, abs=0.01)
    assert counts / counts.sum(axis=1, keepdims=True) == pytest.approx(0.25, abs=0.05)


def test_drawn_sizes_are_the_more_alike_the_larger_alpha_is() -> None:
    apart, alike = (dealt(even(600), 5, kind="quantity", alpha=alpha) for alpha in (0.3, 1000.0))
    assert np.ptp(alike.sum(axis=1)) < 30 < np.ptp(apart.sum(axis=1))
    assert alike / alike.sum(axis=1, keepdims=True) == pytest.approx(0.25, abs=0.05)
    assert apart.sum(axis=1).min() >= 4


def test_shards_are_pieces_of_the_images_sorted_by_class() -> None:
    counts = dealt(even(400), 8, kind="shards", shards=1)
    # Eight equal pieces of four classes: two to a class, and one class to a site.
    assert (counts > 0).sum(axis=1).tolist() == [1] * 8
    assert counts.sum(axis=1) == pytest.approx(100, abs=8)
    two = dealt(even(400), 4, kind="shards", shards=2)
    assert (two > 0).sum(axis=1).max() <= 2
    assert two.sum(axis=1) == pytest.approx(200, abs=8)


def test_pathological_sites_have_so_many_classes_and_every_class_has_a_site() -> None:
    for sites, per_site in ((4, 1), (4, 2), (3, 3), (5, 4)):
        counts = dealt(even(400), sites, kind="pathological", per_site=per_site)
        assert (counts > 0).sum(axis=1).tolist() == [per_site] * sites
    for sites, per_site in ((4, 5), (3, 1)):
        with pytest.raises(ConfigError, match=r"classes at each of \d sites cannot be"):
            dealt(even(400), sites, kind="pathological", per_site=per_site)


def test_values_of_a_column_stay_whole_and_the_largest_go_first() -> None:
    items = even(70)
    source, asked = Listed(items, 4), config(kind="column", by="ward", validation=0.1, test=0.1)
    parts = [site_parts(source, asked, sites=3, index=index, seed=0) for index in range(3)]
    own = [{items[i].site for i in np.concatenate([part.train, part.validation, part.test]).tolist()} for part in parts]
    assert sorted(len(each) for each in own) == [2, 2, 3]
    assert set.union(*own) == {f"ward {g}" for g in range(7)}
    with pytest.raises(ConfigError, match="7 values of ward, and 9 sites"):
        site_parts(source, asked, sites=9, index=0, seed=0)
    without = Listed([*items, Item("x", 0)], 4)
    with pytest.raises(DataError, match="1 images have no ward"):
        site_parts(without, asked, sites=3, index=0, seed=0)
    torn = Listed([*items, Item("x", 0, "g0", None, "ward 1")], 4)
    with pytest.raises(DataError, match="group 'g0' has several values of ward"):
        site_parts(torn, asked, sites=3, index=0, seed=0)
    for kind, by in (("column", None), ("iid", "ward")):
        with pytest.raises(ConfigError, match="go together"):
            check_data_config(config(kind=kind, by=by))


def test_an_npz_key_and_a_csv_column_name_what_is_dealt_by(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (12, 16, 16)).astype(np.uint8)
    wards = np.array(["east", "west", "north"] * 4)
    np.savez(tmp_path / "d.npz", images=images, labels=np.arange(12) % 2, ward=wards)
    found = open_source(DataConfig(source="npz", path=str(tmp_path / "d.npz"), partition=by("ward")))
    assert [item.site for item in found.items] == wards.tolist()
    with pytest.raises(DataError, match="has no array 'wing' with one value per image"):
        open_source(DataConfig(source="npz", path=str(tmp_path / "d.npz"), partition=by("wing")))
    folder = tmp_path / "files"
    folder.mkdir()
    for number, pixels in enumerate(images):
        Image.fromarray(pixels).save(folder / f"{number}.png")
    rows = [f"{number}.png,{number % 2},{ward},elsewhere" for number, ward in enumerate(wards)]
    (folder / "labels.csv").write_text("\n".join(["path,label,ward,site", *rows]) + "\n")
    asked = DataConfig(source="images", path=str(folder), labels="labels.csv", partition=by("ward"))
    assert {item.id: item.site for item in open_source(asked).items}["4.png"] == "west"
    asked.partition = by("wing")
    with pytest.raises(DataError, match=r"there is no column 'wing'.*columns are .*ward"):
        open_source(asked)


def by(name: str) -> PartitionConfig:
    return PartitionConfig(kind="column", by=name)


@pytest.mark.parametrize("kind", ["iid", "site"])
def test_over_all_folds_every_image_is_tested_once_and_groups_stay_whole(kind: str) -> None:
    items = patients(120)
    source, asked = Listed(items, 3), config(kind=kind, folds=5, validation=0.2, test=0.4)
    by_seed = [all_parts(source, asked, 3, seed) for seed in range(6)]
    tested = np.concatenate([part.test for parts in by_seed[:5] for part in parts])
    assert sorted(tested.tolist()) == list(range(len(items)))
    for parts in by_seed:
        for part in parts:
            groups = [{items[i].group for i in each.tolist()} for each in (part.train, part.validation, part.test)]
            assert all(groups)
            assert not groups[0] & groups[1] | groups[0] & groups[2] | groups[1] & groups[2]
            whole = sum(map(len, (part.train, part.validation, part.test)))
            # A fifth is tested, whatever data.test says, and a fifth of all validates.
            assert len(part.test) / whole == pytest.approx(0.2, abs=0.06)
            assert len(part.validation) / whole == pytest.approx(0.2, abs=0.06)
    # Seed 5 is fold 0 again, on the same split: what differs is the training alone.
    for one, again in zip(by_seed[0], by_seed[5], strict=True):
        assert np.array_equal(one.test, again.test)
        assert np.array_equal(one.train, again.train)
    other = all_parts(source, config(kind=kind, folds=5, split_seed=7, validation=0.2), 3, 0)
    assert not np.array_equal(other[0].test, by_seed[0][0].test)


def test_folds_that_cannot_be_are_refused() -> None:
    for fields in ({"folds": 1}, {"folds": 5, "tests": "common"}):
        with pytest.raises(ConfigError, match=r"data\.folds"):
            check_data_config(config(**fields))
    official = [*patients(30, split="train"), *patients(10, split="test")]
    with pytest.raises(ConfigError, match=r"the images bring parts; data\.split=drawn"):
        site_parts(Listed(official, 3), config(folds=5), sites=1, index=0, seed=0)
    with pytest.raises(DataError, match="6 groups of images cannot be 8 folds"):
        site_parts(Listed(loners(6), 2), config(folds=8), sites=1, index=0, seed=0)
