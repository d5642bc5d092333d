"""Prompts with exact lengths and exactly shared prefixes, as token ids or as text."""

from planner.prompts.layout import prompt_lengths
from planner.prompts.words import WordPool
from planner.prompts.write import own_words, text_prompts, token_prompts

__all__ = ["WordPool", "own_words", "prompt_lengths", "text_prompts", "token_prompts"]
