"""Write the three lock files with hashes and without any index or download address."""

import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
UV = pathlib.Path(sys.executable).parent / "uv"
OPTIONS = [
    *("--quiet", "--generate-hashes", "--no-emit-index-url", "--no-annotate", "--no-header"),
    *("--python-version", "3.11", "--universal"),
]


def compile_lock(source: pathlib.Path, target: pathlib.Path, *more: str) -> None:
    """Resolve `source` into `target`."""
    command = [str(UV), "pip", "compile", *OPTIONS, *more, str(source), "-o", str(target)]
    subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.DEVNULL)


def pins_of(lock: pathlib.Path) -> str:
    """Return the lines `name==version ; marker` of a lock file, without hashes."""
    lines = (line.rstrip(" \\") for line in lock.read_text().splitlines() if "==" in line)
    return "\n".join(line for line in lines if not line.lstrip().startswith("--hash")) + "\n"


def main() -> None:
    """Lock developers' packages first; what runs is a subset with the same versions."""
    developer = ROOT / "requirements-dev.lock"
    compile_lock(ROOT / "requirements-dev.in", developer)
    with tempfile.TemporaryDirectory() as folder:
        pins = pathlib.Path(folder, "pins.txt")
        pins.write_text(pins_of(developer))
        compile_lock(ROOT / "requirements.in", ROOT / "requirements.lock", "-c", str(pins))
        uv = pathlib.Path(folder, "uv.in")
        uv.write_text("uv\n")
        compile_lock(uv, ROOT / "requirements-uv.lock")


if __name__ == "__main__":
    main()
