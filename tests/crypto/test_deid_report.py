from __future__ import annotations

from crypto.deid.report import Tally


def test_each_file_counts_once_for_each_attribute() -> None:
    tally = Tally()
    tally.add(removed=["StudyDescription", "(0009,1001)", "StudyDescription"], replaced=["PatientName"], warnings=["a"])
    tally.add(removed=["PatientName"], replaced=["PatientName"], warnings=["a", "b"])
    assert tally.rows() == [("PatientName", 1, 2), ("StudyDescription", 1, 0), ("(0009,1001)", 1, 0)]
    assert tally.warnings == {"a": 2, "b": 1}


def test_nothing_makes_no_rows() -> None:
    assert Tally().rows() == []
