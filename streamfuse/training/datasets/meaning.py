"""What the labels of the recordings mean to our heads.

A place is learned from pictures of it and from sounds that belong to it alone; a sound that is heard in
many places (rain, fire, a train) is no place, and its clips teach the `sound` head only.
"""

from __future__ import annotations

PLACES = ("forest", "coast", "street", "indoor", "mountain")
EMOTIONS = ("none", "neutral", "happy", "sad", "angry")
SOUNDS = (
    "rain", "storm", "wind", "waves", "stream", "birds", "night", "train", "street", "cafe", "fire",
)  # fmt: skip
FEELINGS = ("neutral", "happy", "sad", "angry", "calm", "fearful", "disgust", "surprised")
"""All that the speech sets name. The last four have no place in the emotion head; they teach the branch."""

_PICTURES = {
    "forest": ("forest",),
    "coast": ("sea", "coast"),
    "street": ("street", "insidecity", "highway", "buildings", "tallbuilding"),
    "indoor": ("kitchen", "livingroom", "office", "store", "bedroom"),
    "mountain": ("mountain", "opencountry"),
}
_SOUNDS = {
    "forest": ("birds", "other:woodpecker", "other:walk_on_leaves"),
    "coast": ("waves", "other:seagulls"),
    "street": ("street", "other:ambulance_siren", "other:construction_site"),
    "indoor": (
        "cafe", "other:office", "other:library", "other:supermarket", "other:keyboard", "other:typewriter",
        "other:church", "other:laundry_room", "other:laboratory", "other:washing_machine", "other:dryer",
        "other:slide_projector", "other:ceiling_fan",
    ),
    "mountain": ("wind",),
}  # fmt: skip

PICTURE_PLACES = {label: PLACES.index(place) for place, labels in _PICTURES.items() for label in labels}
SOUND_PLACES = {label: PLACES.index(place) for place, labels in _SOUNDS.items() for label in labels}


def emotion_index(label: str) -> int:
    """Class of the emotion head, or -1 where the head has no such class."""
    return EMOTIONS.index(label) if label in EMOTIONS else -1
