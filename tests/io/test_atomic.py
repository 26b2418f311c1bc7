import os
import subprocess
import sys
import threading

import pytest

from custom.io.atomic import part_of, remove_parts, write_atomically


def test_the_file_appears_when_the_block_ends(tmp_path):
    path = tmp_path / "new" / "metrics.json"
    with write_atomically(path) as part:
        part.write_text("{}")
        assert not path.exists()
    assert path.read_text() == "{}" and list(path.parent.iterdir()) == [path]
    assert path.stat().st_mode & 0o777 == 0o666 & ~umask()


def umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_an_interrupted_block_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "metrics.json"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), write_atomically(path) as part:
        part.write_text("ne")
        raise KeyboardInterrupt
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_two_threads_write_the_same_file(tmp_path):
    path, errors = tmp_path / "shared.txt", []
    barrier = threading.Barrier(2)

    def write(text: str) -> None:
        try:
            for _ in range(50):
                barrier.wait()
                with write_atomically(path) as part:
                    part.write_text(text)
                    barrier.wait()  # both are inside the block
                assert path.read_text() in ("a" * 1000, "b" * 1000)
        except BaseException as error:
            errors.append(error)
            barrier.abort()

    threads = [threading.Thread(target=write, args=(c * 1000,)) for c in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors and list(tmp_path.iterdir()) == [path]


WRITER = """
import os, sys
os.getpid = lambda: 7  # as the first process of each of two containers
from custom.io.atomic import write_atomically
with write_atomically(sys.argv[1]) as part:
    part.write_text(sys.argv[2])
    print(part, flush=True)
    sys.stdin.readline()
"""


def test_two_processes_of_equal_pid_write_the_same_file(tmp_path):
    path = tmp_path / "shared.txt"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, path, text],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for text in ("first", "second")
    ]
    parts = [process.stdout.readline() for process in processes]
    assert parts[0] != parts[1]
    assert not remove_parts(tmp_path), "both are still being written"
    for process, text in zip(processes, ("first", "second"), strict=True):
        process.communicate("\n")
        assert process.returncode == 0 and path.read_text() == text
    assert list(tmp_path.iterdir()) == [path]


def test_only_files_of_this_project_are_removed(tmp_path):
    names = [
        ".1.profile",
        ".2024.thesis-notes.docx",
        ".mmcell-part",
        "a.0123456789abcdef.mmcell-part",
        ".a.0123.mmcell-part",
    ]
    for name in names:
        (tmp_path / name).write_text("the user's")
    left = part_of(tmp_path / ("long" * 60 + ".json"))
    left.write_text("of a killed process")
    assert remove_parts(tmp_path) == [left]
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(names)
