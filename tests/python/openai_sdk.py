"""The official openai SDK, unchanged, against a running Stellwerk.

Usage: openai_sdk.py BASE_URL KEY MODEL EMBEDDING_MODEL. Each check is a function; the first that
fails ends the program with its traceback.
"""

import base64
import sys

import openai
from pydantic import BaseModel

BASE_URL, KEY, MODEL, EMBEDDING_MODEL = sys.argv[1:5]

# One pixel.
PNG = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5E"
    "rkJggg=="
)
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "The weather of a city",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string"}},
                "required": ["city"],
            },
        },
    }
]


class Weather(BaseModel):
    city: str
    celsius: int


def client(key=KEY, **more):
    return openai.OpenAI(base_url=BASE_URL, api_key=key, max_retries=0, timeout=20, **more)


def user(text):
    return [{"role": "user", "content": text}]


def chat():
    answer = client().chat.completions.create(model=MODEL, messages=user("Hi"), max_tokens=50)
    assert answer.choices[0].message.content == "Eine Weiche stellt das Gleis."
    assert answer.choices[0].finish_reason == "stop"
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (10, 5), answer.usage
    assert answer.object == "chat.completion" and answer.id and answer.created


def chat_with_headers():
    raw = client().chat.completions.with_raw_response.create(model=MODEL, messages=user("Hi"))
    for name in ("request-id", "model", "cost", "trace"):
        assert raw.headers.get(f"x-stellwerk-{name}"), name


def stream_with_usage():
    stream = client().chat.completions.create(
        model=MODEL, messages=user("Hi"), stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == "Eine Weiche stellt das Gleis.", text
    finishes = [c.choices[0].finish_reason for c in chunks if c.choices]
    assert [f for f in finishes if f] == ["stop"], finishes
    usages = [c.usage for c in chunks if c.usage]
    assert len(usages) == 1 and usages[0].prompt_tokens == 10, usages
    assert not chunks[-1].choices, "the usage chunk comes last"


def stream_without_usage():
    stream = client().chat.completions.create(model=MODEL, messages=user("Hi"), stream=True)
    chunks = list(stream)
    assert all(c.usage is None for c in chunks), "usage that nobody asked for"
    assert chunks[-1].choices[0].finish_reason == "stop"


def tools_there_and_back():
    messages = user("How is the weather in Berlin?")
    asked = client().chat.completions.create(model=MODEL, messages=messages, tools=TOOLS)
    message = asked.choices[0].message
    assert asked.choices[0].finish_reason == "tool_calls", asked
    call = message.tool_calls[0]
    assert call.function.name == "weather" and call.id
    assert '"Berlin"' in call.function.arguments
    messages += [message, {"role": "tool", "tool_call_id": call.id, "content": "21 degrees"}]
    answer = client().chat.completions.create(model=MODEL, messages=messages, tools=TOOLS)
    assert answer.choices[0].message.content == "Eine Weiche stellt das Gleis."


def tools_streamed():
    with client().chat.completions.stream(
        model=MODEL, messages=user("How is the weather?"), tools=TOOLS
    ) as stream:
        for _ in stream:
            pass
        final = stream.get_final_completion()
    call = final.choices[0].message.tool_calls[0]
    assert call.function.name == "weather" and '"Berlin"' in call.function.arguments


def image():
    parts = [
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}},
    ]
    answer = client().chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": parts}]
    )
    assert answer.choices[0].message.content


def schema():
    answer = client().chat.completions.parse(
        model=MODEL, messages=user("The weather as JSON"), response_format=Weather
    )
    assert answer.choices[0].message.parsed == Weather(city="Berlin", celsius=21), answer


def embeddings():
    # The SDK asks for base64 unless told otherwise, and decodes it itself.
    for more in ({}, {"encoding_format": "float"}, {"encoding_format": "base64"}):
        answer = client().embeddings.create(model=EMBEDDING_MODEL, input=["a", "bb"], **more)
        vectors = [row.embedding for row in answer.data]
        if more.get("encoding_format") == "base64":
            vectors = [base64.b64decode(v) if isinstance(v, str) else v for v in vectors]
        assert len(vectors) == 2 and len(vectors[0]) > 0
        assert answer.usage.prompt_tokens > 0


def models():
    listed = {model.id for model in client().models.list()}
    assert {MODEL, "auto", "auto:default"} <= listed, listed


def raises(error, code, **call):
    key = call.pop("key", KEY)
    arguments = {"model": MODEL, "messages": user("Hi")} | call
    try:
        client(key).chat.completions.create(**arguments)
    except openai.APIStatusError as raised:
        assert type(raised) is error, (type(raised), error)
        assert raised.code == code, (raised.code, code)
        assert raised.response.headers.get("x-stellwerk-request-id")
        return
    raise AssertionError(f"{error.__name__} was not raised")


def error_classes():
    raises(openai.AuthenticationError, "invalid_api_key", key="sk-wrong")
    raises(openai.NotFoundError, "model_not_found", model="no-such-model")
    raises(openai.NotFoundError, "policy_not_found", model="auto:no-such-policy")
    try:
        client().chat.completions.create(model=MODEL, messages=user("Hi"), max_tokens=-1)
    except openai.BadRequestError as raised:
        assert raised.param and "max" in raised.param, raised.body
    else:
        raise AssertionError("a negative limit was taken")


for check in (
    chat,
    chat_with_headers,
    stream_with_usage,
    stream_without_usage,
    tools_there_and_back,
    tools_streamed,
    image,
    schema,
    embeddings,
    models,
    error_classes,
):
    if check is embeddings and EMBEDDING_MODEL == "-":
        continue
    print(check.__name__, flush=True)
    check()
