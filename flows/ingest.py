"""Stage `ingest`, once per center: raw DICOM to de-identified frames, annotations and quarantine."""

import argparse

from prefect import flow

from tasks.chunks import map_chunks, task_runner
from tasks.ingest import CenterIngest
from tasks.stage import open_stage, run_stage


@flow(name="ingest", persist_result=False)
def ingest(center: str) -> None:
    """Ingest one center in chunks of files."""
    with open_stage("ingest", center) as run:
        work = CenterIngest(run)
        work.publish(map_chunks(run, "files", work.shards, work.make))


def main() -> None:
    """Run the stage from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--center", required=True, help="the center to ingest")
    center: str = parser.parse_args().center
    run_stage("ingest", lambda compute: ingest.with_options(task_runner=task_runner(compute))(center), center)


if __name__ == "__main__":
    main()
