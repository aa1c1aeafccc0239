"""What an evaluation runs on, put together before anything runs."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from elfatt_deploy.artifacts import to_document
from elfatt_deploy.evaluation.imagefolder import ImageFolder
from elfatt_deploy.evaluation.log import LogHeader
from elfatt_deploy.evaluation.subject import Subject


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class EvalPlan:
    """Everything about an evaluation but its runners.

    Args:
        subject: what is evaluated.
        folder: the labelled images.
        batch: images in one run; see `Subject.batch_size`.
        limit: evaluate this many images, spread evenly; None means all.
        precision: precision of what runs.
        agreement_note: why no torch model sees the images; empty where one does.
        versions: package -> version of all that a prediction depends on.
        output: folder of the logs.
    """

    subject: Subject
    folder: ImageFolder
    batch: int
    limit: int | None = None
    agreement_note: str = ""
    versions: dict[str, str]
    output: Path

    def header(self, runner: str, reference: str | None) -> LogHeader:
        """Return the first line of the log."""
        return LogHeader(
            model=self.subject.name,
            model_sha256=self.subject.sha256,
            weights=self.subject.weights,
            precision=self.subject.precision,
            runner=runner,
            reference=reference,
            data=self.folder.root.resolve().name,
            data_sha256=self.folder.sha256,
            images=len(self.folder.images),
            classes=self.subject.classes,
            preprocessing=to_document(self.subject.preprocessing),
            versions=self.versions,
        )
