from __future__ import annotations

from streamfuse.sinks.summary import LabelShares
from tests.sinks.made import make_label, said, said_many


def test_label_shares_of_one_label_heads_sum_to_one() -> None:
    shares = LabelShares()
    for tick, name in enumerate(("sea", "street", "street", "unknown", "street", "sea")):
        shares.push(make_label(tick, scene=said(name, 0.7)))
    assert shares.as_dict()["scene"] == {"street": 0.5, "sea": 0.3333, "unknown": 0.1667}
    assert list(shares.as_dict()["scene"]) == ["street", "sea", "unknown"]
    assert shares.as_dict()["emotion"] == {"happy": 1.0}


def test_label_shares_of_many_label_heads_are_each_of_all_ticks() -> None:
    shares = LabelShares()
    shares.push(make_label(0, sound=said_many(("rain", 0.9), ("dog", 0.8))))
    shares.push(make_label(1, sound=said_many(("rain", 0.9))))
    shares.push(make_label(2, sound=said_many()))
    assert shares.as_dict()["sound"] == {"rain": 0.6667, "dog": 0.3333}


def test_label_shares_of_nothing() -> None:
    assert LabelShares().as_dict() == {}
