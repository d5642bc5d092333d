"""The dashboard's texts in several languages: written in English where they belong, said in another at the rim."""

from dashboard.words.catalogue import ENGLISH, LANGUAGES, Catalogue, catalogues, chosen, texts_of_scripts
from dashboard.words.said import Said, say

__all__ = ["ENGLISH", "LANGUAGES", "Catalogue", "Said", "catalogues", "chosen", "say", "texts_of_scripts"]
