"""What is judged of what a model says of whole scans."""

import numpy as np

from medjax.metrics.detection import objects
from medjax.train.findings import Said, content, detection, judged


def found(centres, scores):
    centres = np.array(centres, float)
    return objects(centres, np.full(centres.shape, 10.0), score=np.array(scores))


def test_what_was_found_where_nobody_looked_is_neither_right_nor_wrong():
    there = found([(20, 20, 20)], [1.0])
    ours = found([(20, 20, 20), (90, 90, 90)], [0.5, 0.9])
    said = [Said("a", None, ours, np.eye(4), None, there)]
    blind = [said[0]._replace(seen=np.array([True, False]))]
    assert detection(said)["average_precision"] < 1
    assert detection(blind)["average_precision"] == 1
    assert detection(blind)["sensitivity"][0] == 1 > detection(said)["sensitivity"][0]
    assert len(blind[0].objects.centre) == 2  # it is written, as the user may want to look


def test_scans_that_nobody_searched_are_not_judged():
    ours = found([(20, 20, 20)], [0.5])
    unknown = Said("a", None, ours, np.eye(4))
    assert judged(unknown) is None
    assert content([unknown], ()) == {}
