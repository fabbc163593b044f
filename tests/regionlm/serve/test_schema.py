"""Whatever fits the OpenAPI schema, or nearly does: no reply is a 500."""

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode

from regionlm.serve.app import create_app
from regionlm.serve.engine import Engine
from regionlm.serve.limits import Limits
from tests.regionlm.serve.pictures import encoded, picture

TINY = encoded(picture(0, (20, 16)))
SMALL = Limits(max_steps=3, max_tokens=5, max_size=192, max_regions=4, max_beams=2, timeout=30)
BOUNDED = settings(
    max_examples=8,
    database=None,
    derandomize=True,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope="module")
def api(mini):
    engine = Engine(mini, SMALL)
    yield schemathesis.openapi.from_asgi("/openapi.json", create_app(engine))
    engine.close()


@pytest.mark.parametrize("mode", list(GenerationMode))
def test_no_request_is_answered_with_an_error_of_our_own(api, mode):
    tried = []
    for found in api.get_all_operations():
        operation = found.ok()
        if mode is GenerationMode.NEGATIVE and operation.method != "post":
            continue  # it takes nothing that could be wrong

        @BOUNDED
        @given(case=operation.as_strategy(generation_mode=mode))
        def send(case):
            body = case.body
            if isinstance(body, dict) and len(str(body.get("image"))) % 4:
                body["image"] = TINY  # with none, it would get no further than this
            reply = case.call()
            assert reply.status_code < 500 or reply.status_code in (503, 504), reply.text

        send()
        tried.append(operation.path)
    assert {"/v1/caption", "/v1/match", "/v1/embed", "/v1/explain"} <= {*tried}
