"""One flow per stage, and the flows that compose them: pipeline and the command line."""

import os
from pathlib import Path

from fetalflex.errors import WorkspaceError
from tasks.server import prefect_environment
from tasks.workspace import find_root

# Prefect reads its settings when it is imported, so they are set before any flow imports it.
try:
    for _name, _value in prefect_environment(find_root(Path.cwd())).items():
        os.environ.setdefault(_name, _value)
except WorkspaceError:
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "WARNING")  # outside a workspace only the command line runs
