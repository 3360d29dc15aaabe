"""Where raw DICOM comes from: folders, archives, DICOMweb servers, public sets."""
