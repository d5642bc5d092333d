"""OpenAI's request bodies, as vLLM's and OpenAI's clients send them.

Types are strict: a wrong one is refused with its path. Fields that this server does not know and that change nothing
are ignored; those that would change the answer are refused by ``refuse_unsupported``.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from probe_engine.errors import ApiError
from probe_engine.server.wishes import LEAST_URGENT

MAX_CHOICES = 128
MAX_LOGPROBS = 20
COMPLETION_MAX_TOKENS = 16  # OpenAI's default where the request names none

TokenName = Annotated[str, Field(pattern=r"^\d{1,9}$")]  # a token's id as JSON's keys spell it
TokenIds = list[Annotated[int, Field(ge=0)]]


class StreamOptions(BaseModel):
    """Which usage chunks a stream carries."""

    model_config = ConfigDict(strict=True, extra="ignore")

    include_usage: bool | None = None
    continuous_usage_stats: bool | None = None


class GenerationBody(BaseModel):
    """What completions and chat have in common."""

    model_config = ConfigDict(strict=True, extra="allow")

    model: str | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=-1)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    stop: Annotated[str, Field(min_length=1)] | list[Annotated[str, Field(min_length=1)]] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    ignore_eos: bool | None = None
    min_tokens: Annotated[int, Field(ge=0)] | None = None
    stop_token_ids: TokenIds | None = None
    priority: Annotated[int, Field(ge=0, le=LEAST_URGENT)] | None = None

    n: Annotated[int, Field(ge=1, le=MAX_CHOICES)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    repetition_penalty: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    logit_bias: dict[TokenName, Annotated[float, Field(ge=-100, le=100)]] | None = None

    @property
    def rivals(self) -> int | None:
        """Of how many likely tokens the log probabilities are wanted; None: of none, nor of the chosen one."""
        return None

    def stop_texts(self) -> tuple[str, ...]:
        """Stop texts as a tuple."""
        if self.stop is None:
            return ()
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop)


class CompletionBody(GenerationBody):
    """``POST /v1/completions``."""

    prompt: str | TokenIds | list[str] | list[TokenIds]
    logprobs: Annotated[int, Field(ge=0, le=MAX_LOGPROBS)] | Literal[False] | None = None

    @property
    def rivals(self) -> int | None:
        """``logprobs``."""
        return None if self.logprobs is False else self.logprobs


class TextPart(BaseModel):
    """A text in a message's list of parts."""

    model_config = ConfigDict(strict=True, extra="ignore")

    type: Literal["text"]
    text: str


class Message(BaseModel):
    """One message of a conversation."""

    model_config = ConfigDict(strict=True, extra="ignore")

    role: Annotated[str, Field(min_length=1)]
    content: str | list[TextPart] | None = None

    def plain(self) -> dict[str, str]:
        """Role and text, as chat templates take them."""
        content = self.content or ""
        text = content if isinstance(content, str) else "".join(part.text for part in content)
        return {"role": self.role, "content": text}


class ChatBody(GenerationBody):
    """``POST /v1/chat/completions``."""

    messages: Annotated[list[Message], Field(min_length=1)]
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=MAX_LOGPROBS)] | None = None

    @property
    def rivals(self) -> int | None:
        """``top_logprobs``, where ``logprobs`` is on; ``ApiError`` (400) for one without the other."""
        if not self.logprobs:
            if self.top_logprobs:
                raise ApiError(400, "top_logprobs needs logprobs to be true", param="top_logprobs")
            return None
        return self.top_logprobs or 0


class TokenizeBody(BaseModel):
    """``POST /tokenize``: a prompt or a conversation."""

    model_config = ConfigDict(strict=True, extra="ignore")

    model: str | None = None
    prompt: str | None = None
    messages: list[Message] | None = None


# What fields may be without changing the answer that this server gives.
NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "best_of": (1,),
    "echo": (False,),
    "suffix": ("",),
    "top_logprobs": (),
    "prompt_logprobs": (),
    "skip_special_tokens": (True,),
    "spaces_between_special_tokens": (True,),
    "include_stop_str_in_output": (False,),
    "return_token_ids": (False,),
    "return_tokens_as_token_ids": (False,),
    "allowed_token_ids": (),
    "bad_words": ([],),
    "tools": ([],),
    "functions": ([],),
    "tool_choice": ("none", "auto"),
    "response_format": ({"type": "text"},),
    "structured_outputs": (),
    "guided_json": (),
    "guided_regex": (),
    "guided_choice": (),
    "guided_grammar": (),
    "use_beam_search": (False,),
    "truncate_prompt_tokens": (),
}


def refuse_unsupported(body: GenerationBody) -> None:
    """Raise ``ApiError`` (400) for a field that asks for what this server does not do."""
    for name, value in (body.model_extra or {}).items():
        allowed = NEUTRAL.get(name)
        if allowed is None or value is None or any(value == one and _same_kind(value, one) for one in allowed):
            continue
        only = " or ".join(map(repr, allowed)) if allowed else "absent"
        raise ApiError(400, f"{name} is {_short(value)}; this server supports only {only}", param=name)


def _same_kind(value: Any, neutral: Any) -> bool:
    return isinstance(value, bool) == isinstance(neutral, bool)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
