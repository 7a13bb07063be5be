"""Links in folders of images: a file counts once, under a name that no order of a directory decides."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from labelled_trees import classes, images, labelled, put, said

from fl_client.data.folders import walk
from fl_client.data.tree import survey
from medveil.errors import DataError


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return classes(tmp_path / "tree", "normal", "sick")


def ids(root: Path) -> list[str]:
    return [item.id for item in images(root).items]


def reasons(root: Path) -> dict[str, str]:
    return {each.path: each.reason for each in images(root).skipped}


OWN = [f"{name}/i{i}.png" for name in ("normal", "sick") for i in range(4)]


def test_a_link_to_an_image_that_is_here_counts_no_second_time(tree: Path) -> None:
    (tree / "sick" / "again.png").symlink_to("i0.png")
    (tree / "sick" / "a.png").symlink_to(tree / "sick" / "i0.png")
    assert ids(tree) == OWN
    assert reasons(tree) == {
        f"sick/{name}.png": "is the same file as sick/i0.png, which counts" for name in ("a", "again")
    }
    assert "2 names lead to images that are here under another" in said(images(tree))


def test_a_link_in_another_class_does_not_move_the_image(tree: Path) -> None:
    (tree / "normal" / "a.png").symlink_to("../sick/i0.png")
    (tree / "zz").mkdir()
    (tree / "zz" / "b.png").symlink_to("../sick/i0.png")
    assert ids(tree) == OWN
    assert images(tree).classes == ("normal", "sick")
    assert "though the link lies in another class" in said(images(tree))
    assert "class 'zz' has no image" in said(images(tree))


def test_hard_links_are_one_image(tree: Path) -> None:
    os.link(tree / "sick" / "i0.png", tree / "sick" / "j.png")
    assert ids(tree) == OWN
    os.link(tree / "sick" / "i0.png", tree / "normal" / "j.png")
    with pytest.raises(DataError, match=r"'normal/j\.png' and 'sick/i0\.png' are one file, and stand in two classes"):
        images(tree)


def test_a_link_to_a_folder_that_is_here_is_no_class(tree: Path) -> None:
    for name in ("sick2", "a", "zz"):
        (tree / name).symlink_to("sick")
    assert images(tree).classes == ("normal", "sick")
    assert ids(tree) == OWN
    assert reasons(tree) == dict.fromkeys(
        ("sick2", "a", "zz"), "is a link to the folder 'sick', whose images count there"
    )


def test_links_to_what_lies_elsewhere_are_followed(tree: Path, tmp_path: Path) -> None:
    classes(tmp_path / "other", "third", images=2)
    (tree / "third").symlink_to(tmp_path / "other" / "third")
    (tree / "sick" / "x.png").symlink_to(tmp_path / "other" / "third" / "i0.png")
    with pytest.raises(DataError, match="stand in two classes"):
        images(tree)
    (tree / "sick" / "x.png").unlink()
    assert ids(tree) == [*OWN, "third/i0.png", "third/i1.png"]


def test_of_two_links_to_one_file_elsewhere_one_counts(tree: Path, tmp_path: Path) -> None:
    put(tmp_path / "pool", "x.png")
    for name in ("k.png", "j.png"):
        (tree / "sick" / name).symlink_to(tmp_path / "pool" / "x.png")
    assert ids(tree) == [*OWN, "sick/j.png"]
    (tree / "a").symlink_to(tmp_path / "pool")
    with pytest.raises(DataError, match=r"'a/x\.png' and 'sick/j\.png' are one file"):
        images(tree)


def test_images_kept_in_a_hidden_folder_count_where_links_name_them(tmp_path: Path) -> None:
    """As git-annex and DVC lay them."""
    root = put(tmp_path, *(f".store/{i}.png" for i in range(4)))
    for i in range(4):
        (root / "ab"[i % 2]).mkdir(exist_ok=True)
        (root / "ab"[i % 2] / f"{i}.png").symlink_to(root / ".store" / f"{i}.png")
    assert ids(root) == ["a/0.png", "a/2.png", "b/1.png", "b/3.png"]


def test_dead_links_loops_and_pipes_are_said(tree: Path) -> None:
    (tree / "sick" / "dead.png").symlink_to("nowhere.png")
    (tree / "dead").symlink_to("/nowhere/at/all")
    (tree / "sick" / "self.png").symlink_to("self.png")
    (tree / "sick" / "up").symlink_to("..")
    (tree / "out").symlink_to(tree.parent)
    (tree / "root").symlink_to("/")
    os.mkfifo(tree / "sick" / "pipe.png")
    assert ids(tree) == OWN
    circle, dead = "is a link that leads in a circle", "is a dead link: nothing is where it leads"
    assert reasons(tree) == {
        "sick/dead.png": dead,
        "dead": dead,
        "sick/self.png": circle,
        "sick/up": circle,
        "out": circle,
        "root": circle,
        "sick/pipe.png": "is a pipe, a socket or a device",
    }


def test_circles_between_folders_elsewhere_end(tree: Path, tmp_path: Path) -> None:
    for name in ("x", "y"):
        put(tmp_path / name, "i.png")
    (tmp_path / "x" / "to-y").symlink_to(tmp_path / "y")
    (tmp_path / "y" / "to-x").symlink_to(tmp_path / "x")
    (tree / "third").symlink_to(tmp_path / "x")
    assert ids(tree) == [*OWN, "third/i.png", "third/to-y/i.png"]
    assert reasons(tree) == {"third/to-y/to-x": "is a link that leads in a circle"}


def test_links_that_double_at_every_step_are_refused(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fl_client.data.tree._MOST_LINKS", 500)
    for step in range(40):
        (tmp_path / f"s{step}").mkdir()
    for step in range(39):
        for name in "ab":
            (tmp_path / f"s{step}" / name).symlink_to(tmp_path / f"s{step + 1}")
    (tree / "third").symlink_to(tmp_path / "s0")
    with pytest.raises(DataError, match="more than 500 links"):
        images(tree)


def test_a_folder_that_cannot_be_opened_is_said(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.scandir

    def refuse(path: Path) -> object:
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied")
        return real(path)

    put(tree, "sick/closed/x.png")
    monkeypatch.setattr("fl_client.data.tree.os.scandir", refuse)
    assert reasons(tree) == {"sick/closed": "cannot be opened: Permission denied"}


def shuffled(order: int) -> Callable[[Path], object]:
    real = os.scandir

    class Entries(list):
        def __enter__(self) -> Entries:
            return self

        def __exit__(self, *_: object) -> None:
            return None

    def scan(path: Path) -> Entries:
        with real(path) as found:
            names = sorted(found, key=lambda entry: (hash((entry.name, order)), entry.name))
        return Entries(names)

    return scan


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=12, deadline=None)
@given(order=st.integers(0, 2**32))
def test_what_is_found_does_not_depend_on_the_order_of_a_directory(tmp_path: Path, order: int) -> None:
    root, pool = tmp_path / "tree", tmp_path / "pool"
    if not root.exists():
        classes(root, "normal", "sick", images=2)
        put(pool, "x/1.png", "x/2.png")
        for name in ("alias", "zz"):
            (root / name).symlink_to("sick")
        (root / "normal" / "1.png").symlink_to("../sick/i0.png")
        (root / "sick" / "more").symlink_to(pool)
        (root / "sick" / "again.png").symlink_to(pool / "x" / "1.png")
        (pool / "back").symlink_to(pool / "x")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("fl_client.data.tree.os.scandir", shuffled(order))
        source = images(root)
    assert [item.id for item in source.items] == [
        "normal/i0.png",
        "normal/i1.png",
        "sick/again.png",
        "sick/i0.png",
        "sick/i1.png",
        "sick/more/back/2.png",
    ]
    assert source.classes == ("normal", "sick")


def test_a_table_may_name_links_within_the_folder(tree: Path) -> None:
    (tree / "sick" / "again.png").symlink_to("i0.png")
    rows = [("path", "label"), ("sick/again.png", "a"), ("normal/i0.png", "b")]
    assert [item.id for item in labelled(tree, rows).items] == ["normal/i0.png", "sick/again.png"]


def test_what_is_asked_of_a_model_is_walked_once_and_named_if_it_cannot_be_read(tree: Path) -> None:
    (tree / "sick2").symlink_to("sick")
    (tree / "sick" / "again.png").symlink_to("i0.png")
    (tree / "dead.png").symlink_to("nowhere")
    found = [path.relative_to(tree).as_posix() for path in walk(tree)]
    assert found == sorted(["dead.png", *OWN])


def test_odd_names_are_never_raw(tree: Path) -> None:
    for name in ("a\x1b[2J.png", "b\nc.png", "d\te.png"):
        (tree / "sick" / "i0.png").rename(tree / "sick" / name)
        put(tree, "sick/i0.png")
        (tree / "sick" / f"link{name}").symlink_to(name)
    source = images(tree)
    assert len(source) == 11
    assert all(line.isprintable() for line in source.remarks)
    (tree / "normal" / "x\x1b[31m.png").hardlink_to(tree / "sick" / "a\x1b[2J.png")
    with pytest.raises(DataError, match="are one file") as caught:
        images(tree)
    assert str(caught.value).isprintable()


def test_a_survey_tells_every_folder(tree: Path) -> None:
    (tree / "empty" / "deeper").mkdir(parents=True)
    assert survey(tree).folders == {"normal", "sick", "empty", "empty/deeper"}
