"""Virtual environments of the peer libraries, under `.bench-venvs/` in the repository."""

import subprocess
import sys
from pathlib import Path

from .report import log

ROOT = Path(__file__).resolve().parents[2]
REQUIREMENTS, VENVS = ROOT / "benchmarks" / "requirements", ROOT / ".bench-venvs"


def ensure(peer: str, venvs: Path = VENVS) -> Path:
    """Return the peer's interpreter; create its environment if necessary.

    An existing environment is reused. Its packages are reinstalled only if the requirements have
    changed or an earlier installation did not finish: the stamp is a copy of the requirements that
    is written last.
    """
    requirements, venv = REQUIREMENTS / f"{peer}.txt", venvs / peer
    wanted = requirements.read_text()
    python, stamp = venv / "bin" / "python", venv / "installed-requirements.txt"
    if not python.exists():
        log(f"making a virtual environment for {peer}")
        venvs.mkdir(exist_ok=True)
        (venvs / ".gitignore").write_text("*\n")
        subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True, stdout=sys.stderr)
    if not stamp.exists() or stamp.read_text() != wanted:
        log(f"installing {peer}")
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "-r", str(requirements)], check=True, stdout=sys.stderr)
        stamp.write_text(wanted)
    return python
