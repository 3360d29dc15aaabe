"""The documentation is true: links resolve, commands exist, examples run, generated parts are up to date."""

import ast
import doctest
import importlib.util
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import urlparse

import numpy as np
import pytest
import typer.main

from fetalflex.errors import Reason
from fetalflex.params import Center, Params

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / n for n in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")] + sorted((ROOT / "docs").rglob("*.md"))
# Identifiers, licences and forms may be named by address, and pages on loopback; nothing else.
HOSTS = {"doi.org", "arxiv.org", "creativecommons.org", "opensource.org", "json-schema.org", "keepachangelog.com",
         "semver.org", "127.0.0.1", "localhost"}  # fmt: skip
MACHINE = re.compile(r"(?<![\w.$}~-])/(?:home|root|work|Users|tmp|opt|mnt|srv|var)/")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
OUTPUTS = ROOT / "docs" / "howto" / "use-the-outputs.md"

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(ROOT).as_posix())


def blocks(page: Path) -> list[tuple[str, str]]:
    """Return (language, content) of every fenced block."""
    return FENCE.findall(page.read_text(encoding="utf-8"))


def prose(page: Path) -> str:
    """Return a page without its fenced blocks."""
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}


def command_lines(page: Path) -> Iterator[list[str]]:
    """Yield the words of every command in shell blocks and in inline code."""
    shell = [line for kind, text in blocks(page) if kind in ("bash", "sh", "console", "") for line in text.splitlines()]
    for text in shell + re.findall(r"`([^`\n]+)`", prose(page)):
        for part in re.split(r"&&|\|\||[;|]", text.removeprefix("$ ")):
            try:
                words = shlex.split(part, comments=True)
            except ValueError:  # prose in inline code, with an apostrophe
                continue
            while words and re.match(r"[A-Z_]+=", words[0]):
                words = words[1:]
            if words:
                yield words


def load_generator() -> ModuleType:
    """Return docs/generate.py, which is no module of a package."""
    spec = importlib.util.spec_from_file_location("docs_generate", ROOT / "docs" / "generate.py")
    if spec is None or spec.loader is None:
        raise ImportError("docs/generate.py cannot be loaded")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def command_options() -> dict[str, set[str]]:
    """Return every command of the command line with its options."""
    from flows.cli import app

    group: Any = typer.main.get_command(app)

    def options(command: Any) -> set[str]:
        own = {o for p in command.params for o in (*p.opts, *p.secondary_opts) if o.startswith("-")} | {"--help"}
        return own.union(*(options(inner) for inner in getattr(command, "commands", {}).values()))

    return {name: options(command) for name, command in group.commands.items()}


@each_page
def test_relative_links_resolve(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`\n]*`", "", prose(page))):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        found = (page.parent / path).resolve() if path else page
        assert found.exists(), f"{target} leads nowhere"
        if anchor and found.suffix == ".md":
            assert anchor in anchors(found), f"{target}: no such heading"


@each_page
def test_addresses_are_identifiers_and_no_paths_of_a_machine_are_told(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    hosts = {urlparse(found).hostname for found in re.findall(r"https?://[^\s)>\"'`|]+", text)}
    assert {h for h in hosts if not str(h).endswith(".example")} <= HOSTS  # RFC 2606: names that lead nowhere
    assert not MACHINE.search(text)


@each_page
def test_commands_and_their_options_exist(page: Path) -> None:
    from fetalflex.sources.wrap import SETS

    known = command_options()
    for words in command_lines(page):
        if words[0].split("/")[-1] != "fetalflex" or len(words) < 2 or words[1] == "--help":
            continue
        assert words[1] in known, f"no command {words[1]!r}: {words}"
        options = {w.strip("[]").split("=")[0] for w in words[2:]}
        options = {o for o in options if o.startswith("--")}
        assert options <= known[words[1]], f"no such option: {words}"
        if words[1] == "import" and len(words) > 2 and words[2].islower() and words[2].isprintable():
            assert words[2] in SETS or words[2].startswith(("{", "-")), f"no such set: {words}"


@each_page
def test_make_targets_exist(page: Path) -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for words in command_lines(page):
        if words[0] == "make":
            assert {w for w in words[1:] if "=" not in w and not w.startswith("-")} <= targets, words


@each_page
def test_python_blocks_compile_and_examples_run(page: Path) -> None:
    names: dict[str, Any] = {}
    for kind, text in blocks(page):
        if ">>>" in text:
            example = doctest.DocTestParser().get_doctest(text, names, page.name, str(page), 0)
            report: list[str] = []
            runner = doctest.DocTestRunner(verbose=False)
            runner.run(example, out=report.append, clear_globs=False)
            names = example.globs
            assert not runner.failures, "".join(report)
        elif kind == "python":
            ast.parse(text)


def test_layout_json_of_the_page_is_a_layout() -> None:
    from fetalflex.anatomy.layout import Layout

    (text,) = (text for kind, text in blocks(ROOT / "docs" / "layouts.md") if kind == "json")
    assert Layout.from_json(text).find("lateral-ventricle") is not None


def test_generated_parts_are_up_to_date() -> None:
    """Otherwise: `python docs/generate.py`."""
    docs = load_generator()
    assert docs.PARAMS.read_text(encoding="utf-8") == docs.params_page()
    assert docs.QUARANTINE.read_text(encoding="utf-8") == docs.quarantine_page()
    assert docs.CHAIN.read_text(encoding="utf-8") == docs.chain(docs.CHAIN.read_text(encoding="utf-8"))


def test_every_parameter_is_documented() -> None:
    text = (ROOT / "docs" / "params.md").read_text(encoding="utf-8")
    sections = re.split(r"^## ", text, flags=re.MULTILINE)
    for name, field in Params.model_fields.items():
        inner = getattr(field.annotation, "model_fields", {})
        (section,) = (s for s in sections if s.startswith(f"{name}\n")) if inner else (text,)
        for key in inner or (name,):
            assert f"| `{key}` |" in section, f"{name}.{key}"
    assert all(f"| `{key}` |" in text for key in Center.model_fields)


def test_every_quarantine_reason_is_documented() -> None:
    text = (ROOT / "docs" / "quarantine.md").read_text(encoding="utf-8")
    assert all(f"| `{reason.value}` |" in text for reason in Reason)


def test_every_column_of_synthetic_images_is_documented() -> None:
    from fetalflex.tables import Synthetic

    table = OUTPUTS.read_text(encoding="utf-8").split("## reports")[0]
    assert all(f"`{name}`" in table for name in Synthetic.create_empty().schema)


def test_pages_that_messages_name_exist() -> None:
    for folder in ("fetalflex", "tasks", "flows"):
        for path in (ROOT / folder).rglob("*.py"):
            for named in re.findall(r"docs/[\w/-]+\.md", path.read_text(encoding="utf-8")):
                assert (ROOT / named).is_file(), f"{path.name} names {named}"


def test_reading_and_sampling_as_documented_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The blocks of use-the-outputs run, one after the other, in a folder with a tiny dataset and tiny models."""
    from tests.fetalflex import tiny

    _write_dataset(tmp_path)
    tiny.generator().save(tmp_path / "models" / "generator")
    tiny.segmenter("guide", steps=4).save(tmp_path / "models" / "guide")
    monkeypatch.chdir(tmp_path)
    ours = [text for kind, text in blocks(OUTPUTS) if kind == "python" and "load_dataset" not in text]
    assert len(ours) == 3
    for text in ours:
        exec(compile(text, OUTPUTS.name, "exec"), {})
    assert (tmp_path / "abnormal-0000000000.png").is_file()
    assert (tmp_path / "my-image.png").is_file()


def test_three_lines_of_a_notebook_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import Image

    from tests.fetalflex import tiny
    from tests.fetalflex.synthesis import made

    made.pipeline().save_pretrained(tmp_path / "fetal-model")
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "layout.json").write_text(tiny.layout().to_json())
    monkeypatch.chdir(tmp_path / "here")
    shown: list[tuple[int, int]] = []
    monkeypatch.setattr(Image.Image, "show", lambda image: shown.append(image.size))
    page = ROOT / "docs" / "howto" / "generate.md"
    (text,) = (text for kind, text in blocks(page) if kind == "python")
    exec(compile(text, page.name, "exec"), {})
    assert shown == [(tiny.SIZE, tiny.SIZE)]


def _write_dataset(folder: Path) -> None:
    from fetalflex import tables
    from fetalflex.artifacts import picture, write_json
    from tests.fetalflex import tiny

    grey = picture(np.zeros((16, 16), np.uint8), "x")
    layout = tiny.layout().to_json()
    rows = [
        {
            "image_id": f"{kind}-0000000000", "image": grey, "coarse": grey, "kind": kind, "pair_id": None,
            "region": None, "plane": "transventricular", "center": "near", "age_weeks": None, "age_derived": False,
            "anomaly": None, "severity": None, "severity_unit": None, "second_anomaly": None, "second_severity": None,
            "second_severity_unit": None, "layout_source": "varied", "layout_normal": None,
            "layout": layout, "layout_adapted": layout,
            "source_case": "case", "seed": 1, "evaluations": 12, "agreement": 0.9,
        }
        for kind in ("normal", "abnormal")
    ]  # fmt: skip
    tables.write_shard(folder / "data" / "synthetic" / "images-00.parquet", rows, tables.Synthetic)
    write_json(folder / "reports" / "gate.json", {"images": {"accepted": [rows[0]["image_id"]], "rejected": []}})
