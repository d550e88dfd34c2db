"""The official anthropic SDK, unchanged, against a running Stellwerk.

Usage: anthropic_sdk.py BASE_URL KEY MODEL. Each check is a function; the first that fails ends
the program with its traceback.
"""

import sys

import anthropic

BASE_URL, KEY, MODEL = sys.argv[1:4]

PNG = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5E"
    "rkJggg=="
)
TOOLS = [
    {
        "name": "weather",
        "description": "The weather of a city",
        "input_schema": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    }
]


def client(key=KEY):
    return anthropic.Anthropic(base_url=BASE_URL, api_key=key, max_retries=0, timeout=20)


def user(content):
    return [{"role": "user", "content": content}]


def messages():
    answer = client().messages.create(
        model=MODEL, max_tokens=50, system="Be short.", messages=user("Hi")
    )
    assert answer.type == "message" and answer.role == "assistant"
    assert answer.content[0].text == "Eine Weiche stellt das Gleis."
    assert answer.stop_reason == "end_turn"
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (10, 5), answer.usage


def messages_with_headers():
    raw = client().messages.with_raw_response.create(
        model=MODEL, max_tokens=50, messages=user("Hi")
    )
    for name in ("request-id", "model", "cost", "trace"):
        assert raw.headers.get(f"x-stellwerk-{name}"), name


def stream():
    with client().messages.stream(model=MODEL, max_tokens=50, messages=user("Hi")) as events:
        text = "".join(events.text_stream)
        final = events.get_final_message()
    assert text == "Eine Weiche stellt das Gleis.", text
    assert final.stop_reason == "end_turn"
    assert final.usage.output_tokens == 5, final.usage
    assert final.usage.input_tokens in (0, 10), final.usage


def raw_stream():
    events = list(
        client().messages.create(model=MODEL, max_tokens=50, messages=user("Hi"), stream=True)
    )
    kinds = [event.type for event in events if event.type != "ping"]
    assert kinds[0] == "message_start" and kinds[-2:] == ["message_delta", "message_stop"], kinds
    assert kinds.count("content_block_start") == kinds.count("content_block_stop") == 1, kinds
    delta = next(event for event in events if event.type == "message_delta")
    told = delta.model_extra.get("stellwerk") or {}
    assert {"request_id", "model", "cost", "trace"} <= set(told), delta


def tools_there_and_back():
    asked_of = user("How is the weather in Berlin?")
    asked = client().messages.create(model=MODEL, max_tokens=50, messages=asked_of, tools=TOOLS)
    assert asked.stop_reason == "tool_use", asked
    call = next(block for block in asked.content if block.type == "tool_use")
    assert call.name == "weather" and call.input["city"] == "Berlin"
    result = [{"type": "tool_result", "tool_use_id": call.id, "content": "21 degrees"}]
    turns = asked_of + [{"role": "assistant", "content": asked.content}] + user(result)
    answer = client().messages.create(model=MODEL, max_tokens=50, messages=turns, tools=TOOLS)
    assert answer.content[0].text == "Eine Weiche stellt das Gleis."


def tools_streamed():
    with client().messages.stream(
        model=MODEL, max_tokens=50, messages=user("How is the weather?"), tools=TOOLS
    ) as events:
        final = events.get_final_message()
    call = next(block for block in final.content if block.type == "tool_use")
    assert call.input["city"] == "Berlin", final


def image():
    source = {"type": "base64", "media_type": "image/png", "data": PNG}
    parts = [{"type": "image", "source": source}, {"type": "text", "text": "What is this?"}]
    answer = client().messages.create(model=MODEL, max_tokens=50, messages=user(parts))
    assert answer.content[0].text


def raises(error, kind, **call):
    key = call.pop("key", KEY)
    arguments = {"model": MODEL, "max_tokens": 50, "messages": user("Hi")} | call
    try:
        client(key).messages.create(**arguments)
    except anthropic.APIStatusError as raised:
        assert type(raised) is error, (type(raised), error)
        body = raised.body
        assert body["type"] == "error" and body["error"]["type"] == kind, body
        assert body["request_id"] == raised.response.headers["x-stellwerk-request-id"], body
        return
    raise AssertionError(f"{error.__name__} was not raised")


def error_classes():
    raises(anthropic.AuthenticationError, "authentication_error", key="sk-wrong")
    raises(anthropic.NotFoundError, "not_found_error", model="no-such-model")
    raises(anthropic.BadRequestError, "invalid_request_error", max_tokens=-1)
    raises(anthropic.BadRequestError, "invalid_request_error", messages=[])


for check in (
    messages,
    messages_with_headers,
    stream,
    raw_stream,
    tools_there_and_back,
    tools_streamed,
    image,
    error_classes,
):
    print(check.__name__, flush=True)
    check()
