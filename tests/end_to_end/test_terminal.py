"""What someone at a terminal sees, who is never asked a question."""

import os
import pty
import re
import subprocess
import threading

import pytest


@pytest.mark.slow
def test_progress_and_estimate(command):
    ours, theirs = pty.openpty()
    overrides = ("data=digits", "scale=smoke", "max_steps=40", "model.depth=11", "seed=0,1")
    command.env["TERM"] = "xterm"
    process = subprocess.Popen(
        **command.arguments(*overrides), stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    shown = bytearray()

    def read():
        try:
            while data := os.read(ours, 4096):
                shown.extend(data)
        except OSError:  # Linux's way to say that the other side is closed
            pass

    reader = threading.Thread(target=read)
    reader.start()
    assert process.wait(120) == 0
    reader.join(10)
    os.close(ours)
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode())
    line = r"vgg_bn-\w{8} \S+ +40/40 loss \d\.\d{3}  acc [01]\.\d{3}  \d+\.\d steps/s \d:\d\d:\d\d"
    assert len(set(re.findall(r"vgg_bn-\w{8}(?= \S+ +40/40)", text))) == 2
    assert re.search(line, text), text[-2000:]
    assert re.search(r"about \d+ s a cell, \d+ s for the 2 cells to train", text)
    assert "2 cells, 0 already complete" in text and text.count("completed") == 2
    assert "Epoch" not in text and "wandb:" not in text and "Enter" not in text
