"""The ring of pictures: the newest, the nearest, and no more than it may keep."""

from __future__ import annotations

from streamfuse.types import NS, Still
from streamfuse.view.pictures import Pictures


def still(source: str, at_s: float, session: int = 0) -> Still:
    return Still(source, session, round(at_s * NS), round(at_s * NS), 64, 48, b"\xff\xd8\xff\xff\xd9")


def test_latest_picture_is_the_last_that_came() -> None:
    pictures = Pictures()
    assert pictures.latest("door") is None
    for at in (0.0, 0.5, 1.0):
        pictures.push(still("door", at))
    pictures.push(still("yard", 7.0))
    assert pictures.latest("door") == still("door", 1.0)


def test_nearest_picture_is_of_the_same_session() -> None:
    pictures = Pictures()
    for session in (0, 1):
        for at in (0.0, 0.5, 1.0, 1.5):
            pictures.push(still("door", at, session))
    assert pictures.nearest("door", 0, round(0.6 * NS), NS) == still("door", 0.5, 0)
    assert pictures.nearest("door", 1, 3 * NS, 2 * NS) == still("door", 1.5, 1)
    assert pictures.nearest("door", 1, 99 * NS, 2 * NS) is None, "it shows something else"
    assert pictures.nearest("door", 2, 0, NS) is None
    assert pictures.nearest("yard", 0, 0, NS) is None


def test_pictures_keep_only_the_last() -> None:
    pictures = Pictures(kept=3)
    for at in range(10):
        pictures.push(still("door", at))
    assert pictures.nearest("door", 0, 0, 9 * NS) == still("door", 7.0)


def test_forgotten_source_has_no_picture() -> None:
    pictures = Pictures()
    pictures.push(still("door", 0))
    pictures.forget("door")
    pictures.forget("door")
    assert pictures.latest("door") is None
