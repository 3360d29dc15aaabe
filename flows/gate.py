"""Stage `gate`: accepted or rejected, with the reason, per image and per release."""

from prefect import flow

from tasks.gate import judge_release
from tasks.stage import open_stage, run_stage


@flow(name="gate", persist_result=False)
def gate() -> None:
    """Decide."""
    with open_stage("gate") as run:
        judge_release(run)


if __name__ == "__main__":
    run_stage("gate", lambda _: gate())
