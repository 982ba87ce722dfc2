"""What admins call a conversation: an animal and a number, drawn at random, so that it tells nothing."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from typing import Final

ANIMALS: Final = tuple(
    (
        "ant auk bat bear bee bison boar bream carp cat civet cod colt coot crab crane crow cuckoo deer dingo "
        "dodo dove duck eagle eel egret eland elk emu ermine falcon ferret finch fox frog gecko gibbon gnu "
        "goat goose grouse gull hare hawk heron hippo horse hyena ibex ibis iguana impala jackal jaguar jay "
        "kestrel kite kiwi koala kudu lark lemur leopard linnet lion lizard llama lynx macaw magpie marten "
        "mink mole moose moth mouse mule newt ocelot okapi orca oriole osprey otter owl ox panda parrot pike "
        "pika plover pony puffin puma quail rabbit ram raven rhino robin rook salmon seal serval shark sheep "
        "shrew skua skunk sloth snail snipe sole stoat stork swan swift tapir tern thrush tiger toad trout "
        "tuna turtle viper vole walrus wasp weasel whale wolf wombat wren yak zebra"
    ).split()
)


def candidates() -> Iterator[str]:
    """Random aliases without end. From 140,000 at first, so that one which was burned hardly ever comes again."""
    for limit in (1000, 1000, 1000):
        yield f"{secrets.choice(ANIMALS)}-{secrets.randbelow(limit)}"
    while True:
        yield f"{secrets.choice(ANIMALS)}-{secrets.randbelow(10_000)}"
