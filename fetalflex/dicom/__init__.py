"""Into and out of DICOM: reading, de-identification, public sets as sources, writing."""
