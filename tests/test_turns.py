from __future__ import annotations

import pytest
from mlx_lm.tokenizer_utils import TokenizerWrapper
from tiny import END, byte_tokenizer

from mlx_edgeinf.basemodel import UnsupportedModel
from mlx_edgeinf.turns import Prompter, Turns

SMOLLM2 = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face"
    "<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + "
    "'<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LLAMA3 = (
    "{% for message in messages %}{% if loop.index0 == 0 %}{{ bos_token }}{% endif %}"
    "{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' + message['content'] | trim"
    " + '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
# Thinks aloud unless told not to; earlier answers are shown without their thoughts.
THINKING = (
    "{% for message in messages %}{{ '<' + message['role'] + '>' + message['content'] }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<assistant>' }}"
    "{% if enable_thinking is defined and enable_thinking is false %}{{ '<think></think>' }}{% endif %}"
    "{% endif %}"
)


def templated(template: str) -> TokenizerWrapper:
    fast = byte_tokenizer()._tokenizer
    fast.bos_token, fast.chat_template = "<begin>", template
    if template == THINKING:
        fast.add_tokens(["<think>", "</think>"])  # By these mlx-lm knows a model that thinks.
    return TokenizerWrapper(fast)


@pytest.mark.parametrize("template", [SMOLLM2, LLAMA3], ids=["smollm2", "llama3"])
@pytest.mark.parametrize("texts", [["Why?"], ["Why?", "Because.", "Since when?"]], ids=["one", "two"])
def test_the_pieces_make_up_what_the_template_renders(template, texts):
    tokenizer = templated(template)
    turns = Turns.of(tokenizer)
    roles = ("user", "assistant", "user")
    messages = [{"role": role, "content": text} for role, text in zip(roles, texts)]
    whole = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    between = [turns.answer, turns.question, turns.answer]
    assert turns.opening + "".join(text + piece for text, piece in zip(texts, between)) == whole


def test_no_text_of_the_cut_is_left_in_the_pieces():
    turns = Turns.of(templated(SMOLLM2))
    assert turns.opening.endswith("<|im_end|>\n<|im_start|>user\n")
    assert turns.answer == "<|im_end|>\n<|im_start|>assistant\n"
    assert turns.question == "<|im_end|>\n<|im_start|>user\n"


@pytest.mark.parametrize("body", ["", "message['content'] | lower", "message['content'] * 2"], ids=str)
def test_a_template_without_a_place_for_a_document_is_refused(body):
    shown = "{{ " + body + " }}" if body else ""
    template = "{% for message in messages %}" + shown + "{% endfor %}"
    with pytest.raises(UnsupportedModel, match="no place in it for a document: choose another model"):
        Turns.of(templated(template))


def test_models_that_think_aloud_are_told_to_answer_at_once():
    assert Turns.of(templated(THINKING)).answer == "<assistant><think></think>"


def test_plain_labels_without_a_template():
    turns = Turns.of(byte_tokenizer())
    assert turns == Turns("", "\n\nAnswer: ", "\n\nQuestion: ")


# -- as tokens -----------------------------------------------------------------------


def test_a_conversation_about_a_document_is_what_the_template_renders():
    tokenizer = byte_tokenizer()
    prompter = Prompter(tokenizer)
    read = prompter.opening + prompter.page("One page.") + prompter.page("") + prompter.page("Another.")
    asked = read + prompter.conversation(["Who?", "Ann.", "When?"])
    expected = "One page.\n\nAnother.\n\nWho?\n\nAnswer: Ann.\n\nQuestion: When?\n\nAnswer: "
    assert tokenizer.decode(asked) == expected
    assert prompter.end == tokenizer.eos_token_id


def test_no_text_can_end_its_turn():
    tokenizer = byte_tokenizer()
    assert tokenizer.encode("<end>", add_special_tokens=False) == [END]
    assert END not in Prompter(tokenizer).text("<end>")


def test_half_a_character_is_read_as_a_question_mark():
    """As JSON and command lines may hold one."""
    prompter = Prompter(templated(SMOLLM2))
    assert prompter.text("caf\udce9") == prompter.text("caf?")
