"""Random messages of any class, for tests that ask what a server does with what nobody would send."""

from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from hypothesis import strategies as st

F = FieldDescriptor
UNSIGNED = {F.TYPE_UINT32: 32, F.TYPE_UINT64: 64}
SIGNED = {F.TYPE_INT32: 32, F.TYPE_INT64: 64}
MANY_MAX = 3
DEPTH_MAX = 6


def messages(kind: Any, names: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Messages of a class; names: what a text field of that name is drawn from, beside any text."""

    @st.composite
    def made(draw: Any) -> Any:
        message = kind()
        _fill(draw, message, names, 0)
        return message

    return made()


def _fill(draw: Any, message: Any, names: dict[str, Any], depth: int) -> None:
    descriptor: Descriptor = message.DESCRIPTOR
    for field in descriptor.fields:
        if depth >= DEPTH_MAX or not draw(st.integers(0, 3)):
            continue
        place = getattr(message, field.name)
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            _fill_map(draw, place, field.message_type, names, depth)
        elif field.message_type is not None:
            for _ in range(draw(st.integers(0, MANY_MAX))) if field.is_repeated else (0,):
                each = place.add() if field.is_repeated else place
                each.SetInParent()
                _fill(draw, each, names, depth + 1)
        elif field.is_repeated:
            place.extend(draw(st.lists(_scalar(field, names), max_size=MANY_MAX)))
        else:
            setattr(message, field.name, draw(_scalar(field, names)))


def _fill_map(draw: Any, place: Any, entry: Descriptor, names: dict[str, Any], depth: int) -> None:
    key, value = entry.fields_by_name["key"], entry.fields_by_name["value"]
    for name in draw(st.lists(_scalar(key, names), max_size=MANY_MAX)):
        if value.message_type is not None:
            _fill(draw, place[name], names, depth + 1)
        else:
            place[name] = draw(_scalar(value, names))


def _scalar(field: FieldDescriptor, names: dict[str, Any]) -> st.SearchStrategy[Any]:
    if field.type == F.TYPE_STRING:
        known = names.get(field.name, [])
        # One branch for each, so that most of the texts are known ones.
        return st.one_of(*[st.just(name) for name in known], st.text(max_size=8))
    if field.type == F.TYPE_BYTES:
        return st.binary(max_size=40)
    if field.type == F.TYPE_BOOL:
        return st.booleans()
    if field.type == F.TYPE_ENUM:
        return st.sampled_from([each.number for each in field.enum_type.values]) | st.integers(0, 130)
    if field.type in UNSIGNED:
        return st.integers(0, 3) | st.integers(0, (1 << UNSIGNED[field.type]) - 1)
    if field.type in SIGNED:
        half = 1 << (SIGNED[field.type] - 1)
        return st.integers(-1, 3) | st.integers(-half, half - 1)
    return st.floats(width=32)
