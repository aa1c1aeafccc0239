"""What the tests of an evaluation share: images that say their class, and a runner that reads it.

Every image is one grey level, ten times its class. The fake runner sees the class in the pixels, so
that what it answers is known whatever the order, the batch or the padding.
"""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from elfatt_deploy.artifacts import Preprocessing
from elfatt_deploy.evaluation import imagefolder
from elfatt_deploy.evaluation.plan import EvalPlan
from elfatt_deploy.evaluation.subject import Subject
from elfatt_deploy.runners.base import Runner

CLASSES = 10
_LEVEL = 10


class ClassReader(Runner):
    """Answers with the class that an image shows, or with what `answers` has in its place.

    Args:
        answers: class -> the class it is taken for; None makes its logits NaN.
        stop_after: calls after which Ctrl-C is pressed.
    """

    def __init__(self, answers=None, stop_after=None, name="fake"):
        self.answers, self.stop_after, self.name = answers or {}, stop_after, name
        self.batches = []
        self.opened = 0

    def open(self):
        self.opened += 1

    def close(self):
        self.opened -= 1

    def infer(self, feeds):
        assert self.opened == 1
        if len(self.batches) == self.stop_after:
            raise KeyboardInterrupt
        (images,) = feeds.values()
        shown = np.rint(images.mean(axis=(1, 2, 3)) * 255 / _LEVEL).astype(int)
        self.batches.append(shown.tolist())
        # best the answer, then the classes after it
        logits = np.zeros((len(images), CLASSES), np.float32)
        for row, level in enumerate(shown):
            answer = self.answers.get(level, level)
            if answer is None:
                logits[row, 3] = np.nan
            else:
                for rank in range(CLASSES):
                    logits[row, (answer + rank) % CLASSES] = 1 - rank / CLASSES
        return {"logits": logits}


@pytest.fixture
def class_reader():
    return ClassReader


@pytest.fixture
def image_folder(tmp_path):
    """Return a function that writes `count` images of each class into folders c0 to c9."""

    def write(count=3, classes=CLASSES):
        root = tmp_path / "data"
        for label in range(classes):
            (root / f"c{label}").mkdir(parents=True, exist_ok=True)
            for index in range(count):
                image = Image.new("RGB", (9 + index, 8), (label * _LEVEL,) * 3)
                image.save(root / f"c{label}" / f"{index}.png")
        return root

    return write


@pytest.fixture
def make_plan(tmp_path):
    """Return a function that plans an evaluation of a folder."""

    def plan(root, *, batch=None, run=4, **changes):
        subject = Subject(
            name="model",
            path=tmp_path / "model.onnx",
            sha256="0" * 64,
            weights="w.pth",
            precision="fp32",
            input_name="images",
            output_name="logits",
            classes=CLASSES,
            batch=batch,
            preprocessing=Preprocessing(
                height=8, width=8, crop_share=1.0, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)
            ),
            preprocessing_source="the test",
        )
        fields = {"output": tmp_path / "evals", "versions": {"numpy": "2"}, **changes}
        return EvalPlan(
            subject=subject,
            folder=imagefolder.read_folder(root, CLASSES),
            batch=batch or run,
            **fields,
        )

    return plan
