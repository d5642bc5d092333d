"""Text to tokens and back."""

import json
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from hypothesis import assume, given
from hypothesis import strategies as st

from probe_engine.errors import ModelError
from probe_engine.model.tokenizer import TINY_SPECIALS, Tokenizer, byte_tokenizer, read_tokenizer

SPECIALS = ["<|bos|>", "<|eos|>", "<|other|>"]
BYTES = byte_tokenizer()


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A byte-level BPE without merges, bos put before every text, as Llama 3's does."""
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    bpe = tokenizers.Tokenizer(tokenizers.models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    bpe.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = tokenizers.decoders.ByteLevel()
    bpe.add_special_tokens(SPECIALS)
    bpe.post_processor = tokenizers.processors.TemplateProcessing(
        single="<|bos|> $A", special_tokens=[("<|bos|>", 256)]
    )
    bpe.save(str(tmp_path / "tokenizer.json"))
    write(tmp_path, "tokenizer_config.json", {"bos_token": "<|bos|>", "eos_token": {"content": "<|eos|>"}})
    return tmp_path


def write(directory: Path, name: str, content: dict[str, Any]) -> None:
    (directory / name).write_text(json.dumps(content))


@given(st.text())
def test_any_text_comes_back_from_bytes(text: str) -> None:
    assume(not any(special in text for special in TINY_SPECIALS))  # these are tokens of their own
    ids = BYTES.encode(text)
    assert ids == list(text.encode())
    assert BYTES.decode(ids) == text


@given(st.text())
def test_a_stream_gives_the_whole_text_and_never_half_a_character(text: str) -> None:
    assume(not any(special in text for special in TINY_SPECIALS))
    stream = BYTES.stream()
    pieces = [stream.push(token) for token in BYTES.encode(text)]
    if "�" not in text:
        assert not any("�" in piece for piece in pieces)
        assert "".join(pieces) == text
    assert "".join(pieces) + stream.flush() == text


@given(st.lists(st.integers(0, 257)))
def test_any_tokens_stream_without_failing_to_what_they_decode_to(ids: list[int]) -> None:
    stream = BYTES.stream()
    assert "".join([stream.push(token) for token in ids]) + stream.flush() == BYTES.decode(ids)


def test_end_tokens_come_from_generation_config_then_config_then_tokenizer_config(directory: Path) -> None:
    assert read_tokenizer(directory).eos_ids == {257}
    assert read_tokenizer(directory, frozenset({5})).eos_ids == {5}
    write(directory, "generation_config.json", {"eos_token_id": [257, 258]})
    assert read_tokenizer(directory, frozenset({5})).eos_ids == {257, 258}


def test_encoding_adds_what_the_tokenizer_adds_and_decoding_leaves_specials_out(directory: Path) -> None:
    tokenizer = read_tokenizer(directory)
    ids = tokenizer.encode("hé")
    assert ids[0] == tokenizer.token_id("<|bos|>") == 256
    assert tokenizer.decode([*ids, 257]) == "hé"
    assert tokenizer.token_id("nothing") is None
    assert tokenizer.vocab_size == 259


def chat(tokenizer: Tokenizer, **message: str) -> str:
    return tokenizer.chat_text([{"role": "user", "content": "hi"} | message])


def test_the_chat_template_file_wins_over_the_one_in_tokenizer_config(directory: Path) -> None:
    write(directory, "tokenizer_config.json", {"bos_token": "<|bos|>", "chat_template": "config {{ bos_token }}"})
    assert chat(read_tokenizer(directory)) == "config <|bos|>"
    (directory / "chat_template.jinja").write_text("file {{ messages[0].content }}{{ eos_token }}")
    assert chat(read_tokenizer(directory)) == "file hi"


def test_of_several_named_templates_the_default_is_taken(directory: Path) -> None:
    named = [{"name": "tools", "template": "tools"}, {"name": "default", "template": "default"}]
    write(directory, "tokenizer_config.json", {"chat_template": named})
    assert chat(read_tokenizer(directory)) == "default"


def test_without_a_template_a_plain_one_is_used(directory: Path) -> None:
    tokenizer = read_tokenizer(directory)
    assert chat(tokenizer) == "<|bos|><|user|>\nhi\n<|assistant|>\n"
    assert tokenizer.chat_prompt([{"role": "user", "content": "hi"}]).count(256) == 1


def test_a_template_written_as_transformers_allows_renders_as_it_does_there(directory: Path) -> None:
    import transformers

    template = (
        "{{- bos_token }}\n{% for m in messages %}\n  {% if loop.index > 3 %}{% break %}{% endif %}\n"
        "{{ m | tojson }}{{ m.content | trim }}\n{% endfor %}\n{% if add_generation_prompt %}go{% endif %}"
    )
    (directory / "chat_template.jinja").write_text(template)
    theirs = transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(directory / "tokenizer.json"), bos_token="<|bos|>", eos_token="<|eos|>"
    )
    messages = [{"role": "user", "content": f" <é> {index} "} for index in range(5)]
    expected = theirs.apply_chat_template(messages, chat_template=template, add_generation_prompt=True, tokenize=False)
    assert read_tokenizer(directory).chat_text(messages) == expected


def test_a_template_that_refuses_the_messages_says_why(directory: Path) -> None:
    (directory / "chat_template.jinja").write_text("{{ raise_exception('roles must alternate') }}")
    with pytest.raises(ModelError, match="roles must alternate"):
        chat(read_tokenizer(directory))


@pytest.mark.parametrize("template", ["{{ ''.__class__.__mro__ }}", "{{ messages.append(1) }}"])
def test_a_template_cannot_leave_its_sandbox(directory: Path, template: str) -> None:
    (directory / "chat_template.jinja").write_text(template)
    with pytest.raises(ModelError, match=r"unsafe|not safely callable"):
        chat(read_tokenizer(directory))


def test_a_broken_template_is_told_with_its_directory(directory: Path) -> None:
    (directory / "chat_template.jinja").write_text("{% for %}")
    with pytest.raises(ModelError, match=str(directory)):
        read_tokenizer(directory)
