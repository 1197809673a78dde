"""What is seen well enough to be told or asked about."""

from typing import Any

from evals.miniature.talks.sights import sight_of


def thing(number: int, **changes: Any) -> dict[str, Any]:
    """The description of a red mug that is seen well."""
    told: dict[str, Any] = {
        "id": number,
        "class": "mug",
        "name": "plain mug",
        "texture": "plain",
        "colours": ["red"],
        "text": "",
        "depth": 2.0,
        "box": [10, 20, 49, 69],
        "pixels": 1500,
        "visible": 1.0,
        "on": "floor",
        "inside": 1.0,
        "tones": [["red", 0.8], ["black", 0.2]],
    }
    return {**told, **changes}


def record(*objects: dict[str, Any], floor_share: float = 0.5, side: int = 128) -> dict[str, Any]:
    """A description of a picture with these objects."""
    camera = {"width": side, "height": side}
    return {
        "camera": camera,
        "room": {"floor": "tiles"},
        "floor_share": floor_share,
        "kind": "gathering",
        "objects": objects,
    }


def test_a_thing_that_is_seen_well() -> None:
    """It is clear, its colour and pattern can be asked for, and its box is in shares of the picture."""
    item = sight_of(record(thing(0))).single("mug")
    assert item is not None
    assert (item.clear, item.toned, item.patterned, item.legible) == (True, True, True, False)
    assert item.box == (10 / 128, 20 / 128, 50 / 128, 70 / 128)
    assert item.middle == 30 / 128
    assert item.shown == ("red", "black")


def test_what_is_seen_badly_is_neither_there_nor_not_there() -> None:
    """Too small, hidden, cut off, or too thin: not clear, and still not absent."""
    bad: list[dict[str, Any]] = [{"pixels": 200}, {"visible": 0.5}, {"inside": 0.6}, {"box": [10, 20, 19, 69]}]
    for changes in bad:
        sight = sight_of(record(thing(0, **changes)))
        assert not sight.present("mug")
        assert not sight.absent("mug")
        assert sight.number("mug") is None
        assert sight.single("mug") is None
    assert sight_of(record(thing(0))).absent("chair")


def test_thresholds_grow_with_the_picture() -> None:
    """A quarter of the pixels does in a picture of half the side."""
    small = thing(0, pixels=70, box=[5, 10, 14, 34])
    assert sight_of(record(small, side=64)).present("mug")
    assert not sight_of(record(small)).present("mug")


def test_one_bad_thing_spoils_the_count() -> None:
    """Two mugs are two only if both are clear; then neither is the only one."""
    both = sight_of(record(thing(0), thing(1)))
    assert both.number("mug") == 2
    assert both.single("mug") is None
    assert sight_of(record(thing(0), thing(1, pixels=9))).number("mug") is None


def test_colours_must_look_like_their_names() -> None:
    """A red mug whose pixels are mostly brown is not asked for its colour."""
    sight = sight_of(record(thing(0, tones=[["brown", 0.7], ["red", 0.3]])))
    assert not sight.items[0].toned


def test_patterns_need_pixels_and_contrast() -> None:
    """Stripes of white and yellow are not seen, of red and white they are, unless there are few pixels."""
    pale = thing(0, texture="striped", colours=["white", "yellow"])
    bright = thing(0, texture="striped", colours=["red", "white"])
    assert not sight_of(record(pale)).items[0].patterned
    assert sight_of(record(bright)).items[0].patterned
    assert not sight_of(record({**bright, "pixels": 400})).items[0].patterned


def test_signs_are_read_from_near_and_whole() -> None:
    """Seven and a half pixels a letter, all within the picture, next to nothing hidden."""
    sign = thing(0, **{"class": "sign", "text": "TEA", "board": [23.0, 1.0, 0.97], "inside": 0.5})
    item = sight_of(record(sign)).items[0]
    assert (item.legible, item.clear, item.text) == (True, True, "tea")
    for board in ([22.0, 1.0, 0.97], [23.0, 0.9, 0.97], [23.0, 1.0, 0.8]):
        assert not sight_of(record({**sign, "board": board})).items[0].legible


def test_floors_need_room() -> None:
    """The pattern of a floor of which little is seen is not told."""
    assert sight_of(record(floor_share=0.5)).floor == "tiles"
    assert sight_of(record(floor_share=0.1)).floor is None
