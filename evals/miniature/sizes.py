"""How large a world is, and which classes it has."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from evals.miniature.textures import TEXTURES
from evals.miniature.things import FAMILIES


@dataclass(frozen=True, slots=True)
class Talks:
    """Counts of what is there for vision-language models.

    (training, questions) pictures of portraits, gatherings, rooms and boards; `captions`, `maps` (see `talks.maps`),
    `lists` and `looks` (see `talks.lists`) for each training picture; `alone` conversations without a picture;
    `documents` of text; and how many questions each set has at most (`pope` a category; `mme` pictures a subtask, with
    two questions each).
    """

    portraits: tuple[int, int] = (0, 0)
    gatherings: tuple[int, int] = (0, 0)
    rooms: tuple[int, int] = (0, 0)
    boards: tuple[int, int] = (0, 0)
    captions: int = 0
    maps: int = 0
    lists: int = 0
    looks: int = 0
    alone: int = 0
    documents: int = 0
    textvqa: int = 0
    scienceqa: int = 0
    realworldqa: int = 0
    pope: int = 0
    gqa: int = 0
    mme: int = 0

    @property
    def kinds(self) -> tuple[tuple[str, tuple[int, int]], ...]:
        """(name, counts) of the four kinds of pictures."""
        return (
            ("portrait", self.portraits),
            ("gathering", self.gatherings),
            ("room", self.rooms),
            ("board", self.boards),
        )


@dataclass(frozen=True, slots=True)
class Size:
    """Counts and picture sides of a world.

    `classes` object classes with `class_train` and `class_val` images each; `dense_train` and `dense_val` images for
    either dense set, NYU rooms seen from `views_train` and `views_val` places; `categories` of correspondence with
    `splits` (train, validation, test) images each and at most `pairs` pairs a category; `notices` pictures of signs;
    `talks` what vision-language models need.
    Pictures have a short side of `short` pixels and a long side up to `long`.
    """

    classes: int
    class_train: int
    class_val: int
    dense_train: int
    dense_val: int
    views_train: int
    views_val: int
    categories: int
    splits: tuple[int, int, int]
    pairs: tuple[int, int, int]
    short: int
    long: int
    notices: int = 0
    talks: Talks = Talks()

    @property
    def shapes(self) -> tuple[tuple[int, int], ...]:
        """The (height, width) of pictures."""
        middle = (self.short + self.long) // 2
        s = self.short
        return ((s, s), (s, middle), (s, self.long), (middle, s), (self.long, s))


SIZES: Mapping[str, Size] = MappingProxyType(
    {
        "small": Size(20, 80, 20, 240, 60, 4, 2, 10, (14, 4, 18), (80, 6, 150), 128, 160),
        "tiny": Size(5, 6, 3, 6, 3, 2, 1, 3, (1, 1, 2), (80, 6, 150), 64, 80),
        # What encoders may learn from: other pictures (under another seed) of the things that `small` asks about.
        "lessons": Size(20, 150, 1, 1500, 2, 4, 2, 10, (100, 1, 2), (600, 1, 1), 128, 160, notices=3200),
        # For vision-language models alone: pictures to learn from and, from other draws, pictures to be asked about.
        "talks": Size(
            *(0, 0, 0, 0, 0, 0, 0, 0, (0, 0, 0), (0, 0, 0), 128, 128),
            talks=Talks(
                *((200, 40), (1700, 335), (50, 15), (1050, 180)),
                captions=1,
                maps=2,
                lists=3,
                looks=1,
                alone=260,
                documents=2000,
                textvqa=320,
                scienceqa=160,
                realworldqa=120,
                pope=480,
                gqa=800,
                mme=20,
            ),
        ),
        "talks-tiny": Size(
            *(0, 0, 0, 0, 0, 0, 0, 0, (0, 0, 0), (0, 0, 0), 64, 80),
            talks=Talks(
                *((4, 4), (10, 14), (3, 4), (8, 6)),
                captions=1,
                maps=1,
                lists=1,
                alone=3,
                documents=40,
                textvqa=8,
                scienceqa=8,
                realworldqa=6,
                pope=12,
                gqa=16,
                mme=2,
            ),
        ),
    }
)


def object_classes() -> list[tuple[str, str]]:
    """(family, texture) of every class. Each shape comes in two textures and each texture on four shapes, so that
    neither alone tells the class.
    """
    count = len(TEXTURES)
    return [
        (family, TEXTURES[(i + step) % count])
        for i, family in enumerate(FAMILIES)
        for step in (0, 1 if i < count else 2)
    ]


def class_names() -> list[tuple[str, str]]:
    """(wnid, English name) of every class in the order of the class index."""
    return [(f"n9{1 + i:07d}", f"{texture} {family}") for i, (family, texture) in enumerate(object_classes())]
