"""The page of a run, with the attacks on it where there were any."""

from __future__ import annotations

from pathlib import Path


def report_of(run: Path) -> Path:
    """Write ``RUN/report.html``; of a run that counted, its own page.

    Raises
    ------
    StorageError, IntegrityError, FormatError
        See `simulations.report.page.write_report`.
    """
    if (run / "statistics.json").is_file():
        from fl_server.counts import STATISTICS_FILE, read_statistics  # noqa: PLC0415
        from fl_server.counts_page import write_pages  # noqa: PLC0415

        return write_pages(run, read_statistics(run / STATISTICS_FILE))
    if not any((run / "attacks").glob("*.json")):
        from simulations.report.page import write_report  # noqa: PLC0415

        return write_report(run)
    # scipy and scikit-image are slow to import, and most runs were never attacked.
    from simulations.attacks.matrix.part import report_of as attacked  # noqa: PLC0415

    return attacked(run)
