"""What a killed process leaves in W&B's file."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.runs.store import RunStore
from src.sync import cut, main, waiting

BLOCK, HEADER = 32768, 7


def log(sizes):
    """Return W&B's file of records of some sizes, and where each ends."""
    content, ends = bytearray(b":W&B123"), []
    for size in sizes:
        left, begun = size, False
        while left or not begun:
            if (room := BLOCK - len(content) % BLOCK) < HEADER:
                content += bytes(room)
                continue
            part = min(left, room - HEADER)
            kind = {(0, 1): 1, (0, 0): 2, (1, 0): 3, (1, 1): 4}[begun, part == left]
            content += b"crc " + part.to_bytes(2, "little") + bytes([kind]) + b"x" * part
            left, begun = left - part, True
        ends.append(len(content))
    return bytes(content), ends


SIZES = st.lists(st.integers(1, 3 * BLOCK) | st.integers(1, 50), min_size=1, max_size=6)


@given(sizes=SIZES, where=st.floats(0, 1))
def test_what_is_left_are_the_whole_records(tmp_path_factory, sizes, where):
    file = tmp_path_factory.mktemp("wandb") / "run.wandb"
    content, ends = log(sizes)
    end = round(where * len(content))
    file.write_bytes(content[:end])
    cut(file)
    whole = max((at for at in ends if at <= end), default=end)  # of none, nothing is cut
    assert file.read_bytes() == content[:whole]


def test_what_is_not_of_that_form_stays_as_it_is(tmp_path):
    file = tmp_path / "run.wandb"
    content = log([5])[0] + b"not W&B's, and longer than a header"
    file.write_bytes(content)
    cut(file)
    assert file.read_bytes() == content


@pytest.mark.parametrize("asked", [".", "runs", "runs/vgg-1", "runs/.again/vgg-1", "link"])
def test_a_run_that_is_being_trained_is_left_alone_wherever_it_is_looked_for(
    asked, tmp_path, monkeypatch, capsys
):
    with RunStore(tmp_path / "runs").writing("vgg-1", {}) as folder:
        if asked == "link":
            asked = "runs/vgg-1"
            folder.path.rename(tmp_path / "elsewhere")
            folder.path.symlink_to(tmp_path / "elsewhere")
        file = tmp_path / asked / "wandb/offline-run-1-vgg-1/run-vgg-1.wandb"
        if asked in (".", "runs"):
            file = folder.path / file.relative_to(tmp_path / asked)
        file.parent.mkdir(parents=True)
        file.write_bytes(log([5])[0] + b"half")
        main([str(tmp_path / asked)])
    assert file.read_bytes().endswith(b"half") and waiting(tmp_path)
    assert "vgg-1  left alone: it is being trained" in capsys.readouterr().out
