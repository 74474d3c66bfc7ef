"""The generated client: made, installed and used by somebody who has nothing else."""

import subprocess
import sys
import tempfile
from pathlib import Path

from bench import serve, show

ROOT = Path(__file__).resolve().parents[1]
_USER = Path(__file__).with_name("sdk_user.py")
STEPS = 4


def prove(_n: int | None, _seed: int | None) -> bool:
    """Generate the client, install it alone, and bring a first order with it. Returns whether all of it worked."""
    with tempfile.TemporaryDirectory(prefix="koc-sdk-") as made, show.progress("Client", STEPS) as tell:
        folder = Path(made)
        client = folder / "koc-client"
        _run(["make", "sdk", f"OUT={client}"])
        tell(1)
        _run([sys.executable, "-m", "venv", str(folder / "env")])
        python = folder / "env" / "bin" / "python"
        _run([str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", str(client)])
        tell(2)
        secret_key = serve.new_secret_key()
        with serve.database() as database:
            log = folder / "serve.log"
            with serve.service(database.url, secret_key=secret_key, log=log) as server:
                operator = serve.operator(database.url, secret_key=secret_key)
                tell(3)
                answer = _run([str(python), str(_USER), server.url, operator], fails=True)
                tell(4)
    works = answer.returncode == 0
    show.say((answer.stdout + answer.stderr).strip())
    show.result("sdk", steps=answer.stdout.count("ok "), failures=0 if works else 1)
    return works


def _run(command: list[str], *, fails: bool = False) -> "subprocess.CompletedProcess[str]":
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if answer.returncode and not fails:
        raise OSError(f"{' '.join(command)} ended with {answer.returncode}: {(answer.stdout + answer.stderr)[-1500:]}")
    return answer
