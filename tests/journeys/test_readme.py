"""The tour of the README, pasted into a shell as a new user would."""

import re
import subprocess
from pathlib import Path

from tests.support import running

ROOT = Path(__file__).parents[2]


def the_tour() -> str:
    readme = (ROOT / "README.md").read_text()
    tour = readme.split("<!-- tour: begin -->")[1].split("<!-- tour: end -->")[0]
    return "\n".join(re.findall(r"```bash\n(.*?)```", tour, re.DOTALL))


def test_the_tour_of_the_readme_works_when_pasted(database_url: str, tmp_path: Path) -> None:
    with running.service(database_url, log=tmp_path / "serve.log") as service:
        script = the_tour().replace(".venv/bin/koc", str(running.KOC))

        answer = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=ROOT,
            env={**service.environment, "KOC": service.url},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    assert answer.returncode == 0, f"{answer.stdout[-2000:]}\n{answer.stderr[-4000:]}"
    assert '"state":"waiting"' in answer.stdout
    assert '"target_minor":31250' in answer.stdout
    assert "31250" in answer.stdout.rsplit("paid", 1)[1]
