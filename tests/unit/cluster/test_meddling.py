# SPDX-License-Identifier: Apache-2.0
"""What others write into our objects is put right, and not in a fight."""

import itertools

from embellie.cluster.meddling import FIRST_S, MOST_S, Meddling
from embellie.cluster.plan_watch import is_foreign


def test_whoever_goes_on_writing_is_answered_ever_more_seldom():
    now, answers = [0.0], []
    meddling = Meddling(lambda: now[0])
    for _ in range(4 * 3600):
        meddling.note("uid", gone=False)
        answers += [now[0] for _ in meddling.due()]
        now[0] += 1.0
    gaps = [later - earlier for earlier, later in itertools.pairwise(answers)]
    assert gaps[:5] == [FIRST_S, 2 * FIRST_S, 4 * FIRST_S, 8 * FIRST_S, 16 * FIRST_S]
    assert set(gaps[5:]) == {MOST_S}


def test_one_who_stopped_is_answered_at_once_again_and_each_object_has_its_own_time():
    now = [0.0]
    meddling = Meddling(lambda: now[0])
    meddling.note("one", gone=False)
    assert list(meddling.due()) == [("one", False)]
    assert list(meddling.due()) == []
    meddling.note("one", gone=True)
    meddling.note("two", gone=False)
    assert list(meddling.due()) == [("two", False)]
    now[0] = FIRST_S
    assert list(meddling.due()) == [("one", True)]
    now[0] = 10 * MOST_S
    meddling.note("one", gone=False)
    assert list(meddling.due()) == [("one", False)]


def test_a_label_of_somebody_elses_is_no_word_of_the_plan():
    def managed(manager: str, *fields: str) -> dict[str, object]:
        return {"managedFields": [{"manager": manager, "fieldsV1": {field: {} for field in fields}}]}

    assert is_foreign(managed("kubectl-edit", "f:status"))
    assert is_foreign(managed("kubectl-edit", "f:metadata", "f:spec"))
    assert not is_foreign(managed("kubectl-label", "f:metadata"))
    assert not is_foreign(managed("embellie", "f:status", "f:spec"))
    assert not is_foreign({})
