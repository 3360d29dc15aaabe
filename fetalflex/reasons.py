"""What each quarantine reason means and what to do about it: for people, on pages and in docs/quarantine.md."""

from fetalflex.errors import Reason

REASONS: dict[Reason, tuple[str, str]] = {
    Reason.NOT_DICOM: ("is no DICOM file", "nothing, or convert it"),
    Reason.OUTSIDE_TREE: ("is a link out of the center's folder, or no regular file", "copy the file itself"),
    Reason.UNREADABLE: ("the source's file system refuses to let it be read", "give the right to read it"),
    Reason.ENCRYPTED: ("a member of an archive is encrypted", "decrypt it at the hospital, and fetch again"),
    Reason.DAMAGED_ARCHIVE: ("an archive, or a member of one, cannot be expanded whole", "send it again"),
    Reason.NOT_RETRIEVED: ("the DICOMweb server listed it and did not deliver it whole", "fetch again; ask the server"),
    Reason.EXECUTABLE: ("its preamble is that of an executable program", "ask who wrote the file"),
    Reason.LYING_LENGTH: ("states lengths that its own bytes contradict", "send it again"),
    Reason.NESTED_TOO_DEEP: ("nests sequences more than 32 deep", "ask who wrote the file"),
    Reason.BAD_IDENTIFIER: ("an identifier holds a path, control characters or no UID", "ask who wrote the file"),
    Reason.BOMB: ("its compressed data set inflates to more than 128 MiB", "ask who wrote the file"),
    Reason.TIME_LIMIT: ("took more time than any real file (30 s of a processor for one answer)", "export it anew"),
    Reason.MEMORY_LIMIT: ("asked for more memory than any real file (512 MiB)", "export it anew"),
    Reason.DECODER_CRASHED: ("took its decoder down", "export it anew"),
    Reason.TRUNCATED: ("ends before its pixels do", "send it again"),
    Reason.TOO_LARGE: (
        "more than 2 GiB, 8192 pixels a side, 16 Mi pixels a frame, 4 Gi a clip, or half a million elements",
        "export it smaller",
    ),
    Reason.NOT_ULTRASOUND: ("its storage class is no ultrasound image", "nothing"),
    Reason.NO_PIXELS: ("has a header but no image", "send it again"),
    Reason.UNSUPPORTED_TRANSFER_SYNTAX: (
        "states no transfer syntax of the standard, or one that nothing here decodes",
        "export it anew",
    ),
    Reason.BAD_DIMENSIONS: ("sides, frames or bits that no ultrasound image has", "look at the file"),
    Reason.DECODE_FAILED: ("header or pixels are damaged", "send it again"),
    Reason.EMPTY_IMAGE: ("shows nothing: fewer than 16 grey levels apart", "nothing"),
    Reason.COVERED_BY_TEXT: (
        "more than half of the ultrasound was taken for text: a table, or a mistake",
        "look at the file",
    ),
    Reason.NO_ULTRASOUND_REGION: ("the header names no region and none is found in the image", "look at the file"),
    Reason.COLOUR_DOPPLER: (
        "blobs of another colour than the grey map's cover 0.5 % of the region (0.1 % where the header speaks of flow)",
        "nothing: only grey images are used",
    ),
    Reason.RENDERED_3D: ("a rendered surface (3-D), no section of the anatomy", "nothing"),
    Reason.NOT_TWO_DIMENSIONAL: (
        "M-mode, spectral Doppler or a graph",
        "nothing: only two-dimensional images are used",
    ),
    Reason.SYNTHETIC: ("says that it was made by an algorithm (Synthetic Data)", "nothing: models learn from scans"),
    Reason.NO_SPACING: ("states no spacing, and the profile asks for one", "export it with its calibration"),
    Reason.DUPLICATE: ("the same bytes as another file of the center", "nothing"),
    Reason.UID_CONFLICT: ("the SOP Instance UID of another file, with other content", "ask who wrote the files"),
    Reason.UNKNOWN_STRUCTURE: ("an annotation's code is none of the ontology's", "code it anew; the rest is used"),
    Reason.ORPHAN_ANNOTATION: ("refers to no usable image of this center", "send the image, or see its own reason"),
    Reason.ANNOTATION_MISMATCH: ("another size than its image, or outside the ultrasound region", "annotate it anew"),
    Reason.NO_ANNOTATION: ("an annotation object without a region of a structure", "nothing"),
}
