"""The dashboard's texts in several languages: written in English where they belong, said in another at the rim."""

from dashboard.words.catalogue import ENGLISH, LANGUAGES, Catalogue, catalogues, chosen, texts_of_scripts
from dashboard.words.reasons import said_reason
from dashboard.words.said import Said, joined, say

__all__ = [
    "ENGLISH",
    "LANGUAGES",
    "Catalogue",
    "Said",
    "catalogues",
    "chosen",
    "joined",
    "said_reason",
    "say",
    "texts_of_scripts",
]
