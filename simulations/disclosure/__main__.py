"""`python -m simulations.disclosure measure|page FOLDER`: what `medveil-site disclose` starts, without any key."""

from __future__ import annotations

import sys
from pathlib import Path

from medveil.cli import guarded
from medveil.errors import EXIT_OK, ConfigError
from medveil.plain import tell


def main(words: list[str]) -> int:
    """Measure what a folder's request asks for, or write the page of its document."""

    def body() -> int:
        match words:
            case ["measure", folder]:
                from simulations.disclosure.measured import measure_all  # noqa: PLC0415 - scipy and torch load here

                measure_all(Path(folder), said=lambda line: tell(line, error=True))
            case ["page", folder]:
                from simulations.disclosure.page import write_page  # noqa: PLC0415

                write_page(Path(folder))
            case _:
                raise ConfigError("takes 'measure FOLDER' or 'page FOLDER'", where="simulations.disclosure")
        return EXIT_OK

    return guarded(body)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
