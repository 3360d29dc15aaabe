"""flows > tasks > fetalflex, and the library knows nothing of prefect, dvc and mlflow."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_import_contracts_are_kept() -> None:
    command = [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_importing_the_library_costs_nothing() -> None:
    heavy = "('torch', 'prefect', 'mlflow', 'polars')"
    code = f"import sys, fetalflex, fetalflex.params; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_model_and_diffusion_run_without_tables_and_orchestration() -> None:
    """A bare GPU machine has torch, diffusers and numpy, but neither polars nor prefect."""
    blocked = "('polars','pyarrow','dataframely','prefect','dvc','mlflow','pydicom','highdicom')"
    code = (
        "import sys, importlib, pkgutil\n"
        f"for name in {blocked}: sys.modules[name] = None\n"
        "import fetalflex.dataset, fetalflex.model, fetalflex.diffusion, fetalflex.masks.segmenter\n"
        "for package in (fetalflex.model, fetalflex.diffusion):\n"
        "    for found in pkgutil.iter_modules(package.__path__, package.__name__ + '.'):\n"
        "        importlib.import_module(found.name)\n"
        "print('ok')"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "ok", done.stderr
