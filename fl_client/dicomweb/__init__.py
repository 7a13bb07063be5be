"""A hospital's PACS over DICOMweb (PS3.18): searching, retrieving, and storing what was named. Extra ``dicomweb``."""
