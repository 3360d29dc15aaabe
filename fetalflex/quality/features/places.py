"""Where the weights of others lie: in a local folder, or on the hub.

The hub is asked only where the parameters name it, with a fixed revision; its files are then kept by the hub's cache.
"""

from pathlib import Path

from fetalflex.errors import ModelError

HUB, FOLDER = "hub:", "folder:"


def model_folder(place: str, what: str) -> Path:
    """Return the folder of `folder:PATH` or `hub:OWNER/NAME@REVISION`, with *.safetensors. `what`: who asks, in errors.

    Raises: ModelError where there is none, it cannot be fetched, or it holds no safetensors (pickles are refused).
    """
    folder = Path(place.removeprefix(FOLDER)) if place.startswith(FOLDER) else _fetch(place, what)
    if not list(folder.glob("*.safetensors")):
        found = "a folder without any" if folder.is_dir() else "no such folder"
        raise ModelError(f"{what} {place!r}: found {found}; expected *.safetensors in the folder; pickles are refused")
    return folder


def _fetch(place: str, what: str) -> Path:
    name, _, revision = place.removeprefix(HUB).partition("@")
    if not place.startswith(HUB) or not revision:
        raise ModelError(
            f"{what} {place!r}: expected folder:PATH or hub:OWNER/NAME@REVISION; a name alone may mean other weights "
            "tomorrow"
        )
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=["*.json", "*.safetensors"]))
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ModelError(f"{what} {place!r}: cannot be fetched ({reason}); name a local folder instead") from error
