"""De-identification of DICOM data sets by PS3.15 Annex E: what is removed, replaced, shifted and kept, and why."""
