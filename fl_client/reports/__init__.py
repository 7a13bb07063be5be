"""A model's answers as DICOM Structured Reports, which a PACS stores beside the images. Needs the extra ``sr``."""
