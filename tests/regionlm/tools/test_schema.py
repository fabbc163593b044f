"""What agents are told is what is accepted."""

import base64
import io
from dataclasses import dataclass
from typing import Annotated, Literal

import jsonschema
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from prefix_models.checks import Checked, Range
from regionlm.errors import InputError
from regionlm.tools import TOOLS, Answer, Workspace, call, schemas
from regionlm.tools.schema import answer_schema, arguments_schema, bind


@dataclass(frozen=True)
class Part(Checked):
    """A part.

    Args:
        name: What to call it.
    """

    error = InputError

    name: str | None = None
    at: tuple[int, int] | None = None


def sample(
    desk: object,
    count: Annotated[int, Range(1, 9)],
    parts: list[Part],
    share: Annotated[float, Range(above=0, most=1)] = 0.5,
    kind: Literal["a", "b"] | None = None,
) -> None:
    """Do something.

    Args:
        count: How
            many.
    """


def test_a_schema_says_what_the_signature_and_the_docstring_say():
    found = arguments_schema(sample)
    assert found["required"] == ["count", "parts"]
    assert found["properties"]["count"] == {
        "description": "How many.", "type": "integer", "minimum": 1, "maximum": 9,
    }  # fmt: skip
    assert found["properties"]["share"] == {
        "type": "number", "exclusiveMinimum": 0, "maximum": 1, "default": 0.5,
    }  # fmt: skip
    assert found["properties"]["kind"] == {"type": "string", "enum": ["a", "b"]}
    part = found["properties"]["parts"]["items"]
    assert part["properties"]["name"] == {"description": "What to call it.", "type": "string"}
    assert part["properties"]["at"]["minItems"] == part["properties"]["at"]["maxItems"] == 2
    assert part["required"] == []


def test_an_answer_may_have_null_and_has_all_its_fields():
    found = answer_schema(Part)
    assert found["required"] == ["name", "at"]
    assert found["properties"]["name"]["anyOf"] == [{"type": "string"}, {"type": "null"}]


def test_every_argument_of_every_tool_is_explained():
    for tool in TOOLS.values():
        properties = tool.input_schema["properties"]
        properties |= {} if "region" not in properties else properties["region"]["properties"]
        properties |= tool.output_schema["properties"]
        assert all(len(one["description"]) > 5 for one in properties.values()), tool.name
        assert len(tool.description) > 40


def test_what_a_caller_does_to_a_schema_stays_with_it():
    (first, *_) = schemas()
    first["function"]["parameters"]["properties"].clear()
    assert schemas()[0]["function"]["parameters"]["properties"]


@pytest.mark.parametrize("form", ["openai", "anthropic", "mcp", "json-schema"])
def test_the_schemas_are_schemas(form):
    keys = {"openai": "parameters", "anthropic": "input_schema", "mcp": "inputSchema"}
    for one in schemas(form):
        about = one["function"] if form == "openai" else one
        schema = about[keys[form]] if form in keys else about
        jsonschema.Draft202012Validator.check_schema(schema)
        if form == "mcp":
            jsonschema.Draft202012Validator.check_schema(one["outputSchema"])


def test_another_form_is_refused():
    with pytest.raises(InputError, match=r"expected one of openai, .*, found 'OpenAI'"):
        schemas("OpenAI")


def test_bound_arguments():
    given_part = {"name": "x", "at": [1, 2]}
    bound = bind(sample, {"count": 3, "parts": [given_part, {}], "kind": None})
    assert bound == {"count": 3, "parts": [Part(name="x", at=[1, 2]), Part()]}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "sample: expected arguments by name, found list"),
        ({"cont": 1}, "cont: not an argument of sample, which takes count, parts, share, kind"),
        ({"parts": []}, "count: sample needs it (How many)"),
        ({"count": 10, "parts": []}, "count: expected an integer from 1 to 9, found 10"),
        ({"count": True, "parts": []}, "count: expected an integer from 1 to 9, found True"),
        ({"count": 1, "parts": {}}, "parts: expected a list, found {}"),
        ({"count": 1, "parts": [{}, 1]}, "parts[1]: expected a mapping, found 1"),
        ({"count": 1, "parts": [{"name": 1}]}, "parts[0]: name: expected text, found 1"),
        ({"count": 1, "parts": [{"x": 1}]}, "parts[0]: x: not an option of a region"),
        ({"count": 1, "parts": [], "share": 0}, "share: expected a number"),
        ({"count": 1, "parts": [], "kind": "c"}, "kind: expected a or b, found 'c'"),
    ],
)
def test_arguments_that_do_not_fit(arguments, message):
    with pytest.raises(InputError) as caught:
        bind(sample, arguments)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


values = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 12) | st.floats(-1, 2) | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["name", "at", "x"]), inner, max_size=2)
    ),
    max_leaves=6,
)


@given(
    st.fixed_dictionaries(
        {"count": st.integers(0, 10), "parts": st.lists(values, max_size=2)},
        optional={"share": values, "kind": st.sampled_from(["a", "b", "c"]) | values},
    )
)
def test_what_fits_the_schema_is_accepted_and_nothing_else(arguments):
    fits = jsonschema.Draft202012Validator(arguments_schema(sample)).is_valid(arguments)
    try:
        bind(sample, arguments)
        accepted = True
    except InputError:
        accepted = False
    if _is_plain(arguments):
        assert fits == accepted, arguments


def _is_plain(value):
    """Without what JSON schemas see otherwise than Python: null for nothing, and 1.0 for 1."""
    if isinstance(value, dict):
        return all(map(_is_plain, value.values()))
    if isinstance(value, list):
        return all(map(_is_plain, value))
    return value is not None and not (isinstance(value, float) and value == int(value))


class Nobody:
    """A captioner that refuses all that it is asked."""

    def caption(self, *_, **__):
        raise InputError("refused")

    match = explain = caption


def _bitmap():
    file = io.BytesIO()
    Image.fromarray(np.zeros((30, 40), np.uint8)).save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


numbers = st.integers(-2, 50) | st.floats() | st.integers(-(2**70), 2**70)
regions = st.one_of(
    st.fixed_dictionaries({"box": st.lists(numbers, min_size=3, max_size=5)}),
    st.fixed_dictionaries({"polygon": st.lists(st.lists(numbers, max_size=8), max_size=2)}),
    st.fixed_dictionaries(
        {
            "rle": st.fixed_dictionaries(
                {
                    "size": st.just([30, 40]) | values,
                    "counts": st.lists(numbers) | st.text() | values,
                }
            )
        }
    ),
    st.fixed_dictionaries({"points": st.lists(st.lists(numbers, max_size=4), max_size=2)}),
    st.fixed_dictionaries({"mask": st.text(max_size=9) | st.just(_bitmap())}),
    values,
)


@given(
    st.sampled_from(sorted(TOOLS)),
    st.sampled_from([_bitmap(), _bitmap(), "data:,x", "a.png", "", "\ud800", "data:;base64,//8="]),
    st.fixed_dictionaries(
        {
            "regions": st.lists(regions, max_size=3) | values,
            "region": regions,
            "texts": st.lists(st.text(max_size=3) | values, max_size=3) | values,
            "text": st.text(max_size=5) | values,
            "grid": st.lists(numbers, max_size=3) | values,
            "threshold": numbers | values,
            "heatmap": values,
        }
    ),
)
def test_whatever_is_asked_is_answered_or_refused_in_one_line(name, image, others):
    known = TOOLS[name].input_schema["properties"]
    arguments = {"image": image, **{one: others[one] for one in others if one in known}}
    try:
        answer = call(name, arguments, captioner=Nobody(), workspace=Workspace())
    except InputError as error:
        assert "\n" not in str(error).strip()
    else:
        assert isinstance(answer, Answer)
