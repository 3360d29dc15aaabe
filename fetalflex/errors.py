"""The one tree of errors. Messages name the case, what was found, what was expected and what to do next.

A message never holds a patient's identifier: cases are named by their keyed id or by a file's number.
"""


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
