"""Known answers give known shares; nothing is run twice, and nothing padded is counted."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from elfatt_deploy.errors import InputFileError, RunnerError
from elfatt_deploy.evaluation import log
from elfatt_deploy.evaluation.evaluate import EvalInterrupted, evaluate


def _silent(state):
    pass


def _shares(outcome, *names):
    return [getattr(outcome, name) and getattr(outcome, name).count for name in names]


def test_a_runner_that_knows_every_class_has_them_all(image_folder, make_plan, class_reader):
    runner = class_reader()
    outcome = evaluate(make_plan(image_folder(3)), runner, None, _silent)
    assert (outcome.images, outcome.top1.count, outcome.top5.count) == (30, 30, 30)
    assert outcome.worst(5) == ()
    assert outcome.complete
    assert (outcome.resumed, runner.opened) == (0, 0)
    assert outcome.reference_top1 is outcome.agreement_top1 is None


def test_wrong_classes_are_counted_and_named(image_folder, make_plan, class_reader):
    # the best five after an answer k are k..k+4: 2 is among those of 0, 4 is not among those of 7
    runner = class_reader({2: 0, 4: 7})
    outcome = evaluate(make_plan(image_folder(3)), runner, None, _silent)
    assert _shares(outcome, "top1", "top5") == [24, 27]
    assert [(c.index, c.folder, c.correct, c.images) for c in outcome.worst(5)] == [
        (2, "c2", 0, 3),
        (4, "c4", 0, 3),
    ]
    assert [c.correct for c in outcome.per_class] == [3, 3, 0, 3, 0, 3, 3, 3, 3, 3]


def test_agreement_is_on_the_same_images_in_the_same_pass(image_folder, make_plan, class_reader):
    runner, reference = class_reader({2: 0, 4: 7}), class_reader({2: 0, 5: 6}, name="torch")
    outcome = evaluate(make_plan(image_folder(2)), runner, reference, _silent)
    assert runner.batches == reference.batches
    assert _shares(outcome, "top1", "reference_top1") == [16, 16]
    assert _shares(outcome, "agreement_top1", "agreement_top5") == [16, 16]
    assert outcome.reference == "torch"


def test_logits_that_are_not_finite_are_wrong_and_agree_with_nothing(
    image_folder, make_plan, class_reader
):
    runner, reference = class_reader({0: None}), class_reader({0: None}, name="torch")
    outcome = evaluate(make_plan(image_folder(2)), runner, reference, _silent)
    assert outcome.nonfinite == 2
    assert _shares(outcome, "top1", "top5", "reference_top1") == [18, 18, 18]
    assert outcome.agreement_top1.count == 18


def test_a_fixed_batch_is_filled_up_and_the_filling_not_counted(
    image_folder, make_plan, class_reader
):
    runner = class_reader({9: 0})
    outcome = evaluate(make_plan(image_folder(1), batch=4), runner, None, _silent)
    assert [len(batch) for batch in runner.batches] == [4, 4, 4]
    assert runner.batches[-1] == [8, 9, 9, 9]
    assert (outcome.images, outcome.top1.count) == (10, 9)


def test_a_dynamic_batch_is_not_filled_up(image_folder, make_plan, class_reader):
    runner = class_reader()
    evaluate(make_plan(image_folder(1), run=4), runner, None, _silent)
    assert [len(batch) for batch in runner.batches] == [4, 4, 2]


def test_ctrl_c_keeps_what_is_finished_and_the_next_run_goes_on(
    image_folder, make_plan, class_reader
):
    plan = make_plan(image_folder(2))
    with pytest.raises(EvalInterrupted, match=r"8 of 20 images are kept in .*\.jsonl") as caught:
        evaluate(plan, class_reader(stop_after=2), None, _silent)
    assert isinstance(caught.value, KeyboardInterrupt)
    runner = class_reader()
    outcome = evaluate(plan, runner, None, _silent)
    assert [len(batch) for batch in runner.batches] == [4, 4, 4]
    assert runner.batches[0] == [4, 4, 5, 5]
    assert (outcome.images, outcome.resumed, outcome.top1.count) == (20, 8, 20)
    again = class_reader({0: 1})
    finished = evaluate(plan, again, None, _silent)
    assert again.batches == []
    assert (finished.resumed, finished.top1.count) == (20, 20)
    assert finished.images_per_s is None
    assert outcome.images_per_s > 0


def test_a_torn_line_is_a_note_and_its_image_is_run_again(image_folder, make_plan, class_reader):
    plan = make_plan(image_folder(1))
    first = evaluate(plan, class_reader(), None, _silent)
    first.log.write_bytes(first.log.read_bytes()[:-9])
    runner = class_reader()
    outcome = evaluate(plan, runner, None, _silent)
    assert runner.batches == [[9]]
    assert outcome.top1.count == 10
    assert "was cut off" in outcome.notes[0]
    assert first.notes == ()


def test_an_image_that_was_replaced_is_run_again(image_folder, make_plan, class_reader):
    root = image_folder(1)
    evaluate(make_plan(root), class_reader(), None, _silent)
    with (root / "c3" / "0.png").open("ab") as file:
        file.write(b"more")
    runner = class_reader()
    evaluate(make_plan(root), runner, None, _silent)
    assert runner.batches == [[3]]


def test_a_changed_listing_or_reference_is_another_run(image_folder, make_plan, class_reader):
    root = image_folder(1)
    first = evaluate(make_plan(root), class_reader(), None, _silent)
    beside = class_reader()
    second = evaluate(make_plan(root), beside, class_reader(name="torch"), _silent)
    (root / "c0" / "new.png").write_bytes((root / "c0" / "0.png").read_bytes())
    third = evaluate(make_plan(root), class_reader(), None, _silent)
    assert len(beside.batches) == 3
    assert len({first.log, second.log, third.log}) == 3
    assert third.images == 11


def test_an_image_that_cannot_be_read_is_named_left_out_and_tried_again(
    image_folder, make_plan, class_reader
):
    root = image_folder(1)
    good = (root / "c3" / "0.png").read_bytes()
    (root / "c3" / "0.png").write_bytes(b"no image")
    (root / "c4" / "0.png").unlink()
    (root / "c4" / "0.png").symlink_to(root / "nowhere.png")
    runner = class_reader({9: 0})
    outcome = evaluate(make_plan(root, batch=4), runner, None, _silent)
    assert [entry.image for entry in outcome.unreadable] == ["c3/0.png", "c4/0.png"]
    assert "not a readable image" in outcome.unreadable[0].reason
    assert (outcome.images, outcome.top1.count, outcome.complete) == (8, 7, False)
    assert [len(batch) for batch in runner.batches] == [4, 4, 4]
    assert [c.index for c in outcome.per_class] == [0, 1, 2, 5, 6, 7, 8, 9]
    (root / "c3" / "0.png").write_bytes(good)
    again = class_reader()
    outcome = evaluate(make_plan(root, batch=4), again, None, _silent)
    assert again.batches == [[3, 3, 3, 3]]
    assert [entry.image for entry in outcome.unreadable] == ["c4/0.png"]
    assert outcome.images == 9


def test_a_folder_of_which_nothing_can_be_read_is_an_error(image_folder, make_plan, class_reader):
    root = image_folder(1)
    for path in root.rglob("*.png"):
        path.write_bytes(b"no image")
    runner = class_reader()
    with pytest.raises(InputFileError, match="none of the 10 images"):
        evaluate(make_plan(root), runner, None, _silent)
    assert runner.batches == []
    assert runner.opened == 0


def test_a_limit_takes_its_images_from_the_log_of_the_whole(image_folder, make_plan, class_reader):
    root = image_folder(4)
    part = class_reader()
    outcome = evaluate(make_plan(root, limit=10), part, None, _silent)
    assert [level for batch in part.batches for level in batch] == list(range(10))
    assert outcome.images == 10
    whole = evaluate(make_plan(root), class_reader(), None, _silent)
    assert (whole.images, whole.resumed, whole.log) == (40, 10, outcome.log)


def test_the_log_holds_what_each_image_came_to(image_folder, make_plan, class_reader):
    plan = make_plan(image_folder(1))
    outcome = evaluate(plan, class_reader({1: 2}), class_reader(name="torch"), _silent)
    content = log.read_log(outcome.log)
    line = content.predictions[1]
    assert (line.image, line.label) == ("c1/0.png", 1)
    assert (line.top, line.reference) == ((2, 3, 4, 5, 6), (1, 2, 3, 4, 5))
    np.testing.assert_array_equal(
        np.array(line.values, np.float32), np.array([1, 0.9, 0.8, 0.7, 0.6], np.float32)
    )
    assert content.header.reference == "torch"
    assert content.header.preprocessing["crop_share"] == 1.0


def test_the_state_is_told_after_each_batch(image_folder, make_plan, class_reader):
    states = []
    evaluate(make_plan(image_folder(1)), class_reader({0: 1}), None, states.append)
    assert [state.partition(" ")[0] for state in states] == ["4", "8", "10"]
    assert "4 of 10 images" in states[0]
    assert "75.00 %" in states[0]


def test_random_weights_are_a_note(image_folder, make_plan, class_reader):
    plan = make_plan(image_folder(1))
    subject = dataclasses.replace(plan.subject, weights="random(0)", random=True)
    plan = dataclasses.replace(plan, subject=subject)
    assert "random(0)" in evaluate(plan, class_reader(), None, _silent).notes[0]


@pytest.mark.parametrize(
    ("outputs", "told"),
    [
        ({"other": np.zeros((4, 10), np.float32)}, "gives no 'logits', only other"),
        ({"logits": np.zeros((4, 9), np.float32)}, r"gives logits \(4, 9\) for 4 images of 10"),
        ({"logits": np.zeros((1, 10), np.float32)}, r"gives logits \(1, 10\) for 4 images"),
    ],
)
def test_what_is_not_logits_stops_the_run(outputs, told, image_folder, make_plan, class_reader):
    runner = class_reader()
    runner.infer = lambda feeds: outputs
    with pytest.raises(RunnerError, match=told):
        evaluate(make_plan(image_folder(1)), runner, None, _silent)
    assert runner.opened == 0


def test_below_six_classes_there_is_no_top_5(image_folder, make_plan, class_reader):
    plan = make_plan(image_folder(1))
    folder = dataclasses.replace(
        plan.folder, images=plan.folder.images[:5], classes=plan.folder.classes[:5]
    )
    plan = dataclasses.replace(
        plan, folder=folder, subject=dataclasses.replace(plan.subject, classes=5)
    )

    class Five(class_reader):
        def infer(self, feeds):
            return {"logits": super().infer(feeds)["logits"][:, :5]}

    outcome = evaluate(plan, Five(), Five(name="torch"), _silent)
    assert outcome.top1.count == outcome.agreement_top1.count == 5
    assert outcome.top5 is outcome.reference_top5 is outcome.agreement_top5 is None
