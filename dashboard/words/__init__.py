"""The dashboard's texts in several languages: written in English where they belong, said in another at the rim."""

from dashboard.words.catalogue import ENGLISH, LANGUAGES, Catalogue, catalogues, chosen, texts_of_scripts
from dashboard.words.reasons import said_error, said_reason
from dashboard.words.said import Said, counted, joined, say

__all__ = [
    "ENGLISH",
    "LANGUAGES",
    "Catalogue",
    "Said",
    "catalogues",
    "chosen",
    "counted",
    "joined",
    "said_error",
    "said_reason",
    "say",
    "texts_of_scripts",
]
