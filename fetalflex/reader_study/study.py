"""A new study: its images, its readers, its texts."""

import secrets
from collections.abc import Sequence
from pathlib import Path

from fetalflex.artifacts import atomic
from fetalflex.reader_study.blind import blinded
from fetalflex.reader_study.draw import Candidate, Design, draw_images, draw_order
from fetalflex.reader_study.store import Store

LINKS = "links.txt"
CONSENT = """You are asked to look at fetal ultrasound images, one at a time. Some were taken of patients, some were
made by a computer. For each image you say which you think it is, how real it looks, whether it shows the plane that is
named, and which structures you can see.

Taking part is voluntary, and you may stop at any time: close the page. The same link brings you back to where you
stopped. An answer cannot be changed once it is sent.

Stored are your answers, how long each took, your profession and years of experience if you state them, all under a
pseudonym. Your name is not asked and your address is not stored. The results are published for all readers together."""


def new_study(
    folder: Path, candidates: Sequence[Candidate], design: Design, title: str, consent: str = CONSENT
) -> dict[str, str]:
    """Make a study's folder and return the token of each reader by pseudonym; they are not stored, only hashes are.

    Raises: UsageError, TooFewCasesError.
    """
    images = draw_images(candidates, design)
    side = max(c.pixels.shape[0] for c in images)
    packed = list(zip(images, blinded([c.pixels for c in images], side), strict=True))
    store = Store.create(folder, {"title": title, "consent": consent, "side": side}, design, packed)
    tokens: dict[str, str] = {}
    for number in range(1, design.readers + 1):
        name = f"R{number:02d}"
        tokens[name] = secrets.token_urlsafe(24)
        store.add_reader(name, tokens[name], draw_order(len(images), design, name))
    return tokens


def write_links(folder: Path, tokens: dict[str, str], address: str) -> Path:
    """Write the readers' links into a file that only its owner can read."""
    path = folder / LINKS
    with atomic(path) as partial:
        partial.touch(mode=0o600)
        partial.write_text("".join(f"{name}\t{link(address, token)}\n" for name, token in tokens.items()))
    return path


def link(address: str, token: str) -> str:
    """Return a reader's link."""
    return f"{address.rstrip('/')}/r/{token}"
