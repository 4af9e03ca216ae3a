"""The README's pictures, of a real search and a real run on digits: `python -m tests.screenshots`, about two minutes."""

import io
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

from tests import chromium
from tests.chromium import LAPTOP, PHONE
from tests.conftest import ROOT, environment

PLACE = ROOT / ".github" / "screenshots"
LARGEST = 150_000  # bytes: a README is read over telephones too


def main() -> None:
    """Train, search, draw, and look."""
    alphard = str(Path(sys.executable).with_name("alphard"))
    with tempfile.TemporaryDirectory() as here:
        for command in (
            [sys.executable, str(ROOT / "train.py"), "output_dir=outputs/digits", "data.test_fraction=0.2"],
            [sys.executable, str(ROOT / "train.py"), "search=mlp", "search.seed=0"],
            [alphard, "results", "outputs/digits"],
            [alphard, "results", "studies/mlp"],
        ):
            subprocess.run(command, cwd=here, env=environment(), check=True, capture_output=True)
        study, run = Path(here, "studies/mlp/report.html"), Path(here, "outputs/digits/report.html")
        for name, file, size, dark, height in (
            ("study", study, LAPTOP, False, 1180),
            ("run", run, LAPTOP, True, 1460),
            ("phone", study, PHONE, True, 1180),
        ):
            with chromium.opened(file, size, dark) as tab:
                keep(tab.png(height), PLACE / f"{name}.png")


def keep(png: bytes, path: Path) -> None:
    """The picture with 256 colours, which figures look the same in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.open(io.BytesIO(png)).convert("RGB").quantize(256, dither=Image.Dither.NONE)
    picture.save(path, optimize=True)
    assert path.stat().st_size < LARGEST, f"{path}: {path.stat().st_size} bytes"


if __name__ == "__main__":
    main()
