"""DICOM files hidden as DICOM files: decoded without loss, enciphered frame by frame, written natively."""
