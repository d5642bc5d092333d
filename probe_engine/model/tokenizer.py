"""Text to token ids and back, with a chat template, from a Hugging Face directory or built in.

The built-in one has no files: token ids 0 to 255 are the bytes of UTF-8, followed by the specials.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn

import tokenizers
from jinja2 import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import decoders, models, pre_tokenizers
from tokenizers.decoders import DecodeStream

from probe_engine.errors import ModelError
from probe_engine.model.config import token_ids

PLAIN_CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<|{{ message['role'] }}|>\n{{ message['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
SPECIAL_FIELDS = ("bos_token", "eos_token", "pad_token", "unk_token")  # what chat templates may name
TINY_SPECIALS = ("<|bos|>", "<|eos|>")


class TextStream:
    """One answer's tokens turned to text as they come."""

    def __init__(self, tokenizer: tokenizers.Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._stream = DecodeStream(skip_special_tokens=True)
        self._held: list[int] = []

    def push(self, token_id: int) -> str:
        """Text that ``token_id`` completed: empty while a UTF-8 character is still half there."""
        text = self._stream.step(self._tokenizer, token_id)
        if text is None:
            self._held.append(token_id)
            return ""
        self._held.clear()
        return str(text)

    def flush(self) -> str:
        """What is still held back when no more tokens come, broken characters as U+FFFD."""
        text = str(self._tokenizer.decode(self._held, skip_special_tokens=True)) if self._held else ""
        self._held.clear()
        return text


class Tokenizer:
    """Encodes, decodes and writes chat prompts.

    ``eos_ids`` end an answer; ``vocab_size`` counts the specials too.
    """

    def __init__(
        self,
        tokenizer: tokenizers.Tokenizer,
        *,
        eos_ids: frozenset[int],
        chat_template: str | None = None,
        specials: Mapping[str, str] | None = None,
    ) -> None:
        self._tokenizer = tokenizer
        self.eos_ids = eos_ids
        self.vocab_size: int = tokenizer.get_vocab_size(with_added_tokens=True)
        self._specials = dict(specials or {})
        self._template = _environment().from_string(chat_template or PLAIN_CHAT_TEMPLATE)

    def encode(self, text: str) -> list[int]:
        """Token ids of ``text``, with the specials that the tokenizer puts around every text."""
        return list(self._tokenizer.encode(text).ids)

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ``ids`` without specials."""
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=True))

    def token_text(self, token_id: int) -> str:
        """Text of one token, specials included; the replacement character for a part of a character."""
        return str(self._tokenizer.decode([token_id], skip_special_tokens=False))

    def chat_prompt(self, messages: Sequence[Mapping[str, Any]]) -> list[int]:
        """Token ids of a conversation, up to where the assistant is to speak.

        Raises ``ModelError`` when the model's own template refuses the messages.
        """
        text = self.chat_text(messages)
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def chat_text(self, messages: Sequence[Mapping[str, Any]]) -> str:
        """The conversation as the chat template writes it."""
        try:
            return self._template.render(messages=messages, add_generation_prompt=True, **self._specials)
        except (TemplateError, TypeError, ValueError) as error:
            raise ModelError(f"chat template: {error}") from error

    def stream(self) -> TextStream:
        """A fresh decoder for one answer."""
        return TextStream(self._tokenizer)

    def token_id(self, token: str) -> int | None:
        """Id of a token by its text; None where there is no such token."""
        found: int | None = self._tokenizer.token_to_id(token)
        return found


def read_tokenizer(directory: Path, fallback_eos_ids: frozenset[int] | None = None) -> Tokenizer:
    """The tokenizer of a Hugging Face directory.

    Needs ``tokenizer.json``; takes specials and chat template from ``tokenizer_config.json`` and
    ``chat_template.jinja`` where they are. End tokens are those of ``generation_config.json``, else
    ``fallback_eos_ids`` (the model's config), else tokenizer_config's ``eos_token``.
    Raises ``ModelError`` naming file and field.
    """
    path = directory / "tokenizer.json"
    if not path.is_file():
        raise ModelError(f"{directory}: tokenizer.json is missing; a model directory needs one")
    try:
        tokenizer = tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises bare Exception
        raise ModelError(f"{path}: not a tokenizer: {error}") from error
    settings = _read_json(directory / "tokenizer_config.json")
    specials = {
        name: text
        for name in ("bos_token", "eos_token", "pad_token", "unk_token")
        if (text := _text(settings.get(name)))
    }
    try:
        return Tokenizer(
            tokenizer,
            eos_ids=_eos_ids(directory, tokenizer, fallback_eos_ids, specials.get("eos_token")),
            chat_template=_chat_template(directory, settings),
            specials={"bos_token": "", "eos_token": "", **specials},
        )
    except TemplateError as error:
        raise ModelError(f"{directory}: chat template cannot be read: {error}") from error


def byte_tokenizer() -> Tokenizer:
    """The built-in tokenizer: a token per byte, id = byte value, then ``TINY_SPECIALS``."""
    vocabulary = {character: byte for byte, character in enumerate(_byte_characters())}
    tokenizer = tokenizers.Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(TINY_SPECIALS))
    bos, eos = TINY_SPECIALS
    eos_id = tokenizer.get_vocab(with_added_tokens=True)[eos]
    return Tokenizer(tokenizer, eos_ids=frozenset({eos_id}), specials={"bos_token": bos, "eos_token": eos})


def _byte_characters() -> list[str]:
    """The printable character that byte-level BPE writes for each byte (GPT-2's table)."""
    printable = {*range(33, 127), *range(161, 173), *range(174, 256)}
    spare = iter(range(256, 512))
    return [chr(byte) if byte in printable else chr(next(spare)) for byte in range(256)]


def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.globals["raise_exception"] = _refuse
    environment.globals["strftime_now"] = lambda format_: datetime.now().astimezone().strftime(format_)
    environment.filters["tojson"] = _to_json
    return environment


def _refuse(message: str) -> NoReturn:
    raise TemplateError(message)


def _to_json(value: Any, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise ModelError(f"{path}: not readable as JSON: {error}") from error
    if not isinstance(content, dict):
        raise ModelError(f"{path}: holds {type(content).__name__}; a JSON object is expected")
    return content


def _text(token: Any) -> str | None:
    """A special token's text: older files wrap it as ``{"content": …}``."""
    found = token.get("content") if isinstance(token, dict) else token
    return found if isinstance(found, str) else None


def _chat_template(directory: Path, settings: Mapping[str, Any]) -> str | None:
    path = directory / "chat_template.jinja"
    if path.is_file():
        return path.read_text(encoding="utf-8")
    template = settings.get("chat_template")
    if isinstance(template, list):  # several named ones
        named = {entry.get("name"): entry.get("template") for entry in template if isinstance(entry, dict)}
        template = named.get("default")
    if template is not None and not isinstance(template, str):
        raise ModelError(
            f"{directory / 'tokenizer_config.json'}: chat_template is {type(template).__name__}; a text is expected"
        )
    return template


def _eos_ids(
    directory: Path, tokenizer: tokenizers.Tokenizer, fallback: frozenset[int] | None, eos_token: str | None
) -> frozenset[int]:
    path = directory / "generation_config.json"
    ids = token_ids(_read_json(path).get("eos_token_id"), path) or fallback
    if ids:
        return ids
    found = tokenizer.token_to_id(eos_token) if eos_token else None
    return frozenset() if found is None else frozenset({found})
