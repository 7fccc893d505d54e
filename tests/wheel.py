"""Build the wheel, install it alone and use it once: ``make wheel``.

The wheel is built from a copy of the sources and used in an environment and a folder of its own, so nothing
that only a clone has can help. What prunus depends on is borrowed from the environment that runs this.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NO_SOURCES = (".*", "__pycache__", "build", "dist", "*.egg-info", "node_modules")
USE = """
import torch, prunus, prunus.editor.server
from pathlib import Path
from torch import nn
from prunus import engine

assert Path(prunus.__file__).is_relative_to({environment!r}), prunus.__file__
model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 3))
result = engine.prune(model, example_inputs=torch.randn(1, 3, 8, 8), ratio=0.5)
assert model[0].out_channels == 4 and result.after < result.before, result
print(f"pruned a model from {{result.before}} to {{result.after}} parameters")
"""
COMMANDS = (
    ["--version"],
    ["rules", "fmt", "--check"],
    ["rules", "explain", "conv"],
    ["groups", "my_model:net"],
    ["report", "my_model:net"],
)
MODEL = """
from torch import nn

def net():
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
"""


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder).resolve()
        sources = shutil.copytree(ROOT, here / "sources", ignore=shutil.ignore_patterns(*NO_SOURCES))
        wheel = build(sources, here)
        expect_whole(wheel, sources)
        shutil.rmtree(sources)
        python = install(wheel, here / "environment")
        use(python, here / "empty")


def build(sources: Path, folder: Path) -> Path:
    run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, sources], folder
    )
    (wheel,) = folder.glob("*.whl")
    print(f"built {wheel.name}, {wheel.stat().st_size // 1024} KiB")
    return wheel


def expect_whole(wheel: Path, sources: Path) -> None:
    """Every file of every package is in the wheel, and nothing else."""
    expected = files_of_packages(sources)
    found = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    for name in sorted(expected ^ found):
        print(f"{'missing in' if name in expected else 'only in'} the wheel: {name}")
    if expected != found:
        sys.exit(1)
    print(f"{len(found)} files in it, which is all there are")


def files_of_packages(sources: Path) -> set[str]:
    """The modules of the root, which is the package, and whatever is in its folders that are packages."""
    folders = [path.parent for path in sources.glob("*/__init__.py")]
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    files += sources.glob("*.py")
    return {f"prunus/{path.relative_to(sources).as_posix()}" for path in [*files, sources / "py.typed"]}


def install(wheel: Path, environment: Path) -> Path:
    """The Python of a new environment that has the wheel; it finds other packages where this one does."""
    venv.create(environment, symlinks=os.name != "nt")
    paths = {"base": str(environment), "platbase": str(environment)}
    python = Path(sysconfig.get_path("scripts", "venv", paths)) / "python"
    run(
        [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", wheel],
        environment,
    )
    # A folder that a .pth file names is searched, but .pth files in it, which name the clone, are not read.
    borrowed = "\n".join({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")})
    Path(sysconfig.get_path("purelib", "venv", paths), "borrowed.pth").write_text(borrowed, encoding="utf-8")
    return python


def use(python: Path, folder: Path) -> None:
    folder.mkdir()
    run([python, "-c", USE.format(environment=str(python.parents[1]))], folder)
    (folder / "my_model.py").write_text(MODEL, encoding="utf-8")
    for command in COMMANDS:
        print("$ prunus", *command)
        run([python.parent / "prunus", *command], folder)
    run([python, "-m", "prunus", "--version"], folder)
    if not (folder / "report.html").stat().st_size:
        sys.exit("the report is empty")


def run(command: list, folder: Path) -> None:
    """Run a command there, without what this process was told of places to import from."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    subprocess.run([str(word) for word in command], cwd=folder, env=variables, check=True)


if __name__ == "__main__":
    main()
