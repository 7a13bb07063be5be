"""`medveil-crypto bench`: how fast each scheme hides images here, and what the time of hiding DICOM files goes to."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from medveil import plain
from medveil.cli import subcommand
from medveil.plain import tell_json

_NOTE = (
    "GB of plaintext (10**9 bytes); the fastest of turns taken round and round; set-up is from the key to the first "
    "hidden image. One thread, but for orthogonal, which takes BLAS's (OPENBLAS_NUM_THREADS)."
)


def add_bench_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``bench`` to the commands of `medveil-crypto`."""
    made = subcommand(
        commands,
        "bench",
        text="Measure how fast each scheme hides and shows images, beside copying them and AES-256-GCM; then hide a "
        "tree of DICOM files end to end, and say what the time goes to.",
        example="medveil-crypto bench --size 224 --channels 3 --block 16",
    )
    for name, default, what in (
        ("images", 64, "images in a turn"),
        ("size", 224, "height and width of an image in pixels"),
        ("channels", 3, "channels of an image"),
        ("block", 16, "edge of a cipher block in pixels"),
    ):
        made.add_argument(f"--{name}", type=int, default=default, metavar="N", help=f"{what} (default: {default})")
    made.add_argument("--seconds", type=float, default=15.0, help="about how long to measure (default: 15)")
    made.add_argument("--scheme", action="append", metavar="NAME", help="only this scheme; may be given again")
    made.add_argument("--files", type=int, default=200, metavar="N", help="CT slices to draw and hide (default: 200)")
    made.add_argument("--tree", type=Path, metavar="DIR", help="hide this tree of DICOM files instead of a drawn one")
    made.add_argument("--json", action="store_true", help="print the figures as JSON")
    made.set_defaults(command=_bench)


def _bench(arguments: argparse.Namespace) -> int:
    from crypto.bench import bench_schemes  # noqa: PLC0415 - numpy, for this command alone
    from crypto.bench_tree import bench_tree  # noqa: PLC0415
    from crypto.cipher import SCHEMES, check_scheme  # noqa: PLC0415

    schemes = [check_scheme(name) for name in arguments.scheme or SCHEMES]
    figures = bench_schemes(
        images=arguments.images,
        size=arguments.size,
        channels=arguments.channels,
        block=arguments.block,
        seconds=arguments.seconds,
        schemes=schemes,
    )
    tree = bench_tree(arguments.tree, files=arguments.files, block=arguments.block)
    if arguments.json:
        tell_json({**figures, "tree": tree})
    else:
        print_schemes(figures)
        print_tree(tree)
    return 0


def print_schemes(figures: dict[str, Any]) -> None:
    """Print what `crypto.bench.bench_schemes` found, as a table."""
    from rich.box import SIMPLE_HEAD  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    shape = "{images} images of {size}x{size}x{channels}, uint8, blocks of {block}".format(**figures)
    table = Table(title=shape, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("scheme", no_wrap=True)
    for heading in ("hide GB/s", "show GB/s", "images/s", "/memcpy", "/AES", "set-up ms"):
        table.add_column(heading, justify="right", min_width=9 if heading == "images/s" else None)
    memcpy, sealing = figures["memcpy_gb_per_s"], figures["aes_gcm_gb_per_s"]
    for name, speed in (("memcpy", memcpy), ("AES-256-GCM", sealing)):
        images = speed * 1e9 / (figures["size"] ** 2 * figures["channels"])
        table.add_row(name, f"{speed:.3f}", "", f"{images:,.0f}", f"{speed / memcpy:.3f}", f"{speed / sealing:.3f}", "")
    refused = []
    for name, found in figures["schemes"].items():
        if "refused" in found:
            refused.append(f"{name} was not measured: {found['refused']}")
            continue
        table.add_row(
            name,
            f"{found['encrypt_gb_per_s']:.3f}",
            f"{found['decrypt_gb_per_s']:.3f}",
            f"{found['encrypt_images_per_s']:,.0f}",
            f"{found['encrypt_over_memcpy']:.3f}",
            f"{found['encrypt_over_aes_gcm']:.3f}",
            f"{found['setup_s'] * 1000:.1f}",
        )
    console = plain.console()
    plain.say_table(console, table)
    for line in (*refused, _NOTE):
        plain.say(console, line)


def print_tree(figures: dict[str, Any]) -> None:
    """Print what `crypto.bench_tree.bench_tree` found, as a table."""
    from rich.box import SIMPLE_HEAD  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    whole = "{files} DICOM files in {seconds:.1f} s: {files_per_s:.0f} files/s, {gb_per_s:.3f} GB/s".format(**figures)
    console = plain.console()
    console.print(whole)
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("stage", no_wrap=True)
    for heading in ("seconds", "share"):
        table.add_column(heading, justify="right")
    for stage, seconds in figures["stage_seconds"].items():
        table.add_row(stage, f"{seconds:.2f}", f"{100 * figures['stage_shares'][stage]:.1f} %")
    plain.say_table(console, table)
