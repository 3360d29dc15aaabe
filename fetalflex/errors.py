"""The one tree of errors. Messages name the case, what was found, what was expected and what to do next.

A message never holds a patient's identifier: cases are named by their keyed id or by a file's number.
"""

from enum import StrEnum


class FetalFlexError(Exception):
    """Root of all errors that FetalFlex raises on purpose; the command line prints it as one line."""

    exit_code = 1


class UsageError(FetalFlexError):
    """The command or its arguments cannot be carried out as given."""

    exit_code = 2


class ParameterError(UsageError):
    """`params.yaml` or a center's profile is wrong: an unknown key, a wrong type, an impossible combination."""


class MissingSecretError(UsageError):
    """A secret (pseudonym key, server token) is asked for and is neither in the environment nor in its file."""


class WorkspaceError(FetalFlexError):
    """The folder is no workspace, lacks git or DVC, has no space, or another run is at work in it."""


class StageError(FetalFlexError):
    """A stage of the chain failed; the message names the stage and its log."""


class ArtifactError(FetalFlexError):
    """A file of ours is missing, damaged or does not have its declared schema."""


class SourceError(FetalFlexError):
    """A source of raw data (a center's folder, a public set) is missing, empty or not what it claims."""


class NoUsableFramesError(SourceError):
    """Every file of a center went to quarantine."""


class LayoutError(FetalFlexError):
    """A layout is impossible: out of the frame, a structure of another plane, an unknown unit."""


class AnomalyError(LayoutError):
    """An anomaly cannot be made: wrong plane, severity out of range, a structure it needs is missing."""


class AnnotationError(FetalFlexError):
    """An annotation cannot be read, or names a structure that the ontology does not have."""


class ModelError(FetalFlexError):
    """Weights or a checkpoint are missing, belong to another configuration, or are in a refused format."""


class TooFewCasesError(FetalFlexError):
    """A stage has too few cases for what it is asked to do (training, splits, statistics)."""


class Reason(StrEnum):
    """Why a file, a frame or an annotation is in quarantine; the values stand in the quarantine table."""

    NOT_DICOM = "not_dicom"
    OUTSIDE_TREE = "outside_tree"
    UNREADABLE = "unreadable"
    ENCRYPTED = "encrypted"
    DAMAGED_ARCHIVE = "damaged_archive"
    NOT_RETRIEVED = "not_retrieved"
    EXECUTABLE = "executable"
    TRUNCATED = "truncated"
    LYING_LENGTH = "lying_length"
    NESTED_TOO_DEEP = "nested_too_deep"
    BAD_IDENTIFIER = "bad_identifier"
    TOO_LARGE = "too_large"
    BOMB = "bomb"
    TIME_LIMIT = "time_limit"
    MEMORY_LIMIT = "memory_limit"
    DECODER_CRASHED = "decoder_crashed"
    NOT_ULTRASOUND = "not_ultrasound"
    NO_PIXELS = "no_pixels"
    UNSUPPORTED_TRANSFER_SYNTAX = "unsupported_transfer_syntax"
    BAD_DIMENSIONS = "bad_dimensions"
    DECODE_FAILED = "decode_failed"
    EMPTY_IMAGE = "empty_image"
    NO_ULTRASOUND_REGION = "no_ultrasound_region"
    COVERED_BY_TEXT = "covered_by_text"
    COLOUR_DOPPLER = "colour_doppler"
    RENDERED_3D = "rendered_3d"
    NOT_TWO_DIMENSIONAL = "not_two_dimensional"
    SYNTHETIC = "synthetic"
    NO_SPACING = "no_spacing"
    DUPLICATE = "duplicate"
    UID_CONFLICT = "uid_conflict"
    UNKNOWN_STRUCTURE = "unknown_structure"
    ORPHAN_ANNOTATION = "orphan_annotation"
    ANNOTATION_MISMATCH = "annotation_mismatch"
    NO_ANNOTATION = "no_annotation"


class QuarantineError(FetalFlexError):
    """One file, frame or annotation cannot be used: it becomes a row of the quarantine table, the run goes on.

    `detail` never holds text of a header: only numbers, names of attributes and our own words.
    """

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(reason, detail)  # as given, so that it can be copied and sent between processes
        self.reason = reason
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.reason.value}: {self.detail}"
