"""What is written appears as a whole or not at all, where it was meant to be, and over nothing else."""

from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import pytest
import torch
from prunus import engine, files
from prunus.cli import main
from prunus.engine import Plan
from prunus.errors import CheckpointError, PrunusError
from torch import nn

NETS = """
    from torch import nn

    print("built")

    def net():
        return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
"""


def net() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)).eval()


def save(path) -> None:
    engine.save(path, net(), Plan())


def text(path) -> None:
    files.write_text(path, "new")


WRITERS = [save, text]


def left(folder: Path) -> set[str]:
    return {one.name for one in folder.iterdir()}


# --- where it goes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize("there", [True, False], ids=["a file", "nothing yet"])
def test_a_link_stays_one(tmp_path, write, there):
    """What it leads to is written, over links to links as well, and also where nothing is yet."""
    (tmp_path / "deep").mkdir()
    place = tmp_path / "deep" / "place"
    if there:
        place.write_text("old")
    (tmp_path / "second").symlink_to(Path("deep") / "place")
    (tmp_path / "first").symlink_to("second")
    write(tmp_path / "first")
    assert (tmp_path / "first").is_symlink() and (tmp_path / "second").is_symlink()
    assert place.read_bytes()[:3] != b"old" and left(tmp_path / "deep") == {"place"}
    assert left(tmp_path) == {"first", "second", "deep"}


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize("kind", ["device", "pipe", "folder", "link to a device", "link to itself", "socket"])
def test_only_regular_files_are_replaced(tmp_path, write, kind):
    """A device, a pipe or a folder is refused and stays what it is."""
    path = tmp_path / "x"
    if kind == "device":
        try:
            os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 3))
        except PermissionError:
            path = Path("/dev/null")
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "link to a device":
        path.symlink_to("/dev/full")
    elif kind == "link to itself":
        path.symlink_to("x")
    else:
        os.mknod(path, stat.S_IFSOCK | 0o600)
    before = path.lstat()
    with pytest.raises(PrunusError, match="cannot write"):
        write(path)
    after = path.lstat()
    assert (before.st_mode, before.st_ino) == (after.st_mode, after.st_ino)
    assert len(left(tmp_path)) <= 1


BAD = [None, "", "a\0b", b"x", 3, ".", "no/such/x", "x" * 300, "x/" * 3000 + "x", "folder/", True, 1.5, []]


@pytest.mark.parametrize("path", BAD, ids=lambda path: repr(path)[:20])
def test_a_name_that_is_none_is_one_line(tmp_path, monkeypatch, path):
    """Of another type, empty, with a NUL, too long: one short message each, for every file."""
    monkeypatch.chdir(tmp_path)
    graph = engine.analyze(net(), torch.randn(2, 6))
    from prunus import report

    calls = [
        (CheckpointError, lambda: save(path)),
        (CheckpointError, lambda: engine.load(path, net())),
        (PrunusError, lambda: text(path)),
        (PrunusError, lambda: report.write(graph, path)),
    ]
    for kind, call in calls:
        with pytest.raises(kind) as caught:
            call()
        assert "\n" not in str(caught.value) and "\0" not in str(caught.value)
        assert 20 < len(str(caught.value)) < 400
    assert left(tmp_path) == set()


def test_names_of_any_kind_are_written(tmp_path):
    """Texts, paths, letters of any script, and as long as the system takes."""
    for name in ("plain", "ein Wörtchen", "\u6881", "x" * 255, "-", "a.b.c"):
        saved, loaded = net(), net()
        engine.save(str(tmp_path / name), saved, Plan())
        engine.load(tmp_path / name, loaded)
        assert all(map(torch.equal, loaded.parameters(), saved.parameters()))
    assert len([*tmp_path.iterdir()]) == 6


@pytest.mark.parametrize("write", WRITERS)
def test_permissions_are_kept(tmp_path, write):
    """Those of the file that is replaced, else those of any new file."""
    (tmp_path / "plain").touch()
    write(tmp_path / "new")
    assert (tmp_path / "new").stat().st_mode == (tmp_path / "plain").stat().st_mode
    for mode in (0o600, 0o640, 0o666, 0o755):
        (tmp_path / "new").chmod(mode)
        write(tmp_path / "new")
        assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == mode


def told(names: list[str]) -> list[str]:
    """What a user who is not root is told of files that are to be written in the current folder."""
    found = []
    for name in names:
        for call in (files.expect_writable, text):
            try:
                call(name)
                found.append("written")
            except Exception as error:
                found.append(str(error))
    return found


def without_privileges(names: list[str]) -> list[str]:
    """The same in a process of its own, as root may write everywhere."""
    if os.getuid() != 0:
        return told(names)
    output, end = os.pipe()
    child = os.fork()
    if child == 0:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
        os.write(end, "\n".join(told(names)).encode())
        os._exit(0)
    os.waitpid(child, 0)
    return os.read(output, 9999).decode().splitlines()


def test_a_folder_and_a_file_that_are_write_protected(monkeypatch):
    """Are told beforehand, and what is there stays."""
    with tempfile.TemporaryDirectory() as name:
        monkeypatch.chdir(name)
        Path(name).chmod(0o777)
        Path("locked").mkdir()
        for path in (Path("locked", "x"), Path("kept")):
            path.write_text("old")
            path.chmod(0o444)
        Path("locked").chmod(0o555)
        found = without_privileges(["locked/x", "locked/y", "kept", "new"])
        assert all(line.startswith("cannot write") for line in found[:6]), found
        assert found[6:] == ["written"] * 2 and "write-protected" in found[5]
        assert Path("locked", "x").read_text() == Path("kept").read_text() == "old"
        Path("locked").chmod(0o755)
        monkeypatch.undo()


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize("step", ["os.replace", "os.fsync"])
def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch, write, step):
    """One message, and nothing else is left."""
    path = tmp_path / "x"
    path.write_text("old")

    def full(*given):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(step, full)
        with pytest.raises(PrunusError, match="No space left"):
            write(path)
    assert path.read_text() == "old" and left(tmp_path) == {"x"}


@pytest.mark.skipif(not os.access("/dev/full", os.W_OK), reason="there is no full device")
def test_a_disk_that_is_full_indeed(tmp_path, monkeypatch):
    """The tensors are written to a device without room."""
    (tmp_path / "x").write_text("old")

    monkeypatch.setattr(Path, "touch", lambda self: self.symlink_to("/dev/full"))
    with pytest.raises(PrunusError):
        text(tmp_path / "x")
    assert (tmp_path / "x").read_text() == "old" and left(tmp_path) == {"x"}


# --- what is left behind -----------------------------------------------------------------------------------

KILLED = """
    import os, signal, sys
    from prunus import files

    with files.written(sys.argv[1]) as part:
        part.write_text("half")
        print("there", flush=True)
        {then}
"""


def process(path: Path, then: str) -> subprocess.Popen:
    command = [sys.executable, "-c", textwrap.dedent(KILLED.format(then=then)), str(path)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_leftovers_of_the_dead_are_cleared_away(tmp_path):
    """By the next file in that folder, whatever its name; the old file is there as it was."""
    (tmp_path / "x").write_text("old")
    with process(tmp_path / "x", "os.kill(os.getpid(), signal.SIGKILL)") as killed:
        assert killed.wait() == -signal.SIGKILL
    assert len(left(tmp_path)) == 2 and (tmp_path / "x").read_text() == "old"
    save(tmp_path / "y")
    assert left(tmp_path) == {"x", "y"}


def test_leftovers_of_a_library_that_writes_beside_its_file(tmp_path):
    """As safetensors does, which moves a whole file to where it was told to write."""
    half = "part.with_name('.tmp').write_text('half'); "
    with process(tmp_path / "x", half + "os.kill(os.getpid(), signal.SIGKILL)") as killed:
        killed.wait()
    assert len(left(tmp_path)) == 1
    save(tmp_path / "y")
    assert left(tmp_path) == {"y"}


def test_leftovers_of_the_dead_that_were_clearing_up(tmp_path):
    """Killed when the lock was gone, but not yet the file beside it."""
    with process(tmp_path / "x", "os.kill(os.getpid(), signal.SIGKILL)") as killed:
        killed.wait()
    (folder,) = left(tmp_path)
    (tmp_path / folder / "lock").unlink()
    save(tmp_path / "y")
    assert left(tmp_path) == {"y"}


def test_leftovers_of_the_living_are_not(tmp_path):
    """Two processes write into one folder: each file is whole."""
    with process(tmp_path / "x", "sys.stdin.read()") as writing:
        assert writing.stdout.readline() == "there\n"
        text(tmp_path / "x")
        text(tmp_path / "y")
        assert len(left(tmp_path)) == 3 and (tmp_path / "x").read_text() == "new"
        writing.communicate()
        assert writing.returncode == 0
    assert left(tmp_path) == {"x", "y"} and (tmp_path / "x").read_text() == "half"


def test_what_only_looks_like_a_leftover_stays(tmp_path):
    """A file, or a link to a folder, of such a name."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "work").touch()
    (tmp_path / ".prunus-notes.part").write_text("mine")
    (tmp_path / ".prunus-link.part").symlink_to("mine")
    text(tmp_path / "x")
    assert left(tmp_path) == {"x", "mine", ".prunus-notes.part", ".prunus-link.part"}
    assert left(tmp_path / "mine") == {"work"}


def test_a_folder_with_more_than_prunus_leaves_stays(tmp_path):
    """Of the name of a leftover, with a lock that nobody holds, but with somebody's file."""
    folder = tmp_path / ".prunus-mine.part"
    folder.mkdir()
    for name in ("lock", "precious"):
        (folder / name).write_text("mine")
    text(tmp_path / "x")
    assert left(folder) == {"lock", "precious"}


class Nowhere:
    """Says that it is a path, and gives a number."""

    def __fspath__(self):
        return 5


def test_a_path_that_is_none_is_one_line(tmp_path, monkeypatch):
    """Whatever reads and writes says so."""
    monkeypatch.chdir(tmp_path)
    for use in (save, text, files.expect_regular):
        with pytest.raises(PrunusError, match="it is no name of a file"):
            use(Nowhere())
    assert left(tmp_path) == set()


def test_without_locks_age_tells(tmp_path, monkeypatch):
    """Where the system has none, only what is older than a day goes."""
    monkeypatch.setattr(files, "flock", None)
    for name, days in (("old", 2), ("young", 0)):
        folder = tmp_path / f".prunus-{name}.part"
        folder.mkdir()
        (folder / "lock").touch()
        then = folder.stat().st_mtime - days * 86400
        os.utime(folder, (then, then))
    text(tmp_path / "x")
    assert left(tmp_path) == {"x", ".prunus-young.part"}


# --- the command line --------------------------------------------------------------------------------------


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with a model, which is the current one."""
    (tmp_path / "a_net.py").write_text(textwrap.dedent(NETS))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "a_net", raising=False)
    return tmp_path


COMMANDS = [["prune", "--plan"], ["report", "-o"]]


def run(command: list[str], path: str, *more: str) -> int:
    return main([command[0], "a_net:net", "--input", "2x6", command[1], path, *more])


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
@pytest.mark.parametrize("path", ["/dev/full", ".", "", "no/such", "a\0b", "x" * 300, "a_net.py"])
def test_a_place_that_will_not_do_is_told_before_the_work(here, capsys, command, path):
    """Status 2 and one line, and the model has not even been built."""
    before = (here / "a_net.py").read_text()
    assert run(command, path) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and err.startswith("error: ")
    assert (here / "a_net.py").read_text() == before


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_only_its_own_files_are_replaced_unasked(here, capsys, command):
    """One of the same kind, or an empty one; all others with --force."""
    (here / "notes").write_text("mine")
    assert run(command, "notes") == 2 and "--force" in capsys.readouterr().err
    assert (here / "notes").read_text() == "mine"
    assert run(command, "notes", "--force") == 0
    assert run(command, "notes") == 0
    (here / "empty").touch()
    assert run(command, "empty") == 0
    other = COMMANDS[1 - COMMANDS.index(command)]
    assert run(other, "notes") == 2


def test_fmt_writes_all_files_or_none(here, monkeypatch):
    """A second file that cannot be written leaves the first as it was; links stay links."""
    text = "use   default\n"
    (here / "a.rules").write_text(text)
    (here / "b.rules").symlink_to("a.rules")
    (here / "c.rules").write_text(text)
    assert main(["rules", "fmt", "b.rules"]) == 0
    assert (here / "a.rules").read_text() == "use default\n" and (here / "b.rules").is_symlink()
    (here / "a.rules").write_text(text)
    refuse = files.expect_writable

    def refused(path, *more):
        refuse(path, *more)
        if path == "c.rules":
            raise PrunusError("cannot write c.rules")

    monkeypatch.setattr("prunus.cli.rules.expect_writable", refused)
    assert main(["rules", "fmt", "a.rules", "c.rules"]) == 2
    assert (here / "a.rules").read_text() == (here / "c.rules").read_text() == text
