"""Ingest of one center: the raw folder's inventory, then buckets of its files as chunks."""

from pathlib import Path

import polars as pl

from fetalflex import tables
from fetalflex.artifacts import writing_folder
from fetalflex.deid.keys import PseudonymKey
from fetalflex.ingest.bucket import Inventory, check_usable, ingest_bucket, scan
from fetalflex.params import Center
from tasks.chunks import ChunkWork
from tasks.stage import StageRun
from tasks.workspace import check_role, load_center, raw_folder, workspace_key


class CenterIngest(ChunkWork):
    """What the chunks of one center's ingest share."""

    def __init__(self, run: StageRun) -> None:
        """Read every header once.

        Raises: SourceError for a missing or empty folder, ParameterError for a role that contradicts the folder: a
        plain `dvc repro` comes here without the walk's own check.
        """
        super().__init__(run)
        self.center = center = run.name.partition("@")[2]
        self.profile: Center = load_center(run.root, center)
        check_role(center, run.params.ingest.centers[center], self.profile)
        self.key: PseudonymKey = workspace_key(run.root, run.params)
        self.inventory: Inventory = scan(raw_folder(run.root, center), self.key)
        self.shards = [f"{n:02d}" for n in range(run.params.ingest.shards)]

    def make(self, name: str, folder: Path) -> None:
        """Ingest one bucket of files into a chunk's folder."""
        params = self.run.params.ingest
        result = ingest_bucket(self.inventory, int(name), params.shards, self.center, self.profile, params, self.key)
        tables.write_shard(folder / f"frames-{name}.parquet", result.frames, tables.Frames)
        tables.write_shard(folder / f"annotations-{name}.parquet", result.annotations, tables.Annotations)
        tables.write_shard(folder / "quarantine.parquet", result.quarantine, tables.Quarantine)
        if self.profile.findings:
            tables.write_shard(folder / "findings.parquet", result.findings, tables.Findings)

    def publish(self, chunks: dict[str, Path]) -> None:
        """Put the shards and one quarantine table in place. Raises: NoUsableFramesError."""
        quarantine = tables.read_shards([c / "quarantine.parquet" for c in chunks.values()], tables.Quarantine)
        count = sum(
            pl.scan_parquet(next(c.glob("frames-*"))).select(pl.len()).collect().item() for c in chunks.values()
        )
        check_usable(self.center, count, quarantine)
        whole = self.run.work / "whole"
        with writing_folder(whole) as partial:
            for chunk in chunks.values():
                for path in chunk.glob("*-*.parquet"):
                    (partial / path.name).write_bytes(path.read_bytes())
            tables.write_shard(partial / "quarantine.parquet", quarantine, tables.Quarantine)
            if self.profile.findings:
                findings = tables.read_shards([c / "findings.parquet" for c in chunks.values()], tables.Findings)
                tables.write_shard(partial / "findings.parquet", findings, tables.Findings)
        (output,) = self.run.outputs
        self.run.publish({output: whole})
