"""The dashboard's texts in several languages: written in English where they belong, said in another at the rim."""

from dashboard.words.catalogue import ENGLISH, LANGUAGES, Catalogue, catalogues, chosen
from dashboard.words.said import Said, say

__all__ = ["ENGLISH", "LANGUAGES", "Catalogue", "Said", "catalogues", "chosen", "say"]
