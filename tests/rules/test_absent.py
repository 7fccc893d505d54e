"""Packages of shipped rules that are not there, or cannot be imported: their rules are left out, and why."""

import json
import os
import subprocess
import sys

import pytest

BREAKS = {
    "RuntimeError: operator torchvision::nms does not exist": (
        "raise RuntimeError('operator torchvision::nms does not exist')"
    ),
    "OSError: libcudart.so: cannot open": "raise OSError('libcudart.so: cannot open')",
    "SystemExit: 3": "raise SystemExit(3)",
    "it is not installed": "raise ModuleNotFoundError('No module', name='torchvision')",
}


def prunus(folder, *command):
    """A command in a process of its own, in which `folder` comes first."""
    path = os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.run(
        [sys.executable, "-c", "import sys; from prunus.cli import main; sys.exit(main())", *command],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize("reason", BREAKS)
def test_check_does_without_a_package(reason, tmp_path):
    """Whatever its import raises, the other rules are checked, and the reason is told."""
    (tmp_path / "torchvision").mkdir()
    (tmp_path / "torchvision" / "__init__.py").write_text(BREAKS[reason] + "\n")
    found = prunus(tmp_path, "rules", "check", "--rule", "flip")
    assert found.returncode == 0, found.stdout + found.stderr
    assert f"note: the rules for torchvision are left out: {reason}" in found.stdout
    assert "0 rules failed" in found.stdout and "flip" in found.stdout
    assert "Traceback" not in found.stderr


def test_json_and_explain_tell_it_too(tmp_path):
    (tmp_path / "torchvision.py").write_text("raise RuntimeError('on purpose')\n")
    found = prunus(tmp_path, "rules", "check", "--rule", "flip", "--json")
    assert json.loads(found.stdout)["absent"] == {"torchvision": "RuntimeError: on purpose"}
    assert "on purpose" in prunus(tmp_path, "rules", "explain", "flip").stdout
